//! `tokenrank attend`: what transformers computes for the same picture, under the documented names.

use std::path::{Path, PathBuf};

use safetensors::SafeTensors;

use crate::common::{arg, root, run, words};

fn fixture(name: &str) -> PathBuf {
    root().join("crates/models/tests/fixtures").join(name)
}

/// Shape and values of a float32 tensor.
pub fn read(path: &Path, name: &str) -> (Vec<usize>, Vec<f32>) {
    let bytes = std::fs::read(path).expect("a file");
    let file = SafeTensors::deserialize(&bytes).expect("a safetensors file");
    let view = file.tensor(name).unwrap_or_else(|_| panic!("no {name} in {:?}", file.names()));
    assert_eq!(view.dtype(), safetensors::Dtype::F32, "{name}");
    let values = view.data().chunks(4).map(|b| f32::from_le_bytes(b.try_into().expect("4 bytes"))).collect();
    (view.shape().to_vec(), values)
}

fn assert_close(found: (Vec<usize>, Vec<f32>), wanted: (Vec<usize>, Vec<f32>), tolerance: f32, what: &str) {
    assert_eq!(found.0, wanted.0, "{what}");
    let worst = found.1.iter().zip(&wanted.1).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst <= tolerance, "{what} differs by {worst:e}");
}

#[test]
fn a_picture_through_every_fixture_network() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    for (name, output) in [
        ("vit-plain", "output.logits"),
        ("vit-resized", "output.logits"),
        ("vit-sharded", "output.logits"),
        ("vit-backbone", "output.embedding"),
        ("dinov2-plain", "output.logits"),
        ("dinov2-registers", "output.logits"),
        ("dinov2-backbone", "output.embedding"),
        ("clip-vision", "output.embedding"),
        ("clip-both", "output.embedding"),
        ("clip-tower", "output.embedding"),
        ("dinov3-plain", "output.embedding"),
        ("siglip-vision", "output.embedding"),
        ("siglip-both", "output.embedding"),
        ("siglip-classifier", "output.logits"),
        ("siglip-headless", "output.embedding"),
        ("timm-hub-vit", "output.logits"),
        ("timm-wrapper-deit3", "output.logits"),
        ("timm-hub-dinov2", "output.embedding"),
        ("timm-hub-gap", "output.logits"),
        ("timm-wrapper-siglip", "output.embedding"),
    ] {
        let model = fixture(name);
        let out = dir.path().join(format!("{name}.safetensors"));
        let image = model.join("picture.png");
        run(&["attend", "--model", arg(&model), "--image", arg(&image), "--out", arg(&out)], 0);
        let golden = model.join("golden.safetensors");
        assert_close(read(&out, "input.pixels"), read(&golden, "picture.pixels"), 1e-6, "pixels");
        assert_close(read(&out, output), read(&golden, "picture.output"), 1e-4, name);
        let (shape, probs) = read(&out, "block.1.probs");
        let n = shape[2];
        assert_eq!(shape, [shape[0], n, n]);
        assert!(probs.chunks(n).all(|row| (row.iter().sum::<f32>() - 1.0).abs() < 1e-5));
        assert_eq!(read(&out, "block.1.logits").0, shape);
    }
}

#[test]
fn the_metadata_tells_the_tokens_and_rank_reads_the_file() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let model = fixture("vit-resized");
    let out = dir.path().join("attention.safetensors");
    let image = model.join("picture.png");
    let args =
        ["attend", "--model", arg(&model), "--image", arg(&image), "--layers", "last:1", "--out", arg(&out)];
    run(&args, 0);
    let bytes = std::fs::read(&out).expect("written");
    let (_, metadata) = SafeTensors::read_metadata(&bytes).expect("a safetensors file");
    let words = metadata.metadata().as_ref().expect("metadata");
    assert_eq!(words["tokens"], r#"{"special":1,"text":0,"image":[5,7],"order":["special","image"]}"#);
    assert!(words["model"].ends_with("vit-resized"));
    let mut names = SafeTensors::deserialize(&bytes)
        .expect("whole")
        .names()
        .into_iter()
        .map(str::to_owned)
        .collect::<Vec<_>>();
    names.sort();
    assert_eq!(names, ["block.1.logits", "block.1.probs", "input.pixels", "output.logits"]);

    let ranks = dir.path().join("ranks.safetensors");
    run(&["rank", arg(&out), "--key", "block.1.probs", "--out", arg(&ranks)], 0);
    let bytes = std::fs::read(&ranks).expect("written");
    let file = SafeTensors::deserialize(&bytes).expect("whole");
    assert_eq!(file.tensor("tokenrank").expect("ranked").shape(), [3, 36]);
}

