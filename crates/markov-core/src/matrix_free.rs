//! The chain of an attention head that is never written out: rows of `softmax(Q Kᵀ · scale)` are recomputed a chunk at
//! a time, so a long sequence needs `chunk × n` numbers instead of `n × n`.

use ndarray::{Array2, ArrayView2, s};
use rayon::prelude::*;

use crate::chain::RowStochastic;
use crate::kernel::{self, Element};
use crate::{Error, Result};

/// Rows of the attention matrix held at a time, by default.
const CHUNK: usize = 128;
/// Tasks a pass is divided into. Fixed, so that sums are added in the same order on any machine.
const TASKS: usize = 8;

/// A row-stochastic matrix `softmax(Q Kᵀ · scale)` known by its queries and keys.
///
/// Everything is computed in double precision: the result equals that of the stored matrix to rounding. Each product
/// costs the softmax again; a backward chain costs one more pass when it is made, for the column sums.
///
/// ```
/// use markov_core::{QueryKey, RowStochastic, Stop, token_rank};
/// use ndarray::array;
///
/// let (q, k) = (array![[1.0f32, 0.0], [0.0, 1.0]], array![[0.5f32, 0.5], [1.0, 0.0]]);
/// let head = QueryKey::new(q.view(), k.view(), 1.0 / 2f64.sqrt())?;
/// let rank = token_rank(&head.teleport(0.99)?.forward(), Stop::strict())?;
/// assert_eq!(rank.pi.len(), 2);
/// # Ok::<(), markov_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct QueryKey<'a, T> {
    queries: ArrayView2<'a, T>,
    /// Scaled and transposed, `[d, n]`.
    keys: Array2<f64>,
    chunk: usize,
}

impl<'a, T: Element> QueryKey<'a, T> {
    /// The head with `queries` and `keys` `[n, d]` and logits `scale · q · k`, usually `scale = 1/√d`.
    ///
    /// # Errors
    /// [`Error::Empty`]; [`Error::Shape`] when the two differ; [`Error::NotFinite`] for NaN, infinities, or a scale that
    /// makes one.
    pub fn new(queries: ArrayView2<'a, T>, keys: ArrayView2<'a, T>, scale: f64) -> Result<Self> {
        if queries.is_empty() {
            return Err(Error::Empty);
        }
        if keys.dim() != queries.dim() {
            let expected = format!("that of the queries, {:?}", queries.shape());
            return Err(Error::Shape { what: "the matrix of keys", found: keys.shape().to_vec(), expected });
        }
        let scaled = keys.t().mapv(|k| k.to_f64() * scale).as_standard_layout().into_owned();
        let bad_key = scaled.indexed_iter().map(|((d, n), v)| (n, d, *v)).find(|(_, _, v)| !v.is_finite());
        let mut all_queries = queries.indexed_iter().map(|((n, d), v)| (n, d, v.to_f64()));
        if let Some((row, column, value)) = bad_key.or_else(|| all_queries.find(|(_, _, v)| !v.is_finite())) {
            return Err(Error::NotFinite { row, column, value });
        }
        Ok(QueryKey { queries, keys: scaled, chunk: CHUNK })
    }

    /// Holds at most `rows` rows of the matrix at a time, per thread.
    #[must_use]
    pub fn chunk(self, rows: usize) -> Self {
        QueryKey { chunk: rows.max(1), ..self }
    }

    /// Rows `first..first + out.nrows()` of the matrix.
    fn rows(&self, first: usize, count: usize) -> Vec<f64> {
        let n = self.keys.ncols();
        let queries = self.queries.slice(s![first..first + count, ..]).mapv(|q| q.to_f64());
        let mut logits =
            queries.dot(&self.keys).as_standard_layout().into_owned().into_raw_vec_and_offset().0;
        logits.chunks_exact_mut(n).for_each(kernel::softmax);
        logits
    }

    /// Calls `take` with every chunk of rows, in parallel over tasks of neighbouring chunks; each task folds into its own
    /// state.
    fn stream<S: Send>(
        &self,
        start: impl Fn() -> S + Sync,
        take: impl Fn(&mut S, usize, &[f64]) + Sync,
    ) -> Vec<S> {
        let n = self.keys.ncols();
        let chunks = n.div_ceil(self.chunk);
        let tasks = TASKS.min(chunks);
        (0..tasks)
            .into_par_iter()
            .map(|task| {
                let mut state = start();
                for chunk in task * chunks / tasks..(task + 1) * chunks / tasks {
                    let first = chunk * self.chunk;
                    take(&mut state, first, &self.rows(first, self.chunk.min(n - first)));
                }
                state
            })
            .collect()
    }
}

impl<T: Element> RowStochastic for QueryKey<'_, T> {
    fn states(&self) -> usize {
        self.keys.ncols()
    }

    fn left<C: Element>(&self, x: &[C], vectors: usize, out: &mut [C]) {
        let n = self.states();
        let parts = self.stream(
            || (vec![C::zero(); vectors * n], vec![C::zero(); vectors * n]),
            |(sum, part), first, rows| {
                let count = rows.len() / n;
                let weights: Vec<C> =
                    x.chunks_exact(n).flat_map(|x| x[first..first + count].to_vec()).collect();
                kernel::left(rows, n, &weights, vectors, part);
                kernel::axpy(C::one(), part.as_slice(), sum);
            },
        );
        out.fill(C::zero());
        parts.iter().for_each(|(sum, _)| kernel::axpy(C::one(), sum.as_slice(), out));
    }

    fn right<C: Element>(&self, y: &[C], vectors: usize, out: &mut [C]) {
        let n = self.states();
        let parts = self.stream(Vec::new, |done: &mut Vec<(usize, Vec<C>)>, first, rows| {
            let mut part = vec![C::zero(); vectors * (rows.len() / n)];
            kernel::right(rows, n, y, vectors, &mut part);
            done.push((first, part));
        });
        for (first, part) in parts.into_iter().flatten() {
            let count = part.len() / vectors.max(1);
            for (v, part) in part.chunks_exact(count).enumerate() {
                out[v * n + first..][..count].copy_from_slice(part);
            }
        }
    }

    /// A softmax is positive, though it may be too small for a float.
    fn possible(&self, _from: usize, _to: usize) -> bool {
        true
    }

    fn all_possible(&self) -> bool {
        true
    }
}
