//! Row-stochastic matrices as a type, and their chains.

use std::borrow::Cow;
use std::ops::Range;

use ndarray::{Array2, ArrayView1, ArrayView2};
use rayon::prelude::*;

use crate::chain::{Chain, RowStochastic, Teleported, weighed};
use crate::kernel::{self, Element};
use crate::structure::{Components, Links};
use crate::tolerance::ROW_TOLERANCE;
use crate::triangle::{self, Triangle};
use crate::{Error, Result};

/// A checked row-stochastic matrix: square, finite, without negative entries, rows summing to 1.
///
/// Rows within the tolerance are renormalised. [`forward`](Self::forward) and [`backward`](Self::backward) return its
/// chains; call [`teleport`](Self::teleport) first to add jumps.
///
/// ```
/// use markov_core::Stochastic;
/// use ndarray::array;
///
/// let a = Stochastic::new(array![[0.9, 0.1], [0.5, 0.5]])?;
/// assert_eq!(a.states(), 2);
/// assert!(Stochastic::new(array![[0.9, 0.2], [0.5, 0.5]]).is_err());
/// # Ok::<(), markov_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Stochastic<T> {
    values: Array2<T>,
    /// Reciprocal of each stored row's sum in f64, since an f32 row never sums to 1 exactly.
    scale: Vec<f64>,
    /// Whether every entry is positive.
    positive: bool,
}

impl<T: Element> Stochastic<T> {
    /// Checks `values` `[n, n]` with the default tolerance [`ROW_TOLERANCE`].
    ///
    /// # Errors
    /// The matrix is empty or not square, an entry is NaN, infinite or negative, or a row sum differs from 1 by more
    /// than the tolerance (the error names the row).
    pub fn new(values: Array2<T>) -> Result<Self> {
        Self::with_tolerance(values, ROW_TOLERANCE)
    }

    /// Checks `values` `[n, n]`; rows whose sum is within `tolerance` of 1 are renormalised.
    ///
    /// # Errors
    /// As [`Stochastic::new`].
    pub fn with_tolerance(values: Array2<T>, tolerance: f64) -> Result<Self> {
        let n = side(values.view())?;
        let mut values =
            if values.is_standard_layout() { values } else { values.as_standard_layout().into_owned() };
        let data = values.as_slice_mut().unwrap_or(&mut []);
        let (sums, _) = row_sums(data, n, tolerance)?;
        for (row, sum) in data.chunks_exact_mut(n).zip(sums) {
            for value in row.iter_mut().filter(|_| sum != 1.0) {
                *value = T::of_f64(value.to_f64() / sum);
            }
        }
        let mut positive = true;
        let scale = data.chunks_exact(n).map(|row| {
            let (sum, least) = kernel::row_summary(row);
            positive &= least > 0.0;
            sum.recip()
        });
        let scale = scale.collect();
        Ok(Stochastic { values, scale, positive })
    }

    /// Creates the matrix from normalised rows in row-major order, and the sum and the least entry of each.
    pub(crate) fn of_rows(values: Vec<T>, rows: &[(f64, f64)]) -> Self {
        let n = rows.len();
        let scale = rows.iter().map(|(sum, _)| sum.recip()).collect();
        let positive = rows.iter().all(|(_, least)| *least > 0.0);
        let values = Array2::from_shape_vec((n, n), values).unwrap_or_else(|_| Array2::zeros((n, n)));
        Stochastic { values, scale, positive }
    }

    /// Number of states, `n`.
    pub fn states(&self) -> usize {
        self.scale.len()
    }

