//! The chain of an attention head whose matrix is never stored: rows of `softmax(Q Kᵀ · scale)` are recomputed a chunk
//! at a time, so a long sequence needs `chunk × n` numbers instead of `n × n`.

mod logits;
mod pattern;

use std::sync::Arc;

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use ndarray::{Array2, ArrayView1, ArrayView2, ArrayViewMut2, Axis};
use rayon::prelude::*;

use crate::chain::RowStochastic;
use crate::kernel::{self, Element, Number};
use crate::stochastic::Stochastic;
use crate::structure::{Components, Links};
use crate::triangle::Triangle;
use crate::{Error, Result};

use logits::Columns;
pub use logits::{Bias, Logits, MASKED, Mask};
pub(crate) use pattern::Pattern;

/// Number of entries of the attention matrix in memory at a time, per thread: 512 KiB, which stay in the second cache.
const CHUNK_ENTRIES: usize = 1 << 16;
/// Least and largest default number of rows in memory at a time.
const CHUNK_ROWS: (usize, usize) = (16, 128);
/// Number of tasks of a pass. It is fixed, so that sums are added in the same order on any machine.
const TASKS: usize = 16;
/// Largest spread of the logits of a row at which all of its probabilities are certainly above 0 in single precision:
/// `ln 2¹⁴⁹`, less a margin for rounding. The logarithm of the number of columns counts as spread.
const SPREAD: f64 = 103.0;

/// The row-stochastic matrix of an attention head, given by its queries, its keys and the rule for its [`Logits`].
///
/// Everything is computed in double precision: the result equals that of the stored matrix to rounding. Each product
/// computes the softmax again; creating a backward chain costs one more pass for the column sums. Only the columns that
/// the masks allow are computed.
///
/// The eigenvalues of a masked head are those of its components. Those of a causal head are its diagonal, read in one
/// pass. A component of more than one token and at most half of the tokens is stored as a matrix.
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
pub struct QueryKey<'a> {
    /// Of the kept tokens, `[m, d]`.
    queries: Array2<f64>,
    /// Of the kept tokens, scaled and transposed, `[d, m]`.
    keys: Array2<f64>,
    /// Number of tokens, kept or not.
    tokens: usize,
    logits: Logits<'a>,
    pattern: Arc<Pattern>,
    chunk: usize,
    parallel: bool,
}

/// A few rows of the matrix.
struct Rows<'b> {
    /// Their numbers.
    numbers: &'b [usize],
    /// First column; columns before and after the values are 0.
    from: usize,
    /// Number of columns.
    width: usize,
    /// `[numbers, width]`.
    values: &'b [f64],
}

impl<'a> QueryKey<'a> {
    /// Creates the head with `queries` and `keys` `[n, d]` and logits `scale · q · k`, usually `scale = 1/√d`.
    ///
    /// # Errors
    /// As [`QueryKey::with_logits`].
    pub fn new<T: Number>(queries: ArrayView2<'_, T>, keys: ArrayView2<'_, T>, scale: f64) -> Result<Self> {
        Self::with_logits(queries, keys, Logits::scaled(scale), None)
    }

    /// Creates the head with `queries` and `keys` `[n, d]`, the rule for its logits, and `kept` `[n]`, which says of each
    /// token whether it is kept; `None` keeps all.
    ///
    /// The states of the chain are the kept tokens in their order: the walk under the condition that it stays among
    /// them, as with [`Stochastic::restricted`]. Queries, keys and masks of dropped tokens may be NaN. Causal masks and
    /// windows count all tokens.
    ///
    /// # Errors
    /// [`Error::Empty`]; [`Error::Shape`] for shapes that do not fit; [`Error::Setting`]; [`Error::BadVector`] and
    /// [`Error::BadBias`] for NaN or infinities; [`Error::LogitsOverflow`]; [`Error::NothingAllowed`] if a kept token may
    /// attend to no token, which includes a row of an additive mask in which every entry is at most [`MASKED`];
    /// [`Error::RowLost`] if it may attend to dropped tokens only. Tokens are counted in the whole sequence.
    pub fn with_logits<T: Number>(
        queries: ArrayView2<'_, T>,
        keys: ArrayView2<'_, T>,
        logits: Logits<'a>,
        kept: Option<ArrayView1<'_, bool>>,
    ) -> Result<Self> {
        let tokens = check_shapes(queries.shape(), keys.shape(), kept.map(|kept| kept.len()))?;
        logits.check(tokens)?;
        let pattern = Pattern::new(tokens, kept.and_then(positions), &logits)?;
        Self::with_pattern(queries, keys, logits, Arc::new(pattern))
    }

