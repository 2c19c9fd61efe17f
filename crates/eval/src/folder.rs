//! Reads finished runs back.

use std::path::{Path, PathBuf};

use models::limits;
use serde::de::DeserializeOwned;
use tasks::Answer;

use runs::layout::{DEPTH, RESULTS, SCHEMA};
use runs::{FileAction, RunHeader};

use crate::error::{Error, Result};
use crate::results::Results;

/// The folder of a finished run.
pub struct RunFolder {
    /// The folder.
    pub path: PathBuf,
    /// Its `results.json`.
    pub results: Results,
    header: RunHeader,
}

impl RunFolder {
    /// Reads the folder of a finished run.
    ///
    /// # Errors
    /// Fails if there is no finished run in the folder, or its files are damaged or of another version.
    pub fn open(path: &Path) -> Result<Self> {
        let refuse = |reason: String| Error::unreadable(path, reason);
        let header = RunHeader::look(path)?;
        let file = path.join(RESULTS);
        let bytes = match limits::read_bytes(&file, limits::RESULTS_BYTES) {
            Err(e) if is_absent(&e) => {
                return Err(refuse(match header {
                    Some(_) => "this run has not finished; the command that started it continues where it stopped".into(),
                    None => "there is no finished run here (no results.json); give the folder of a run, or a folder \
                             that contains runs"
                        .into(),
                }));
            }
            other => other.map_err(Error::file(FileAction::Read, &file))?,
        };
        let damaged =
            |reason: String| Error::from(runs::Error::damaged(path, format!("results.json: {reason}")));
        let value: serde_json::Value = serde_json::from_slice(&bytes).map_err(|e| damaged(e.to_string()))?;
        if value["schema"] != SCHEMA {
            return Err(refuse(format!(
                "results.json has schema {}, this program reads {SCHEMA}; use the version that wrote it, or run the \
                 experiment again",
                value["schema"]
            )));
        }
        let results = Results::read(value).map_err(|e| damaged(e.to_string()))?;
        // The settings decide the size of tables and curves, so they are checked first.
        results.experiment.check().map_err(|e| damaged(e.to_string()))?;
        match header {
            Some(header) if header.fingerprint == results.fingerprint => {
                Ok(Self { path: path.into(), results, header })
            }
            Some(_) => Err(refuse("run.json and results.json are of different runs".into())),
            None => Err(refuse("there is a results.json, but run.json is missing".into())),
        }
    }

    /// Returns the runs in a folder, sorted by path: the folder itself, or those below it (several experiments, a sweep).
    ///
    /// # Errors
    /// Fails if there are none, or if one of them is unfinished or damaged.
    pub fn find(dir: &Path) -> Result<Vec<Self>> {
        let found = Found::below(dir)?;
        match found.unfinished.first() {
            Some(path) => Self::open(path).map(|run| vec![run]),
            None => Ok(found.runs),
        }
    }

    /// Returns the finished runs in a folder in the order of [`RunFolder::find`], and the folders of unfinished runs and of
    /// shards that have not been merged.
    ///
    /// # Errors
    /// Fails if none has finished or if one is damaged.
    pub fn find_finished(dir: &Path) -> Result<(Vec<Self>, Vec<PathBuf>)> {
        let Found { runs, unfinished, shards } = Found::below(dir)?;
        match unfinished.first() {
            Some(path) if runs.is_empty() => Self::open(path).map(|run| (vec![run], Vec::new())),
            _ => Ok((runs, unfinished.into_iter().chain(shards).collect())),
        }
    }

    /// Returns the name of the experiment file without extension.
    pub fn name(&self) -> &str {
        &self.header.name
    }

    /// Returns the `--limit` of the run.
    pub fn limit(&self) -> Option<usize> {
        self.header.identity.limit
    }

    /// Returns the header of the run (`run.json`).
    pub(crate) fn header(&self) -> &RunHeader {
        &self.header
    }

    /// Reads the records in manifest order. `R` is the record type of the experiment's task.
    ///
    /// # Errors
    /// Fails if records are missing or damaged.
    pub fn records<R: DeserializeOwned>(&self) -> Result<Vec<R>> {
        Ok(self.answers()?.into_iter().filter_map(|(_, answer)| answer.record()).collect())
    }

    /// Reads the answers in manifest order, each with its line in `records.jsonl`, counted from 1. `R` is the record type of the
    /// experiment's task.
    ///
    /// # Errors
    /// Fails if records are missing or damaged.
    pub fn answers<R: DeserializeOwned>(&self) -> Result<Vec<(usize, Answer<R>)>> {
        Ok(runs::records::finished(&self.path, &self.header)?)
    }
}

/// Returns whether the error means that the file does not exist, or that a file stands where its folder would be.
fn is_absent(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory)
}

/// The runs below a folder.
#[derive(Default)]
struct Found {
    runs: Vec<RunFolder>,
    /// Folders of runs without results.
    unfinished: Vec<PathBuf>,
    /// Folders of runs that consist of unmerged shards only.
    shards: Vec<PathBuf>,
}

impl Found {
    /// Finds the runs below a folder.
    ///
    /// # Errors
    /// Fails if there is no run, finished or not, or if one is damaged.
    fn below(dir: &Path) -> Result<Self> {
        let mut found = Self::default();
        found.walk(dir, DEPTH)?;
        if found.runs.is_empty() && found.unfinished.is_empty() {
            if found.shards.is_empty() {
                found.runs.push(RunFolder::open(dir)?);
            } else {
                let reason = "there are shards here and no run yet".into();
                let remedy = Some(runs::Remedy::Merge(dir.into()));
                return Err(runs::Error::Unreadable { path: dir.into(), reason, remedy }.into());
            }
        }
        Ok(found)
    }

    fn walk(&mut self, dir: &Path, depth: usize) -> Result<()> {
        match RunHeader::look(dir)? {
            Some(header) if header.shard.is_some() => {
                let run = dir.parent().unwrap_or(dir);
                if !self.shards.iter().any(|known| known == run) {
                    self.shards.push(run.to_path_buf());
                }
                return Ok(());
            }
            Some(_) if !dir.join(RESULTS).exists() => {
                self.unfinished.push(dir.to_path_buf());
                return Ok(());
            }
            Some(_) => {
                self.runs.push(RunFolder::open(dir)?);
                return Ok(());
            }
            None => {}
        }
        if depth == 0 {
            return Ok(());
        }
        let entries = match std::fs::read_dir(dir) {
            Err(e) if is_absent(&e) => {
                return Err(Error::unreadable(
                    dir,
                    "there is no such folder; give the folder of a run, or a folder that contains runs",
                ));
            }
            other => other.map_err(Error::file(FileAction::Read, dir))?,
        };
        let mut below = Vec::new();
        for entry in entries {
            below.push(entry.map_err(Error::file(FileAction::Read, dir))?.path());
        }
        below.sort();
        below.iter().filter(|path| path.is_dir()).try_for_each(|path| self.walk(path, depth - 1))
    }
}
