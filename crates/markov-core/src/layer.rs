//! All heads of an attention layer, given by its queries and keys: one head per thread, stored or recomputed by its size.

use std::sync::{Arc, Mutex, OnceLock};

use ndarray::{Array2, ArrayView2, ArrayView4, Axis, Ix2, Ix4};
use rayon::prelude::*;

use crate::chain::RowStochastic;
use crate::kernel::{Element, Number};
use crate::matrix_free::{Bias, Logits, Mask, Pattern, QueryKey, positions};
use crate::stochastic::Stochastic;
use crate::structure::{Components, Links};
use crate::triangle::Triangle;
use crate::{Error, Result};

/// Up to this number of tokens the matrix of a head is stored: at most 34 MB per thread. Longer heads recompute their
/// rows in each pass.
pub const DENSE_STATES: usize = 2048;

/// The attention matrix of one head of a layer.
#[derive(Debug, Clone)]
pub enum HeadMap<'a> {
    /// Stored, `[n, n]`.
    Dense(Stochastic<f64>),
    /// Recomputed from queries and keys in each pass.
    MatrixFree(QueryKey<'a>),
}

impl<'a> HeadMap<'a> {
    /// Stores the matrix of the head if it has at most `dense_states` states.
    pub fn new(head: QueryKey<'a>, dense_states: usize) -> Self {
        if head.states() <= dense_states {
            HeadMap::Dense(head.to_stochastic())
        } else {
            HeadMap::MatrixFree(head)
        }
    }

    /// [`HeadMap::new`] in memory that an earlier head has left in `storage`.
    fn stored_in(head: QueryKey<'a>, dense_states: usize, storage: &Storages) -> Self {
        if head.states() <= dense_states {
            HeadMap::Dense(head.to_stochastic_in(storage.take()))
        } else {
            HeadMap::MatrixFree(head)
        }
    }
}

/// Memory of stored matrices between one head and the next: the operating system takes longer to hand out fresh memory
/// than a head takes to fill it.
#[derive(Default)]
struct Storages(Mutex<Vec<Vec<f64>>>);

impl Storages {
    fn take(&self) -> Vec<f64> {
        self.0.lock().ok().and_then(|mut storages| storages.pop()).unwrap_or_default()
    }

    fn give_back(&self, map: HeadMap<'_>) {
        if let (HeadMap::Dense(map), Ok(mut storages)) = (map, self.0.lock()) {
            storages.push(map.into_values().into_raw_vec_and_offset().0);
        }
    }
}

impl RowStochastic for HeadMap<'_> {
    fn states(&self) -> usize {
        match self {
            HeadMap::Dense(map) => map.states(),
            HeadMap::MatrixFree(head) => head.states(),
        }
    }

    fn recomputed(&self) -> bool {
        match self {
            HeadMap::Dense(_) => false,
            HeadMap::MatrixFree(head) => head.recomputed(),
        }
    }

    fn left<C: Element>(&self, x: &[C], vectors: usize, out: &mut [C]) {
        match self {
            HeadMap::Dense(map) => map.view().left(x, vectors, out),
            HeadMap::MatrixFree(head) => head.left(x, vectors, out),
        }
    }

    fn right<C: Element>(&self, y: &[C], vectors: usize, out: &mut [C]) {
        match self {
            HeadMap::Dense(map) => map.view().right(y, vectors, out),
            HeadMap::MatrixFree(head) => head.right(y, vectors, out),
        }
    }

    fn links(&self) -> Option<Links> {
        match self {
            HeadMap::Dense(map) => map.view().links(),
            HeadMap::MatrixFree(head) => head.links(),
        }
    }

    fn block(&self, members: &[usize]) -> Array2<f64> {
        match self {
            HeadMap::Dense(map) => map.view().block(members),
            HeadMap::MatrixFree(head) => head.block(members),
        }
    }

    fn diagonal(&self) -> Vec<f64> {
        match self {
            HeadMap::Dense(map) => map.view().diagonal(),
            HeadMap::MatrixFree(head) => head.diagonal(),
        }
    }

    fn components(&self, reversed: bool) -> Option<Components> {
        match self {
            HeadMap::Dense(map) => map.view().components(reversed),
            HeadMap::MatrixFree(head) => head.components(reversed),
        }
    }

    fn triangle(&self) -> Option<Triangle> {
        match self {
            HeadMap::Dense(map) => map.triangle(),
            HeadMap::MatrixFree(head) => head.triangle(),
        }
    }

    fn rows_of(&self, triangle: Triangle, falling: bool, take: &mut dyn FnMut(usize, usize, &[f64])) {
        match self {
            HeadMap::Dense(map) => map.view().rows_of(triangle, falling, take),
            HeadMap::MatrixFree(head) => head.rows_of(triangle, falling, take),
        }
    }
}