    /// [`QueryKey::with_logits`] for a pattern that was made from the same masks and bias.
    pub(crate) fn with_pattern<T: Number>(
        queries: ArrayView2<'_, T>,
        keys: ArrayView2<'_, T>,
        logits: Logits<'a>,
        pattern: Arc<Pattern>,
    ) -> Result<Self> {
        let tokens = queries.nrows();
        let queries = gathered("query", queries, &pattern, 1.0)?;
        let keys = gathered("key", keys, &pattern, logits.scale)?;
        let (query, key) = (largest_norm(&queries), largest_norm(&keys));
        // Room for the bias and for the difference of two logits.
        if !(query * key).is_finite() || query * key > f64::MAX / 4.0 {
            return Err(Error::LogitsOverflow { query, key });
        }
        let keys = keys.reversed_axes().as_standard_layout().into_owned();
        let chunk = (CHUNK_ENTRIES / pattern.rows().len()).clamp(CHUNK_ROWS.0, CHUNK_ROWS.1);
        Ok(QueryKey { queries, keys, tokens, logits, pattern, chunk, parallel: true })
    }

    /// Adds a mask to the head: masked transitions have probability 0, exactly.
    ///
    /// # Errors
    /// [`Error::Shape`] for a mask of another size; [`Error::NothingAllowed`] and [`Error::RowLost`] as in
    /// [`QueryKey::with_logits`].
    pub fn masked(self, mask: Mask<'a>) -> Result<Self> {
        let logits = self.logits.masked(mask);
        logits.check(self.tokens)?;
        let kept = self.pattern.kept().map(<[usize]>::to_vec);
        let pattern = Arc::new(Pattern::new(self.tokens, kept, &logits)?);
        Ok(QueryKey { logits, pattern, ..self })
    }

    /// Sets the maximum number of rows of the matrix in memory at a time, per thread.
    #[must_use]
    pub fn chunk(self, rows: usize) -> Self {
        QueryKey { chunk: rows.max(1), ..self }
    }

    /// Computes everything on the calling thread: better if many heads are computed at once, one per thread. Results do
    /// not change.
    #[must_use]
    pub fn sequential(self) -> Self {
        QueryKey { parallel: false, ..self }
    }

    /// Computes the matrix `[n, n]` of the kept tokens and stores it as `f32` or `f64`.
    pub fn to_stochastic<C: Element>(&self) -> Stochastic<C> {
        self.to_stochastic_in(Vec::new())
    }

    /// [`QueryKey::to_stochastic`] in the memory of `storage`, whose content does not matter: fresh memory costs more
    /// than the matrix.
    pub(crate) fn to_stochastic_in<C: Element>(&self, mut storage: Vec<C>) -> Stochastic<C> {
        let n = self.states();
        storage.resize(n * n, C::zero());
        let mut rows = vec![(0.0, 0.0); n];
        let parts = storage.chunks_mut(self.chunk * n).zip(rows.chunks_mut(self.chunk));
        self.each_chunk(parts, |buffer, chunk, (out, summaries)| {
            let first = chunk * self.chunk;
            let numbers: Vec<usize> = (first..first + summaries.len()).collect();
            let rows = self.compute(&numbers, buffer);
            let stored = out.chunks_exact_mut(n).zip(summaries);
            for ((out, summary), values) in stored.zip(rows.values.chunks_exact(rows.width)) {
                let (before, rest) = out.split_at_mut(rows.from);
                let (inner, after) = rest.split_at_mut(rows.width);
                before.fill(C::zero());
                after.fill(C::zero());
                inner.iter_mut().zip(values).for_each(|(out, value)| *out = C::of_f64(*value));
                let (sum, least) = kernel::row_summary(inner);
                *summary = (sum, if rows.width == n { least } else { 0.0 });
            }
        });
        Stochastic::of_rows(storage, &rows)
    }

    /// Computes the rows with these numbers, in the columns that at least one of them reaches.
    fn compute<'b>(&self, numbers: &'b [usize], buffer: &'b mut Vec<f64>) -> Rows<'b> {
        let rows = self.pattern.rows();
        let from = numbers.iter().map(|row| rows[*row].from).min().unwrap_or(0);
        let width = numbers.iter().map(|row| rows[*row].end).max().unwrap_or(0) - from;
        buffer.resize(numbers.len() * width, 0.0);
        self.products(numbers, from, width, buffer);
        for (number, values) in numbers.iter().zip(buffer.chunks_exact_mut(width)) {
            let row = rows[*number];
            let (before, rest) = values.split_at_mut(row.from - from);
            let (values, after) = rest.split_at_mut(row.end - row.from);
            before.fill(0.0);
            after.fill(0.0);
            self.softmax(*number, values);
        }
        Rows { numbers, from, width, values: buffer }
    }

