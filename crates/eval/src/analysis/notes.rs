//! Notes on properties of the matrices: triangular masks, padding, attention sinks that were cut off.

use markov_core::{Direction, Storage, Triangle};
use ndarray::ArrayView2;

use super::AnalysisOptions;
use super::tokens::TokenList;

/// A remark on the matrices, with questions that the matrices answer better.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// One paragraph.
    pub text: String,
    /// Questions whose answers tell more.
    pub questions: Vec<Question>,
}

/// A question whose answer does not only describe the mask of causal attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// How often a walk visits every token before it ends on the token on which all walks collect.
    Absorb {
        /// Which token that is: `first` or `last`.
        end: &'static str,
    },
    /// What the chain is without the tokens on which attention rests.
    Drop,
    /// What it is for walks that start at the tokens that matter.
    Teleport,
}

/// What a matrix that was refused probably is.
#[derive(Debug, Clone, PartialEq)]
pub enum Hint {
    /// Rows of the tokens of padding.
    Padding {
        /// These tokens.
        padding: TokenList,
        /// These and the tokens that are left out already.
        drop: TokenList,
    },
    /// Rows that were rounded to bfloat16.
    Rounded {
        /// The least sum of a row.
        least: f64,
        /// The greatest one.
        most: f64,
        /// How far from 1 a row may sum then.
        tolerance: f64,
    },
    /// Rows without the column of an attention sink.
    Sink {
        /// The least sum of a row.
        least: f64,
        /// The greatest one.
        most: f64,
        /// How far from 1 the rows sum; none where that is all of it.
        tolerance: Option<f64>,
    },
}

impl std::fmt::Display for Hint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Padding { padding, .. } => {
                let rows = if padding.tokens().len() == 1 { "row" } else { "rows" };
                write!(f, "NaN or zeros fill {rows} {padding}: probably the tokens of padding")
            }
            Self::Rounded { least, most, .. } => {
                write!(f, "All rows sum to {least:.5} … {most:.5}, as after rounding to bfloat16")
            }
            Self::Sink { least, most, .. } => write!(
                f,
                "Its rows sum to {least:.3} … {most:.3} and never to more than 1: probably the column of an attention sink was \
                 cut off after the softmax, as in gpt-oss"
            ),
        }
    }
}

/// Counts of triangular matrices.
#[derive(Default)]
pub(super) struct Triangles {
    matrices: usize,
    lower: usize,
    upper: usize,
}

impl Triangles {
    pub(super) fn count(&mut self, triangle: Option<Triangle>) {
        self.matrices += 1;
        match triangle {
            Some(Triangle::Lower) => self.lower += 1,
            Some(Triangle::Upper) => self.upper += 1,
            None => {}
        }
    }

    /// Returns a note on the effect of triangular matrices and on alternatives; `None` if no matrix is triangular.
    pub(super) fn note(&self, options: &AnalysisOptions) -> Option<Note> {
        let (count, which) = match (self.lower, self.upper) {
            (0, 0) => return None,
            (lower, 0) => (lower, "lower triangular, as causal attention is"),
            (0, upper) => (upper, "upper triangular, as causal attention is when transposed"),
            (lower, upper) => (lower + upper, "triangular"),
        };
        let towards_first = (self.lower >= self.upper) == (options.direction == Direction::Forward);
        let (end, walk) = match towards_first {
            true => ("first", "earlier"),
            false => ("last", "later"),
        };
        let (subject, verb) = match (count, self.matrices) {
            (1, 1) => ("the matrix".to_owned(), "is"),
            (count, all) if count == all => (format!("all {all} matrices"), "are"),
            (count, all) => (format!("{count} of {all} matrices"), "are"),
        };
        let text = format!(
            "note: {subject} {verb} {which}. A walk only moves to {walk} tokens, so TokenRank collects on the {end} token \
             whatever the network learned, and the eigenvalues are the diagonal."
        );
        let questions = [
            options.absorb.is_empty().then_some(Question::Absorb { end }),
            options.drop.is_empty().then_some(Question::Drop),
            options.teleport.is_none().then_some(Question::Teleport),
        ];
        Some(Note { text, questions: questions.into_iter().flatten().collect() })
    }
}

/// Rows of kept tokens that sum to less than 1 over all tokens of the file.
#[derive(Default)]
pub(super) struct Short {
    matrices: usize,
    least: Option<f64>,
}

impl Short {
    /// Counts a matrix by the [`least_sum`] of its kept rows, if tokens are dropped.
    pub(super) fn count(&mut self, least: Option<f64>, tolerance: f64) {
        if let Some(least) = least.filter(|least| *least < 1.0 - tolerance) {
            self.matrices += 1;
            self.least = Some(self.least.map_or(least, |before| before.min(least)));
        }
    }

