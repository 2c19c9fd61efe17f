//! The dense oracle: every eigenvalue of the written-out matrix, O(n³).

use faer::c64;
use ndarray::{Array2, ArrayView2, s};

use super::small::by_falling_modulus;
use crate::propagate::{Block, Propagate};
use crate::{Error, Result};

/// Rows of the identity pushed through a carrier at a time.
const ROWS: usize = 64;

/// All eigenvalues of a square matrix `[n, n]`, in falling order of modulus, in double precision.
///
/// # Errors
/// [`Error::NotSquare`]; [`Error::Eigensolver`] when the QR iteration fails, as it does on NaN.
pub fn eigenvalues(matrix: ArrayView2<'_, f64>) -> Result<Vec<c64>> {
    let (n, columns) = matrix.dim();
    if n != columns {
        return Err(Error::NotSquare { rows: n, columns });
    }
    let dense = faer::Mat::from_fn(n, n, |i, j| matrix[(i, j)]);
    let mut values = dense.eigenvalues().map_err(|_| Error::Eigensolver { states: n })?;
    values.sort_by(by_falling_modulus);
    Ok(values)
}

/// The transition matrix `[n, n]` of chain number `which` of a carrier, written out by pushing every state one step.
///
/// # Errors
/// What [`Propagate::step`] reports.
pub fn to_dense<P: Propagate>(chain: &P, which: usize) -> Result<Array2<f64>> {
    let (n, chains) = (chain.states(), chain.chains());
    let mut dense = Array2::zeros((n, n));
    for first in (0..n).step_by(ROWS) {
        let k = ROWS.min(n - first);
        let mut unit = Array2::zeros((chains * k, n));
        for c in 0..chains {
            for i in 0..k {
                unit[(c * k + i, first + i)] = 1.0;
            }
        }
        let x = chain.lift(unit.view())?;
        let mut out = x.zeros_like()?;
        chain.step(&x, &mut out)?;
        dense
            .slice_mut(s![first..first + k, ..])
            .assign(&out.lower()?.slice(s![which * k..(which + 1) * k, ..]));
    }
    Ok(dense)
}
