//! One attention matrix in the precision in which it is stored.

use markov_core::{Components, Element, Links, Result, RowStochastic, StochasticView, Storage, Triangle};
use ndarray::Array2;

/// A checked matrix of float32 or float64. Half-precision matrices are widened to float32.
#[derive(Debug, Clone)]
pub(crate) enum Map<'a> {
    F32(StochasticView<'a, f32>),
    F64(StochasticView<'a, f64>),
}

impl<'a> Map<'a> {
    /// Checks `n × n` numbers in row-major order.
    pub(crate) fn f32(values: &'a [f32], n: usize, tolerance: f64) -> Result<Self> {
        Ok(Map::F32(StochasticView::new(values, n, tolerance)?))
    }

    /// Checks `n × n` numbers in row-major order.
    pub(crate) fn f64(values: &'a [f64], n: usize, tolerance: f64) -> Result<Self> {
        Ok(Map::F64(StochasticView::new(values, n, tolerance)?))
    }

    /// The precision of the stored numbers.
    pub(crate) fn storage(&self) -> Storage {
        match self {
            Map::F32(_) => Storage::F32,
            Map::F64(_) => Storage::F64,
        }
    }
}

impl RowStochastic for Map<'_> {
    fn states(&self) -> usize {
        match self {
            Map::F32(view) => view.states(),
            Map::F64(view) => view.states(),
        }
    }

    fn left<C: Element>(&self, x: &[C], vectors: usize, out: &mut [C]) {
        match self {
            Map::F32(view) => view.left(x, vectors, out),
            Map::F64(view) => view.left(x, vectors, out),
        }
    }

    fn right<C: Element>(&self, y: &[C], vectors: usize, out: &mut [C]) {
        match self {
            Map::F32(view) => view.right(y, vectors, out),
            Map::F64(view) => view.right(y, vectors, out),
        }
    }

    fn links(&self) -> Option<Links> {
        match self {
            Map::F32(view) => view.links(),
            Map::F64(view) => view.links(),
        }
    }

    fn components(&self, reversed: bool) -> Option<Components> {
        match self {
            Map::F32(view) => view.components(reversed),
            Map::F64(view) => view.components(reversed),
        }
    }

    fn triangle(&self) -> Option<Triangle> {
        match self {
            Map::F32(view) => RowStochastic::triangle(view),
            Map::F64(view) => RowStochastic::triangle(view),
        }
    }

    fn rows_of(&self, triangle: Triangle, falling: bool, take: &mut dyn FnMut(usize, usize, &[f64])) {
        match self {
            Map::F32(view) => view.rows_of(triangle, falling, take),
            Map::F64(view) => view.rows_of(triangle, falling, take),
        }
    }

    fn block(&self, members: &[usize]) -> Array2<f64> {
        match self {
            Map::F32(view) => view.block(members),
            Map::F64(view) => view.block(members),
        }
    }

    fn diagonal(&self) -> Vec<f64> {
        match self {
            Map::F32(view) => view.diagonal(),
            Map::F64(view) => view.diagonal(),
        }
    }
}
