//! What can go wrong with a run on disk.

use std::path::{Path, PathBuf};

use models::ErrorKind;

/// Result of everything in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of the run could not be read or written.
    #[error("cannot {action} {}: {source}{}", path.display(), advice(source))]
    File {
        /// What was tried.
        action: FileAction,
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The folder holds a run of something else.
    #[error("{} holds a run of another experiment ({reason})", path.display())]
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
        /// What it holds.
        reason: String,
        /// What to do.
        remedy: Remedy,
    },
    /// Another process is at work in the folder.
    #[error("{} is in use by {}", path.display(), owner.as_deref().unwrap_or("another process"))]
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
        /// What is wrong.
        reason: String,
        /// What to do, where that takes an option or a command of the program.
        remedy: Option<Remedy>,
    },
    /// Shards that do not make a run.
    #[error("{reason}")]
    Merge {
        /// What is missing, too much, or does not fit.
        reason: String,
        /// What to do, where that takes an option or a command of the program.
        remedy: Option<Remedy>,
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
    /// An item that could not be answered.
    #[error(transparent)]
    Task(#[from] tasks::Error),
}

/// What to do about the files of a run. The program says it with its own options and commands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remedy {
    /// Run the experiment again from its first item.
    RunAfresh,
    /// Run the shard again from its first item.
    RunShardAfresh,
    /// Run the shards that are missing or have not finished, then merge again.
    FinishShards,
    /// Run these shards again, which makes what is missing of their items, then merge again.
    RepairShards,
    /// Run these shards again, which makes anew what was made from other data, then merge again; or put the data back.
    RenewShards,
    /// Go on with this number of shards, or choose another folder.
    KeepShards(usize),
    /// Choose another folder, or remove this one.
    ClearFolder,
    /// Run shards first, and name the folder that holds theirs.
    MakeShards,
    /// Say where the merged run is to be.
    NameTarget,
    /// Say where the merged run is to be, or remove the files of the other run.
    ClearTarget,
    /// Merge the shards in this folder when all of them are done.
    Merge(PathBuf),
}

/// What was tried with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileAction {
    /// Creating a folder.
    Create,
    /// Opening for reading, or reading.
    Read,
    /// Opening for writing, or writing.
    Write,
    /// Removing.
    Remove,
}

impl std::fmt::Display for FileAction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Create => "create",
            Self::Read => "read",
            Self::Write => "write",
            Self::Remove => "remove",
        })
    }
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
        Kind::NotFound => "; create the folder first, or correct the path",
        Kind::InvalidFilename => "; choose a shorter name",
        _ => "",
    }
}

impl Error {
    /// For `map_err` on file operations.
    pub fn file(action: FileAction, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::File { action, path: path.into(), source }
    }

    /// What the user can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::OtherRun { .. } | Self::Spread { .. } => ErrorKind::Usage,
            Self::Interrupted { .. } => ErrorKind::Interrupted,
            Self::NothingRead { .. }
            | Self::Unreadable { .. }
            | Self::Merge { .. }
            | Self::File { action: FileAction::Read, .. } => ErrorKind::Input,
            Self::Task(error) => error.kind(),
            Self::Locked { .. }
            | Self::File { action: FileAction::Create | FileAction::Write | FileAction::Remove, .. } => {
                ErrorKind::Other
            }
        }
    }

    /// A folder or file that cannot be used, with what is wrong.
    pub fn unreadable(path: &Path, reason: impl Into<String>) -> Self {
        Self::Unreadable { path: path.into(), reason: reason.into(), remedy: None }
    }

    /// The same where the run must be made again.
    pub fn damaged(path: &Path, reason: impl Into<String>) -> Self {
        let remedy = Some(Remedy::RunAfresh);
        Self::Unreadable { path: path.into(), reason: reason.into(), remedy }
    }
}
