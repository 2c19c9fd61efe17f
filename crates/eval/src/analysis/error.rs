//! The errors of an analysis.

use markov_core::Error as ChainError;
use models::ErrorKind;
use models::matrix_file::MatrixFileError;

/// Why a file could not be analysed completely.
#[derive(Debug, thiserror::Error)]
pub enum AnalysisError {
    /// An option does not fit the matrices.
    #[error("{option}: {reason}")]
    Option {
        /// The option as written on the command line.
        option: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The file of matrices cannot be read, or the output cannot be written.
    #[error(transparent)]
    File(#[from] MatrixFileError),
    /// A matrix is not a transition matrix.
    #[error("{place}: {source}{hint}")]
    Matrix {
        /// The file, the tensor in it and, if the tensor holds several matrices, the index of the matrix.
        place: String,
        /// What is wrong with it.
        source: ChainError,
        /// What the matrix probably is and what to do, as additional sentences; may be empty.
        hint: String,
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
    Incomplete(String),
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
