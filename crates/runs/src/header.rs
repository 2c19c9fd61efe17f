//! `run.json`, which identifies the run that a folder of records belongs to.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use models::limits;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::error::{Error, FileAction, Remedy, Result};
use crate::files::write_json;
use crate::layout::{HEADER, RECORDS, SCHEMA};
use crate::progress;
use crate::shard::Shard;

/// Everything that determines the records of a run. Records with the same identity belong together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// The checked experiment: `--set` applied, defaults filled in. What [`Judging`] has is left out.
    pub experiment: Value,
    /// `--limit`.
    pub limit: Option<usize>,
    /// `cpu` or `cuda`, which round differently.
    pub device: String,
    /// Hash of the network's files.
    pub weights_sha256: String,
    /// Source of the classes.
    pub classes: String,
    /// Hash of the manifest: items and labels.
    pub manifest_sha256: String,
    /// Hash of the program's sources.
    pub sources_sha256: String,
    /// Hash of the file of each method whose scores come from a file, by the name of the method.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub scores: BTreeMap<String, String>,
}

impl Identity {
    /// Returns the hash of the whole identity.
    pub fn fingerprint(&self) -> String {
        models::hex(Sha256::digest(serde_json::json!(self).to_string()))
    }

    /// Returns the differences of `other`, as `key: old → new`.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let mut changes = Vec::new();
        differences("", &self.experiment, &other.experiment, &mut changes);
        let limit = |limit: Option<usize>| limit.map_or("none".to_owned(), |limit| limit.to_string());
        let rest = [
            ("limit", limit(self.limit), limit(other.limit)),
            ("device", self.device.clone(), other.device.clone()),
            ("weights", short(&self.weights_sha256), short(&other.weights_sha256)),
            ("classes", self.classes.clone(), other.classes.clone()),
            ("items and labels", short(&self.manifest_sha256), short(&other.manifest_sha256)),
            ("program", short(&self.sources_sha256), short(&other.sources_sha256)),
        ];
        let differ = rest.into_iter().filter(|(_, old, new)| old != new);
        changes.extend(differ.map(|(key, old, new)| format!("{key}: {old} → {new}")));
        let hash = |scores: &BTreeMap<String, String>, name: &str| {
            scores.get(name).map_or("none".to_owned(), |hash| short(hash))
        };
        let names: BTreeSet<&String> = self.scores.keys().chain(other.scores.keys()).collect();
        for name in names {
            let (old, new) = (hash(&self.scores, name), hash(&other.scores, name));
            if old != new {
                changes.push(format!("scores of `{name}`: {old} → {new}"));
            }
        }
        changes
    }
}

/// What turns the records of a run into its results without deciding the records: the reference that generated images are
/// compared with, and how. If it changes, the records are kept and the results are computed again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Judging {
    /// Tables of the experiment, by key.
    pub experiment: serde_json::Map<String, Value>,
    /// Hash of the list of the reference's items.
    pub reference_sha256: String,
}

impl Judging {
    /// Returns the differences of `other`, as `key: old → new`.
    fn differences(&self, other: &Self) -> Vec<String> {
        let mut changes = Vec::new();
        let table = |judging: &Self| Value::Object(judging.experiment.clone());
        differences("", &table(self), &table(other), &mut changes);
        if changes.is_empty() && self != other {
            let (old, new) = (short(&self.reference_sha256), short(&other.reference_sha256));
            changes.push(format!("reference: {old} → {new}"));
        }
        changes
    }
}

/// Returns the beginning of a hash, long enough to tell it from another.
pub fn short(hash: &str) -> String {
    hash.chars().take(12).collect()
}

