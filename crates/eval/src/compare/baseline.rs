//! Baselines (`eval/baselines/*.json`): the values that results are compared with.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;

use models::{files, limits};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::layout::to_json;
use super::snapshot::{Runs, Snapshot};
use super::tolerance::Tolerances;
use crate::error::{Error, Result};
use runs::FileAction;

/// Version of the layout; it rises when a field changes its meaning or is removed.
const SCHEMA: u64 = 1;

/// The content of a baseline file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Baseline {
    /// Version of the layout.
    pub schema: u64,
    /// Name of the suite, which is the name of the file.
    pub suite: String,
    /// The command that produced the result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// The tolerances; meant to be edited by hand.
    pub tolerances: Tolerances,
    /// The runs by their names.
    pub runs: Runs,
}

impl Baseline {
    /// Makes a baseline of runs.
    pub(super) fn new(path: &Path, runs: Runs, tolerances: Tolerances) -> Self {
        let commands: BTreeSet<&str> = runs.values().filter_map(|run| run.command.as_deref()).collect();
        let commands: Vec<String> =
            commands.into_iter().map(|command| format!("{command} --out DIR")).collect();
        let command = (!commands.is_empty()).then(|| commands.join("; "));
        Self { schema: SCHEMA, suite: suite(path), command, tolerances, runs }
    }

    /// Reads a baseline file. Returns `None` if there is no such file.
    ///
    /// # Errors
    /// Fails if the file cannot be read, is damaged, or has another version.
    pub fn read(path: &Path) -> Result<Option<Self>> {
        let bytes = match limits::read_bytes(path, limits::RESULTS_BYTES) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(Error::file(FileAction::Read, path))?,
        };
        let refuse = |reason: String| Error::Baseline { path: path.into(), reason };
        let damaged = |reason: String| {
            refuse(format!("this baseline is damaged: {reason}; restore the file, or remove it"))
        };
        let value: Value = serde_json::from_slice(&bytes).map_err(|e| damaged(e.to_string()))?;
        match value.get("schema") {
            Some(schema) if *schema == SCHEMA => {}
            Some(schema) => {
                return Err(refuse(format!(
                    "this baseline has schema {schema}, this program reads {SCHEMA}; use the version that wrote it, or remove \
                     the file"
                )));
            }
            None => return Err(damaged("it has no schema, so it is not a baseline".into())),
        }
        // Parsed from the bytes again, so that the message has the line.
        let baseline: Self = serde_json::from_slice(&bytes).map_err(|e| damaged(e.to_string()))?;
        baseline.check().map_err(damaged)?;
        Ok(Some(baseline))
    }

    /// Writes the file, completely or not at all, in place of the baseline `known`.
    ///
    /// # Errors
    /// Fails if the file cannot be written, or if another process has changed it since `known` was read.
    pub fn write(&self, path: &Path, known: Option<&Self>) -> Result<()> {
        let bytes = to_json(self).map_err(|e| Error::Export { path: path.into(), reason: e.to_string() })?;
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(Error::file(FileAction::Create, folder))?;
        }
        // One process at a time is between these two steps.
        files::write_whole(path, |out| {
            if Self::read(path)?.as_ref() != known {
                let reason =
                    "another process has changed this baseline in the meantime; run the same command again"
                        .into();
                return Err(WriteError::Eval(Error::Export { path: path.into(), reason }));
            }
            Ok(out.write_all(&bytes)?)
        })
        .map_err(|error| match error {
            WriteError::Eval(error) => error,
            WriteError::Io(error) => Error::file(FileAction::Write, path)(error),
        })
    }

    fn check(&self) -> std::result::Result<(), String> {
        self.tolerances.check(metrics(&self.runs))?;
        for (name, run) in &self.runs {
            check_run(run).map_err(|reason| format!("run {name}: {reason}"))?;
        }
        Ok(())
    }
}

/// Returns pairs of run and metric.
pub(super) fn metrics(runs: &Runs) -> impl Iterator<Item = (&str, &str)> + Clone {
    runs.iter().flat_map(|(name, run)| run.values.iter().map(move |value| (&**name, &*value.metric)))
}

/// Returns the name of a suite, from its file or folder.
pub(super) fn suite(path: &Path) -> String {
    path.file_stem().map_or_else(|| "results".to_owned(), |stem| stem.to_string_lossy().into_owned())
}

/// What can prevent a baseline from being written.
enum WriteError {
    Eval(Error),
    Io(std::io::Error),
}

impl From<Error> for WriteError {
    fn from(error: Error) -> Self {
        Self::Eval(error)
    }
}

impl From<std::io::Error> for WriteError {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}

fn check_run(run: &Snapshot) -> std::result::Result<(), String> {
    let items = run.ids.len();
    if run.items != items as u64 {
        return Err(format!("{} items and {items} names of items", run.items));
    }
    if !run.failed.is_empty() {
        return Err("a baseline must not have items that could not be answered".into());
    }
    if !run.images.is_empty() && run.images.len() != items {
        return Err("`images` must have a number for each of the items, or be left out".into());
    }
    if run.pictures.values().any(|hashes| hashes.len() != items) {
        return Err("`pictures` must have a hash for each of the items".into());
    }
    let mut seen = BTreeSet::new();
    for value in &run.values {
        if !seen.insert((&value.metric, &value.method)) {
            return Err(format!("{} comes twice", value.name()));
        }
    }
    run.adds_up()
}
