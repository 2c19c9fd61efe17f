//! The UNet of Stable Diffusion against diffusers, stage by stage, on two tiny random networks whose configurations
//! differ in every field.
//!
//! `tools/golden_sd.py` makes the fixtures.

use std::path::Path;

use models::attend::{AttentionProbe, ChainTokens, NoProbe, View, Want};
use models::probe::{KeepAll, LayerChains, MeanMap, RankOnly, RankParts, Rollout, Select};
use models::sd::{Unet, UnetConfig};
use models::{Device, Error, Kind, Site, Stream, TokenKind, TokenLayout, UnetLayer, UnetPart};
use tch::Tensor;

use crate::golden::{Golden, changed, copy, fixture, relative_difference};
use crate::torch_file::{read, torch_file};

/// Tolerance of a stage: largest difference from diffusers in float32, relative to the stage's largest number.
const RELATIVE: f64 = 1e-5;
/// Tolerance if both compute in bfloat16, whose numbers are 2⁻⁸ apart.
const RELATIVE_BF16: f64 = 3e-2;

/// Name, rows and columns of image tokens of each level, text tokens, attention layers.
type Fixture = (&'static str, [(i64, i64); 3], i64, usize);

const FIXTURES: [Fixture; 2] =
    [("unet-sd1", [(8, 4), (4, 2), (2, 1)], 5, 22), ("unet-sd2", [(11, 6), (5, 3), (2, 1)], 3, 24)];

fn load(dir: &Path) -> models::Result<Unet> {
    Unet::load(dir, Kind::Float, Device::Cpu)
}

fn number(golden: &Golden, name: &str) -> f64 {
    golden.get(name).double_value(&[0])
}

fn forward(unet: &Unet, golden: &Golden, probe: &mut dyn AttentionProbe) -> models::Result<Tensor> {
    let (sample, context) = (golden.get("input.sample"), golden.get("input.context"));
    unet.forward(&sample, number(golden, "input.timestep"), &context, 7, probe)
}

fn layer(site: &Site) -> UnetLayer {
    let Stream::Unet(layer) = site.stream else { panic!("a layer of a UNet, not {:?}", site.stream) };
    layer
}

#[test]
fn every_stage_is_that_of_diffusers() -> models::Result<()> {
    for (name, grids, text, count) in FIXTURES {
        let golden = Golden::open(name);
        let unet = load(&fixture(name))?;
        let mut differences = Vec::new();
        let mut compare = |stage: String, ours: &Tensor, theirs: &Tensor| {
            let difference = relative_difference(ours, theirs);
            assert!(
                difference <= RELATIVE,
                "{name}: {stage} is the first stage that differs, by {difference:e}"
            );
            differences.push((stage, difference));
        };

        let (sample, context) = (golden.get("input.sample"), golden.get("input.context"));
        let mut state = unet.embed(&sample, number(&golden, "input.timestep"), &context, 7)?;
        compare("time".into(), &state.time, &golden.get("time"));
        compare("conv_in".into(), &state.sample, &golden.get("conv_in"));
        let mut sites = Vec::new();
        for block in unet.blocks() {
            let mut probe = KeepAll::default();
            block.forward(&mut state, &mut probe)?;
            for kept in probe.finish()? {
                let path = layer(&kept.site).to_string();
                let logits = golden.get(&format!("{path}.logits"));
                compare(format!("{path}.logits"), &kept.logits, &logits);
                compare(format!("{path}.probs"), &kept.probs, &logits.softmax(-1, Kind::Float));
                sites.push(kept.site);
            }
            let part = block.part().to_string();
            compare(part.clone(), &state.sample, &golden.get(&part));
        }
        compare("output".into(), &unet.answer(&state)?, &golden.get("output"));
        let (stage, worst) = differences.iter().max_by(|a, b| a.1.total_cmp(&b.1)).expect("stages");
        println!("{name}: {} stages, largest relative difference {worst:.1e} at {stage}", differences.len());

        let planned = unet.config().attention_layers();
        assert_eq!((planned.len(), sites.len()), (count, count), "{name}");
        for (site, (block, planned)) in sites.iter().zip(planned) {
            assert_eq!((layer(site), site.block, site.step), (planned, block, 7));
            assert_eq!(site.to_string(), format!("unet.{planned}"));
            let level = match planned.part {
                UnetPart::Down(number) => number,
                UnetPart::Mid => 2,
                UnetPart::Up(number) => 2 - number,
            };
            let layout = match planned.cross {
                false => TokenLayout::vision(0, grids[level]),
                true => TokenLayout::cross(text, grids[level]),
            };
            assert_eq!(site.layout, layout, "{name}: {site}");
            assert_eq!(layout.tokens(), if planned.cross { text } else { layout.count(TokenKind::Image) });
        }
    }
    Ok(())
}

/// Requests nothing and must not get anything, since the fused kernel runs.
#[derive(Default)]
struct Uninterested(usize);

impl AttentionProbe for Uninterested {
    fn want(&mut self, _: &Site) -> Want {
        self.0 += 1;
        Want::NONE
    }

    fn see(&mut self, site: &Site, _: std::ops::Range<i64>, _: &View<'_>) -> models::Result<()> {
        panic!("{site} was shown unasked")
    }
}

#[test]
fn probes_do_not_change_the_output() -> models::Result<()> {
    for (name, _, _, count) in FIXTURES {
        let golden = Golden::open(name);
        let unet = load(&fixture(name))?;
        let mut uninterested = Uninterested::default();
        let unprobed = forward(&unet, &golden, &mut uninterested)?;
        assert_eq!(uninterested.0, count, "every layer asks");
        let probed = forward(&unet, &golden, &mut KeepAll::default())?;
        let (fused, watched) =
            (relative_difference(&unprobed, &golden.get("output")), relative_difference(&probed, &unprobed));
        println!("{name}: fused {fused:.1e} from diffusers, probed {watched:.1e} from fused");
        assert!(fused <= RELATIVE && watched <= RELATIVE, "{name}: {fused:e}, {watched:e}");
    }
    Ok(())
}

/// Compares the network in bfloat16 with diffusers in bfloat16.
#[test]
fn bfloat16_is_within_its_rounding_noise() -> models::Result<()> {
    let golden = Golden::open("unet-sd2");
    let unet = Unet::load(&fixture("unet-sd2"), Kind::BFloat16, Device::Cpu)?;
    let unprobed = forward(&unet, &golden, &mut NoProbe)?;
    let probed = forward(&unet, &golden, &mut KeepAll::default())?;
    for (ours, how) in [(&unprobed, "unprobed"), (&probed, "probed")] {
        assert_eq!(ours.kind(), Kind::BFloat16);
        let difference = relative_difference(ours, &golden.get("output.bf16"));
        println!("bfloat16, {how}: {difference:.1e}");
        assert!(difference <= RELATIVE_BF16, "{how}: {difference:e}");
    }
    Ok(())
}

/// The middle layer that self-attention guidance reads, of a batch of two.
#[test]
fn a_probe_can_select_one_layer() -> models::Result<()> {
    let golden = Golden::open("unet-sd1");
    let unet = load(&fixture("unet-sd1"))?;
    let middle = UnetLayer { part: UnetPart::Mid, attention: 0, layer: 0, cross: false };
    let mut probe = Select::whole_streams([Stream::Unet(middle)], KeepAll::default());
    let _answer = forward(&unet, &golden, &mut probe)?;
    let [kept] = &probe.inner.finish()?[..] else { panic!("one layer") };
    assert_eq!(kept.site.to_string(), "unet.mid_block.attentions.0.transformer_blocks.0.attn1");
    assert_eq!(kept.probs.size(), [2, 2, 2, 2]);
    Ok(())
}

/// Cross-attention is not a chain, and levels of different sizes have no average.
#[test]
fn probes_of_chains_refuse_cross_attention() -> models::Result<()> {
    let golden = Golden::open("unet-sd1");
    let unet = load(&fixture("unet-sd1"))?;
    let layers = || unet.config().attention_layers().into_iter();
    let alone = |cross: bool| {
        layers().filter(move |(_, layer)| layer.cross == cross).map(|(_, layer)| Stream::Unet(layer))
    };
    let everything: [fn() -> Box<dyn AttentionProbe>; 4] = [
        || Box::new(MeanMap::new(ChainTokens::All)),
        || Box::new(RankOnly::new(ChainTokens::WithoutSpecial, 0.99, RankParts::Ranks)),
        || Box::new(Rollout::default()),
        || Box::new(LayerChains::new(ChainTokens::All, 1e-4, 0)),
    ];
    let one = |name: &str| golden.get(name).narrow(0, 0, 1);
    let (sample, context) = (one("input.sample"), one("input.context"));
    let refusal = |streams: Vec<Stream>, probe: Box<dyn AttentionProbe>| {
        let mut probe = Select::whole_streams(streams, Boxed(probe));
        let error = unet.forward(&sample, 1.0, &context, 0, &mut probe).expect_err("it was reduced");
        assert!(matches!(error, Error::Probe(_)), "{error}");
        error.to_string()
    };
    for probe in everything {
        let message = refusal(alone(true).collect(), probe());
        assert!(message.contains("queries and 5 keys is not a Markov chain"), "{message}");
        let message = refusal(alone(false).collect(), probe());
        assert!(message.contains("select layers of one resolution"), "{message}");
    }
    Ok(())
}

struct Boxed(Box<dyn AttentionProbe>);

impl AttentionProbe for Boxed {
    fn want(&mut self, site: &Site) -> Want {
        self.0.want(site)
    }

    fn see(&mut self, site: &Site, heads: std::ops::Range<i64>, view: &View<'_>) -> models::Result<()> {
        self.0.see(site, heads, view)
    }
}

#[test]
fn inputs_that_do_not_fit_are_refused() -> models::Result<()> {
    let unet = load(&fixture("unet-sd1"))?;
    let zeros = |shape: &[i64]| Tensor::zeros(shape, (Kind::Float, Device::Cpu));
    for (sample, timestep, context, words) in [
        (
            &[2, 3, 8, 4][..],
            1.0,
            &[2, 5, 10][..],
            "sample: shape [2, 3, 8, 4] where [batch, 4, height, width]",
        ),
        (&[4, 8, 4], 1.0, &[2, 5, 10], "sample: shape [4, 8, 4]"),
        (&[1, 4, 0, 4], 1.0, &[1, 5, 10], "sample: shape [1, 4, 0, 4]"),
        (&[2, 4, 8, 4], 1.0, &[1, 5, 10], "context: shape [1, 5, 10] where [2, text tokens, 10]"),
        (&[2, 4, 8, 4], 1.0, &[2, 5, 9], "context: shape [2, 5, 9]"),
        (&[2, 4, 8, 4], 1.0, &[2, 0, 10], "context: shape [2, 0, 10]"),
        (&[2, 4, 8, 4], f64::NAN, &[2, 5, 10], "timestep: NaN"),
    ] {
        let error = unet.forward(&zeros(sample), timestep, &zeros(context), 0, &mut NoProbe);
        let error = error.expect_err("the input was accepted");
        assert!(matches!(error, Error::Input { .. }), "{error}");
        assert!(error.to_string().contains(words), "{error}");
    }

    // The way up before the way down.
    let mut state = unet.embed(&zeros(&[1, 4, 8, 4]), 1.0, &zeros(&[1, 5, 10]), 0)?;
    let mut last = None;
    for block in unet.blocks().skip(3) {
        last = last.or(block.forward(&mut state, &mut NoProbe).err());
    }
    assert!(last.is_some(), "blocks were run out of order");
    Ok(())
}

#[test]
fn directories_that_do_not_fit_are_refused() {
    for (name, from, to, words) in [
        // Weights that do not fit the configuration.
        ("unet-sd1", "\"CrossAttnDownBlock2D\"", "\"DownBlock2D\"", "does not use"),
        ("unet-sd1", "\"cross_attention_dim\": 10", "\"cross_attention_dim\": 8", "attn2.to_k.weight"),
        ("unet-sd1", "\"use_linear_projection\": false", "\"use_linear_projection\": true", "proj_in.weight"),
        ("unet-sd2", "\"time_embedding_dim\": 14", "\"time_embedding_dim\": null", "time_emb_proj.weight"),
        ("unet-sd2", "\"in_channels\": 3", "\"in_channels\": 9", "conv_in.weight"),
        // Unsupported networks.
        ("unet-sd1", "UNet2DConditionModel", "UNet2DModel", "_class_name is `UNet2DModel`"),
        ("unet-sd1", "\"class_embed_type\": null", "\"class_embed_type\": \"timestep\"", "class_embed_type"),
        (
            "unet-sd1",
            "\"addition_embed_type\": null",
            "\"addition_embed_type\": \"text_time\"",
            "\"text_time\"",
        ),
        (
            "unet-sd1",
            "\"dual_cross_attention\": false",
            "\"dual_cross_attention\": true",
            "where it is false",
        ),
        (
            "unet-sd1",
            "\"only_cross_attention\": false",
            "\"only_cross_attention\": [false, true]",
            "[false,true]",
        ),
        ("unet-sd1", "\"UNetMidBlock2DCrossAttn\"", "\"UNetMidBlock2D\"", "mid_block_type"),
        (
            "unet-sd1",
            "\"num_attention_heads\": null",
            "\"num_attention_heads\": 2",
            "num_attention_heads is 2",
        ),
        ("unet-sd1", "\"resnet_out_scale_factor\": 1.0", "\"resnet_out_scale_factor\": 0.7", "is not 1"),
        ("unet-sd1", "\"DownBlock2D\"", "\"AttnDownBlock2D\"", "`AttnDownBlock2D`"),
        ("unet-sd1", "\"silu\"", "\"gelu\"", "act_fn is \"gelu\""),
        ("unet-sd1", "\"norm_num_groups\": 4", "\"norm_num_groups\": null", "not the configuration"),
        (
            "unet-sd1",
            "\"transformer_layers_per_block\": 1",
            "\"transformer_layers_per_block\": [[1]]",
            "[[1]]",
        ),
        // Contradictory configurations.
        ("unet-sd1", "\"norm_num_groups\": 4", "\"norm_num_groups\": 8", "12 is not a multiple"),
        ("unet-sd1", "\"attention_head_dim\": 2", "\"attention_head_dim\": 5", "8 is not a multiple"),
        ("unet-sd1", "\"attention_head_dim\": 2", "\"attention_head_dim\": 0", "must lie between 1"),
        (
            "unet-sd1",
            "\"attention_head_dim\": 2",
            "\"attention_head_dim\": [2, 2]",
            "one for each of 3 levels",
        ),
        ("unet-sd1", "    12,", "    12, 12,", "4 block_out_channels"),
        ("unet-sd2", "\"freq_shift\": 1", "\"freq_shift\": 3", "freq_shift 3"),
        ("unet-sd1", "\"downsample_padding\": 1", "\"downsample_padding\": 2", "0 and 1 are run"),
    ] {
        let dir = changed(name, "config.json", from, to);
        let message = load(dir.path()).err().unwrap_or_else(|| panic!("{to}: accepted")).to_string();
        assert!(message.contains(words), "{to}: {message}");
    }
    let nowhere = load(Path::new("nowhere")).err().expect("nothing is there").to_string();
    assert!(nowhere.contains("no such directory"), "{nowhere}");

    let dir = copy("unet-sd1");
    let weights = dir.path().join("diffusion_pytorch_model.safetensors");
    let torch = torch_file(&read(&weights), |dict| dict);
    std::fs::write(dir.path().join("diffusion_pytorch_model.bin"), torch).expect("writable");
    std::fs::remove_file(weights).expect("a copy");
    load(dir.path()).map(drop).expect("as torch.save writes it");
}

/// The configuration file of Stable Diffusion 1.5, which is older than most fields.
#[test]
fn the_published_configuration_is_read() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let published = r#"{
        "_class_name": "UNet2DConditionModel", "_diffusers_version": "0.6.0", "act_fn": "silu", "attention_head_dim": 8,
        "block_out_channels": [320, 640, 1280, 1280], "center_input_sample": false, "cross_attention_dim": 768,
        "down_block_types": ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
        "downsample_padding": 1, "flip_sin_to_cos": true, "freq_shift": 0, "in_channels": 4, "layers_per_block": 2,
        "mid_block_scale_factor": 1, "norm_eps": 1e-05, "norm_num_groups": 32, "out_channels": 4, "sample_size": 64,
        "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"]
    }"#;
    std::fs::write(dir.path().join("config.json"), published).expect("writable");
    let config = UnetConfig::from_dir(dir.path()).expect("a configuration");
    assert_eq!(
        (config.sample_size(), config.cross_attention_dim, config.coarsest()),
        (Some((64, 64)), 768, 8)
    );
    assert_eq!(config.attention_layers().len(), 32);
}
