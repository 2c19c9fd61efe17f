//! Answers the items of a run: reads the answers on disk, then computes the missing ones batch by batch.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tasks::{Answer, Failure, Fault, Task};

use crate::error::{Error, Remedy, Result};
use crate::inputs::Inputs;
use crate::layout::RECORDS;
use crate::progress;
use crate::records::RecordLog;
use crate::shard::Batches;
use crate::store::{RecordSource, RunStore};

/// The answers to all items of a run.
pub struct Answers<R> {
    /// Records in manifest order.
    pub records: Vec<R>,
    /// Index in the manifest of the item of each record.
    pub items: Vec<usize>,
    /// Items whose data cannot be read.
    pub failed: Vec<Failure>,
    /// Number of items that this process answered.
    pub fresh: usize,
    /// Time this process took for them.
    pub took: Duration,
}

impl<R> Answers<R> {
    /// Returns the items that have records, in the order of the records; `items` are all items of the manifest.
    pub fn of<I: Clone>(&self, items: &[I]) -> Vec<I> {
        self.items.iter().filter_map(|&index| items.get(index).cloned()).collect()
    }
}

/// Summary of a finished shard.
pub struct ShardSummary {
    /// Number of items of the shard.
    pub items: usize,
    /// Items of the shard whose data cannot be read.
    pub failed: Vec<Failure>,
    /// Number of items that this process answered.
    pub fresh: usize,
    /// Time this process took for them.
    pub took: Duration,
}

/// What is complete after the last batch of a process.
pub enum RunState<T> {
    /// The run is complete.
    Complete(T),
    /// One shard of the run is complete.
    Shard(ShardSummary),
}

/// Number of times that the data may change during a run before the run gives up.
const ROUNDS: usize = 4;

/// Number of items after which a run ends if a network has failed on each and no item is answered.
const HOPELESS: usize = 8;

/// Returns every answer of the run or shard. Answers on disk are kept; missing batches are run. Records are compared with the
/// data before the first batch and after the last one, and a batch with an item whose data has changed is run again.
/// When `stop` becomes true, the current batch is finished and kept.
///
/// # Errors
/// Fails with [`Error::Interrupted`] after `stop`, and if no item could be read, records of shards are missing, or a file cannot
/// be written.
pub fn answers<T: Task>(
    task: &mut T,
    store: &RunStore,
    stop: &AtomicBool,
) -> Result<RunState<Answers<T::Record>>> {
    let batches = Batches { items: task.manifest().len(), batch: task.batch_size(), shard: store.shard };
    let merged = store.source == RecordSource::Shards;
    let path = store.out.join(RECORDS);
    let mut log = RecordLog::open(&path, &store.fingerprint, batches, !merged, |i, answer| {
        let Some(item) = task.manifest().get(i) else { return false };
        match answer {
            Answer::Record(record) => T::answered(record) == T::id(item) && task.is_whole(record),
            Answer::Failed(failure) => failure.id == T::id(item),
        }
    })?;
    let (total, before) = (batches.total(), log.answered());
    if merged && before < total {
        let reason = format!(
            "the shards of {} lack {} of {total} items, or pictures of these",
            store.out.display(),
            total - before
        );
        return Err(Error::Merge { reason, remedy: Some(Remedy::RepairShards) });
    }
    let mut inputs = Inputs::open([store.out.as_path()]);
    let start = Instant::now();
    let mut fresh = 0;
    let mut network_failures: Vec<Failure> = Vec::new();
    for round in 0.. {
        // A merge has already compared the shards with the data.
        let changed = if merged { 0 } else { forget_changed(task, &mut log, &mut inputs, &store.out)? };
        let missing = log.missing();
        if missing.is_empty() {
            break;
        }
        if round == ROUNDS {
            let reason = format!("{changed} items kept changing while the run was reading them");
            return Err(Error::unreadable(&store.out, reason));
        }
        let items: Vec<Range<usize>> = missing.clone();
        let stamps: Vec<_> =
            items.into_iter().map(|range| Inputs::look::<T>(&task.manifest()[range])).collect();
        let bar = progress::bar(total, log.answered());
        task.prefetch(&missing);
        for (range, stamps) in missing.into_iter().zip(stamps) {
            if stop.load(Ordering::Relaxed) {
                bar.abandon();
                return Err(Error::Interrupted { done: log.answered(), total, out: store.out.clone() });
            }
            bar.inc(range.len() as u64);
            models::memory::note_work(&format!(
                "in the batch {} of [task.{}]; smaller values of {} need less; finished items are kept",
                named(task, &range),
                T::NAME,
                T::MEMORY_SETTINGS.join(", ")
            ));
            let answers = task.run(range.clone()).map_err(|error| on_batch(task, &range, error))?;
            let lost = answers.iter().filter_map(by_network);
            let lost: Vec<_> = lost.cloned().collect();
            for (item, answer) in task.manifest()[range.clone()].iter().zip(&answers) {
                if let Answer::Record(record) = answer {
                    inputs.keep(T::id(item), T::made_from(record), &stamps);
                }
            }
            fresh += range.len();
            store.check()?;
            log.append(&range, answers)?;
            inputs.save(&store.out);
            network_failures.extend(lost);
            if network_failures.len() >= HOPELESS
                && let Some(first) = network_failures.first()
                && log.records().next().is_none()
            {
                bar.abandon();
                let (id, reason) = (first.id.clone(), first.reason.clone());
                return Err(Error::NothingFinite { items: network_failures.len(), id, reason });
            }
        }
        bar.finish_and_clear();
    }
    store.check()?;
    log.check()?;
    let (fresh, took) = (fresh.min(total), start.elapsed());
    let mut answered = Answers { records: Vec::new(), items: Vec::new(), failed: Vec::new(), fresh, took };
    for (item, answer) in log.into_answers() {
        match answer {
            Answer::Record(record) => {
                answered.items.push(item);
                answered.records.push(record);
            }
            Answer::Failed(failure) => answered.failed.push(failure),
        }
    }
    if store.shard.is_some() {
        return Ok(RunState::Shard(ShardSummary { items: total, failed: answered.failed, fresh, took }));
    }
    match answered.failed.first() {
        Some(first) if answered.records.is_empty() => Err(Error::NothingRead {
            items: answered.failed.len(),
            id: first.id.clone(),
            reason: first.reason.clone(),
        }),
        _ => Ok(RunState::Complete(answered)),
    }
}

