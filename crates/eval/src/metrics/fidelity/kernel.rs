//! The kernel distance (arXiv 1801.01401), as torch-fidelity's `kid_features_to_metric` computes it.

use ndarray::{ArrayView2, Axis, s};
use rayon::prelude::*;

use super::{FidelityError, RandomState, Spread};

/// How the kernel distance is computed: an unbiased squared maximum mean discrepancy under the kernel
/// `(gamma · xᵀy + coef0) ^ degree`, over subsets. With the pooled features of Inception-v3 this is the KID.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct KernelDistance {
    /// Number of pairs of subsets.
    pub subsets: usize,
    /// Number of items in a subset, drawn without replacement.
    pub subset_size: usize,
    /// Power of the kernel.
    pub degree: i32,
    /// Factor of the product; one over the width of the features if `None`.
    pub gamma: Option<f64>,
    /// Constant that is added to the product.
    pub coef0: f64,
    /// Seed of the draws.
    pub seed: u32,
}

impl Default for KernelDistance {
    /// Returns torch-fidelity's settings: 100 subsets of 1,000, cubic, seed 2020.
    fn default() -> Self {
        Self { subsets: 100, subset_size: 1000, degree: 3, gamma: None, coef0: 1.0, seed: 2020 }
    }
}

/// Number of rows of the blocks in which kernels are summed.
const BLOCK: usize = 256;

impl KernelDistance {
    /// Returns the distance between features `[n, d]` and `[m, d]`: mean and population standard deviation over the subsets. One
    /// generator draws both, first among `generated`, then among `reference`.
    ///
    /// # Errors
    /// Fails if subsets are larger than either set or smaller than two, or if features have different widths or are not finite.
    pub fn between<'a>(
        &self,
        generated: ArrayView2<'a, f64>,
        reference: ArrayView2<'a, f64>,
    ) -> Result<Spread, FidelityError> {
        let (wanted, found) = (reference.ncols(), generated.ncols());
        if wanted != found {
            return Err(FidelityError::Width { wanted, found });
        }
        for (setting, value, least, range) in [
            ("the subset size of the kernel distance", self.subset_size, 2, "at least 2"),
            ("the number of subsets of the kernel distance", self.subsets, 1, "at least 1"),
        ] {
            if value < least {
                return Err(FidelityError::Setting { setting, value: value.to_string(), range });
            }
        }
        let (n, m, subset_size) = (generated.nrows(), reference.nrows(), self.subset_size);
        if subset_size > n.min(m) {
            return Err(FidelityError::SubsetSize { subset_size, generated: n, reference: m });
        }
        for features in [generated, reference] {
            if let Some(row) = features.rows().into_iter().position(|row| row.iter().any(|x| !x.is_finite()))
            {
                return Err(FidelityError::NotFinite { item: row as u64 });
            }
        }
        let mut rng = RandomState::new(self.seed);
        let draws: Vec<_> =
            (0..self.subsets).map(|_| (rng.choice(n, subset_size), rng.choice(m, subset_size))).collect();
        let distances: Vec<f64> = draws
            .into_par_iter()
            .map(|(x, y)| {
                let (x, y) = (generated.select(Axis(0), &x), reference.select(Axis(0), &y));
                self.squared_discrepancy(x.view(), y.view())
            })
            .collect();
        Ok(Spread::of(&distances))
    }

    /// Returns `Σ_{i≠j} k(xᵢ, xⱼ) / m(m−1) + Σ_{i≠j} k(yᵢ, yⱼ) / m(m−1) − 2 Σ k(xᵢ, yⱼ) / m²`.
    fn squared_discrepancy(&self, x: ArrayView2<'_, f64>, y: ArrayView2<'_, f64>) -> f64 {
        let size = x.nrows() as f64;
        let gamma = self.gamma.unwrap_or(1.0 / x.ncols() as f64);
        let kernel = |product: &f64| (product * gamma + self.coef0).powi(self.degree);
        let blocks =
            |rows: usize| (0..rows).step_by(BLOCK).map(move |start| start..(start + BLOCK).min(rows));
        let between: f64 = blocks(x.nrows())
            .map(|rows| x.slice(s![rows, ..]).dot(&y.t()).iter().map(kernel).sum::<f64>())
            .sum();
        // Pairs i < j, twice.
        let within = |x: ArrayView2<'_, f64>| -> f64 {
            let pairs = blocks(x.nrows()).map(|rows| {
                let products = x.slice(s![rows.clone(), ..]).dot(&x.slice(s![rows.start.., ..]).t());
                let above = |(i, row): (usize, ndarray::ArrayView1<'_, f64>)| -> f64 {
                    row.iter().skip(i + 1).map(kernel).sum()
                };
                products.rows().into_iter().enumerate().map(above).sum::<f64>()
            });
            2.0 * pairs.sum::<f64>()
        };
        (within(x) + within(y)) / (size * (size - 1.0)) - 2.0 * between / (size * size)
    }
}
