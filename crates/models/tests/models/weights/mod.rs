//! Checkpoints that are damaged, incomplete or of another network are refused with helpful messages.

mod files;
mod networks;
mod pytorch;

use std::path::Path;

use models::vision::VisionTransformer;
use models::{Device, Error, HeadSource, Kind, Weights};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use tch::Tensor;

use crate::golden::{copy, fixture};

fn edit(dir: &Path, file: &str, change: impl FnOnce(String) -> String) {
    let path = dir.join(file);
    let text = std::fs::read_to_string(&path).expect("readable");
    let changed = change(text.clone());
    assert_ne!(text, changed, "the test changes nothing");
    std::fs::write(path, changed).expect("writable");
}

/// Name, type, shape and bytes of a tensor.
type Stored = (String, Dtype, Vec<usize>, Vec<u8>);

/// Writes a safetensors file of one-number tensors.
fn write(path: &Path, tensors: impl IntoIterator<Item = (String, f32)>) {
    let stored = |(name, number): (String, f32)| (name, Dtype::F32, vec![1], number.to_le_bytes().to_vec());
    write_all(path, &tensors.into_iter().map(stored).collect::<Vec<_>>());
}

fn write_all(path: &Path, tensors: &[Stored]) {
    let views = tensors.iter().map(|(name, kind, shape, data)| {
        (name, TensorView::new(*kind, shape.clone(), data).expect("a tensor"))
    });
    std::fs::write(path, safetensors::serialize(views, None).expect("serializable")).expect("writable");
}

/// Changes the tensors of a file.
pub fn rewrite(path: &Path, change: impl FnOnce(&mut Vec<Stored>)) {
    let bytes = std::fs::read(path).expect("a copy of a fixture");
    let file = SafeTensors::deserialize(&bytes).expect("a fixture");
    let stored = |(name, view): (String, TensorView)| {
        (name, view.dtype(), view.shape().to_vec(), view.data().to_vec())
    };
    let mut tensors: Vec<Stored> = file.tensors().into_iter().map(stored).collect();
    change(&mut tensors);
    write_all(path, &tensors);
}

fn load(dir: &Path) -> Result<VisionTransformer, Error> {
    VisionTransformer::load(dir, Kind::Float, Device::Cpu, None)
}