/// The place of a head in a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HeadAt {
    /// Index of the batch item.
    pub item: usize,
    /// Index of the query head.
    pub head: usize,
}

/// One call of an attention layer: queries and keys of a batch, and what its softmax adds, caps and masks.
///
/// Nothing is copied until a head is computed. Masks and biases are views `[batch, heads, n, n]` in which any axis may
/// have length 1.
///
/// ```
/// use markov_core::{Effort, Layer, RowStochastic, Stop, lambda2, token_rank};
/// use ndarray::Array4;
///
/// // Two query heads share one key head; the layer is causal.
/// let q = Array4::from_shape_fn((1, 2, 5, 4), |(_, h, i, c)| ((h + 2 * i + c) % 3) as f32);
/// let k = Array4::from_shape_fn((1, 1, 5, 4), |(_, _, i, c)| ((i + 2 * c) % 3) as f32);
/// let layer = Layer::new(q.view(), k.view(), 0.5)?.causal();
/// let answers = layer.each(|_, map| {
///     let rank = token_rank(&map.teleport(0.99)?.forward(), Stop::strict())?;
///     Ok((rank.pi, lambda2(&map.forward(), Effort::default())?.modulus))
/// });
/// assert_eq!(answers.len(), 2);
/// let (pi, _) = answers.into_iter().next().unwrap()?;
/// assert!(pi[0] > 0.9);
/// # Ok::<(), markov_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Layer<'a, T> {
    queries: ArrayView4<'a, T>,
    keys: ArrayView4<'a, T>,
    /// Without the masks and the bias, which are planes of `allowed` and `bias`.
    logits: Logits<'a>,
    allowed: Vec<ArrayView4<'a, bool>>,
    bias: Option<Bias<'a, Ix4>>,
    kept: Option<ArrayView2<'a, bool>>,
    dense_states: usize,
}

impl<'a, T: Number> Layer<'a, T> {
    /// Creates the layer from `queries` `[batch, heads, n, d]`, `keys` `[batch, key heads, n, d]` and the factor of
    /// `q·k`, usually `1/√d`.
    ///
    /// With fewer key heads (grouped-query attention) neighbouring query heads share one: query head `h` uses key head
    /// `h / (heads / key heads)`.
    ///
    /// # Errors
    /// [`Error::Empty`]; [`Error::Shape`] if the shapes do not fit, such as a number of keys other than that of the
    /// queries (cross-attention, or a cache of keys), which makes no chain.
    pub fn new(queries: ArrayView4<'a, T>, keys: ArrayView4<'a, T>, scale: f64) -> Result<Self> {
        let (batch, heads, n, d) = queries.dim();
        if queries.is_empty() || keys.is_empty() {
            return Err(Error::Empty);
        }
        let (found, groups) = (keys.shape().to_vec(), keys.len_of(Axis(1)));
        if found != [batch, groups, n, d] || heads % groups != 0 {
            let expected =
                format!("[{batch}, key heads, {n}, {d}] with a number of key heads that divides {heads}");
            return Err(Error::Shape { what: "the array of keys", found, expected });
        }
        let logits = Logits::scaled(scale);
        logits.check(n)?;
        let (allowed, dense_states) = (Vec::new(), DENSE_STATES);
        Ok(Layer { queries, keys, logits, allowed, bias: None, kept: None, dense_states })
    }

    /// Caps the logits before the bias is added: `cap · tanh(logit / cap)`.
    ///
    /// # Errors
    /// [`Error::Setting`] unless `cap` is a finite number above 0.
    pub fn softcapped(self, cap: f64) -> Result<Self> {
        let logits = self.logits.softcapped(cap);
        logits.check(self.queries.len_of(Axis(2)))?;
        Ok(Layer { logits, ..self })
    }

    /// Lets tokens attend only to themselves and to those before them.
    #[must_use]
    pub fn causal(self) -> Self {
        Layer { logits: self.logits.masked(Mask::Causal), ..self }
    }

