//! Accuracy, IoU and average precision of segmentation.

use std::collections::BTreeSet;
use std::fmt;

use ndarray::Array2;
use serde::{Deserialize, Serialize};
use tasks::segment::{ClassCounts, MapScore, SegmentRecord};

use crate::experiments::measure::Measure;
use crate::experiments::spec::{MetricSpec, PaperColumn};
use crate::metrics::bootstrap::{Additive, BootstrapError, Formula};
use crate::metrics::clusters::Clusters;

/// A metric of segmentation, between 0 and 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SegmentMetric {
    /// Fraction of the labelled pixels of all images whose class is right.
    Accuracy,
    /// Mean intersection over union of the classes that some pixel has, intersections and unions summed over the images first. A
    /// class that is predicted but that no pixel of any image has, such as the background if everything except objects is ignored,
    /// does not count.
    Miou,
    /// `acc / (2 − acc)`, the "mIoU" of ConceptAttention's published evaluation. It histograms the two complementary
    /// channels of mask and labels without an argmax, so that each pixel counts in both bins: either class then has all
    /// right pixels as intersection and `2·all − right` as union. For two classes only.
    MiouIdentity,
    /// Mean over the images of average precision, both channels pooled.
    Map,
    /// Mean of average precision of the foreground over the images that have some.
    MapForeground,
}

impl SegmentMetric {
    /// All metrics, in the order of results and tables.
    pub const ALL: [Self; 5] =
        [Self::Accuracy, Self::Miou, Self::MiouIdentity, Self::Map, Self::MapForeground];

    /// Returns the description of the metric for the shared code.
    pub fn spec(self) -> MetricSpec {
        let published = |column, spec| MetricSpec { column: PaperColumn::Named(column), ..spec };
        let alone = |spec| MetricSpec { compared: false, ..spec };
        match self {
            Self::Accuracy => published("Acc", MetricSpec::percent("accuracy", "Acc")),
            Self::Miou => published("mIoU", MetricSpec::percent("miou", "mIoU")),
            Self::MiouIdentity => alone(MetricSpec::percent("miou-identity", "acc/(2−acc)")),
            Self::Map => published("mAP", MetricSpec::percent("map", "mAP")),
            Self::MapForeground => alone(MetricSpec::percent("map-foreground", "AP of the object")),
        }
    }
}

/// Returns all metrics.
pub fn measures() -> Vec<Measure<SegmentRecord>> {
    SegmentMetric::ALL.map(|metric| Measure::new(metric.spec(), metric)).into()
}

impl fmt::Display for SegmentMetric {
    /// Writes the name of the metric in results.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.spec().key)
    }
}

impl Additive for SegmentMetric {
    type Record = SegmentRecord;

    /// Returns pairs of part and whole: one pair, or one per class for [`SegmentMetric::Miou`].
    fn contributions(&self, records: &[SegmentRecord], method: &str) -> Result<Array2<f64>, BootstrapError> {
        let missing = |record: &SegmentRecord| BootstrapError::Missing {
            method: method.to_owned(),
            item: record.id.clone(),
        };
        let scores: Vec<&MapScore> = records
            .iter()
            .map(|record| record.methods.get(method).ok_or_else(|| missing(record)))
            .collect::<Result<_, _>>()?;
        let labelled = |(&class, counts): (&u8, &ClassCounts)| (counts.labelled > 0).then_some(class);
        let classes: BTreeSet<u8> =
            scores.iter().flat_map(|score| score.classes.iter().filter_map(labelled)).collect();
        let two_classes = scores.iter().all(|score| score.classes.keys().all(|&class| class <= 1));
        let pair = |index: usize, score: &MapScore| -> (f64, f64) {
            let average = |ap: Option<f64>| ap.map_or((0.0, 0.0), |ap| (ap, 1.0));
            match self {
                Self::Miou => {
                    let class = classes.iter().nth(index).and_then(|class| score.classes.get(class));
                    let counts = class.copied().unwrap_or_default();
                    (counts.intersection as f64, counts.union() as f64)
                }
                Self::MiouIdentity if !two_classes => (0.0, 0.0),
                Self::Accuracy | Self::MiouIdentity => (score.correct as f64, score.labelled as f64),
                Self::Map => average(score.pooled_ap),
                Self::MapForeground => average(score.foreground_ap),
            }
        };
        let pairs = if *self == Self::Miou { classes.len() } else { 1 };
        Ok(Array2::from_shape_fn((scores.len(), 2 * pairs), |(item, column)| {
            let (part, whole) = pair(column / 2, scores[item]);
            if column % 2 == 0 { part } else { whole }
        }))
    }

    fn formula(&self) -> Formula {
        if *self == Self::MiouIdentity { Formula::Identity } else { Formula::Ratios }
    }

    fn clusters(&self, records: &[SegmentRecord]) -> Clusters {
        images(records)
    }
}

