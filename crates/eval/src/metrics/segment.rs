//! Accuracy, IoU and average precision of segmentation.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use ndarray::Array2;
use serde::{Deserialize, Serialize};
use tasks::segment::{ClassCounts, MapScore, SegmentRecord};

use super::Metric;
use super::bootstrap::{Additive, BootstrapError, Formula};
use super::exact::ExactMean;

/// Sums behind the metrics of segmentation, by method. Pixels are whole numbers and average precisions are summed in
/// units of 2⁻⁵³, so that merging is exact in any order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentMetrics {
    items: u64,
    methods: BTreeMap<String, Totals>,
}

/// Sums over the images of one method.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Totals {
    classes: BTreeMap<u8, ClassCounts>,
    correct: u64,
    labelled: u64,
    pooled_ap: ExactMean,
    foreground_ap: ExactMean,
}

/// The metrics of one method, as shares of 1.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MethodScores {
    /// Share of the labelled pixels of all images whose class is right.
    pub accuracy: Option<f64>,
    /// Mean over the classes of [`iou`](Self::iou).
    pub miou: Option<f64>,
    /// `acc / (2 − acc)` of [`accuracy`](Self::accuracy): what ConceptAttention's evaluation prints as mIoU, which is
    /// no IoU ([`SegmentMetric::MiouIdentity`]). None with more than two classes.
    pub miou_identity: Option<f64>,
    /// Mean over the images of average precision, both channels pooled.
    pub map: Option<f64>,
    /// Mean of average precision of the foreground over the images that have some.
    pub map_foreground: Option<f64>,
    /// Intersection over union of each class that some pixel has, both summed over all images. A class that was predicted and
    /// that no pixel of any image has, such as the background where all else is ignored, is none of the classes.
    pub iou: BTreeMap<u8, f64>,
}

impl SegmentMetrics {
    /// No records yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of records.
    pub fn items(&self) -> u64 {
        self.items
    }
}

impl Metric for SegmentMetrics {
    type Record = SegmentRecord;
    type Values = BTreeMap<String, MethodScores>;

    fn add(&mut self, record: &SegmentRecord) {
        self.items += 1;
        for (method, score) in &record.methods {
            self.methods.entry(method.clone()).or_default().add(score);
        }
    }

    fn merge(&mut self, other: Self) {
        self.items += other.items;
        for (method, totals) in other.methods {
            self.methods.entry(method).or_default().merge(&totals);
        }
    }

    fn finish(&self) -> BTreeMap<String, MethodScores> {
        self.methods.iter().map(|(method, totals)| (method.clone(), totals.finish())).collect()
    }
}

impl Totals {
    fn add(&mut self, score: &MapScore) {
        self.count(&score.classes, score.correct, score.labelled);
        score.pooled_ap.iter().for_each(|&ap| self.pooled_ap.add(ap));
        score.foreground_ap.iter().for_each(|&ap| self.foreground_ap.add(ap));
    }

    fn merge(&mut self, other: &Self) {
        self.count(&other.classes, other.correct, other.labelled);
        self.pooled_ap.merge(&other.pooled_ap);
        self.foreground_ap.merge(&other.foreground_ap);
    }

    fn count(&mut self, classes: &BTreeMap<u8, ClassCounts>, correct: u64, labelled: u64) {
        self.correct += correct;
        self.labelled += labelled;
        for (&class, counts) in classes {
            let mine = self.classes.entry(class).or_default();
            mine.intersection += counts.intersection;
            mine.predicted += counts.predicted;
            mine.labelled += counts.labelled;
        }
    }

    fn finish(&self) -> MethodScores {
        let accuracy = share(self.correct as f64, self.labelled as f64);
        let iou = |counts: &ClassCounts| share(counts.intersection as f64, counts.union() as f64);
        let iou: BTreeMap<u8, f64> = (self.classes.iter().filter(|(_, counts)| counts.labelled > 0))
            .filter_map(|(&class, counts)| Some((class, iou(counts)?)))
            .collect();
        MethodScores {
            accuracy,
            miou: share(iou.values().sum(), iou.len() as f64),
            miou_identity: if has_two_classes(&self.classes) { accuracy.map(identity) } else { None },
            map: self.pooled_ap.mean(),
            map_foreground: self.foreground_ap.mean(),
            iou,
        }
    }
}

fn share(part: f64, of: f64) -> Option<f64> {
    (of > 0.0).then(|| part / of)
}

fn identity(accuracy: f64) -> f64 {
    accuracy / (2.0 - accuracy)
}

fn has_two_classes(classes: &BTreeMap<u8, ClassCounts>) -> bool {
    classes.keys().all(|&class| class <= 1)
}

/// A metric of segmentation, by itself; [`MethodScores`] has them all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SegmentMetric {
    /// Share of the labelled pixels whose class is right.
    Accuracy,
    /// Mean intersection over union of the classes, intersections and unions summed over the images first.
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
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Accuracy, Self::Miou, Self::MiouIdentity, Self::Map, Self::MapForeground];

    /// Its value among those of a method.
    pub fn of(self, scores: &MethodScores) -> Option<f64> {
        match self {
            Self::Accuracy => scores.accuracy,
            Self::Miou => scores.miou,
            Self::MiouIdentity => scores.miou_identity,
            Self::Map => scores.map,
            Self::MapForeground => scores.map_foreground,
        }
    }
}

impl fmt::Display for SegmentMetric {
    /// The name of the metric in results.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Accuracy => "accuracy",
            Self::Miou => "miou",
            Self::MiouIdentity => "miou-identity",
            Self::Map => "map",
            Self::MapForeground => "map-foreground",
        })
    }
}

impl Additive for SegmentMetric {
    type Record = SegmentRecord;

