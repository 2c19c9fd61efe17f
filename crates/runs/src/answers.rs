//! Answers the items of a run: reads the answers on disk, then computes the missing ones batch by batch.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tasks::{Answer, Failure, Fault, Task};

use crate::behind::Behind;
use crate::error::{Error, Remedy, Result};
use crate::inputs::{Inputs, Stamps};
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
/// The rest of a batch ([`Task::start`]) is done, and its answers are written, while the networks run on the next one.
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
    let log = RecordLog::open(&path, &store.fingerprint, batches, !merged, |i, answer| {
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
    let start = Instant::now();
    let inputs = Inputs::open([store.out.as_path()]);
    let mut keeper = Keeper { store, log, inputs, fresh: 0, network_failures: Vec::new() };
    for round in 0.. {
        // A merge has already compared the shards with the data.
        let changed = if merged { 0 } else { keeper.forget_changed(task)? };
        let missing = keeper.log.missing();
        if missing.is_empty() {
            break;
        }
        if round == ROUNDS {
            let reason = format!("{changed} items kept changing while the run was reading them");
            return Err(Error::unreadable(&store.out, reason));
        }
        let bar = progress::bar(total, keeper.log.answered());
        let whole = run(task, &missing, &mut keeper, stop, &bar);
        if !matches!(whole, Ok(true)) {
            bar.abandon();
        }
        if !whole? {
            let done = keeper.log.answered();
            return Err(Error::Interrupted { done, total, out: store.out.clone() });
        }
        bar.finish_and_clear();
    }
    let Keeper { log, fresh, .. } = keeper;
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

/// The answers of a run, and what is known of the data that they were computed from.
struct Keeper<'s, R> {
    store: &'s RunStore,
    log: RecordLog<R>,
    inputs: Inputs,
    /// Number of items that this process answered.
    fresh: usize,
    network_failures: Vec<Failure>,
}

impl<R: Serialize + DeserializeOwned> Keeper<'_, R> {
    /// Writes the answers of a batch, whose items have the names `ids` and whose files had these stamps before they were read.
    fn keep<T: Task<Record = R>>(
        &mut self,
        range: &Range<usize>,
        ids: &[String],
        stamps: &Stamps,
        answers: Vec<Answer<R>>,
    ) -> Result<()> {
        let lost: Vec<_> = answers.iter().filter_map(by_network).cloned().collect();
        for (id, answer) in ids.iter().zip(&answers) {
            if let Answer::Record(record) = answer {
                self.inputs.keep(id, T::made_from(record), stamps);
            }
        }
        self.fresh += range.len();
        self.store.check()?;
        self.log.append(range, answers)?;
        self.inputs.save(&self.store.out);
        self.network_failures.extend(lost);
        let hopeless = self.network_failures.len() >= HOPELESS && self.log.records().next().is_none();
        match self.network_failures.first().filter(|_| hopeless) {
            Some(Failure { id, reason, .. }) => {
                let (id, reason) = (id.clone(), reason.clone());
                Err(Error::NothingFinite { items: self.network_failures.len(), id, reason })
            }
            None => Ok(()),
        }
    }

    /// Discards the batches with an item whose data has changed since it was answered, and prints a note. Returns the number of
    /// such items.
    fn forget_changed<T: Task<Record = R>>(&mut self, task: &T) -> Result<usize> {
        let (items, records): (Vec<usize>, Vec<&R>) = self.log.records().unzip();
        let pairs = items
            .iter()
            .zip(records)
            .filter_map(|(&item, record)| Some((task.manifest().get(item)?, record)));
        let compared = self.inputs.compare::<T>(&pairs.collect::<Vec<_>>());
        self.inputs.save(&self.store.out);
        compared.unsure().iter().for_each(|line| progress::say(line));
        let changed: BTreeSet<usize> = compared.changed.iter().map(|&(place, _)| items[place]).collect();
        if !changed.is_empty() {
            let again = self.log.forget(&changed)?;
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
}

/// Runs batches and keeps their answers. Returns whether all were run; otherwise `stop` came before.
fn run<T: Task>(
    task: &mut T,
    batches: &[Range<usize>],
    keeper: &mut Keeper<'_, T::Record>,
    stop: &AtomicBool,
    bar: &ProgressBar,
) -> Result<bool> {
    let stamps: Vec<_> =
        batches.iter().map(|range| Inputs::look::<T>(&task.manifest()[range.clone()])).collect();
    task.prefetch(batches);
    thread::scope(|scope| {
        let mut behind = Behind::done((keeper, Ok(())));
        for (range, stamps) in batches.iter().zip(stamps) {
            if stop.load(Ordering::Relaxed) {
                return behind.finish().1.map(|()| false);
            }
            bar.inc(range.len() as u64);
            let batch = named(task, range);
            models::memory::note_work(&format!(
                "in the batch {batch} of [task.{}]; smaller values of {} need less; finished items are kept",
                T::NAME,
                T::MEMORY_SETTINGS.join(", ")
            ));
            let started = task.start(range.clone());
            // The batch before is kept, whatever becomes of this one.
            let (keeper, kept) = behind.finish();
            let rest = started.map_err(|error| on_batch::<T>(&batch, error))?;
            kept?;
            let ids: Vec<String> =
                task.manifest()[range.clone()].iter().map(|item| T::id(item).to_owned()).collect();
            behind = Behind::start(scope, move || {
                let answers = rest().map_err(|error| on_batch::<T>(&batch, error));
                let kept = answers.and_then(|answers| keeper.keep::<T>(range, &ids, &stamps, answers));
                (keeper, kept)
            });
        }
        behind.finish().1.map(|()| true)
    })
}

/// Returns the failure of an item on which a network failed.
fn by_network<R>(answer: &Answer<R>) -> Option<&Failure> {
    match answer {
        Answer::Failed(failure) if failure.fault == Fault::Network => Some(failure),
        Answer::Failed(_) | Answer::Record(_) => None,
    }
}

/// Returns the error of a batch, with the items and settings if the memory did not suffice.
fn on_batch<T: Task>(batch: &str, error: tasks::Error) -> Error {
    match error.out_of_memory() {
        Some(lack) => {
            let settings = T::MEMORY_SETTINGS;
            Error::Memory { task: T::NAME, items: batch.to_owned(), lack, settings }
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

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};
    use std::sync::Arc;
    use std::sync::mpsc::{Sender, channel};

    use tasks::Rest;
    use tasks::dataset::{InputFile, Sourced};

    use super::*;
    use crate::lock::FolderLocks;

    struct Item(String);

    impl Sourced for Item {
        fn files(&self) -> Vec<InputFile> {
            Vec::new()
        }

        fn sha256(&self) -> tasks::Result<String> {
            Ok(String::new())
        }
    }

    /// An experiment in which a batch ends only after the next one has started, and the networks of that one run until the answers
    /// are on the disk.
    struct Chained<'s> {
        items: Vec<Item>,
        started: Vec<usize>,
        fails_at: Option<usize>,
        stops_at: Option<usize>,
        stop: &'s AtomicBool,
        records: PathBuf,
        /// Wakes the rest of the batch before.
        wake: Option<Sender<()>>,
    }

    impl<'s> Chained<'s> {
        fn new(out: &Path, fails_at: Option<usize>, stops_at: Option<usize>, stop: &'s AtomicBool) -> Self {
            let items = (0..4).map(|number| Item(number.to_string())).collect();
            let records = out.join(RECORDS);
            Self { items, started: Vec::new(), fails_at, stops_at, stop, records, wake: None }
        }

        fn written(&self) -> u64 {
            self.records.metadata().map_or(0, |records| records.len())
        }
    }

    impl Task for Chained<'_> {
        type Item = Item;
        type Record = String;

        const NAME: &'static str = "chained";
        const MEMORY_SETTINGS: &'static [&'static str] = &["task.chained.batch"];

        fn manifest(&self) -> &[Item] {
            &self.items
        }

        fn id(item: &Item) -> &str {
            &item.0
        }

        fn answered(record: &String) -> &str {
            record
        }

        fn batch_size(&self) -> usize {
            1
        }

        fn start(&mut self, range: Range<usize>) -> tasks::Result<Rest<String>> {
            let item = range.start;
            self.started.push(item);
            if let Some(wake) = self.wake.take() {
                let before = self.written();
                wake.send(()).expect("the batch before waits");
                let deadline = Instant::now() + Duration::from_secs(60);
                while self.written() == before {
                    assert!(Instant::now() < deadline, "the batch before is not written");
                    thread::sleep(Duration::from_millis(1));
                }
            }
            let refuse = |reason: &str| tasks::Error::Setting { setting: "chained", reason: reason.into() };
            if self.fails_at == Some(item) {
                return Err(refuse("on purpose"));
            }
            let last = self.stops_at == Some(item) || range.end == self.items.len();
            self.stop.store(self.stops_at == Some(item), Ordering::Relaxed);
            let (wake, woken) = channel();
            self.wake = Some(wake);
            Ok(Box::new(move || {
                if !last {
                    woken
                        .recv_timeout(Duration::from_secs(60))
                        .map_err(|_| refuse("the next batch did not start"))?;
                }
                Ok(vec![Answer::Record(item.to_string())])
            }))
        }
    }

    fn store(out: &Path) -> Result<RunStore> {
        let locks = Arc::new(FolderLocks::take([out.to_owned()])?);
        let fingerprint = "0123".to_owned();
        Ok(RunStore { out: out.into(), fingerprint, shard: None, source: RecordSource::Run, locks })
    }

    #[test]
    fn a_batch_ends_while_the_next_one_runs_and_none_is_lost() -> Result<()> {
        // A run to the end, one whose third batch fails, and one that is stopped in its second batch.
        for (fails_at, stops_at, kept) in [(None, None, 4), (Some(2), None, 2), (None, Some(1), 2)] {
            let dir = tempfile::tempdir().expect("a scratch folder");
            let store = store(dir.path())?;
            let stop = AtomicBool::new(false);
            let mut task = Chained::new(dir.path(), fails_at, stops_at, &stop);
            let ended = answers(&mut task, &store, &stop);
            match (&ended, stops_at) {
                (Ok(_), _) => assert_eq!(kept, 4),
                (Err(Error::Interrupted { done, total, .. }), Some(_)) => assert_eq!((*done, *total), (2, 4)),
                (Err(error), _) => assert!(error.to_string().contains("on purpose"), "{error}"),
            }
            stop.store(false, Ordering::Relaxed);
            let mut again = Chained::new(dir.path(), None, None, &stop);
            let RunState::Complete(all) = answers(&mut again, &store, &stop)? else { panic!("a whole run") };
            assert_eq!(all.records, ["0", "1", "2", "3"]);
            assert_eq!(again.started, (kept..4).collect::<Vec<_>>());
        }
        Ok(())
    }
}
