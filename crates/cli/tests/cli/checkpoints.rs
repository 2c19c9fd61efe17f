//! Checkpoints as people have them: under other names, in variants, with what training leaves. Each must give the very
//! numbers of the folder that it was made from, through `attend`, `validate` and `run`.

use std::fs;
use std::path::{Path, PathBuf};

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::attend::read;
use crate::common::{arg, root, run, words};

/// A copy of a folder that may be changed.
pub fn copy(from: &Path) -> TempDir {
    fn below(from: &Path, to: &Path) {
        for entry in fs::read_dir(from).expect("a committed folder") {
            let path = entry.expect("a committed folder").path();
            let target = to.join(path.file_name().expect("a name"));
            if path.is_dir() {
                fs::create_dir(&target).expect("writable");
                below(&path, &target);
            } else {
                fs::copy(&path, target).expect("writable");
            }
        }
    }
    let dir = tempfile::tempdir().expect("a scratch folder");
    below(from, dir.path());
    dir
}

fn fixture(name: &str) -> PathBuf {
    root().join("crates/models/tests/fixtures").join(name)
}

fn mini(name: &str) -> PathBuf {
    root().join("datasets/mini/models").join(name)
}

pub type Stored = (String, Dtype, Vec<usize>, Vec<u8>);

pub fn tensors(path: &Path) -> Vec<Stored> {
    let bytes = fs::read(path).expect("a copy");
    let file = SafeTensors::deserialize(&bytes).expect("a fixture");
    let stored = |(name, view): (String, TensorView)| {
        (name, view.dtype(), view.shape().to_vec(), view.data().to_vec())
    };
    file.tensors().into_iter().map(stored).collect()
}

pub fn write(path: &Path, tensors: &[Stored]) {
    let views = tensors.iter().map(|(name, kind, shape, data)| {
        (name, TensorView::new(*kind, shape.clone(), data).expect("a tensor"))
    });
    fs::write(path, safetensors::serialize(views, None).expect("serializable")).expect("writable");
}

/// Changes the tensors of the only file.
fn rewrite(dir: &Path, change: impl FnOnce(&mut Vec<Stored>)) {
    let path = dir.join("model.safetensors");
    let mut stored = tensors(&path);
    change(&mut stored);
    write(&path, &stored);
}

fn extra(name: &str) -> Stored {
    (name.to_owned(), Dtype::F32, vec![1], vec![0; 4])
}

fn rename(dir: &Path, from: &str, to: &str) {
    fs::rename(dir.join(from), dir.join(to)).expect("renamed");
}

/// Sets or, with null, removes a key of a JSON file.
pub fn set(file: &Path, key: &str, value: Value) {
    let mut config: Value =
        serde_json::from_slice(&fs::read(file).expect("readable")).expect("a configuration");
    let fields = config.as_object_mut().expect("an object");
    if value.is_null() {
        fields.remove(key);
    } else {
        fields.insert(key.to_owned(), value);
    }
    fs::write(file, config.to_string()).expect("writable");
}

/// Splits the only file into two shards in another folder, linked to; the second has a stale copy of the first tensor.
fn shard(dir: &Path, elsewhere: &Path) {
    let path = dir.join("model.safetensors");
    let stored = tensors(&path);
    fs::remove_file(&path).expect("removed");
    let names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
    let (first, second) = stored.split_at(stored.len() / 2);
    let mut stale = first[0].clone();
    stale.3.iter_mut().for_each(|byte| *byte = 0);
    write(&elsewhere.join(names[0]), first);
    write(&elsewhere.join(names[1]), &[&[stale], second].concat());
    let of = |(stored, file): (&[Stored], &'static str)| {
        stored.iter().map(|tensor| (tensor.0.clone(), json!(file))).collect::<Vec<_>>()
    };
    let map: serde_json::Map<String, Value> =
        [(first, names[0]), (second, names[1])].into_iter().flat_map(of).collect();
    fs::write(dir.join("model.safetensors.index.json"), json!({ "weight_map": map }).to_string())
        .expect("writable");
    for name in names {
        #[cfg(unix)]
        std::os::unix::fs::symlink(elsewhere.join(name), dir.join(name)).expect("a link");
        #[cfg(not(unix))]
        fs::copy(elsewhere.join(name), dir.join(name)).expect("copied");
    }
}

/// Runs `attend` on a fixture's picture and returns what is said on stderr; the output is that of the fixture.
#[track_caller]
fn attends(model: &Path, name: &str, output: &str) -> String {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let (out, picture) = (dir.path().join("out.safetensors"), fixture(name).join("picture.png"));
    let said =
        words(&run(&["attend", "--model", arg(model), "--image", arg(&picture), "--out", arg(&out)], 0));
    let (found, wanted) =
        (read(&out, output), read(&fixture(name).join("golden.safetensors"), "picture.output"));
    assert_eq!(found.0, wanted.0, "{name}");
    let worst = found.1.iter().zip(&wanted.1).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst <= 1e-4, "{name} differs by {worst:e}");
    said
}