    /// Lets tokens attend only to themselves and their neighbours; see [`Mask::Window`].
    #[must_use]
    pub fn windowed(self, before: usize, after: usize) -> Self {
        Layer { logits: self.logits.masked(Mask::Window { before, after }), ..self }
    }

    /// Adds a mask `[batch, heads, n, n]`: whether a token may attend to another. Any axis may have length 1.
    ///
    /// # Errors
    /// [`Error::Shape`].
    pub fn allowed(mut self, allowed: ArrayView4<'a, bool>) -> Result<Self> {
        self.check_plane("the mask", allowed.shape())?;
        self.allowed.push(allowed);
        Ok(self)
    }

    /// Sets the additive mask or position bias `[batch, heads, n, n]`; any axis may have length 1. See [`Bias`].
    ///
    /// # Errors
    /// [`Error::Shape`].
    pub fn biased(self, bias: impl Into<Bias<'a, Ix4>>) -> Result<Self> {
        let bias = bias.into();
        self.check_plane("the bias", bias.shape())?;
        Ok(Layer { bias: Some(bias), ..self })
    }

    /// Keeps only the tokens that are `true` in `kept` `[batch, n]`, or `[1, n]` for all items; see
    /// [`QueryKey::with_logits`].
    ///
    /// # Errors
    /// [`Error::Shape`].
    pub fn keeping(self, kept: ArrayView2<'a, bool>) -> Result<Self> {
        let (batch, _, n, _) = self.queries.dim();
        if kept.ncols() != n || (kept.nrows() != batch && kept.nrows() != 1) {
            let expected = format!("[{batch}, {n}] or [1, {n}]");
            return Err(Error::Shape {
                what: "the list of kept tokens",
                found: kept.shape().to_vec(),
                expected,
            });
        }
        Ok(Layer { kept: Some(kept), ..self })
    }

    /// Sets the number of tokens up to which the matrix of a head is stored, [`DENSE_STATES`] unless set. Storing takes
    /// `8 n²` bytes per thread.
    #[must_use]
    pub fn dense_up_to(self, states: usize) -> Self {
        Layer { dense_states: states, ..self }
    }

    fn check_plane(&self, what: &'static str, shape: &[usize]) -> Result<()> {
        let (batch, heads, n, _) = self.queries.dim();
        let wanted = [batch, heads, n, n];
        if shape.iter().zip(wanted).all(|(found, wanted)| *found == wanted || *found == 1) {
            return Ok(());
        }
        let expected = format!("{wanted:?}, or 1 instead of any of these numbers");
        Err(Error::Shape { what, found: shape.to_vec(), expected })
    }

    /// The heads of the layer, batch item by batch item.
    pub fn heads(&self) -> Vec<HeadAt> {
        let (batch, heads, ..) = self.queries.dim();
        (0..batch).flat_map(|item| (0..heads).map(move |head| HeadAt { item, head })).collect()
    }

    /// Returns the tokens of a batch item that are the states of its chains, in rising order.
    ///
    /// # Errors
    /// [`Error::Count`] if there is no such item.
    pub fn kept(&self, item: usize) -> Result<Vec<usize>> {
        self.check_at(HeadAt { item, head: 0 })?;
        Ok(self.positions(item).unwrap_or_else(|| (0..self.queries.len_of(Axis(2))).collect()))
    }

