//! Running a plan: records as they come, then results, table and pictures.

mod folder;
#[cfg(test)]
pub(crate) mod forged;
mod fresh;
mod header;
mod lock;
mod merge;
mod records;
mod shard;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tasks::{Answer, Failure, Task};

use crate::environment::{Code, Environment};
use crate::error::{Error, Result};
use crate::files::write_json;
use crate::plan::{Beside, Plan};
use crate::progress;
use crate::results::{DataId, Results, SCHEMA, WeightsId};
use crate::table::Table;
use crate::work::Report;

pub(crate) use folder::PAGE;
pub use folder::RunFolder;
pub(crate) use header::{HEADER, Identity, RunHeader, differences, short};
use lock::Lock;
pub use merge::{MergeOptions, merge};
pub(crate) use records::RECORDS;
use records::RecordLog;
pub(crate) use shard::Batches;
pub use shard::Shard;

/// How far below a folder its runs may be: an experiment's folder, `runs` and a combination's of a sweep, a shard's.
const DEPTH: usize = 4;

/// What a finished run leaves behind.
pub struct Outcome {
    /// The content of `results.json`.
    pub results: Results,
    /// The tables, as printed.
    pub tables: Vec<Table>,
    /// Name of the experiment file without extension.
    pub name: String,
    /// The paper's table that the run stands beside.
    pub paper: Option<Beside>,
    /// Keys and names of the methods in row order.
    pub methods: Vec<(String, String)>,
    /// Folder of the run.
    pub out: PathBuf,
    /// Pictures in that folder.
    pub pictures: Vec<PathBuf>,
    /// Items answered by this process; the others were on disk.
    pub fresh: usize,
    /// The time those took.
    pub took: Duration,
}

/// How far a process came that did what it was asked.
pub enum Finished {
    /// The whole run.
    Run(Box<Outcome>),
    /// One of its shards.
    Shard(ShardOutcome),
}

/// A finished shard.
pub struct ShardOutcome {
    /// Which one.
    pub shard: Shard,
    /// Its folder, in that of the run.
    pub out: PathBuf,
    /// Folder of the run.
    pub run: PathBuf,
    /// Items of the shard.
    pub items: usize,
    /// Those whose data cannot be read.
    pub failed: Vec<Failure>,
    /// Items answered by this process.
    pub fresh: usize,
    /// The time those took.
    pub took: Duration,
}

/// A folder that is this process's alone.
pub(crate) struct Place {
    pub(crate) out: PathBuf,
    /// Of the run.
    fingerprint: String,
    shard: Option<Shard>,
    /// Whether every record has to be there.
    merged: bool,
    /// Held until the last file is written.
    _lock: Lock,
}

/// Runs a plan, or what is left of it, to its results; of a shard, to its records. When `stop` becomes true the batch
/// in flight is finished and the run ends with [`Error::Interrupted`].
///
/// # Errors
/// The run cannot go on, or a file of it cannot be written. An item whose data cannot be read is none: it is in
/// [`Results::failed`].
pub fn execute(plan: &Plan, stop: &AtomicBool) -> Result<Finished> {
    let (header, run, place) = begin(plan)?;
    if stop.load(Ordering::Relaxed) {
        return Err(Error::Interrupted { done: 0, total: plan.items(), out: place.out });
    }
    match (plan.work.run(plan, &place, stop)?, plan.shard) {
        (Reached::Whole(report), _) => {
            Ok(Finished::Run(Box::new(conclude(plan, header, *report, place.out)?)))
        }
        (Reached::Part(part), Some(shard)) => {
            let Part { items, failed, fresh, took } = part;
            Ok(Finished::Shard(ShardOutcome { shard, out: place.out, run, items, failed, fresh, took }))
        }
        (Reached::Part(part), None) => {
            let (done, total) = (part.items, plan.items());
            Err(Error::Interrupted { done, total, out: place.out })
        }
    }
}

impl Plan {
    /// Where the plan is to start over, removes what its folder has of an earlier run and makes the folder its own, so that
    /// [`execute`] goes on from there.
    ///
    /// # Errors
    /// The folder is in use; a file cannot be removed or written.
    pub fn start_over(&mut self) -> Result<()> {
        if self.fresh {
            begin(self)?;
            self.fresh = false;
        }
        Ok(())
    }
}

/// The folder of a plan, made or found to be its own; before it the folder of the run.
fn begin(plan: &Plan) -> Result<(RunHeader, PathBuf, Place)> {
    let header = plan.header()?;
    let run = plan.out(&header.fingerprint);
    let out = plan.shard.map_or_else(|| run.clone(), |shard| run.join(shard.folder()));
    let (out, lock) = take(out, |folder| {
        if plan.fresh {
            fresh::start_over(folder)?;
        }
        header.claim(folder)
    })?;
    let Plan { shard, merged, .. } = *plan;
    let place = Place { out, fingerprint: header.fingerprint.clone(), shard, merged, _lock: lock };
    Ok((header, run, place))
}

/// Makes a folder this process's and has it checked or filled by `claim`.
fn take(out: PathBuf, claim: impl FnOnce(&Path) -> Result<()>) -> Result<(PathBuf, Lock)> {
    std::fs::create_dir_all(&out).map_err(Error::file("create", &out))?;
    let lock = Lock::take(&out)?;
    claim(&out)?;
    Ok((out, lock))
}

