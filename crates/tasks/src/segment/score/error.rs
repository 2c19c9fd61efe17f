//! Errors of scoring.

/// A signal or label map that cannot be scored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScoreError {
    /// A map without tokens or pixels.
    #[error("a {what} of {rows}×{columns} has nothing to score")]
    Empty {
        /// `signal` or `label map`.
        what: &'static str,
        /// Its rows.
        rows: usize,
        /// Its columns.
        columns: usize,
    },
    /// A signal with a value that is not finite.
    #[error(
        "the signal is {value} at token ({row}, {column}); look for an overflow in what it was computed from"
    )]
    NotFinite {
        /// The value.
        value: String,
        /// Its row.
        row: usize,
        /// Its column.
        column: usize,
    },
    /// A signal that is too small for the mirrored edge of the blur.
    #[error("the blur mirrors the signal at its edge and needs at least 2×2 tokens, found {rows}×{columns}")]
    TooSmallToBlur {
        /// Rows of the signal.
        rows: usize,
        /// Columns of the signal.
        columns: usize,
    },
    /// A label other than background, foreground and ignored.
    #[error(
        "label {0} in a map of two classes: 0 is background, 1 foreground and 255 ignored; label the class that is \
         searched for as 1 first, or score several classes"
    )]
    NotTwoClasses(u8),
    /// Signals of several classes that cannot be compared with each other.
    #[error("signals of several classes: {0}")]
    Signals(String),
}
