//! Published checkpoints: which there are, fetching them, finding them again.
//!
//! [`Registry`] lists them (`configs/models.toml`). [`Hub::fetch`] downloads one into the cache that Python's
//! `huggingface_hub` uses as well, so that neither fetches what the other has. [`find`] is the way from an id in an
//! experiment to a folder. Files get their final name only when size and SHA-256 are right; a download that was cut
//! goes on where it ended. These checks, resuming under the same name and the settings that Python's client reads from the
//! environment are why the client is our own and not the crate `hf-hub`.

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

/// Is told how a fetch goes on.
pub trait Progress {
    /// `done` bytes of a file are there, of `size` where that is known. `done` falls when a download starts over.
    fn at(&mut self, file: &str, done: u64, size: Option<u64>);
    /// The file is complete.
    fn done(&mut self, file: &str);
    /// Something that people may want to know while they wait.
    fn note(&mut self, text: &str);
}

/// Nobody watches.
impl Progress for () {
    fn at(&mut self, _file: &str, _done: u64, _size: Option<u64>) {}
    fn done(&mut self, _file: &str) {}
    fn note(&mut self, _text: &str) {}
}

/// The folder of the model with this hub id, as far as the environment's cache has it; nothing is downloaded.
///
/// # Errors
/// [`HubError::UnknownModel`], or [`HubError::Missing`] with every file that is missing.
pub fn find(id: &str) -> Result<PathBuf> {
    Hub::from_env().snapshot(Registry::embedded()?.find_id(id)?)
}

impl Hub {
    /// The folder of a model that is in the cache with every file that is wanted.
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

    /// Downloads what is missing of a model and returns its folder. A model that is there is not asked about again.
    ///
    /// # Errors
    /// Any [`HubError`] but an unknown name. What has arrived by then is kept and gone on with the next time.
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
        // All files are of one commit, even if the branch moves meanwhile.
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

    /// Sees to it that the data of a file are in the cache.
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
        // That process may have finished while this one waited.
        if repository.has_blob(etag, *size) {
            return Ok(());
        }
        download.run(&repository.blob(etag), self.pause, progress)
    }
}
