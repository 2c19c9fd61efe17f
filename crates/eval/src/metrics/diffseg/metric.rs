//! The metrics by themselves, for tables and for paired differences between methods.

use std::fmt;

use ndarray::Array2;
use serde::{Deserialize, Serialize};
use tasks::diffseg::{DiffSegRecord, Segments};

use super::super::bootstrap::{Additive, BootstrapError, Formula};
use super::{Classes, DiffSegScores, Matched, Tally, adjusted_rand_index, share};

/// A metric of segmentation without prompts, by itself; [`DiffSegScores`] has them all and says what they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DiffSegMetric {
    /// [`DiffSegScores::accuracy`].
    Accuracy,
    /// [`DiffSegScores::class_accuracy`].
    ClassAccuracy,
    /// [`DiffSegScores::image_accuracy`].
    ImageAccuracy,
    /// [`DiffSegScores::miou`].
    Miou,
    /// [`DiffSegScores::miou_order_free`].
    MiouOrderFree,
    /// [`DiffSegScores::adjusted_rand_index`].
    AdjustedRandIndex,
    /// [`DiffSegScores::boundary_recall`].
    BoundaryRecall,
    /// [`DiffSegScores::proposals`].
    Proposals,
}

impl DiffSegMetric {
    /// All of them.
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

    /// Its value among those of a method.
    pub fn of(self, scores: &DiffSegScores) -> Option<f64> {
        match self {
            Self::Accuracy => scores.accuracy,
            Self::ClassAccuracy => scores.class_accuracy,
            Self::ImageAccuracy => scores.image_accuracy,
            Self::Miou => scores.miou,
            Self::MiouOrderFree => scores.miou_order_free,
            Self::AdjustedRandIndex => scores.adjusted_rand_index,
            Self::BoundaryRecall => scores.boundary_recall,
            Self::Proposals => scores.proposals,
        }
    }

    /// Whether more is better; none for a number that is neither good nor bad.
    pub fn higher_is_better(self) -> Option<bool> {
        (self != Self::Proposals).then_some(true)
    }

    /// The metric over images whose segments are matched to these classes, as the bootstrap needs it.
    pub fn over(self, classes: &Classes) -> OverClasses {
        OverClasses { metric: self, classes: classes.clone() }
    }
}

impl fmt::Display for DiffSegMetric {
    /// The name of the metric in results.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Accuracy => "accuracy",
            Self::ClassAccuracy => "class-accuracy",
            Self::ImageAccuracy => "image-accuracy",
            Self::Miou => "miou",
            Self::MiouOrderFree => "miou-order-free",
            Self::AdjustedRandIndex => "adjusted-rand-index",
            Self::BoundaryRecall => "boundary-recall",
            Self::Proposals => "proposals",
        })
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
    /// Pairs of part and whole that an image adds: one pair, or one of each class.
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
                mean(share(matched.correct() as f64, matched.labelled as f64))
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
        // An image whose labels go beyond the classes has more pairs than others.
        let most = pairs.iter().map(Vec::len).max().unwrap_or(1);
        Ok(Array2::from_shape_fn((pairs.len(), 2 * most), |(item, column)| {
            let (part, whole) = pairs[item].get(column / 2).copied().unwrap_or_default();
            if column % 2 == 0 { part } else { whole }
        }))
    }

    fn formula(&self) -> Formula {
        Formula::Ratios
    }
}
