//! Metrics of segmentation without prompts, where segments have no names.

use std::fmt;

use ndarray::Array2;
use serde::{Deserialize, Serialize};
use tasks::diffseg::{DiffSegRecord, Segments};

use super::classes::Classes;
use super::matched::{Matched, Tally};
use super::rand_index::adjusted_rand_index;
use crate::experiments::measure::Measure;
use crate::experiments::spec::{Better, MetricSpec, Noise, PaperColumn, Unit};
use crate::metrics::bootstrap::{Additive, BootstrapError, Formula};
use crate::metrics::clusters::Clusters;
use crate::metrics::exact::{exact_sum, exact_sums};

/// A metric of segmentation without prompts. Each image's segments are matched to its classes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DiffSegMetric {
    /// Fraction of the labelled pixels of all images that lie in the segment of their class: DiffSeg's ACC.
    Accuracy,
    /// Mean over the classes of the fraction of their pixels, over all images, that lie in the segment of their class: the
    /// other possible meaning of "mACC".
    ClassAccuracy,
    /// Mean over the images of the fraction of their labelled pixels that lie in the segment of their class.
    ImageAccuracy,
    /// Mean over the classes of TP / (TP + FP + FN), each summed over the images. Classes that an image does not show get
    /// left-over segments, in SciPy's order, as in DiffSeg's evaluation: their pixels are false positives.
    Miou,
    /// Like [`Miou`](Self::Miou), but segments that share no pixel with their class do not count, so that the value does not
    /// depend on which class gets a left-over segment. Between two segments that share equally many pixels with a class, SciPy's
    /// order still decides.
    MiouOrderFree,
    /// Mean over the images of the adjusted Rand index between segments and classes, which penalises over-segmentation.
    AdjustedRandIndex,
    /// Fraction of the pixels on boundaries of classes that have a boundary of segments nearby.
    BoundaryRecall,
    /// Mean number of segments of an image.
    Proposals,
}

impl DiffSegMetric {
    /// All metrics, in the order of results and tables.
    pub const ALL: [Self; 8] = [
        Self::Accuracy,
        Self::ClassAccuracy,
        Self::ImageAccuracy,
        Self::Miou,
        Self::MiouOrderFree,
        Self::AdjustedRandIndex,
        Self::BoundaryRecall,
        Self::Proposals,
    ];

    /// Returns the description of the metric for the shared code.
    pub fn spec(self) -> MetricSpec {
        let published = |column, spec| MetricSpec { column: PaperColumn::Named(column), ..spec };
        let alone = |spec| MetricSpec { compared: false, ..spec };
        // One segment more or less in one image moves these; the last is moved by one in each of two images.
        let of_segments = |item, spec| MetricSpec { noise: Noise { item, ..Noise::FRACTION }, ..spec };
        match self {
            // The paper's mACC for a uniform grid equals DiffSeg's published fraction of right pixels.
            Self::Accuracy => published("mACC", MetricSpec::percent("accuracy", "pixel acc")),
            Self::ClassAccuracy => alone(MetricSpec::percent("class-accuracy", "class acc")),
            Self::ImageAccuracy => {
                MetricSpec { in_table: false, ..alone(MetricSpec::percent("image-accuracy", "image acc")) }
            }
            Self::Miou => published("mIoU", MetricSpec::percent("miou", "mIoU")),
            Self::MiouOrderFree => MetricSpec::percent("miou-order-free", "mIoU, order-free"),
            Self::AdjustedRandIndex => of_segments(0.24, MetricSpec::percent("adjusted-rand-index", "ARI")),
            Self::BoundaryRecall => {
                of_segments(0.24, MetricSpec::percent("boundary-recall", "boundary recall"))
            }
            Self::Proposals => MetricSpec {
                unit: Unit::Plain,
                better: Better::Neither,
                ..alone(of_segments(2.0, MetricSpec::percent("proposals", "segments")))
            },
        }
    }

    /// Returns the metric over images whose segments are matched to these classes.
    pub fn over(self, classes: &Classes) -> OverClasses {
        OverClasses { metric: self, classes: classes.clone() }
    }
}

/// Returns all metrics over images whose segments are matched to these classes.
pub fn measures(classes: &Classes) -> Vec<Measure<DiffSegRecord>> {
    DiffSegMetric::ALL.map(|metric| Measure::new(metric.spec(), metric.over(classes))).into()
}

