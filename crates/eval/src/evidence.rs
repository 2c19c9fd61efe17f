//! What the items of finished runs say about a metric: values with intervals, and differences of methods over the same items, which
//! may be methods of different runs.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use crate::error::Result;
use crate::experiments::view::{ItemSums, SPREAD_RESAMPLES};
use crate::folder::RunFolder;
use crate::metrics::bootstrap::{contributing, over_resamples};
use crate::metrics::clusters::Clusters;
use crate::metrics::per_item::PerItem;
use crate::metrics::significance::{LEAST_ITEMS, PairedDifference, ends, spread};

/// Seed of the resamples, equal for all methods and runs, so that they are drawn alike.
const SEED: u64 = 0;

/// A metric of one method of a finished run, with what its items say about it.
pub struct Evidence {
    /// The metric over all items, in the unit of results.
    pub value: f64,
    ids: Arc<[String]>,
    clusters: Arc<Clusters>,
    basis: Basis,
    resampled: OnceLock<Vec<f64>>,
}

/// What the items say.
enum Basis {
    /// The contribution of each item, for a metric that is a sum over items.
    Sums(PerItem),
    /// The metric over resamples of the items, which are the same in every run with this seed.
    Resampled { seed: u64, values: Vec<f64> },
    /// Nothing.
    Unknown,
}

impl Evidence {
    /// Reads the evidence on a metric from a finished run, by method. Methods without a value are left out.
    ///
    /// # Errors
    /// Fails if records are missing or damaged.
    pub fn read(run: &RunFolder, metric: &str) -> Result<BTreeMap<String, Self>> {
        let results = &run.results;
        let ItemSums { ids, clusters, sums, .. } = results.experiment.task.kind().sums(run)?;
        let clusters = Arc::new(clusters.unwrap_or_else(|| Clusters::singles(ids.len())));
        let ids: Arc<[String]> = ids.into();
        let of_metric = sums.into_iter().filter(|((name, _), _)| *name == metric);
        let mut sums: BTreeMap<String, PerItem> =
            of_metric.map(|((_, method), sums)| (method, sums)).collect();
        let mut basis = |method: &str| {
            let mut resampled = results.resampled.iter();
            match resampled.find(|one| one.metric == metric && one.method == method) {
                Some(found) => {
                    Basis::Resampled { seed: results.experiment.seed, values: found.values.clone() }
                }
                None => sums.remove(method).map_or(Basis::Unknown, Basis::Sums),
            }
        };
        let evidence = |(method, value): (&str, f64)| {
            let (ids, clusters) = (Arc::clone(&ids), Arc::clone(&clusters));
            let one = Self { value, ids, clusters, basis: basis(method), resampled: OnceLock::new() };
            (method.to_owned(), one)
        };
        let known = results.metrics.iter().filter(|value| value.name == metric);
        Ok(known.filter_map(|value| Some((value.method.as_deref()?, value.value?))).map(evidence).collect())
    }

    /// Makes evidence of a mean over items, for tests.
    #[cfg(test)]
    pub(crate) fn of_mean(values: &[f64]) -> Self {
        use crate::metrics::bootstrap::Formula;
        let sums = ndarray::Array2::from_shape_fn((values.len(), 2), |(item, sum)| [values[item], 1.0][sum]);
        let ids: Vec<String> = (0..values.len()).map(|item| item.to_string()).collect();
        Self {
            value: values.iter().sum::<f64>() / values.len() as f64,
            ids: ids.into(),
            clusters: Arc::new(Clusters::singles(values.len())),
            basis: Basis::Sums(PerItem { formula: Formula::Ratios, sums }),
            resampled: OnceLock::new(),
        }
    }

    /// Returns the names of the items.
    pub fn ids(&self) -> &[String] {
        &self.ids
    }

    /// Returns the number of images; items may share one.
    pub fn images(&self) -> usize {
        self.clusters.count()
    }

    /// Returns whether the items contribute exactly the same in both, as those of one method that two runs have in common.
    pub fn is_same(&self, other: &Self) -> bool {
        let same = match (&self.basis, &other.basis) {
            (Basis::Sums(a), Basis::Sums(b)) => a == b,
            (Basis::Resampled { seed: a, values: x }, Basis::Resampled { seed: b, values: y }) => {
                (a, x) == (b, y)
            }
            (Basis::Unknown, _) | (_, Basis::Unknown) | (Basis::Sums(_), _) | (_, Basis::Sums(_)) => false,
        };
        same && self.value == other.value && self.ids == other.ids
    }

