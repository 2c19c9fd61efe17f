//! Mean and standard deviation.

use serde::{Deserialize, Serialize};

/// Mean and population standard deviation over the parts of a metric: splits, subsets.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// The value of the metric.
    pub mean: f64,
    /// How far the parts differ; not the standard error of the mean.
    pub std: f64,
}

impl Spread {
    /// Of the values of the parts; there is at least one.
    pub(super) fn of(values: &[f64]) -> Self {
        let (mean, std) = mean_and_std(values, 0);
        Self { mean, std }
    }
}

/// Mean, and the root of the squared deviations over `n − freedom`.
pub(super) fn mean_and_std(values: &[f64], freedom: usize) -> (f64, f64) {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (mean, (squares / (values.len() - freedom) as f64).sqrt())
}