    /// The matrix `[n, n]`, rows normalised.
    pub fn values(&self) -> ArrayView2<'_, T> {
        self.values.view()
    }

    /// Returns the matrix `[n, n]`.
    pub fn into_values(self) -> Array2<T> {
        self.values
    }

    /// Returns the triangle if the matrix is triangular, as in causal attention; see [`StochasticView::triangle`].
    pub fn triangle(&self) -> Option<Triangle> {
        self.view().triangle()
    }

    /// Borrows the matrix as a [`StochasticView`], which has the same chains.
    pub fn view(&self) -> StochasticView<'_, T> {
        StochasticView {
            values: self.values.as_slice().unwrap_or(&[]),
            scale: Cow::Borrowed(&self.scale),
            positive: self.positive,
        }
    }

    /// Returns the forward chain `A`, which follows the attention.
    pub fn forward(&self) -> Chain<StochasticView<'_, T>> {
        self.view().forward()
    }

    /// Returns the backward chain `B[j, i] = A[i, j] / Σ_k A[k, j]`, which goes from a token to those that attend to
    /// it.
    ///
    /// # Errors
    /// [`Error::NoBackwardRow`] for a column that sums to zero. It cannot happen after a uniform teleport.
    pub fn backward(&self) -> Result<Chain<StochasticView<'_, T>>> {
        self.view().backward()
    }

    /// Returns `T = α A + (1-α) 1 1ᵀ/n`, which is never stored; choose a direction next.
    ///
    /// # Errors
    /// [`Error::Alpha`] outside `[0, 1]`.
    pub fn teleport(&self, alpha: f64) -> Result<Teleported<StochasticView<'_, T>>> {
        self.view().teleport(alpha)
    }

    /// Returns `T = α A + (1-α) 1 tᵀ` for a given distribution `t` `[n]`, which is never stored; choose a direction
    /// next.
    ///
    /// # Errors
    /// [`Error::Alpha`] outside `[0, 1]`; [`Error::Distribution`] if `t` is not a distribution over the states.
    pub fn teleport_to(
        &self,
        alpha: f64,
        target: ArrayView1<'_, f64>,
    ) -> Result<Teleported<StochasticView<'_, T>>> {
        self.view().teleport_to(alpha, target)
    }
}

/// A checked matrix that borrows its values: nothing is copied, and row sums are stored separately.
///
/// Its chains come from [`RowStochastic`].
#[derive(Debug, Clone)]
pub struct StochasticView<'a, T> {
    values: &'a [T],
    scale: Cow<'a, [f64]>,
    positive: bool,
}

impl<'a, T: Element> StochasticView<'a, T> {
    /// Checks `values`, `n × n` numbers in row-major order, and computes the normalisation of its rows without changing
    /// them.
    ///
    /// # Errors
    /// As [`Stochastic::new`].
    pub fn new(values: &'a [T], states: usize, tolerance: f64) -> Result<Self> {
        if states == 0 {
            return Err(Error::Empty);
        }
        if values.len() != states * states {
            return Err(Error::NotSquare { rows: values.len() / states, columns: states });
        }
        let (mut scale, positive) = row_sums(values, states, tolerance)?;
        scale.iter_mut().for_each(|sum| *sum = sum.recip());
        Ok(StochasticView { values, scale: Cow::Owned(scale), positive })
    }

    /// Returns the triangle if the matrix is triangular by its exact zeros, as in causal attention, and `None`
    /// otherwise or for a single state. Takes O(n²) for a triangular matrix; for others it reads only a few entries.
    pub fn triangle(&self) -> Option<Triangle> {
        triangle::recognise(self.values, self.scale.len())
    }
}

/// Number of states that are tried as hubs.
const HUBS: usize = 16;

impl<T: Element> StochasticView<'_, T> {
    /// Whether one of the first states that lead to every state is also reached from every state. Real heads with some zeros
    /// mostly have one, and finding it costs less than a search of the components.
    fn has_hub(&self) -> bool {
        let n = self.scale.len();
        let positive = |value: &T| value.to_f64() > 0.0;
        let leading = self.values.chunks_exact(n).enumerate().filter(|(_, row)| row.iter().all(positive));
        leading.take(HUBS).any(|(state, _)| self.values[state..].iter().step_by(n).all(positive))
    }
}

