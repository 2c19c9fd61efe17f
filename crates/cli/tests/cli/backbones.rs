//! DINOv3, SigLIP and networks of timm in every command that takes a vision network: rotary positions, no CLS token, and
//! folders with neither `model_type` nor preprocessor_config.json.

use std::fs;
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use serde_json::Value;

use crate::attend::read;
use crate::checkpoints::{copy, set};
use crate::common::{arg, root, run, scratch, words};
use crate::show::json;

fn fixture(name: &str) -> PathBuf {
    root().join("crates/models/tests/fixtures").join(name)
}

/// An experiment on the picture of a fixture, labelled with the class that transformers finds. `model` and `task` are further
/// lines of their tables.
fn experiment(dir: &Path, name: &str, model: &str, task: &str) -> PathBuf {
    let network = fixture(name);
    let (_, logits) = read(&network.join("golden.safetensors"), "picture.output");
    let class = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).expect("classes");
    fs::copy(network.join("picture.png"), dir.join("picture.png")).expect("writable");
    fs::write(dir.join("labels.csv"), format!("file,label\npicture.png,{class}\n")).expect("writable");
    let file = dir.join("masking.toml");
    let text = format!(
        "title = \"Masking\"\n[model]\npath = {:?}\n{model}\n[dataset.folder]\nroot = {:?}\n[task.masking]\n\
         fractions = [0.0, 0.3, 0.6, 0.9]\n{task}\n",
        arg(&network),
        arg(dir)
    );
    fs::write(&file, text).expect("writable");
    file
}

/// Runs an experiment and returns the accuracy of every method by fraction.
fn accuracy(file: &Path) -> Vec<(String, Vec<f64>)> {
    let out = file.with_file_name("run");
    run(&["validate", arg(file)], 0);
    run(&["run", arg(file), "--out", arg(&out)], 0);
    let text = fs::read_to_string(out.join("results.json")).expect("written");
    let results: Value = serde_json::from_str(&text).expect("JSON");
    let curves = results["curves"]["accuracy"].as_object().expect("curves");
    let numbers = |curve: &Value| {
        curve.as_array().expect("a curve").iter().map(|value| value.as_f64().expect("a number")).collect()
    };
    curves.iter().map(|(method, curve)| (method.clone(), numbers(curve))).collect()
}

#[test]
fn dinov3_is_masked_with_its_linear_head() {
    for name in ["dinov3-gated", "dinov3-sharded"] {
        let dir = scratch();
        let head = format!("head = {:?}", arg(&fixture(name).join("head.safetensors")));
        let task = "methods = [\"random\", \"center\", \"column-sum\", \"cls\", \"tokenrank\", \"tokenrank-lambda2\"]\n\
                    cls = [\"kept\", \"dropped\"]";
        let curves = accuracy(&experiment(dir.path(), name, &head, task));
        assert_eq!(curves.len(), 9, "{name}");
        assert!(curves.iter().all(|(_, curve)| curve.len() == 4 && curve[0] == 1.0), "{name}: {curves:?}");
    }
}

#[test]
fn siglip_is_masked_by_every_method_that_needs_no_cls() {
    let methods = "methods = [\"random\", \"center\", \"column-sum\", \"tokenrank\", \"tokenrank-lambda2\"]";
    let dir = scratch();
    let curves = accuracy(&experiment(dir.path(), "siglip-classifier", "", methods));
    assert_eq!(curves.len(), 5);
    assert!(curves.iter().all(|(_, curve)| curve.len() == 4 && curve[0] == 1.0), "{curves:?}");

    for (task, setting) in [
        ("methods = [\"tokenrank\", \"cls\"]", "`cls` reads the attention of the CLS token"),
        ("methods = [\"tokenrank\"]\ncls = [\"kept\", \"dropped\"]", "`dropped` removes CLS and registers"),
    ] {
        let dir = scratch();
        let file = experiment(dir.path(), "siglip-classifier", "", task);
        let out = dir.path().join("run");
        for args in [&["validate", arg(&file)][..], &["run", arg(&file), "--out", arg(&out)]] {
            let message = words(&run(args, 2));
            assert!(message.contains(setting) && message.contains("this network has n"), "{message}");
        }
        assert!(!out.exists());
    }
    // The tower with its pooling head has no classes of its own.
    let dir = scratch();
    let file = experiment(dir.path(), "siglip-both", "", "methods = [\"tokenrank\"]");
    assert!(words(&run(&["validate", arg(&file)], 3)).contains("network without classifier"));
    let classes = format!("class_embeddings = {:?}", arg(&dir.path().join("classes.safetensors")));
    let file = experiment(dir.path(), "siglip-both", &classes, "methods = [\"tokenrank\"]");
    let golden = fs::read(fixture("siglip-both").join("golden.safetensors")).expect("a fixture");
    let golden = SafeTensors::deserialize(&golden).expect("whole");
    let stored = safetensors::serialize([("classes", golden.tensor("classes").expect("classes"))], None);
    fs::write(dir.path().join("classes.safetensors"), stored.expect("serialises")).expect("writable");
    // Instead of the largest number of the embedding.
    fs::write(dir.path().join("labels.csv"), "file,label\npicture.png,1\n").expect("writable");
    assert_eq!(accuracy(&file).len(), 1);
}

