//! `[sweep]` of an experiment: settings that take several values. Each combination is a run, and one table shows all runs.
//!
//! A key is written as in the file (`seed`, `model.dtype`, `dataset.mini.count`); settings of the task need no more than
//! their own name (`layers`, `noise.steps`). Its value lists what the setting becomes. Many combinations give the same numbers
//! for a method (α does not affect a random score): each method is run once for all of them.

mod axes;
mod curves;
mod differences;
mod names;
mod report;
mod search;
mod stored;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sha2::{Digest, Sha256};
use tasks::Failure;

use crate::error::{Error, Result};
use crate::execute::{Finished, Outcome, execute};
use crate::experiment::{self, Experiment, TaskConfig};
use crate::experiments::spec::{Facts, MethodInfo};
use crate::idle::{self, Idle};
use crate::plan::{Plan, RunOptions};
use crate::source::Source;
use runs::layout::{HEADER, SWEEP};
use runs::{FolderLocks, progress, remove_tables};

use axes::Axis;
use names::{brief_hash, folder_names};
pub use report::SweepOutcome;
pub use search::{SearchOutcome, search};
pub use stored::{StoredColumn, StoredCombination, StoredMethod, StoredSweep};

/// A sweep whose runs have all been checked.
pub struct Sweep {
    /// The experiment's title.
    pub title: String,
    /// The description of the experiment, which says what the tables show.
    pub(crate) facts: &'static Facts,
    /// Names of the settings that are varied, in the order of the file.
    pub axes: Vec<String>,
    /// Every combination; the last setting changes fastest.
    pub variants: Vec<Variant>,
    /// Notes for the user before the sweep starts, a sentence each: settings without effect in every combination, and the
    /// notes of the runs.
    pub notes: Vec<String>,
    name: String,
    out: Option<PathBuf>,
    locks: Option<Arc<FolderLocks>>,
}

/// The outcome of a sweep, or of a shard of one.
pub struct SweepFinished {
    /// The tables; `None` for a shard.
    pub outcome: Option<SweepOutcome>,
    /// Items of any run whose data cannot be read.
    pub failed: Vec<Failure>,
}

/// One combination of settings.
pub struct Variant {
    /// The value of each axis, as in the file but without quotes.
    pub values: Vec<String>,
    /// Folder of the run, relative to the folder of the sweep.
    pub folder: PathBuf,
    /// The methods, each with the run that has its numbers.
    pub methods: Vec<Shared>,
    /// The methods that no earlier combination runs; `None` if there are none.
    pub plan: Option<Plan>,
}

/// A method of a combination, run in this combination or in an earlier one.
pub struct Shared {
    /// The method.
    pub method: MethodInfo,
    /// The combination whose run has its numbers.
    pub variant: usize,
}

/// One combination as read from the file.
struct Combination {
    values: Vec<String>,
    experiment: Experiment,
}