impl<T: Element> RowStochastic for StochasticView<'_, T> {
    fn states(&self) -> usize {
        self.scale.len()
    }

    fn left<C: Element>(&self, x: &[C], vectors: usize, out: &mut [C]) {
        let n = self.scale.len();
        let weights = weighed(x, &self.scale);
        match parts(n) {
            1 => kernel::left(self.values, n, &weights, vectors, out),
            // The columns are divided, which changes no digit.
            parts => divided(n, n.div_ceil(parts).next_multiple_of(ALIGNED), out, |part| {
                let mut product = vec![C::zero(); vectors * part.len()];
                kernel::left_part(self.values, n, part, &weights, vectors, &mut product);
                product
            }),
        }
    }

    fn right<C: Element>(&self, y: &[C], vectors: usize, out: &mut [C]) {
        let n = self.scale.len();
        match parts(n) {
            1 => kernel::right(self.values, n, y, vectors, out),
            parts => divided(n, n.div_ceil(parts), out, |part| {
                let mut product = vec![C::zero(); vectors * part.len()];
                kernel::right(&self.values[part.start * n..part.end * n], n, y, vectors, &mut product);
                product
            }),
        }
        for out in out.chunks_exact_mut(n) {
            out.iter_mut().zip(self.scale.iter()).for_each(|(out, s)| *out = *out * C::of_f64(*s));
        }
    }

    fn links(&self) -> Option<Links> {
        if self.positive {
            return None;
        }
        let n = self.scale.len();
        let mut links = Links::none(n);
        for (from, row) in self.values.chunks_exact(n).enumerate() {
            links.add_row(from, row, |value| value.to_f64() > 0.0);
        }
        Some(links)
    }

    fn components(&self, reversed: bool) -> Option<Components> {
        if self.positive || self.has_hub() {
            return None;
        }
        self.links().map(|links| Components::of(&links, reversed))
    }

    fn block(&self, members: &[usize]) -> Array2<f64> {
        let n = self.scale.len();
        Array2::from_shape_fn((members.len(), members.len()), |(i, j)| {
            self.values[members[i] * n + members[j]].to_f64() * self.scale[members[i]]
        })
    }

    fn diagonal(&self) -> Vec<f64> {
        let step = self.scale.len() + 1;
        self.values
            .iter()
            .step_by(step)
            .zip(self.scale.iter())
            .map(|(value, scale)| value.to_f64() * scale)
            .collect()
    }

    fn triangle(&self) -> Option<Triangle> {
        triangle::recognise(self.values, self.scale.len())
    }

    fn rows_of(&self, triangle: Triangle, falling: bool, take: &mut dyn FnMut(usize, usize, &[f64])) {
        let n = self.scale.len();
        let mut values = Vec::with_capacity(n);
        for row in 0..n {
            let row = if falling { n - 1 - row } else { row };
            let (from, end) = match triangle {
                Triangle::Lower => (0, row + 1),
                Triangle::Upper => (row, n),
            };
            values.clear();
            let entries = &self.values[row * n..][from..end];
            values.extend(entries.iter().map(|value| value.to_f64() * self.scale[row]));
            take(row, from, &values);
        }
    }
}

/// Number of entries from which a product is divided among threads; below, waking them takes as long as it saves.
const DIVIDED: usize = 1 << 22;
/// Number of columns below which a part is not made smaller: short pieces of rows are read slowly.
const NARROW: usize = 512;
/// Divided products begin at multiples of this number of columns.
const ALIGNED: usize = 64;

/// Computes `out` `[vectors, n]` in parallel, `width` numbers of every vector at a time.
fn divided<C: Element>(n: usize, width: usize, out: &mut [C], part: impl Fn(Range<usize>) -> Vec<C> + Sync) {
    let ranges =
        (0..n.div_ceil(width)).into_par_iter().map(|place| place * width..n.min((place + 1) * width));
    let products: Vec<_> = ranges.map(|range| (range.clone(), part(range))).collect();
    for (range, product) in products {
        for (out, product) in out.chunks_exact_mut(n).zip(product.chunks_exact(range.len())) {
            out[range.clone()].copy_from_slice(product);
        }
    }
}

/// Returns the number of parts in which a matrix of `n` states is read: one for each thread if it is large.
fn parts(n: usize) -> usize {
    if n * n < DIVIDED { 1 } else { rayon::current_num_threads().min(n / NARROW) }
}

