//! Sums that do not depend on the order of their terms.

use ndarray::ArrayView2;

/// Bits after the binary point: every double from one half to 1 is a multiple of the unit 2⁻⁵³.
const BITS: u32 = 53;
const UNITS: f64 = (1_u64 << BITS) as f64;

/// A sum of numbers. Each is rounded to a multiple of 2⁻⁵³ (by at most 2⁻⁵⁴, and not at all from one half up) and summed as a
/// whole number, so the sum is exact in any order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct ExactSum {
    /// Whole part of the sum.
    whole: i64,
    /// Fractional part of the sum in units of 2⁻⁵³.
    fraction: u64,
}

impl ExactSum {
    /// Adds a finite number.
    fn add(&mut self, value: f64) {
        let floor = value.floor();
        let units = self.fraction + ((value - floor) * UNITS).round_ties_even() as u64;
        self.whole += floor as i64 + (units >> BITS) as i64;
        self.fraction = units & ((1 << BITS) - 1);
    }

    /// Returns the sum, rounded once.
    fn value(self) -> f64 {
        self.whole as f64 + self.fraction as f64 / UNITS
    }
}

/// Returns the exact sum of each column.
pub(crate) fn exact_sums(rows: ArrayView2<'_, f64>) -> Vec<f64> {
    rows.columns().into_iter().map(|column| exact_sum(column.iter().copied())).collect()
}

/// Returns the exact sum of numbers.
pub(crate) fn exact_sum(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut sum = ExactSum::default();
    values.into_iter().for_each(|value| sum.add(value));
    sum.value()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_by_hand() {
        assert_eq!(exact_sum([]), 0.0);
        assert_eq!(exact_sum([1.0, 1.0, 1.0]), 3.0);
        assert_eq!(exact_sum([0.75, 0.5, 1.0]), 2.25);
        assert_eq!(exact_sum([-0.25, -0.5, 1.0]), 0.25);
        assert_eq!(exact_sum([f64::EPSILON / 2.0]), f64::EPSILON / 2.0);
        assert_eq!(exact_sum([1e15, 49.0]), 1e15 + 49.0);
    }

    #[test]
    fn the_order_does_not_matter_where_it_does_for_doubles() {
        let values = [0.1, 0.2, 0.3];
        let turned = [0.3, 0.2, 0.1];
        assert_ne!(values.iter().sum::<f64>(), turned.iter().sum::<f64>());
        assert_eq!(exact_sum(values), exact_sum(turned));
    }
}