/// Returns which records are of one image: those with equal hashes of the image or, if some record lacks the hash, with equal names
/// of the image.
pub(super) fn images(records: &[SegmentRecord]) -> Clusters {
    let hashes: Option<Vec<&str>> = records.iter().map(|record| record.image_sha256.as_deref()).collect();
    Clusters::of(hashes.unwrap_or_else(|| records.iter().map(SegmentRecord::image).collect()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use approx::assert_relative_eq;
    use proptest::prelude::*;

    /// Makes a score from rows of (class, intersection, predicted, labelled).
    fn score(classes: &[(u8, u64, u64, u64)], aps: [Option<f64>; 2]) -> MapScore {
        MapScore {
            classes: classes
                .iter()
                .map(|&(class, intersection, predicted, labelled)| {
                    (class, ClassCounts { intersection, predicted, labelled })
                })
                .collect(),
            correct: classes.iter().map(|class| class.1).sum(),
            labelled: classes.iter().map(|class| class.3).sum(),
            pooled_ap: aps[0],
            foreground_ap: aps[1],
        }
    }

    fn record(score: MapScore) -> SegmentRecord {
        SegmentRecord {
            id: String::new(),
            sha256: String::new(),
            image_sha256: None,
            names: Vec::new(),
            methods: BTreeMap::from([("bounce".to_owned(), score)]),
            maps: None,
        }
    }

    /// Returns the value of every metric, in the order of [`SegmentMetric::ALL`].
    fn values(records: &[SegmentRecord]) -> [Option<f64>; 5] {
        SegmentMetric::ALL.map(|metric| metric.value_over(records, "bounce"))
    }

    #[test]
    fn sums_come_before_ratios() {
        let records = [
            record(score(&[(0, 6, 7, 8), (1, 1, 3, 2)], [Some(0.75), Some(0.5)])),
            record(score(&[(0, 30, 30, 30)], [Some(1.0), None])),
        ];
        let [accuracy, miou, identity, map, map_foreground] = values(&records);
        assert_eq!(accuracy, Some(37.0 / 40.0));
        assert_relative_eq!(miou.unwrap(), (36.0 / 39.0 + 0.25) / 2.0);
        assert_relative_eq!(identity.unwrap(), 37.0 / 43.0);
        assert_eq!((map, map_foreground), (Some(0.875), Some(0.5)));
    }

    #[test]
    fn the_identity_gives_the_published_miou_from_the_published_accuracy() {
        let identity = Formula::Identity.value(&[0.8307, 1.0]);
        assert_relative_eq!(identity.unwrap(), 0.7104, epsilon = 5e-5);
    }

    #[test]
    fn several_classes_have_no_identity_and_absent_ones_no_iou() {
        let records = [record(score(&[(0, 5, 5, 6), (7, 2, 3, 2), (9, 0, 0, 0)], [None, None]))];
        let [_, miou, identity, map, map_foreground] = values(&records);
        assert_relative_eq!(miou.unwrap(), (5.0 / 6.0 + 2.0 / 3.0) / 2.0);
        assert_eq!((identity, map, map_foreground), (None, None, None));
    }

    #[test]
    fn a_class_that_no_pixel_has_does_not_count() {
        // Everything except the object is ignored, so there is no background, although it was predicted.
        let records = [
            record(score(&[(0, 0, 10, 0), (1, 30, 30, 40)], [None, None])),
            record(score(&[(0, 0, 5, 0), (1, 55, 55, 60)], [None, None])),
        ];
        assert_eq!(SegmentMetric::Miou.value_over(&records, "bounce"), Some(0.85));
    }

    #[test]
    fn objects_of_one_image_belong_together() {
        let object = |id: &str, name: &str, hash: Option<&str>| SegmentRecord {
            id: id.to_owned(),
            names: vec![name.to_owned()],
            image_sha256: hash.map(str::to_owned),
            ..record(MapScore::default())
        };
        let numbers = |records: &[SegmentRecord]| images(records).of_items().to_vec();
        // Two files with the same bytes show the same photograph.
        let hashed = [
            ("a.jpg:dog", "dog", "1"),
            ("b.jpg:dog", "dog", "2"),
            ("a.jpg:cat", "cat", "1"),
            ("c.jpg:cat", "cat", "2"),
        ]
        .map(|(id, name, hash)| object(id, name, Some(hash)));
        assert_eq!(numbers(&hashed), [0, 1, 0, 1]);
        // Records of an earlier version have names only.
        let mut named = hashed.clone();
        named[1].image_sha256 = None;
        assert_eq!(numbers(&named), [0, 1, 0, 2]);
        // Names of other data sets are kept whole.
        let whole =
            [object("2007:1", "dog", None), object("2007:2", "dog", None), object("dog", "dog", None)];
        assert_eq!(numbers(&whole), [0, 1, 2]);
    }

    fn any_record() -> impl Strategy<Value = SegmentRecord> {
        let class = (0_u8..3, 0_u64..50, 0_u64..50, 0_u64..50)
            .prop_map(|(class, both, predicted, labelled)| (class, both, both + predicted, both + labelled));
        (prop::collection::vec(class, 0..4), prop::option::of(0.0..=1.0), prop::option::of(0.0..=1.0))
            .prop_map(|(classes, pooled, foreground)| record(score(&classes, [pooled, foreground])))
    }

    proptest! {
        #[test]
        fn the_order_of_records_does_not_matter(
            (records, shuffled) in prop::collection::vec(any_record(), 1..30)
                .prop_flat_map(|records| (Just(records.clone()), Just(records).prop_shuffle())),
        ) {
            prop_assert_eq!(values(&records), values(&shuffled));
        }
    }
}
