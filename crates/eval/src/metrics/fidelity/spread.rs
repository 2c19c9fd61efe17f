//! Mean and standard deviation.

use serde::{Deserialize, Serialize};

/// Mean and population standard deviation over the parts of a metric: splits, subsets.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// Mean over the parts, the value of the metric.
    pub mean: f64,
    /// Standard deviation of the parts; not the standard error of the mean.
    pub std: f64,
}

impl Spread {
    /// Computes the spread of the values of the parts; there is at least one.
    pub(super) fn of(values: &[f64]) -> Self {
        let (mean, std) = mean_and_std(values, 0);
        Self { mean, std }
    }
}

/// Returns the mean, and the root of the sum of squared deviations divided by `n − freedom`.
pub(super) fn mean_and_std(values: &[f64], freedom: usize) -> (f64, f64) {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (mean, (squares / (values.len() - freedom) as f64).sqrt())
}
