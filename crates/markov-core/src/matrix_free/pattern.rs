//! The transitions that the masks of a head allow, row by row.

use super::logits::{Columns, Logits, MASKED, Mask};
use crate::triangle::Triangle;
use crate::{Error, Result};

/// The transitions that the masks and the bias of a head allow among the kept tokens.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Pattern {
    /// The kept tokens in rising order, if not all.
    kept: Option<Vec<usize>>,
    rows: Vec<Row>,
}

/// The columns to which a row may attend, counted among the kept tokens. Other columns have probability 0.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Row {
    /// First column that is allowed.
    pub(super) from: usize,
    /// The column after the last one that is allowed.
    pub(super) end: usize,
    /// Whether every column between them is allowed.
    pub(super) whole: bool,
    /// Least and largest value of the bias in the allowed columns.
    pub(super) bias: (f64, f64),
}

impl Pattern {
    /// Creates the pattern for `n` tokens, of which those at the positions `kept` are kept.
    ///
    /// # Errors
    /// [`Error::Empty`] if no token is kept; [`Error::BadBias`] for NaN, plus infinity or a number near it; [`Error::NothingAllowed`] if a
    /// kept token may attend to no token; [`Error::RowLost`] if a kept token may attend to dropped tokens only.
    pub(crate) fn new(n: usize, kept: Option<Vec<usize>>, logits: &Logits<'_>) -> Result<Self> {
        let m = kept.as_ref().map_or(n, Vec::len);
        if m == 0 {
            return Err(Error::Empty);
        }
        let scan = Scan { kept: kept.as_deref(), n: m, logits };
        let mut slots = Slots::default();
        let rows = (0..m).map(|r| {
            let token = kept.as_ref().map_or(r, |kept| kept[r]);
            scan.row(token, &mut slots)?.ok_or_else(|| scan.nothing(n, token))
        });
        let rows = rows.collect::<Result<_>>()?;
        Ok(Pattern { kept, rows })
    }

    /// The kept tokens, if not all.
    pub(super) fn kept(&self) -> Option<&[usize]> {
        self.kept.as_deref()
    }

    /// The token of a row.
    pub(super) fn token(&self, row: usize) -> usize {
        self.kept.as_ref().map_or(row, |kept| kept[row])
    }

    /// The rows, one for each kept token.
    pub(super) fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Whether every transition is allowed.
    pub(super) fn full(&self) -> bool {
        self.rows.iter().all(|row| row.whole && row.from == 0 && row.end == self.rows.len())
    }
}

impl Pattern {
    /// Returns the triangle if no row reaches beyond the diagonal on one of its sides.
    pub(super) fn triangle(&self) -> Option<Triangle> {
        let each =
            |within: fn(usize, &Row) -> bool| self.rows.iter().enumerate().all(|(i, row)| within(i, row));
        match self.rows.len() {
            1 => None,
            _ if each(|i, row| row.end <= i + 1) => Some(Triangle::Lower),
            _ if each(|i, row| row.from >= i) => Some(Triangle::Upper),
            _ => None,
        }
    }

    /// Returns of each token whether it attends to itself alone, or if `reversed` whether it alone attends to itself. A
    /// token that is not certain to, because masks allow some columns between others only, counts as not.
    pub(super) fn alone(&self, reversed: bool) -> Vec<bool> {
        if !reversed {
            return self.rows.iter().enumerate().map(|(i, row)| (row.from, row.end) == (i, i + 1)).collect();
        }
        // How many more rows reach a column than reach the one before it.
        let mut rise = vec![0isize; self.rows.len() + 1];
        for row in &self.rows {
            rise[row.from] += 1;
            rise[row.end] -= 1;
        }
        let mut reaching = 0;
        let reached = self.rows.iter().enumerate().map(|(j, row)| {
            reaching += rise[j];
            reaching == 1 && (row.from..row.end).contains(&j)
        });
        reached.collect()
    }
}