/// Returns the failure of an item on which a network failed.
fn by_network<R>(answer: &Answer<R>) -> Option<&Failure> {
    match answer {
        Answer::Failed(failure) if failure.fault == Fault::Network => Some(failure),
        Answer::Failed(_) | Answer::Record(_) => None,
    }
}

/// Returns the error of a batch, with the items and settings if the memory did not suffice.
fn on_batch<T: Task>(task: &T, range: &Range<usize>, error: tasks::Error) -> Error {
    match error.out_of_memory() {
        Some(lack) => {
            Error::Memory { task: T::NAME, items: named(task, range), lack, settings: T::MEMORY_SETTINGS }
        }
        None => error.into(),
    }
}

/// Returns a batch by its first item: "of `a.png` and 3 more".
fn named<T: Task>(task: &T, range: &Range<usize>) -> String {
    let first = task.manifest().get(range.start).map_or("", T::id);
    match range.len().saturating_sub(1) {
        0 => format!("of `{first}`"),
        others => format!("of `{first}` and {others} more"),
    }
}

/// Discards the batches with an item whose data has changed since it was answered, and prints a note. Returns the number of
/// such items.
fn forget_changed<T: Task>(
    task: &T,
    log: &mut RecordLog<T::Record>,
    inputs: &mut Inputs,
    out: &Path,
) -> Result<usize> {
    let (items, records): (Vec<usize>, Vec<&T::Record>) = log.records().unzip();
    let pairs =
        items.iter().zip(records).filter_map(|(&item, record)| Some((task.manifest().get(item)?, record)));
    let compared = inputs.compare::<T>(&pairs.collect::<Vec<_>>());
    inputs.save(out);
    compared.unsure().iter().for_each(|line| progress::say(line));
    let changed: BTreeSet<usize> = compared.changed.iter().map(|&(place, _)| items[place]).collect();
    if !changed.is_empty() {
        let again = log.forget(&changed)?;
        let were = if changed.len() == 1 { "item was" } else { "items were" };
        progress::say(&format!(
            "{} {were} computed from data that has since changed ({}); with the rest of their batches {again} items are run \
             again",
            changed.len(),
            compared.names()
        ));
    }
    Ok(changed.len())
}
