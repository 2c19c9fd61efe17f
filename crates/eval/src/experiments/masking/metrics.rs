//! Accuracy while patches are masked, and the area under it.

use std::collections::BTreeMap;
use std::fmt;

use ndarray::Array2;
use tasks::masking::{ClassScore, Direction, MaskingConfig, MaskingRecord};

use crate::experiments::measure::Measure;
use crate::experiments::spec::{Better, Level, MetricSpec, Noise, PaperColumn, Unit};
use crate::metrics::bootstrap::{Additive, BootstrapError, Formula};
use crate::metrics::exact::exact_sums;

/// Counts from which the masking curves are computed. Integers, so that the order of the records does not matter.
#[derive(Debug, Clone, PartialEq)]
pub struct MaskingCurves {
    fractions: Vec<f64>,
    items: u64,
    right_unmasked: u64,
    methods: BTreeMap<String, Counts>,
}

/// Right answers of one method at each fraction.
#[derive(Debug, Clone, Default, PartialEq)]
struct Counts {
    right: Vec<u64>,
    /// Counts only images that were right before masking.
    still_right: Vec<u64>,
}

/// The curve of one method, with two definitions of its area.
#[derive(Debug, Clone, PartialEq)]
pub struct MethodCurve {
    /// Accuracy at each fraction of removed tokens.
    pub accuracy: Vec<f64>,
    /// Fraction of the images right before masking that are still right.
    pub still_right: Vec<f64>,
    /// Area under accuracy ÷ unmasked accuracy, divided by the range of fractions; `None` if no image was right before
    /// masking.
    pub auc: Option<f64>,
    /// Area under `still_right`, divided by the range of fractions; `None` if no image was right before masking.
    pub auc_still_right: Option<f64>,
}

impl MaskingCurves {
    /// Counts records; `fractions` are ascending.
    pub fn of(fractions: &[f64], records: &[MaskingRecord]) -> Self {
        let mut curves = Self::new(fractions.to_vec());
        records.iter().for_each(|record| curves.add(record));
        curves
    }

    /// Starts without records; `fractions` are ascending.
    pub fn new(fractions: Vec<f64>) -> Self {
        Self { fractions, items: 0, right_unmasked: 0, methods: BTreeMap::new() }
    }

    /// Returns the number of records.
    pub fn items(&self) -> u64 {
        self.items
    }

    /// Returns the number of images right before masking.
    pub fn right_unmasked(&self) -> u64 {
        self.right_unmasked
    }

    /// Returns the fractions of removed tokens.
    pub fn fractions(&self) -> &[f64] {
        &self.fractions
    }

    /// Returns the top-1 accuracy before masking; 0 without records.
    pub fn unmasked_accuracy(&self) -> f64 {
        fraction(self.right_unmasked, self.items)
    }

    /// Adds one record.
    pub fn add(&mut self, record: &MaskingRecord) {
        let before = record.unmasked == record.label;
        self.items += 1;
        self.right_unmasked += u64::from(before);
        for (method, predicted) in &record.predicted {
            let counts = self.methods.entry(method.clone()).or_default();
            counts.right.resize(self.fractions.len(), 0);
            counts.still_right.resize(self.fractions.len(), 0);
            for ((right, still), &class) in
                counts.right.iter_mut().zip(&mut counts.still_right).zip(predicted)
            {
                *right += u64::from(class == record.label);
                *still += u64::from(before && class == record.label);
            }
        }
    }

    /// Returns the curve of every method.
    pub fn finish(&self) -> BTreeMap<String, MethodCurve> {
        let unmasked = self.unmasked_accuracy();
        let fractions =
            |counts: &[u64], of: u64| counts.iter().map(|&n| fraction(n, of)).collect::<Vec<f64>>();
        let curve = |counts: &Counts| {
            let accuracy = fractions(&counts.right, self.items);
            let still_right = fractions(&counts.still_right, self.right_unmasked);
            let anything = self.right_unmasked > 0;
            MethodCurve {
                auc: anything.then(|| area_under(&self.fractions, &accuracy) / unmasked),
                auc_still_right: anything.then(|| area_under(&self.fractions, &still_right)),
                accuracy,
                still_right,
            }
        };
        self.methods.iter().map(|(method, counts)| (method.clone(), curve(counts))).collect()
    }
}

