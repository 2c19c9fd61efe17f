//! One fetch of a model: checks what the cache has, and downloads the rest.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;

use super::cache::{Repository, Stored};
use super::client::{Client, Remote, Wanted};
use super::content::{Content, Kind, Tag, git_hash_of, sha256_of};
use super::download::Download;
use super::error::{HubError, Result};
use super::lock_file::LockFile;
use super::pins::Pins;
use super::registry::Model;
use super::retry::RetryPolicy;
use super::settings::Hub;
use super::{Offer, Progress, listing};

/// Size in bytes from which on the user is told that a file is being checked.
const LARGE: u64 = 1 << 30;

/// A fetch that is going on.
struct Session<'a> {
    hub: &'a Hub,
    model: &'a Model,
    repository: Repository,
    pins: Pins<'a>,
}

/// Returns the files of a model without a list that the cache has for a commit, or what they lack.
pub(super) fn in_cache(
    repository: &Repository,
    commit: &str,
    model: &Model,
) -> std::result::Result<Vec<String>, String> {
    let names = repository.files(commit);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    listing::chosen(model, &names)
}

/// Returns the model with its files: those of its own list, of the lock file, of the hub, or of the cache.
fn resolved(hub: &Hub, model: &Model, lock: Option<&LockFile>, progress: &mut dyn Progress) -> Result<Model> {
    if !model.files.is_empty() {
        return Ok(model.clone());
    }
    if let Some(locked) = lock.and_then(|lock| lock.of(model)) {
        let names: Vec<&str> = locked.files.keys().map(String::as_str).collect();
        if let Ok(files) = listing::chosen(model, &names) {
            return Ok(Model { files, ..model.clone() });
        }
    }
    if hub.offline {
        let repository = Repository::new(hub, model);
        let commit = repository.commit(&model.revision);
        let files = commit.map(|commit| in_cache(&repository, &commit, model));
        return match files {
            Some(Ok(files)) => Ok(Model { files, ..model.clone() }),
            Some(Err(what)) => Err(hub.missing(model, vec![what], true)),
            None => Err(hub.missing(model, Vec::new(), true)),
        };
    }
    let client = Client::new(hub)?;
    RetryPolicy::new(hub.pause).repeat(progress, || client.list(model))?.resolve(model)
}

/// Returns what is missing of a model.
pub(super) fn offer(hub: &Hub, model: &Model, progress: &mut dyn Progress) -> Result<Offer> {
    let lock = hub.lock_file.as_deref().map(LockFile::read).transpose()?;
    let model = &resolved(hub, model, lock.as_ref(), progress)?;
    let pins = Pins::new(model, lock.as_ref())?;
    let repository = Repository::new(hub, model);
    let commit = repository.commit(pins.revision());
    let there = |file: &str| commit.as_ref().is_some_and(|commit| repository.has(commit, file));
    let missing: Vec<&String> = model.files.iter().filter(|file| !there(file)).collect();
    let sizes = missing.iter().map(|file| pins.size(file).or(model.published.get(*file)?.size));
    let mut known: Option<u64> = sizes.sum();
    if known.is_none() && !hub.offline {
        let session = Session { hub, model, repository, pins };
        let client = Client::new(hub)?;
        let mut sum = Some(0);
        for file in &missing {
            let wanted = Wanted { model, revision: session.pins.revision(), file };
            let size = session.describe(&client, wanted, progress)?.size;
            sum = sum.zip(size).map(|(sum, size)| sum + size);
        }
        known = sum;
    }
    Ok(Offer { model: model.clone(), missing: known, files: missing.len() })
}

/// Fetches what is missing, checks everything, and adds it to the lock file. Returns the folder.
pub(super) fn fetch(hub: &Hub, model: &Model, progress: &mut dyn Progress) -> Result<PathBuf> {
    let lock = hub.lock_file.as_deref().map(LockFile::read).transpose()?;
    let model = &resolved(hub, model, lock.as_ref(), progress)?;
    let pins = Pins::new(model, lock.as_ref())?;
    let session = Session { hub, model, repository: Repository::new(hub, model), pins };
    let (commit, found) = session.all(progress)?;
    session.repository.remember(&model.revision, &commit)?;
    session.repository.remove_abandoned();
    if let Some(lock) = &lock {
        lock.add(model, &commit, &found)?;
    }
    hub.snapshot(model)
}

