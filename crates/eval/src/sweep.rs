//! `[sweep]` of an experiment: settings that take several values, every combination of them a run, and one table.
//!
//! A key is a setting of the task (`layers`, `alpha`) or, with dots, any setting of the file (`model.image_size`); its value
//! lists what the setting becomes. Many combinations say the same of a method (the order of a random score knows no
//! α): each method is run once for all of them.

mod methods;
mod report;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use sha2::{Digest, Sha256};
use tasks::Failure;
use toml_edit::{DocumentMut, Item, Value};

use crate::error::{Error, Result};
use crate::experiment::{self, Experiment};
use crate::plan::{Plan, RunOptions, check};
use crate::progress;
use crate::run::{Finished, HEADER, Outcome, execute};

use methods::Goal;
pub use methods::SweptMethod;
pub use report::SweepOutcome;

/// More combinations than anybody reads.
const MOST: usize = 1000;

/// A sweep whose every run is known to be able to start.
pub struct Sweep {
    /// The experiment's title.
    pub title: String,
    /// What the tables show.
    pub(crate) goal: &'static Goal,
    /// Names of the settings that are varied, in the order of the file.
    pub axes: Vec<String>,
    /// Every combination, the last setting changing fastest.
    pub variants: Vec<Variant>,
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
    /// Key and name of each method, and the run that has its numbers.
    pub methods: Vec<Shared>,
    /// What is left to run after the combinations before it; none where nothing is.
    pub plan: Option<Plan>,
}

/// A method of a combination, run there or with an earlier one.
pub struct Shared {
    /// The method.
    pub method: SweptMethod,
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
        let axes = axes(&document, sweep).map_err(|reason| Error::Config { path: path.into(), reason })?;
        let combinations = combinations(path, &document, &axes)?;
        let name = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or("sweep").to_owned();
        let Some(first) = combinations.first() else { return Ok(None) };
        let (title, goal) = (first.experiment.title.clone(), methods::goal(&first.experiment.task));

