//! Arguments of the functions, as the core wants them.

use markov_core::{Chain, Direction, Effort, Error, RowStochastic};
use ndarray::{ArrayView1, ArrayView2};
use numpy::PyReadonlyArray2;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::maps::Maps;

/// Reads a direction.
pub(crate) fn direction(name: &str) -> PyResult<Direction> {
    match name {
        "forward" => Ok(Direction::Forward),
        "backward" => Ok(Direction::Backward),
        other => {
            Err(PyValueError::new_err(format!("direction is \"forward\" or \"backward\", found \"{other}\"")))
        }
    }
}

/// Checks the tolerance of an iteration.
pub(crate) fn tolerance(tol: f64) -> PyResult<f64> {
    if tol.is_finite() && tol > 0.0 {
        return Ok(tol);
    }
    Err(PyValueError::new_err(format!("tol must be a finite number above 0, found {tol}")))
}

/// Returns the effort for eigenvalues of the relative error `tol`.
pub(crate) fn effort(tol: f64) -> PyResult<Effort> {
    tolerance(tol).map(Effort::tolerance)
}

/// Distributions over the states: one for all matrices `[1, n]` or one for each `[matrices, n]`.
pub(crate) struct Rows<'py>(PyReadonlyArray2<'py, f64>);

impl<'py> Rows<'py> {
    /// Takes the rows for the matrices of a batch.
    pub(crate) fn of(what: &str, rows: PyReadonlyArray2<'py, f64>, maps: &Maps<'_>) -> PyResult<Self> {
        check_rows(what, rows.as_array().dim(), maps)?;
        Ok(Rows(rows))
    }

    pub(crate) fn view(&self) -> ArrayView2<'_, f64> {
        self.0.as_array()
    }
}

/// Checks the number of rows and of their entries.
pub(crate) fn check_rows(what: &str, (rows, entries): (usize, usize), maps: &Maps<'_>) -> PyResult<()> {
    let (count, states) = (maps.count(), maps.states());
    if entries == states && (rows == 1 || rows == count) {
        return Ok(());
    }
    let wanted =
        if count == 1 { "one distribution".into() } else { format!("one distribution, or {count},") };
    Err(PyValueError::new_err(format!(
        "{what} has {rows} × {entries} probabilities, expected {wanted} over {states} tokens"
    )))
}

/// Returns the row for matrix `which`.
pub(crate) fn row<'v>(rows: &'v ArrayView2<'_, f64>, which: usize) -> ArrayView1<'v, f64> {
    rows.row(if rows.nrows() == 1 { 0 } else { which })
}

/// The chain of a matrix: teleport first, reversal second.
#[derive(Clone, Copy)]
pub(crate) struct Walk<'a> {
    pub alpha: f64,
    pub direction: Direction,
    /// Distributions that teleports go to; uniform if `None`.
    pub teleport: Option<ArrayView2<'a, f64>>,
}

impl Walk<'_> {
    /// Returns the chain of `matrix`, which is matrix `which` of its batch.
    pub(crate) fn through<M: RowStochastic>(&self, matrix: M, which: usize) -> Result<Chain<M>, Error> {
        let teleported = match &self.teleport {
            Some(rows) => matrix.teleport_to(self.alpha, row(rows, which))?,
            None => matrix.teleport(self.alpha)?,
        };
        teleported.towards(self.direction)
    }
}
