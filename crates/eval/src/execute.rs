//! Executes a plan: writes records as items are answered, then results, tables and figures.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use models::files;
use runs::files::write_json;
use runs::layout::{DEPTH, HEADER, INPUTS, PICTURES, RECORDS, RESULTS, SCHEMA, SWEEP};
use runs::{
    Code, Earlier, Environment, FolderLocks, RecordSource, RunHeader, RunState, RunStore, Shard,
    ShardSummary, note_threads, progress,
};
use tasks::Failure;

use crate::error::Result;
use crate::experiments::KINDS;
use crate::experiments::PaperTarget;
use crate::experiments::kind::{Report, RunInputs};
use crate::experiments::spec::MethodInfo;
use crate::folder::RunFolder;
use crate::plan::Plan;
use crate::results::{DataId, Judge, Results, WeightsId};
use crate::table::Table;

/// The outcome of a finished run.
pub struct Outcome {
    /// The content of `results.json`.
    pub results: Results,
    /// The tables, as they are printed.
    pub tables: Vec<Table>,
    /// Name of the experiment file without extension.
    pub name: String,
    /// The paper's table that the run is compared with.
    pub paper: Option<PaperTarget>,
    /// The methods in row order.
    pub methods: Vec<MethodInfo>,
    /// Folder of the run.
    pub out: PathBuf,
    /// Figures in that folder.
    pub figures: Vec<PathBuf>,
    /// Number of items answered by this process; the others were on disk.
    pub fresh: usize,
    /// Time that this process took to answer them.
    pub took: Duration,
    /// Size of the records, to notice that they were removed later.
    records: u64,
}

impl Outcome {
    /// Checks that the files of the run are still there, before a table of several runs is written.
    ///
    /// # Errors
    /// Fails with [`runs::Error::Lost`] if records or results were removed, or do not belong to this outcome.
    pub fn check(&self) -> Result<()> {
        let lost = |path: PathBuf| Err(runs::Error::Lost { path }.into());
        if records_size(&self.out) != Some(self.records) {
            return lost(self.out.join(RECORDS));
        }
        let found = RunFolder::open(&self.out).map(|found| found.results.fingerprint);
        if found.is_ok_and(|found| found == self.results.fingerprint) {
            Ok(())
        } else {
            lost(self.out.join(RESULTS))
        }
    }
}

/// Returns the size of the records in a folder; `None` if there are none.
fn records_size(folder: &Path) -> Option<u64> {
    Some(folder.join(RECORDS).metadata().ok()?.len())
}

/// What a process has finished.
pub enum Finished {
    /// The whole run.
    Run(Box<Outcome>),
    /// One of its shards.
    Shard(ShardOutcome),
}

/// A finished shard.
pub struct ShardOutcome {
    /// The shard.
    pub shard: Shard,
    /// Folder of the shard, inside the folder of the run.
    pub out: PathBuf,
    /// Folder of the run.
    pub run: PathBuf,
    /// Number of items of the shard.
    pub items: usize,
    /// Items whose data cannot be read.
    pub failed: Vec<Failure>,
    /// Number of items answered by this process.
    pub fresh: usize,
    /// Time that this process took to answer them.
    pub took: Duration,
}

/// Runs a plan and writes its results; of a shard, only its records. Items that are already answered are not run again. When
/// `stop` becomes true, the run finishes the batch in flight and ends with [`runs::Error::Interrupted`].
///
/// # Errors
/// Fails if an item cannot be answered or a file cannot be written. An item whose data cannot be read is not an error: it is
/// listed in [`Results::failed`].
pub fn execute(plan: &Plan, stop: &AtomicBool) -> Result<Finished> {
    let (header, run, store) = begin(plan)?;
    let interrupted = |done, out| Err(runs::Error::Interrupted { done, total: plan.items(), out }.into());
    if stop.load(Ordering::Relaxed) {
        return interrupted(0, store.out);
    }
    let inputs = RunInputs { experiment: &plan.experiment, device: plan.device, paper: plan.paper.as_ref() };
    let reached = plan.prepared.run(&inputs, &store, stop);
    progress::say_notes();
    match (reached?, plan.shard) {
        (RunState::Complete(report), _) => {
            Ok(Finished::Run(Box::new(conclude(plan, header, report, store)?)))
        }
        (RunState::Shard(ShardSummary { items, failed, fresh, took }), Some(shard)) => {
            Ok(Finished::Shard(ShardOutcome { shard, out: store.out, run, items, failed, fresh, took }))
        }
        (RunState::Shard(summary), None) => interrupted(summary.items, store.out),
    }
}

