//! Compares runs with runs: first whether they are comparable, then value by value.

use std::collections::BTreeSet;

use serde_json::Value;

use super::difference::Difference;
use super::report::Report;
use super::snapshot::{Measured, Runs, Snapshot};
use super::tolerance::Tolerances;
use super::verdict::{Compared, Verdict};
use crate::experiment::Experiment;
use runs::{differences, short};

/// Settings that only name a run or say where files are. The files themselves are compared by their hashes.
const NAMES: [&str; 2] = ["title", "fills"];
const PLACES: [&str; 2] = ["path", "root"];

/// Compares every value of every run; `strict` makes systematic differences fail.
pub fn compare(suite: &str, ours: &Runs, baseline: &Runs, tolerances: &Tolerances, strict: bool) -> Report {
    let mut report = Report {
        suite: suite.to_owned(),
        runs: baseline.len(),
        differences: Vec::new(),
        values: Vec::new(),
        notes: Vec::new(),
        strict,
    };
    let names: BTreeSet<&String> = baseline.keys().chain(ours.keys()).collect();
    for name in names {
        let mut differ = |kind, what| report.differences.push(Difference { run: name.clone(), kind, what });
        match (ours.get(name), baseline.get(name)) {
            (Some(ours), Some(baseline)) => {
                differ_in(ours, baseline, &mut differ);
                let values = values(name, ours, baseline, tolerances);
                if !values.is_empty() && values.iter().all(|value| value.verdict == Verdict::UndefinedBoth) {
                    differ(
                        "undefined",
                        "every value is undefined on both sides, so nothing was compared".into(),
                    );
                }
                report.values.extend(values);
            }
            (None, _) => differ("missing", "the baseline has this run, the result does not".into()),
            (_, None) => {
                differ("new", "the baseline does not have this run; update the baseline to include it".into())
            }
        }
    }
    report.values.sort_by_key(|value| value.verdict.rank());
    report.notes.extend(made_with(ours, baseline));
    report.notes.extend(without_items(ours, baseline));
    if !ours.is_empty() && !baseline.is_empty() && !ours.keys().any(|name| baseline.contains_key(name)) {
        let note = "No run has the same name as a run of the baseline. Runs are named after their experiment files or, if a folder has \
                    several runs of one file, after their folders in it: give folders of the same kind.";
        report.notes.push(note.into());
    }
    report
}

/// Compares every value of two runs with the same name, in the order of the baseline.
fn values(name: &str, ours: &Snapshot, baseline: &Snapshot, tolerances: &Tolerances) -> Vec<Compared> {
    fn find<'a>(run: &'a Snapshot, like: &Measured) -> Option<&'a Measured> {
        run.values.iter().find(|value| (&value.metric, &value.method) == (&like.metric, &like.method))
    }
    let new = ours.values.iter().filter(|value| find(baseline, value).is_none());
    let all = baseline.values.iter().chain(new);
    let pair = |value: &Measured| {
        let tolerance = tolerances.of(name, &value.metric);
        Compared::new(name, (ours, find(ours, value)), (baseline, find(baseline, value)), tolerance)
    };
    all.filter_map(pair).collect()
}

