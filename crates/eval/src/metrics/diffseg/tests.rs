use approx::assert_relative_eq;
use ndarray::Axis;
use proptest::prelude::*;
use serde_json::json;

use super::super::bootstrap::{Additive, paired};
use super::*;

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

fn gather(classes: usize, records: &[DiffSegRecord]) -> DiffSegMetrics {
    let mut metrics = DiffSegMetrics::new(classes);
    records.iter().for_each(|record| metrics.add(record));
    metrics
}

#[test]
fn sums_come_before_ratios() {
    let records = [
        // Class 0 whole in segment 0, class 1 in segments 1 and 2; segment 2 goes to class 2, which is not there.
        record(segments(3, &[(0, 0, 50), (1, 1, 30), (1, 2, 20)], 10, 10)),
        record(segments(2, &[(0, 0, 8), (0, 1, 2), (2, 1, 10)], 30, 10)),
    ];
    let scores = &gather(3, &records).finish()["uniform"];
    assert_eq!(scores.accuracy, Some(98.0 / 120.0));
    assert_relative_eq!(scores.class_accuracy.unwrap(), (58.0 / 60.0 + 30.0 / 50.0 + 1.0) / 3.0);
    assert_relative_eq!(scores.image_accuracy.unwrap(), (0.8 + 0.9) / 2.0);
    // Class 2 has 10 right pixels, the 20 of the left-over segment of the first image, and 2 of the second.
    assert_eq!(scores.iou, BTreeMap::from([(0, 58.0 / 60.0), (1, 0.6), (2, 10.0 / 32.0)]));
    assert_relative_eq!(scores.miou.unwrap(), (58.0 / 60.0 + 0.6 + 10.0 / 32.0) / 3.0);
    assert_relative_eq!(scores.miou_order_free.unwrap(), (58.0 / 60.0 + 0.6 + 10.0 / 12.0) / 3.0);
    assert_eq!((scores.boundary_recall, scores.proposals), (Some(0.5), Some(2.5)));
    let indices =
        records.iter().map(|record| adjusted_rand_index(&record.methods["uniform"].overlap).unwrap());
    assert_relative_eq!(scores.adjusted_rand_index.unwrap(), indices.sum::<f64>() / 2.0, epsilon = 1e-15);
}

#[test]
fn a_class_that_only_gets_left_overs_counts_in_one_miou_only() {
    let records = [record(segments(2, &[(0, 0, 6), (0, 1, 2)], 0, 0))];
    let scores = &gather(2, &records).finish()["uniform"];
    assert_eq!((scores.miou, scores.miou_order_free), (Some(0.375), Some(0.75)));
    assert_eq!((scores.class_accuracy, scores.boundary_recall), (Some(0.75), None));
}

#[test]
fn images_without_labels_have_no_say() {
    let empty = record(segments(4, &[], 0, 0));
    let scores = &gather(3, std::slice::from_ref(&empty)).finish()["uniform"];
    for metric in DiffSegMetric::ALL {
        let wanted = (metric == DiffSegMetric::Proposals).then_some(4.0);
        assert_eq!(metric.of(scores), wanted, "{metric}");
    }
    let seen = record(segments(4, &[(0, 0, 3), (1, 0, 1)], 2, 1));
    let (one, both) = (gather(3, std::slice::from_ref(&seen)), gather(3, &[seen, empty]));
    assert_eq!(one.finish(), both.finish());
}

#[test]
fn names_are_those_of_results() {
    for metric in DiffSegMetric::ALL {
        assert_eq!(serde_json::to_value(metric).unwrap(), metric.to_string());
    }
    assert_eq!(DiffSegMetric::Proposals.higher_is_better(), None);
    assert_eq!(DiffSegMetric::Miou.higher_is_better(), Some(true));
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
        let found = paired(&records, "tokenrank", "uniform", &metric.over(3), 100, 1).unwrap();
        let better = metric != DiffSegMetric::Proposals;
        let (low, high) = found.interval().map(|one| (one.low(), one.high())).unwrap();
        assert!(low <= found.value() && found.value() <= high, "{metric}: {found:?}");
        assert_eq!(low > 0.0, better, "{metric}: {found:?}");
    }
    let message = paired(&records, "random", "uniform", &DiffSegMetric::Miou.over(3), 10, 1).unwrap_err();
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
    fn any_split_in_any_order_gives_the_same(
        (records, shuffled) in prop::collection::vec(any_record(), 1..20)
            .prop_flat_map(|records| (Just(records.clone()), Just(records).prop_shuffle())),
        at in 0_usize..20,
    ) {
        let at = at.min(records.len());
        let (whole, mut merged) = (gather(4, &records), gather(4, &shuffled[at..]));
        merged.merge(gather(4, &shuffled[..at]));
        prop_assert_eq!(&whole, &merged);
        prop_assert_eq!(whole.finish(), merged.finish());
        let text = serde_json::to_string(&whole).unwrap();
        prop_assert_eq!(serde_json::from_str::<DiffSegMetrics>(&text).unwrap(), whole);
    }

    #[test]
    fn contributions_sum_to_the_metric(records in prop::collection::vec(any_record(), 1..20)) {
        let scores = &gather(4, &records).finish()["uniform"];
        for metric in DiffSegMetric::ALL {
            let over = metric.over(4);
            let sums = over.contributions(&records, "uniform").unwrap().sum_axis(Axis(0));
            let (of_sums, wanted) = (over.value(&sums.to_vec()), metric.of(scores));
            prop_assert_eq!(of_sums.is_some(), wanted.is_some());
            prop_assert!(of_sums.zip(wanted).is_none_or(|(a, b)| (a - b).abs() <= 1e-12), "{metric}");
        }
    }

    #[test]
    fn pixels_are_counted_once_as_right_or_missed(segments in any_segments(), classes in 1_usize..7) {
        let matched = Matched::of(&segments, classes);
        let labelled: u64 = segments.overlap.iter().map(|pair| pair.2).sum();
        prop_assert_eq!(matched.labelled, labelled);
        prop_assert_eq!(matched.classes.iter().map(|class| class.labelled()).sum::<u64>(), labelled);
        for (tally, segment) in matched.classes.iter().zip(&matched.segments) {
            prop_assert_eq!(segment.is_some(), tally.true_positives > 0);
            prop_assert!(tally.idle_positives == 0 || tally.idle_positives == tally.false_positives);
        }
    }
}