    /// Computes `q·k · scale` for the rows `numbers` and some neighbouring columns: `[numbers, width]`.
    ///
    /// faer's product is up to 1.6 times as fast as that of ndarray here. In single precision it would be twice as fast,
    /// but its error of 4e-6 at logits around 10 is too large.
    fn products(&self, numbers: &[usize], from: usize, width: usize, out: &mut [f64]) {
        let (dimension, n) = self.keys.dim();
        let queries = self.queries.select(Axis(0), numbers);
        let (Some(queries), Some(keys)) = (queries.as_slice(), self.keys.as_slice()) else { return };
        let queries = MatRef::from_row_major_slice(queries, numbers.len(), dimension);
        let keys = MatRef::from_row_major_slice(keys, dimension, n).subcols(from, width);
        let out = MatMut::from_row_major_slice_mut(out, numbers.len(), width);
        matmul(out, Accum::Replace, queries, keys, 1.0, Par::Seq);
    }

    /// Turns the products `q·k · scale` of a row into its probabilities, in the columns of its pattern.
    fn softmax(&self, number: usize, values: &mut [f64]) {
        let row = self.pattern.rows()[number];
        if let Some(cap) = self.logits.softcap {
            kernel::softcap(values, cap);
        }
        let token = self.pattern.token(number);
        let columns = Columns { kept: self.pattern.kept(), from: row.from, end: row.end };
        if let Some(bias) = self.logits.bias.as_ref().filter(|_| !row.whole || row.bias != (0.0, 0.0)) {
            bias.read(token, columns, values, |logit, bias| {
                *logit = if bias > MASKED { *logit + bias } else { f64::NEG_INFINITY };
            });
        }
        if !row.whole {
            for mask in &self.logits.masks {
                mask.forbid(token, columns, values, |logit| *logit = f64::NEG_INFINITY);
            }
        }
        kernel::softmax(values);
    }

    /// Whether a probability of a row may round to 0 in single precision: by the lengths of its query and of the longest
    /// key, and by its bias.
    fn may_underflow(&self, number: usize, longest_key: f64) -> bool {
        let logit = norm(self.queries.row(number)) * longest_key;
        let logit = self.logits.softcap.map_or(logit, |cap| logit.min(cap));
        let (low, high) = self.pattern.rows()[number].bias;
        2.0 * logit + (high - low) + (self.states() as f64).ln() >= SPREAD
    }

    /// Sets the flags `[n]` of the columns that the pattern of a row allows.
    fn mark_allowed(&self, number: usize, flags: &mut [bool]) {
        let row = self.pattern.rows()[number];
        let (token, flags) = (self.pattern.token(number), &mut flags[row.from..row.end]);
        let columns = Columns { kept: self.pattern.kept(), from: row.from, end: row.end };
        flags.fill(true);
        if let Some(bias) = &self.logits.bias {
            bias.read(token, columns, flags, |flag, bias| *flag = bias > MASKED);
        }
        self.logits.masks.iter().for_each(|mask| mask.forbid(token, columns, flags, |flag| *flag = false));
    }

    /// Calls `work` with a buffer, a number and a part for each part, in parallel unless the head is sequential.
    fn each_chunk<I: Send>(
        &self,
        parts: impl Iterator<Item = I>,
        work: impl Fn(&mut Vec<f64>, usize, I) + Sync + Send,
    ) {
        if self.parallel {
            let parts: Vec<I> = parts.collect();
            parts
                .into_par_iter()
                .enumerate()
                .for_each_init(Vec::new, |buffer, (i, part)| work(buffer, i, part));
        } else {
            let mut buffer = Vec::new();
            parts.enumerate().for_each(|(i, part)| work(&mut buffer, i, part));
        }
    }

