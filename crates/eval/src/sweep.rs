//! `[sweep]` of an experiment: settings that take several values, every combination of them a run, and one table.
//!
//! A key is written as in the file (`seed`, `model.dtype`, `dataset.mini.count`); settings of the task need no more than
//! their own name (`layers`, `noise.steps`). Its value lists what the setting becomes. Many combinations say the same of a
//! method (the order of a random score knows no α): each method is run once for all of them.

mod axes;
mod names;
mod report;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use sha2::{Digest, Sha256};
use tasks::Failure;

use crate::error::{Error, Result};
use crate::execute::{Finished, Outcome, execute};
use crate::experiment::{self, Experiment, TaskConfig};
use crate::experiments::spec::{Facts, MethodInfo};
use crate::idle::{self, Idle};
use crate::plan::{Plan, RunOptions};
use runs::layout::HEADER;
use runs::progress;

use axes::Axis;
use names::{brief_hash, folder_names};
pub use report::SweepOutcome;

/// A sweep whose every run is known to be able to start.
pub struct Sweep {
    /// The experiment's title.
    pub title: String,
    /// What the tables show.
    pub(crate) facts: &'static Facts,
    /// Names of the settings that are varied, in the order of the file.
    pub axes: Vec<String>,
    /// Every combination, the last setting changing fastest.
    pub variants: Vec<Variant>,
    /// What a reader must know before the sweep starts, a sentence each: settings without effect in every combination, and the
    /// notes of its runs.
    pub notes: Vec<String>,
    name: String,
    out: Option<PathBuf>,
}

/// What a process that was to run a sweep, or a shard of one, has done.
pub struct SweepFinished {
    /// The tables; none of a shard.
    pub outcome: Option<SweepOutcome>,
    /// Items whose data cannot be read, of every run.
    pub failed: Vec<Failure>,
}

/// One combination of settings.
pub struct Variant {
    /// The value of each axis, as in the file but for quotes.
    pub values: Vec<String>,
    /// Folder of its run, below that of the sweep.
    pub folder: PathBuf,
    /// Key and name of each method, and the run that has its numbers.
    pub methods: Vec<Shared>,
    /// What is left to run after the combinations before it; none where nothing is.
    pub plan: Option<Plan>,
}

/// A method of a combination, run there or with an earlier one.
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
    /// Checks every run of an experiment file with a `[sweep]`; none where the file has none.
    ///
    /// # Errors
    /// The first thing that is wrong or missing.
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
        let mut notes = Idle::notes(&idle).map_err(refuse)?;

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
                let variant = *seen.entry(signature(&alone)).or_insert(index);
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
        Ok(Some(Self { title, facts, axes, variants, notes, name, out: options.out.clone() }))
    }

    /// Number of images of each run.
    pub fn items(&self) -> usize {
        self.plans().map(|plan| plan.items()).max().unwrap_or(0)
    }

    /// Runs that are needed.
    pub fn plans(&self) -> impl Iterator<Item = &Plan> {
        self.variants.iter().filter_map(|variant| variant.plan.as_ref())
    }

    /// Where the sweep is to start over, begins all of its runs anew, so that [`Sweep::execute`] goes on from there.
    ///
    /// # Errors
    /// Those of [`Plan::start_over`].
    pub fn start_over(&mut self) -> Result<()> {
        if !self.plans().any(|plan| plan.fresh) {
            return Ok(());
        }
        let folder = self.folder()?;
        for variant in &mut self.variants {
            if let Some(plan) = &mut variant.plan {
                plan.in_folder(folder.join(&variant.folder)).start_over()?;
                plan.fresh = false;
            }
        }
        Ok(())
    }

    /// Its runs, each with its folder below that of the sweep.
    pub fn runs(&self) -> impl Iterator<Item = (PathBuf, &Plan)> {
        self.variants.iter().filter_map(|variant| Some((variant.folder.clone(), variant.plan.as_ref()?)))
    }

    /// Runs what is left of every run, in order, and writes the table of all; of a shard, its part of every run, and no
    /// table. Beside it are the items that some run could not read. `before` is told the number of a run, of how many, and
    /// its settings.
    ///
    /// # Errors
    /// Those of [`execute`]; what was answered before stays, and the same sweep goes on from there.
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
            // An image that cannot be read fails in every run.
            failed.extend(unread.into_iter().map(|failure| (failure.id.clone(), failure)));
        }
        let failed: Vec<Failure> = failed.into_values().collect();
        let outcome = match self.plans().any(|plan| plan.shard.is_some()) {
            true => None,
            false => Some(report::write(self, folder, &outcomes, &failed)?),
        };
        Ok(SweepFinished { outcome, failed })
    }

    /// Says which runs in the folder are of no combination: those of values that are no longer in the file.
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

    /// The settings of a combination: `layers last:4, alpha 0.99`.
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

/// Every method of an experiment, and the experiment that has its numbers and no setting that does not decide them: two
/// that are equal need one run.
fn taken_apart(experiment: &Experiment) -> Vec<(MethodInfo, Experiment)> {
    let kind = experiment.task.kind();
    let alone = |(method, task): (MethodInfo, TaskConfig)| {
        let seed = if method.seeded { experiment.seed } else { 0 };
        (method, Experiment { task, seed, ..experiment.clone() })
    };
    kind.methods().into_iter().zip(kind.alone()).map(alone).collect()
}

/// Every combination of the values, the last axis changing fastest.
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

/// A refusal of one combination says which.
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
        other => other,
    }
}

#[cfg(test)]
mod tests;