/// What is needed to find the pattern of a row.
struct Scan<'s, 'a> {
    kept: Option<&'s [usize]>,
    /// Number of columns.
    n: usize,
    logits: &'s Logits<'a>,
}

impl Scan<'_, '_> {
    /// Returns the columns between which `token` may attend to others by its causal mask and windows.
    fn band(&self, token: usize) -> (usize, usize) {
        let (mut low, mut high) = (0, usize::MAX);
        for mask in &self.logits.masks {
            match mask {
                Mask::Causal => high = high.min(token),
                Mask::Window { before, after } => {
                    low = low.max(token.saturating_sub(*before));
                    high = high.min(token.saturating_add(*after));
                }
                Mask::Allowed(_) => {}
            }
        }
        match self.kept {
            None => (low, self.n.min(high.saturating_add(1))),
            Some(kept) => (kept.partition_point(|at| *at < low), kept.partition_point(|at| *at <= high)),
        }
    }

    /// Returns the pattern of the row of `token`, or `None` if nothing is allowed.
    fn row(&self, token: usize, slots: &mut Slots) -> Result<Option<Row>> {
        let (from, end) = self.band(token);
        if from >= end {
            return Ok(None);
        }
        let lists = self.logits.masks.iter().any(|mask| matches!(mask, Mask::Allowed(_)));
        if !lists && self.logits.bias.is_none() {
            return Ok(Some(Row { from, end, whole: true, bias: (0.0, 0.0) }));
        }
        let Slots { open, bias } = slots;
        let columns = Columns { kept: self.kept, from, end };
        open.clear();
        bias.clear();
        bias.resize(end - from, 0.0);
        if let Some(added) = &self.logits.bias {
            added.read(token, columns, bias, |slot, value| *slot = value);
            check_bias(bias, token, columns)?;
        }
        open.extend(bias.iter().map(|value| *value > MASKED));
        self.logits.masks.iter().for_each(|mask| mask.forbid(token, columns, open, |slot| *slot = false));
        let Some(first) = open.iter().position(|may| *may) else { return Ok(None) };
        let last = open.iter().rposition(|may| *may).unwrap_or(first);
        let (mut whole, mut low, mut high) = (true, f64::INFINITY, f64::NEG_INFINITY);
        for (may, value) in open.iter().zip(&*bias).take(last + 1).skip(first) {
            whole &= *may;
            low = if *may && *value < low { *value } else { low };
            high = if *may && *value > high { *value } else { high };
        }
        Ok(Some(Row { from: from + first, end: from + last + 1, whole, bias: (low, high) }))
    }

    /// Returns the error for a row without any allowed column: nothing at all, or only dropped tokens.
    fn nothing(&self, n: usize, token: usize) -> Error {
        let whole = Scan { kept: None, n, logits: self.logits };
        match whole.row(token, &mut Slots::default()) {
            Ok(None) => Error::NothingAllowed { row: token },
            // A bad entry of the bias in a dropped column does not matter.
            Ok(Some(_)) | Err(_) => Error::RowLost { row: token },
        }
    }
}

/// The columns of a row: whether they are allowed, and the bias. Kept from row to row for its memory.
#[derive(Default)]
struct Slots {
    open: Vec<bool>,
    bias: Vec<f64>,
}

/// Refuses a bias with which a logit could be NaN or beyond the range of floats.
fn check_bias(bias: &[f64], token: usize, columns: Columns<'_>) -> Result<()> {
    let bad = |value: f64| value.is_nan() | (value > f64::MAX / 4.0);
    if !bias.iter().fold(false, |any, value| any | bad(*value)) {
        return Ok(());
    }
    let slot = bias.iter().position(|value| bad(*value)).unwrap_or(0);
    let column = columns.from + slot;
    let column = columns.kept.map_or(column, |kept| kept[column]);
    Err(Error::BadBias { row: token, column, value: bias[slot] })
}