fn fraction(count: u64, of: u64) -> f64 {
    if of == 0 { 0.0 } else { count as f64 / of as f64 }
}

/// Returns the area under the points by the trapezoid rule, divided by the range of `x`: the mean height of the curve. `x` is
/// ascending and has as many values as `y`, at least two.
pub fn area_under(x: &[f64], y: &[f64]) -> f64 {
    let range = x.last().zip(x.first()).map_or(0.0, |(last, first)| last - first);
    let area: f64 = x.windows(2).zip(y.windows(2)).map(|(x, y)| (x[1] - x[0]) * (y[0] + y[1]) / 2.0).sum();
    area / range
}

/// Returns the area under the answers to one image, 1 for right and 0 for wrong: how long the right answer survives. `None` if the
/// record has no answers of the method.
pub fn item_area(record: &MaskingRecord, method: &str, fractions: &[f64]) -> Option<f64> {
    let right = record.predicted.get(method)?.iter().map(|&class| f64::from(u8::from(class == record.label)));
    Some(area_under(fractions, &right.collect::<Vec<_>>()))
}

/// What the area of a masking curve is taken of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AreaOf {
    /// Accuracy ÷ unmasked accuracy: [`MethodCurve::auc`].
    Accuracy,
    /// Accuracy over the images that were right before masking: [`MethodCurve::auc_still_right`].
    StillRight,
    /// Accuracy, without normalisation.
    Unnormalised,
    /// Probability of the class predicted before masking.
    Probability,
    /// Logit of the class predicted before masking.
    Logit,
}

/// A metric of masking.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MaskingMetric {
    /// Top-1 accuracy before masking: of the run, not of a method.
    UnmaskedAccuracy,
    /// Area under a curve over the fractions, divided by their range.
    Area(Direction, AreaOf),
    /// Mean over the fractions of how much the probability of the class predicted before masking falls if the most important patches are
    /// masked (DeYoung et al., arXiv 1911.03429).
    Comprehensiveness,
    /// Mean over the fractions of how much that probability falls if only the most important patches are visible.
    Sufficiency,
}

impl MaskingMetric {
    /// The metric of the paper's table.
    pub const AUC: Self = Self::Area(Direction::Deletion, AreaOf::Accuracy);
    /// The same over the images that were right before masking.
    pub const AUC_STILL_RIGHT: Self = Self::Area(Direction::Deletion, AreaOf::StillRight);

    /// Returns all metrics, in the order of results and tables.
    pub fn all() -> Vec<Self> {
        let areas = Direction::ALL.into_iter().flat_map(|direction| {
            let all = [
                AreaOf::Accuracy,
                AreaOf::StillRight,
                AreaOf::Unnormalised,
                AreaOf::Probability,
                AreaOf::Logit,
            ];
            all.map(|area| Self::Area(direction, area))
        });
        let others = [Self::Comprehensiveness, Self::Sufficiency];
        [Self::UnmaskedAccuracy].into_iter().chain(areas).chain(others).collect()
    }

    /// Returns the metrics of an experiment.
    fn of(task: &MaskingConfig) -> Vec<Self> {
        let direction = task.direction;
        let mut metrics = vec![
            Self::UnmaskedAccuracy,
            Self::Area(direction, AreaOf::Accuracy),
            Self::Area(direction, AreaOf::StillRight),
        ];
        if task.confidence {
            metrics.extend(
                [AreaOf::Unnormalised, AreaOf::Probability, AreaOf::Logit]
                    .map(|of| Self::Area(direction, of)),
            );
            match direction {
                Direction::Deletion => metrics.push(Self::Comprehensiveness),
                Direction::Insertion => metrics.push(Self::Sufficiency),
                Direction::LeastFirst => {}
            }
        }
        metrics
    }

    /// Returns the description of the metric for the shared code.
    pub fn spec(self) -> MetricSpec {
        match self {
            Self::UnmaskedAccuracy => MetricSpec {
                unit: Unit::Percent,
                digits: 1,
                level: Level::Run,
                // One image may be classified differently.
                noise: Noise::ITEM,
                ..MetricSpec::plain("unmasked-accuracy", "right before masking", Better::Higher)
            },
            Self::Area(direction, of) => area_spec(direction, of),
            Self::Comprehensiveness => {
                MetricSpec::plain("comprehensiveness", "comprehensiveness", Better::Higher)
            }
            Self::Sufficiency => MetricSpec::plain("sufficiency", "sufficiency", Better::Lower),
        }
    }