/// The content of `run.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunHeader {
    /// [`SCHEMA`] of the program that wrote it.
    pub schema: u32,
    /// Name of the experiment file without extension.
    pub name: String,
    /// [`Identity::fingerprint`] of `identity`.
    pub fingerprint: String,
    /// Everything that determines the records.
    pub identity: Identity,
    /// What determines the results besides the records, in experiments that have such settings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judging: Option<Judging>,
    /// Number of threads that libtorch computed with on the CPU; the last digits of some networks depend on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threads: Option<i32>,
    /// The command that started the run, without its folder; for information only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// Number of items of the whole manifest.
    pub items: usize,
    /// Number of items of a batch.
    pub batch: usize,
    /// The shard that the folder belongs to; `None` for a whole run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard: Option<Shard>,
}

impl RunHeader {
    /// Returns the whole experiment, with the tables of [`Judging`].
    pub fn experiment(&self) -> Value {
        let mut experiment = self.identity.experiment.clone();
        if let (Value::Object(tables), Some(judging)) = (&mut experiment, &self.judging) {
            tables.extend(judging.experiment.clone());
        }
        experiment
    }

    /// Returns how the results of `other`, which has the same records, are judged differently, as `key: old → new`.
    pub(crate) fn judged_otherwise(&self, other: &Self) -> Vec<String> {
        match (&self.judging, &other.judging) {
            (Some(old), Some(new)) => old.differences(new),
            (None, _) | (_, None) => Vec::new(),
        }
    }

    /// Reads the header of a folder. Returns `None` if there is no run.
    ///
    /// # Errors
    /// Fails if the header cannot be read or is damaged.
    pub fn read(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join(HEADER);
        let bytes = match limits::read_bytes(&path, limits::RESULTS_BYTES) {
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
            other => other.map_err(Error::file(FileAction::Read, &path))?,
        };
        let damaged = |reason: String| Error::OtherRun { path: folder.into(), reason };
        let value: Value =
            serde_json::from_slice(&bytes).map_err(|e| damaged(format!("run.json is damaged: {e}")))?;
        if value["schema"] != SCHEMA {
            let reason = format!("it was written by another version, schema {}", value["schema"]);
            return Err(damaged(reason));
        }
        let header: Self =
            serde_json::from_value(value).map_err(|e| damaged(format!("run.json is damaged: {e}")))?;
        if header.fingerprint != header.identity.fingerprint() || header.batch == 0 {
            return Err(damaged("run.json is damaged: it does not agree with its fingerprint".into()));
        }
        Ok(Some(header))
    }

    /// Reads the header of a folder in which nothing will be run. Returns `None` if there is no run.
    ///
    /// # Errors
    /// Fails with [`Error::Unreadable`] if the header is damaged.
    pub fn look(folder: &Path) -> Result<Option<Self>> {
        Self::read(folder).map_err(|error| match error {
            Error::OtherRun { path, reason } => Error::damaged(&path, reason),
            other @ (Error::File { .. }
            | Error::Foreign { .. }
            | Error::Spread { .. }
            | Error::Locked { .. }
            | Error::SameFolder { .. }
            | Error::Lost { .. }
            | Error::NothingRead { .. }
            | Error::NothingFinite { .. }
            | Error::Memory { .. }
            | Error::Unreadable { .. }
            | Error::Merge { .. }
            | Error::Interrupted { .. }
            | Error::Task(_)) => other,
        })
    }

