//! The FLUX transformer against diffusers, stage by stage, on two tiny random networks whose configurations differ in
//! every field.
//!
//! `tools/golden_flux.py` makes the fixtures.

use std::path::Path;

use models::attend::NoProbe;
use models::flux::{FluxInput, FluxTransformer, pack_latents, unpack_latents};
use models::probe::KeepAll;
use models::{Device, Error, Kind, Stream, TokenKind};
use tch::Tensor;

use crate::golden::{Golden, changed, copy, fixture, relative_difference};
use crate::torch_file::{read, torch_file};

/// Tolerance of the project: largest difference from diffusers in float32, relative to the largest number of a stage.
const RELATIVE: f64 = 1e-4;
/// Exponentials may differ by one unit in the last place on another processor. Then the frequencies of the sinusoids
/// differ too (6e-8), and with them the angles of a guidance of 3,500 (2e-4). At most 3.3e-4 in three draws of
/// `tools/other_processors/one_ulp_off.c`.
const STAGES: f64 = 5e-4;
/// Tolerance if both compute in bfloat16, whose numbers are 2⁻⁸ apart.
const RELATIVE_BF16: f64 = 2e-2;

/// Name, text tokens, rows and columns, blocks of each stream.
type Fixture = (&'static str, i64, (i64, i64), [usize; 2]);

const FIXTURES: [Fixture; 2] = [("flux-schnell", 5, (3, 3), [2, 2]), ("flux-dev", 7, (2, 5), [1, 3])];

fn load(dir: &Path) -> models::Result<FluxTransformer> {
    FluxTransformer::load(dir, Kind::Float, Device::Cpu)
}

/// What the golden pass read.
struct Inputs {
    latents: Tensor,
    text: Tensor,
    pooled: Tensor,
    timestep: f64,
    guidance: Option<f64>,
    grid: (i64, i64),
}

impl Inputs {
    fn of(golden: &Golden, grid: (i64, i64)) -> Self {
        let number = |x: Tensor| x.double_value(&[0]);
        Self {
            latents: golden.get("input.latents"),
            text: golden.get("input.text"),
            pooled: golden.get("input.pooled"),
            timestep: number(golden.get("input.timestep")),
            guidance: golden.find("input.guidance").map(number),
            grid,
        }
    }

    fn borrow(&self) -> FluxInput<'_> {
        FluxInput {
            latents: &self.latents,
            grid: self.grid,
            reference: None,
            text: &self.text,
            pooled: &self.pooled,
            concepts: None,
            timestep: self.timestep,
            guidance: self.guidance,
            step: 3,
        }
    }
}

#[test]
fn every_stage_is_that_of_diffusers() -> models::Result<()> {
    for (name, text, grid, depths) in FIXTURES {
        let golden = Golden::open(name);
        let network = load(&fixture(name))?;
        let mut differences = Vec::new();
        let mut check = |stage: String, ours: &Tensor| {
            let difference = relative_difference(ours, &golden.get(&stage));
            assert!(
                difference <= STAGES,
                "{name}: {stage} is the first stage that differs, by {difference:e}"
            );
            differences.push((stage, difference));
        };

        let inputs = Inputs::of(&golden, grid);
        let mut state = network.embed(&inputs.borrow())?;
        check("embedded".into(), &state.tokens);
        check("conditioning".into(), &state.conditioning);
        let mut depth = [0, 0];
        for block in network.blocks() {
            let mut probe = KeepAll::default();
            block.forward(&mut state, &mut probe)?;
            let layers = probe.finish()?;
            assert_eq!(layers.len(), 1, "one attention a block");
            let site = &layers[0].site;
            assert_eq!((site.step, site.layout.text, site.layout.image), (3, text, grid));
            assert_eq!(site.layout.order, [TokenKind::Text, TokenKind::Image]);
            assert_eq!(site, &block.site(&state));
            check(format!("{site}.logits"), &layers[0].logits);
            check(format!("{site}.probs"), &layers[0].probs);
            check(format!("{site}.hidden"), &state.tokens);
            depth[usize::from(site.stream == Stream::Single)] += 1;
        }
        assert_eq!(depth, depths, "{name}");
        check("output".into(), &network.velocity(&state)?);
        let (stage, worst) = differences.iter().max_by(|a, b| a.1.total_cmp(&b.1)).expect("stages");
        println!("{name}: {} stages, largest relative difference {worst:.1e} at {stage}", differences.len());
    }
    Ok(())
}

