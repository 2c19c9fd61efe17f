//! From pixels to Inception Score, FID and KID against torch-fidelity, with random weights that both draw by one formula
//! (`tools/golden_inception.py`).

use eval::image_metrics::extract;
use eval::metrics::fidelity::{InceptionScore, KernelDistance, Reference, Settings, evaluate};
use models::features::FeatureSource;
use models::image::Rgb8;
use serde::Deserialize;

use crate::draw::picture;

#[derive(Deserialize)]
struct Golden {
    inception_score_mean: f64,
    inception_score_std: f64,
    frechet_inception_distance: f64,
    kernel_inception_distance_mean: f64,
    kernel_inception_distance_std: f64,
}

#[test]
fn metrics_of_images_agree_with_torch_fidelity() {
    let golden = include_str!("../../../models/tests/fixtures/inception/metrics.json");
    let golden: Golden = serde_json::from_str(golden).expect("the fixture");
    let folder = tempfile::tempdir().expect("a scratch folder");
    let file = folder.path().join("inception.safetensors");
    crate::draw::write_weights(&file);
    let _guard = models::no_grad();
    let network = FeatureSource::Inception(file).load(models::Device::Cpu).expect("the network");
    assert!(!network.is_published_inception());

    let features = |images: Vec<Rgb8>| {
        let numbered = (0_u64..).zip(images).map(Ok);
        extract(&network, numbered, 7).expect("features").finish()
    };
    let generated = features(
        (0..24).map(|k| picture(&format!("generated.{k}"), (0, 1), (40 + k, 52), |sample| sample)).collect(),
    );
    let reference = features(
        (0..20)
            .map(|k| picture(&format!("reference.{k}"), (0, 1), (64, 40 + k), |sample| sample / 2))
            .collect(),
    );
    let settings = Settings {
        inception_score: InceptionScore { splits: 2, ..InceptionScore::default() },
        kernel: KernelDistance { subset_size: 20, ..KernelDistance::default() },
        ..Settings::default()
    };
    let found = evaluate(&generated, &Reference::Features(reference), &settings).expect("metrics");
    let score = found.inception_score.expect("a score");
    let kernel = found.kernel.expect("a distance");
    for (what, ours, theirs) in [
        ("Inception Score", score.mean, golden.inception_score_mean),
        ("Inception Score above 1", score.mean - 1.0, golden.inception_score_mean - 1.0),
        ("its deviation", score.std, golden.inception_score_std),
        ("FID", found.frechet, golden.frechet_inception_distance),
        ("KID", kernel.distance.mean, golden.kernel_inception_distance_mean),
        ("its deviation", kernel.distance.std, golden.kernel_inception_distance_std),
    ] {
        let difference = (ours - theirs).abs() / theirs.abs();
        println!("{what}: {ours}, expected {theirs}, difference {difference:.1e}");
        assert!(difference <= 1e-3, "{what} is {ours} where torch-fidelity has {theirs}");
    }
    assert_eq!(found.notes, [""; 0]);
}
