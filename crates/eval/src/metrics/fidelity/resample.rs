//! Uncertainty of metrics over resamples of the items (bootstrap, Efron 1979).
//!
//! Repeated items hardly change an Inception Score, but they change a Fréchet distance: a resample has fewer different items
//! than the sample, so its covariance is less accurate and the distance over resamples is biased upwards, more so with
//! fewer items: the percentile interval may even lie above the distance. So intervals are moved by the mean of this bias
//! ([`Resampled::bias`]): the resamples give the width, the sample gives the place. The interval is one for the metric of *this
//! number* of items, which is what is reported; a Fréchet distance of more images would be smaller. The reflected ("basic") interval
//! would subtract the bias twice and then leave out the value on the other side. The difference of two methods over the same draws
//! ([`Resampled::minus`]) has almost no bias and is not moved; an interval that leaves out its difference is not shown.

use ndarray::{Array1, Array2, ArrayView2, Axis};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use tasks::Rng;

use super::inception_score::Prepared;
use super::products::gram;
use super::spread::mean_and_std;
use super::{FidelityError, Gaussian, InceptionScore, frechet_distance};
use crate::metrics::significance::{LEVEL, PairedDifference, spread};

/// A metric over all items and over resamples of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Resampled {
    /// The metric over all items.
    pub value: f64,
    /// Standard deviation over the resamples.
    pub standard_error: f64,
    /// Mean over the resamples minus `value`.
    pub bias: f64,
    /// Number of items.
    pub items: usize,
    /// Lower end of the percentile interval minus `bias`, but not below the smallest value that the metric can have; `None` with
    /// too few items ([`LEAST_ITEMS`](crate::metrics::significance::LEAST_ITEMS)), or if the interval would leave out `value`.
    pub low: Option<f64>,
    /// Upper end of the percentile interval minus `bias`.
    pub high: Option<f64>,
    /// Fraction of the resamples inside the percentile interval.
    pub level: f64,
    /// The metric over each resample, in order: resample `r` of `n` items draws the same items for every metric.
    pub values: Vec<f64>,
}

impl Resampled {
    /// `least` is the smallest value that the metric can have.
    fn new(value: f64, least: f64, items: usize, values: Vec<f64>) -> Self {
        let (mean, standard_error) = mean_and_std(&values, 1);
        let bias = mean - value;
        let mut moved: Vec<f64> = values.iter().map(|value| value - bias).collect();
        moved.sort_unstable_by(f64::total_cmp);
        let (low, high) = spread(value, items, &moved).map(|(low, high)| (low.max(least), high)).unzip();
        Self { value, standard_error, bias, items, low, high, level: LEVEL, values }
    }

    /// Returns the difference from another method, resample by resample. Both must have been resampled with the same seed over
    /// paired items, such as images from the same seeds. `None` if the numbers of items or of resamples differ.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Option<PairedDifference> {
        let same = (self.items, self.values.len()) == (other.items, other.values.len());
        let differences = || self.values.iter().zip(&other.values).map(|(a, b)| a - b).collect();
        same.then(|| PairedDifference::of(self.value - other.value, self.items, differences))?
    }
}

/// Returns the Inception Score over resamples of the items of logits `[n, classes]`; the splits are those of `score`.
///
/// # Errors
/// Fails as [`InceptionScore::of`] does, or with fewer than two resamples.
pub fn inception_score_resampled(
    score: &InceptionScore,
    logits: ArrayView2<'_, f64>,
    resamples: usize,
    seed: u64,
) -> Result<Resampled, FidelityError> {
    let Prepared { probs, negentropies } = Prepared::new(logits)?;
    let order = score.order(logits.nrows())?;
    let value = score.over(&probs, &negentropies, &order).mean;
    // Drawn items are in random order already, so they are not shuffled.
    let over = |drawn: &[usize]| Ok(score.over(&probs, &negentropies, drawn).mean);
    Ok(Resampled::new(value, 1.0, logits.nrows(), over_resamples(logits.nrows(), resamples, seed, over)?))
}

/// Returns the Fréchet distance to `reference` over resamples of the items of features `[n, d]`. The reference is not resampled.
///
/// # Errors
/// Fails as [`frechet_distance`] and [`Gaussian::of`] do, or with fewer than two resamples.
pub fn frechet_resampled(
    features: ArrayView2<'_, f64>,
    reference: &Gaussian,
    resamples: usize,
    seed: u64,
) -> Result<Resampled, FidelityError> {
    let value = frechet_distance(reference, &Gaussian::of(features)?)?;
    let over = |drawn: &[usize]| {
        let mut counts = Array1::<f64>::zeros(features.nrows());
        drawn.iter().for_each(|&item| counts[item] += 1.0);
        frechet_distance(reference, &weighted(features, &counts))
    };
    Ok(Resampled::new(value, 0.0, features.nrows(), over_resamples(features.nrows(), resamples, seed, over)?))
}

/// Returns mean and covariance of items, each drawn as often as `counts` says.
fn weighted(features: ArrayView2<'_, f64>, counts: &Array1<f64>) -> Gaussian {
    let items = counts.sum();
    let mean = counts.dot(&features) / items;
    let mut rows: Array2<f64> = &features - &mean;
    for (mut row, &count) in rows.axis_iter_mut(Axis(0)).zip(counts) {
        row *= count.sqrt();
    }
    Gaussian { mean, covariance: gram(rows.view()) / (items - 1.0), items: Some(items as u64) }
}

/// Computes a metric over resamples; resample `r` draws its items, each a `below(items)`, from the stream `Rng::keyed(&[seed, r])`.
fn over_resamples(
    items: usize,
    resamples: usize,
    seed: u64,
    metric: impl Fn(&[usize]) -> Result<f64, FidelityError> + Sync,
) -> Result<Vec<f64>, FidelityError> {
    if resamples < 2 {
        let (setting, range) = ("the number of resamples", "at least 2");
        return Err(FidelityError::Setting { setting, value: resamples.to_string(), range });
    }
    let resample = |number: u64| {
        let mut rng = Rng::keyed(&[seed, number]);
        let drawn: Vec<usize> = (0..items).map(|_| rng.below(items)).collect();
        metric(&drawn)
    };
    (0..resamples as u64).into_par_iter().map(resample).collect()
}