    /// Returns a note that mass was missing before tokens were dropped; `None` if none was.
    pub(super) fn note(&self) -> Option<Note> {
        let least = self.least?;
        let text = format!(
            "note: in {} the rows of kept tokens sum to as little as {least:.3} over all tokens of the file; what is missing \
             is taken for attention to tokens outside the file and renormalised away with the dropped ones.",
            matrices(self.matrices)
        );
        Some(Note { text, questions: Vec::new() })
    }
}

/// Returns the least sum of a row of a kept token over all tokens.
pub(super) fn least_sum(matrix: ArrayView2<'_, f64>, kept: &[usize]) -> f64 {
    let sum = |row: usize| matrix.row(row).iter().filter(|v| v.is_finite()).sum::<f64>();
    kept.iter().map(|row| sum(*row)).fold(f64::INFINITY, f64::min)
}

/// Formats a count: `1 matrix`, `2 matrices`.
pub(super) fn matrices(count: usize) -> String {
    if count == 1 { "1 matrix".into() } else { format!("{count} matrices") }
}

/// Returns what a refused matrix probably is and what to do, as sentences that follow the error message.
pub(super) fn hint(matrix: ArrayView2<'_, f64>, dropped: &TokenList, tolerance: f64) -> Option<Hint> {
    let kept = |row: &usize| dropped.tokens().binary_search(row).is_err();
    let rows: Vec<usize> = (0..matrix.nrows()).filter(kept).collect();
    let is_padding = |row: &usize| {
        let row = matrix.row(*row);
        row.iter().all(|v| v.is_nan()) || row.iter().all(|v| *v == 0.0)
    };
    let (padding, rest): (Vec<usize>, Vec<usize>) = rows.iter().partition(|row| is_padding(row));
    if !padding.is_empty() && !rest.is_empty() {
        let drop = TokenList::of(padding.iter().chain(dropped.tokens()).copied());
        return Some(Hint::Padding { padding: TokenList::of(padding), drop });
    }
    let sums: Vec<f64> = rest.iter().map(|row| matrix.row(*row).sum()).collect();
    let least = sums.iter().copied().fold(f64::INFINITY, f64::min);
    let most = sums.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let signed = rest.iter().any(|row| matrix.row(*row).iter().any(|v| *v < 0.0));
    let coarse = Storage::Bf16.row_tolerance();
    // `min` and `max` ignore NaN.
    if signed || sums.is_empty() || !sums.iter().all(|sum| sum.is_finite()) {
        return None;
    }
    if least >= 1.0 - coarse && most <= 1.0 + coarse {
        return Some(Hint::Rounded { least, most, tolerance: coarse });
    }
    if least > 0.0 && most <= 1.0 + tolerance {
        let wide = ((1.0 - least) * 100.0).ceil() / 100.0;
        return Some(Hint::Sink { least, most, tolerance: (wide < 1.0).then_some(wide) });
    }
    None
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, array};

    use super::*;

    #[test]
    fn padding_and_sinks_are_recognised() {
        let nan = f64::NAN;
        let none = TokenList::default();
        let padded = array![[1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [nan, nan, nan]];
        let padding = |drop| Some(Hint::Padding { padding: TokenList::of([2]), drop });
        assert_eq!(hint(padded.view(), &none, 1e-3), padding(TokenList::of([2])));
        // What is dropped already stays on the list.
        assert_eq!(hint(padded.view(), &TokenList::of([0]), 1e-3), padding(TokenList::of([0, 2])));
        assert!(!matches!(hint(padded.view(), &TokenList::of([2]), 1e-3), Some(Hint::Padding { .. })));
        let sink = array![[0.5, 0.0], [0.5, 0.48]];
        let found = hint(sink.view(), &none, 1e-3).expect("a sink");
        assert!(matches!(found, Hint::Sink { tolerance: Some(0.5), .. }), "{found:?}");
        assert!(found.to_string().contains("0.500 … 0.980"), "{found}");
        let rounded = array![[0.996, 0.0], [0.5, 0.504]];
        let found = hint(rounded.view(), &none, 1e-3);
        assert!(matches!(found, Some(Hint::Rounded { tolerance: 0.008, .. })), "{found:?}");
        for other in
            [array![[2.0, -1.0], [0.5, 0.5]], array![[1.0, nan], [0.5, 0.5]], array![[3.0, 4.0], [5.0, 0.1]]]
        {
            assert_eq!(hint(other.view(), &none, 1e-3), None);
        }
        assert_eq!(hint(Array2::from_elem((2, 2), nan).view(), &none, 1e-3), None);
    }
}
