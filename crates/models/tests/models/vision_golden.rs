//! The vision transformers against transformers and timm, stage by stage, on tiny random networks whose configurations
//! differ in every field.
//!
//! `tools/golden_vision.py` and `tools/golden_timm.py` make the fixtures.

use std::path::Path;

use models::attend::{ChainTokens, KeyBias, NoProbe};
use models::clip::ClipText;
use models::image::{Preprocessor, Rgb8};
use models::matrix_file::{Values, write_safetensors};
use models::probe::KeepAll;
use models::vision::{Blank, VisionTransformer};
use models::{Device, HeadSource, Kind, TokenKind, VisionModel};
use tch::Tensor;

use crate::golden::{Golden, fixture};

/// Tolerances of the project: largest absolute difference from transformers in float32.
const PROBS: f64 = 2e-5;
const LOGITS: f64 = 1e-4;

const FIXTURES: [&str; 28] = [
    "vit-plain",
    "vit-resized",
    "vit-sharded",
    "vit-backbone",
    "dino-small",
    "dino-base",
    "dinov2-plain",
    "dinov2-registers",
    "dinov2-backbone",
    "dinov3-plain",
    "dinov3-gated",
    "dinov3-sharded",
    "clip-vision",
    "clip-both",
    "clip-tower",
    "siglip-vision",
    "siglip-both",
    "siglip-classifier",
    "siglip-headless",
    "timm-hub-vit",
    "timm-wrapper-deit3",
    "timm-hub-dinov2",
    "timm-wrapper-dino",
    "timm-hub-gap",
    "timm-wrapper-registers",
    "timm-hub-clip",
    "timm-wrapper-siglip",
    "timm-hub-bare",
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
        let embedded = network.embed(&pixels)?;
        assert_eq!(embedded.layout.tokens(), embedded.tokens.size()[1]);
        assert_eq!(embedded.layout.special, network.special_tokens());
        check("embeddings".into(), &embedded.tokens, 1e-5);
        let encoded = network.encode(&embedded, &KeyBias::none(), &mut probe)?;
        for layer in probe.finish()? {
            check(format!("{}.logits", layer.site), &layer.logits, LOGITS);
            check(format!("{}.probs", layer.site), &layer.probs, PROBS);
        }
        check("encoded".into(), &encoded.tokens, LOGITS);
        // A last block that computes CLS alone gives the same logits.
        match (network.logits(&encoded)?, network.classify(&embedded)?) {
            (Some(logits), Some(of_cls)) => {
                check("logits".into(), &logits, LOGITS);
                check("logits".into(), &of_cls, LOGITS);
            }
            (None, None) => check("embedding".into(), &network.embedding(&encoded)?, LOGITS),
            (Some(_), None) | (None, Some(_)) => panic!("{name}: only one of two ways finds classes"),
        }
        let (stage, worst) = differences.iter().max_by(|a, b| a.1.total_cmp(&b.1)).expect("stages");
        println!("{name}: {} stages, largest difference {worst:.1e} at {stage}", differences.len());
    }
    Ok(())
}

/// A picture, preprocessed as the files of its network say.
#[test]
fn pictures_are_preprocessed_and_answered_as_by_transformers() -> models::Result<()> {
    for name in FIXTURES {
        let (dir, golden) = (fixture(name), Golden::open(name));
        let image = Rgb8::open(dir.join("picture.png"))?;
        let pixels = VisionModel::batch(&[Preprocessor::from_dir(&dir)?.apply(&image)?])?;
        let difference = largest_difference(&pixels.get(0), &golden.get("picture.pixels"));
        // Pillow's arithmetic, which timm uses too, is reproduced to the bit, torchvision's within rounding.
        let limit = if name.starts_with("dinov3") { 4e-6 } else { 0.0 };
        assert!(difference <= limit, "{name}: pixels differ by {difference:e}");
        let network = load(&dir)?;
        let encoded = network.encode(&network.embed(&pixels)?, &KeyBias::none(), &mut NoProbe)?;
        let output = network.logits(&encoded)?.unwrap_or(network.embedding(&encoded)?);
        let answered = largest_difference(&output.get(0), &golden.get("picture.output"));
        assert!(answered <= LOGITS, "{name}: the answer differs by {answered:e}");
        println!("{name}: pixels differ by {difference:.1e}, the answer by {answered:.1e}");
    }
    Ok(())
}

#[test]
fn probes_do_not_change_the_output() -> models::Result<()> {
    for name in FIXTURES {
        let dir = fixture(name);
        let network = load(&dir)?;
        let pixels = Golden::open(name).get("pixels");
        let embedded = network.embed(&pixels)?;
        let unprobed = network.encode(&embedded, &KeyBias::none(), &mut NoProbe)?;
        let probed = network.encode(&embedded, &KeyBias::none(), &mut KeepAll::default())?;
        let difference = largest_difference(&probed.tokens, &unprobed.tokens);
        assert!(difference < 1e-5, "{name}: {difference:e}");
    }
    Ok(())
}