/// Values of an int64 tensor.
pub fn read_ids(path: &Path, name: &str) -> Vec<i64> {
    let bytes = std::fs::read(path).expect("a file");
    let file = SafeTensors::deserialize(&bytes).expect("a safetensors file");
    let view = file.tensor(name).expect(name);
    assert_eq!((view.dtype(), view.shape().len()), (safetensors::Dtype::I64, 1), "{name}");
    view.data().chunks(8).map(|b| i64::from_le_bytes(b.try_into().expect("8 bytes"))).collect()
}

/// The texts of tools/golden_vision.py: a short one, none, one that the context of 14 tokens cuts.
const PROMPTS: [&str; 3] =
    ["a Photo of a star", "", "a photo of a half moon on a textured ground, seen from very far away"];

#[test]
fn prompts_through_the_text_tower() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let model = fixture("clip-both");
    let out = dir.path().join("attention.safetensors");
    let image = model.join("picture.png");
    let base = ["attend", "--model", arg(&model), "--image", arg(&image), "--out", arg(&out)];
    let prompts: Vec<&str> = PROMPTS.iter().flat_map(|prompt| ["--prompt", prompt]).collect();
    let said = words(&run(&[&base[..], &prompts].concat(), 0));
    assert!(
        said.contains("seen from very far away` is longer than the context of 14 tokens and was truncated"),
        "{said}"
    );
    assert_eq!(said.matches("truncated").count(), 1, "{said}");

    let golden = model.join("golden.safetensors");
    for k in 0..PROMPTS.len() {
        let ids = read(&golden, &format!("prompt.{k}.ids")).1;
        assert_eq!(
            read_ids(&out, &format!("text.{k}.ids")),
            ids.iter().map(|id| *id as i64).collect::<Vec<_>>()
        );
        for (stage, tolerance) in [("embedding", 1e-4), ("block.0.probs", 2e-5), ("block.1.probs", 2e-5)] {
            let [ours, theirs] = ["text", "prompt"].map(|owner| format!("{owner}.{k}.{stage}"));
            assert_close(read(&out, &ours), read(&golden, &theirs), tolerance, &ours);
        }
        for block in 0..2 {
            let (shape, mut ours) = read(&out, &format!("text.{k}.block.{block}.logits"));
            let (_, mut theirs) = read(&golden, &format!("prompt.{k}.block.{block}.logits"));
            for (at, (ours, theirs)) in ours.iter_mut().zip(&mut theirs).enumerate() {
                let (query, key) = (at / shape[2] % shape[1], at % shape[2]);
                let hidden = key > query;
                assert_eq!((*ours == f32::NEG_INFINITY, *theirs == f32::NEG_INFINITY), (hidden, hidden));
                if hidden {
                    (*ours, *theirs) = (0.0, 0.0);
                }
            }
            assert_close((shape.clone(), ours), (shape, theirs), 1e-4, "logits");
        }
    }
    // The image tower does not notice.
    assert_close(read(&out, "output.embedding"), read(&golden, "picture.output"), 1e-4, "the image");
    let bytes = std::fs::read(&out).expect("written");
    let (_, metadata) = SafeTensors::read_metadata(&bytes).expect("a safetensors file");
    let metadata = metadata.metadata().as_ref().expect("metadata");
    let told: Vec<String> = serde_json::from_str(&metadata["prompts"]).expect("a list");
    assert_eq!(told, PROMPTS);
    assert!(metadata["tokens"].contains(r#""text":0,"image":[5,4]"#), "{}", metadata["tokens"]);
}

/// The image tower has three blocks, the text tower two.
#[test]
fn layers_are_chosen_in_each_tower() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let model = fixture("clip-both");
    let out = dir.path().join("attention.safetensors");
    let image = model.join("picture.png");
    let base =
        ["attend", "--model", arg(&model), "--image", arg(&image), "--out", arg(&out), "--prompt", "a cat"];
    for (layers, vision, text) in [
        ("all", &[0, 1, 2][..], &[0, 1][..]),
        ("last:1", &[2], &[1]),
        ("last:3", &[0, 1, 2], &[0, 1]),
        ("1,2", &[1, 2], &[1]),
        ("2", &[2], &[]),
    ] {
        run(&[&base[..], &["--layers", layers]].concat(), 0);
        let bytes = std::fs::read(&out).expect("written");
        let file = SafeTensors::deserialize(&bytes).expect("whole");
        let mut found: Vec<&str> = file.names().into_iter().filter(|name| name.ends_with(".probs")).collect();
        found.sort_unstable();
        let blocks = vision.iter().map(|i| format!("block.{i}.probs"));
        let blocks = blocks.chain(text.iter().map(|i| format!("text.0.block.{i}.probs")));
        assert_eq!(found, blocks.collect::<Vec<_>>(), "{layers}");
        assert_eq!(file.tensor("text.0.ids").expect("ids").shape(), [14]);
    }
    let message = words(&run(&[&base[..], &["--layers", "3"]].concat(), 2));
    assert!(message.contains("there is no block 3"), "{message}");
}

