//! What can be wrong with an analysis.

use markov_core::Error as ChainError;
use models::ErrorKind;
use models::matrix_file::MatrixFileError;

/// Why a file could not be analysed, or not completely.
#[derive(Debug, thiserror::Error)]
pub enum AnalysisError {
    /// An option that fits no chain.
    #[error("{option}: {reason}")]
    Option {
        /// The option as written on the command line.
        option: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The file of matrices, or the file to write.
    #[error(transparent)]
    File(#[from] MatrixFileError),
    /// A matrix that is not a transition matrix.
    #[error("{place}: {source}{hint}")]
    Matrix {
        /// The file, the tensor in it and, for tensors of several, which matrix.
        place: String,
        /// What is wrong with it.
        source: ChainError,
        /// What the matrix probably is and what to do, as further sentences; may be empty.
        hint: String,
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
    Incomplete(String),
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
