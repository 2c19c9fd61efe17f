//! Tensor names of a vision transformer: they decide where its backbone is, whether it has a head, and which tensors
//! are left over from training. Every variation of a fixture must compute what transformers computed for the fixture.

use std::fs;
use std::path::Path;

use models::attend::{KeyBias, NoProbe};
use models::vision::VisionTransformer;
use models::{Device, HeadSource, Kind, VisionConfig};
use safetensors::Dtype;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{load, refusal, rewrite};
use crate::golden::{Golden, copy, fixture};

/// Sets or, with null, removes a key of config.json.
fn set(dir: &Path, key: &str, value: Value) {
    let path = dir.join("config.json");
    let mut config: Value =
        serde_json::from_slice(&fs::read(&path).expect("readable")).expect("a configuration");
    let fields = config.as_object_mut().expect("an object");
    if value.is_null() {
        fields.remove(key);
    } else {
        fields.insert(key.to_owned(), value);
    }
    fs::write(path, config.to_string()).expect("writable");
}

/// Embedding or logits of a directory are those of transformers for a fixture.
#[track_caller]
fn computes(dir: &Path, name: &str, stage: &str) {
    let network = load(dir).unwrap_or_else(|e| panic!("{name}: {e}"));
    let embedded = network.embed(&Golden::open(name).get("pixels")).expect("embedded");
    let encoded = network.encode(&embedded, &KeyBias::none(), &mut NoProbe).expect("encoded");
    let found = match stage {
        "logits" => network.logits(&encoded).expect("logits").expect("a classifier"),
        _ => {
            assert!(network.logits(&encoded).expect("no logits").is_none(), "{name} has a classifier");
            network.embedding(&encoded).expect("an embedding")
        }
    };
    let wanted = Golden::open(name).get(if stage == "cls" { "encoded" } else { stage });
    let wanted = if stage == "cls" { wanted.select(1, 0) } else { wanted };
    assert_eq!(found.size(), wanted.size());
    let difference = (found - wanted).abs().max().double_value(&[]);
    assert!(difference <= 1e-4, "{name}: {stage} differs by {difference:e}");
}

/// A fixture of one file with renamed tensors; tensors without a new name are left out.
fn renamed(name: &str, rename: impl Fn(&str) -> Option<String>) -> TempDir {
    let dir = copy(name);
    rewrite(&dir.path().join("model.safetensors"), |tensors| {
        tensors.retain_mut(|tensor| match rename(&tensor.0) {
            Some(name) => {
                tensor.0 = name;
                true
            }
            None => false,
        });
    });
    dir
}

fn below(folder: &str) -> impl Fn(&str) -> Option<String> {
    move |name| Some(format!("{folder}.{name}"))
}

fn without(folder: &str) -> impl Fn(&str) -> Option<String> {
    move |name| Some(name.strip_prefix(folder).map_or(name, |rest| &rest[1..]).to_owned())
}

/// Adds tensors of one number, unless tensors of these names exist.
fn with(dir: &Path, names: &[&str]) {
    rewrite(&dir.join("model.safetensors"), |tensors| {
        let absent: Vec<_> =
            names.iter().filter(|name| tensors.iter().all(|tensor| tensor.0 != ***name)).collect();
        tensors.extend(absent.into_iter().map(|name| ((*name).to_owned(), Dtype::F32, vec![1], vec![0; 4])));
    });
}