#[test]
fn another_image_size_on_request() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let model = fixture("vit-plain");
    let out = dir.path().join("attention.safetensors");
    let image = model.join("picture.png");
    let base = ["attend", "--model", arg(&model), "--image", arg(&image), "--out", arg(&out), "--image-size"];
    run(&[&base[..], &["64"]].concat(), 0);
    assert_eq!(read(&out, "input.pixels").0, [3, 64, 64]);
    assert_eq!(read(&out, "block.0.probs").0, [4, 65, 65]);
    let message = words(&run(&[&base[..], &["7"]].concat(), 2));
    assert!(message.contains("smaller than one patch"), "{message}");
}

#[test]
fn what_is_refused_leaves_nothing_behind() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let model = fixture("vit-plain");
    let image = model.join("picture.png");
    let vision = fixture("clip-vision");
    let nowhere = dir.path().join("nowhere");
    let broken = dir.path().join("broken.jpg");
    std::fs::write(&broken, b"\xff\xd8\xff\xe0 no more").expect("writable");
    for (model, image, extra, code, word) in [
        (&nowhere, &image, &[][..], 3, "no such model directory"),
        (&model, &nowhere, &[], 3, "nowhere"),
        (&model, &broken, &[], 3, "broken.jpg"),
        (&model, &image, &["--layers", "last:9"], 2, "only 3 blocks"),
        (&model, &image, &["--layers", "7"], 2, "block 7"),
        (&model, &image, &["--layers", "first"], 2, "last:N"),
        (&model, &image, &["--prompt", "a cat"], 2, "without text tower"),
        (&vision, &image, &["--prompt", "a cat"], 2, "without text tower"),
        (&model, &image, &["--device", "tpu"], 2, "tpu"),
        (&model, &image, &["--device", "cuda:999"], 2, "cuda:999"),
    ] {
        let out = dir.path().join("out.safetensors");
        let base = ["attend", "--model", arg(model), "--image", arg(image), "--out", arg(&out)];
        let message = words(&run(&[&base[..], extra].concat(), code));
        assert!(message.contains(word) && !message.contains("panicked"), "{message}");
        assert!(!out.exists());
    }
}