impl Sweep {
    /// Checks every run of an experiment with a `[sweep]`. Returns `None` if it has no sweep.
    ///
    /// # Errors
    /// Fails with the first problem found.
    pub fn new(path: &Path, options: &RunOptions) -> Result<Option<Self>> {
        let mut document = experiment::document(path, &options.assignments)?;
        let Some(sweep) = document.remove("sweep") else { return Ok(None) };
        let refuse = |reason: String| Error::Config { path: path.into(), reason };
        let axes = axes::axes(&document, sweep).map_err(refuse)?;
        let combinations = combinations(path, &document, &axes)?;
        let name = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or("sweep").to_owned();
        let Some(first) = combinations.first() else { return Ok(None) };
        let (title, facts) = (first.experiment.title.clone(), first.experiment.task.kind().facts());

        let idle = idle::in_all(combinations.iter().map(|combination| &combination.experiment.task));
        let mut notes: Vec<String> = Source::note(path).into_iter().collect();
        notes.extend(Idle::notes(&idle).map_err(refuse)?);

        let settings: Vec<&str> = axes.iter().map(|axis| &*axis.setting).collect();
        let folders = folder_names(&settings, combinations.iter().map(|combination| &*combination.values));
        let mut seen = HashMap::new();
        let mut variants = Vec::new();
        let known = combinations.into_iter().zip(folders).enumerate();
        for (index, (Combination { values, mut experiment }, folder)) in known {
            experiment.check().map_err(|e| context(e, path, &axes, &values))?;
            let runs = taken_apart(&experiment);
            let signature = |one: &Experiment| serde_json::json!(one).to_string();
            let mut first_here = Vec::new();
            let mut shared = Vec::new();
            for (method, alone) in runs {
                // Under another key the method would not be found in the run that has its numbers.
                let variant = *seen.entry((signature(&alone), method.key.clone())).or_insert(index);
                if variant == index {
                    first_here.push(method.family.clone());
                }
                shared.push(Shared { method, variant });
            }
            experiment.task = experiment.task.kind().only(&first_here);
            let plan = if first_here.is_empty() {
                None
            } else {
                Some(Plan::of(path, experiment, options).map_err(|e| context(e, path, &axes, &values))?)
            };
            for note in plan.iter().flat_map(|plan| &plan.notes) {
                if !notes.contains(note) {
                    notes.push(note.clone());
                }
            }
            let folder = Path::new("runs").join(folder);
            variants.push(Variant { values, folder, methods: shared, plan });
        }
        let axes = axes.into_iter().map(|axis| axis.setting).collect();
        Ok(Some(Self { title, facts, axes, variants, notes, name, out: options.out.clone(), locks: None }))
    }

    /// Returns the number of images of each run.
    pub fn items(&self) -> usize {
        self.plans().map(|plan| plan.items()).max().unwrap_or(0)
    }

    /// Returns the plans of the runs that are needed.
    pub fn plans(&self) -> impl Iterator<Item = &Plan> {
        self.variants.iter().filter_map(|variant| variant.plan.as_ref())
    }

    /// Returns the folders in which this process writes: those of the runs or of their shards, and that of the sweep, which
    /// shards leave alone.
    ///
    /// # Errors
    /// Fails if a file that decides the default folder cannot be read.
    pub fn folders(&self) -> Result<Vec<PathBuf>> {
        let sweep = self.folder()?;
        let runs = self.runs().map(|(below, plan)| plan.inside(sweep.join(below)));
        let mut folders: Vec<PathBuf> = runs.collect();
        if !self.is_shard() {
            folders.push(sweep);
        }
        Ok(folders)
    }

    /// Gives the runs the locks of the command, which must include [`Sweep::folders`]. If the sweep is to start over, removes its
    /// tables and resets all of its runs, so that [`Sweep::execute`] runs them from their first items.
    ///
    /// # Errors
    /// Fails as [`Plan::start`] does.
    pub fn start(&mut self, locks: &Arc<FolderLocks>) -> Result<()> {
        let folder = self.folder()?;
        if !self.is_shard() && self.plans().any(|plan| plan.fresh) {
            locks.check(&folder)?;
            remove_tables(&folder, &self.made(), SWEEP)?;
        }
        self.locks = Some(Arc::clone(locks));
        self.out = Some(folder.clone());
        for variant in &mut self.variants {
            if let Some(plan) = &mut variant.plan {
                plan.in_folder(folder.join(&variant.folder)).start(locks)?;
                plan.fresh = false;
                plan.locks = Some(Arc::clone(locks));
            }
        }
        Ok(())
    }

    /// Returns the names of the tables and figures of the sweep.
    fn made(&self) -> Vec<String> {
        report::tables().into_iter().chain(search::files()).chain(curves::files(&self.axes)).collect()
    }

    /// Whether this process runs one shard of every run.
    fn is_shard(&self) -> bool {
        self.plans().any(|plan| plan.shard.is_some())
    }