    /// Pairs of part and whole: one pair, or one of each class for [`SegmentMetric::Miou`].
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
        let pair = |index: usize, score: &MapScore| -> (f64, f64) {
            let average = |ap: Option<f64>| ap.map_or((0.0, 0.0), |ap| (ap, 1.0));
            match self {
                Self::Miou => {
                    let class = classes.iter().nth(index).and_then(|class| score.classes.get(class));
                    let counts = class.copied().unwrap_or_default();
                    (counts.intersection as f64, counts.union() as f64)
                }
                Self::MiouIdentity if !has_two_classes(&score.classes) => (0.0, 0.0),
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_relative_eq;
    use proptest::prelude::*;

    /// A score from rows of (class, intersection, predicted, labelled).
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
            names: Vec::new(),
            methods: BTreeMap::from([("bounce".to_owned(), score)]),
            maps: None,
        }
    }

    fn gather(records: &[SegmentRecord]) -> SegmentMetrics {
        let mut metrics = SegmentMetrics::new();
        records.iter().for_each(|record| metrics.add(record));
        metrics
    }

    #[test]
    fn sums_come_before_ratios() {
        let records = [
            record(score(&[(0, 6, 7, 8), (1, 1, 3, 2)], [Some(0.75), Some(0.5)])),
            record(score(&[(0, 30, 30, 30)], [Some(1.0), None])),
        ];
        let scores = &gather(&records).finish()["bounce"];
        assert_eq!(scores.accuracy, Some(37.0 / 40.0));
        assert_eq!(scores.iou, BTreeMap::from([(0, 36.0 / 39.0), (1, 0.25)]));
        assert_relative_eq!(scores.miou.unwrap(), (36.0 / 39.0 + 0.25) / 2.0);
        assert_relative_eq!(scores.miou_identity.unwrap(), 37.0 / 43.0);
        assert_eq!((scores.map, scores.map_foreground), (Some(0.875), Some(0.5)));
    }

    #[test]
    fn the_identity_of_the_published_accuracy_is_the_published_miou() {
        assert_relative_eq!(identity(0.8307), 0.7104, epsilon = 5e-5);
    }

    #[test]
    fn several_classes_have_no_identity_and_absent_ones_no_iou() {
        let records = [record(score(&[(0, 5, 5, 6), (7, 2, 3, 2), (9, 0, 0, 0)], [None, None]))];
        let scores = &gather(&records).finish()["bounce"];
        assert_eq!(scores.iou.keys().copied().collect::<Vec<u8>>(), [0, 7]);
        assert_eq!((scores.miou_identity, scores.map, scores.map_foreground), (None, None, None));
        let sums = SegmentMetric::MiouIdentity.contributions(&records, "bounce").unwrap();
        assert_eq!(SegmentMetric::MiouIdentity.value(&sums.row(0).to_vec()), None);
    }

    #[test]
    fn a_class_that_no_pixel_has_is_none_of_the_classes() {
        // Everything but the object is ignored, so what was taken for background is no background.
        let records = [
            record(score(&[(0, 0, 10, 0), (1, 30, 30, 40)], [None, None])),
            record(score(&[(0, 0, 5, 0), (1, 55, 55, 60)], [None, None])),
        ];
        let scores = &gather(&records).finish()["bounce"];
        assert_eq!(scores.iou, BTreeMap::from([(1, 0.85)]));
        assert_eq!(scores.miou, Some(0.85));
        let sums = SegmentMetric::Miou.contributions(&records, "bounce").unwrap().sum_axis(ndarray::Axis(0));
        assert_eq!(SegmentMetric::Miou.value(&sums.to_vec()), Some(0.85));
    }

    fn any_record() -> impl Strategy<Value = SegmentRecord> {
        let class = (0_u8..3, 0_u64..50, 0_u64..50, 0_u64..50)
            .prop_map(|(class, both, predicted, labelled)| (class, both, both + predicted, both + labelled));
        (prop::collection::vec(class, 0..4), prop::option::of(0.0..=1.0), prop::option::of(0.0..=1.0))
            .prop_map(|(classes, pooled, foreground)| record(score(&classes, [pooled, foreground])))
    }

    proptest! {
        #[test]
        fn any_split_in_any_order_gives_the_same(
            (records, shuffled) in prop::collection::vec(any_record(), 1..30)
                .prop_flat_map(|records| (Just(records.clone()), Just(records).prop_shuffle())),
            at in 0_usize..30,
        ) {
            let at = at.min(records.len());
            let (whole, mut merged) = (gather(&records), gather(&shuffled[at..]));
            merged.merge(gather(&shuffled[..at]));
            prop_assert_eq!(&whole, &merged);
            prop_assert_eq!(whole.finish(), merged.finish());
            let text = serde_json::to_string(&whole).unwrap();
            prop_assert_eq!(serde_json::from_str::<SegmentMetrics>(&text).unwrap(), whole);
        }

        #[test]
        fn contributions_sum_to_the_metric(records in prop::collection::vec(any_record(), 1..30)) {
            let scores = &gather(&records).finish()["bounce"];
            let two = records.iter().all(|record| has_two_classes(&record.methods["bounce"].classes));
            for metric in SegmentMetric::ALL {
                if metric == SegmentMetric::MiouIdentity && !two {
                    continue;
                }
                let sums = metric.contributions(&records, "bounce").unwrap().sum_axis(ndarray::Axis(0));
                let (of_sums, wanted) = (metric.value(&sums.to_vec()), metric.of(scores));
                prop_assert_eq!(of_sums.is_some(), wanted.is_some());
                prop_assert!(of_sums.zip(wanted).is_none_or(|(a, b)| (a - b).abs() <= 1e-12), "{metric}");
            }
        }
    }
}