/// Masking a patch for all queries equals its removal from the sequence, in every layer, for networks that pool by CLS or
/// by attention: the patches that remain keep their positions. (A mean over patches depends on the number of patches.)
#[test]
fn removing_patches_equals_masking_keys() -> models::Result<()> {
    // Two images with different patches removed.
    for (name, removed) in [
        ("vit-plain", [[0usize, 3, 6, 15], [1, 2, 9, 4]]),
        ("dino-small", [[1, 19, 0, 7], [4, 3, 2, 18]]),
        ("dinov3-plain", [[0, 1, 5, 10], [14, 8, 3, 2]]),
        ("dinov3-gated", [[0, 1, 5, 10], [11, 8, 3, 2]]),
        ("siglip-vision", [[0, 1, 5, 10], [15, 8, 3, 2]]),
        ("timm-wrapper-deit3", [[0, 1, 5, 10], [34, 8, 3, 2]]),
        ("timm-hub-dinov2", [[0, 1, 5, 10], [15, 8, 3, 2]]),
        ("timm-wrapper-siglip", [[0, 1, 5, 10], [15, 8, 3, 2]]),
    ] {
        removal_equals_masking(name, &removed)?;
    }
    Ok(())
}

fn removal_equals_masking(name: &str, removed: &[[usize; 4]; 2]) -> models::Result<()> {
    let network = load(&fixture(name))?;
    let output = |encoded: &models::vision::Encoded| -> models::Result<Tensor> {
        Ok(network.logits(encoded)?.unwrap_or(network.embedding(encoded)?))
    };
    let embedded = network.embed(&Golden::open(name).get("pixels"))?;
    let special = embedded.layout.special as usize;
    let patches = embedded.layout.tokens() as usize - special;

    let bias = |removed: &[usize]| {
        let mut bias = vec![0f32; special + patches];
        removed.iter().for_each(|&patch| bias[special + patch] = f32::NEG_INFINITY);
        Tensor::from_slice(&bias)
    };
    let bias = KeyBias::new(&Tensor::stack(&removed.each_ref().map(|removed| bias(removed)), 0))?;
    let kept = removed.each_ref().map(|removed| {
        // In any order.
        (0..patches).rev().filter(|patch| !removed.contains(patch)).collect::<Vec<_>>()
    });
    let fewer = embedded.with_patches(&[(0, &kept[0]), (1, &kept[1]), (0, &kept[1])])?;
    assert_eq!(fewer.layout.tokens() as usize, special + patches - 4);

    let mut probe = KeepAll::default();
    let without = output(&network.encode(&fewer, &KeyBias::none(), &mut probe)?)?.narrow(0, 0, 2);
    let maps_without = probe.finish()?;
    let masked = output(&network.encode(&embedded, &bias, &mut NoProbe)?)?;
    assert!(largest_difference(&masked, &without) < 1e-5, "{name}");
    let mut probe = KeepAll::default();
    let masked = output(&network.encode(&embedded, &bias, &mut probe)?)?;
    assert!(largest_difference(&masked, &without) < 1e-5, "{name}");

    // The maps of the tokens that remain.
    for (masked, without) in probe.finish()?.iter().zip(&maps_without) {
        for (image, kept) in (0..).zip(&kept) {
            let mut tokens: Vec<i64> = kept.iter().map(|&patch| (special + patch) as i64).collect();
            tokens.extend(0..special as i64);
            tokens.sort_unstable();
            let tokens = Tensor::from_slice(&tokens);
            let rows = masked.probs.get(image).index_select(-2, &tokens).index_select(-1, &tokens);
            let difference = largest_difference(&rows, &without.probs.get(image));
            assert!(difference < 1e-5, "{name}, {}: {difference:e}", masked.site);
        }
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
        let embedded = network.embed(&golden.get("pixels"))?;
        let encoded = network.encode(&embedded, &KeyBias::none(), &mut NoProbe)?;
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

/// SigLIP has no text tower here: classes are given by their embeddings.
#[test]
fn siglip_classifies_by_embeddings() -> models::Result<()> {
    let golden = Golden::open("siglip-both");
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let file = scratch.path().join("classes.safetensors");
    let rows: Vec<f32> = Vec::try_from(golden.get("classes").reshape([-1])).expect("numbers");
    write_safetensors(&file, &[("classes".into(), vec![3, 24], Values::F32(&rows))], &Default::default())?;
    let classes = HeadSource::ClassEmbeddings(file);
    let load = |name: &str, source: &HeadSource| {
        VisionTransformer::load(&fixture(name), Kind::Float, Device::Cpu, Some(source))
    };
    let network = load("siglip-both", &classes)?;
    assert_eq!((network.classes(), network.has_cls(), network.special_tokens()), (Some(3), false, 0));
    let embedded = network.embed(&golden.get("pixels"))?;
    assert_eq!(embedded.layout.order, [TokenKind::Image]);
    let encoded = network.encode(&embedded, &KeyBias::none(), &mut NoProbe)?;
    let logits = network.logits(&encoded)?.expect("classes");
    assert!(largest_difference(&logits, &golden.get("class_logits")) < 1e-5);

    let refusal = |name, source: &HeadSource| load(name, source).err().expect("accepted").to_string();
    assert!(refusal("siglip-vision", &classes).contains("of 24 numbers; images have 32"));
    for name in ["siglip-classifier", "siglip-headless"] {
        assert!(refusal(name, &classes).contains("SigLIP with its attention-pooling head"), "{name}");
    }
    let names = HeadSource::ZeroShot { names: vec!["a".into()], templates: vec!["{}".into()] };
    assert!(refusal("siglip-both", &names).contains("text tower of SigLIP is not read"));

    // A linear head reads the pooled vector; there is no CLS for wider ones.
    let head = scratch.path().join("head.safetensors");
    for (features, accepted) in [(24, true), (48, false), (96, false)] {
        let weight = ("weight".into(), vec![2, features], Values::F32(&vec![0.5; 2 * features]));
        let bias = ("bias".into(), vec![2], Values::F32(&[0.0, 1.0]));
        write_safetensors(&head, &[weight, bias], &Default::default())?;
        let source = HeadSource::Linear(head.clone());
        match load("siglip-headless", &source) {
            Ok(network) => assert_eq!((network.classes(), accepted), (Some(2), true)),
            Err(error) => {
                assert!(!accepted && error.to_string().contains("without CLS"), "{features}: {error}");
            }
        }
    }
    Ok(())
}

/// Registers are neither patches of the grid nor states of a chain without special tokens, and the mean leaves them out.
#[test]
fn registers_are_special() -> models::Result<()> {
    let dir = fixture("dinov2-registers");
    let pixels = Golden::open("dinov2-registers").get("pixels");
    let embedded = load(&dir)?.embed(&pixels)?;
    let layout = embedded.layout;
    assert_eq!((layout.special, layout.image), (4, (3, 6)));
    assert_eq!(embedded.tokens.size()[1], 22);
    assert_eq!(ChainTokens::WithoutSpecial.states(&layout), (4..22).collect::<Vec<_>>());
    Ok(())
}

/// Masked patches against transformers' embedding modules (`tools/golden_masked.py`): of the first image every third patch is masked, of
/// the second every other one.
#[test]
fn masked_patches_are_those_of_transformers() -> models::Result<()> {
    let golden = Golden::open("masked");
    let mut with_mask_token = 0;
    for name in ["vit-plain", "clip-both", "dinov2-plain", "dinov2-registers", "dinov3-plain"] {
        let network = load(&fixture(name))?;
        let embedded = network.embed(&Golden::open(name).get("pixels"))?;
        let patches = embedded.layout.count(TokenKind::Image) as usize;
        let (thirds, halves): (Vec<usize>, Vec<usize>) =
            ((0..patches).step_by(3).collect(), (1..patches).step_by(2).collect());
        for (blank, stage) in [
            (Blank::ZeroEmbedding, "zero_embedding"),
            (Blank::ZeroToken, "zero_token"),
            (Blank::MaskToken, "mask_token"),
        ] {
            let wanted = golden.find(&format!("{name}.{stage}"));
            let found = network.embed_blank(&embedded, blank)?;
            assert_eq!(found.is_some(), wanted.is_some(), "{name}: {stage}");
            let (Some(found), Some(wanted)) = (found, wanted) else { continue };
            // In another order than the batch, so that rows are told apart by their number.
            let masked = embedded.with_replaced(&found, &[(1, &halves), (0, &thirds)])?;
            let wanted = wanted.flip([0]);
            let difference = largest_difference(&masked.tokens, &wanted);
            assert!(difference < 2e-6, "{name}: {stage} differs by {difference:e}");
            // Nothing is masked in the first row.
            let none = embedded.with_replaced(&found, &[(1, &[])])?;
            assert_eq!(largest_difference(&none.tokens, &embedded.tokens.narrow(0, 1, 1)), 0.0);
            with_mask_token += usize::from(blank == Blank::MaskToken);
        }
        assert_eq!(network.has_mask_token(), golden.find(&format!("{name}.mask_token")).is_some());
    }
    assert_eq!(with_mask_token, 3);
    Ok(())
}