#[test]
fn a_backbone_is_found_at_the_root_and_in_a_folder_whatever_config_says() {
    let backbones = ["ViTModel", "ViTForMaskedImageModeling"];
    for (name, folder, stage, architectures) in [
        ("vit-backbone", "vit", "embedding", &backbones[..]),
        ("clip-tower", "vision_model", "embedding", &["CLIPVisionModel"]),
        ("siglip-vision", "vision_model", "embedding", &["SiglipVisionModel"]),
        ("dinov3-plain", "model", "embedding", &["DINOv3ViTModel", "DINOv3ViTBackbone"]),
        ("timm-wrapper-siglip", "timm_model", "embedding", &["TimmWrapperModel"]),
        ("timm-wrapper-registers", "timm_model", "logits", &["TimmWrapperForImageClassification"]),
    ] {
        for stored in [copy(name), renamed(name, below(folder))] {
            computes(stored.path(), name, stage);
            set(stored.path(), "architectures", Value::Null);
            computes(stored.path(), name, stage);
            for architecture in architectures {
                set(stored.path(), "architectures", json!([architecture]));
                computes(stored.path(), name, stage);
            }
        }
    }
    // A classifier's backbone, saved without the classifier, in the folder or at the root: CLS after the last norm.
    for (name, folder, model) in [
        ("vit-plain", "vit", "ViTModel"),
        ("dinov2-plain", "dinov2", "Dinov2Model"),
        ("dinov2-registers", "dinov2_with_registers", "Dinov2WithRegistersBackbone"),
    ] {
        let headless = |tensor: &str| (!tensor.starts_with("classifier")).then(|| tensor.to_owned());
        let at_root = |tensor: &str| headless(tensor).and_then(|tensor| without(folder)(&tensor));
        for stored in [renamed(name, headless), renamed(name, at_root)] {
            for architectures in [json!([model]), Value::Null] {
                set(stored.path(), "architectures", architectures);
                computes(stored.path(), name, "cls");
            }
        }
    }
    // transformers 5 has the blocks of DINOv3 in a folder and saves them without.
    let folder = |name: &str| Some(name.replace("layer.", "model.layer."));
    computes(renamed("dinov3-plain", folder).path(), "dinov3-plain", "embedding");
    // CLIP's tower with its projection, at the root.
    computes(renamed("clip-vision", without("vision_model")).path(), "clip-vision", "embedding");
}

#[test]
fn two_backbones_in_one_file_are_refused() {
    let dir = copy("vit-backbone");
    rewrite(&dir.path().join("model.safetensors"), |tensors| {
        let again: Vec<_> = tensors
            .iter()
            .map(|(name, kind, shape, data)| (format!("vit.{name}"), *kind, shape.clone(), data.clone()))
            .collect();
        tensors.extend(again);
    });
    assert!(refusal(dir.path()).contains("two networks"));
}

#[test]
fn a_classifier_in_the_weights_is_used() {
    for name in ["vit-plain", "dinov2-plain"] {
        for architectures in [Value::Null, json!(["ViTModel"]), json!([])] {
            let dir = copy(name);
            set(dir.path(), "architectures", architectures);
            computes(dir.path(), name, "logits");
            assert!(VisionConfig::from_dir(dir.path()).expect("a network").classes().is_some());
        }
    }
}

/// The result of `AutoModel.from_pretrained(dir).save_pretrained(dir)` with the old config.json: embeddings would
/// silently replace logits.
#[test]
fn a_head_that_config_promises_and_the_weights_lack_is_refused() {
    let lost = |name: &str, head: &str| {
        let dir = renamed(name, |tensor| (!tensor.starts_with(head)).then(|| tensor.to_owned()));
        let message = refusal(dir.path());
        let config = VisionConfig::from_dir(dir.path()).expect_err("refused as well").to_string();
        assert_eq!(message, config);
        (dir, message)
    };
    for (name, architecture, model) in [
        ("vit-plain", "ViTForImageClassification", "ViTModel"),
        ("dinov2-plain", "Dinov2ForImageClassification", "Dinov2Model"),
    ] {
        let (dir, message) = lost(name, "classifier");
        for word in [architecture, "`classifier.weight`", "architectures"] {
            assert!(message.contains(word), "{message}");
        }
        // Following the advice helps.
        set(dir.path(), "architectures", json!([model]));
        computes(dir.path(), name, "cls");
        // A classifier with zero classes counts as no classifier.
        set(dir.path(), "architectures", json!([architecture]));
        set(dir.path(), "id2label", json!({}));
        computes(dir.path(), name, "cls");
    }
    for (name, architecture) in [("clip-vision", "CLIPVisionModelWithProjection"), ("clip-both", "CLIPModel")]
    {
        let (dir, message) = lost(name, "visual_projection");
        assert!(
            message.contains(architecture) && message.contains("`visual_projection.weight`"),
            "{message}"
        );
        set(dir.path(), "architectures", Value::Null);
        assert_eq!(load(dir.path()).is_ok(), name == "clip-vision", "a whole CLIP has a projection");
    }
    let dir = copy("clip-both");
    set(dir.path(), "architectures", json!(["CLIPForImageClassification"]));
    assert!(refusal(dir.path()).contains("CLIPForImageClassification"));
}