impl Plan {
    /// Checks that the folder requested for the run has no files that no run has made and that this one would write over. The
    /// default folder is checked when the run starts.
    ///
    /// # Errors
    /// Fails with the names of the files.
    pub fn refuse_foreign(&self) -> Result<()> {
        let Some(run) = self.requested_out() else { return Ok(()) };
        self.refuse_foreign_in(&self.inside(run.to_owned()))
    }

    /// Checks the folder of the run or of its shard, see [`Plan::refuse_foreign`].
    pub(crate) fn refuse_foreign_in(&self, out: &Path) -> Result<()> {
        let kept = [RECORDS, INPUTS].map(str::to_owned).into_iter();
        let kind = self.experiment.task.kind().facts();
        let made = kind.figures.iter().map(|figure| figure.file.to_owned()).chain(tables(&TABLES));
        let images = self.experiment.methods().into_iter().map(|method| format!("{PICTURES}/{}", method.key));
        let names: Vec<String> = match self.shard {
            Some(_) => kept.chain(images).collect(),
            None => kept.chain([RESULTS.to_owned()]).chain(made).chain(images).collect(),
        };
        Ok(runs::refuse_foreign(out, names)?)
    }

    /// Gives the plan the locks of the command, which must include [`Plan::folder`]. If the plan is to start over, removes the
    /// files of an earlier run from its folder and takes the folder over, so that [`execute`] starts from the first item.
    ///
    /// # Errors
    /// Fails if a file cannot be removed or written.
    pub fn start(&mut self, locks: &Arc<FolderLocks>) -> Result<()> {
        self.locks = Some(Arc::clone(locks));
        if self.fresh {
            begin(self)?;
            self.fresh = false;
        }
        Ok(())
    }
}

/// Opens the folder of a plan. Returns its header, the folder of the run and the open folder, which for a shard lies inside the
/// folder of the run.
fn begin(plan: &Plan) -> Result<(RunHeader, PathBuf, RunStore)> {
    let header = plan.header()?;
    let run = plan.out(&header.fingerprint);
    if !plan.fresh && !plan.merged {
        let known = RunHeader::of_folder(&run).unwrap_or_default();
        note_threads(&header, known.iter().map(|(folder, known)| (folder.as_path(), known)));
    }
    let out = plan.inside(run.clone());
    let source = if plan.merged { RecordSource::Shards } else { RecordSource::Run };
    let names = made_files();
    let earlier = if plan.fresh { Earlier::Remove(&names) } else { Earlier::Resume };
    plan.refuse_foreign_in(&out)?;
    let locks = match &plan.locks {
        Some(locks) => Arc::clone(locks),
        None => Arc::new(FolderLocks::take([out.clone()])?),
    };
    let store = RunStore::open(out, &header, source, earlier, locks)?;
    Ok((header, run, store))
}

/// Checks that the folder of several runs has no tables that no run has made and that theirs would be written over.
///
/// # Errors
/// Fails with the names of the files.
pub fn refuse_foreign_tables<'a>(folder: &Path, plans: impl IntoIterator<Item = &'a Plan>) -> Result<()> {
    let filled = plans.into_iter().filter_map(|plan| Some(&*plan.experiment.fills.as_ref()?.table));
    let names: BTreeSet<&str> = filled.collect();
    Ok(runs::refuse_foreign_above_runs(folder, tables(&names.into_iter().collect::<Vec<_>>()))?)
}