pub(crate) fn side<T>(values: ArrayView2<'_, T>) -> Result<usize> {
    let (rows, columns) = values.dim();
    if rows == 0 || columns == 0 {
        return Err(Error::Empty);
    }
    if rows != columns {
        return Err(Error::NotSquare { rows, columns });
    }
    Ok(rows)
}

/// Returns the sums of all rows, after checking that each is finite, without negative entries and within `tolerance` of
/// 1; and whether all entries are positive.
fn row_sums<T: Element>(values: &[T], n: usize, tolerance: f64) -> Result<(Vec<f64>, bool)> {
    let height = n.div_ceil(parts(n));
    let summaries =
        values.par_chunks(height * n).map(|rows| rows.chunks_exact(n).map(kernel::row_summary).collect());
    let summaries: Vec<Vec<(f64, f64)>> = summaries.collect();
    let (mut sums, mut positive) = (Vec::with_capacity(n), true);
    for ((row, entries), (sum, least)) in
        values.chunks_exact(n).enumerate().zip(summaries.into_iter().flatten())
    {
        // Written so that NaN fails the check, and a zero row fails it at any tolerance.
        let sound = (sum - 1.0).abs() <= tolerance && sum > 0.0;
        if least < 0.0 || !sound {
            for (column, value) in entries.iter().map(|v| v.to_f64()).enumerate() {
                if !value.is_finite() {
                    return Err(Error::NotFinite { row, column, value });
                }
                if value < 0.0 {
                    return Err(Error::Negative { row, column, value });
                }
            }
            return Err(Error::RowSum { row, sum, tolerance });
        }
        positive &= least > 0.0;
        sums.push(sum);
    }
    Ok((sums, positive))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    /// Products of a matrix that is large enough to be divided do not depend on the number of threads.
    #[test]
    #[cfg_attr(miri, ignore = "a large matrix")]
    fn divided_products_equal_undivided_ones() {
        let (n, vectors) = (2051, 5);
        let mut random = Random::new(3);
        let mut values: Vec<f32> = (0..n * n).map(|_| random.symmetric().abs() as f32 + 0.01).collect();
        for row in values.chunks_exact_mut(n) {
            let sum: f32 = row.iter().sum();
            row.iter_mut().for_each(|value| *value /= sum);
        }
        let x: Vec<f64> = (0..vectors * n).map(|_| random.symmetric()).collect();
        let products = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
            pool.install(|| {
                let matrix = StochasticView::new(&values, n, 1e-3).expect("a stochastic matrix");
                let (mut left, mut right) = (vec![0.0; vectors * n], vec![0.0; vectors * n]);
                matrix.left(&x, vectors, &mut left);
                matrix.right(&x, vectors, &mut right);
                (matrix.scale.into_owned(), left, right)
            })
        };
        let (scale, left, right) = products(1);
        let weights = weighed(&x, &scale);
        let (mut whole, mut other) = (vec![0.0; vectors * n], vec![0.0; vectors * n]);
        kernel::left(&values, n, &weights, vectors, &mut whole);
        kernel::right(&values, n, &x, vectors, &mut other);
        other.chunks_exact_mut(n).for_each(|row| row.iter_mut().zip(&scale).for_each(|(out, s)| *out *= s));
        assert!(left == whole && right == other);
        for threads in [2, 3, 7] {
            assert_eq!(products(threads), (scale.clone(), left.clone(), right.clone()), "{threads} threads");
        }
    }

    /// The first bad row is named, whichever thread finds one first.
    #[test]
    fn the_first_bad_row_is_named() {
        let n = 2050;
        let mut values = vec![1.0 / n as f64; n * n];
        values[700 * n] = f64::NAN;
        values[300 * n + 4] = -0.5;
        let refused = StochasticView::new(&values, n, 1e-3).expect_err("two bad rows");
        assert!(matches!(refused, Error::Negative { row: 300, column: 4, .. }), "{refused}");
    }
}
