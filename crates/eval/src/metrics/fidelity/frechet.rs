//! The Fréchet distance of two normal distributions (arXiv 1706.08500).

use faer::{Mat, Side};
use ndarray::{Array2, ArrayView2};

use super::products::product;
use super::{FidelityError, Gaussian};

/// Returns `‖μ₁ − μ₂‖² + tr Σ₁ + tr Σ₂ − 2 tr (Σ₁ Σ₂)^½`.
///
/// The trace of the root is the sum of the roots of the eigenvalues of `Σ₁ Σ₂`, which are those of the symmetric
/// `Lᵀ Σ₂ L` for `Σ₁ = L Lᵀ`; `L` comes from the eigenvectors of `Σ₁`, without the directions in which `Σ₁` is zero up to
/// rounding. Eigenvalues that rounding makes negative count as zero. The covariances may be singular, so there may be
/// fewer items than numbers per feature. With the pooled features of Inception-v3 this is the FID; torch-fidelity
/// computes it from the eigenvalues of the unsymmetric product.
///
/// # Errors
/// Fails if the distributions have different widths, if the eigenvalues cannot be computed, or if the distance is not finite.
pub fn frechet_distance(a: &Gaussian, b: &Gaussian) -> Result<f64, FidelityError> {
    let (wanted, found) = (a.width(), b.width());
    if wanted != found {
        return Err(FidelityError::Width { wanted, found });
    }
    let means: f64 = a.mean.iter().zip(&b.mean).map(|(x, y)| (x - y).powi(2)).sum();
    let traces = a.covariance.diag().sum() + b.covariance.diag().sum();
    let distance = means + traces - 2.0 * trace_of_root(a.covariance.view(), b.covariance.view())?;
    // Published statistics may hold any finite numbers.
    if distance.is_finite() { Ok(distance) } else { Err(FidelityError::Overflow { width: wanted }) }
}

/// Returns `tr (Σ₁ Σ₂)^½`.
fn trace_of_root(a: ArrayView2<'_, f64>, b: ArrayView2<'_, f64>) -> Result<f64, FidelityError> {
    let factor = factor(a)?;
    let inner = product(factor.t(), product(b, factor.view()).view());
    // Symmetric up to rounding; the solver reads the lower half.
    let eigenvalues = to_faer(inner.view())
        .self_adjoint_eigenvalues(Side::Lower)
        .map_err(|_| FidelityError::Eigenvalues { width: inner.nrows() })?;
    Ok(eigenvalues.into_iter().map(|value| value.max(0.0).sqrt()).sum())
}

/// Returns `L` `[d, rank]` with `L Lᵀ` = `covariance` `[d, d]`.
fn factor(covariance: ArrayView2<'_, f64>) -> Result<Array2<f64>, FidelityError> {
    let width = covariance.nrows();
    let eigen = to_faer(covariance)
        .self_adjoint_eigen(Side::Lower)
        .map_err(|_| FidelityError::Eigenvalues { width })?;
    let (values, vectors) = (eigen.S(), eigen.U());
    let values: Vec<f64> = (0..width).map(|k| values[k]).collect();
    let largest = values.iter().fold(0.0_f64, |a, &b| a.max(b));
    let zero = largest * f64::EPSILON * width as f64;
    let kept: Vec<usize> = (0..width).filter(|&k| values[k] > zero).collect();
    Ok(Array2::from_shape_fn((width, kept.len()), |(i, k)| {
        let k = kept[k];
        vectors[(i, k)] * values[k].sqrt()
    }))
}

fn to_faer(matrix: ArrayView2<'_, f64>) -> Mat<f64> {
    Mat::from_fn(matrix.nrows(), matrix.ncols(), |i, j| matrix[(i, j)])
}
