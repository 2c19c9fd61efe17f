//! Arrays of the number formats that attention is stored in.

use half::{bf16, f16};
use ndarray::{ArrayView, Dimension};
use numpy::PyReadonlyArray;
use pyo3::prelude::*;

/// A numpy array of one of four number formats. It keeps the numbers alive while views of them are used.
pub(crate) enum Numbers<'py, D: Dimension> {
    F64(PyReadonlyArray<'py, f64, D>),
    F32(PyReadonlyArray<'py, f32, D>),
    F16(PyReadonlyArray<'py, f16, D>),
    /// numpy has no bfloat16: its bits as uint16.
    Bf16(PyReadonlyArray<'py, u16, D>),
}

impl<'py, D: Dimension> Numbers<'py, D> {
    /// Takes an array of float64, float32, float16, or of uint16 for the bits of bfloat16; `None` for anything else.
    pub(crate) fn of(array: &Bound<'py, PyAny>) -> Option<Self> {
        let f32s = || array.extract().ok().map(Numbers::F32);
        let f64s = || array.extract().ok().map(Numbers::F64);
        let f16s = || array.extract().ok().map(Numbers::F16);
        let bf16s = || array.extract().ok().map(Numbers::Bf16);
        f32s().or_else(f64s).or_else(f16s).or_else(bf16s)
    }
}

/// Reads the bits of bfloat16 as such.
pub(crate) fn bfloats<'a, D: Dimension>(bits: ArrayView<'a, u16, D>) -> ArrayView<'a, bf16, D> {
    let raw = bits.raw_view().cast::<bf16>();
    // SAFETY: bf16 is a transparent wrapper of u16, and the view lives as long as the view of the bits.
    unsafe { raw.deref_into_view() }
}
