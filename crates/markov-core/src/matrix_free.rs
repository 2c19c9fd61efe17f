//! The chain of an attention head whose matrix is never stored: rows of `softmax(Q Kᵀ · scale)` are recomputed a chunk
//! at a time, so a long sequence needs `chunk × n` numbers instead of `n × n`.

use ndarray::{Array2, ArrayView2, s};
use rayon::prelude::*;

use crate::chain::RowStochastic;
use crate::kernel::{self, Element};
use crate::structure::Links;
use crate::{Error, Result};

/// Default number of rows of the attention matrix in memory at a time.
const CHUNK: usize = 128;
/// Number of tasks of a pass. It is fixed, so that sums are added in the same order on any machine.
const TASKS: usize = 8;

/// The tokens that a token may attend to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mask {
    /// Every token attends to itself and to those before it.
    Causal,
    /// `allowed[(i, j)]`: whether token *i* may attend to token *j* `[n, n]`.
    Allowed(Array2<bool>),
}

impl Mask {
    fn allows(&self, from: usize, to: usize) -> bool {
        match self {
            Mask::Causal => to <= from,
            Mask::Allowed(allowed) => allowed[(from, to)],
        }
    }
}

/// A row-stochastic matrix `softmax(Q Kᵀ · scale)` given by its queries and keys and by the mask before its softmax.
///
/// Everything is computed in double precision: the result equals that of the stored matrix to rounding. Each product
/// computes the softmax again; creating a backward chain costs one more pass for the column sums.
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
    mask: Option<Mask>,
    chunk: usize,
}

impl<'a, T: Element> QueryKey<'a, T> {
    /// Creates the head with `queries` and `keys` `[n, d]` and logits `scale · q · k`, usually `scale = 1/√d`.
    ///
    /// # Errors
    /// [`Error::Empty`]; [`Error::Shape`] if their shapes differ; [`Error::NotFinite`] for NaN or infinities, also if
    /// the scale causes them.
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
        Ok(QueryKey { queries, keys: scaled, mask: None, chunk: CHUNK })
    }

    /// Adds a mask to the head: masked transitions have probability 0, exactly.
    ///
    /// The eigenvalues of a masked head are those of its components. Those of a causal head are its diagonal, read in
    /// one pass. A component of more than one token and at most half of the tokens is stored as a matrix.
    ///
    /// # Errors
    /// [`Error::Shape`] for a mask of another size; [`Error::NothingAllowed`] if a token may attend to no token.
    pub fn masked(self, mask: Mask) -> Result<Self> {
        if let Mask::Allowed(allowed) = &mask {
            let n = self.states();
            if allowed.dim() != (n, n) {
                let expected = format!("[{n}, {n}]");
                return Err(Error::Shape { what: "the mask", found: allowed.shape().to_vec(), expected });
            }
            if let Some(row) = allowed.rows().into_iter().position(|row| !row.iter().any(|may| *may)) {
                return Err(Error::NothingAllowed { row });
            }
        }
        Ok(QueryKey { mask: Some(mask), ..self })
    }

    /// Sets the maximum number of rows of the matrix in memory at a time, per thread.
    #[must_use]
    pub fn chunk(self, rows: usize) -> Self {
        QueryKey { chunk: rows.max(1), ..self }
    }

    /// Computes `count` rows of the matrix from `first` on.
    fn rows(&self, first: usize, count: usize) -> Vec<f64> {
        let n = self.keys.ncols();
        let queries = self.queries.slice(s![first..first + count, ..]).mapv(|q| q.to_f64());
        let mut logits =
            queries.dot(&self.keys).as_standard_layout().into_owned().into_raw_vec_and_offset().0;
        for (row, logits) in logits.chunks_exact_mut(n).enumerate() {
            let Some(mask) = &self.mask else {
                kernel::softmax(logits);
                continue;
            };
            let forbidden = |to: &usize| !mask.allows(first + row, *to);
            (0..n).filter(forbidden).for_each(|to| logits[to] = f64::NEG_INFINITY);
            kernel::softmax(logits);
            (0..n).filter(forbidden).for_each(|to| logits[to] = 0.0);
        }
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

    /// A softmax is positive wherever the mask allows it, even if it is too small for a float.
    fn links(&self) -> Option<Links> {
        let mask = self.mask.as_ref()?;
        let n = self.states();
        let mut links = Links::none(n);
        let tokens: Vec<usize> = (0..n).collect();
        (0..n).for_each(|from| links.add_row(from, &tokens, |to| mask.allows(from, *to)));
        (!links.all()).then_some(links)
    }

    fn block(&self, members: &[usize]) -> Array2<f64> {
        let m = members.len();
        let rows = members.par_iter().flat_map_iter(|from| {
            let row = self.rows(*from, 1);
            members.iter().map(move |to| row[*to])
        });
        Array2::from_shape_vec((m, m), rows.collect()).unwrap_or_else(|_| Array2::zeros((m, m)))
    }

    fn diagonal(&self) -> Vec<f64> {
        let n = self.states();
        let parts = self.stream(Vec::new, |done: &mut Vec<f64>, first, rows| {
            done.extend(rows.chunks_exact(n).enumerate().map(|(row, values)| values[first + row]));
        });
        parts.into_iter().flatten().collect()
    }
}
