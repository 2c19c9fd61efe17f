//! How far the values of a combination are from published ones, and how far their order is from the published order.

use crate::evidence::{Evidence, extended, interval};

/// A published value, in the unit of results.
pub(super) struct Published {
    /// Key of the method in `sweep.json`.
    pub(super) key: String,
    /// Name of the method in tables.
    pub(super) label: String,
    /// The value.
    pub(super) value: f64,
    /// Half of its last digit.
    pub(super) rounding: f64,
}

/// How far a combination is from published values.
pub(super) struct Distance {
    /// The values of the methods.
    pub(super) values: Vec<f64>,
    /// Root mean square of the values minus the published ones.
    pub(super) value: f64,
    /// Its 95 % interval over resamples of the items, corrected for bias.
    pub(super) interval: Option<(f64, f64)>,
    /// The square of the distance over resamples, corrected for bias; empty without resamples.
    pub(super) squares: Vec<f64>,
    /// Number of pairs of methods that are not in the published order.
    pub(super) swapped: usize,
    /// The 95 % interval of that number.
    pub(super) swapped_interval: Option<(f64, f64)>,
    /// Number of methods whose 95 % interval reaches the published value; `None` without intervals.
    pub(super) reached: Option<usize>,
}

impl Distance {
    /// Computes the distance of the evidence on the methods from their published values, which are in the same order.
    pub(super) fn of(published: &[Published], evidence: &[&Evidence]) -> Self {
        let values: Vec<f64> = evidence.iter().map(|one| one.value).collect();
        let square = square(published, &values);
        let swapped = swapped(published, &values);
        let images = evidence.first().map_or(0, |first| first.images());
        let resamples = evidence.iter().map(|one| one.over_resamples().len()).min().unwrap_or(0);
        let drawn = |resample: usize| -> Vec<f64> {
            evidence.iter().map(|one| one.over_resamples()[resample]).collect()
        };
        let over = |of: &dyn Fn(&[f64]) -> f64| -> Vec<f64> {
            (0..resamples).map(|resample| of(&drawn(resample))).collect()
        };
        let squares = unbiased(square, over(&|values| self::square(published, values)));
        let swaps = over(&|values| self::swapped(published, values) as f64);
        let reaches = |(published, one): (&Published, &&Evidence)| {
            let (low, high) = one.interval()?;
            let reach = published.rounding;
            Some(low <= published.value + reach && high >= published.value - reach)
        };
        let reached: Option<Vec<bool>> = published.iter().zip(evidence).map(reaches).collect();
        Self {
            value: square.sqrt(),
            interval: interval(
                square.sqrt(),
                images,
                squares.iter().map(|square| square.max(0.0).sqrt()).collect(),
            ),
            squares,
            swapped,
            // Draws of equal values may be in another order more often than not; the interval has the observed number all the same.
            swapped_interval: extended(swapped as f64, swaps),
            reached: reached.map(|all| all.into_iter().filter(|one| *one).count()),
            values,
        }
    }
}

/// Returns the mean square of values minus the published ones.
fn square(published: &[Published], values: &[f64]) -> f64 {
    let squares = published.iter().zip(values).map(|(published, value)| (value - published.value).powi(2));
    squares.sum::<f64>() / published.len() as f64
}

/// Returns the number of pairs with different published values whose values are equal or in the other order.
fn swapped(published: &[Published], values: &[f64]) -> usize {
    let methods: Vec<(f64, f64)> =
        published.iter().map(|one| one.value).zip(values.iter().copied()).collect();
    let pairs =
        methods.iter().enumerate().flat_map(|(index, a)| methods[..index].iter().map(move |b| (a, b)));
    pairs.filter(|((p, x), (q, y))| p != q && (x == y || (p > q) != (x > y))).count()
}

/// Returns the number of pairs with different published values.
pub(super) fn pairs(published: &[Published]) -> usize {
    let differ =
        |(index, a): (usize, &Published)| published[..index].iter().filter(|b| a.value != b.value).count();
    published.iter().enumerate().map(differ).sum()
}

/// Shifts values over resamples so that their mean is the observed value: resampling adds the variance of the values to a square.
pub(super) fn unbiased(observed: f64, mut resampled: Vec<f64>) -> Vec<f64> {
    let finite: Vec<f64> = resampled.iter().copied().filter(|value| value.is_finite()).collect();
    let bias = finite.iter().sum::<f64>() / finite.len().max(1) as f64 - observed;
    resampled.iter_mut().for_each(|value| *value -= bias);
    resampled
}

#[cfg(test)]
mod tests {
    use super::*;

    fn published(values: &[f64]) -> Vec<Published> {
        let one =
            |&value: &f64| Published { key: String::new(), label: String::new(), value, rounding: 0.005 };
        values.iter().map(one).collect()
    }

    #[test]
    fn distances_by_hand() {
        let paper = published(&[0.8, 0.3, 0.2]);
        assert!((square(&paper, &[0.8, 0.6, 0.2]).sqrt() - (0.09_f64 / 3.0).sqrt()).abs() < 1e-12);
        assert_eq!(square(&paper, &[0.8, 0.3, 0.2]), 0.0);
    }

    #[test]
    fn pairs_with_equal_published_values_have_no_order() {
        let paper = published(&[0.8, 0.3, 0.3, 0.2]);
        assert_eq!(pairs(&paper), 5);
        assert_eq!(swapped(&paper, &[0.9, 0.4, 0.5, 0.1]), 0);
        assert_eq!(swapped(&paper, &[0.9, 0.5, 0.4, 0.1]), 0);
        assert_eq!(swapped(&paper, &[0.1, 0.5, 0.4, 0.9]), 5);
        // Equal values do not show the order.
        assert_eq!(swapped(&paper, &[0.9, 0.4, 0.5, 0.4]), 1);
    }

    #[test]
    fn resamples_are_shifted_to_the_observed_value() {
        assert_eq!(unbiased(1.0, vec![2.0, 4.0]), [0.0, 2.0]);
        let some = unbiased(1.0, vec![2.0, f64::NAN]);
        assert!(some[0] == 1.0 && some[1].is_nan());
        assert!(unbiased(1.0, Vec::new()).is_empty());
    }
}
