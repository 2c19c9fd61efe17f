//! The folder of a run while a process works in it.

use std::path::{Path, PathBuf};

use crate::error::{Error, FileAction, Result};
use crate::fresh;
use crate::header::RunHeader;
use crate::lock::Lock;
use crate::shard::Shard;

/// Source of the records of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordSource {
    /// This process, which computes missing records.
    Run,
    /// Shards; a missing record is an error.
    Shards,
}

/// What to do with the files that an earlier run has left in the folder.
#[derive(Debug, Clone, Copy)]
pub enum Earlier<'a> {
    /// Continue that run where it stopped.
    Resume,
    /// Remove the files that every run has, and the files with these names.
    Remove(&'a [String]),
}

/// The folder of a run or of a shard, locked by this process until the value is dropped.
pub struct RunStore {
    /// Path of the folder.
    pub out: PathBuf,
    /// Fingerprint of the run.
    pub(crate) fingerprint: String,
    pub(crate) shard: Option<Shard>,
    pub(crate) source: RecordSource,
    _lock: Lock,
}

impl RunStore {
    /// Creates the folder of the run with this header, or checks that it belongs to that run.
    ///
    /// # Errors
    /// Fails if the folder is in use, holds another run, or cannot be written.
    pub fn open(
        out: PathBuf,
        header: &RunHeader,
        source: RecordSource,
        earlier: Earlier<'_>,
    ) -> Result<Self> {
        let (out, lock) = take(out, |folder| {
            if let Earlier::Remove(names) = earlier {
                fresh::start_over(folder, names)?;
            }
            header.claim(folder)
        })?;
        Ok(Self { out, fingerprint: header.fingerprint.clone(), shard: header.shard, source, _lock: lock })
    }
}

/// Creates and locks a folder, then has `claim` check or fill it.
pub(crate) fn take(out: PathBuf, claim: impl FnOnce(&Path) -> Result<()>) -> Result<(PathBuf, Lock)> {
    std::fs::create_dir_all(&out).map_err(Error::file(FileAction::Create, &out))?;
    let lock = Lock::take(&out)?;
    claim(&out)?;
    Ok((out, lock))
}
