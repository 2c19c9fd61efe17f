//! All eigenvalues of a stored matrix, O(n³): component by component, each balanced first.

use faer::c64;
use faer::linalg::solvers::DenseSolveCore;
use ndarray::{Array2, ArrayView2};

use super::Eigenvalue;
use super::balance::balance;
use super::small::by_falling_modulus;
use crate::propagate::{Propagate, written_out};
use crate::structure::{Components, Links};
use crate::{Error, Result};

/// Returns all eigenvalues of a square matrix `[n, n]` in falling order of modulus, in double precision.
///
/// The matrix is split into its strongly connected components, whose diagonal blocks have its eigenvalues, and each
/// block is balanced, as in LAPACK's `gebal` by permutation and scaling. For a triangular matrix the result is its
/// diagonal, to the last bit.
///
/// # Errors
/// [`Error::NotSquare`]; [`Error::Eigensolver`] for NaN and infinities, or if the QR iteration fails.
pub fn eigenvalues(matrix: ArrayView2<'_, f64>) -> Result<Vec<c64>> {
    let (n, columns) = matrix.dim();
    if n != columns {
        return Err(Error::NotSquare { rows: n, columns });
    }
    if !matrix.iter().all(|value| value.is_finite()) {
        return Err(Error::Eigensolver { states: n });
    }
    let mut links = Links::none(n);
    for (i, row) in matrix.rows().into_iter().enumerate() {
        links.add_row(i, &row.to_vec(), |value| *value != 0.0);
    }
    let mut values = Vec::with_capacity(n);
    for members in Components::of(&links, false).members {
        match members[..] {
            [one] => values.push(c64::new(matrix[(one, one)], 0.0)),
            _ => {
                let block = Array2::from_shape_fn((members.len(), members.len()), |(i, j)| {
                    matrix[(members[i], members[j])]
                });
                let balanced = to_faer(&balance(block.view()));
                values.extend(balanced.eigenvalues().map_err(|_| Error::Eigensolver { states: n })?);
            }
        }
    }
    values.sort_by(by_falling_modulus);
    Ok(values)
}

fn to_faer(matrix: &Array2<f64>) -> faer::Mat<f64> {
    faer::Mat::from_fn(matrix.nrows(), matrix.ncols(), |i, j| matrix[(i, j)])
}

/// Returns all eigenvalues of an irreducible matrix `[m, m]` in falling order of modulus, with their condition numbers.
/// The residual is the rounding of the balanced matrix, which is the error of the QR iteration.
pub(super) fn irreducible(matrix: ArrayView2<'_, f64>) -> Result<Vec<Eigenvalue>> {
    let m = matrix.nrows();
    let failed = || Error::Eigensolver { states: m };
    let balanced = balance(matrix);
    let size = balanced.iter().map(|value| value * value).sum::<f64>().sqrt();
    let modes = to_faer(&balanced).eigen().map_err(|_| failed())?;
    // The rows of the inverse are the left eigenvectors. It overflows if the matrix does not have enough eigenvectors.
    let (right, left) = (modes.U(), modes.U().partial_piv_lu().inverse());
    let mut values: Vec<Eigenvalue> = (0..m)
        .map(|k| {
            let norm = |entry: &dyn Fn(usize) -> c64| (0..m).map(|i| entry(i).norm_sqr()).sum::<f64>().sqrt();
            let condition = norm(&|i| right[(i, k)]) * norm(&|i| left[(k, i)]);
            let condition = if condition.is_finite() { condition.max(1.0) } else { f64::INFINITY };
            Eigenvalue { value: modes.S().column_vector()[k], residual: f64::EPSILON * size, condition }
        })
        .collect();
    if !values.iter().all(|found| found.value.norm().is_finite()) {
        return Err(failed());
    }
    values.sort_by(|a, b| by_falling_modulus(&a.value, &b.value));
    Ok(values)
}

/// Computes the transition matrix `[n, n]` of chain number `which` of a carrier by moving every state one step.
///
/// # Errors
/// The errors of [`Propagate::step`].
pub fn to_dense<P: Propagate>(chain: &P, which: usize) -> Result<Array2<f64>> {
    let all: Vec<usize> = (0..chain.states()).collect();
    written_out(chain, which, &all)
}