/// As on the hub and as transformers saves them; with CLS, and with registers only.
#[test]
fn networks_of_timm_are_masked() {
    let patches = "\"random\", \"center\", \"column-sum\", \"tokenrank\", \"tokenrank-lambda2\"";
    for (name, head, cls) in [
        ("timm-hub-vit", false, true),
        ("timm-wrapper-dino", true, true),
        ("timm-wrapper-registers", false, true),
        ("timm-hub-gap", false, false),
    ] {
        let dir = scratch();
        let head = match head {
            true => format!("head = {:?}", arg(&fixture(name).join("head.safetensors"))),
            false => String::new(),
        };
        let task = match cls {
            true => format!("methods = [{patches}, \"cls\"]\ncls = [\"kept\", \"dropped\"]"),
            false => format!("methods = [{patches}]"),
        };
        let curves = accuracy(&experiment(dir.path(), name, &head, &task));
        assert_eq!(curves.len(), if cls { 9 } else { 5 }, "{name}");
        assert!(curves.iter().all(|(_, curve)| curve.len() == 4 && curve[0] == 1.0), "{name}: {curves:?}");
    }
}

#[test]
fn networks_of_timm_are_shown_and_others_refused_by_name() {
    let dir = scratch();
    let model = fixture("timm-hub-dinov2");
    let image = model.join("picture.png");
    let out = dir.path().join("show");
    let show = ["show", "--model", arg(&model), "--image", arg(&image), "--out", arg(&out)];
    let said = String::from_utf8(run(&show, 0).stdout).expect("text");
    assert!(said.contains("4 × 4 patches, CLS and registers: 20 states"), "{said}");
    let listed = String::from_utf8(run(&["ls", "models"], 0).stdout).expect("text");
    assert!(listed.contains("plain vision transformers of timm"), "{listed}");

    for (architecture, reason) in [
        ("deit_tiny_distilled_patch16_224", "a distillation token"),
        ("eva02_tiny_patch14_224", "rotary positions"),
        ("swin_tiny_patch4_window7_224", "attention within windows"),
    ] {
        let dir = copy(&model);
        set(&dir.path().join("config.json"), "architecture", architecture.into());
        let out = dir.path().join("maps.safetensors");
        let args = ["attend", "--model", arg(dir.path()), "--image", arg(&image), "--out", arg(&out)];
        let message = words(&run(&args, 3));
        assert!(message.contains(architecture) && message.contains(reason), "{message}");
        assert!(!out.exists());
    }
}

#[test]
fn without_cls_every_state_is_a_patch() {
    let dir = scratch();
    let model = fixture("siglip-both");
    let image = model.join("picture.png");
    let maps = dir.path().join("maps.safetensors");
    let attend = ["attend", "--model", arg(&model), "--image", arg(&image), "--out", arg(&maps)];
    run(&attend, 0);
    let bytes = fs::read(&maps).expect("written");
    let (_, metadata) = SafeTensors::read_metadata(&bytes).expect("a safetensors file");
    let tokens = &metadata.metadata().as_ref().expect("metadata")["tokens"];
    assert_eq!(tokens, r#"{"special":0,"text":0,"image":[5,4],"order":["image"]}"#);
    let message = words(&run(&[&attend[..], &["--prompt", "a star"]].concat(), 3));
    assert!(message.contains("text tower of SigLIP is not read"), "{message}");

    let out = dir.path().join("show");
    let show = ["show", "--model", arg(&model), "--image", arg(&image), "--out", arg(&out)];
    let said = String::from_utf8(run(&show, 0).stdout).expect("text");
    assert!(said.contains("5 × 4 patches: 20 states") && !said.contains("CLS"), "{said}");
    let states = &json(&out)["settings"]["states"];
    assert_eq!((&states["special"], &states["image"]), (&0.into(), &serde_json::json!([5, 4])));
    let message = words(&run(&[&show[..], &["--without-special"]].concat(), 2));
    assert!(message.contains("neither CLS nor registers"), "{message}");
    let message = words(&run(&[&show[..], &["--token", "20"]].concat(), 2));
    assert!(message.contains("20 tokens, counted from 0: 5 4 patches"), "{message}");
}

#[test]
fn siglip_2_of_variable_resolution_is_refused() {
    for model_type in ["siglip2", "siglip2_vision_model"] {
        let dir = copy(&fixture("siglip-vision"));
        set(&dir.path().join("config.json"), "model_type", model_type.into());
        let (image, out) = (dir.path().join("picture.png"), dir.path().join("maps.safetensors"));
        let args = ["attend", "--model", arg(dir.path()), "--image", arg(&image), "--out", arg(&out)];
        let message = words(&run(&args, 3));
        assert!(message.contains("fixed resolution") && message.contains("(NaFlex) are not"), "{message}");
    }
}