    /// Returns the metric minus that of `other` with its paired interval. `None` if the two have different items, or if their items
    /// cannot be paired.
    pub fn minus(&self, other: &Self) -> Option<PairedDifference> {
        if self.ids != other.ids {
            return None;
        }
        match (&self.basis, &other.basis) {
            (Basis::Sums(a), Basis::Sums(b)) => a.minus(b, &self.clusters),
            (Basis::Resampled { seed: a, values: x }, Basis::Resampled { seed: b, values: y }) => {
                let differences = || x.iter().zip(y).map(|(a, b)| a - b).collect();
                let value = self.value - other.value;
                ((a, x.len()) == (b, y.len()))
                    .then(|| PairedDifference::of(value, self.ids.len(), differences))?
            }
            (Basis::Unknown, _) | (_, Basis::Unknown) | (Basis::Sums(_), _) | (_, Basis::Sums(_)) => None,
        }
    }

    /// Returns the metric over resamples of the images; a resample draws the same images for every method and run with the same items.
    /// Empty for a metric that is not a sum over items, because its values over resamples are biased, and with too few images
    /// ([`LEAST_ITEMS`]).
    pub fn over_resamples(&self) -> &[f64] {
        self.resampled.get_or_init(|| match &self.basis {
            Basis::Sums(PerItem { formula, sums }) => {
                let of_images = self.clusters.sums(sums.view());
                let enough = of_images.filter(|sums| contributing(sums.view()) >= LEAST_ITEMS);
                enough.map_or_else(Vec::new, |sums| {
                    over_resamples(sums.view(), *formula, SPREAD_RESAMPLES, SEED)
                })
            }
            Basis::Resampled { .. } | Basis::Unknown => Vec::new(),
        })
    }

    /// Returns the 95 % percentile interval of the value; `None` if there are no resamples, see [`Evidence::over_resamples`].
    pub fn interval(&self) -> Option<(f64, f64)> {
        interval(self.value, self.clusters.count(), self.over_resamples().to_vec())
    }
}

/// Returns the 95 % percentile interval of a value, from its values over resamples of this number of images; `None` if there are too few
/// images or no finite value, or if the interval would leave out the value.
pub(crate) fn interval(value: f64, images: usize, values: Vec<f64>) -> Option<(f64, f64)> {
    spread(value, images, &sorted(values))
}

/// Returns the 95 % percentile interval of values over resamples, extended to the observed value: for quantities such as counts and
/// shares, of which most resamples may lie on one side. `None` without a finite value.
pub(crate) fn extended(value: f64, values: Vec<f64>) -> Option<(f64, f64)> {
    ends(&sorted(values)).map(|(low, high)| (low.min(value), high.max(value)))
}

/// Returns the finite values in ascending order.
fn sorted(mut values: Vec<f64>) -> Vec<f64> {
    values.retain(|value| value.is_finite());
    values.sort_unstable_by(f64::total_cmp);
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_and_differences_share_their_resamples() {
        let values: Vec<f64> = (0..40).map(|item| f64::from(item % 7)).collect();
        let shifted: Vec<f64> = values.iter().map(|value| value + 0.5).collect();
        let (a, b) = (Evidence::of_mean(&shifted), Evidence::of_mean(&values));
        let difference = a.minus(&b).expect("the same items");
        let interval = difference.interval().expect("40 items");
        // A constant shift moves every resample alike.
        assert!(
            (interval.low() - 0.5).abs() < 1e-9 && (interval.high() - 0.5).abs() < 1e-9,
            "{difference:?}"
        );
        let pairs = a.over_resamples().iter().zip(b.over_resamples());
        assert!(
            a.over_resamples().len() == SPREAD_RESAMPLES
                && pairs.clone().all(|(a, b)| (a - b - 0.5).abs() < 1e-9)
        );
        let (low, high) = b.interval().expect("40 items");
        assert!(low < b.value && b.value < high);
        assert!(a.is_same(&Evidence::of_mean(&shifted)) && !a.is_same(&b));
    }

    #[test]
    fn other_items_and_few_items_say_nothing() {
        let (few, many) = (Evidence::of_mean(&[1.0; 5]), Evidence::of_mean(&[1.0; 9]));
        assert!(few.minus(&many).is_none() && few.interval().is_none() && few.over_resamples().is_empty());
        assert_eq!(many.interval(), Some((1.0, 1.0)));
        let difference = few.minus(&Evidence::of_mean(&[0.0, 1.0, 1.0, 1.0, 1.0])).expect("the same items");
        assert!(difference.interval().is_none() && (difference.value() - 0.2).abs() < 1e-12);
    }
}
