//! The errors of this crate.

use std::path::{Path, PathBuf};

use models::files::looked_for;
use models::{ErrorKind, NotFinite};
use runs::FileAction;

use crate::embedded;

/// Result of everything in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An experiment file is invalid.
    #[error("experiment {}: {reason}{}", path.display(), place(path))]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong, with the line if it is known.
        reason: String,
    },
    /// There is no experiment of this name, neither as a file nor in the program.
    #[error("experiment {}: no such file, and the program has no experiment of this name{}; nearest: {}", path.display(), looked_for(path), nearest.join(", "))]
    NoExperiment {
        /// As given.
        path: PathBuf,
        /// The most similar names, best first.
        nearest: Vec<&'static str>,
    },
    /// A `--set` cannot be applied.
    #[error("{assignment}: {reason}")]
    Override {
        /// As given.
        assignment: String,
        /// What is wrong with it.
        reason: String,
    },
    /// An option of a command does not fit the other options or the data.
    #[error("{option}: {reason}")]
    Option {
        /// Its name.
        option: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The reference features come from another network than those of the generated images.
    #[error("{} {reason}; numbers of two networks cannot be compared", path.display())]
    OtherFeatures {
        /// The file of features.
        path: PathBuf,
        /// What network they come from, and which one was asked for.
        reason: String,
    },
    /// A network that scores images fails on one of them.
    #[error("the image {image} cannot be scored: {source}")]
    Unscored {
        /// Name of the image.
        image: String,
        /// How the network fails.
        source: NotFinite,
    },
    /// The baseline does not exist or cannot be used.
    #[error("{}: {reason}{}", path.display(), looked_for(path))]
    Baseline {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The request for a comparison does not fit the runs that are compared.
    #[error("{reason}")]
    Compare {
        /// What does not fit and what to do.
        reason: String,
    },
    /// An error of the crate `runs`: the files of a run.
    #[error(transparent)]
    Run(#[from] runs::Error),
    /// A table or a figure could not be made.
    #[error("cannot make {}: {reason}", path.display())]
    Export {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        reason: String,
    },
    /// Several independent errors.
    #[error("{}", several(.0, Error::to_string))]
    Several(Vec<Error>),
    /// An error in the analysis of a file of matrices.
    #[error(transparent)]
    Analysis(Box<crate::analysis::AnalysisError>),
    /// No interval can be computed for the difference of two methods.
    #[error(transparent)]
    Bootstrap(#[from] crate::metrics::bootstrap::BootstrapError),
    /// A metric cannot be computed from the features.
    #[error(transparent)]
    Fidelity(#[from] crate::metrics::fidelity::FidelityError),
    /// An error of the crate `tasks`: settings, data or network of an experiment.
    #[error(transparent)]
    Task(#[from] tasks::Error),
}

/// Returns where an experiment file was looked for if it does not exist; empty for an experiment in the program.
fn place(path: &Path) -> String {
    if embedded::experiment(path).is_some() { String::new() } else { looked_for(path) }
}

/// Lists the errors, numbered, one per line.
pub fn several(errors: &[Error], words: impl Fn(&Error) -> String) -> String {
    let lines = (1..).zip(errors).map(|(number, error)| format!("{number}. {}", words(error)));
    let lines: Vec<String> = lines.collect();
    format!("{} problems keep this experiment from running:\n{}", errors.len(), lines.join("\n"))
}

impl Error {
    /// Returns the kind of the error; of several errors, the kind that comes first in [`ErrorKind`].
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Several(errors) => errors.iter().map(Self::kind).min().unwrap_or(ErrorKind::Other),
            Self::Config { .. }
            | Self::NoExperiment { .. }
            | Self::Override { .. }
            | Self::Option { .. }
            | Self::OtherFeatures { .. }
            | Self::Compare { .. } => ErrorKind::Usage,
            Self::Baseline { .. } | Self::Unscored { .. } => ErrorKind::Input,
            Self::Run(error) => error.kind(),
            Self::Task(error) => error.kind(),
            Self::Fidelity(error) => error.kind(),
            Self::Analysis(error) => error.kind(),
            Self::Export { .. } | Self::Bootstrap(_) => ErrorKind::Other,
        }
    }

    /// Combines errors into one; `errors` is not empty.
    pub(crate) fn all(errors: Vec<Self>) -> Self {
        let mut all = Vec::new();
        for error in errors {
            if let Self::Several(inner) = error { all.extend(inner) } else { all.push(error) }
        }
        let mut errors = all;
        if errors.len() == 1 { errors.remove(0) } else { Self::Several(errors) }
    }

    /// Returns a function for `map_err` on file operations.
    pub fn file(action: FileAction, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| runs::Error::file(action, path)(source).into()
    }

    /// Returns the error for an unusable folder or file; `reason` says what is wrong and what to do.
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
