//! Errors as Python exceptions, with the sentences of the command-line program.

use markov_core::Error;
use pyo3::PyErr;
use pyo3::exceptions::{PyRuntimeError, PyValueError};

/// The failure for one matrix of a batch.
pub(crate) struct Failure {
    pub error: Error,
    /// Index of the matrix along the leading axes; empty for a single matrix.
    pub index: Vec<usize>,
}

impl Failure {
    /// Returns the sentence for this failure, which begins with the index of the matrix if there are several.
    pub(crate) fn sentence(&self) -> String {
        match self.index.as_slice() {
            [] => self.error.to_string(),
            index => {
                let index: Vec<String> = index.iter().map(usize::to_string).collect();
                format!("matrix [{}]: {}", index.join(", "), self.error)
            }
        }
    }
}

impl From<Failure> for PyErr {
    fn from(failure: Failure) -> PyErr {
        PyValueError::new_err(failure.sentence())
    }
}

/// Returns an error of the core that concerns no particular matrix as an exception.
pub(crate) fn value_error(error: &Error) -> PyErr {
    PyValueError::new_err(error.to_string())
}

/// Returns an exception for a failure that is not the caller's.
pub(crate) fn runtime_error(reason: impl std::fmt::Display) -> PyErr {
    PyRuntimeError::new_err(reason.to_string())
}
