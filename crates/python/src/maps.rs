//! Batches of attention matrices `[..., n, n]` in numpy arrays, read in place.

use half::{bf16, f16};
use markov_core::{Error, Number, Storage};
use ndarray::{ArrayView2, ArrayViewD, Axis, Ix2, IxDyn};
use numpy::{PyUntypedArray, PyUntypedArrayMethods};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use rayon::prelude::*;

use crate::failure::Failure;
use crate::map::Map;
use crate::numbers::{Numbers, bfloats};

/// The numpy array of a batch.
pub(crate) struct Held<'py>(Numbers<'py, IxDyn>);

/// Views of a batch `[..., n, n]`.
pub(crate) enum Maps<'a> {
    F64(ArrayViewD<'a, f64>),
    F32(ArrayViewD<'a, f32>),
    F16(ArrayViewD<'a, f16>),
    Bf16(ArrayViewD<'a, bf16>),
}

impl<'py> Held<'py> {
    /// Takes an array of float64, float32, float16, or of uint16 for the bits of bfloat16.
    pub(crate) fn of(array: &Bound<'py, PyAny>) -> PyResult<Self> {
        Numbers::of(array).map(Held).ok_or_else(|| {
            let found = match array.cast::<PyUntypedArray>() {
                Ok(array) => format!("an array of {}", array.dtype()),
                Err(_) => array.get_type().to_string(),
            };
            PyTypeError::new_err(format!(
                "attention matrices are float64, float32, float16 or bfloat16 in native byte order, found {found}"
            ))
        })
    }

    /// Returns views of the matrices.
    ///
    /// # Errors
    /// `ValueError` unless the shape is `[..., n, n]`.
    pub(crate) fn maps(&self) -> PyResult<Maps<'_>> {
        let maps = match &self.0 {
            Numbers::F64(values) => Maps::F64(values.as_array()),
            Numbers::F32(values) => Maps::F32(values.as_array()),
            Numbers::F16(values) => Maps::F16(values.as_array()),
            Numbers::Bf16(bits) => Maps::Bf16(bfloats(bits.as_array())),
        };
        let reason = match maps.shape() {
            [.., rows, columns] if rows == columns && *rows > 0 => return Ok(maps),
            [.., 0, _] | [.., _, 0] => Error::Empty.to_string(),
            [.., rows, columns] => Error::NotSquare { rows: *rows, columns: *columns }.to_string(),
            found => format!("attention has the shape [..., n, n], found {found:?}"),
        };
        Err(PyValueError::new_err(reason))
    }
}

impl Maps<'_> {
    fn shape(&self) -> &[usize] {
        match self {
            Maps::F64(values) => values.shape(),
            Maps::F32(values) => values.shape(),
            Maps::F16(values) => values.shape(),
            Maps::Bf16(values) => values.shape(),
        }
    }

    /// The leading axes.
    pub(crate) fn outer(&self) -> &[usize] {
        let shape = self.shape();
        &shape[..shape.len().saturating_sub(2)]
    }

    /// Number of matrices.
    pub(crate) fn count(&self) -> usize {
        self.outer().iter().product()
    }

    /// Number of states of each matrix.
    pub(crate) fn states(&self) -> usize {
        self.shape().last().copied().unwrap_or(0)
    }

    /// The default tolerance of row sums.
    pub(crate) fn row_tolerance(&self) -> f64 {
        match self {
            Maps::F64(_) => Storage::F64,
            Maps::F32(_) => Storage::F32,
            Maps::F16(_) => Storage::F16,
            Maps::Bf16(_) => Storage::Bf16,
        }
        .row_tolerance()
    }

    /// Calls `of` with every matrix in parallel, one thread for each. Matrices in row-major order of float32 or float64
    /// are used in place; others are copied one at a time.
    pub(crate) fn each<R: Send>(
        &self,
        of: impl Fn(usize, Map<'_>) -> markov_core::Result<R> + Sync,
    ) -> Vec<Result<R, Failure>> {
        let tolerance = self.row_tolerance();
        let n = self.states();
        self.results(|which| match self {
            Maps::F64(all) => {
                let values = matrix(all, which)?;
                let values = values.as_standard_layout();
                of(which, Map::f64(values.as_slice().unwrap_or(&[]), n, tolerance)?)
            }
            Maps::F32(all) => {
                let values = matrix(all, which)?;
                let values = values.as_standard_layout();
                of(which, Map::f32(values.as_slice().unwrap_or(&[]), n, tolerance)?)
            }
            Maps::F16(all) => of(which, Map::f32(&singles(matrix(all, which)?), n, tolerance)?),
            Maps::Bf16(all) => of(which, Map::f32(&singles(matrix(all, which)?), n, tolerance)?),
        })
    }

    /// Calls `of` with the numbers of every matrix in float64 `[n, n]`, which are not checked, in parallel.
    pub(crate) fn each_unchecked<R: Send>(
        &self,
        of: impl Fn(ArrayView2<'_, f64>) -> markov_core::Result<R> + Sync,
    ) -> Vec<Result<R, Failure>> {
        self.results(|which| match self {
            Maps::F64(all) => of(matrix(all, which)?),
            Maps::F32(all) => of(matrix(all, which)?.mapv(Number::to_f64).view()),
            Maps::F16(all) => of(matrix(all, which)?.mapv(Number::to_f64).view()),
            Maps::Bf16(all) => of(matrix(all, which)?.mapv(Number::to_f64).view()),
        })
    }

    fn results<R: Send>(
        &self,
        of: impl Fn(usize) -> markov_core::Result<R> + Sync,
    ) -> Vec<Result<R, Failure>> {
        let outer = self.outer();
        (0..self.count())
            .into_par_iter()
            .map(|which| of(which).map_err(|error| Failure { error, index: index(outer, which) }))
            .collect()
    }
}

/// Returns the index along the axes `outer` of element `which` in row-major order.
fn index(outer: &[usize], which: usize) -> Vec<usize> {
    let mut rest = which;
    let mut index: Vec<usize> = outer
        .iter()
        .rev()
        .map(|length| {
            let position = rest % length;
            rest /= length;
            position
        })
        .collect();
    index.reverse();
    index
}

/// Returns matrix `which` of the batch, in row-major order of the leading axes.
fn matrix<'v, T>(all: &'v ArrayViewD<'_, T>, which: usize) -> markov_core::Result<ArrayView2<'v, T>> {
    let outer = all.ndim().saturating_sub(2);
    let mut view = all.view();
    for position in index(&all.shape()[..outer], which) {
        view = view.index_axis_move(Axis(0), position);
    }
    let found = view.shape().to_vec();
    view.into_dimensionality::<Ix2>().map_err(|_| Error::Shape {
        what: "the batch of matrices",
        found,
        expected: "[..., n, n]".into(),
    })
}

/// Widens half-precision numbers, in row-major order.
fn singles<T: Number>(matrix: ArrayView2<'_, T>) -> Vec<f32> {
    matrix.iter().map(|value| value.to_f64() as f32).collect()
}
