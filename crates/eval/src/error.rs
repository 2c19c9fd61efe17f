//! What can go wrong in a run.

use std::path::{Path, PathBuf};

use models::ErrorKind;
use runs::FileAction;

/// Result of everything in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An experiment file that cannot be understood.
    #[error("experiment {}: {reason}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong, with the line where there is one.
        reason: String,
    },
    /// An assignment to a setting that cannot be applied.
    #[error("{assignment}: {reason}")]
    Override {
        /// As given.
        assignment: String,
        /// What is wrong with it.
        reason: String,
    },
    /// An option of a command that does not fit the others, or what the command works on.
    #[error("{option}: {reason}")]
    Option {
        /// Its name.
        option: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// Features for comparison that come from another network than those of the generated pictures.
    #[error("{} {reason}; numbers of two networks cannot be compared", path.display())]
    OtherFeatures {
        /// The file of features.
        path: PathBuf,
        /// What network they come from, and which one was asked for.
        reason: String,
    },
    /// A baseline that is not there or cannot be used.
    #[error("{}: {reason}", path.display())]
    Baseline {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A comparison that was asked for in a way that does not fit what is compared.
    #[error("{reason}")]
    Compare {
        /// What does not fit, and what to do.
        reason: String,
    },
    /// The files of a run.
    #[error(transparent)]
    Run(#[from] runs::Error),
    /// A table or a picture could not be made.
    #[error("cannot make {}: {reason}", path.display())]
    Export {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        reason: String,
    },
    /// Several things at once, none of which depends on another.
    #[error("{}", several(.0, Error::to_string))]
    Several(Vec<Error>),
    /// The analysis of a file of matrices.
    #[error(transparent)]
    Analysis(Box<crate::analysis::AnalysisError>),
    /// An interval around a difference of two methods.
    #[error(transparent)]
    Bootstrap(#[from] crate::metrics::bootstrap::BootstrapError),
    /// Features that a metric cannot be computed from.
    #[error(transparent)]
    Fidelity(#[from] crate::metrics::fidelity::FidelityError),
    /// An experiment: its settings, data or network.
    #[error(transparent)]
    Task(#[from] tasks::Error),
}

/// Errors that do not depend on each other, numbered, each in the words of `words`.
pub fn several(errors: &[Error], words: impl Fn(&Error) -> String) -> String {
    let lines = (1..).zip(errors).map(|(number, error)| format!("{number}. {}", words(error)));
    let lines: Vec<String> = lines.collect();
    format!("{} things are in the way of this experiment:\n{}", errors.len(), lines.join("\n"))
}

impl Error {
    /// What the user can do about it; of several errors, what comes first among the kinds.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Several(errors) => errors.iter().map(Self::kind).min().unwrap_or(ErrorKind::Other),
            Self::Config { .. }
            | Self::Override { .. }
            | Self::Option { .. }
            | Self::OtherFeatures { .. }
            | Self::Compare { .. } => ErrorKind::Usage,
            Self::Baseline { .. } => ErrorKind::Input,
            Self::Run(error) => error.kind(),
            Self::Task(error) => error.kind(),
            Self::Fidelity(error) => error.kind(),
            Self::Analysis(error) => error.kind(),
            Self::Export { .. } | Self::Bootstrap(_) => ErrorKind::Other,
        }
    }

    /// One error of many; `errors` is not empty.
    pub(crate) fn all(mut errors: Vec<Self>) -> Self {
        if errors.len() == 1 { errors.remove(0) } else { Self::Several(errors) }
    }

    /// For `map_err` on file operations.
    pub fn file(action: FileAction, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| runs::Error::file(action, path)(source).into()
    }

    /// A folder or file that cannot be used, with what is wrong.
    pub fn unreadable(path: &Path, reason: impl Into<String>) -> Self {
        runs::Error::unreadable(path, reason).into()
    }
}

impl From<crate::analysis::AnalysisError> for Error {
    fn from(error: crate::analysis::AnalysisError) -> Self {
        Self::Analysis(Box::new(error))
    }
}

impl From<models::Error> for Error {
    fn from(error: models::Error) -> Self {
        Self::Task(error.into())
    }
}
