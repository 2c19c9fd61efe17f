//! Finished runs, read back.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use tasks::Answer;

use super::header::RunHeader;
use super::records::{self, RECORDS, Scan};
use super::{Batches, DEPTH};
use crate::error::{Error, Result};
use crate::results::{Results, SCHEMA};

/// The file in a run's folder that says that the run is done.
pub(crate) const RESULTS: &str = "results.json";

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
        let refuse = |reason: String| Error::Unreadable { path: path.into(), reason };
        let header = header(path)?;
        let file = path.join(RESULTS);
        let bytes = match std::fs::read(&file) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Err(refuse(match header {
                    Some(_) => "this run has not finished; the command that began it goes on where it stopped".into(),
                    None => "there is no finished run here (no results.json); give the folder of a run, or one that holds \
                             such folders"
                        .into(),
                }));
            }
            other => other.map_err(Error::file("read", &file))?,
        };
        let damaged =
            |reason: String| refuse(format!("results.json: {reason}; run the experiment again with --fresh"));
        let value: serde_json::Value = serde_json::from_slice(&bytes).map_err(|e| damaged(e.to_string()))?;
        if value["schema"] != SCHEMA {
            return Err(refuse(format!(
                "results.json has schema {}, this program reads {SCHEMA}; use the version that wrote it, or run the \
                 experiment again",
                value["schema"]
            )));
        }
        let results: Results = serde_json::from_value(value).map_err(|e| damaged(e.to_string()))?;
        match header {
            Some(header) if header.fingerprint == results.fingerprint => {
                Ok(Self { path: path.into(), results, header })
            }
            Some(_) => Err(refuse("run.json and results.json are of different runs".into())),
            None => Err(refuse("run.json is missing beside results.json".into())),
        }
    }

    /// The finished runs in a folder: itself, or those below it (several experiments, a sweep), by path.
    ///
    /// # Errors
    /// There are none; one of them is unfinished or damaged.
    pub fn find(dir: &Path) -> Result<Vec<Self>> {
        let (mut runs, mut shards) = (Vec::new(), 0);
        walk(dir, DEPTH, &mut runs, &mut shards)?;
        match shards {
            _ if !runs.is_empty() => Ok(runs),
            0 => Self::open(dir).map(|run| vec![run]),
            _ => {
                let reason = format!(
                    "there are shards here and no run yet; when all are done, make it with: tokenrank merge {}",
                    dir.display()
                );
                Err(Error::Unreadable { path: dir.into(), reason })
            }
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

    /// The answers in manifest order, each with the line of `records.jsonl` that it is, from 1. `R` is the record type of the
    /// experiment's task.
    ///
    /// # Errors
    /// They are not all there, or damaged.
    pub fn answers<R: DeserializeOwned>(&self) -> Result<Vec<(usize, Answer<R>)>> {
        let path = self.path.join(RECORDS);
        let bytes = records::read(&path)?;
        let refuse = |reason: String| Error::Unreadable { path: path.clone(), reason };
        let again = "run the experiment again, which mends it";
        let batches = Batches { items: self.header.items, batch: self.header.batch, shard: None };
        let scan = Scan::of(&bytes);
        let mut answers = BTreeMap::new();
        for segment in &scan.segments {
            if batches.has(&segment.range) {
                let parsed = segment.answers::<R>();
                let parsed =
                    parsed.ok_or_else(|| refuse(format!("a record cannot be understood; {again}")))?;
                let lines = segment.line..;
                answers.insert(segment.range.start, lines.zip(parsed).collect::<Vec<_>>());
            }
        }
        let found: usize = answers.values().map(Vec::len).sum();
        if found != batches.items {
            return Err(refuse(format!("has {found} of {} whole records; {again}", batches.items)));
        }
        Ok(answers.into_values().flatten().collect())
    }
}

/// The header of a folder that is read and not run in.
fn header(folder: &Path) -> Result<Option<RunHeader>> {
    RunHeader::read(folder).map_err(|error| match error {
        Error::OtherRun { path, reason } => {
            Error::Unreadable { path, reason: format!("{reason}; run the experiment again with --fresh") }
        }
        other => other,
    })
}

fn walk(dir: &Path, depth: usize, runs: &mut Vec<RunFolder>, shards: &mut usize) -> Result<()> {
    match header(dir)? {
        Some(header) if header.shard.is_some() => {
            *shards += 1;
            return Ok(());
        }
        Some(_) => {
            runs.push(RunFolder::open(dir)?);
            return Ok(());
        }
        None => {}
    }
    if depth == 0 {
        return Ok(());
    }
    let entries = match std::fs::read_dir(dir) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            return Err(Error::Unreadable { path: dir.into(), reason: "there is no such folder".into() });
        }
        other => other.map_err(Error::file("read", dir))?,
    };
    let mut below = Vec::new();
    for entry in entries {
        below.push(entry.map_err(Error::file("read", dir))?.path());
    }
    below.sort();
    below.iter().filter(|path| path.is_dir()).try_for_each(|path| walk(path, depth - 1, runs, shards))
}
