//! Inception-v3 against torch-fidelity's class, stage by stage, with weights that both draw by one formula.
//!
//! `tools/golden_inception.py` makes the fixtures.

mod draw;

use std::path::Path;

use draw::picture;
use models::inception::{CLASSES, Inception, SIDE, WIDTH, resize_as_tensorflow_1};
use models::{Device, Kind};
use tch::Tensor;

use crate::golden::{Golden, relative_difference};

/// Largest difference in float32, relative to the largest number of a stage.
const RELATIVE: f64 = 1e-4;
/// Numbers of a stage in the fixture.
const SPREAD: i64 = 200;

fn spread(stage: &Tensor) -> Tensor {
    let last = stage.numel() as i64 - 1;
    let places: Vec<i64> = (0..SPREAD).map(|k| k * last / (SPREAD - 1)).collect();
    stage.reshape([-1]).index_select(0, &Tensor::from_slice(&places))
}

fn moments(stage: &Tensor) -> Tensor {
    let stage = stage.to_kind(Kind::Double);
    Tensor::stack(&[stage.mean(Kind::Double), stage.square().mean(Kind::Double).sqrt()], 0)
}

fn rgb(name: &str, (k, count): (usize, usize), size: (usize, usize)) -> Tensor {
    Inception::rgb(&picture(name, (k, count), size, |sample| sample)).expect("a tensor")
}

#[test]
fn images_are_resized_as_tensorflow_1_did() -> models::Result<()> {
    let golden = Golden::open("inception");
    for (height, width) in [(1, 1), (2, 3), (45, 61), (299, 299), (64, 64), (333, 512), (601, 300)] {
        let name = format!("resize.{height}x{width}");
        let pictures = rgb(&name, (0, 1), (height, width)).to_kind(Kind::Float);
        let resized = resize_as_tensorflow_1(&pictures, SIDE, SIDE)?;
        assert_eq!(resized.size(), [1, 3, SIDE, SIDE]);
        let difference = relative_difference(&spread(&resized), &golden.get(&name));
        println!("{name} {difference:.1e}");
        assert!(difference <= 1e-6, "{name}: {difference:e}");
        if (height, width) == (299, 299) {
            assert_eq!(resized, pictures);
        }
    }
    Ok(())
}

#[test]
fn every_stage_is_that_of_torch_fidelity() -> models::Result<()> {
    let golden = Golden::open("inception");
    let folder = tempfile::tempdir().expect("a scratch folder");
    let file = folder.path().join("model.safetensors");
    draw::write_weights(&file);
    let network = Inception::load(folder.path(), Kind::Float, Device::Cpu)?;
    let pictures = Tensor::cat(&[0, 1].map(|k| rgb("picture", (k, 2), (45, 61))), 0);
    let mut stages = Vec::new();
    let features = network.forward(&network.pixels(&pictures)?, &mut |name, stage| {
        stages.push((format!("stage.{name}"), spread(stage)));
        stages.push((format!("stage.{name}.moments"), moments(stage)));
    })?;
    assert_eq!(stages.len(), 2 * 18);
    stages.push(("pool".into(), features.pool.shallow_clone()));
    stages.push(("logits_unbiased".into(), features.logits_unbiased.shallow_clone()));
    stages.push(("logits".into(), features.logits.shallow_clone()));
    let mut worst = (0.0, String::new());
    for (name, ours) in stages {
        let difference = relative_difference(&ours, &golden.get(&name));
        println!("{name} {difference:.1e}");
        assert!(difference <= RELATIVE, "{name} is the first stage that differs, by {difference:e}");
        if difference > worst.0 {
            worst = (difference, name);
        }
    }
    println!("largest difference: {worst:?}");

    // The features of an image do not depend on the other images of the batch.
    let alone = network.features(&pictures.narrow(0, 1, 1))?;
    assert_eq!(alone.pool.size(), [1, WIDTH]);
    assert_eq!(alone.logits.size(), [1, CLASSES]);
    assert!(relative_difference(&alone.pool, &features.pool.narrow(0, 1, 1)) < 1e-5);

    for (pictures, words) in [
        (pictures.to_kind(Kind::Float), "Float where bytes are needed"),
        (pictures.narrow(1, 0, 2), "[2, 2, 45, 61]; expected [batch, 3, height, width]"),
        (pictures.get(0), "expected [batch, 3, height, width]"),
    ] {
        let refused = network.features(&pictures).err().expect(words).to_string();
        assert!(refused.contains(words), "{refused}");
    }

    let refusal =
        |path: &Path| Inception::load(path, Kind::Float, Device::Cpu).err().expect("refused").to_string();
    assert!(refusal(Path::new("nowhere.safetensors")).contains("cannot read nowhere.safetensors"));
    let other = crate::golden::fixture("vae-sd/diffusion_pytorch_model.safetensors");
    assert!(refusal(&other).contains("has no tensor `Conv2d_1a_3x3"), "{}", refusal(&other));
    Ok(())
}
