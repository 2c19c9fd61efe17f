//! Published checkpoints: lists them, downloads them, and finds them in the cache.
//!
//! [`Registry`] lists them (`configs/models.toml`). [`Hub::fetch`] downloads one into the cache of Python's
//! `huggingface_hub`, so that each program finds files that the other has downloaded. [`find`] returns the folder of an
//! id from an experiment file. A file gets its final name only if its size and SHA-256 are right; an interrupted
//! download is resumed. The client is our own instead of the crate `hf-hub` because of these checks, the resuming, and
//! the environment variables of Python's client.

mod address;
mod cache;
mod client;
mod download;
mod error;
mod partial;
mod registry;
mod retry;
mod settings;

use std::path::PathBuf;

use cache::Repository;
use client::{Client, Remote, Wanted};
use download::Download;
use retry::RetryPolicy;

pub use error::{HubError, Result};
pub use registry::{Model, Published, Registry};
pub use settings::Hub;

/// Receives the progress of a download.
pub trait Progress {
    /// `done` bytes of a file have arrived, of `size` if that is known. `done` decreases when a download starts over.
    fn at(&mut self, file: &str, done: u64, size: Option<u64>);
    /// The file is complete.
    fn done(&mut self, file: &str);
    /// A message for the waiting user.
    fn note(&mut self, text: &str);
}

/// Ignores all progress.
impl Progress for () {
    fn at(&mut self, _file: &str, _done: u64, _size: Option<u64>) {}
    fn done(&mut self, _file: &str) {}
    fn note(&mut self, _text: &str) {}
}

/// Returns the folder of the model with this hub id in the cache that the environment names. Downloads nothing.
///
/// # Errors
/// [`HubError::UnknownModel`], or [`HubError::Missing`] with every file that is missing.
pub fn find(id: &str) -> Result<PathBuf> {
    Hub::from_env().snapshot(Registry::embedded()?.find_id(id)?)
}

impl Hub {
    /// Returns the folder of a model if the cache has all its files.
    ///
    /// # Errors
    /// [`HubError::Missing`] with every file that is missing.
    pub fn snapshot(&self, model: &Model) -> Result<PathBuf> {
        let repository = Repository::new(&self.cache, &model.id);
        let commit = repository.commit(&model.revision);
        let there = |file: &String| commit.as_ref().is_some_and(|commit| repository.has(commit, file));
        let files: Vec<_> = model.files.iter().filter(|file| !there(file)).cloned().collect();
        match commit {
            Some(commit) if files.is_empty() => Ok(repository.snapshot(&commit)),
            _ => Err(HubError::Missing {
                id: model.id.clone(),
                name: model.name.clone(),
                files,
                cache: self.cache.clone(),
                offline: false,
            }),
        }
    }

    /// Downloads the missing files of a model and returns its folder. Makes no request if the model is complete.
    ///
    /// # Errors
    /// Any [`HubError`] except an unknown name. The part that has arrived is kept, and the next call resumes from it.
    pub fn fetch(&self, model: &Model, progress: &mut dyn Progress) -> Result<PathBuf> {
        match self.snapshot(model) {
            Err(HubError::Missing { id, name, files, cache, .. }) if self.offline => {
                return Err(HubError::Missing { id, name, files, cache, offline: true });
            }
            Err(HubError::Missing { .. }) => {}
            found => return found,
        }
        let client = Client::new(self)?;
        let repository = Repository::new(&self.cache, &model.id);
        // All files come from one commit, even if the branch moves meanwhile.
        let mut revision = model.revision.clone();
        for file in &model.files {
            if repository.has(&revision, file) {
                continue;
            }
            let wanted = Wanted { model, revision: &revision, file };
            let remote = self.describe(&client, wanted, progress)?;
            if !repository.has(&remote.commit, file) {
                let wanted = Wanted { revision: &remote.commit, ..wanted };
                let download = Download::new(&client, wanted, &remote)?;
                self.obtain(&download, &remote, &repository, progress)?;
                repository.link(&remote.commit, file, &remote.etag)?;
                progress.done(file);
            }
            revision = remote.commit;
        }
        repository.remember(&model.revision, &revision)?;
        self.snapshot(model)
    }

    fn describe(&self, client: &Client, wanted: Wanted, progress: &mut dyn Progress) -> Result<Remote> {
        let mut retries = RetryPolicy::new(self.pause);
        loop {
            match client.describe(wanted) {
                Ok(remote) => return Ok(remote),
                Err(error) => retries.wait(error, progress)?,
            }
        }
    }

    /// Downloads the blob of a file unless the cache has it.
    fn obtain(
        &self,
        download: &Download,
        Remote { etag, size, .. }: &Remote,
        repository: &Repository,
        progress: &mut dyn Progress,
    ) -> Result<()> {
        if repository.has_blob(etag, *size) {
            return Ok(());
        }
        let _lock =
            repository.lock(etag, || progress.note("another process fetches the same file; waiting"))?;
        // The other process may have finished the download while this one waited.
        if repository.has_blob(etag, *size) {
            return Ok(());
        }
        download.run(&repository.blob(etag), self.pause, progress)
    }
}
