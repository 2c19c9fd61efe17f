//! How the logits of a head are made from its queries and keys, and which transitions its softmax leaves out.

use half::{bf16, f16};
use ndarray::{ArrayView, ArrayView2, Dimension, Ix2};

use crate::kernel::Number;
use crate::{Error, Result};

/// Values of an additive mask up to this one mean "masked": minus infinity, the least number of any float format, and
/// the -1e9 or -1e4 of older networks (-9,984 in bfloat16).
pub const MASKED: f64 = -9e3;

/// The rule by which a head computes its attention from queries and keys.
///
/// In the order of `transformers`: `logit = q·k · scale`, then `softcap · tanh(logit / softcap)`, then the bias is added,
/// then a softmax over the tokens that every mask allows. Masked transitions have probability 0, exactly; so have those
/// whose probability rounds to 0 in single precision, as in a network that computes its softmax in float32.
///
/// ```
/// use markov_core::{Logits, Mask, QueryKey, RowStochastic};
/// use ndarray::array;
///
/// let (q, k) = (array![[1.0f32, 0.0], [0.0, 1.0]], array![[0.5f32, 0.5], [1.0, 0.0]]);
/// let logits = Logits::scaled(0.5).softcapped(30.0).masked(Mask::Causal);
/// let head = QueryKey::with_logits(q.view(), k.view(), logits, None)?;
/// assert_eq!(head.diagonal()[0], 1.0);
/// # Ok::<(), markov_core::Error>(())
/// ```
///
/// An attention sink, an extra logit per head whose probability is dropped (gpt-oss), needs no setting: it multiplies
/// every probability of a row by the same factor, and a chain among tokens renormalises its rows.
#[derive(Debug, Clone)]
pub struct Logits<'a> {
    /// Factor of `q·k`, usually `1/√d`.
    pub scale: f64,
    /// Bound of the logits before the bias, if they are capped.
    pub softcap: Option<f64>,
    /// Additive mask or position bias.
    pub bias: Option<Bias<'a>>,
    /// Masks, all of which must allow a transition.
    pub masks: Vec<Mask<'a>>,
}

impl<'a> Logits<'a> {
    /// Logits `q·k · scale` without a cap, bias or mask.
    pub fn scaled(scale: f64) -> Self {
        Logits { scale, softcap: None, bias: None, masks: Vec::new() }
    }

    /// Caps the logits: `cap · tanh(logit / cap)`.
    #[must_use]
    pub fn softcapped(self, cap: f64) -> Self {
        Logits { softcap: Some(cap), ..self }
    }

    /// Sets the additive mask or position bias.
    #[must_use]
    pub fn biased(self, bias: impl Into<Bias<'a>>) -> Self {
        Logits { bias: Some(bias.into()), ..self }
    }

    /// Adds a mask.
    #[must_use]
    pub fn masked(mut self, mask: Mask<'a>) -> Self {
        self.masks.push(mask);
        self
    }

    /// Checks the numbers, and the shapes for `n` tokens.
    pub(crate) fn check(&self, n: usize) -> Result<()> {
        if !self.scale.is_finite() {
            return Err(Error::Setting { what: "the scale", wanted: "a finite number", found: self.scale });
        }
        if let Some(found) = self.softcap.filter(|cap| !(cap.is_finite() && *cap > 0.0)) {
            return Err(Error::Setting { what: "the softcap", wanted: "a finite number above 0", found });
        }
        let fits = |what, shape: &[usize]| {
            if shape.iter().all(|side| *side == n || *side == 1) {
                return Ok(());
            }
            let expected = format!("[{n}, {n}], or 1 instead of either {n}");
            Err(Error::Shape { what, found: shape.to_vec(), expected })
        };
        for mask in &self.masks {
            match mask {
                Mask::Causal | Mask::Window { .. } => {}
                Mask::Allowed(allowed) => fits("the mask", allowed.shape())?,
            }
        }
        self.bias.as_ref().map_or(Ok(()), |bias| fits("the bias", bias.shape()))
    }
}

/// The tokens that a token may attend to. Masked transitions have probability 0, exactly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mask<'a> {
    /// Every token attends to itself and to those before it.
    Causal,
    /// Every token attends to at most `before` tokens before it, to itself, and to at most `after` tokens after it.
    ///
    /// A sliding window of `w` tokens in `transformers` is `before: w - 1, after: 0`; the `window_size` of FlashAttention
    /// is `(before, after)`, with `usize::MAX` for its -1.
    Window {
        /// Number of tokens before it.
        before: usize,
        /// Number of tokens after it.
        after: usize,
    },
    /// `allowed[(i, j)]`: whether token *i* may attend to token *j* `[n, n]`. An axis of length 1 is broadcast.
    Allowed(ArrayView2<'a, bool>),
}

