//! Errors of reading, writing, sharding and merging runs.

use std::path::{Path, PathBuf};

use models::files::looked_for;
use models::{ErrorKind, OutOfMemory};

/// Result with this crate's error.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of the run could not be read or written.
    #[error("cannot {action} {}: {source}{}{}", path.display(), looked_for(path), advice(source))]
    File {
        /// The attempted action.
        action: FileAction,
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The folder holds another run.
    #[error("{} holds a run of another experiment ({reason})", path.display())]
    OtherRun {
        /// The folder.
        path: PathBuf,
        /// How the two runs differ.
        reason: String,
    },
    /// The folder has files that no run has made and that would be written over.
    #[error(
        "{} has files that no run has made and that would be written over: {}{}",
        path.display(), files.join(", "), if *more > 0 { format!(" and {more} more") } else { String::new() }
    )]
    Foreign {
        /// The folder.
        path: PathBuf,
        /// Names of the files, or of the first ones.
        files: Vec<String>,
        /// Number of further files.
        more: usize,
    },
    /// Shards of this run cannot continue in the folder.
    #[error("{} {reason}", path.display())]
    Spread {
        /// The folder.
        path: PathBuf,
        /// What the folder holds.
        reason: String,
        /// What to do.
        remedy: Remedy,
    },
    /// Another process is working in the folder.
    #[error("{} is in use by {}", path.display(), owner.as_deref().unwrap_or("another process"))]
    Locked {
        /// The folder.
        path: PathBuf,
        /// The process, if the lock file names it.
        owner: Option<String>,
    },
    /// Two folders of one command are the same.
    #[error("{} and {} are one folder; two runs cannot share it", path.display(), other.display())]
    SameFolder {
        /// One path of the folder.
        path: PathBuf,
        /// Another path of the folder.
        other: PathBuf,
    },
    /// A folder or file that this process works with is no longer there, or is another one.
    #[error(
        "{} was removed, moved or replaced while this process was working with it; nothing more is written there",
        path.display()
    )]
    Lost {
        /// The folder or file.
        path: PathBuf,
    },
    /// None of the items could be answered.
    #[error(
        "none of the {items} items could be answered, so there is nothing to measure; the first is `{id}`: {reason}"
    )]
    NothingRead {
        /// Number of items.
        items: usize,
        /// Name of the first item.
        id: String,
        /// Why the first item could not be answered.
        reason: String,
    },
    /// A network returned numbers that are not finite for every item so far.
    #[error(
        "the network failed on all of the first {items} items, so the run ends; the first is `{id}`: {reason}"
    )]
    NothingFinite {
        /// Number of items.
        items: usize,
        /// Name of the first item.
        id: String,
        /// How the network failed on it.
        reason: String,
    },
    /// The memory does not suffice for a batch.
    #[error(
        "the memory does not suffice for the batch {items} of [task.{task}] ({lack}); smaller values of {} need less; \
         finished items are kept",
        settings.join(", ")
    )]
    Memory {
        /// Name of the experiment.
        task: &'static str,
        /// The first item of the batch, and how many others it has.
        items: String,
        /// What was asked for.
        lack: OutOfMemory,
        /// Settings that decide how much memory a batch takes.
        settings: &'static [&'static str],
    },
    /// A folder or file of a run cannot be used.
    #[error("{}: {reason}{}", path.display(), looked_for(path))]
    Unreadable {
        /// The folder or file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
        /// What to do, where that takes an option or a command of the program.
        remedy: Option<Remedy>,
    },
    /// Shards cannot be merged to a run.
    #[error("{reason}")]
    Merge {
        /// What is missing, superfluous or inconsistent.
        reason: String,
        /// What to do, where that takes an option or a command of the program.
        remedy: Option<Remedy>,
    },
    /// The run was interrupted between two batches.
    #[error("interrupted after {done} of {total} items, which are kept in {}", out.display())]
    Interrupted {
        /// Number of items answered.
        done: usize,
        /// Number of items of the run.
        total: usize,
        /// Folder of the run.
        out: PathBuf,
    },
    /// An item could not be answered.
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

/// The attempted action on a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileAction {
    /// Creating a folder.
    Create,
    /// Opening a file for reading, or reading it.
    Read,
    /// Opening a file for writing, or writing it.
    Write,
    /// Removing a file or folder.
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

/// Returns advice on a system error; empty if there is none.
#[expect(clippy::wildcard_enum_match_arm, reason = "the enum of the standard library is open-ended")]
fn advice(error: &std::io::Error) -> &'static str {
    use std::io::ErrorKind as Kind;
    match error.kind() {
        Kind::StorageFull | Kind::QuotaExceeded => {
            "; free some space and run the same command again: finished work is kept"
        }
        Kind::PermissionDenied | Kind::ReadOnlyFilesystem => {
            "; choose a folder that you may read and write, or change its permissions"
        }
        Kind::AlreadyExists | Kind::NotADirectory | Kind::IsADirectory | Kind::DirectoryNotEmpty => {
            "; move the existing file or folder away, or choose another path"
        }
        Kind::NotFound => "; create the folder first, or correct the path",
        Kind::InvalidFilename => "; choose a shorter name",
        _ => "",
    }
}

impl Error {
    /// Returns a function for `map_err` on file operations.
    pub fn file(action: FileAction, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::File { action, path: path.into(), source }
    }

    /// Returns the kind of the error, which decides the exit code.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::OtherRun { .. } | Self::Foreign { .. } | Self::Spread { .. } | Self::SameFolder { .. } => {
                ErrorKind::Usage
            }
            Self::Interrupted { .. } => ErrorKind::Interrupted,
            Self::NothingRead { .. }
            | Self::NothingFinite { .. }
            | Self::Unreadable { .. }
            | Self::Merge { .. }
            | Self::File { action: FileAction::Read, .. } => ErrorKind::Input,
            Self::Task(error) => error.kind(),
            Self::Locked { .. }
            | Self::Memory { .. }
            | Self::Lost { .. }
            | Self::File { action: FileAction::Create | FileAction::Write | FileAction::Remove, .. } => {
                ErrorKind::Other
            }
        }
    }

    /// Returns the error of a folder or file that cannot be used; `reason` says what is wrong and what to do.
    pub fn unreadable(path: &Path, reason: impl Into<String>) -> Self {
        Self::Unreadable { path: path.into(), reason: reason.into(), remedy: None }
    }

    /// The same where the run must be made again.
    pub fn damaged(path: &Path, reason: impl Into<String>) -> Self {
        let remedy = Some(Remedy::RunAfresh);
        Self::Unreadable { path: path.into(), reason: reason.into(), remedy }
    }
}