#[test]
fn a_tower_without_projection_takes_a_linear_head_and_no_names() {
    let config = VisionConfig::from_dir(&fixture("clip-tower")).expect("a network");
    assert_eq!((config.projection(), config.classes()), (None, None));
    let names = HeadSource::ZeroShot { names: vec!["a".into()], templates: vec!["{}".into()] };
    let refused = VisionTransformer::load(&fixture("clip-tower"), Kind::Float, Device::Cpu, Some(&names));
    let message = refused.err().expect("refused").to_string();
    assert!(message.contains("visual_projection"), "{message}");
}

/// Known leftovers of training and tensors outside of the network change nothing.
#[test]
fn tensors_of_training_are_ignored() {
    for (name, stage, prefix) in [
        ("vit-backbone", "embedding", ""),
        ("vit-plain", "logits", "vit."),
        ("dinov2-plain", "logits", "dinov2."),
        ("clip-tower", "embedding", ""),
        ("clip-vision", "embedding", "vision_model."),
    ] {
        let dir = copy(name);
        let inside = ["embeddings.mask_token", "pooler.dense.weight", "pooler.dense.bias"];
        let inside: Vec<String> = inside.iter().map(|tensor| format!("{prefix}{tensor}")).collect();
        let mut added: Vec<&str> = inside.iter().map(String::as_str).collect();
        added.extend([
            "decoder.0.weight",
            "decoder.0.bias",
            "loss_fct.weight",
            "projector.mlp.0.weight",
            "ema_step",
        ]);
        with(dir.path(), &added);
        computes(dir.path(), name, stage);
    }
}

/// A tensor within a part of the network would change what that part computes, so the file belongs to another network.
#[test]
fn unread_tensors_within_the_network_are_refused() {
    for (name, tensors) in [
        (
            "vit-plain",
            &["vit.encoder.layer.3.layernorm_before.weight", "vit.embeddings.distillation_token"][..],
        ),
        (
            "vit-plain",
            &["vit.encoder.layer.0.layer_scale1.lambda1", "classifier.scale", "vit.layernorm.extra"],
        ),
        (
            "vit-backbone",
            &["embeddings.distillation_token", "encoder.layer.1.attention.attention.relative_position_bias"],
        ),
        (
            "dinov2-plain",
            &["dinov2.embeddings.register_tokens", "dinov2.encoder.layer.0.mlp.weights_in.weight"],
        ),
        ("dinov3-plain", &["layer.1.attention.k_proj.bias", "layer.0.mlp.gate_proj.weight"]),
        ("siglip-vision", &["encoder.layers.0.self_attn.q_norm.weight", "embeddings.class_embedding"]),
        ("clip-tower", &["encoder.layers.0.self_attn.q_norm.weight", "embeddings.patch_embedding.bias"]),
        ("clip-vision", &["visual_projection.bias", "vision_model.post_layernorm.extra"]),
    ] {
        for tensor in tensors {
            let dir = copy(name);
            with(dir.path(), &[tensor, "loss_fct.weight"]);
            let message = refusal(dir.path());
            assert!(
                message.contains(tensor) && message.contains("another architecture"),
                "{name}: {message}"
            );
        }
    }
}