    /// Calls `take` with every chunk of rows, in parallel over tasks; each task folds into its own state. Task `t` of `T`
    /// has the chunks `t`, `t + T`, …, since the rows of a causal head grow.
    fn stream<S: Send>(
        &self,
        start: impl Fn() -> S + Sync,
        take: impl Fn(&mut S, Rows<'_>) + Sync,
    ) -> Vec<S> {
        let n = self.states();
        let chunks = n.div_ceil(self.chunk);
        let tasks = TASKS.min(chunks);
        let run = |task| {
            let (mut state, mut buffer) = (start(), Vec::new());
            for chunk in (task..chunks).step_by(tasks) {
                let numbers: Vec<usize> = (chunk * self.chunk..n.min((chunk + 1) * self.chunk)).collect();
                take(&mut state, self.compute(&numbers, &mut buffer));
            }
            state
        };
        if self.parallel {
            (0..tasks).into_par_iter().map(run).collect()
        } else {
            (0..tasks).map(run).collect()
        }
    }
}

/// Returns the number of tokens after checking the shapes of queries, keys and kept tokens.
fn check_shapes(queries: &[usize], keys: &[usize], kept: Option<usize>) -> Result<usize> {
    let n = queries[0];
    if queries.contains(&0) {
        return Err(Error::Empty);
    }
    if keys != queries {
        let expected = format!("that of the queries, {queries:?}");
        return Err(Error::Shape { what: "the matrix of keys", found: keys.to_vec(), expected });
    }
    match kept {
        Some(found) if found != n => Err(Error::Shape {
            what: "the list of kept tokens",
            found: vec![found],
            expected: format!("[{n}], one entry per token"),
        }),
        Some(_) | None => Ok(n),
    }
}

/// Returns the positions of the kept tokens, or `None` if all are kept.
pub(crate) fn positions(kept: ArrayView1<'_, bool>) -> Option<Vec<usize>> {
    let some = kept.iter().any(|keep| !keep);
    some.then(|| kept.iter().enumerate().filter_map(|(token, keep)| keep.then_some(token)).collect())
}

/// Returns the vectors of the kept tokens in double precision, multiplied by `factor`.
fn gathered<T: Number>(
    what: &'static str,
    vectors: ArrayView2<'_, T>,
    pattern: &Pattern,
    factor: f64,
) -> Result<Array2<f64>> {
    let mut all = Array2::zeros((pattern.rows().len(), vectors.ncols()));
    for (row, mut out) in all.rows_mut().into_iter().enumerate() {
        let token = pattern.token(row);
        for (dimension, (out, value)) in out.iter_mut().zip(vectors.row(token)).enumerate() {
            let value = value.to_f64();
            if !value.is_finite() {
                return Err(Error::BadVector { what, token, dimension, value });
            }
            *out = value * factor;
        }
    }
    Ok(all)
}

fn largest_norm(vectors: &Array2<f64>) -> f64 {
    vectors.rows().into_iter().map(norm).fold(0.0, f64::max)
}

fn norm(vector: ArrayView1<'_, f64>) -> f64 {
    vector.dot(&vector).sqrt()
}

impl RowStochastic for QueryKey<'_> {
    fn states(&self) -> usize {
        self.keys.ncols()
    }

    fn recomputed(&self) -> bool {
        true
    }

    fn left<C: Element>(&self, x: &[C], vectors: usize, out: &mut [C]) {
        let n = self.states();
        let parts = self.stream(
            || (vec![C::zero(); vectors * n], vec![C::zero(); vectors * n]),
            |(sum, part), Rows { numbers, from, width, values }| {
                let first = numbers[0];
                let weights: Vec<C> =
                    x.chunks_exact(n).flat_map(|x| x[first..first + numbers.len()].to_vec()).collect();
                let part = &mut part[..vectors * width];
                kernel::left(values, width, &weights, vectors, part);
                for (part, sum) in part.chunks_exact(width).zip(sum.chunks_exact_mut(n)) {
                    kernel::axpy(C::one(), part, &mut sum[from..from + width]);
                }
            },
        );
        out.fill(C::zero());
        parts.iter().for_each(|(sum, _)| kernel::axpy(C::one(), sum.as_slice(), out));
    }