#[test]
fn attend_reads_every_way_to_save_a_network() {
    // The only weights are half-size, which is said.
    let dir = copy(&fixture("vit-plain"));
    rename(dir.path(), "model.safetensors", "model.fp16.safetensors");
    let said = attends(dir.path(), "vit-plain", "output.logits");
    assert!(
        said.contains("note:") && said.contains("`fp16`") && said.contains("model.fp16.safetensors"),
        "{said}"
    );
    assert_eq!(said.matches("note:").count(), 1, "{said}");

    // Shards elsewhere, one with a tensor of an older save.
    let (dir, elsewhere) = (copy(&fixture("vit-plain")), tempfile::tempdir().expect("a scratch folder"));
    shard(dir.path(), elsewhere.path());
    attends(dir.path(), "vit-plain", "output.logits");

    // A backbone below `vit.`, without `architectures`, with what training leaves; a tensor that nobody knows is named.
    let dir = copy(&fixture("vit-backbone"));
    set(&dir.path().join("config.json"), "architectures", Value::Null);
    rewrite(dir.path(), |stored| {
        stored.iter_mut().for_each(|tensor| tensor.0.insert_str(0, "vit."));
        stored.extend(["vit.embeddings.mask_token", "decoder.0.weight", "loss_fct.weight"].map(extra));
    });
    let said = attends(dir.path(), "vit-backbone", "output.embedding");
    assert!(!said.contains("note:"), "{said}");
    rewrite(dir.path(), |stored| stored.push(extra("projector.weight")));
    let said = attends(dir.path(), "vit-backbone", "output.embedding");
    assert!(said.contains("1 tensor(s)") && said.contains("`projector.weight`"), "{said}");

    // CLIP's tower alone under both names; DINOv2 without `architectures`.
    let dir = copy(&fixture("clip-tower"));
    attends(dir.path(), "clip-tower", "output.embedding");
    rewrite(dir.path(), |stored| {
        stored.iter_mut().for_each(|tensor| tensor.0.insert_str(0, "vision_model."))
    });
    attends(dir.path(), "clip-tower", "output.embedding");
    let dir = copy(&fixture("dinov2-plain"));
    set(&dir.path().join("config.json"), "architectures", Value::Null);
    attends(dir.path(), "dinov2-plain", "output.logits");
}

#[test]
fn a_classifier_that_was_lost_is_missed() {
    let dir = copy(&fixture("vit-plain"));
    rewrite(dir.path(), |stored| stored.retain(|tensor| !tensor.0.starts_with("classifier")));
    let (out, picture) = (dir.path().join("out.safetensors"), fixture("vit-plain").join("picture.png"));
    let attend = ["attend", "--model", arg(dir.path()), "--image", arg(&picture), "--out", arg(&out)];
    let message = words(&run(&attend, 3));
    assert!(
        message.contains("`ViTForImageClassification`") && message.contains("`classifier.weight`"),
        "{message}"
    );
    let path = format!("model.path={}", dir.path().display());
    for command in ["validate", "run"] {
        let message = words(&run(&[command, "configs/mini/masking-vit.toml", "--set", &path], 3));
        assert!(message.contains("`classifier.weight`") && !message.contains("model.head"), "{message}");
    }
    // What `AutoModel…save_pretrained` leaves: embeddings are given, and it is said that classes had names.
    let config = dir.path().join("config.json");
    set(&config, "architectures", json!(["ViTModel"]));
    set(&config, "id2label", json!({ "0": "tench", "1": "goldfish" }));
    let said = words(&run(&attend, 0));
    assert!(said.contains("2 classes, such as `tench`") && said.contains("embedding"), "{said}");
}

/// The table of a run over three items.
fn table(config: &str, model: &Path) -> String {
    let out = tempfile::tempdir().expect("a scratch folder");
    let path = format!("model.path={}", model.display());
    run(&["validate", config, "--set", &path], 0);
    run(&["run", config, "--set", &path, "--limit", "3", "--out", arg(out.path())], 0);
    fs::read_to_string(out.path().join("table.csv")).expect("a table")
}

#[test]
fn masking_runs_to_the_same_table() {
    let vit = copy(&mini("vit"));
    rename(vit.path(), "model.safetensors", "model.fp16.safetensors");
    let (dinov2, elsewhere) = (copy(&mini("dinov2")), tempfile::tempdir().expect("a scratch folder"));
    shard(dinov2.path(), elsewhere.path());
    let dino = copy(&mini("dino"));
    set(&dino.path().join("config.json"), "architectures", Value::Null);
    rewrite(dino.path(), |stored| {
        stored.iter_mut().for_each(|tensor| tensor.0.insert_str(0, "vit."));
        stored.extend(["vit.embeddings.mask_token", "loss_fct.weight", "head.mlp.0.weight"].map(extra));
    });
    for (config, name, changed) in [
        ("configs/mini/masking-vit.toml", "vit", &vit),
        ("configs/mini/masking-dinov2.toml", "dinov2", &dinov2),
        ("configs/mini/masking-dinov1.toml", "dino", &dino),
    ] {
        assert_eq!(table(config, changed.path()), table(config, &mini(name)), "{name}");
    }
}

/// Pipelines of other classes with the same parts, saved with `variant="fp16"`.
#[test]
fn pipelines_run_to_the_same_table() {
    for (config, name, class, denoiser) in [
        ("configs/mini/segment.toml", "flux", "FluxImg2ImgPipeline", "transformer"),
        ("configs/mini/diffseg.toml", "sd", "StableDiffusionImg2ImgPipeline", "unet"),
    ] {
        let dir = copy(&mini(name));
        set(&dir.path().join("model_index.json"), "_class_name", json!(class));
        rename(&dir.path().join("text_encoder"), "model.safetensors", "model.fp16.safetensors");
        for folder in [denoiser, "vae"] {
            let [plain, fp16] =
                ["", ".fp16"].map(|variant| format!("diffusion_pytorch_model{variant}.safetensors"));
            rename(&dir.path().join(folder), &plain, &fp16);
        }
        assert_eq!(table(config, dir.path()), table(config, &mini(name)), "{name}");
    }
}