    /// Creates one head.
    ///
    /// # Errors
    /// [`Error::Count`] if there is no such head; as [`QueryKey::with_logits`].
    pub fn head(&self, at: HeadAt) -> Result<QueryKey<'a>> {
        self.check_at(at)?;
        self.with_pattern(at, Arc::new(self.pattern(at)?))
    }

    /// Calls `of` with every head of the layer and returns the results in the order of [`Layer::heads`].
    ///
    /// Heads are computed in parallel, one per thread, or several threads per head if there are fewer heads than threads.
    /// Results do not depend on the number of threads. A head that fails does not stop the others.
    pub fn each<R: Send>(&self, of: impl Fn(HeadAt, &HeadMap<'a>) -> Result<R> + Sync) -> Vec<Result<R>> {
        self.some(&self.heads(), of)
    }

    /// [`Layer::each`] for some heads, in the order given.
    pub fn some<R: Send>(
        &self,
        heads: &[HeadAt],
        of: impl Fn(HeadAt, &HeadMap<'a>) -> Result<R> + Sync,
    ) -> Vec<Result<R>> {
        let sequential = heads.len() >= rayon::current_num_threads();
        let (patterns, storages) = (self.patterns(), Storages::default());
        let one = |at: HeadAt| {
            self.check_at(at)?;
            let cell = &patterns[self.pattern_at(at)];
            // A bad pattern is found again for each head, since errors cannot be shared.
            let head = match cell.get_or_init(|| self.pattern(at).ok().map(Arc::new)) {
                Some(pattern) => self.with_pattern(at, Arc::clone(pattern))?,
                None => self.head(at)?,
            };
            let head = if sequential { head.sequential() } else { head };
            let map = HeadMap::stored_in(head, self.dense_states, &storages);
            let result = of(at, &map);
            storages.give_back(map);
            result
        };
        heads.par_iter().with_max_len(1).map(|at| one(*at)).collect()
    }

    fn check_at(&self, at: HeadAt) -> Result<()> {
        let (batch, heads, ..) = self.queries.dim();
        for (what, found, count) in [("the batch item", at.item, batch), ("the head", at.head, heads)] {
            if found >= count {
                return Err(Error::Count { what, low: 0, high: count - 1, found });
            }
        }
        Ok(())
    }

    fn positions(&self, item: usize) -> Option<Vec<usize>> {
        let kept = self.kept?;
        positions(kept.row(if kept.nrows() == 1 { 0 } else { item }))
    }

    /// The rule for the logits of a head, with its planes of masks and bias.
    fn logits(&self, at: HeadAt) -> Logits<'a> {
        let mut logits = self.logits.clone();
        logits.masks.extend(self.allowed.iter().map(|allowed| Mask::Allowed(plane(*allowed, at))));
        logits.bias = self.bias.as_ref().map(|bias| bias_plane(bias, at));
        logits
    }

    fn pattern(&self, at: HeadAt) -> Result<Pattern> {
        let logits = self.logits(at);
        Pattern::new(self.queries.len_of(Axis(2)), self.positions(at.item), &logits)
    }

    /// Number of batch items and of heads whose patterns may differ.
    fn distinct(&self) -> (usize, usize) {
        let planes = self.allowed.iter().map(|allowed| allowed.shape());
        let planes = planes.chain(self.bias.as_ref().map(|bias| bias.shape()));
        let (items, heads) =
            planes.fold((1, 1), |(items, heads), shape| (items.max(shape[0]), heads.max(shape[1])));
        (self.kept.map_or(items, |kept| items.max(kept.nrows())), heads)
    }

    /// A place for every pattern that heads may share.
    fn patterns(&self) -> Vec<OnceLock<Option<Arc<Pattern>>>> {
        let (items, heads) = self.distinct();
        (0..items * heads).map(|_| OnceLock::new()).collect()
    }

    fn pattern_at(&self, at: HeadAt) -> usize {
        let (items, heads) = self.distinct();
        at.item.min(items - 1) * heads + at.head.min(heads - 1)
    }

    fn with_pattern(&self, at: HeadAt, pattern: Arc<Pattern>) -> Result<QueryKey<'a>> {
        let group = self.queries.len_of(Axis(1)) / self.keys.len_of(Axis(1));
        let queries = plane(self.queries, at);
        let keys = plane(self.keys, HeadAt { head: at.head / group, ..at });
        QueryKey::with_pattern(queries, keys, self.logits(at), pattern)
    }
}

/// The plane of a head in a view, in which the first two axes may have length 1.
fn plane<T>(values: ArrayView4<'_, T>, at: HeadAt) -> ArrayView2<'_, T> {
    let (batch, heads, ..) = values.dim();
    let (item, head) = (if batch == 1 { 0 } else { at.item }, if heads == 1 { 0 } else { at.head });
    values.index_axis_move(Axis(0), item).index_axis_move(Axis(0), head)
}

fn bias_plane<'a>(bias: &Bias<'a, Ix4>, at: HeadAt) -> Bias<'a, Ix2> {
    match bias {
        Bias::F64(values) => Bias::F64(plane(*values, at)),
        Bias::F32(values) => Bias::F32(plane(*values, at)),
        Bias::F16(values) => Bias::F16(plane(*values, at)),
        Bias::Bf16(values) => Bias::Bf16(plane(*values, at)),
    }
}
