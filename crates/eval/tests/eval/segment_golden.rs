//! Metrics of segmentation against numpy (`tools/golden_segment.py`).

use std::collections::BTreeMap;

use eval::experiments::segment::metrics::SegmentMetric;
use eval::metrics::bootstrap::{Additive, paired};
use serde::Deserialize;
use tasks::segment::SegmentRecord;

#[derive(Deserialize)]
struct Golden {
    records: Vec<SegmentRecord>,
    metrics: BTreeMap<String, BTreeMap<String, f64>>,
    /// ConceptAttention's accuracy and mIoU, as its code computes them from masks.
    histograms: BTreeMap<String, Histograms>,
    bootstrap: Vec<Bootstrap>,
}

#[derive(Deserialize)]
struct Histograms {
    accuracy: f64,
    miou: f64,
}

#[derive(Deserialize)]
struct Bootstrap {
    a: String,
    b: String,
    metric: SegmentMetric,
    resamples: usize,
    seed: u64,
    difference: f64,
    low: f64,
    high: f64,
    p_value: f64,
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("../fixtures/segment/golden.json")).expect("the fixture")
}

fn close(ours: Option<f64>, golden: f64, what: &str) {
    let ours = ours.unwrap_or_else(|| panic!("{what}: no value"));
    assert!((ours - golden).abs() <= 1e-12, "{what}: {ours}, expected {golden}");
}

#[test]
fn metrics_agree_with_numpy() {
    let golden = golden();
    for (method, wanted) in &golden.metrics {
        assert_eq!(wanted.len(), SegmentMetric::ALL.len());
        for metric in SegmentMetric::ALL {
            let name = metric.to_string();
            let value = metric.value_over(&golden.records, method);
            close(value, wanted[&name], &format!("{name} of {method}"));
        }
    }
}

#[test]
fn the_published_miou_of_concept_attention_is_a_function_of_its_accuracy() {
    let golden = golden();
    for method in golden.metrics.keys() {
        let value = |metric: SegmentMetric| metric.value_over(&golden.records, method);
        let theirs = &golden.histograms[method];
        close(value(SegmentMetric::Accuracy), theirs.accuracy, method);
        close(value(SegmentMetric::MiouIdentity), theirs.miou, method);
        let miou = value(SegmentMetric::Miou).expect("two classes");
        assert!(theirs.miou - miou > 0.02, "{method}: an IoU of {miou} passes for {}", theirs.miou);
    }
}

#[test]
fn intervals_agree_with_numpy_on_the_same_draws() {
    let golden = golden();
    for case in &golden.bootstrap {
        let Bootstrap { a, b, metric, resamples, seed, .. } = case;
        let ours = paired(&golden.records, a, b, metric, *resamples, *seed).expect("an interval");
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
        if a == b {
            let found = (ours.value(), interval.low(), interval.high(), interval.p_value().value());
            assert_eq!(found, (0.0, 0.0, 0.0, 1.0), "{what}");
        }
    }
}