#[test]
fn probes_do_not_change_the_output() -> models::Result<()> {
    for (name, _, grid, depths) in FIXTURES {
        let golden = Golden::open(name);
        let network = load(&fixture(name))?;
        let inputs = Inputs::of(&golden, grid);
        let mut probe = KeepAll::default();
        let unprobed = network.forward(&inputs.borrow(), &mut NoProbe)?;
        let probed = network.forward(&inputs.borrow(), &mut probe)?;
        assert!(relative_difference(&unprobed, &golden.get("output")) <= RELATIVE, "{name}");
        assert!(relative_difference(&probed, &unprobed) <= 1e-5, "{name}");
        let seen: Vec<String> = probe.finish()?.iter().map(|layer| layer.site.to_string()).collect();
        let dual = (0..depths[0]).map(|block| format!("dual.{block}"));
        let wanted: Vec<String> = dual.chain((0..depths[1]).map(|block| format!("single.{block}"))).collect();
        assert_eq!(seen, wanted);
    }
    Ok(())
}

/// Compares the network in bfloat16, with and without probe, with diffusers in bfloat16. (Float32 cannot be the
/// reference: a guidance of 3.5 enters the sinusoids as 3504 in bfloat16 and as 3500 in float32.)
#[test]
fn bfloat16_is_within_its_rounding_noise() -> models::Result<()> {
    let golden = Golden::open("flux-dev");
    let network = FluxTransformer::load(&fixture("flux-dev"), Kind::BFloat16, Device::Cpu)?;
    let inputs = Inputs::of(&golden, (2, 5));
    let unprobed = network.forward(&inputs.borrow(), &mut NoProbe)?;
    let probed = network.forward(&inputs.borrow(), &mut KeepAll::default())?;
    for (ours, how) in [(&unprobed, "unprobed"), (&probed, "probed")] {
        assert_eq!(ours.kind(), Kind::BFloat16);
        let difference = relative_difference(ours, &golden.get("output.bf16"));
        println!("bfloat16, {how}: {difference:.1e}");
        assert!(difference <= RELATIVE_BF16, "{how}: {difference:e}");
    }
    Ok(())
}

#[test]
fn latents_are_packed_as_diffusers_packs_them() -> models::Result<()> {
    for (name, _, grid, _) in FIXTURES {
        let golden = Golden::open(name);
        let (unpacked, packed) = (golden.get("input.unpacked"), golden.get("input.latents"));
        assert_eq!(pack_latents(&unpacked)?, packed, "{name}");
        assert_eq!(unpack_latents(&packed, grid)?, unpacked, "{name}");
        let refused = [
            pack_latents(&unpacked.narrow(3, 0, 3)),
            pack_latents(&packed),
            unpack_latents(&packed, (grid.0, grid.1 + 1)),
            unpack_latents(&packed.narrow(2, 0, 3), grid),
            unpack_latents(&unpacked, grid),
        ];
        for (number, refused) in refused.into_iter().enumerate() {
            let message = refused.expect_err("the latents were accepted").to_string();
            assert!(message.starts_with("latents: shape ["), "{number}: {message}");
        }
    }
    Ok(())
}