        let mut seen = HashMap::new();
        let mut variants = Vec::new();
        for (index, Combination { values, mut experiment }) in combinations.into_iter().enumerate() {
            check(&experiment)?;
            let runs = methods::taken_apart(&experiment);
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
            methods::keep_families(&mut experiment.task, &first_here);
            let plan = if first_here.is_empty() {
                None
            } else {
                Some(Plan::of(path, experiment, options).map_err(|e| context(e, path, &axes, &values))?)
            };
            variants.push(Variant { values, methods: shared, plan });
        }
        let axes = axes.into_iter().map(|axis| axis.setting).collect();
        Ok(Some(Self { title, goal, axes, variants, name, out: options.out.clone() }))
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
        for index in 0..self.variants.len() {
            let out = folder.join(self.slug(&self.variants[index]));
            if let Some(plan) = &mut self.variants[index].plan {
                plan.in_folder(out).start_over()?;
                plan.fresh = false;
            }
        }
        Ok(())
    }

    /// Its runs, each with its folder below that of the sweep.
    pub fn runs(&self) -> impl Iterator<Item = (PathBuf, &Plan)> {
        self.variants.iter().filter_map(|variant| Some((self.slug(variant), variant.plan.as_ref()?)))
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
            let out = folder.join(self.slug(variant));
            if stop.load(Ordering::Relaxed) {
                return Err(Error::Interrupted { done: 0, total: plan.items(), out });
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
        let known: HashSet<PathBuf> = self.runs().map(|(slug, _)| folder.join(slug)).collect();
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

    /// Folder of a combination's run, below that of the sweep.
    fn slug(&self, variant: &Variant) -> PathBuf {
        let mut name = self.letters(variant);
        // On some disks A and a are one name.
        let twin = |other: &&Variant| self.letters(other).eq_ignore_ascii_case(&name);
        if self.variants.iter().filter(twin).count() > 1 {
            name = format!(
                "{name}-{}",
                brief_hash(Sha256::digest(serde_json::json!(variant.values).to_string()))
            );
        }
        Path::new("runs").join(name)
    }

    /// The settings of a combination in letters that any disk takes; several may have the same.
    fn letters(&self, variant: &Variant) -> String {
        let plain = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' };
        let parts: Vec<_> = self
            .axes
            .iter()
            .zip(&variant.values)
            .map(|(axis, value)| format!("{axis}-{value}").chars().map(plain).collect::<String>())
            .collect();
        parts.join("_")
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

/// Enough of a hash for the name of a folder.
fn brief_hash(hash: impl AsRef<[u8]>) -> String {
    hash.as_ref().iter().take(4).map(|byte| format!("{byte:02x}")).collect()
}

/// A setting and what it becomes.
struct Axis {
    /// As written in `[sweep]`.
    setting: String,
    /// As written for `--set`.
    key: String,
    values: Vec<Value>,
}

/// The axes of `[sweep]`, in the order of the file.
fn axes(document: &DocumentMut, sweep: Item) -> Result<Vec<Axis>, String> {
    let table =
        sweep.as_table_like().ok_or("`sweep` is a table: [sweep], then settings and lists of values")?;
    let task = document.get("task").and_then(Item::as_table_like).and_then(|task| task.iter().next());
    let task = task.map_or("", |(name, _)| name);
    let mut axes = Vec::new();
    for (setting, values) in table.iter() {
        let refuse = |reason: &str| Err(format!("sweep.{setting} {reason}"));
        let Some(values) = values.as_array() else {
            return refuse("is no list; write the values that the setting takes, such as [0.9, 0.99]");
        };
        let values: Vec<Value> = values.iter().map(|value| value.clone().decorated("", "")).collect();
        let mut known: Vec<String> = values.iter().map(canonical).collect();
        known.sort();
        if values.is_empty() {
            return refuse("is empty; write the values that the setting takes, such as [0.9, 0.99]");
        }
        if known.windows(2).any(|pair| pair[0] == pair[1]) {
            return refuse("lists a value twice");
        }
        let key = if setting.contains('.') { setting.to_owned() } else { format!("task.{task}.{setting}") };
        axes.push(Axis { setting: setting.to_owned(), key, values });
    }
    match axes.iter().map(|axis| axis.values.len()).try_fold(1usize, usize::checked_mul) {
        _ if axes.is_empty() => {
            Err("[sweep] names no setting; write lists such as alpha = [0.9, 0.99]".into())
        }
        Some(count) if count <= MOST => Ok(axes),
        _ => Err(format!("[sweep] has more than {MOST} combinations; leave some values out")),
    }
}

/// Every combination of the values, the last axis changing fastest.
fn combinations(path: &Path, document: &DocumentMut, axes: &[Axis]) -> Result<Vec<Combination>> {
    let count = axes.iter().map(|axis| axis.values.len()).product();
    let combination = |mut index: usize| {
        let mut chosen = Vec::new();
        for axis in axes.iter().rev() {
            chosen.push(&axis.values[index % axis.values.len()]);
            index /= axis.values.len();
        }
        chosen.reverse();
        let values: Vec<String> = chosen.iter().map(|value| plain(value)).collect();
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

/// A value as it is compared: 0.9 and 0.90 are one, 1 and 1.0, 'all' and "all".
#[expect(clippy::wildcard_enum_match_arm, reason = "TOML's values, of which no other is a number or a list")]
fn canonical(value: &Value) -> String {
    match value {
        Value::Float(number) => number.value().to_string(),
        Value::Integer(number) => number.value().to_string(),
        Value::Array(values) => format!("{:?}", values.iter().map(canonical).collect::<Vec<_>>()),
        other => plain(other).trim().to_owned(),
    }
}

/// A value without quotes.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// A refusal of one combination says which.
fn context(error: Error, path: &Path, axes: &[Axis], values: &[String]) -> Error {
    let settings: Vec<_> =
        axes.iter().zip(values).map(|(axis, value)| format!("{} = {value}", axis.setting)).collect();
    let Error::Config { reason, .. } = error else { return error };
    Error::Config {
        path: path.into(),
        reason: format!("{reason}\n(in the combination {} of [sweep])", settings.join(", ")),
    }
}

#[cfg(test)]
mod tests;
