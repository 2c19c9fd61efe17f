//! What can be wrong with an analysis.

use markov_core::Error as ChainError;
use models::ErrorKind;
use models::matrix_file::MatrixFileError;

use super::notes::Hint;

/// Why a file could not be analysed, or not completely.
#[derive(Debug, thiserror::Error)]
pub enum AnalysisError {
    /// An option that fits no chain.
    #[error("{option}: {reason}")]
    Option {
        /// Its name.
        option: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The file of matrices, or the file to write.
    #[error(transparent)]
    File(#[from] MatrixFileError),
    /// A matrix that is not a transition matrix.
    #[error("{place}: {source}{}", hint.as_ref().map_or_else(String::new, |hint| format!(". {hint}")))]
    Matrix {
        /// The file, the tensor in it and, for tensors of several, which matrix.
        place: String,
        /// What is wrong with it.
        source: ChainError,
        /// What the matrix probably is, where that can be told.
        hint: Option<Box<Hint>>,
    },
    /// A chain without the answer that was asked for.
    #[error("{place}: {source}")]
    Chain {
        /// The file, the tensor in it and, for tensors of several, which matrix.
        place: String,
        /// Why there is none.
        source: ChainError,
    },
    /// Some quantities could not be had; the others were written.
    #[error("{0}")]
    Incomplete(Incomplete),
}

/// What an analysis could not find, or not as accurately as was asked for.
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
    /// What the user can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Option { .. } => ErrorKind::Usage,
            Self::File(error) => error.kind(),
            Self::Matrix { .. } => ErrorKind::Input,
            Self::Chain { .. } | Self::Incomplete(_) => ErrorKind::Other,
        }
    }
}