/// Reports the differences that make a run incomparable with the baseline's.
fn differ_in(ours: &Snapshot, baseline: &Snapshot, differ: &mut impl FnMut(&'static str, String)) {
    let mut settings = Vec::new();
    differences("", &decisive(&baseline.experiment), &decisive(&ours.experiment), &mut settings);
    if ours.limit != baseline.limit {
        let limit = |limit: Option<usize>| limit.map_or("none".to_owned(), |limit| limit.to_string());
        settings.push(format!("limit: {} → {}", limit(baseline.limit), limit(ours.limit)));
    }
    if !settings.is_empty() {
        differ("settings", format!("another experiment: {}", settings.join("; ")));
    }
    if !ours.failed.is_empty() {
        let more = if ours.failed.len() > 3 { ", …" } else { "" };
        let names: Vec<&str> = ours.failed.iter().take(3).map(String::as_str).collect();
        let what = format!("{} items could not be answered: {}{more}", ours.failed.len(), names.join(", "));
        differ("failed", what);
    }
    if ours.items != baseline.items {
        differ("items", format!("another number of items: {} → {}", baseline.items, ours.items));
    } else if ours.ids != baseline.ids {
        let (old, new) = match baseline.ids.iter().zip(&ours.ids).find(|(old, new)| old != new) {
            Some((old, new)) => (&**old, &**new),
            None => ("none", "none"),
        };
        differ("items", format!("other items, the first of them: {old} → {new}"));
    }
    let mut hash = |kind, what: &str, old: Option<&String>, new: Option<&String>| {
        if old != new {
            let short = |hash: Option<&String>| hash.map_or("none".to_owned(), |hash| short(hash));
            differ(kind, format!("{what}: {} → {}", short(old), short(new)));
        }
    };
    hash("data", "other data", Some(&baseline.data_sha256), Some(&ours.data_sha256));
    hash("weights", "other weights", Some(&baseline.weights_sha256), Some(&ours.weights_sha256));
    let judges = (baseline.judge_sha256.as_ref(), ours.judge_sha256.as_ref());
    hash("judge", "another feature network", judges.0, judges.1);
    let names: BTreeSet<&String> = baseline.scores_sha256.keys().chain(ours.scores_sha256.keys()).collect();
    for name in names {
        let files = (baseline.scores_sha256.get(name), ours.scores_sha256.get(name));
        hash("scores", &format!("another file of scores for {name}"), files.0, files.1);
    }
}

/// Returns an experiment without the settings that do not affect its numbers. Old names of settings become the present ones, if
/// this program can still read the experiment; otherwise it is compared as it is.
fn decisive(experiment: &Value) -> Value {
    let read = serde_json::from_value::<Experiment>(experiment.clone());
    let mut experiment = match read {
        Ok(read) => serde_json::json!(read),
        Err(_) => experiment.clone(),
    };
    let Some(settings) = experiment.as_object_mut() else { return experiment };
    NAMES.iter().for_each(|name| _ = settings.remove(*name));
    // The hash of a file of scores decides, not its place.
    let tasks = settings.get_mut("task").and_then(Value::as_object_mut);
    let methods =
        tasks.into_iter().flat_map(|tasks| tasks.values_mut()).filter_map(|task| task.get_mut("methods"));
    for method in methods.filter_map(Value::as_array_mut).flatten().filter_map(Value::as_object_mut) {
        method.remove("file");
    }
    for part in ["model", "dataset"] {
        let Some(part) = settings.get_mut(part) else { continue };
        without_places(part);
    }
    experiment
}

fn without_places(value: &mut Value) {
    let Some(table) = value.as_object_mut() else { return };
    PLACES.iter().for_each(|place| _ = table.remove(*place));
    table.values_mut().for_each(without_places);
}

/// Notes the values for which only one side has the contributions of the items.
fn without_items(ours: &Runs, baseline: &Runs) -> Vec<String> {
    let mut notes = Vec::new();
    for (name, ours) in ours {
        let Some(baseline) = baseline.get(name) else { continue };
        let other = |value: &Measured| {
            let found = baseline.values.iter().find(|other| other.name() == value.name())?;
            (found.per_item.is_some() != value.per_item.is_some()).then(|| value.name())
        };
        let values: Vec<String> = ours.values.iter().filter_map(other).collect();
        if !values.is_empty() {
            let values = values.join(", ");
            notes.push(format!("{name}: only one side has the items of {values}; there is no interval."));
        }
    }
    notes
}

/// Notes other programs and machines, which may explain differences but do not fail the comparison.
fn made_with(ours: &Runs, baseline: &Runs) -> Vec<String> {
    let pair = ours.iter().find_map(|(name, ours)| Some((ours, baseline.get(name)?)));
    let Some((ours, baseline)) = pair else { return Vec::new() };
    let program = |run: &Snapshot| {
        let known = run.code.commit.as_ref().map(|commit| format!("commit {}", short(commit)));
        known.unwrap_or_else(|| format!("sources {}", short(&run.code.sources_sha256)))
    };
    let machine = |run: &Snapshot| {
        let environment = &run.environment;
        let libtorch = environment.libtorch.as_deref().unwrap_or("of unknown version");
        let processor = environment.processor.as_deref().unwrap_or(&environment.platform);
        format!("{} on {processor}, libtorch {libtorch}", environment.device)
    };
    let mut notes = Vec::new();
    for (what, old, new) in
        [("program", program(baseline), program(ours)), ("machine", machine(baseline), machine(ours))]
    {
        if old != new {
            notes.push(format!("Another {what}, which is not a failure: {old} → {new}."));
        }
    }
    notes
}
