//! Runs on disk, for any [`tasks::Task`].
//!
//! A run is a folder. [`RunHeader`] identifies the run, [`RunStore`] locks the folder, [`answers`] appends the answers to its items
//! batch by batch, and [`Shard`]s divide the batches between processes until [`runs_of_shards`] merges them. Neither an
//! interruption nor the division into shards changes a record. This crate knows nothing of metrics, tables and experiments.

#![deny(clippy::print_stdout, clippy::print_stderr)]

mod answers;
mod behind;
mod environment;
mod error;
pub mod files;
mod foreign;
mod fresh;
mod header;
mod inputs;
pub mod layout;
mod lock;
mod merge;
pub mod progress;
pub mod records;
mod shard;
pub mod slurm;
mod store;

pub use answers::{Answers, RunState, ShardSummary, answers};
pub use environment::{Code, Environment};
pub use error::{Error, FileAction, Remedy, Result};
pub use foreign::{refuse_foreign, refuse_foreign_above_runs};
pub use fresh::{remove_files, remove_tables};
pub use header::{Identity, Judging, RunHeader, differences, note_threads, short};
pub use inputs::{Compared, Inputs, compare_records, since_run};
pub use lock::FolderLocks;
pub use merge::{ShardedRun, runs_of_shards};
pub use shard::{Batches, Shard};
pub use store::{Earlier, RecordSource, RunStore};