#[test]
fn inputs_that_do_not_fit_are_refused() -> models::Result<()> {
    let schnell = load(&fixture("flux-schnell"))?;
    let golden = Golden::open("flux-schnell");
    let inputs = Inputs::of(&golden, (3, 3));
    let refusal = |network: &FluxTransformer, input: FluxInput<'_>| {
        let error = network.forward(&input, &mut NoProbe).expect_err("the input was accepted");
        assert!(matches!(error, Error::Input { .. }), "{error}");
        error.to_string()
    };
    let good = inputs.borrow();

    let message = refusal(&schnell, FluxInput { grid: (3, 4), ..good });
    assert!(message.contains("latents: shape [2, 9, 8] where [2, 12, 8]"), "{message}");
    let message = refusal(&schnell, FluxInput { grid: (0, 3), ..good });
    assert!(message.contains("grid"), "{message}");
    let one = inputs.text.narrow(0, 0, 1);
    let message = refusal(&schnell, FluxInput { text: &one, ..good });
    assert!(message.contains("text: shape [1, 5, 10] where [2, 5, 10]"), "{message}");
    let flat = inputs.text.select(1, 0);
    let message = refusal(&schnell, FluxInput { text: &flat, ..good });
    assert!(message.contains("text: shape [2, 10] where"), "{message}");
    let narrow = inputs.pooled.narrow(1, 0, 7);
    let message = refusal(&schnell, FluxInput { pooled: &narrow, ..good });
    assert!(message.contains("pooled: shape [2, 7] where [2, 8]"), "{message}");
    let message = refusal(&schnell, FluxInput { guidance: Some(3.5), ..good });
    assert!(message.contains("takes none"), "{message}");

    let golden = Golden::open("flux-dev");
    let inputs = Inputs::of(&golden, (2, 5));
    let message = refusal(&load(&fixture("flux-dev"))?, FluxInput { guidance: None, ..inputs.borrow() });
    assert!(message.contains("distilled with guidance"), "{message}");
    Ok(())
}

#[test]
fn directories_that_do_not_fit_are_refused() {
    for (name, from, to, words) in [
        // Weights that the configuration requires and the files lack, and the other way round.
        (
            "flux-schnell",
            "\"num_layers\": 2",
            "\"num_layers\": 3",
            &["`transformer_blocks.2.", "nearest: `transformer_blocks."][..],
        ),
        (
            "flux-dev",
            "\"num_single_layers\": 3",
            "\"num_single_layers\": 2",
            &["single_transformer_blocks.2."],
        ),
        ("flux-dev", "\"guidance_embeds\": true", "\"guidance_embeds\": false", &["guidance_embedder"]),
        (
            "flux-schnell",
            "\"guidance_embeds\": false",
            "\"guidance_embeds\": true",
            &["`time_text_embed.guidance_embedder.linear_1.weight`", "nearest"],
        ),
        ("flux-schnell", "\"in_channels\": 8", "\"in_channels\": 12", &["x_embedder.weight", "[12, 12]"]),
        ("flux-dev", "\"out_channels\": null", "\"out_channels\": 8", &["proj_out.weight", "[8, 16]"]),
        // Configurations that contradict themselves.
        ("flux-schnell", "FluxTransformer2DModel", "SD3Transformer2DModel", &["SD3Transformer2DModel"]),
        ("flux-dev", "\"attention_head_dim\": 8", "\"attention_head_dim\": 10", &["[2, 4, 2]", "add up"]),
        ("flux-dev", "    4,", "    3,", &["[2, 3, 2]", "even"]),
        ("flux-dev", "    4,", "    4, 2,", &["config.json", "not the configuration"]),
        ("flux-dev", "\"patch_size\": 1", "\"patch_size\": 0", &["patch_size is 0; it must lie between 1"]),
    ] {
        let dir = changed(name, "config.json", from, to);
        let message = load(dir.path()).err().unwrap_or_else(|| panic!("{to}: accepted")).to_string();
        for word in words {
            assert!(message.contains(word), "{to}: {message}");
        }
    }
    let nowhere = load(Path::new("nowhere")).err().expect("nothing is there").to_string();
    assert!(nowhere.contains("no such directory"), "{nowhere}");

    let dir = copy("flux-schnell");
    let weights = dir.path().join("diffusion_pytorch_model.safetensors");
    let torch = torch_file(&read(&weights), |dict| dict);
    std::fs::write(dir.path().join("diffusion_pytorch_model.bin"), torch).expect("writable");
    std::fs::remove_file(weights).expect("a copy");
    load(dir.path()).map(drop).expect("as torch.save writes it");
}

/// Files without the fields that older pipelines leave out are FLUX.1-schnell's.
#[test]
fn missing_settings_get_their_defaults() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    std::fs::write(dir.path().join("config.json"), r#"{"_class_name": "FluxTransformer2DModel"}"#)
        .expect("writable");
    let config = models::flux::FluxConfig::from_dir(dir.path()).expect("a configuration");
    assert_eq!((config.num_layers, config.num_single_layers, config.width()), (19, 38, 3072));
    assert_eq!((config.answer_channels(), config.axes_dims_rope), (64, [16, 56, 56]));
    assert!(!config.guidance_embeds);
}