/// An additive mask or position bias in the storage that the network uses: `bias[(i, j)]` is added to the logit of token
/// *i* for token *j*. `[n, n]` for one head; an axis of length 1 is broadcast.
///
/// Values up to [`MASKED`] mean that the transition is masked.
#[derive(Debug, Clone)]
pub enum Bias<'a, D: Dimension = Ix2> {
    /// float64.
    F64(ArrayView<'a, f64, D>),
    /// float32.
    F32(ArrayView<'a, f32, D>),
    /// IEEE half precision.
    F16(ArrayView<'a, f16, D>),
    /// bfloat16.
    Bf16(ArrayView<'a, bf16, D>),
}

macro_rules! biases {
    ($($kind:ident: $number:ty),*) => {$(
        impl<'a, D: Dimension> From<ArrayView<'a, $number, D>> for Bias<'a, D> {
            fn from(values: ArrayView<'a, $number, D>) -> Self {
                Bias::$kind(values)
            }
        }
    )*};
}

biases!(F64: f64, F32: f32, F16: f16, Bf16: bf16);

impl<'a, D: Dimension> Bias<'a, D> {
    /// The shape of the values.
    pub fn shape(&self) -> &[usize] {
        match self {
            Bias::F64(values) => values.shape(),
            Bias::F32(values) => values.shape(),
            Bias::F16(values) => values.shape(),
            Bias::Bf16(values) => values.shape(),
        }
    }
}

/// Some neighbouring columns `from..end`, counted among the kept tokens.
#[derive(Debug, Clone, Copy)]
pub(super) struct Columns<'c> {
    /// The tokens that are kept, if not all.
    pub(super) kept: Option<&'c [usize]>,
    pub(super) from: usize,
    pub(super) end: usize,
}

impl Columns<'_> {
    /// Calls `take` with every value of a row, given by its token, in these columns. An axis of length 1 is broadcast.
    fn read<T: Copy, S>(
        self,
        values: &ArrayView2<'_, T>,
        token: usize,
        slots: &mut [S],
        take: impl Fn(&mut S, T),
    ) {
        let row = values.row(if values.nrows() == 1 { 0 } else { token });
        if row.len() == 1 {
            slots.iter_mut().for_each(|slot| take(slot, row[0]));
        } else if let Some(kept) = self.kept {
            slots.iter_mut().zip(&kept[self.from..self.end]).for_each(|(slot, j)| take(slot, row[*j]));
        } else if let Some(row) = row.as_slice() {
            slots.iter_mut().zip(&row[self.from..self.end]).for_each(|(slot, value)| take(slot, *value));
        } else {
            slots.iter_mut().zip(row.iter().skip(self.from)).for_each(|(slot, value)| take(slot, *value));
        }
    }
}

impl Mask<'_> {
    /// Clears the slots of the columns to which the mask does not allow `token` to attend. Does nothing for masks that
    /// allow a range of tokens.
    pub(super) fn forbid<S>(
        &self,
        token: usize,
        columns: Columns<'_>,
        slots: &mut [S],
        clear: impl Fn(&mut S),
    ) {
        match self {
            Mask::Causal | Mask::Window { .. } => {}
            Mask::Allowed(allowed) => columns.read(allowed, token, slots, |slot, may| {
                if !may {
                    clear(slot);
                }
            }),
        }
    }
}

impl Bias<'_> {
    /// Calls `take` with the value of the bias for `token` in each of the columns.
    pub(super) fn read<S>(
        &self,
        token: usize,
        columns: Columns<'_>,
        slots: &mut [S],
        take: impl Fn(&mut S, f64),
    ) {
        match self {
            Bias::F64(values) => columns.read(values, token, slots, take),
            Bias::F32(values) => columns.read(values, token, slots, |slot, value| take(slot, value.to_f64())),
            Bias::F16(values) => columns.read(values, token, slots, |slot, value| take(slot, value.to_f64())),
            Bias::Bf16(values) => {
                columns.read(values, token, slots, |slot, value| take(slot, value.to_f64()))
            }
        }
    }
}
