//! Accuracy while tokens are removed, and the area under it.

use std::collections::BTreeMap;

use ndarray::Array2;
use serde::{Deserialize, Serialize};
use tasks::masking::MaskingRecord;

use super::Metric;
use super::bootstrap::{Additive, BootstrapError};

/// Counts behind the masking curves. Whole numbers, so that merging is exact in any order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MaskingCurves {
    fractions: Vec<f64>,
    items: u64,
    right_unmasked: u64,
    methods: BTreeMap<String, Counts>,
}

/// Right answers of one method at each share.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Counts {
    right: Vec<u64>,
    /// Among the images that were right before masking.
    still_right: Vec<u64>,
}

/// The curve of one method and its area in two readings.
#[derive(Debug, Clone, PartialEq)]
pub struct MethodCurve {
    /// Accuracy at each share of removed tokens.
    pub accuracy: Vec<f64>,
    /// Share of the images right before masking that are still right.
    pub still_right: Vec<f64>,
    /// Area under accuracy ÷ unmasked accuracy, as a share of the range of fractions; none where nothing was right
    /// before masking.
    pub auc: Option<f64>,
    /// Area under `still_right`, likewise.
    pub auc_still_right: Option<f64>,
}

impl MaskingCurves {
    /// No records yet; `fractions` rise.
    pub fn new(fractions: Vec<f64>) -> Self {
        Self { fractions, items: 0, right_unmasked: 0, methods: BTreeMap::new() }
    }

    /// Number of records.
    pub fn items(&self) -> u64 {
        self.items
    }

    /// Images right before masking.
    pub fn right_unmasked(&self) -> u64 {
        self.right_unmasked
    }

    /// Shares of removed tokens.
    pub fn fractions(&self) -> &[f64] {
        &self.fractions
    }

    /// Top-1 accuracy before masking; 0 without records.
    pub fn unmasked_accuracy(&self) -> f64 {
        share(self.right_unmasked, self.items)
    }
}

impl Metric for MaskingCurves {
    type Record = MaskingRecord;
    type Values = BTreeMap<String, MethodCurve>;

    fn add(&mut self, record: &MaskingRecord) {
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

    fn merge(&mut self, other: Self) {
        self.items += other.items;
        self.right_unmasked += other.right_unmasked;
        let sum = |a: &mut Vec<u64>, b: Vec<u64>| {
            a.resize(a.len().max(b.len()), 0);
            a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
        };
        for (method, counts) in other.methods {
            let mine = self.methods.entry(method).or_default();
            sum(&mut mine.right, counts.right);
            sum(&mut mine.still_right, counts.still_right);
        }
    }

    fn finish(&self) -> BTreeMap<String, MethodCurve> {
        let unmasked = self.unmasked_accuracy();
        let shares = |counts: &[u64], of: u64| counts.iter().map(|&n| share(n, of)).collect::<Vec<f64>>();
        let curve = |counts: &Counts| {
            let accuracy = shares(&counts.right, self.items);
            let still_right = shares(&counts.still_right, self.right_unmasked);
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

/// One of the two areas, as the bootstrap needs it.
#[derive(Debug, Clone, Copy)]
pub struct MaskingArea<'a> {
    /// Shares of removed tokens.
    pub fractions: &'a [f64],
    /// Whether only images count that were right before masking ([`MethodCurve::auc_still_right`]); else
    /// [`MethodCurve::auc`].
    pub still_right: bool,
}

impl Additive for MaskingArea<'_> {
    type Record = MaskingRecord;

    /// The area under the image's own right answers, and whether it was right before masking.
    fn contributions(&self, records: &[MaskingRecord], method: &str) -> Result<Array2<f64>, BootstrapError> {
        let mut contributions = Array2::zeros((records.len(), 2));
        for (mut row, record) in contributions.rows_mut().into_iter().zip(records) {
            let area = item_area(record, method, self.fractions).ok_or_else(|| BootstrapError::Missing {
                method: method.to_owned(),
                item: record.id.clone(),
            })?;
            let before = record.unmasked == record.label;
            row[0] = if before || !self.still_right { area } else { 0.0 };
            row[1] = f64::from(u8::from(before));
        }
        Ok(contributions)
    }

    fn value(&self, sums: &[f64]) -> Option<f64> {
        (sums[1] > 0.0).then(|| sums[0] / sums[1])
    }
}

/// Area under an image's own right answers, 1 for right and 0 for wrong: how long its answer survives. None without answers
/// of the method.
pub fn item_area(record: &MaskingRecord, method: &str, fractions: &[f64]) -> Option<f64> {
    let right = record.predicted.get(method)?.iter().map(|&class| f64::from(u8::from(class == record.label)));
    Some(area_under(fractions, &right.collect::<Vec<_>>()))
}

fn share(count: u64, of: u64) -> f64 {
    if of == 0 { 0.0 } else { count as f64 / of as f64 }
}

/// Area under the points by the trapezoid rule, divided by the range of `x`: the mean height of the curve. `x` rises
/// and has as many values as `y`, at least two.
pub fn area_under(x: &[f64], y: &[f64]) -> f64 {
    let range = x.last().zip(x.first()).map_or(0.0, |(last, first)| last - first);
    let area: f64 = x.windows(2).zip(y.windows(2)).map(|(x, y)| (x[1] - x[0]) * (y[0] + y[1]) / 2.0).sum();
    area / range
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
    fn two_readings_differ_where_masking_repairs_an_image() {
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
    fn nothing_right_before_masking_has_no_area() {
        let mut curves = MaskingCurves::new(vec![0.0, 0.5]);
        curves.add(&record(3, 2, &[2, 3]));
        assert_eq!(curves.finish()["tokenrank"].auc, None);
    }

    proptest! {
        #[test]
        fn any_split_of_the_records_gives_the_same(
            answers in prop::collection::vec((0usize..3, 0usize..3, 0usize..3, 0usize..3), 1..40),
            at in 0usize..40,
        ) {
            let records: Vec<_> =
                answers.iter().map(|&(label, before, a, b)| record(label, before, &[a, b])).collect();
            let at = at.min(records.len());
            let gather = |records: &[MaskingRecord]| {
                let mut curves = MaskingCurves::new(vec![0.0, 0.5]);
                records.iter().for_each(|record| curves.add(record));
                curves
            };
            let (whole, mut merged) = (gather(&records), gather(&records[..at]));
            merged.merge(gather(&records[at..]));
            prop_assert_eq!(&whole, &merged);
            prop_assert_eq!(whole.finish(), merged.finish());

            // What the bootstrap sums up is the same metric.
            let values = whole.finish();
            for still_right in [false, true] {
                let area = MaskingArea { fractions: &[0.0, 0.5], still_right };
                let sums = area.contributions(&records, "tokenrank").unwrap().sum_axis(ndarray::Axis(0));
                let curve = &values["tokenrank"];
                let wanted = if still_right { curve.auc_still_right } else { curve.auc };
                match (area.value(sums.as_slice().unwrap()), wanted) {
                    (Some(found), Some(wanted)) => prop_assert!((found - wanted).abs() < 1e-12),
                    (found, wanted) => prop_assert_eq!(found, wanted),
                }
            }
        }
    }
}