fn refusal(dir: &Path) -> String {
    match load(dir) {
        Ok(_) => panic!("the directory was accepted"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_missing_tensor_is_named_with_its_neighbours() {
    let weights = Weights::open(&fixture("vit-plain"), Kind::Float, Device::Cpu).expect("a fixture");
    let error = weights.pp("vit").pp("encoder").pp("layer").pp(0).pp("layernorm_befor").get(&[32], "weight");
    let message = error.expect_err("no such tensor").to_string();
    assert!(message.contains("`vit.encoder.layer.0.layernorm_befor.weight`"), "{message}");
    assert!(message.contains("nearest: `vit.encoder.layer.0.layernorm_before.weight`"), "{message}");
}

#[test]
fn a_tensor_of_another_shape_is_refused() {
    let dir = copy("vit-plain");
    edit(dir.path(), "config.json", |text| {
        text.replace("\"intermediate_size\": 64", "\"intermediate_size\": 60")
    });
    let message = refusal(dir.path());
    assert!(message.contains("intermediate.dense.weight") && message.contains("[60, 32]"), "{message}");
}

#[test]
fn unread_tensors_are_refused() {
    let dir = copy("vit-plain");
    edit(dir.path(), "config.json", |text| {
        text.replace("\"num_hidden_layers\": 3", "\"num_hidden_layers\": 2")
    });
    let message = refusal(dir.path());
    assert!(message.contains("16 tensor(s)") && message.contains("vit.encoder.layer.2."), "{message}");
}

#[test]
fn a_truncated_file_is_unreadable() {
    let dir = copy("vit-plain");
    let path = dir.path().join("model.safetensors");
    let bytes = std::fs::read(&path).expect("readable");
    for length in [0, 4, 8, 200, bytes.len() - 1] {
        std::fs::write(&path, &bytes[..length]).expect("writable");
        let message = refusal(dir.path());
        assert!(message.contains("model.safetensors"), "{length} bytes: {message}");
    }
}

#[test]
fn a_shard_outside_the_directory_is_refused() {
    for way_out in ["../model.safetensors", "/etc/passwd", "deeper/model.safetensors", ".."] {
        let dir = copy("vit-sharded");
        edit(dir.path(), "model.safetensors.index.json", |text| {
            text.replace("model-00001-of-00005.safetensors", way_out)
        });
        let message = refusal(dir.path());
        assert!(message.contains(way_out) && message.contains("not a file in its folder"), "{message}");
    }
}

#[test]
fn a_missing_shard_is_named() {
    let dir = copy("vit-sharded");
    std::fs::remove_file(dir.path().join("model-00003-of-00005.safetensors")).expect("removed");
    assert!(refusal(dir.path()).contains("model-00003-of-00005.safetensors"));
}

#[test]
fn contradictory_configurations_are_refused() {
    for (from, to, word) in [
        ("\"num_attention_heads\": 4", "\"num_attention_heads\": 5", "multiple"),
        ("\"patch_size\": 8", "\"patch_size\": 64", "smaller than patch_size"),
        ("\"patch_size\": 8", "\"patch_size\": 0", "side length"),
        ("\"hidden_act\": \"gelu\"", "\"hidden_act\": \"mish\"", "mish"),
        ("\"model_type\": \"vit\"", "\"model_type\": \"swin\"", "swin"),
        ("\"num_channels\": 3", "\"num_channels\": 1", "RGB"),
        ("{", "[", "not the configuration"),
    ] {
        let dir = copy("vit-plain");
        edit(dir.path(), "config.json", |text| text.replacen(from, to, 1));
        let message = refusal(dir.path());
        assert!(message.contains(word) && message.contains("config.json"), "{to}: {message}");
    }
}

#[test]
fn directories_without_a_model_are_refused() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    assert!(refusal(dir.path()).contains("config.json"));
    assert!(refusal(&dir.path().join("nowhere")).contains("no such model directory"));
}

#[test]
fn a_head_that_does_not_fit_is_refused() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let refusal = |name: &str, backbone: &str| {
        let network = VisionTransformer::load(
            &fixture(backbone),
            Kind::Float,
            Device::Cpu,
            Some(&HeadSource::Linear(dir.path().join(name))),
        );
        network.err().expect("the head was accepted").to_string()
    };
    std::fs::copy(fixture("dino-base").join("head.safetensors"), dir.path().join("base.safetensors"))
        .expect("copied");
    std::fs::copy(fixture("vit-plain").join("model.safetensors"), dir.path().join("other.safetensors"))
        .expect("copied");
    std::fs::write(dir.path().join("head.pth"), b"\x80\x02").expect("written");
    let message = refusal("base.safetensors", "dino-small");
    assert!(message.contains("base.safetensors") && message.contains("48 features"), "{message}");
    let message = refusal("other.safetensors", "dino-small");
    assert!(message.contains("lacks `weight`, `bias` and holds"), "{message}");
    let message = refusal("head.pth", "dino-small");
    assert!(message.contains("not one of `torch.save`"), "{message}");
    let message = refusal("absent.safetensors", "dino-small");
    assert!(message.contains("absent.safetensors"), "{message}");
}

/// A network built from headers requests the tensors of its files.
#[test]
fn headers_alone_tell_whether_a_network_can_be_loaded() {
    for name in ["vit-plain", "dino-small", "dinov2-registers", "clip-both"] {
        let load = || VisionTransformer::load(&fixture(name), Kind::Float, Device::Cpu, None);
        models::headers_only(load).expect(name);
        let weights = Weights::open(&fixture(name), Kind::Float, Device::Cpu).expect("weights");
        let wanted = models::wanted_tensors(load).expect(name);
        assert!(!wanted.is_empty());
        let mut numbers = 0;
        for (tensor, shape) in wanted {
            assert_eq!(weights.shape(&tensor).expect("a stored tensor"), shape, "{name}: {tensor}");
            // Numbers are missing only within the call.
            let largest = |read: Tensor| read.abs().max().double_value(&[]);
            models::headers_only(|| {
                assert_eq!(largest(weights.get(&shape, &tensor)?), 0.0);
                Ok(())
            })
            .expect(name);
            numbers += usize::from(largest(weights.get(&shape, &tensor).expect("numbers")) > 0.0);
        }
        assert!(numbers > 0, "{name} is all zeros");
    }
    let dir = copy("vit-plain");
    edit(dir.path(), "config.json", |text| {
        text.replace("\"intermediate_size\": 64", "\"intermediate_size\": 63")
    });
    let load = || VisionTransformer::load(dir.path(), Kind::Float, Device::Cpu, None);
    let read = load().err().map(|e| e.to_string());
    let seen = models::headers_only(load).err().map(|e| e.to_string());
    assert!(read.is_some() && read == seen, "{read:?}, by headers {seen:?}");
}