    fn right<C: Element>(&self, y: &[C], vectors: usize, out: &mut [C]) {
        let n = self.states();
        let take = |done: &mut Vec<(usize, Vec<C>)>, Rows { numbers, from, width, values }: Rows<'_>| {
            let mut part = vec![C::zero(); vectors * numbers.len()];
            let y: Vec<C> = y.chunks_exact(n).flat_map(|y| y[from..from + width].to_vec()).collect();
            kernel::right(values, width, &y, vectors, &mut part);
            done.push((numbers[0], part));
        };
        for (first, part) in self.stream(Vec::new, take).into_iter().flatten() {
            let count = part.len() / vectors.max(1);
            for (v, part) in part.chunks_exact(count).enumerate() {
                out[v * n + first..][..count].copy_from_slice(part);
            }
        }
    }

    /// Needs no pass over the matrix if the lengths of the queries and keys show that no probability rounds to 0 in
    /// single precision; otherwise computes the rows in which one might.
    fn links(&self) -> Option<Links> {
        let n = self.states();
        let longest = self.keys.columns().into_iter().map(norm).fold(0.0, f64::max);
        let doubtful: Vec<bool> = (0..n).map(|row| self.may_underflow(row, longest)).collect();
        if self.pattern.full() && !doubtful.contains(&true) {
            return None;
        }
        let mut links = Links::none(n);
        self.each_chunk(links.parts(self.chunk), |buffer, chunk, mut out| {
            let first = chunk * self.chunk;
            let mut flags = vec![false; n];
            let (computed, known): (Vec<usize>, Vec<usize>) =
                (first..n.min(first + self.chunk)).partition(|number| doubtful[*number]);
            for number in known {
                let row = self.pattern.rows()[number];
                if row.whole {
                    out.add_range(number - first, row.from, row.end);
                } else {
                    flags.fill(false);
                    self.mark_allowed(number, &mut flags);
                    out.add_row(number - first, &flags, |may| *may);
                }
            }
            if computed.is_empty() {
                return;
            }
            let rows = self.compute(&computed, buffer);
            for (number, values) in computed.iter().zip(rows.values.chunks_exact(rows.width)) {
                flags.fill(false);
                let flags = &mut flags[..];
                flags[rows.from..].iter_mut().zip(values).for_each(|(flag, value)| *flag = *value > 0.0);
                out.add_row(number - first, flags, |may| *may);
            }
        });
        (!links.all()).then_some(links)
    }

    fn block(&self, members: &[usize]) -> Array2<f64> {
        let m = members.len();
        let mut block = Array2::zeros((m, m));
        let fill = |buffer: &mut Vec<f64>, _, (numbers, mut out): (&[usize], ArrayViewMut2<'_, f64>)| {
            let rows = self.compute(numbers, buffer);
            for (mut out, row) in out.rows_mut().into_iter().zip(rows.values.chunks_exact(rows.width)) {
                for (out, to) in out.iter_mut().zip(members) {
                    *out = to.checked_sub(rows.from).and_then(|at| row.get(at)).copied().unwrap_or(0.0);
                }
            }
        };
        self.each_chunk(
            members.chunks(self.chunk).zip(block.axis_chunks_iter_mut(Axis(0), self.chunk)),
            fill,
        );
        block
    }

    fn diagonal(&self) -> Vec<f64> {
        let mut diagonal = vec![0.0; self.states()];
        let take = |done: &mut Vec<(usize, f64)>, Rows { numbers, from, width, values }: Rows<'_>| {
            done.extend(numbers.iter().zip(values.chunks_exact(width)).map(|(number, row)| {
                let value = number.checked_sub(from).and_then(|at| row.get(at)).copied().unwrap_or(0.0);
                (*number, value)
            }));
        };
        let parts = self.stream(Vec::new, take);
        parts.into_iter().flatten().for_each(|(number, value)| diagonal[number] = value);
        diagonal
    }

    /// The pattern alone tells the components of a causal head, so that no link is needed.
    fn components(&self, reversed: bool) -> Option<Components> {
        match RowStochastic::triangle(self) {
            None => self.links().map(|links| Components::of(&links, reversed)),
            Some(_) => Some(Components::singletons(self.pattern.alone(reversed))),
        }
    }

    fn triangle(&self) -> Option<Triangle> {
        self.pattern.triangle()
    }

    fn rows_of(&self, _: Triangle, falling: bool, take: &mut dyn FnMut(usize, usize, &[f64])) {
        let n = self.states();
        let mut chunks: Vec<Vec<usize>> =
            (0..n).step_by(self.chunk).map(|first| (first..n.min(first + self.chunk)).collect()).collect();
        if falling {
            chunks.reverse();
            chunks.iter_mut().for_each(|chunk| chunk.reverse());
        }
        // Each group of chunks is computed in parallel and read in order.
        let group = if self.parallel { TASKS } else { 1 };
        let mut buffers = vec![Vec::new(); group];
        for chunks in chunks.chunks(group) {
            let parts: Vec<Rows<'_>> = if self.parallel {
                chunks
                    .par_iter()
                    .zip(buffers.par_iter_mut())
                    .map(|(numbers, buffer)| self.compute(numbers, buffer))
                    .collect()
            } else {
                chunks
                    .iter()
                    .zip(&mut buffers)
                    .map(|(numbers, buffer)| self.compute(numbers, buffer))
                    .collect()
            };
            for rows in parts {
                for (number, values) in rows.numbers.iter().zip(rows.values.chunks_exact(rows.width)) {
                    let row = self.pattern.rows()[*number];
                    take(*number, row.from, &values[row.from - rows.from..row.end - rows.from]);
                }
            }
        }
    }
}