    /// Checks that the folder requested for the sweep and those of its runs have no files that no run has made and that this sweep would write
    /// over.
    ///
    /// # Errors
    /// Fails with the names of the files.
    pub fn refuse_foreign(&self) -> Result<()> {
        let Some(folder) = &self.out else { return Ok(()) };
        if !self.is_shard() {
            let names = self.made().into_iter().chain([SWEEP.to_owned()]);
            runs::refuse_foreign_above_runs(folder, names)?;
        }
        for (below, plan) in self.runs() {
            plan.in_folder(folder.join(below)).refuse_foreign()?;
        }
        Ok(())
    }

    /// Returns the runs, each with its folder inside the folder of the sweep.
    pub fn runs(&self) -> impl Iterator<Item = (PathBuf, &Plan)> {
        self.variants.iter().filter_map(|variant| Some((variant.folder.clone(), variant.plan.as_ref()?)))
    }

    /// Runs the remaining items of every run, in order, and writes the table of all runs; of a shard, only its part of every
    /// run and no table. Also returns the items that some run could not read. Before each run, `before` is called with the
    /// number of the run, the number of runs and the settings.
    ///
    /// # Errors
    /// Fails as [`execute`] does; answered items stay, and the same sweep continues from there.
    pub fn execute(
        &self,
        stop: &AtomicBool,
        mut before: impl FnMut(usize, usize, &str),
    ) -> Result<SweepFinished> {
        let folder = self.folder()?;
        self.tell_others(&folder);
        let (total, mut number) = (self.plans().count(), 0);
        let mut outcomes: Vec<Option<Outcome>> = Vec::new();
        let mut failed: BTreeMap<String, Failure> = BTreeMap::new();
        for variant in &self.variants {
            let Some(plan) = &variant.plan else {
                outcomes.push(None);
                continue;
            };
            let out = folder.join(&variant.folder);
            if stop.load(Ordering::Relaxed) {
                return Err(runs::Error::Interrupted { done: 0, total: plan.items(), out }.into());
            }
            number += 1;
            before(number, total, &self.describe(variant));
            let unread = match execute(&plan.in_folder(out), stop)? {
                Finished::Run(outcome) => {
                    let unread = outcome.results.failed.clone();
                    outcomes.push(Some(*outcome));
                    unread
                }
                Finished::Shard(shard) => {
                    outcomes.push(None);
                    shard.failed
                }
            };
            // An unreadable image fails in every run.
            failed.extend(unread.into_iter().map(|failure| (failure.id.clone(), failure)));
        }
        let failed: Vec<Failure> = failed.into_values().collect();
        let outcome = match self.is_shard() {
            true => None,
            false => {
                if let Some(locks) = &self.locks {
                    locks.check(&folder)?;
                }
                // The table must have the records of every run behind it.
                outcomes.iter().flatten().try_for_each(Outcome::check)?;
                Some(report::write(self, folder, &outcomes, &failed)?)
            }
        };
        Ok(SweepFinished { outcome, failed })
    }

    /// Prints which runs in the folder belong to no combination: those whose values are no longer in the file.
    fn tell_others(&self, folder: &Path) {
        let known: HashSet<PathBuf> = self.runs().map(|(below, _)| folder.join(below)).collect();
        let entries = std::fs::read_dir(folder.join("runs")).into_iter().flatten().flatten();
        let mut others: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        others.retain(|path| !known.contains(path) && path.join(HEADER).is_file());
        others.sort();
        if let Some(first) = others.first() {
            progress::say(&format!(
                "other settings have left runs here ({}, such as {}): the tables of this sweep leave them out, `report` and \
                 `compare` do not until they are deleted",
                others.len(),
                first.display()
            ));
        }
    }