/// Writes what a run has to say once all its items are answered.
fn conclude(plan: &Plan, header: RunHeader, report: Report, out: PathBuf) -> Result<Outcome> {
    // Of a run that was whole already: what made it, not what looked at it again.
    let known = (report.fresh == 0).then(|| RunFolder::open(&out).ok()).flatten().map(|known| known.results);
    let environment = known.as_ref().map(|known| known.environment.clone());
    let results = Results {
        schema: SCHEMA,
        fingerprint: header.fingerprint,
        experiment: plan.experiment.clone(),
        items: report.items,
        failed: report.failed,
        metrics: report.metrics,
        comparisons: report.comparisons,
        curves: report.curves,
        judge: report.judge,
        memory: report.memory.or_else(|| known.and_then(|known| known.memory)),
        weights: WeightsId { sha256: header.identity.weights_sha256 },
        data: DataId { dataset: plan.experiment.dataset.name().into(), sha256: report.data_sha256 },
        code: Code::current(),
        environment: environment.unwrap_or_else(|| Environment::current(plan.device)),
        resampled: report.resampled,
    };
    let note = (!results.failed.is_empty()).then(|| unread(&results));
    let mut tables = report.tables;
    report.warnings.iter().for_each(|warning| progress::say(&format!("warning: {warning}")));
    if let Some((_, table)) = tables.first_mut() {
        table.notes.extend(report.warnings.iter().map(|warning| format!("Warning: {warning}")));
    }
    for (name, table) in &mut tables {
        table.notes.extend(note.clone());
        table.export(&out, name)?;
    }
    // Last: where there are results, everything else is there too.
    write_json(&out.join(folder::RESULTS), &results)?;
    Ok(Outcome {
        results,
        tables: tables.into_iter().map(|(_, table)| table).collect(),
        name: plan.name.clone(),
        paper: plan.paper.clone(),
        methods: report.methods,
        out,
        pictures: report.pictures,
        fresh: report.fresh,
        took: report.took,
    })
}

/// A line below the tables of results that lack items.
fn unread(results: &Results) -> String {
    let (failed, total) = (results.failed.len(), results.items + results.failed.len() as u64);
    let names: Vec<&str> = results.failed.iter().take(5).map(|failure| &*failure.id).collect();
    let more = if failed > names.len() { ", …" } else { "" };
    format!(
        "{failed} of {total} items could not be read and count for nothing here: {}{more}.",
        names.join(", ")
    )
}

/// What the items of a run came to.
pub(crate) struct Answered<R> {
    /// In manifest order.
    pub(crate) records: Vec<R>,
    /// The items of the records.
    pub(crate) items: Vec<usize>,
    pub(crate) failed: Vec<Failure>,
    /// Items answered by this process, and the time those took.
    pub(crate) fresh: usize,
    pub(crate) took: Duration,
}

impl<R> Answered<R> {
    /// Those of all items that have records, in the order of these.
    pub(crate) fn of<I: Clone>(&self, items: &[I]) -> Vec<I> {
        self.items.iter().filter_map(|&index| items.get(index).cloned()).collect()
    }
}

/// A shard that is done.
pub(crate) struct Part {
    items: usize,
    failed: Vec<Failure>,
    fresh: usize,
    took: Duration,
}

/// What a process has in hand after its last batch.
pub(crate) enum Reached<T> {
    /// All there is to know.
    Whole(T),
    /// The records of a shard.
    Part(Part),
}

/// Every answer of the run or shard, those on disk first.
pub(crate) fn records<T: Task>(
    task: &mut T,
    place: &Place,
    stop: &AtomicBool,
) -> Result<Reached<Answered<T::Record>>> {
    let batches = Batches { items: task.manifest().len(), batch: task.batch_size(), shard: place.shard };
    let path = place.out.join(RECORDS);
    let mut log = RecordLog::open(&path, &place.fingerprint, batches, !place.merged, |i, answer| {
        let Some(item) = task.manifest().get(i) else { return false };
        match answer {
            Answer::Record(record) => T::answered(record) == T::id(item) && task.is_whole(record),
            Answer::Failed(failure) => failure.id == T::id(item),
        }
    })?;
    let missing = log.missing();
    let (total, before) = (batches.total(), log.answered());
    if place.merged && before < total {
        let reason = format!(
            "the shards of {} lack {} of {total} items, or pictures of these; run them again with their --shard, which makes \
             what is missing, and merge again",
            place.out.display(),
            total - before
        );
        return Err(Error::Merge { reason });
    }
    let start = Instant::now();
    let bar = progress::bar(total, before);
    task.expect(&missing);
    for range in missing {
        if stop.load(Ordering::Relaxed) {
            bar.abandon();
            return Err(Error::Interrupted { done: log.answered(), total, out: place.out.clone() });
        }
        bar.inc(range.len() as u64);
        let answers = task.run(range.clone())?;
        log.append(&range, answers)?;
    }
    bar.finish_and_clear();
    let (fresh, took) = (total - before, start.elapsed());
    let mut answered = Answered { records: Vec::new(), items: Vec::new(), failed: Vec::new(), fresh, took };
    for (item, answer) in log.into_answers() {
        match answer {
            Answer::Record(record) => {
                answered.items.push(item);
                answered.records.push(record);
            }
            Answer::Failed(failure) => answered.failed.push(failure),
        }
    }
    let Answered { failed, .. } = &answered;
    match failed.first() {
        _ if place.shard.is_some() => {
            Ok(Reached::Part(Part { items: total, failed: answered.failed, fresh, took }))
        }
        Some(first) if answered.records.is_empty() => Err(Error::NothingRead {
            items: failed.len(),
            id: first.id.clone(),
            reason: first.reason.clone(),
        }),
        _ => Ok(Reached::Whole(answered)),
    }
}
