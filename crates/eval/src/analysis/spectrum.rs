//! Leading eigenvalues as `rank` writes them.

use markov_core::{Effort, Element, Result, RowStochastic, StochasticView, spectrum};

/// Leading eigenvalue moduli of a matrix and their accuracy.
pub(super) struct Lambda {
    /// Moduli in descending order, beginning with 1.
    pub moduli: Vec<f64>,
    /// Residual of each eigenvalue; 0 if the structure of the matrix gives it exactly.
    pub residuals: Vec<f64>,
    /// Condition number of each eigenvalue; infinite if the eigenvalue is defective or the number is unknown.
    pub conditions: Vec<f64>,
    /// If the iteration gave up: the largest relative error of the moduli, to first order.
    pub short: Option<f64>,
}

/// Returns the `min(k, n)` leading moduli of the matrix itself, without teleport, each to the relative accuracy `tolerance`.
pub(super) fn lambda<T: Element>(matrix: &StochasticView<'_, T>, k: usize, tolerance: f64) -> Result<Lambda> {
    let found = spectrum(&matrix.forward(), k.min(matrix.states()), Effort::tolerance(tolerance))?;
    let moduli = found.moduli();
    let relative =
        moduli.iter().zip(found.errors()).map(|(modulus, error)| error / modulus.max(f64::MIN_POSITIVE));
    let short = (!found.converged).then(|| relative.fold(0.0, f64::max));
    Ok(Lambda { moduli, residuals: found.residuals, conditions: found.conditions, short })
}
