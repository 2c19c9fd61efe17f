//! Finished runs, read back.

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
    /// Where it is.
    pub path: PathBuf,
    /// Its `results.json`.
    pub results: Results,
    header: RunHeader,
}

impl RunFolder {
    /// Reads a folder.
    ///
    /// # Errors
    /// There is no finished run in it, or its files are damaged or of another version.
    pub fn open(path: &Path) -> Result<Self> {
        let refuse = |reason: String| Error::unreadable(path, reason);
        let header = RunHeader::look(path)?;
        let file = path.join(RESULTS);
        let bytes = match limits::read_bytes(&file, limits::RESULTS_BYTES) {
            Err(e) if is_absent(&e) => {
                return Err(refuse(match header {
                    Some(_) => "this run has not finished; the command that began it goes on where it stopped".into(),
                    None => "there is no finished run here (no results.json); give the folder of a run, or one that holds \
                             such folders"
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
        // Tables and curves are as large as its settings say.
        results.experiment.check().map_err(|e| damaged(e.to_string()))?;
        match header {
            Some(header) if header.fingerprint == results.fingerprint => {
                Ok(Self { path: path.into(), results, header })
            }
            Some(_) => Err(refuse("run.json and results.json are of different runs".into())),
            None => Err(refuse("run.json is missing beside results.json".into())),
        }
    }

    /// The runs in a folder: itself, or those below it (several experiments, a sweep), by path.
    ///
    /// # Errors
    /// There are none; one of them is unfinished or damaged.
    pub fn find(dir: &Path) -> Result<Vec<Self>> {
        let found = Found::below(dir)?;
        match found.unfinished.first() {
            Some(path) => Self::open(path).map(|run| vec![run]),
            None => Ok(found.runs),
        }
    }

    /// The finished runs in a folder as [`RunFolder::find`] has them, and the folders of those that have not finished or are
    /// shards that have not been merged.
    ///
    /// # Errors
    /// None has finished; one of them is damaged.
    pub fn find_finished(dir: &Path) -> Result<(Vec<Self>, Vec<PathBuf>)> {
        let Found { runs, unfinished, shards } = Found::below(dir)?;
        match unfinished.first() {
            Some(path) if runs.is_empty() => Self::open(path).map(|run| (vec![run], Vec::new())),
            _ => Ok((runs, unfinished.into_iter().chain(shards).collect())),
        }
    }

    /// Name of the experiment file without extension.
    pub fn name(&self) -> &str {
        &self.header.name
    }

    /// `--limit` of the run.
    pub fn limit(&self) -> Option<usize> {
        self.header.identity.limit
    }

    /// What the folder says that it is.
    pub(crate) fn header(&self) -> &RunHeader {
        &self.header
    }

    /// The records in manifest order. `R` is the record type of the experiment's task.
    ///
    /// # Errors
    /// They are not all there, or damaged.
    pub fn records<R: DeserializeOwned>(&self) -> Result<Vec<R>> {
        Ok(self.answers()?.into_iter().filter_map(|(_, answer)| answer.record()).collect())
    }

    /// The answers in manifest order, each with the line of `records.jsonl` where it stands, from 1. `R` is the record type of the
    /// experiment's task.
    ///
    /// # Errors
    /// They are not all there, or damaged.
    pub fn answers<R: DeserializeOwned>(&self) -> Result<Vec<(usize, Answer<R>)>> {
        Ok(runs::records::finished(&self.path, &self.header)?)
    }
}

/// Whether there is no such file, or a file where its folder would be.
fn is_absent(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory)
}

/// What is below a folder.
#[derive(Default)]
struct Found {
    runs: Vec<RunFolder>,
    /// Folders of runs without results.
    unfinished: Vec<PathBuf>,
    /// Folders of runs of which there are shards alone.
    shards: Vec<PathBuf>,
}

impl Found {
    /// # Errors
    /// There is no run, finished or not; one is damaged.
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
                    "there is no such folder; give that of a run, or one that holds such folders",
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
