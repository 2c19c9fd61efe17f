//! `tokenrank attend`: what transformers computes for the same picture, under the documented names.

use std::path::{Path, PathBuf};

use safetensors::SafeTensors;

use crate::common::{arg, root, run, words};

fn fixture(name: &str) -> PathBuf {
    root().join("crates/models/tests/fixtures").join(name)
}

/// Shape and values of a float32 tensor.
fn read(path: &Path, name: &str) -> (Vec<usize>, Vec<f32>) {
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
