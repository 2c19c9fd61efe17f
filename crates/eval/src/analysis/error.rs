//! The errors of an analysis.

use markov_core::Error as ChainError;
use models::ErrorKind;
use models::matrix_file::MatrixFileError;

use super::notes::Hint;

/// Why a file could not be analysed completely.
#[derive(Debug, thiserror::Error)]
pub enum AnalysisError {
    /// An option does not fit the matrices.
    #[error("{option}: {reason}")]
    Option {
        /// Its name.
        option: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The file of matrices cannot be read, or the output cannot be written.
    #[error(transparent)]
    File(#[from] MatrixFileError),
    /// A matrix is not a transition matrix.
    #[error("{place}: {source}{}", hint.as_ref().map_or_else(String::new, |hint| format!(". {hint}")))]
    Matrix {
        /// The file, the tensor in it and, if the tensor holds several matrices, the index of the matrix.
        place: String,
        /// What is wrong with it.
        source: ChainError,
        /// What the matrix probably is and what to do, as additional sentences; may be empty.
        hint: Option<Box<Hint>>,
    },
    /// A requested quantity does not exist for a chain.
    #[error("{place}: {source}")]
    Chain {
        /// The file, the tensor in it and, if the tensor holds several matrices, the index of the matrix.
        place: String,
        /// Why the quantity does not exist.
        source: ChainError,
    },
    /// Some quantities could not be computed; the others were written.
    #[error("{0}")]
    Incomplete(Incomplete),
}

/// The quantities that an analysis could not find, or found less accurately than requested.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incomplete {
    /// Each quantity with its reason.
    pub reasons: String,
    /// Whether eigenvalues are among these that were found, but less accurately.
    pub inaccurate: bool,
}

impl std::fmt::Display for Incomplete {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.reasons)
    }
}

impl AnalysisError {
    /// Returns the kind of the error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Option { .. } => ErrorKind::Usage,
            Self::File(error) => error.kind(),
            Self::Matrix { .. } => ErrorKind::Input,
            Self::Chain { .. } | Self::Incomplete(_) => ErrorKind::Other,
        }
    }
}