    /// Formats the settings of a combination: `layers last:4, alpha 0.99`.
    fn describe(&self, variant: &Variant) -> String {
        let pairs: Vec<_> =
            self.axes.iter().zip(&variant.values).map(|(axis, value)| format!("{axis} {value}")).collect();
        pairs.join(", ")
    }

    fn folder(&self) -> Result<PathBuf> {
        if let Some(out) = &self.out {
            return Ok(out.clone());
        }
        let mut hasher = Sha256::new();
        for plan in self.plans() {
            hasher.update(plan.header()?.fingerprint);
        }
        let fingerprint = brief_hash(hasher.finalize());
        Ok(Path::new("results/runs").join(format!("{}-{fingerprint}", self.name)))
    }
}

/// Returns every method of an experiment with the experiment reduced to that method and to the settings that affect it. Two
/// reduced experiments that are equal need only one run.
fn taken_apart(experiment: &Experiment) -> Vec<(MethodInfo, Experiment)> {
    let kind = experiment.task.kind();
    let alone = |(method, task): (MethodInfo, TaskConfig)| {
        let seed = if method.seeded { experiment.seed } else { 0 };
        (method, Experiment { task, seed, ..experiment.clone() })
    };
    kind.methods().into_iter().zip(kind.alone()).map(alone).collect()
}

/// Reads an experiment file: every combination of its `[sweep]`, or the one experiment of a file without a sweep.
///
/// # Errors
/// Fails if the file cannot be read or is not an experiment.
pub(crate) fn experiments(path: &Path, assignments: &[String]) -> Result<Vec<Experiment>> {
    let mut document = experiment::document(path, assignments)?;
    let Some(sweep) = document.remove("sweep") else { return Ok(vec![Experiment::read(path, assignments)?]) };
    let axes = axes::axes(&document, sweep).map_err(|reason| Error::Config { path: path.into(), reason })?;
    Ok(combinations(path, &document, &axes)?.into_iter().map(|combination| combination.experiment).collect())
}

/// Returns every combination of the values; the last axis changes fastest.
fn combinations(path: &Path, document: &toml_edit::DocumentMut, axes: &[Axis]) -> Result<Vec<Combination>> {
    let count = axes.iter().map(|axis| axis.values.len()).product();
    let combination = |mut index: usize| {
        let mut chosen = Vec::new();
        for axis in axes.iter().rev() {
            chosen.push(&axis.values[index % axis.values.len()]);
            index /= axis.values.len();
        }
        chosen.reverse();
        let values: Vec<String> = chosen.iter().map(|value| axes::plain(value)).collect();
        let mut document = document.clone();
        for (axis, &value) in axes.iter().zip(&chosen) {
            experiment::insert(&mut document, &axis.key, value.clone()).map_err(|reason| Error::Config {
                path: path.into(),
                reason: format!("sweep.{}: {reason}", axis.setting),
            })?;
        }
        let experiment = experiment::parse(path, &document).map_err(|e| context(e, path, axes, &values))?;
        Ok(Combination { values, experiment })
    };
    (0..count).map(combination).collect()
}

/// Adds the combination to the message of an error.
fn context(error: Error, path: &Path, axes: &[Axis], values: &[String]) -> Error {
    let settings: Vec<_> =
        axes.iter().zip(values).map(|(axis, value)| format!("{} = {value}", axis.setting)).collect();
    let within =
        |reason: String| format!("{reason}\n(in the combination {} of [sweep])", settings.join(", "));
    #[expect(clippy::wildcard_enum_match_arm, reason = "every other error says where it is by itself")]
    match error {
        Error::Config { reason, .. } => Error::Config { path: path.into(), reason: within(reason) },
        Error::Task(tasks::Error::Setting { setting, reason }) => {
            tasks::Error::Setting { setting, reason: within(reason) }.into()
        }
        Error::Task(tasks::Error::Scores { path, reason }) => {
            tasks::Error::Scores { path, reason: within(reason) }.into()
        }
        other => other,
    }
}

#[cfg(test)]
mod tests;