    /// Returns the metric over these fractions.
    pub fn over(self, fractions: &[f64]) -> OverFractions {
        OverFractions { metric: self, fractions: fractions.to_vec() }
    }
}

fn area_spec(direction: Direction, of: AreaOf) -> MetricSpec {
    let (key, title) = match (direction, of) {
        (Direction::Deletion, AreaOf::Accuracy) => ("auc", "AUC"),
        (Direction::Deletion, AreaOf::StillRight) => ("auc-still-right", "AUC, right before"),
        (Direction::Deletion, AreaOf::Unnormalised) => ("auc-unnormalised", "AUC, not normalised"),
        (Direction::Deletion, AreaOf::Probability) => ("auc-probability", "AUC of probability"),
        (Direction::Deletion, AreaOf::Logit) => ("auc-logit", "AUC of logit"),
        (Direction::LeastFirst, AreaOf::Accuracy) => ("least-first-auc", "least first: AUC"),
        (Direction::LeastFirst, AreaOf::StillRight) => {
            ("least-first-auc-still-right", "least first: AUC, right before")
        }
        (Direction::LeastFirst, AreaOf::Unnormalised) => {
            ("least-first-auc-unnormalised", "least first: AUC, not normalised")
        }
        (Direction::LeastFirst, AreaOf::Probability) => {
            ("least-first-auc-probability", "least first: AUC of probability")
        }
        (Direction::LeastFirst, AreaOf::Logit) => ("least-first-auc-logit", "least first: AUC of logit"),
        (Direction::Insertion, AreaOf::Accuracy) => ("insertion-auc", "insertion: AUC"),
        (Direction::Insertion, AreaOf::StillRight) => {
            ("insertion-auc-still-right", "insertion: AUC, right before")
        }
        (Direction::Insertion, AreaOf::Unnormalised) => {
            ("insertion-auc-unnormalised", "insertion: AUC, not normalised")
        }
        (Direction::Insertion, AreaOf::Probability) => {
            ("insertion-auc-probability", "insertion: AUC of probability")
        }
        (Direction::Insertion, AreaOf::Logit) => ("insertion-auc-logit", "insertion: AUC of logit"),
    };
    let better = match direction {
        Direction::Deletion => Better::Lower,
        Direction::LeastFirst | Direction::Insertion => Better::Higher,
    };
    let is_papers = MaskingMetric::Area(direction, of) == MaskingMetric::AUC;
    let column = if is_papers { PaperColumn::Filled } else { PaperColumn::No };
    MetricSpec { column, ..MetricSpec::plain(key, title, better) }
}

/// Returns the metrics of an experiment.
pub fn measures(task: &MaskingConfig) -> Vec<Measure<MaskingRecord>> {
    let fractions = task.fractions.values();
    let measure = |metric: MaskingMetric| Measure::new(metric.spec(), metric.over(&fractions));
    MaskingMetric::of(task).into_iter().map(measure).collect()
}

impl fmt::Display for MaskingMetric {
    /// Writes the name of the metric in results.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.spec().key)
    }
}

/// A metric together with the fractions: [`MaskingMetric::over`].
#[derive(Debug, Clone, PartialEq)]
pub struct OverFractions {
    /// The metric.
    pub metric: MaskingMetric,
    /// Fractions, ascending.
    pub fractions: Vec<f64>,
}

