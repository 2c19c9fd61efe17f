//! The vision transformers against transformers, stage by stage, on tiny random networks whose configurations differ in
//! every field.
//!
//! `tools/golden_vision.py` makes the fixtures.

use std::path::Path;

use models::attend::{ChainTokens, KeyBias, NoProbe};
use models::clip::ClipText;
use models::matrix_file::{Values, write_safetensors};
use models::probe::KeepAll;
use models::vision::VisionTransformer;
use models::{Device, HeadSource, Kind};
use tch::Tensor;

use crate::golden::{Golden, fixture};

/// Tolerances of the project: largest absolute difference from transformers in float32.
const PROBS: f64 = 2e-5;
const LOGITS: f64 = 1e-4;

const FIXTURES: [&str; 12] = [
    "vit-plain",
    "vit-resized",
    "vit-sharded",
    "vit-backbone",
    "dino-small",
    "dino-base",
    "dinov2-plain",
    "dinov2-registers",
    "dinov2-backbone",
    "clip-vision",
    "clip-both",
    "clip-tower",
];

fn load(dir: &Path) -> models::Result<VisionTransformer> {
    let head = dir.join("head.safetensors");
    let head = head.exists().then_some(HeadSource::Linear(head));
    VisionTransformer::load(dir, Kind::Float, Device::Cpu, head.as_ref())
}

fn largest_difference(ours: &Tensor, golden: &Tensor) -> f64 {
    assert_eq!(ours.size(), golden.size());
    (ours.to_kind(Kind::Double) - golden.to_kind(Kind::Double)).abs().max().double_value(&[])
}

#[test]
fn every_stage_is_that_of_transformers() -> models::Result<()> {
    for name in FIXTURES {
        let dir = fixture(name);
        let golden = Golden::open(name);
        let network = load(&dir)?;
        let mut probe = KeepAll::default();
        let mut differences = Vec::new();
        let mut check = |stage: String, ours: &Tensor, limit: f64| {
            let wanted = golden.get(&stage);
            let difference = largest_difference(ours, &wanted);
            differences.push((stage.clone(), difference));
            assert!(
                difference <= limit,
                "{name}: {stage} is the first stage that differs, by {difference:e}"
            );
        };

        let pixels = golden.get("pixels");
        let (tokens, layout) = network.embed(&pixels)?;
        assert_eq!(layout.tokens(), tokens.size()[1]);
        check("embeddings".into(), &tokens, 1e-5);
        let encoded = network.encode(&tokens, &layout, &KeyBias::none(), &mut probe)?;
        for layer in probe.finish()? {
            check(format!("{}.logits", layer.site), &layer.logits, LOGITS);
            check(format!("{}.probs", layer.site), &layer.probs, PROBS);
        }
        check("encoded".into(), &encoded.tokens, LOGITS);
        match network.logits(&encoded)? {
            Some(logits) => check("logits".into(), &logits, LOGITS),
            None => check("embedding".into(), &network.embedding(&encoded)?, LOGITS),
        }
        let (stage, worst) = differences.iter().max_by(|a, b| a.1.total_cmp(&b.1)).expect("stages");
        println!("{name}: {} stages, largest difference {worst:.1e} at {stage}", differences.len());
    }
    Ok(())
}

#[test]
fn probes_do_not_change_the_output() -> models::Result<()> {
    for name in FIXTURES {
        let dir = fixture(name);
        let network = load(&dir)?;
        let pixels = Golden::open(name).get("pixels");
        let (tokens, layout) = network.embed(&pixels)?;
        let unprobed = network.encode(&tokens, &layout, &KeyBias::none(), &mut NoProbe)?;
        let probed = network.encode(&tokens, &layout, &KeyBias::none(), &mut KeepAll::default())?;
        let difference = largest_difference(&probed.tokens, &unprobed.tokens);
        assert!(difference < 1e-5, "{name}: {difference:e}");
    }
    Ok(())
}

/// Masking a token for all queries equals its removal from the sequence, in every layer, for classifiers that read CLS.
/// (A mean over patches depends on the number of patches.)
#[test]
fn removing_tokens_equals_masking_keys() -> models::Result<()> {
    for (name, removed) in [("vit-plain", &[1i64, 4, 7, 16][..]), ("dino-small", &[2, 20])] {
        removal_equals_masking(name, removed)?;
    }
    Ok(())
}

fn removal_equals_masking(name: &str, removed: &[i64]) -> models::Result<()> {
    let dir = fixture(name);
    let network = load(&dir)?;
    let pixels = Golden::open(name).get("pixels");
    let (tokens, layout) = network.embed(&pixels)?;
    let kept: Vec<i64> = (0..layout.tokens()).filter(|token| !removed.contains(token)).collect();

    let mut bias = vec![0f32; layout.tokens() as usize];
    removed.iter().for_each(|&token| bias[token as usize] = f32::NEG_INFINITY);
    let bias = KeyBias::new(&Tensor::from_slice(&bias).unsqueeze(0).expand([2, -1], false))?;
    let masked = network.logits(&network.encode(&tokens, &layout, &bias, &mut NoProbe)?)?;
    let masked_and_probed =
        network.logits(&network.encode(&tokens, &layout, &bias, &mut KeepAll::default())?)?;

    let fewer = tokens.index_select(1, &Tensor::from_slice(&kept));
    let reduced = models::TokenLayout::vision(1, (1, kept.len() as i64 - 1));
    let removed = network.logits(&network.encode(&fewer, &reduced, &KeyBias::none(), &mut NoProbe)?)?;
    let removed = removed.expect("a classifier");
    for masked in [masked, masked_and_probed] {
        assert!(largest_difference(&masked.expect("a classifier"), &removed) < 1e-5);
    }
    Ok(())
}

