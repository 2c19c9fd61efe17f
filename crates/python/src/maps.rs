//! Batches of attention matrices `[..., n, n]` in numpy arrays, read in place.

use half::{bf16, f16};
use markov_core::{Error, Storage, Triangle};
use ndarray::{ArrayView2, ArrayViewD, Axis, Ix2};
use numpy::{PyReadonlyArrayDyn, PyUntypedArray, PyUntypedArrayMethods};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use rayon::prelude::*;

use crate::failure::Failure;
use crate::map::Map;

/// The numpy array of a batch. It keeps the numbers alive while views of them are used.
pub(crate) enum Held<'py> {
    F64(PyReadonlyArrayDyn<'py, f64>),
    F32(PyReadonlyArrayDyn<'py, f32>),
    F16(PyReadonlyArrayDyn<'py, f16>),
    /// numpy has no bfloat16: its bits as uint16.
    Bf16(PyReadonlyArrayDyn<'py, u16>),
}

/// Views of a batch `[..., n, n]`.
pub(crate) enum Maps<'a> {
    F64(ArrayViewD<'a, f64>),
    F32(ArrayViewD<'a, f32>),
    F16(ArrayViewD<'a, f16>),
    Bf16(ArrayViewD<'a, u16>),
}

impl<'py> Held<'py> {
    /// Takes an array of float64, float32, float16, or of uint16 for the bits of bfloat16.
    pub(crate) fn of(array: &Bound<'py, PyAny>) -> PyResult<Self> {
        if let Ok(values) = array.extract() {
            return Ok(Held::F32(values));
        }
        if let Ok(values) = array.extract() {
            return Ok(Held::F64(values));
        }
        if let Ok(values) = array.extract() {
            return Ok(Held::F16(values));
        }
        if let Ok(values) = array.extract() {
            return Ok(Held::Bf16(values));
        }
        let found = match array.cast::<PyUntypedArray>() {
            Ok(array) => format!("an array of {}", array.dtype()),
            Err(_) => array.get_type().to_string(),
        };
        Err(PyTypeError::new_err(format!(
            "attention matrices are float64, float32, float16 or bfloat16 in native byte order, found {found}"
        )))
    }

    /// Returns views of the matrices.
    ///
    /// # Errors
    /// `ValueError` unless the shape is `[..., n, n]`.
    pub(crate) fn maps(&self) -> PyResult<Maps<'_>> {
        let maps = match self {
            Held::F64(values) => Maps::F64(values.as_array()),
            Held::F32(values) => Maps::F32(values.as_array()),
            Held::F16(values) => Maps::F16(values.as_array()),
            Held::Bf16(values) => Maps::Bf16(values.as_array()),
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
            Maps::F16(all) => {
                let values: Vec<f32> = matrix(all, which)?.iter().map(|v| v.to_f32()).collect();
                of(which, Map::f32(&values, n, tolerance)?)
            }
            Maps::Bf16(all) => {
                let values: Vec<f32> =
                    matrix(all, which)?.iter().map(|v| bf16::from_bits(*v).to_f32()).collect();
                of(which, Map::f32(&values, n, tolerance)?)
            }
        })
    }

    /// Calls `of` with the numbers of every matrix in float64 `[n, n]`, which are not checked, in parallel.
    pub(crate) fn each_unchecked<R: Send>(
        &self,
        of: impl Fn(ArrayView2<'_, f64>) -> markov_core::Result<R> + Sync,
    ) -> Vec<Result<R, Failure>> {
        self.results(|which| match self {
            Maps::F64(all) => of(matrix(all, which)?),
            Maps::F32(all) => of(matrix(all, which)?.mapv(f64::from).view()),
            Maps::F16(all) => of(matrix(all, which)?.mapv(f64::from).view()),
            Maps::Bf16(all) => of(matrix(all, which)?.mapv(|v| bf16::from_bits(v).to_f64()).view()),
        })
    }

    /// Returns the triangle that each matrix forms by its exact zeros.
    pub(crate) fn triangles(&self) -> Vec<Option<Triangle>> {
        let each = self.results(|which| {
            Ok(match self {
                Maps::F64(all) => triangle(&matrix(all, which)?, |value| *value == 0.0),
                Maps::F32(all) => triangle(&matrix(all, which)?, |value| *value == 0.0),
                Maps::F16(all) => triangle(&matrix(all, which)?, |value| f64::from(*value) == 0.0),
                Maps::Bf16(all) => {
                    triangle(&matrix(all, which)?, |value| bf16::from_bits(*value).to_f64() == 0.0)
                }
            })
        });
        each.into_iter().map(|found| found.ok().flatten()).collect()
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
pub(crate) fn index(outer: &[usize], which: usize) -> Vec<usize> {
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

/// As [`markov_core::StochasticView::triangle`], for numbers of any layout that are not checked.
fn triangle<T>(matrix: &ArrayView2<'_, T>, zero: impl Fn(&T) -> bool) -> Option<Triangle> {
    let n = matrix.nrows();
    if n < 2 {
        return None;
    }
    let (mut lower, mut upper) = (true, true);
    for (i, row) in matrix.rows().into_iter().enumerate() {
        lower = lower && row.iter().skip(i + 1).all(&zero);
        upper = upper && row.iter().take(i).all(&zero);
        if !lower && !upper {
            return None;
        }
    }
    Some(if lower { Triangle::Lower } else { Triangle::Upper })
}
