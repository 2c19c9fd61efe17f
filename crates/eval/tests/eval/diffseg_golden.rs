//! Metrics of segmentation without prompts against SciPy and scikit-learn (`tools/golden_diffseg_metrics.py`,
//! `tools/golden_matching.py`).

use std::collections::BTreeMap;

use eval::experiments::diffseg::metrics::DiffSegMetric;
use eval::experiments::diffseg::{Classes, Matched, Tally, adjusted_rand_index, assign};
use eval::metrics::bootstrap::{Additive, paired};
use ndarray::Array2;
use serde::Deserialize;
use tasks::diffseg::DiffSegRecord;

#[derive(Deserialize)]
struct Matching {
    scipy: String,
    cases: Vec<Assignment>,
}

#[derive(Deserialize)]
struct Assignment {
    shape: (usize, usize),
    entries: Vec<(usize, usize, u64)>,
    pairs: Vec<(usize, usize)>,
}

#[derive(Deserialize)]
struct Golden {
    classes: usize,
    records: Vec<DiffSegRecord>,
    images: Vec<BTreeMap<String, Image>>,
    metrics: BTreeMap<String, BTreeMap<String, f64>>,
    bootstrap: Vec<Bootstrap>,
}

#[derive(Deserialize)]
struct Image {
    tp: Vec<u64>,
    fp: Vec<u64>,
    r#fn: Vec<u64>,
    ari: Option<f64>,
}

#[derive(Deserialize)]
struct Bootstrap {
    a: String,
    b: String,
    metric: DiffSegMetric,
    resamples: usize,
    seed: u64,
    difference: f64,
    low: f64,
    high: f64,
    p_value: f64,
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("../fixtures/diffseg/golden.json")).expect("the fixture")
}

fn close(ours: Option<f64>, golden: f64, what: &str) {
    let ours = ours.unwrap_or_else(|| panic!("{what}: no value"));
    assert!((ours - golden).abs() <= 1e-12, "{what}: {ours}, expected {golden}");
}

#[test]
fn ties_are_broken_as_scipy_does() {
    let golden: Matching =
        serde_json::from_str(include_str!("../fixtures/diffseg/matching.json")).expect("the fixture");
    for (index, case) in golden.cases.iter().enumerate() {
        let mut gains = Array2::<u64>::zeros(case.shape);
        case.entries.iter().for_each(|&(row, column, entry)| gains[(row, column)] = entry);
        assert_eq!(assign(gains.view()), case.pairs, "case {index} of SciPy {}: {gains}", golden.scipy);
    }
}

#[test]
fn matching_and_rand_index_agree_with_scipy_and_scikit_learn() {
    let golden = golden();
    for (record, image) in golden.records.iter().zip(&golden.images) {
        for (method, wanted) in image {
            let what = format!("{method} of {}", record.id);
            let segments = &record.methods[method];
            let matched = Matched::of(segments, &Classes::all(golden.classes));
            let counts = |of: fn(&Tally) -> u64| matched.classes.iter().map(of).collect::<Vec<u64>>();
            assert_eq!(counts(|class| class.true_positives), wanted.tp, "{what}");
            assert_eq!(counts(|class| class.false_positives), wanted.fp, "{what}");
            assert_eq!(counts(|class| class.false_negatives), wanted.r#fn, "{what}");
            match (adjusted_rand_index(&segments.overlap), wanted.ari) {
                (None, None) => {}
                (ours, wanted) => close(ours, wanted.expect("labelled pixels"), &what),
            }
        }
    }
}

#[test]
fn metrics_agree_with_numpy() {
    let golden = golden();
    let value = |metric: DiffSegMetric, method: &str| {
        metric.over(&Classes::all(golden.classes)).value_over(&golden.records, method)
    };
    for (method, wanted) in &golden.metrics {
        assert_eq!(wanted.len(), DiffSegMetric::ALL.len());
        for metric in DiffSegMetric::ALL {
            let name = metric.to_string();
            close(value(metric, method), wanted[&name], &format!("{name} of {method}"));
        }
    }
    // With more segments than visible classes, left-over segments lower the IoU.
    assert!(value(DiffSegMetric::MiouOrderFree, "many") > value(DiffSegMetric::Miou, "many"));
}

#[test]
fn intervals_agree_with_numpy_on_the_same_draws() {
    let golden = golden();
    for case in &golden.bootstrap {
        let Bootstrap { a, b, metric, resamples, seed, .. } = case;
        let over = metric.over(&Classes::all(golden.classes));
        let ours = paired(&golden.records, a, b, &over, *resamples, *seed).expect("an interval");
        let what = format!("{metric} of {a} and {b}");
        let interval = ours.interval().expect("enough items");
        for (ours, wanted) in [
            (ours.value(), case.difference),
            (interval.low(), case.low),
            (interval.high(), case.high),
            (interval.p_value().value(), case.p_value),
        ] {
            close(Some(ours), wanted, &what);
        }
        assert_eq!(interval.resamples(), *resamples, "{what}");
    }
}