/// The text tower: causal maps, the embedding at the end of a text, and a classifier of unit rows.
#[test]
fn texts_are_those_of_transformers() -> models::Result<()> {
    let dir = fixture("clip-both");
    let golden = Golden::open("clip-both");
    let tower = ClipText::load(&dir, Kind::Float, Device::Cpu)?;
    let ids = golden.get("text.ids").to_kind(Kind::Int64);
    assert_eq!(tower.context_length(), ids.size()[1]);
    let mut probe = KeepAll::default();
    let embedding = tower.embed(&ids, &mut probe)?;
    for layer in probe.finish()? {
        let wanted = golden.get(&format!("{}.probs", layer.site));
        assert!(largest_difference(&layer.probs, &wanted) < PROBS, "{}", layer.site);
        assert_eq!(layer.probs.triu(1).abs().max().double_value(&[]), 0.0, "a text sees what follows");
    }
    let wanted = golden.get("text.embedding");
    assert!(largest_difference(&embedding, &wanted) < LOGITS);
    assert!(largest_difference(&tower.embed(&ids, &mut NoProbe)?, &wanted) < LOGITS);

    let unit = |x: &Tensor| x / x.norm_scalaropt_dim(2.0, [-1i64], true);
    let class = unit(&unit(&wanted.narrow(0, 0, 2)).mean_dim(0i64, true, Kind::Float));
    let classifier = tower.classifier(&[ids.narrow(0, 0, 2), ids.narrow(0, 2, 1)])?;
    assert!(largest_difference(&classifier.narrow(0, 0, 1), &class) < 1e-5);
    assert!(largest_difference(&classifier.narrow(0, 1, 1), &unit(&wanted.narrow(0, 2, 1))) < 1e-5);
    Ok(())
}

/// Classes by name through tokenizer, text tower and mean; by their embeddings from a file; and classes that do not
/// fit.
#[test]
fn clip_classifies_by_names_and_by_embeddings() -> models::Result<()> {
    let dir = fixture("clip-both");
    let golden = Golden::open("clip-both");
    let strings = |texts: &[&str]| texts.iter().map(|text| text.to_string()).collect::<Vec<_>>();
    let names = strings(&["circle", "Half Moon", "star"]);
    let templates = strings(&["a photo of a {}", "the {}", "a {} on a textured ground"]);
    let by_name = HeadSource::ZeroShot { names: names.clone(), templates: templates.clone() };
    let classes = golden.get("zero_shot");
    let image = golden.get("embedding");
    let image = &image / image.norm_scalaropt_dim(2.0, [-1i64], true);
    let wanted = image.matmul(&classes.transpose(0, 1));

    let scratch = tempfile::tempdir().expect("a scratch folder");
    let file = scratch.path().join("classes.safetensors");
    let rows: Vec<f32> = Vec::try_from((&classes * 3.0).reshape([-1])).expect("numbers");
    let shape = vec![3, 10];
    write_safetensors(&file, &[("classes".into(), shape, Values::F32(&rows))], &Default::default())?;
    let by_embedding = HeadSource::ClassEmbeddings(file);
    for source in [by_name, by_embedding.clone()] {
        let network = VisionTransformer::load(&dir, Kind::Float, Device::Cpu, Some(&source))?;
        assert_eq!(network.classes(), Some(3));
        let (tokens, layout) = network.embed(&golden.get("pixels"))?;
        let encoded = network.encode(&tokens, &layout, &KeyBias::none(), &mut NoProbe)?;
        let logits = network.logits(&encoded)?.expect("classes");
        assert!(largest_difference(&logits, &wanted) < 1e-5, "{source:?}");
    }

    let refusal = |name: &str, source: &HeadSource| {
        let network = VisionTransformer::load(&fixture(name), Kind::Float, Device::Cpu, Some(source));
        network.err().expect("the classes were accepted").to_string()
    };
    assert!(refusal("clip-vision", &by_embedding).contains("of 10 numbers"));
    assert!(refusal("vit-backbone", &by_embedding).contains("CLIP"));
    let no_place = HeadSource::ZeroShot { names: names.clone(), templates: strings(&["a photo"]) };
    assert!(refusal("clip-both", &no_place).contains("`a photo` has no {}"));
    let by_name = HeadSource::ZeroShot { names, templates };
    assert!(refusal("clip-vision", &by_name).contains("text tower"));
    Ok(())
}

/// Registers are neither patches of the grid nor states of a chain without special tokens, and the mean leaves them out.
#[test]
fn registers_are_special() -> models::Result<()> {
    let dir = fixture("dinov2-registers");
    let pixels = Golden::open("dinov2-registers").get("pixels");
    let (tokens, layout) = load(&dir)?.embed(&pixels)?;
    assert_eq!((layout.special, layout.image), (4, (3, 6)));
    assert_eq!(tokens.size()[1], 22);
    assert_eq!(ChainTokens::WithoutSpecial.states(&layout), (4..22).collect::<Vec<_>>());
    Ok(())
}
