//! Which settings decide the distance from published values: the variance of the squared distance over all combinations, split into the
//! settings' main effects and the rest.

use super::distance::Distance;
use crate::evidence::extended;
use crate::sweep::stored::{StoredSweep, unique};

/// Shares of the variance of the squared distance. Squares are used because they are means over the methods, so that their noise can be
/// told from effects.
pub(super) struct Decomposition {
    /// The share of each setting's main effect, in the order of the axes: the variance of the means over its values.
    pub(super) settings: Vec<Share>,
    /// What the main effects leave: interactions of settings.
    pub(super) interactions: Share,
}

/// A share of the variance, between 0 and 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Share {
    /// The share; `None` if all combinations have one distance.
    pub(super) value: Option<f64>,
    /// Its 95 % interval over resamples of the items.
    pub(super) interval: Option<(f64, f64)>,
}

impl Decomposition {
    pub(super) fn of(stored: &StoredSweep, distances: &[Distance]) -> Self {
        let levels: Vec<Vec<usize>> = stored.axes.iter().map(|axis| levels(stored, axis)).collect();
        let squares: Vec<f64> = distances.iter().map(|one| one.value * one.value).collect();
        let observed = shares(&levels, &squares);
        let resamples = distances.iter().map(|one| one.squares.len()).min().unwrap_or(0);
        let of_resample = |resample: usize| {
            let squares: Vec<f64> = distances.iter().map(|one| one.squares[resample]).collect();
            shares(&levels, &squares)
        };
        let over: Vec<Vec<f64>> = (0..resamples).filter_map(of_resample).collect();
        let share = |index: usize| {
            let value = observed.as_ref().map(|shares| shares[index]);
            let values: Vec<f64> = over.iter().map(|shares| shares[index]).collect();
            // Images were enough if there are resamples.
            Share { value, interval: value.and_then(|value| extended(value, values)) }
        };
        Self { settings: (0..levels.len()).map(share).collect(), interactions: share(levels.len()) }
    }
}

/// Returns the number of the axis' value in each combination.
fn levels(stored: &StoredSweep, axis: &str) -> Vec<usize> {
    let values: Vec<String> =
        stored.combinations.iter().map(|one| one.settings.get(axis).cloned().unwrap_or_default()).collect();
    let known = unique(&values);
    values.iter().map(|value| known.iter().position(|one| one == value).unwrap_or(0)).collect()
}

/// Returns the share of the variance of `values` between the levels of each axis, and at the end the share that is left; `None` if the
/// values do not vary.
fn shares(levels: &[Vec<usize>], values: &[f64]) -> Option<Vec<f64>> {
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let all = mean(values);
    let total = values.iter().map(|value| (value - all).powi(2)).sum::<f64>();
    // Differences by rounding do not count as variance.
    if total.is_nan() || total <= 1e-18 * values.len() as f64 {
        return None;
    }
    let between = |levels: &Vec<usize>| {
        let count = levels.iter().max().map_or(0, |last| last + 1);
        let of_level = |level: usize| {
            let having: Vec<f64> = levels
                .iter()
                .zip(values)
                .filter(|(one, _)| **one == level)
                .map(|(_, &value)| value)
                .collect();
            having.len() as f64 * (mean(&having) - all).powi(2)
        };
        (0..count).map(of_level).sum::<f64>() / total
    };
    let mut shares: Vec<f64> = levels.iter().map(between).collect();
    shares.push((1.0 - shares.iter().sum::<f64>()).max(0.0));
    Some(shares)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn main_effects_and_interactions_by_hand() {
        // Two settings with two values each.
        let levels = [vec![0, 0, 1, 1], vec![0, 1, 0, 1]];
        let near = |found: Option<Vec<f64>>, wanted: [f64; 3]| {
            let found = found.expect("a variance");
            assert!(found.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-12), "{found:?}");
        };
        near(shares(&levels, &[1.0, 1.0, 3.0, 3.0]), [1.0, 0.0, 0.0]);
        // Effects of 2 and 1: variances 1 and 1/4.
        near(shares(&levels, &[0.0, 1.0, 2.0, 3.0]), [0.8, 0.2, 0.0]);
        near(shares(&levels, &[0.0, 1.0, 1.0, 0.0]), [0.0, 0.0, 1.0]);
        assert_eq!(shares(&levels, &[0.3; 4]), None);
    }
}
