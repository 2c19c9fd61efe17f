use std::collections::BTreeMap;

use approx::assert_relative_eq;
use proptest::prelude::*;
use serde_json::json;
use tasks::dataset::DatasetConfig;
use tasks::diffseg::{Boundary, DiffSegRecord, Segments};

use super::classes::Classes;
use super::matched::Matched;
use super::metrics::DiffSegMetric;
use super::rand_index::adjusted_rand_index;
use crate::idle::{Idle, idle};
use crate::metrics::bootstrap::{Additive, paired};

fn record(segments: Segments) -> DiffSegRecord {
    named("image", &[("uniform", segments)])
}

fn named(id: &str, methods: &[(&str, Segments)]) -> DiffSegRecord {
    let methods: BTreeMap<&str, &Segments> =
        methods.iter().map(|(name, segments)| (*name, segments)).collect();
    serde_json::from_value(json!({ "id": id, "sha256": "", "methods": methods })).unwrap()
}

fn segments(proposals: usize, overlap: &[(u16, u32, u64)], labelled: u64, found: u64) -> Segments {
    Segments { proposals, overlap: overlap.to_vec(), boundary: Boundary { labelled, found } }
}

fn value(metric: DiffSegMetric, classes: &Classes, records: &[DiffSegRecord]) -> Option<f64> {
    metric.over(classes).value_over(records, "uniform")
}

fn values(classes: usize, records: &[DiffSegRecord]) -> [Option<f64>; 8] {
    DiffSegMetric::ALL.map(|metric| value(metric, &Classes::all(classes), records))
}

#[test]
fn sums_come_before_ratios() {
    let records = [
        // Class 0 is segment 0, class 1 is cut into segments 1 and 2; segment 2 goes to class 2, which does not occur.
        record(segments(3, &[(0, 0, 50), (1, 1, 30), (1, 2, 20)], 10, 10)),
        record(segments(2, &[(0, 0, 8), (0, 1, 2), (2, 1, 10)], 30, 10)),
    ];
    let [accuracy, class, image, miou, order_free, index, recall, proposals] = values(3, &records);
    assert_eq!(accuracy, Some(98.0 / 120.0));
    assert_relative_eq!(class.unwrap(), (58.0 / 60.0 + 30.0 / 50.0 + 1.0) / 3.0);
    assert_relative_eq!(image.unwrap(), (0.8 + 0.9) / 2.0);
    // Class 2 has 10 right pixels; its union also has the 20 of the left-over segment in the first image and 2 in the second.
    assert_relative_eq!(miou.unwrap(), (58.0 / 60.0 + 0.6 + 10.0 / 32.0) / 3.0);
    assert_relative_eq!(order_free.unwrap(), (58.0 / 60.0 + 0.6 + 10.0 / 12.0) / 3.0);
    assert_eq!((recall, proposals), (Some(0.5), Some(2.5)));
    let indices =
        records.iter().map(|record| adjusted_rand_index(&record.methods["uniform"].overlap).unwrap());
    assert_relative_eq!(index.unwrap(), indices.sum::<f64>() / 2.0, epsilon = 1e-15);
}

#[test]
fn a_class_with_only_left_over_segments_counts_in_miou_but_not_order_free() {
    let records = [record(segments(2, &[(0, 0, 6), (0, 1, 2)], 0, 0))];
    let [_, class, _, miou, order_free, _, recall, _] = values(2, &records);
    assert_eq!((miou, order_free, class, recall), (Some(0.375), Some(0.75), Some(0.75), None));
}

/// Custom masks whose pixels are 5, 7 or ignored: there is no background, so the background must not take a segment.
#[test]
fn a_class_that_no_pixel_has_takes_no_segment() {
    let records = [
        record(segments(4, &[(1, 0, 40), (1, 2, 15), (2, 1, 30), (2, 3, 15)], 0, 0)),
        record(segments(3, &[(1, 0, 50), (2, 1, 20), (2, 2, 30)], 0, 0)),
    ];
    let masks: DatasetConfig =
        serde_json::from_value(json!({ "masks": { "root": "x", "ignore": 0 } })).unwrap();
    let published: DatasetConfig = serde_json::from_value(json!({ "coco-stuff": { "root": "x" } })).unwrap();
    assert_eq!(Classes::of(&masks, 3, &records).iter().collect::<Vec<_>>(), [1, 2]);
    assert_eq!(Classes::of(&published, 27, &records), Classes::all(27));

    let of = |metric, classes: &Classes| value(metric, classes, &records);
    // By hand: 40 + 50 of 105 pixels of class 1, 30 + 30 of 95 of class 2, no false positives.
    let (present, all) = (Classes::of(&masks, 3, &records), Classes::all(3));
    let miou = of(DiffSegMetric::Miou, &present).unwrap();
    assert_relative_eq!(miou, (90.0 / 105.0 + 60.0 / 95.0) / 2.0);
    // With the absent class, an IoU of 0 counts.
    assert!(of(DiffSegMetric::Miou, &all).unwrap() < miou);
    for metric in [DiffSegMetric::Accuracy, DiffSegMetric::MiouOrderFree] {
        assert_eq!(of(metric, &present), of(metric, &all));
    }
}

