//! The compiled part of the Python package `tokenrank`. Its functions take numpy arrays only; the Python files beside it
//! convert torch tensors, check arguments and document the functions.
//!
//! No function holds the interpreter's lock while it computes, and none needs libtorch.

mod arguments;
mod chains;
mod failure;
mod functions;
mod map;
mod maps;
mod numbers;
mod page;
mod parallel;

use pyo3::prelude::*;

/// The compiled part of the Python package `tokenrank`.
#[pymodule]
mod _core {
    #[pymodule_export]
    use super::chains::chains;
    #[pymodule_export]
    use super::functions::{
        bounces, column_sum, head_weights, lambda2, metastable_sets, row_stochastic, shape, spectrum,
        token_rank, visits,
    };

    #[pymodule_export]
    use super::page::{page, spelling};

    use super::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))?;
        module.add("MASKED", markov_core::MASKED)
    }
}
