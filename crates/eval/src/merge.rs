//! `tokenrank merge`: joins shards to runs and finishes the runs.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use runs::{FolderLocks, runs_of_shards};

use crate::error::Result;
use crate::execute::{Finished, Outcome, execute, refuse_foreign_tables};
use crate::plan::Plan;

/// The shards to merge and the place of the merged runs.
#[derive(Debug, Clone, Default)]
pub struct MergeOptions {
    /// Folders of shards, or folders that hold them at any depth.
    pub dirs: Vec<PathBuf>,
    /// Folder of the run or runs; if `None`, the folder that holds the shards.
    pub out: Option<PathBuf>,
    /// `cpu` or `cuda:N`: device for the work after the last record, such as scoring images.
    pub device: String,
}

impl MergeOptions {
    /// Returns the folder of the tables that several runs fill together; `None` if there is one run or no such folder.
    fn shared(&self, runs: usize) -> Option<PathBuf> {
        self.folder().filter(|_| runs > 1).map(Path::to_path_buf)
    }

    /// Returns the folder of all merged runs; `None` if they are in several folders.
    pub fn folder(&self) -> Option<&Path> {
        match (&self.out, &self.dirs[..]) {
            (Some(out), _) => Some(out),
            (None, [only]) => Some(only),
            (None, _) => None,
        }
    }
}

/// The merged runs, whose folders stay locked until the value is dropped.
pub struct Merged {
    /// The outcome of each run.
    pub outcomes: Vec<Outcome>,
    _locks: Arc<FolderLocks>,
}

/// Joins shards to complete runs and finishes these: records, results, tables and figures equal those of an unsharded
/// run. Shards are only read. Everything is checked before the first file is written.
///
/// # Errors
/// Fails with [`runs::Error::Merge`] if shards are missing, unfinished, given twice, or of different runs; also as [`execute`]
/// does.
pub fn merge(options: &MergeOptions, stop: &AtomicBool) -> Result<Merged> {
    let sharded = runs_of_shards(&options.dirs, options.out.as_deref())?;
    let plans: Vec<Plan> = sharded
        .iter()
        .map(|(target, run)| Plan::of_header(&run.header, &options.device, target.clone()))
        .collect::<Result<_>>()?;
    for ((_, run), plan) in sharded.iter().zip(&plans) {
        run.check_size(plan.items(), plan.batches())?;
    }
    for ((target, _), plan) in sharded.iter().zip(&plans) {
        plan.refuse_foreign_in(target)?;
    }
    let folder = match (&options.out, &*options.dirs) {
        (Some(out), _) => Some(out),
        (None, [only]) => Some(only),
        (None, _) => None,
    };
    if let (Some(folder), [_, _, ..]) = (folder, &*plans) {
        refuse_foreign_tables(folder, &plans)?;
    }
    let mut learned = Vec::new();
    for ((_, run), plan) in sharded.iter().zip(&plans) {
        learned.push(run.check_data(|inputs, records| plan.prepared.compare_data(inputs, records))?);
    }
    let folders = sharded.iter().map(|(target, _)| target.clone()).chain(options.shared(sharded.len()));
    let locks = Arc::new(FolderLocks::take(folders)?);
    let mut outcomes = Vec::new();
    for (((target, run), mut plan), inputs) in sharded.into_iter().zip(plans).zip(learned) {
        if stop.load(Ordering::Relaxed) {
            return Err(runs::Error::Interrupted { done: 0, total: plan.items(), out: target }.into());
        }
        run.write(&target, &locks, &inputs)?;
        plan.start(&locks)?;
        match execute(&plan, stop)? {
            Finished::Run(outcome) => outcomes.push(*outcome),
            Finished::Shard(shard) => {
                let reason = format!("{} is a shard, not a run", shard.out.display());
                return Err(runs::Error::Merge { reason, remedy: None }.into());
            }
        }
    }
    outcomes.iter().try_for_each(Outcome::check)?;
    Ok(Merged { outcomes, _locks: locks })
}
