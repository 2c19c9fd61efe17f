//! Accuracy while tokens are removed, and the area under it.

use std::collections::BTreeMap;
use std::fmt;

use ndarray::Array2;
use tasks::masking::MaskingRecord;

use crate::experiments::measure::Measure;
use crate::experiments::spec::{Better, Level, MetricSpec, Noise, PaperColumn, Unit};
use crate::metrics::bootstrap::{Additive, BootstrapError, Formula};

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

/// A metric of masking.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MaskingMetric {
    /// Top-1 accuracy before masking: of the run, not of a method.
    UnmaskedAccuracy,
    /// [`MethodCurve::auc`].
    Auc,
    /// [`MethodCurve::auc_still_right`].
    AucStillRight,
}

impl MaskingMetric {
    /// All metrics, in the order of results and tables.
    pub const ALL: [Self; 3] = [Self::UnmaskedAccuracy, Self::Auc, Self::AucStillRight];

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
            Self::Auc => {
                MetricSpec { column: PaperColumn::Filled, ..MetricSpec::plain("auc", "AUC", Better::Lower) }
            }
            Self::AucStillRight => MetricSpec::plain("auc-still-right", "AUC, right before", Better::Lower),
        }
    }

    /// Returns the metric over these fractions of removed tokens.
    pub fn over(self, fractions: &[f64]) -> OverFractions {
        OverFractions { metric: self, fractions: fractions.to_vec() }
    }
}

/// Returns all metrics over these fractions of removed tokens.
pub fn measures(fractions: &[f64]) -> Vec<Measure<MaskingRecord>> {
    let measure = |metric: MaskingMetric| Measure::new(metric.spec(), metric.over(fractions));
    MaskingMetric::ALL.map(measure).into()
}

impl fmt::Display for MaskingMetric {
    /// Writes the name of the metric in results.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.spec().key)
    }
}

/// A metric together with the fractions of removed tokens: [`MaskingMetric::over`].
#[derive(Debug, Clone, PartialEq)]
pub struct OverFractions {
    /// The metric.
    pub metric: MaskingMetric,
    /// Fractions of removed tokens, ascending.
    pub fractions: Vec<f64>,
}

impl Additive for OverFractions {
    type Record = MaskingRecord;

    /// Returns a pair: the area under the answers to an image, and whether it was right before masking.
    fn contributions(&self, records: &[MaskingRecord], method: &str) -> Result<Array2<f64>, BootstrapError> {
        let mut pairs = Array2::zeros((records.len(), 2));
        for (mut pair, record) in pairs.rows_mut().into_iter().zip(records) {
            let before = record.unmasked == record.label;
            let area = || {
                let missing = || BootstrapError::Missing { method: method.into(), item: record.id.clone() };
                item_area(record, method, &self.fractions).ok_or_else(missing)
            };
            let (part, whole) = match self.metric {
                MaskingMetric::UnmaskedAccuracy => (f64::from(u8::from(before)), 1.0),
                MaskingMetric::Auc => (area()?, f64::from(u8::from(before))),
                MaskingMetric::AucStillRight if before => (area()?, 1.0),
                MaskingMetric::AucStillRight => (0.0, 0.0),
            };
            pair[0] = part;
            pair[1] = whole;
        }
        Ok(pairs)
    }

    fn formula(&self) -> Formula {
        Formula::Ratios
    }

    /// Computes the value from the method's curve, whose counts are integers: the sums of
    /// [`contributions`](Self::contributions) give the same area except for the last digits.
    fn value_over(&self, records: &[MaskingRecord], method: &str) -> Option<f64> {
        let curves = MaskingCurves::of(&self.fractions, records);
        let curve = || curves.finish().remove(method);
        match self.metric {
            MaskingMetric::UnmaskedAccuracy => (curves.items() > 0).then(|| curves.unmasked_accuracy()),
            MaskingMetric::Auc => curve()?.auc,
            MaskingMetric::AucStillRight => curve()?.auc_still_right,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_relative_eq;
    use proptest::prelude::*;

    fn record(label: usize, unmasked: usize, predicted: &[usize]) -> MaskingRecord {
        MaskingRecord {
            id: String::new(),
            sha256: String::new(),
            label,
            unmasked,
            predicted: BTreeMap::from([("tokenrank".to_owned(), predicted.to_vec())]),
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
            for (metric, wanted) in MaskingMetric::ALL.into_iter().zip(wanted) {
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