impl Session<'_> {
    /// Returns the commit and the content of every file. Makes no request if the cache has all of them.
    fn all(&self, progress: &mut dyn Progress) -> Result<(String, BTreeMap<String, Content>)> {
        let mut revision = self.pins.revision().to_owned();
        let mut found = BTreeMap::new();
        let known = self.repository.commit(&revision);
        if let Some(commit) = &known {
            for file in &self.model.files {
                found.extend(self.stored(commit, file, progress)?.map(|content| (file.clone(), content)));
            }
        }
        let missing = self.model.files.iter().filter(|file| !found.contains_key(*file)).cloned();
        let missing: Vec<_> = missing.collect();
        match &known {
            Some(commit) if missing.is_empty() => return Ok((commit.clone(), found)),
            _ if self.hub.offline => return Err(self.hub.missing(self.model, missing, true)),
            _ => {}
        }
        let client = Client::new(self.hub)?;
        // All files come from one commit, even if the branch moves meanwhile.
        for file in &self.model.files {
            if Some(&revision) == known.as_ref() && found.contains_key(file) {
                continue;
            }
            let wanted = Wanted { model: self.model, revision: &revision, file };
            let remote = self.describe(&client, wanted, progress)?;
            if revision != remote.commit && known.as_ref() != Some(&remote.commit) {
                // The branch has moved: what was found belongs to another commit.
                found.clear();
            }
            if !found.contains_key(file) {
                let content = self.obtain(&client, file, &remote, progress)?;
                found.insert(file.clone(), content);
                progress.done(file);
            }
            revision = remote.commit;
        }
        Ok((revision, found))
    }

    fn describe(&self, client: &Client, wanted: Wanted, progress: &mut dyn Progress) -> Result<Remote> {
        RetryPolicy::new(self.hub.pause).repeat(progress, || client.describe(wanted))
    }

    /// Makes sure that the cache has a file, and links it.
    fn obtain(
        &self,
        client: &Client,
        file: &str,
        remote: &Remote,
        progress: &mut dyn Progress,
    ) -> Result<Content> {
        let wanted = Wanted { model: self.model, revision: &remote.commit, file };
        let download = Download::new(self.hub, client, &self.pins, wanted, remote)?;
        let blob = self.repository.blob(&remote.tag);
        let stored = Stored { path: blob, tag: Some(remote.tag.clone()) };
        let content = match self.content(&stored, file, progress)? {
            Some(content) => content,
            None => {
                let waiting = || progress.note("another process fetches the same file; waiting");
                let _lock = self.repository.lock(&remote.tag, waiting)?;
                // The other process may have finished the download while this one waited.
                match self.content(&stored, file, &mut ())? {
                    Some(content) => content,
                    None => download.run(&stored.path, progress)?,
                }
            }
        };
        if !content.verified {
            self.warn(file, progress);
        }
        self.repository.link(&remote.commit, file, &remote.tag)?;
        Ok(content)
    }

    /// Returns the content of a file of this commit if the cache has it and it is right.
    fn stored(&self, commit: &str, file: &str, progress: &mut dyn Progress) -> Result<Option<Content>> {
        let Some(stored) = self.repository.stored(commit, file) else { return Ok(None) };
        let content = self.content(&stored, file, progress)?;
        match &content {
            Some(content) if !content.verified => self.warn(file, progress),
            Some(_) => {}
            None if self.unproven(&stored, file) => progress.note(&format!(
                "{file} of {} in the cache has no hash as its name, so it cannot be checked and does not count",
                self.model.id
            )),
            None => {}
        }
        Ok(content)
    }

    /// Whether neither its name nor a pinned hash could prove a stored file.
    fn unproven(&self, Stored { tag, .. }: &Stored, file: &str) -> bool {
        !tag.as_ref().is_some_and(|tag| tag.proves(Kind::of(file))) && !self.pins.prove(file)
    }

    /// Hashes a stored file: its name is a hash, but another program may have written it without a check. Returns
    /// `None` if there is none, it is damaged, or nothing proves it.
    fn content(&self, stored: &Stored, file: &str, progress: &mut dyn Progress) -> Result<Option<Content>> {
        let (path, kind) = (&stored.path, Kind::of(file));
        let Some(size) = path.metadata().ok().filter(|found| found.is_file()).map(|found| found.len()) else {
            return Ok(None);
        };
        let unproven = self.unproven(stored, file);
        if kind.most_bytes().is_some_and(|most| size > most) || (unproven && !self.hub.unverified) {
            return Ok(None);
        }
        if size >= LARGE {
            progress.note(&format!("checking {file} in the cache"));
        }
        let open = || File::open(path).map_err(HubError::file("open", path));
        let sha256 = sha256_of(open()?).map_err(HubError::file("read", path))?;
        let content = Content { size, sha256, verified: !unproven };
        let damaged = match &stored.tag {
            Some(Tag::Sha256(wanted)) => content.sha256 != *wanted,
            Some(Tag::Git(wanted)) if kind != Kind::Weights => {
                git_hash_of(open()?, size).map_err(HubError::file("read", path))? != *wanted
            }
            Some(Tag::Git(_) | Tag::Other(_)) | None => false,
        };
        if damaged {
            let id = &self.model.id;
            progress.note(&format!("{file} of {id} in the cache is damaged and does not count"));
            return Ok(None);
        }
        let origin = format!("the cache ({})", path.display());
        self.pins.check_content(file, &origin, &content)?;
        Ok(Some(content))
    }

    fn warn(&self, file: &str, progress: &mut dyn Progress) {
        progress.note(&format!(
            "WARNING: {file} of {} is not verified: nothing tells whether its content is right",
            self.model.id
        ));
    }
}
