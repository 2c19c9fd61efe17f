//! Means that are the same in whatever order values come.

use serde::{Deserialize, Serialize};

/// Bits behind the binary point: every double from one half to 1 is a whole number of these units.
const BITS: u32 = 53;
const UNITS: f64 = (1_u64 << BITS) as f64;

/// The mean of numbers in 0…1. Each is rounded to a multiple of 2⁻⁵³ (by at most 2⁻⁵⁴, and not at all from one half up)
/// and summed as a whole number, so the sum is exact and merging is exact in any order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ExactMean {
    count: u64,
    /// Whole part of the sum.
    whole: u64,
    /// The rest in units of 2⁻⁵³, below 1.
    fraction: u64,
}

impl ExactMean {
    /// Takes a number in 0…1 into account; one outside is taken to the nearer end.
    pub(super) fn add(&mut self, value: f64) {
        self.count += 1;
        self.carry((value.clamp(0.0, 1.0) * UNITS).round_ties_even() as u64);
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.whole += other.whole;
        self.carry(other.fraction);
    }

    fn carry(&mut self, units: u64) {
        let sum = self.fraction + units;
        self.whole += sum >> BITS;
        self.fraction = sum & ((1 << BITS) - 1);
    }

    /// The mean; none of nothing.
    pub(super) fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| (self.whole as f64 + self.fraction as f64 / UNITS) / self.count as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[f64]) -> ExactMean {
        let mut mean = ExactMean::default();
        values.iter().for_each(|&value| mean.add(value));
        mean
    }

    #[test]
    fn means_by_hand() {
        assert_eq!(of(&[]).mean(), None);
        assert_eq!(of(&[1.0, 1.0, 1.0]).mean(), Some(1.0));
        assert_eq!(of(&[0.75, 0.5, 1.0]).mean(), Some(0.75));
        assert_eq!(of(&[0.0, 1.5]).mean(), Some(0.5));
        assert_eq!(of(&[f64::EPSILON / 2.0]).mean(), Some(f64::EPSILON / 2.0));
    }

    #[test]
    fn order_is_of_no_consequence_where_it_is_for_doubles() {
        let values = [0.1, 0.2, 0.3];
        let turned = [0.3, 0.2, 0.1];
        assert_ne!(values.iter().sum::<f64>(), turned.iter().sum::<f64>());
        assert_eq!(of(&values), of(&turned));
    }
}
