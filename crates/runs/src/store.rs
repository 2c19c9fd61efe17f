//! The folder of a run while a process works in it.

use std::path::PathBuf;
use std::sync::Arc;

use crate::error::Result;
use crate::fresh;
use crate::header::RunHeader;
use crate::lock::FolderLocks;
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

/// The folder of a run or of a shard, locked by this process.
pub struct RunStore {
    /// Path of the folder.
    pub out: PathBuf,
    /// Fingerprint of the run.
    pub(crate) fingerprint: String,
    pub(crate) shard: Option<Shard>,
    pub(crate) source: RecordSource,
    pub(crate) locks: Arc<FolderLocks>,
}

impl RunStore {
    /// Makes a locked folder that of the run with this header, or checks that it belongs to that run.
    ///
    /// # Errors
    /// Fails if the folder is not locked, holds another run, or cannot be written.
    pub fn open(
        out: PathBuf,
        header: &RunHeader,
        source: RecordSource,
        earlier: Earlier<'_>,
        locks: Arc<FolderLocks>,
    ) -> Result<Self> {
        locks.check(&out)?;
        if let Earlier::Remove(names) = earlier {
            fresh::start_over(&out, names)?;
        }
        header.claim(&out)?;
        Ok(Self { out, fingerprint: header.fingerprint.clone(), shard: header.shard, source, locks })
    }

    /// Checks that the folder is still the one that this process has locked.
    ///
    /// # Errors
    /// Fails with [`Error::Lost`](crate::Error::Lost) if it is not.
    pub fn check(&self) -> Result<()> {
        self.locks.check(&self.out)
    }
}
