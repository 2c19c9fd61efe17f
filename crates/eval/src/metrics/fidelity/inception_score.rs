//! The Inception Score (arXiv 1606.03498), as torch-fidelity's `isc_features_to_metric` computes it.

use ndarray::{Array1, Array2, ArrayView2, Axis};

use super::{FidelityError, RandomState, Spread};

/// How the Inception Score is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InceptionScore {
    /// Number of parts of the items over which the score is averaged.
    pub splits: usize,
    /// Seed of the shuffle before the split; `None` keeps the order.
    pub seed: Option<u32>,
}

impl Default for InceptionScore {
    /// Returns torch-fidelity's settings: 10 splits, shuffled with seed 2020.
    fn default() -> Self {
        Self { splits: 10, seed: Some(2020) }
    }
}

impl InceptionScore {
    /// Returns the score from logits `[n, classes]`: `exp` of the mean of `KL(p(y|x) ‖ p(y))` in each split, with `p(y)` of the
    /// split; mean and population standard deviation over the splits.
    ///
    /// # Errors
    /// Fails if there are fewer items than splits, no splits, no classes, or a logit that is not finite.
    pub fn of(&self, logits: ArrayView2<'_, f64>) -> Result<Spread, FidelityError> {
        let Prepared { probs, negentropies } = Prepared::new(logits)?;
        let order = self.order(logits.nrows())?;
        Ok(self.over(&probs, &negentropies, &order))
    }

    /// Returns the order in which `n` items are split.
    pub(super) fn order(&self, n: usize) -> Result<Vec<usize>, FidelityError> {
        if self.splits == 0 {
            let range = "at least 1";
            return Err(FidelityError::Setting { setting: "splits", value: "0".into(), range });
        }
        if n < self.splits {
            return Err(FidelityError::TooFew {
                metric: "the Inception Score",
                what: "generated images",
                items: n,
                needed: self.splits,
                advice: "ask for fewer splits",
            });
        }
        Ok(match self.seed {
            Some(seed) => RandomState::new(seed).permutation(n),
            None => (0..n).collect(),
        })
    }

    /// Returns the score of the items in this order, which may contain an item any number of times.
    pub(super) fn over(&self, probs: &Array2<f64>, negentropies: &Array1<f64>, order: &[usize]) -> Spread {
        let (n, classes) = (order.len(), probs.ncols());
        let scores: Vec<f64> = (0..self.splits)
            .map(|split| {
                let part = &order[split * n / self.splits..(split + 1) * n / self.splits];
                let (mut marginal, mut negentropy) = (Array1::<f64>::zeros(classes), 0.0);
                for &item in part {
                    marginal += &probs.row(item);
                    negentropy += negentropies[item];
                }
                let items = part.len() as f64;
                // Mean of Σ p log p − Σ p log q = mean of Σ p log p − Σ q log q, since q is the mean of p.
                let cross: f64 = marginal.iter().map(|&sum| plogp(sum / items)).sum();
                (negentropy / items - cross).exp()
            })
            .collect();
        Spread::of(&scores)
    }
}

/// Quantities that do not depend on the order of the items.
pub(super) struct Prepared {
    /// Class probabilities `[n, classes]`.
    pub(super) probs: Array2<f64>,
    /// `Σ p log p` of each item.
    pub(super) negentropies: Array1<f64>,
}

impl Prepared {
    pub(super) fn new(logits: ArrayView2<'_, f64>) -> Result<Self, FidelityError> {
        if logits.ncols() == 0 {
            return Err(FidelityError::NoLogits);
        }
        if let Some(row) = logits.rows().into_iter().position(|row| row.iter().any(|x| !x.is_finite())) {
            return Err(FidelityError::NotFinite { item: row as u64 });
        }
        let mut probs = logits.to_owned();
        let mut negentropies = Array1::zeros(logits.nrows());
        for (mut row, negentropy) in probs.axis_iter_mut(Axis(0)).zip(&mut negentropies) {
            let largest = row.fold(f64::NEG_INFINITY, |a, &b| a.max(b));
            let total: f64 = row.iter().map(|logit| (logit - largest).exp()).sum();
            let log_total = total.ln();
            for value in &mut row {
                let log_p = *value - largest - log_total;
                *value = log_p.exp();
                *negentropy += *value * log_p;
            }
        }
        Ok(Self { probs, negentropies })
    }
}

/// Returns `p log p`, which is 0 at 0.
fn plogp(p: f64) -> f64 {
    if p > 0.0 { p * p.ln() } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use ndarray::s;

    use super::*;
    use approx::assert_relative_eq;

    #[test]
    fn certain_and_balanced_classes_give_their_number_and_equal_ones_give_1() {
        let certain = Array2::from_shape_fn((40, 8), |(i, j)| if i % 8 == j { 900.0 } else { 0.0 });
        let score = InceptionScore { splits: 1, seed: None };
        assert_relative_eq!(score.of(certain.view()).unwrap().mean, 8.0, max_relative = 1e-12);
        let unsure = Array2::from_elem((40, 8), 3.0);
        let found = InceptionScore::default().of(unsure.view()).unwrap();
        assert_relative_eq!(found.mean, 1.0, max_relative = 1e-12);
        assert!(found.std < 1e-12);
        // A constant added to an item's logits changes nothing.
        let shifted = &certain.slice(s![..20, ..]) + 700.0;
        let (a, b) = (
            InceptionScore::default().of(shifted.view()),
            InceptionScore::default().of(certain.slice(s![..20, ..])),
        );
        assert_eq!(a, b);
    }

    #[test]
    fn too_few_items_and_no_splits_are_refused() {
        let few = Array2::zeros((9, 4));
        let said = InceptionScore::default().of(few.view()).unwrap_err().to_string();
        assert_eq!(
            said,
            "the Inception Score needs at least 10 generated images, and there are 9; add images, or ask for fewer \
             splits"
        );
        let none = InceptionScore { splits: 0, seed: None };
        assert!(none.of(few.view()).unwrap_err().to_string().contains("splits is 0; it must be at least 1"));
        let mut broken = Array2::zeros((20, 4));
        broken[(7, 1)] = f64::NAN;
        assert_eq!(InceptionScore::default().of(broken.view()), Err(FidelityError::NotFinite { item: 7 }));
        assert_eq!(InceptionScore::default().of(Array2::zeros((20, 0)).view()), Err(FidelityError::NoLogits));
    }
}
