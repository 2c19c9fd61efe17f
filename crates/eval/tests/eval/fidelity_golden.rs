//! Inception Score, Fréchet and kernel distance, precision and recall against torch-fidelity, and draws against numpy
//! (`tools/golden_metrics.py`).

use std::collections::BTreeMap;

use eval::metrics::fidelity::{
    Gaussian, InceptionScore, KernelDistance, PrecisionRecall, RandomState, Spread, frechet_distance,
};
use ndarray::Array2;
use safetensors::SafeTensors;
use serde::Deserialize;

/// Required accuracy, relative to the value.
const RELATIVE: f64 = 1e-6;

#[derive(Deserialize)]
struct Golden {
    cases: BTreeMap<String, Case>,
    draws: Vec<Draw>,
}

#[derive(Deserialize)]
struct Case {
    subset_size: usize,
    float64: Values,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Values {
    frechet: f64,
    kernel: [f64; 2],
    kernel_other: [f64; 2],
    score: [f64; 2],
    score_other: [f64; 2],
    score_in_order: [f64; 2],
    precision_recall: [f64; 2],
    #[serde(rename = "precision-recall-1")]
    precision_recall_nearest: [f64; 2],
}

#[derive(Deserialize)]
struct Draw {
    seed: u32,
    n: usize,
    size: usize,
    permutation: Vec<usize>,
    choices: [Vec<usize>; 2],
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("../fixtures/fidelity/golden.json")).expect("the fixture")
}

/// Reads a float32 table of the fixture.
fn table(name: &str) -> Array2<f64> {
    let file = SafeTensors::deserialize(include_bytes!("../fixtures/fidelity/features.safetensors"))
        .expect("the fixture");
    let view = file.tensor(name).expect(name);
    let number = |bytes: &[u8]| f64::from(f32::from_le_bytes(bytes.try_into().expect("4 bytes")));
    let values = view.data().chunks(4).map(number).collect();
    Array2::from_shape_vec((view.shape()[0], view.shape()[1]), values).expect(name)
}

#[test]
fn metrics_agree_with_torch_fidelity() {
    let mut worst = 0.0_f64;
    for (name, case) in golden().cases {
        let [generated, reference, logits] =
            ["generated", "reference", "logits"].map(|part| table(&format!("{name}.{part}")));
        let mut close = |what: &str, ours: f64, theirs: f64| {
            let difference = (ours - theirs).abs() / theirs.abs();
            println!("{name}: {what} {ours}, expected {theirs}, difference {difference:.1e}");
            assert!(difference <= RELATIVE, "{name}: {what} is {ours} where torch-fidelity has {theirs}");
            worst = worst.max(difference);
        };
        let wanted = case.float64;
        let gaussian = |features: &Array2<f64>| Gaussian::of(features.view()).expect("a covariance");
        let frechet = frechet_distance(&gaussian(&generated), &gaussian(&reference)).expect("a distance");
        close("Fréchet distance", frechet, wanted.frechet);

        let mut both = |what: &str, ours: Spread, theirs: [f64; 2]| {
            close(what, ours.mean, theirs[0]);
            close(&format!("{what}, deviation"), ours.std, theirs[1]);
        };
        let kernel =
            KernelDistance { subsets: 20, subset_size: case.subset_size, ..KernelDistance::default() };
        let other = KernelDistance { degree: 2, gamma: Some(0.05), coef0: 0.5, seed: 7, ..kernel };
        for (kernel, theirs) in [(kernel, wanted.kernel), (other, wanted.kernel_other)] {
            both(
                "kernel distance",
                kernel.between(generated.view(), reference.view()).expect("a distance"),
                theirs,
            );
        }
        for (score, theirs) in [
            (InceptionScore::default(), wanted.score),
            (InceptionScore { splits: 3, seed: Some(5) }, wanted.score_other),
            (InceptionScore { splits: 4, seed: None }, wanted.score_in_order),
        ] {
            both("Inception Score", score.of(logits.view()).expect("a score"), theirs);
        }
        for (neighbours, theirs) in [(3, wanted.precision_recall), (1, wanted.precision_recall_nearest)] {
            let found = PrecisionRecall { neighbours }
                .between(generated.view(), reference.view())
                .expect("precision and recall");
            close("precision", found.precision, theirs[0]);
            close("recall", found.recall, theirs[1]);
        }
    }
    println!("largest relative difference: {worst:.1e}");
}

#[test]
fn draws_agree_with_numpy() {
    for Draw { seed, n, size, permutation, choices } in golden().draws {
        let mut rng = RandomState::new(seed);
        assert_eq!(rng.permutation(n), permutation, "permutation of {n}, seed {seed}");
        for choice in choices {
            assert_eq!(rng.choice(n, size), choice, "{size} of {n}, seed {seed}");
        }
    }
}