    /// Reads the headers of a run's folder and of the shards in it. Returns each with its folder.
    ///
    /// # Errors
    /// Fails if a folder cannot be read or a header is damaged.
    pub fn of_folder(run: &Path) -> Result<Vec<(PathBuf, Self)>> {
        let entries = match std::fs::read_dir(run) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(Error::file(FileAction::Read, run))?,
        };
        let mut folders = vec![run.to_path_buf()];
        for entry in entries {
            let entry = entry.map_err(Error::file(FileAction::Read, run))?;
            if entry.file_name().to_string_lossy().starts_with("shard-") && entry.path().is_dir() {
                folders.push(entry.path());
            }
        }
        folders.sort();
        let headers =
            folders.into_iter().map(|folder| Ok(Self::read(&folder)?.map(|header| (folder, header))));
        headers.filter_map(Result::transpose).collect()
    }

    /// Checks that the run or shard in `folder`, with header `known`, is compatible with a division of this run into `shards`
    /// shards.
    ///
    /// # Errors
    /// Fails with the reason if it is not.
    pub fn allows(&self, folder: &Path, known: &Self, shards: usize) -> Result<()> {
        let refuse = |reason: String, remedy| Err(Error::Spread { path: folder.into(), reason, remedy });
        if let Some(shard) = known.shard.filter(|shard| shard.of != shards) {
            let reason =
                format!("is one of {} shards and cannot be combined with shards of {shards}", shard.of);
            return refuse(reason, Remedy::KeepShards(shard.of));
        }
        if known.fingerprint != self.fingerprint && has_records(folder) {
            let differences = known.identity.differences(&self.identity).join("; ");
            let reason = format!("has records of another experiment ({differences})");
            return refuse(reason, Remedy::ClearFolder);
        }
        Ok(())
    }

    /// Makes `folder` the folder of this run, or checks that it already is. A folder without records may be taken over; records
    /// without a header belong to an unknown run and are never overwritten.
    ///
    /// # Errors
    /// Fails if the folder holds another run, with the differences, or cannot be written.
    pub fn claim(&self, folder: &Path) -> Result<()> {
        match Self::read(folder)? {
            None if has_records(folder) => {
                let reason = "it has records but no run.json that identifies them".into();
                Err(Error::OtherRun { path: folder.into(), reason })
            }
            None => write_json(&folder.join(HEADER), self),
            Some(known) if known != *self && !has_records(folder) => write_json(&folder.join(HEADER), self),
            Some(known) if (&known.fingerprint, known.shard) == (&self.fingerprint, self.shard) => {
                let changes = known.judged_otherwise(self);
                if changes.is_empty() {
                    return Ok(());
                }
                progress::say(&format!(
                    "what was generated is kept, and judged anew ({})",
                    changes.join("; ")
                ));
                write_json(&folder.join(HEADER), &Self { judging: self.judging.clone(), ..known })
            }
            Some(known) => {
                let mut changes = known.identity.differences(&self.identity);
                let shard = |header: &Self| header.shard.map_or("none".to_owned(), |shard| shard.to_string());
                if known.shard != self.shard {
                    changes.push(format!("shard: {} → {}", shard(&known), shard(self)));
                }
                Err(Error::OtherRun { path: folder.into(), reason: changes.join("; ") })
            }
        }
    }
}

/// Prints a note if other folders of the run have records that were computed with another number of threads than `here`.
pub fn note_threads<'a>(here: &RunHeader, others: impl IntoIterator<Item = (&'a Path, &'a RunHeader)>) {
    let Some(threads) = here.threads else { return };
    let differs = |known: &RunHeader| {
        known.fingerprint == here.fingerprint && known.threads.is_some_and(|known| known != threads)
    };
    let found = others.into_iter().find(|(folder, known)| differs(known) && has_records(folder));
    if let Some((folder, known)) = found {
        progress::say(&format!(
            "{} was computed with {}, the rest with {threads}: last digits may differ from those of a run with one \
             number of threads; OMP_NUM_THREADS sets it",
            folder.display(),
            plural(known.threads.unwrap_or_default())
        ));
    }
}

fn plural(threads: i32) -> String {
    if threads == 1 { "1 thread".to_owned() } else { format!("{threads} threads") }
}

fn has_records(folder: &Path) -> bool {
    folder.join(RECORDS).metadata().is_ok_and(|records| records.len() > 0)
}

/// Appends the settings that differ to `changes`, as `key: old → new`.
pub fn differences(key: &str, old: &Value, new: &Value, changes: &mut Vec<String>) {
    use Value::{Null, Object};
    match (old, new) {
        (Object(a), Object(b)) => {
            let keys: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for name in keys {
                let path = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
                differences(&path, a.get(name).unwrap_or(&Null), b.get(name).unwrap_or(&Null), changes);
            }
        }
        _ if old != new => changes.push(format!("{key}: {old} → {new}")),
        _ => {}
    }
}