impl OverFractions {
    /// Returns what an image adds to the part and to the whole; `None` if the record lacks an answer.
    fn pair(&self, record: &MaskingRecord, method: &str) -> Option<(f64, f64)> {
        let before = record.unmasked == record.label;
        let area = || item_area(record, method, &self.fractions);
        let scores =
            || Some((record.confidence.as_ref()?.unmasked, record.confidence.as_ref()?.masked.get(method)?));
        let area_of = |of: fn(&ClassScore) -> f32| {
            let heights: Vec<f64> = scores()?.1.iter().map(|score| f64::from(of(score))).collect();
            Some(area_under(&self.fractions, &heights))
        };
        Some(match self.metric {
            MaskingMetric::UnmaskedAccuracy => (f64::from(u8::from(before)), 1.0),
            MaskingMetric::Area(_, AreaOf::Accuracy) => (area()?, f64::from(u8::from(before))),
            MaskingMetric::Area(_, AreaOf::StillRight) if before => (area()?, 1.0),
            MaskingMetric::Area(_, AreaOf::StillRight) => (0.0, 0.0),
            MaskingMetric::Area(_, AreaOf::Unnormalised) => (area()?, 1.0),
            MaskingMetric::Area(_, AreaOf::Probability) => (area_of(|score| score.probability)?, 1.0),
            MaskingMetric::Area(_, AreaOf::Logit) => (area_of(|score| score.logit)?, 1.0),
            MaskingMetric::Comprehensiveness | MaskingMetric::Sufficiency => {
                let (unmasked, masked) = scores()?;
                let fall =
                    |score: &ClassScore| f64::from(unmasked.probability) - f64::from(score.probability);
                (masked.iter().map(fall).sum::<f64>() / masked.len().max(1) as f64, 1.0)
            }
        })
    }
}

impl Additive for OverFractions {
    type Record = MaskingRecord;

    /// Returns a pair for each image; the metric is the ratio of the sums.
    fn contributions(&self, records: &[MaskingRecord], method: &str) -> Result<Array2<f64>, BootstrapError> {
        let mut pairs = Array2::zeros((records.len(), 2));
        for (mut pair, record) in pairs.rows_mut().into_iter().zip(records) {
            let missing = || BootstrapError::Missing { method: method.into(), item: record.id.clone() };
            (pair[0], pair[1]) = self.pair(record, method).ok_or_else(missing)?;
        }
        Ok(pairs)
    }

    fn formula(&self) -> Formula {
        Formula::Ratios
    }

