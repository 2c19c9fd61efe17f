//! The errors of this crate.

use models::files::looked_for;
use models::{ErrorKind, OutOfMemory};
use std::path::{Path, PathBuf};

/// Result type of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Adds where a missing path was looked for to the reason of an [`Error::Dataset`]. Errors about single images do without: their
/// reasons are recorded, and records must not depend on the current folder.
pub fn missing(path: &Path, reason: &str) -> Error {
    Error::Dataset { path: path.into(), reason: format!("{reason}{}", looked_for(path)) }
}

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A dataset that is missing, incomplete or contradictory.
    #[error("dataset {}: {reason}", path.display())]
    Dataset {
        /// The folder or file.
        path: PathBuf,
        /// What is wrong and what to do.
        reason: String,
    },
    /// Data that are not where a setting says.
    #[error("dataset {}: {reason}{}", path.display(), looked_for(path))]
    NoData {
        /// The folder or file.
        path: PathBuf,
        /// What is missing and where to get it.
        reason: String,
        /// The setting that says where the data are.
        setting: &'static str,
        /// What stands for its value in an example: `DIR`, `FILE`.
        value: &'static str,
    },
    /// A file of scores that cannot be read, or does not fit the experiment, its images or its network.
    #[error("scores {}: {reason}{}", path.display(), looked_for(path))]
    Scores {
        /// The file.
        path: PathBuf,
        /// What is wrong and what to do.
        reason: String,
    },
    /// A file of prompts that cannot be read, or has too few.
    #[error("prompts {}: {reason}{}", path.display(), looked_for(path))]
    Prompts {
        /// The file.
        path: PathBuf,
        /// What is wrong and what to do.
        reason: String,
    },
    /// A setting that does not fit the data or the network.
    #[error("{setting}: {reason}")]
    Setting {
        /// The setting's path in the experiment file.
        setting: &'static str,
        /// What is wrong and what to do.
        reason: String,
    },
    /// A file of the run could not be written.
    #[error("cannot write {}: {reason}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The error message of the operating system.
        reason: String,
    },
    /// A scene specification that cannot be drawn.
    #[error(transparent)]
    Scene(#[from] crate::mini::SpecError),
    /// A signal over image tokens, or a label map, that cannot be scored.
    #[error(transparent)]
    Score(#[from] crate::segment::score::ScoreError),
    /// A network, its weights or an image.
    #[error(transparent)]
    Model(Box<models::Error>),
    /// libtorch failed.
    #[error("{}", markov_core::torch_error::describe(.0))]
    Torch(#[from] tch::TchError),
}

impl From<models::Error> for Error {
    fn from(error: models::Error) -> Self {
        Self::Model(Box::new(error))
    }
}

impl Error {
    /// Returns the lack of memory behind this error, if that is its cause.
    pub fn out_of_memory(&self) -> Option<OutOfMemory> {
        if let Self::Model(error) = self {
            return error.out_of_memory();
        }
        let Self::Torch(error) = self else { return None };
        OutOfMemory::of(error)
    }

    /// The kind of the error, which decides what the user can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Setting { .. } | Self::Scene(_) => ErrorKind::Usage,
            Self::Dataset { .. } | Self::NoData { .. } | Self::Scores { .. } | Self::Prompts { .. } => {
                ErrorKind::Input
            }
            Self::Model(error) => error.kind(),
            Self::Write { .. } | Self::Score(_) | Self::Torch(_) => ErrorKind::Other,
        }
    }
}