impl fmt::Display for DiffSegMetric {
    /// Writes the name of the metric in results.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.spec().key)
    }
}

/// A metric together with the classes that segments are matched to: [`DiffSegMetric::over`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OverClasses {
    /// The metric.
    pub metric: DiffSegMetric,
    /// The classes.
    pub classes: Classes,
}

impl OverClasses {
    /// Returns the pairs of part and whole that an image adds: one pair, or one per class.
    fn pairs(&self, segments: &Segments) -> Vec<(f64, f64)> {
        let matched = || Matched::of(segments, &self.classes);
        let by_class = |whole: fn(Tally) -> u64| -> Vec<(f64, f64)> {
            let pair = |class: Tally| (class.true_positives as f64, whole(class) as f64);
            matched().classes.into_iter().map(pair).collect()
        };
        let mean = |value: Option<f64>| vec![value.map_or((0.0, 0.0), |value| (value, 1.0))];
        match self.metric {
            DiffSegMetric::ClassAccuracy => by_class(Tally::labelled),
            DiffSegMetric::Miou => by_class(Tally::union),
            DiffSegMetric::MiouOrderFree => by_class(Tally::overlapping_union),
            DiffSegMetric::Accuracy => {
                let matched = matched();
                vec![(matched.correct() as f64, matched.labelled as f64)]
            }
            DiffSegMetric::ImageAccuracy => {
                let matched = matched();
                mean(fraction(matched.correct() as f64, matched.labelled as f64))
            }
            DiffSegMetric::AdjustedRandIndex => mean(adjusted_rand_index(&segments.overlap)),
            DiffSegMetric::BoundaryRecall => {
                vec![(segments.boundary.found as f64, segments.boundary.labelled as f64)]
            }
            DiffSegMetric::Proposals => mean(Some(segments.proposals as f64)),
        }
    }
}

impl Additive for OverClasses {
    type Record = DiffSegRecord;

    fn contributions(&self, records: &[DiffSegRecord], method: &str) -> Result<Array2<f64>, BootstrapError> {
        let missing = |record: &DiffSegRecord| BootstrapError::Missing {
            method: method.to_owned(),
            item: record.id.clone(),
        };
        let pairs: Vec<Vec<(f64, f64)>> = records
            .iter()
            .map(|record| {
                record.methods.get(method).map(|found| self.pairs(found)).ok_or_else(|| missing(record))
            })
            .collect::<Result<_, _>>()?;
        // An image with labels beyond the classes has more pairs than others.
        let most = pairs.iter().map(Vec::len).max().unwrap_or(1);
        Ok(Array2::from_shape_fn((pairs.len(), 2 * most), |(item, column)| {
            let (part, whole) = pairs[item].get(column / 2).copied().unwrap_or_default();
            if column % 2 == 0 { part } else { whole }
        }))
    }

    fn formula(&self) -> Formula {
        Formula::Ratios
    }

    fn clusters(&self, records: &[DiffSegRecord]) -> Clusters {
        images(records)
    }

    /// Averages half the adjusted Rand index plus one half, as in all results so far: the last digit of the mean depends on
    /// this.
    fn value_over(&self, records: &[DiffSegRecord], method: &str) -> Option<f64> {
        let sums = exact_sums(self.contributions(records, method).ok()?.view());
        if self.metric != DiffSegMetric::AdjustedRandIndex {
            return self.formula().value(&sums);
        }
        let index = |record: &DiffSegRecord| adjusted_rand_index(&record.methods.get(method)?.overlap);
        let halves = exact_sum(records.iter().filter_map(index).map(|index| index.midpoint(1.0)));
        Some(2.0 * fraction(halves, sums[1])? - 1.0)
    }
}

/// Returns which records are of one image: those with equal hashes of the image, if all have one; otherwise every record is.
pub(super) fn images(records: &[DiffSegRecord]) -> Clusters {
    let hashes: Option<Vec<&str>> = records.iter().map(|record| record.image_sha256.as_deref()).collect();
    hashes.map_or_else(|| Clusters::singles(records.len()), Clusters::of)
}

/// Returns a part as a fraction of a whole; `None` if the whole is 0.
pub(super) fn fraction(part: f64, of: f64) -> Option<f64> {
    (of > 0.0).then(|| part / of)
}