    /// Computes areas of accuracy from the method's curve, whose counts are integers: the sums of
    /// [`contributions`](Self::contributions) give the same area except for the last digits.
    fn value_over(&self, records: &[MaskingRecord], method: &str) -> Option<f64> {
        let curves = || MaskingCurves::of(&self.fractions, records);
        let curve = || curves().finish().remove(method);
        match self.metric {
            MaskingMetric::UnmaskedAccuracy => {
                Some(curves()).filter(|curves| curves.items() > 0).map(|curves| curves.unmasked_accuracy())
            }
            MaskingMetric::Area(_, AreaOf::Accuracy) => curve()?.auc,
            MaskingMetric::Area(_, AreaOf::StillRight) => curve()?.auc_still_right,
            MaskingMetric::Area(_, AreaOf::Unnormalised | AreaOf::Probability | AreaOf::Logit)
            | MaskingMetric::Comprehensiveness
            | MaskingMetric::Sufficiency => {
                self.formula().value(&exact_sums(self.contributions(records, method).ok()?.view()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_relative_eq;
    use proptest::prelude::*;
    use tasks::masking::Confidence;

    fn record(label: usize, unmasked: usize, predicted: &[usize]) -> MaskingRecord {
        MaskingRecord {
            id: String::new(),
            sha256: String::new(),
            label,
            unmasked,
            predicted: BTreeMap::from([("tokenrank".to_owned(), predicted.to_vec())]),
            confidence: None,
            scores: None,
        }
    }

    #[test]
    fn areas_by_hand() {
        // Uneven steps: 0.25·(1 + 0.5)/2 + 0.5·(0.5 + 0)/2 over a range of 0.75.
        assert_relative_eq!(area_under(&[0.0, 0.25, 0.75], &[1.0, 0.5, 0.0]), 0.3125 / 0.75);
        assert_relative_eq!(area_under(&[0.1, 0.9], &[0.7, 0.7]), 0.7, max_relative = 1e-12);
    }

    #[test]
    fn the_two_areas_differ_if_masking_corrects_an_image() {
        let mut curves = MaskingCurves::new(vec![0.0, 0.5]);
        curves.add(&record(3, 3, &[3, 1]));
        curves.add(&record(3, 2, &[2, 3]));
        let curve = &curves.finish()["tokenrank"];
        assert_eq!(curve.accuracy, [0.5, 0.5]);
        assert_eq!(curve.still_right, [1.0, 0.0]);
        assert_eq!(curve.auc, Some(1.0));
        assert_eq!(curve.auc_still_right, Some(0.5));
    }

    #[test]
    fn without_a_right_image_there_is_no_area() {
        let mut curves = MaskingCurves::new(vec![0.0, 0.5]);
        curves.add(&record(3, 2, &[2, 3]));
        assert_eq!(curves.finish()["tokenrank"].auc, None);
    }

    /// Two images at the fractions 0, 0.5 and 1, worked out by hand.
    #[test]
    fn confidence_by_hand() {
        let score = |probability: f32, logit: f32| ClassScore { probability, logit };
        let of = |unmasked: ClassScore, masked: [ClassScore; 3], predicted: &[usize]| MaskingRecord {
            confidence: Some(Confidence {
                unmasked,
                masked: BTreeMap::from([("tokenrank".to_owned(), masked.to_vec())]),
            }),
            ..record(3, 3, predicted)
        };
        let records = [
            of(score(0.75, 4.0), [score(0.75, 4.0), score(0.5, 2.0), score(0.25, 0.0)], &[3, 3, 1]),
            of(score(1.0, 8.0), [score(1.0, 8.0), score(0.0, -8.0), score(0.0, -8.0)], &[3, 0, 0]),
        ];
        let value = |metric: MaskingMetric| metric.over(&[0.0, 0.5, 1.0]).value_over(&records, "tokenrank");
        let area = |of: AreaOf| value(MaskingMetric::Area(Direction::Insertion, of)).unwrap();
        // Accuracies 1, 0.5 and 0; all images were right before.
        assert_relative_eq!(area(AreaOf::Unnormalised), 0.5);
        assert_relative_eq!(area(AreaOf::Accuracy), 0.5);
        assert_relative_eq!(area(AreaOf::Probability), (0.5 + 0.25) / 2.0);
        assert_relative_eq!(area(AreaOf::Logit), (2.0 - 4.0) / 2.0);
        // Falls 0, 0.25, 0.5 and 0, 1, 1.
        for metric in [MaskingMetric::Comprehensiveness, MaskingMetric::Sufficiency] {
            assert_relative_eq!(value(metric).unwrap(), (0.25 + 2.0 / 3.0) / 2.0, max_relative = 1e-12);
        }
        // Records without confidence have no such value, and are named where methods are compared.
        let plain = [record(3, 3, &[3, 3, 1])];
        let metric = MaskingMetric::Comprehensiveness.over(&[0.0, 0.5, 1.0]);
        assert_eq!(metric.value_over(&plain, "tokenrank"), None);
        assert!(matches!(metric.contributions(&plain, "tokenrank"), Err(BootstrapError::Missing { .. })));
    }

    proptest! {
        #[test]
        fn contributions_of_items_give_the_metrics(
            answers in prop::collection::vec((0usize..3, 0usize..3, 0usize..3, 0usize..3), 1..40),
        ) {
            let records: Vec<_> =
                answers.iter().map(|&(label, before, a, b)| record(label, before, &[a, b, a])).collect();
            let fractions = [0.0, 0.5, 0.7];
            let mut curves = MaskingCurves::new(fractions.to_vec());
            records.iter().for_each(|record| curves.add(record));
            let curve = &curves.finish()["tokenrank"];
            let wanted = [Some(curves.unmasked_accuracy()), curve.auc, curve.auc_still_right];
            let metrics = [MaskingMetric::UnmaskedAccuracy, MaskingMetric::AUC, MaskingMetric::AUC_STILL_RIGHT];
            for (metric, wanted) in metrics.into_iter().zip(wanted) {
                let over = metric.over(&fractions);
                let sums = over.contributions(&records, "tokenrank").unwrap().sum_axis(ndarray::Axis(0));
                match (over.formula().value(&sums.to_vec()), wanted) {
                    (Some(ours), Some(wanted)) => prop_assert!((ours - wanted).abs() < 1e-12, "{metric}"),
                    (ours, wanted) => prop_assert_eq!(ours, wanted, "{}", metric),
                }
            }
        }
    }
}
