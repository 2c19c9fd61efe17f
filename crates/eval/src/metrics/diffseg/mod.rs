//! Metrics of segmentation without prompts, where segments have no names: each image's segments are matched to its
//! classes first.

mod classes;
mod image;
mod matching;
mod metric;
mod rand_index;

pub use classes::Classes;
pub use image::{Matched, Tally};
pub use matching::assign;
pub use metric::{DiffSegMetric, OverClasses};
pub use rand_index::adjusted_rand_index;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tasks::diffseg::{Boundary, DiffSegRecord, Segments};

use super::Metric;
use super::exact::ExactMean;

/// Sums behind the metrics, by method. Pixels are whole numbers and means are summed in units of 2⁻⁵³, so that merging is
/// exact in any order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiffSegMetrics {
    classes: Classes,
    items: u64,
    methods: BTreeMap<String, Totals>,
}

/// Sums over the images of one method.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Totals {
    images: u64,
    proposals: u64,
    labelled: u64,
    classes: Vec<Tally>,
    image_accuracy: ExactMean,
    /// Of half the index plus one half, which lies within 0…1.
    rand_index: ExactMean,
    boundary: Boundary,
}

/// The metrics of one method.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DiffSegScores {
    /// Share of the labelled pixels of all images that lie in the segment of their class: DiffSeg's ACC.
    pub accuracy: Option<f64>,
    /// Mean over the classes of the share of their pixels, over all images, that lie in the segment of their class: the
    /// other thing that "mACC" can mean.
    pub class_accuracy: Option<f64>,
    /// Mean over the images of the share of their labelled pixels that lie in the segment of their class.
    pub image_accuracy: Option<f64>,
    /// Mean over the classes of TP / (TP + FP + FN), each summed over the images. Classes that an image does not show get
    /// left-over segments, in SciPy's order, as in DiffSeg's evaluation: their pixels are false positives.
    pub miou: Option<f64>,
    /// The same where segments that share no pixel with their class count for nothing, so that it does not depend on
    /// which class gets a left-over segment. Of two segments that share equally many pixels with a class, SciPy's order
    /// still decides.
    pub miou_order_free: Option<f64>,
    /// Mean over the images of the adjusted Rand index between segments and classes, which sees over-segmentation.
    pub adjusted_rand_index: Option<f64>,
    /// Share of the pixels at boundaries of classes that have a boundary of segments nearby.
    pub boundary_recall: Option<f64>,
    /// Mean number of segments of an image.
    pub proposals: Option<f64>,
    /// TP / (TP + FP + FN) by class, as in [`miou`](Self::miou).
    pub iou: BTreeMap<usize, f64>,
}

impl DiffSegMetrics {
    /// No records yet, whose segments are matched to these classes. Those that no image shows count too: they take left-over
    /// segments.
    pub fn new(classes: Classes) -> Self {
        Self { classes, ..Self::default() }
    }

    /// Number of records.
    pub fn items(&self) -> u64 {
        self.items
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.classes.count()
    }
}

impl Metric for DiffSegMetrics {
    type Record = DiffSegRecord;
    type Values = BTreeMap<String, DiffSegScores>;

    fn add(&mut self, record: &DiffSegRecord) {
        self.items += 1;
        for (method, segments) in &record.methods {
            self.methods.entry(method.clone()).or_default().add(segments, &self.classes);
        }
    }

    /// Both must be of one dataset.
    fn merge(&mut self, other: Self) {
        self.classes.join(&other.classes);
        self.items += other.items;
        for (method, totals) in other.methods {
            self.methods.entry(method).or_default().merge(&totals);
        }
    }

    fn finish(&self) -> BTreeMap<String, DiffSegScores> {
        self.methods.iter().map(|(method, totals)| (method.clone(), totals.finish())).collect()
    }
}

impl Totals {
    fn add(&mut self, segments: &Segments, classes: &Classes) {
        let matched = Matched::of(segments, classes);
        self.images += 1;
        self.proposals += segments.proposals as u64;
        self.count(&matched.classes, matched.labelled, segments.boundary);
        let shared = share(matched.correct() as f64, matched.labelled as f64);
        shared.iter().for_each(|&share| self.image_accuracy.add(share));
        let index = adjusted_rand_index(&segments.overlap);
        index.iter().for_each(|index| self.rand_index.add(index.midpoint(1.0)));
    }

    fn merge(&mut self, other: &Self) {
        self.images += other.images;
        self.proposals += other.proposals;
        self.count(&other.classes, other.labelled, other.boundary);
        self.image_accuracy.merge(&other.image_accuracy);
        self.rand_index.merge(&other.rand_index);
    }

    fn count(&mut self, classes: &[Tally], labelled: u64, boundary: Boundary) {
        self.labelled += labelled;
        self.boundary.labelled += boundary.labelled;
        self.boundary.found += boundary.found;
        if self.classes.len() < classes.len() {
            self.classes.resize(classes.len(), Tally::default());
        }
        self.classes.iter_mut().zip(classes).for_each(|(mine, &theirs)| mine.merge(theirs));
    }

    fn finish(&self) -> DiffSegScores {
        let correct: u64 = self.classes.iter().map(|class| class.true_positives).sum();
        let shares = |whole: fn(Tally) -> u64| -> BTreeMap<usize, f64> {
            let of = |class: &Tally| share(class.true_positives as f64, whole(*class) as f64);
            self.classes.iter().enumerate().filter_map(|(index, class)| Some((index, of(class)?))).collect()
        };
        let mean = |shares: &BTreeMap<usize, f64>| share(shares.values().sum(), shares.len() as f64);
        let iou = shares(Tally::union);
        DiffSegScores {
            accuracy: share(correct as f64, self.labelled as f64),
            class_accuracy: mean(&shares(Tally::labelled)),
            image_accuracy: self.image_accuracy.mean(),
            miou: mean(&iou),
            miou_order_free: mean(&shares(Tally::overlapping_union)),
            adjusted_rand_index: self.rand_index.mean().map(|half| 2.0 * half - 1.0),
            boundary_recall: share(self.boundary.found as f64, self.boundary.labelled as f64),
            proposals: share(self.proposals as f64, self.images as f64),
            iou,
        }
    }
}

fn share(part: f64, of: f64) -> Option<f64> {
    (of > 0.0).then(|| part / of)
}

#[cfg(test)]
mod tests;
