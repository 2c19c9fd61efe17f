//! Intervals over objects that share photographs against a cluster bootstrap in numpy (`tools/golden_cluster_bootstrap.py`).

use std::collections::BTreeMap;

use eval::experiments::segment::metrics::SegmentMetric;
use eval::metrics::bootstrap::{Additive, RESAMPLES, each, paired};
use serde::Deserialize;
use tasks::segment::{ClassCounts, MapScore, SegmentRecord};

/// How far an end may lie from numpy's, as a fraction of the width of the interval. 10,000 resamples alone move it by 0.007.
const WITHIN: f64 = 0.03;
const METHODS: [&str; 2] = ["a", "b"];

#[derive(Deserialize)]
struct Golden {
    objects: Vec<Object>,
    intervals: Vec<Wanted>,
}

#[derive(Deserialize)]
struct Object {
    photograph: usize,
    /// For each method: pixels found, wrongly found and missed, those of the background, and two average precisions.
    methods: Vec<(u64, u64, u64, u64, f64, f64)>,
}

#[derive(Deserialize)]
struct Wanted {
    metric: SegmentMetric,
    side: String,
    value: f64,
    low: f64,
    high: f64,
    independent_low: f64,
    independent_high: f64,
}

impl Wanted {
    /// Returns how far an end is from numpy's, as a fraction of the width.
    fn distance(&self, (low, high): (f64, f64)) -> f64 {
        (low - self.low).abs().max((high - self.high).abs()) / (self.high - self.low)
    }
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("../fixtures/segment/clusters.json")).expect("the fixture")
}

/// Returns the record of every object, as a run on `[dataset.masks]` writes it; `image` names the photograph.
fn records(golden: &Golden, image: impl Fn(usize, &Object) -> String) -> Vec<SegmentRecord> {
    let score = |&(tp, fp, fn_, tn, pooled, foreground): &(u64, u64, u64, u64, f64, f64)| MapScore {
        classes: BTreeMap::from([
            (0, ClassCounts { intersection: tn, predicted: tn + fn_, labelled: tn + fp }),
            (1, ClassCounts { intersection: tp, predicted: tp + fp, labelled: tp + fn_ }),
        ]),
        correct: tp + tn,
        labelled: tp + fp + fn_ + tn,
        pooled_ap: Some(pooled),
        foreground_ap: Some(foreground),
    };
    let record = |(number, object): (usize, &Object)| SegmentRecord {
        id: format!("{:03}.jpg:object {number}", object.photograph),
        sha256: format!("{number:064}"),
        image_sha256: Some(image(number, object)),
        names: vec![format!("object {number}")],
        methods: METHODS.map(str::to_owned).into_iter().zip(object.methods.iter().map(score)).collect(),
        maps: None,
    };
    golden.objects.iter().enumerate().map(record).collect()
}

/// Returns the value, the interval and the number of images of a method, or of the difference `a-b`.
fn found(records: &[SegmentRecord], wanted: &Wanted) -> (f64, (f64, f64)) {
    match wanted.side.as_str() {
        "a-b" => {
            let found = paired(records, "a", "b", &wanted.metric, RESAMPLES, 3).expect("a difference");
            let interval = found.interval().expect("enough images");
            (found.value(), (interval.low(), interval.high()))
        }
        method => {
            let found = each(records, &[method], &wanted.metric, RESAMPLES, 3)[0].expect("a value");
            (found.value, found.interval.expect("enough images"))
        }
    }
}

#[test]
fn intervals_over_photographs_agree_with_numpy() {
    let golden = golden();
    let records = records(&golden, |_, object| object.photograph.to_string());
    assert_eq!(golden.intervals.len(), 3 * SegmentMetric::ALL.len());
    let mut farthest = 0.0_f64;
    for wanted in &golden.intervals {
        let (value, interval) = found(&records, wanted);
        let what = format!("{} of {}", wanted.metric, wanted.side);
        assert!((value - wanted.value).abs() < 1e-12, "{what}: {value}, expected {}", wanted.value);
        let distance = wanted.distance(interval);
        assert!(distance < WITHIN, "{what}: {interval:?} is {distance:.4} of the width away");
        farthest = farthest.max(distance);
    }
    println!("the farthest end is {farthest:.4} of the width away");
    // Without hashes, as in records of earlier versions, the names of the items tell the photographs.
    let named: Vec<SegmentRecord> =
        records.iter().map(|record| SegmentRecord { image_sha256: None, ..record.clone() }).collect();
    let wanted = &golden.intervals[0];
    assert_eq!(found(&named, wanted), found(&records, wanted));
}

/// The test above can tell the two bootstraps apart: objects as if independent give much shorter intervals, which agree with
/// numpy's of the same kind.
#[test]
fn intervals_over_independent_objects_would_not_agree() {
    let golden = golden();
    let records = records(&golden, |number, _| number.to_string());
    for wanted in &golden.intervals {
        let (_, interval) = found(&records, wanted);
        assert!(wanted.distance(interval) > 3.0 * WITHIN, "{} of {}", wanted.metric, wanted.side);
        let width = wanted.independent_high - wanted.independent_low;
        let ends = [(interval.0, wanted.independent_low), (interval.1, wanted.independent_high)];
        for (ours, numpy) in ends {
            assert!(
                (ours - numpy).abs() < WITHIN * width,
                "{} of {}: {ours} {numpy}",
                wanted.metric,
                wanted.side
            );
        }
    }
}

#[test]
fn a_difference_counts_the_photographs() {
    let golden = golden();
    let of = |photographs: usize| {
        let records = records(&golden, |_, object| (object.photograph % photographs).to_string());
        assert_eq!(SegmentMetric::Accuracy.clusters(&records).count(), photographs);
        paired(&records, "a", "b", &SegmentMetric::Accuracy, 100, 3).expect("a difference")
    };
    let (few, enough) = (of(5), of(6));
    assert_eq!((few.items(), few.interval()), (5, None));
    assert!(enough.items() == 6 && enough.interval().is_some());
}
