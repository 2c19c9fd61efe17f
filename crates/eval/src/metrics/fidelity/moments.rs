//! Mean and covariance of features, from all features at once or from a stream of batches.

use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis, Zip};

use super::FidelityError;
use super::products::gram;

/// A normal distribution, as compared by the Fréchet distance.
#[derive(Debug, Clone, PartialEq)]
pub struct Gaussian {
    /// `[d]`.
    pub mean: Array1<f64>,
    /// `[d, d]`.
    pub covariance: Array2<f64>,
    /// Number of items that they were computed from, if known.
    pub items: Option<u64>,
}

impl Gaussian {
    /// Computes mean and unbiased covariance (divided by n − 1) of features `[n, d]`.
    ///
    /// # Errors
    /// Fails if there are fewer than two items, or if a feature is not finite.
    pub fn of(features: ArrayView2<'_, f64>) -> Result<Self, FidelityError> {
        let mut moments = Moments::new();
        moments.add(features)?;
        moments.finish()
    }

    /// Makes a distribution from published statistics: a mean `[d]` and a covariance `[d, d]`.
    ///
    /// # Errors
    /// Fails if the sizes do not agree, or if a number is not finite.
    pub fn new(
        mean: Array1<f64>,
        covariance: Array2<f64>,
        items: Option<u64>,
    ) -> Result<Self, FidelityError> {
        let (rows, columns) = covariance.dim();
        if mean.is_empty() || mean.len() != rows || rows != columns {
            return Err(FidelityError::Statistics { mean: mean.len(), rows, columns });
        }
        if mean.iter().chain(&covariance).any(|value| !value.is_finite()) {
            return Err(FidelityError::Eigenvalues { width: rows });
        }
        Ok(Self { mean, covariance, items })
    }

    /// Returns the number of numbers per feature.
    #[must_use]
    pub fn width(&self) -> usize {
        self.mean.len()
    }
}

/// Mean and scatter of a stream of features, for references too large for memory.
///
/// Batches are joined by the formula of Chan, Golub and LeVeque (1979), which is as stable as two passes. Two states can be merged;
/// another order or another division into batches changes only the last digits.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Moments {
    items: u64,
    mean: Array1<f64>,
    /// `Σ (x − mean)(x − mean)ᵀ`.
    scatter: Array2<f64>,
}

impl Moments {
    /// Starts without items.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the number of items added.
    #[must_use]
    pub fn items(&self) -> u64 {
        self.items
    }

    /// Adds a batch of features `[n, d]`.
    ///
    /// # Errors
    /// Fails if features have another width than before or are not finite; the state is then unchanged.
    pub fn add(&mut self, features: ArrayView2<'_, f64>) -> Result<(), FidelityError> {
        let Some(mean) = features.mean_axis(Axis(0)) else {
            return Ok(());
        };
        if let Some(row) = features.rows().into_iter().position(|row| row.iter().any(|x| !x.is_finite())) {
            return Err(FidelityError::NotFinite { item: self.items + row as u64 });
        }
        let centred = &features - &mean;
        self.merge(&Self { items: features.nrows() as u64, mean, scatter: gram(centred.view()) })
    }

    /// Adds all items of `other`.
    ///
    /// # Errors
    /// Fails if the features have another width.
    pub fn merge(&mut self, other: &Self) -> Result<(), FidelityError> {
        if other.items == 0 {
            return Ok(());
        }
        if self.items == 0 {
            self.clone_from(other);
            return Ok(());
        }
        let (wanted, found) = (self.mean.len(), other.mean.len());
        if wanted != found {
            return Err(FidelityError::Width { wanted, found });
        }
        let (ours, theirs) = (self.items as f64, other.items as f64);
        let all = ours + theirs;
        let between = &other.mean - &self.mean;
        self.scatter += &other.scatter;
        add_outer(&mut self.scatter, between.view(), ours * theirs / all);
        self.mean.scaled_add(theirs / all, &between);
        self.items += other.items;
        Ok(())
    }

    /// Returns mean and unbiased covariance (divided by n − 1).
    ///
    /// # Errors
    /// Fails if there are fewer than two items.
    pub fn finish(&self) -> Result<Gaussian, FidelityError> {
        if self.items < 2 {
            return Err(FidelityError::TooFew {
                metric: "a covariance",
                what: "images",
                items: self.items as usize,
                needed: 2,
                advice: "",
            });
        }
        let covariance = &self.scatter / (self.items as f64 - 1.0);
        Ok(Gaussian { mean: self.mean.clone(), covariance, items: Some(self.items) })
    }
}

/// Computes `matrix += weight · v vᵀ`.
fn add_outer(matrix: &mut Array2<f64>, v: ArrayView1<'_, f64>, weight: f64) {
    Zip::from(matrix.rows_mut()).and(v).par_for_each(|mut row, &x| row.scaled_add(weight * x, &v));
}