#[test]
fn images_without_labels_do_not_count() {
    let empty = record(segments(4, &[], 0, 0));
    let seen = record(segments(4, &[(0, 0, 3), (1, 0, 1)], 2, 1));
    assert_eq!(
        values(3, std::slice::from_ref(&empty)),
        [None, None, None, None, None, None, None, Some(4.0)]
    );
    assert_eq!(values(3, std::slice::from_ref(&seen)), values(3, &[seen, empty]));
}

#[test]
fn names_are_those_of_results() {
    for metric in DiffSegMetric::ALL {
        assert_eq!(serde_json::to_value(metric).unwrap(), metric.to_string());
    }
}

#[test]
fn methods_are_compared_on_the_same_images() {
    let image = |item: u64| {
        let cut = segments(3, &[(0, 0, 40 + item), (0, 2, 20), (1, 1, 40)], 10, 4);
        let whole = segments(2, &[(0, 0, 60 + item), (1, 1, 40)], 10, 6);
        named(&item.to_string(), &[("uniform", cut), ("tokenrank", whole)])
    };
    let records: Vec<DiffSegRecord> = (0..20).map(image).collect();
    for metric in DiffSegMetric::ALL {
        let found = paired(&records, "tokenrank", "uniform", &metric.over(&Classes::all(3)), 100, 1).unwrap();
        let better = metric != DiffSegMetric::Proposals;
        let (low, high) = found.interval().map(|one| (one.low(), one.high())).unwrap();
        assert!(low <= found.value() && found.value() <= high, "{metric}: {found:?}");
        assert_eq!(low > 0.0, better, "{metric}: {found:?}");
    }
    let message = paired(&records, "random", "uniform", &DiffSegMetric::Miou.over(&Classes::all(3)), 10, 1)
        .unwrap_err();
    assert!(message.to_string().contains("`random`"), "{message}");
}

fn any_segments() -> impl Strategy<Value = Segments> {
    let pairs = prop::collection::btree_map((0_u16..5, 0_u32..8), 1_u64..60, 0..14);
    (pairs, 0_usize..9, 0_u64..40, 0_u64..40).prop_map(|(pairs, proposals, found, missed)| {
        let overlap: Vec<_> = pairs.into_iter().map(|((class, segment), n)| (class, segment, n)).collect();
        segments(proposals, &overlap, found + missed, found)
    })
}

fn any_record() -> impl Strategy<Value = DiffSegRecord> {
    any_segments().prop_map(record)
}

proptest! {
    #[test]
    fn the_order_of_records_does_not_matter(
        (records, shuffled) in prop::collection::vec(any_record(), 1..20)
            .prop_flat_map(|records| (Just(records.clone()), Just(records).prop_shuffle())),
    ) {
        prop_assert_eq!(values(4, &records), values(4, &shuffled));
    }

    #[test]
    fn pixels_are_counted_once_as_right_or_missed(segments in any_segments(), classes in 1_usize..7) {
        let matched = Matched::of(&segments, &Classes::all(classes));
        let labelled: u64 = segments.overlap.iter().map(|pair| pair.2).sum();
        prop_assert_eq!(matched.labelled, labelled);
        prop_assert_eq!(matched.classes.iter().map(|class| class.labelled()).sum::<u64>(), labelled);
        for (tally, segment) in matched.classes.iter().zip(&matched.segments) {
            prop_assert_eq!(segment.is_some(), tally.true_positives > 0);
            prop_assert!(tally.idle_positives == 0 || tally.idle_positives == tally.false_positives);
        }
    }
}

#[test]
fn alpha_is_idle_unless_a_method_ranks() {
    let notes = |methods: serde_json::Value| {
        let task = json!({ "diffseg": { "methods": methods, "alpha": 0.5 } });
        Idle::notes(&idle(&serde_json::from_value(task).expect("a task"))).expect("no contradiction")
    };
    let [note] = &notes(json!(["uniform", "random", "column-sum"]))[..] else { panic!("one note") };
    assert!(note.starts_with("task.diffseg.alpha = 0.5 has no effect"), "{note}");
    assert!(notes(json!(["uniform", "tokenrank"])).is_empty());
}
