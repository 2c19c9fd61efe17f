//! What can go wrong in a run.

use std::path::PathBuf;

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
    /// A `--set` that cannot be applied.
    #[error("--set {assignment}: {reason}")]
    Override {
        /// As given.
        assignment: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A file of the run could not be read or written.
    #[error("cannot {action} {}: {source}{}", path.display(), advice(source))]
    File {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The folder holds a run of something else.
    #[error("{} holds a run of another experiment ({reason}); choose another --out, or start over with --fresh", path.display())]
    OtherRun {
        /// The folder.
        path: PathBuf,
        /// How it differs.
        reason: String,
    },
    /// Shards of this run cannot go on in the folder.
    #[error("{} {reason}", path.display())]
    Spread {
        /// The folder.
        path: PathBuf,
        /// What it holds, and what to do.
        reason: String,
    },
    /// Another process is at work in the folder.
    #[error(
        "{} is in use by {}; wait until it has ended, or choose another --out",
        path.display(),
        owner.as_deref().unwrap_or("another process")
    )]
    Locked {
        /// The folder.
        path: PathBuf,
        /// The process, where it has said who it is.
        owner: Option<String>,
    },
    /// None of the items could be read.
    #[error(
        "none of the {items} items could be read, so there is nothing to measure; the first is `{id}`: {reason}"
    )]
    NothingRead {
        /// How many there are.
        items: usize,
        /// The first one.
        id: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A folder or file of a run that cannot be used.
    #[error("{}: {reason}", path.display())]
    Unreadable {
        /// The folder or file.
        path: PathBuf,
        /// What is wrong and what to do.
        reason: String,
    },
    /// Shards that do not make a run.
    #[error("{reason}")]
    Merge {
        /// What is missing, too much, or does not fit, and what to do.
        reason: String,
    },
    /// A comparison that was asked for in a way that does not fit what is compared.
    #[error("{reason}")]
    Compare {
        /// What does not fit, and what to do.
        reason: String,
    },
    /// The run was interrupted between two batches.
    #[error("interrupted after {done} of {total} items, which are kept in {}", out.display())]
    Interrupted {
        /// Items answered.
        done: usize,
        /// Items of the run.
        total: usize,
        /// Folder of the run.
        out: PathBuf,
    },
    /// A table or a picture could not be made.
    #[error("cannot make {}: {reason}", path.display())]
    Export {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        reason: String,
    },
    /// Several things at once, none of which depends on another.
    #[error("{} things are in the way of this experiment:\n{}", .0.len(), list(.0))]
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

/// What to do about what the system says.
#[expect(clippy::wildcard_enum_match_arm, reason = "the system's errors, of which no other has advice")]
fn advice(error: &std::io::Error) -> &'static str {
    use std::io::ErrorKind as Kind;
    match error.kind() {
        Kind::StorageFull | Kind::QuotaExceeded => {
            "; make room and give the same command again: what was finished before is kept"
        }
        Kind::PermissionDenied | Kind::ReadOnlyFilesystem => {
            "; name a place where you may read and write, or have its permissions changed"
        }
        Kind::AlreadyExists | Kind::NotADirectory | Kind::IsADirectory | Kind::DirectoryNotEmpty => {
            "; move what is there out of the way, or name another place"
        }
        Kind::NotFound => "; make the folder first, or mend the path",
        Kind::InvalidFilename => "; choose a shorter name",
        _ => "",
    }
}

/// Numbered, a line each.
fn list(errors: &[Error]) -> String {
    let lines: Vec<String> = (1..).zip(errors).map(|(number, error)| format!("{number}. {error}")).collect();
    lines.join("\n")
}

impl Error {
    /// One error of many; `errors` is not empty.
    pub(crate) fn all(mut errors: Vec<Self>) -> Self {
        if errors.len() == 1 { errors.remove(0) } else { Self::Several(errors) }
    }

    /// For `map_err` on file operations.
    pub(crate) fn file(action: &'static str, path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::File { action, path: path.into(), source }
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
