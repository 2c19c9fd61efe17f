//! The lock file: commit, sizes and hashes of what was fetched, for the user to keep under version control.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::content::Content;
use super::error::{HubError, Result};
use super::registry::{Model, RepositoryKind, is_commit, is_plain_id, is_plain_path, is_sha256};
use crate::files::write_whole;
use crate::limits::{EXPERIMENT_BYTES, read_text};

const HEAD: &str = "\
# Commit, size and SHA-256 of every file of a published checkpoint, as tokenrank first fetched it. Later fetches refuse
# what differs. Keep this file under version control; remove the entry of a model to accept a new version of it.
";

/// A lock file, as it was read.
#[derive(Debug, Clone)]
pub(super) struct LockFile {
    path: PathBuf,
    entries: Entries,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entries {
    /// By hub id.
    #[serde(default, rename = "model", skip_serializing_if = "BTreeMap::is_empty")]
    models: BTreeMap<String, Locked>,
    /// Data sets of the hub, by their ids.
    #[serde(default, rename = "dataset", skip_serializing_if = "BTreeMap::is_empty")]
    datasets: BTreeMap<String, Locked>,
    /// By address.
    #[serde(default, rename = "file", skip_serializing_if = "BTreeMap::is_empty")]
    files: BTreeMap<String, LockedFile>,
}

/// What was fetched of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Locked {
    pub(super) commit: String,
    #[serde(default)]
    pub(super) files: BTreeMap<String, LockedFile>,
}

/// A file that was fetched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LockedFile {
    pub(super) size: u64,
    pub(super) sha256: String,
    /// Whether no hash of the hub proved the content. Another content is refused, but the hash proves nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) unverified: bool,
}

impl LockFile {
    /// Reads the file. A file that does not exist pins nothing.
    pub(super) fn read(path: &Path) -> Result<Self> {
        Ok(Self { path: path.into(), entries: Entries::read(path)? })
    }

    /// What is pinned of a repository.
    pub(super) fn of(&self, model: &Model) -> Option<&Locked> {
        let of_kind = match model.kind {
            RepositoryKind::Model => &self.entries.models,
            RepositoryKind::Dataset => &self.entries.datasets,
        };
        of_kind.get(&model.id)
    }

    /// What is pinned of the file at this address.
    pub(super) fn file(&self, url: &str) -> Option<&LockedFile> {
        self.entries.files.get(url)
    }

    /// Path of the file, for messages.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Adds what was fetched of a model, if the file lacks it. Other processes may add to the file at the same time.
    pub(super) fn add(&self, model: &Model, commit: &str, found: &BTreeMap<String, Content>) -> Result<()> {
        self.change(|entries| match entries.add(model, commit, found) {
            Ok(()) => Ok(()),
            Err(what) => Err(format!("meanwhile it pins another {what} of {}", model.id)),
        })
    }

    /// Adds a file that was fetched from an address, if the lock file lacks it.
    pub(super) fn add_file(&self, url: &str, found: &LockedFile) -> Result<()> {
        self.change(|entries| match entries.files.get_mut(url) {
            Some(pin) if pin.sha256 != found.sha256 || pin.size != found.size => {
                Err(format!("meanwhile it pins another content of {url}"))
            }
            Some(pin) => {
                pin.unverified &= found.unverified;
                Ok(())
            }
            None => {
                entries.files.insert(url.to_owned(), found.clone());
                Ok(())
            }
        })
    }

    /// Writes the file with a change, if the change is one.
    fn change(&self, change: impl Fn(&mut Entries) -> Result<(), String>) -> Result<()> {
        let merged = |mut entries: Entries| match change(&mut entries) {
            Ok(()) => Ok(entries),
            Err(reason) => Err(self.refuse(&reason)),
        };
        if merged(self.entries.clone())? == self.entries {
            return Ok(());
        }
        if let Some(folder) = self.path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            super::disk::create_folder(folder)?;
        }
        write_whole(&self.path, |out| {
            // Only one process at a time gets here, so nothing that another has added is lost.
            let text = merged(Entries::read(&self.path)?)?.text().map_err(|e| self.refuse(&e.to_string()))?;
            Ok(out.write_all(text.as_bytes())?)
        })
        .map_err(|error| match error {
            Failure::Hub(error) => *error,
            Failure::Io(e) => HubError::file("write", &self.path)(e),
        })
    }

    fn refuse(&self, reason: &str) -> HubError {
        HubError::LockFile { path: self.path.clone(), reason: reason.into() }
    }
}

impl Entries {
    fn read(path: &Path) -> Result<Self> {
        let text = match read_text(path, EXPERIMENT_BYTES) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Self::default()),
            text => text.map_err(HubError::file("read", path))?,
        };
        let refuse = |reason: String| HubError::LockFile { path: path.into(), reason };
        let entries: Self = toml::from_str(&text).map_err(|e| refuse(one_line(&e.to_string())))?;
        for (id, locked) in entries.models.iter().chain(&entries.datasets) {
            let wrong = |what: &str| Err(refuse(format!("{what} of {id} is not valid")));
            if !is_plain_id(id) {
                return wrong("the id");
            }
            if !is_commit(&locked.commit) {
                return wrong("the commit");
            }
            if let Some((file, _)) =
                locked.files.iter().find(|(file, pin)| !is_plain_path(file) || !is_sha256(&pin.sha256))
            {
                return wrong(&format!("the name or SHA-256 of {file}"));
            }
        }
        match entries.files.iter().find(|(url, pin)| !url.contains("://") || !is_sha256(&pin.sha256)) {
            Some((url, _)) => Err(refuse(format!("the address or SHA-256 of {url} is not valid"))),
            None => Ok(entries),
        }
    }

    /// Fails with what differs.
    fn add(&mut self, model: &Model, commit: &str, found: &BTreeMap<String, Content>) -> Result<(), String> {
        let of_kind = match model.kind {
            RepositoryKind::Model => &mut self.models,
            RepositoryKind::Dataset => &mut self.datasets,
        };
        let locked = of_kind
            .entry(model.id.clone())
            .or_insert_with(|| Locked { commit: commit.into(), files: BTreeMap::new() });
        if locked.commit != commit {
            return Err("commit".into());
        }
        for (file, content) in found {
            let new = LockedFile {
                size: content.size,
                sha256: content.sha256.clone(),
                unverified: !content.verified,
            };
            match locked.files.get_mut(file) {
                Some(pin) if pin.sha256 != new.sha256 || pin.size != new.size => return Err(file.clone()),
                Some(pin) => pin.unverified &= new.unverified,
                None => drop(locked.files.insert(file.clone(), new)),
            }
        }
        Ok(())
    }

    fn text(&self) -> Result<String, toml::ser::Error> {
        Ok(format!("{HEAD}\n{}", toml::to_string(self)?))
    }
}

/// An error while the file is replaced.
enum Failure {
    Hub(Box<HubError>),
    Io(io::Error),
}

impl From<HubError> for Failure {
    fn from(error: HubError) -> Self {
        Self::Hub(Box::new(error))
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Joins the lines of a parser's message, which quotes the line of the file.
fn one_line(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}