/// Whether `path` is, by this or another name, a file that runs have written to `folder` or to folders below it.
pub fn is_file_of_run(path: &Path, folder: &Path) -> bool {
    if !path.exists() {
        return false;
    }
    let fixed = [HEADER, RECORDS, INPUTS, RESULTS, SWEEP].map(str::to_owned);
    let names: Vec<String> = fixed
        .into_iter()
        .chain(made_files())
        .chain(tables(&["summary", "differences", "search", "search-settings"]))
        .collect();
    holds(path, folder, &names, DEPTH)
}

fn holds(path: &Path, folder: &Path, names: &[String], depth: usize) -> bool {
    let files = names.iter().map(|name| folder.join(name)).chain([folder.join(PICTURES)]);
    let files: Vec<PathBuf> = files.collect();
    if files::input_at(path, files.iter().map(PathBuf::as_path)).is_some() {
        return true;
    }
    let below = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    depth > 0 && below.filter(|path| path.is_dir()).any(|below| holds(path, &below, names, depth - 1))
}

/// The tables of a run.
const TABLES: [&str; 2] = ["table", "comparisons"];

/// Returns the names of the files of tables.
pub(crate) fn tables<'a>(names: &'a [&str]) -> impl Iterator<Item = String> + 'a {
    names.iter().flat_map(|name| Table::files(name))
}

/// Returns the names of all files that runs make from their records: tables in every format, and figures.
fn made_files() -> Vec<String> {
    let figures = KINDS.iter().flat_map(|facts| facts.figures).map(|figure| figure.file.to_owned());
    tables(&TABLES).chain(figures).collect()
}

/// Writes results, tables and warnings once all items are answered.
fn conclude(plan: &Plan, header: RunHeader, report: Report, store: RunStore) -> Result<Outcome> {
    store.check()?;
    let out = store.out;
    // A run that was complete already keeps the environment of the process that computed it.
    let known = (report.fresh == 0).then(|| RunFolder::open(&out).ok()).flatten().map(|known| known.results);
    let judged = |judge: &Option<Judge>| judge.as_ref().map(|judge| judge.reference_sha256.clone());
    if let Some((then, now)) =
        known.as_ref().and_then(|known| judged(&known.judge)).zip(judged(&report.judge))
        && then != now
    {
        progress::say(
            "the reference has changed since the results were written; they are computed again from the present one",
        );
    }
    let environment = known.as_ref().map(|known| known.environment.clone());
    let results = Results {
        schema: SCHEMA,
        fingerprint: header.fingerprint,
        experiment: plan.experiment.clone(),
        items: report.items,
        images: report.images,
        failed: report.failed,
        metrics: report.metrics,
        comparisons: report.comparisons,
        curves: report.curves,
        judge: report.judge,
        memory: report.memory.or_else(|| known.and_then(|known| known.memory)),
        weights: WeightsId { sha256: header.identity.weights_sha256 },
        scores: header.identity.scores,
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
    // Fewer answers than before may leave nothing to compare; a table of the former answers must not stay.
    let written: Vec<&str> = tables.iter().map(|(name, _)| *name).collect();
    let others: Vec<&str> = TABLES.into_iter().filter(|name| !written.contains(name)).collect();
    runs::remove_files(&out, self::tables(&others))?;
    // Written last: if results.json exists, all other files exist too.
    write_json(&out.join(RESULTS), &results)?;
    let Some(records) = records_size(&out) else {
        return Err(runs::Error::Lost { path: out.join(RECORDS) }.into());
    };
    Ok(Outcome {
        results,
        tables: tables.into_iter().map(|(_, table)| table).collect(),
        name: plan.name.clone(),
        paper: plan.paper.clone(),
        methods: plan.experiment.methods(),
        out,
        figures: report.figures,
        fresh: report.fresh,
        took: report.took,
        records,
    })
}

/// Returns the note below tables of results in which items are missing.
fn unread(results: &Results) -> String {
    let (failed, total) = (results.failed.len(), results.items + results.failed.len() as u64);
    let names: Vec<&str> = results.failed.iter().take(5).map(|failure| &*failure.id).collect();
    let more = if failed > names.len() { ", …" } else { "" };
    format!(
        "{failed} of {total} items could not be answered and are excluded here: {}{more}.",
        names.join(", ")
    )
}
