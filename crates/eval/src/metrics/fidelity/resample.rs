//! Spreads of metrics: over the parts a metric itself makes, and over resamples of the items (bootstrap, Efron 1979).
//!
//! An Inception Score hardly moves with how often an item is drawn, but a Fréchet distance does: a resample has fewer
//! different items than the sample and its covariance misses more of the spread, so the distance over resamples is
//! biased upwards, the more the fewer items there are. [`Resampled::standard_error`] is the number to quote for it;
//! its percentile interval lies too high by [`Resampled::bias`]. The difference of two methods over the same draws
//! ([`Resampled::minus`]) has next to none of it.

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
    /// Over all items.
    pub value: f64,
    /// Standard deviation over the resamples.
    pub standard_error: f64,
    /// Mean over the resamples minus `value`.
    pub bias: f64,
    /// Number of items.
    pub items: usize,
    /// Lower end of the percentile interval; none with too few items
    /// ([`LEAST_ITEMS`](crate::metrics::significance::LEAST_ITEMS)).
    pub low: Option<f64>,
    /// Upper end.
    pub high: Option<f64>,
    /// Share of the resamples between the ends.
    pub level: f64,
    /// Over each resample, in order: resample `r` of `n` items draws the same items whatever is measured.
    pub values: Vec<f64>,
}

impl Resampled {
    fn new(value: f64, items: usize, values: Vec<f64>) -> Self {
        let (mean, standard_error) = mean_and_std(&values, 1);
        let mut sorted = values.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        let (low, high) = spread(items, &sorted).unzip();
        Self { value, standard_error, bias: mean - value, items, low, high, level: LEVEL, values }
    }

    /// The difference to another method, resample by resample: both must have been resampled with the same seed over
    /// items that belong together in pairs, such as pictures of the same seeds. None where the numbers of items or of
    /// resamples differ.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Option<PairedDifference> {
        let same = (self.items, self.values.len()) == (other.items, other.values.len());
        let differences = || self.values.iter().zip(&other.values).map(|(a, b)| a - b).collect();
        same.then(|| PairedDifference::of(self.value - other.value, self.items, differences))?
    }
}

/// The Inception Score over resamples of the items of logits `[n, classes]`; splits are those of `score`.
///
/// # Errors
/// Those of [`InceptionScore::of`], or fewer than two resamples.
pub fn inception_score_resampled(
    score: &InceptionScore,
    logits: ArrayView2<'_, f64>,
    resamples: usize,
    seed: u64,
) -> Result<Resampled, FidelityError> {
    let Prepared { probs, negentropies } = Prepared::new(logits)?;
    let order = score.order(logits.nrows())?;
    let value = score.over(&probs, &negentropies, &order).mean;
    // Drawn items come in no particular order, so there is nothing to shuffle.
    let over = |drawn: &[usize]| Ok(score.over(&probs, &negentropies, drawn).mean);
    Ok(Resampled::new(value, logits.nrows(), over_resamples(logits.nrows(), resamples, seed, over)?))
}

/// The Fréchet distance to `reference` over resamples of the items of features `[n, d]`. The reference stays as it is.
///
/// # Errors
/// Those of [`frechet_distance`] and [`Gaussian::of`], or fewer than two resamples.
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
    Ok(Resampled::new(value, features.nrows(), over_resamples(features.nrows(), resamples, seed, over)?))
}

/// Mean and covariance of items that were drawn this often.
fn weighted(features: ArrayView2<'_, f64>, counts: &Array1<f64>) -> Gaussian {
    let items = counts.sum();
    let mean = counts.dot(&features) / items;
    let mut rows: Array2<f64> = &features - &mean;
    for (mut row, &count) in rows.axis_iter_mut(Axis(0)).zip(counts) {
        row *= count.sqrt();
    }
    Gaussian { mean, covariance: gram(rows.view()) / (items - 1.0), items: Some(items as u64) }
}

/// A metric over resamples; resample `r` draws its items, each a `below(items)`, from the stream `Rng::keyed(&[seed, r])`.
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
