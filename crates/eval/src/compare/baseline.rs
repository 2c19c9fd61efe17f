//! `eval/baselines/*.json`: the values that results are held to.

use std::collections::BTreeSet;
use std::path::Path;

use models::limits;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::layout::to_json;
use super::snapshot::{Runs, Snapshot};
use super::tolerance::Tolerances;
use crate::error::{Error, Result};
use runs::FileAction;
use runs::files::write_whole;

/// Version of the layout; it rises when a field changes its meaning or goes.
const SCHEMA: u64 = 1;

/// The content of the file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Baseline {
    /// Version of the layout.
    pub schema: u64,
    /// Name of the suite: that of the file.
    pub suite: String,
    /// The command whose result this is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// To be edited by hand.
    pub tolerances: Tolerances,
    /// The runs by their names.
    pub runs: Runs,
}

impl Baseline {
    /// Of runs that are to be the baseline.
    pub(super) fn new(path: &Path, runs: Runs, tolerances: Tolerances) -> Self {
        let commands: BTreeSet<&str> = runs.values().filter_map(|run| run.command.as_deref()).collect();
        let commands: Vec<String> =
            commands.into_iter().map(|command| format!("{command} --out DIR")).collect();
        let command = (!commands.is_empty()).then(|| commands.join("; "));
        Self { schema: SCHEMA, suite: suite(path), command, tolerances, runs }
    }

    /// Reads a file; none where there is none.
    ///
    /// # Errors
    /// It cannot be read, is damaged, or of another version.
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
            None => return Err(damaged("it has no schema, so it is no baseline".into())),
        }
        // From the bytes once more: the message has the line.
        let baseline: Self = serde_json::from_slice(&bytes).map_err(|e| damaged(e.to_string()))?;
        baseline.check().map_err(damaged)?;
        Ok(Some(baseline))
    }

    /// Writes the file, whole or not at all.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let bytes = to_json(self).map_err(|e| Error::Export { path: path.into(), reason: e.to_string() })?;
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(Error::file(FileAction::Create, folder))?;
        }
        Ok(write_whole(path, &bytes)?)
    }

    fn check(&self) -> std::result::Result<(), String> {
        self.tolerances.check(metrics(&self.runs))?;
        for (name, run) in &self.runs {
            check_run(run).map_err(|reason| format!("run {name}: {reason}"))?;
        }
        Ok(())
    }
}

/// The metrics of runs, with the names of these.
pub(super) fn metrics(runs: &Runs) -> impl Iterator<Item = (&str, &str)> + Clone {
    runs.iter().flat_map(|(name, run)| run.values.iter().map(move |value| (&**name, &*value.metric)))
}

/// The name of a suite, by its file or folder.
pub(super) fn suite(path: &Path) -> String {
    path.file_stem().map_or_else(|| "results".to_owned(), |stem| stem.to_string_lossy().into_owned())
}

fn check_run(run: &Snapshot) -> std::result::Result<(), String> {
    let items = run.ids.len();
    if run.items != items as u64 {
        return Err(format!("{} items and {items} names of items", run.items));
    }
    if !run.failed.is_empty() {
        return Err("items that could not be read are no baseline".into());
    }
    if run.pictures.values().any(|hashes| hashes.len() != items) {
        return Err("the hashes of the pictures are not as many as the items".into());
    }
    let mut seen = BTreeSet::new();
    for value in &run.values {
        if !seen.insert((&value.metric, &value.method)) {
            return Err(format!("{} comes twice", value.name()));
        }
    }
    run.adds_up()
}
