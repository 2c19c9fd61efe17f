//! Updates a baseline with a result, run by run. Runs are removed only on request.

use std::collections::BTreeMap;
use std::path::Path;

use super::baseline::{Baseline, metrics};
use super::snapshot::{Runs, Snapshot};
use super::tolerance::Tolerances;

/// The changes to a baseline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Update {
    /// Whether there was no baseline before.
    pub created: bool,
    /// The change to each run of the result and of the baseline.
    pub runs: BTreeMap<String, RunUpdate>,
    /// Whether a tolerance has changed.
    pub tolerances_changed: bool,
}

/// The change to a run of a baseline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunUpdate {
    /// The baseline did not have the run.
    Added,
    /// The content of the run has changed.
    Updated {
        /// Values that the run no longer has, such as `auc of cls`.
        gone: Vec<String>,
    },
    /// The result equals the baseline.
    Unchanged,
    /// The result does not have the run; the baseline keeps it.
    Kept,
    /// The result does not have the run, and its removal was requested.
    Removed,
}

impl Update {
    /// Returns whether the file is written: an unchanged baseline is not.
    pub fn is_written(&self) -> bool {
        let is_changed = |run: &RunUpdate| match run {
            RunUpdate::Added | RunUpdate::Updated { .. } | RunUpdate::Removed => true,
            RunUpdate::Unchanged | RunUpdate::Kept => false,
        };
        self.created || self.tolerances_changed || self.runs.values().any(is_changed)
    }

    /// Returns one line for each kind of change, with the names of the runs.
    pub fn lines(&self) -> Vec<String> {
        let names = |wanted: fn(&RunUpdate) -> bool| {
            let found = self.runs.iter().filter(|(_, what)| wanted(what)).map(|(name, _)| name.as_str());
            found.collect::<Vec<_>>().join(", ")
        };
        let mut lines = Vec::new();
        for (word, names, why) in [
            ("added", names(|what| *what == RunUpdate::Added), ""),
            ("updated", names(|what| matches!(what, RunUpdate::Updated { .. })), ""),
            ("unchanged", names(|what| *what == RunUpdate::Unchanged), ""),
            ("kept", names(|what| *what == RunUpdate::Kept), "; this result does not have them"),
            ("removed", names(|what| *what == RunUpdate::Removed), ""),
        ] {
            lines.extend((!names.is_empty()).then(|| format!("{word}: {names}{why}")));
        }
        for (name, what) in &self.runs {
            if let RunUpdate::Updated { gone } = what
                && !gone.is_empty()
            {
                lines.push(format!("{name} no longer has: {}", gone.join(", ")));
            }
        }
        lines
    }
}

/// Returns the baseline with the runs of a result in it. Runs with equal content stay as they are, whatever program or machine
/// made the result; runs that the result lacks stay as well, or are removed with `prune`.
pub(super) fn merged(
    path: &Path,
    ours: Runs,
    tolerances: Tolerances,
    known: Option<Baseline>,
    prune: bool,
) -> (Baseline, Update) {
    let made = Baseline::new(path, ours.clone(), tolerances);
    let Some(known) = known else {
        let runs = made.runs.keys().map(|name| (name.clone(), RunUpdate::Added)).collect();
        return (made, Update { created: true, runs, tolerances_changed: false });
    };
    let mut update = Update { created: false, runs: BTreeMap::new(), tolerances_changed: false };
    let mut runs = known.runs.clone();
    for name in known.runs.keys().filter(|name| !ours.contains_key(*name)) {
        let what = if prune { RunUpdate::Removed } else { RunUpdate::Kept };
        if prune {
            runs.remove(name);
        }
        update.runs.insert(name.clone(), what);
    }
    for (name, run) in ours {
        let what = match runs.get(&name) {
            None => RunUpdate::Added,
            Some(old) if run.agrees(old) => RunUpdate::Unchanged,
            Some(old) => RunUpdate::Updated { gone: gone(old, &run) },
        };
        if what != RunUpdate::Unchanged {
            runs.insert(name.clone(), run);
        }
        update.runs.insert(name, what);
    }
    let mut tolerances = made.tolerances;
    tolerances.take_in(&runs, &known.runs);
    // The tolerance of a removed metric is removed too.
    let names: Vec<(String, String)> =
        metrics(&runs).map(|(run, metric)| (run.to_owned(), metric.to_owned())).collect();
    tolerances.keep_only(names.iter().map(|(run, metric)| (&**run, &**metric)));
    update.tolerances_changed = tolerances != known.tolerances;
    let command = command(&update, known.command, made.command);
    (Baseline { schema: made.schema, suite: known.suite, command, tolerances, runs }, update)
}

/// Returns the values that a run no longer has.
fn gone(old: &Snapshot, new: &Snapshot) -> Vec<String> {
    let is_gone = |value: &&super::Measured| !new.values.iter().any(|other| other.name() == value.name());
    old.values.iter().filter(is_gone).map(super::Measured::name).collect()
}

/// Returns the commands that make the whole baseline: only the result's command if no other runs remain.
fn command(update: &Update, old: Option<String>, new: Option<String>) -> Option<String> {
    let of_the_result = |what: &RunUpdate| !matches!(what, RunUpdate::Kept);
    match (old, new) {
        (Some(old), Some(new)) if update.runs.values().all(of_the_result) => {
            Some(if update.is_written() { new } else { old })
        }
        (Some(old), Some(new)) => {
            let known = old.split("; ").any(|command| command == new);
            Some(if known || !update.is_written() { old } else { format!("{old}; {new}") })
        }
        (old, new) => new.or(old),
    }
}
