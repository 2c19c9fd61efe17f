//! Published checkpoints: lists them, downloads them, and finds them in the cache.
//!
//! [`Registry`] lists them (`configs/models.toml`). [`Hub::fetch`] downloads one into the cache of Python's
//! `huggingface_hub`, so that each program finds files that the other has downloaded. [`find`] returns the folder of an
//! id from an experiment file. A file gets its final name only if its size and hash are right: the SHA-256 of weights,
//! git's SHA-1 of small files, or a hash that the registry or the user's lock file pins. An interrupted download is
//! resumed. The client is our own instead of the crate `hf-hub` because of these checks, the resuming, and
//! the environment variables of Python's client.

mod address;
mod cache;
mod client;
mod content;
mod disk;
mod download;
mod error;
mod flock;
mod listing;
mod lock_file;
mod partial;
mod pins;
mod registry;
mod retry;
mod session;
mod settings;
mod transfer;
mod unpack;
mod web;

use std::path::PathBuf;

use cache::Repository;
use content::Kind;

pub use disk::{amount, free_space};
pub use error::{HubError, Result};
pub use registry::{Model, Published, Registry, RepositoryKind, WebFile};
pub use settings::Hub;
pub use unpack::UnpackedFolder;
pub use web::WebOffer;

/// What would be downloaded of a model.
#[derive(Debug, Clone)]
pub struct Offer {
    /// The model with its files.
    pub model: Model,
    /// Bytes that are missing in the cache, if known.
    pub missing: Option<u64>,
    /// Number of missing files.
    pub files: usize,
}

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
    let (hub, registry) = (Hub::from_env()?, Registry::embedded()?);
    let model = registry.find_id(id)?;
    let folder = hub.snapshot(&model).map_err(|error| match registry.similar(id) {
        // An id that nobody has fetched and that resembles a known one is probably a slip.
        nearest if !nearest.is_empty() => HubError::UnknownModel { name: id.into(), nearest },
        _ => error,
    })?;
    let files = hub.without_hash(&model);
    if !files.is_empty() {
        let files = files.join(", ");
        crate::notes::note(format!(
            "in the cache, the names of these files of {id} are not hashes, so nothing tells whether they are right: {files}; \
             fetch the model again"
        ));
    }
    Ok(folder)
}

/// Returns the Parquet files of the data set with this hub id in the cache that the environment names, if their names begin
/// with `split`, in the order of their names. Downloads nothing.
///
/// # Errors
/// [`HubError::Missing`].
pub fn find_dataset(id: &str, split: &str) -> Result<Vec<PathBuf>> {
    let (hub, dataset) = (Hub::from_env()?, Model::dataset(id, split)?);
    let folder = hub.snapshot(&dataset)?;
    let repository = Repository::new(&hub, &dataset);
    let files = repository.commit(&dataset.revision).map(|commit| repository.files(&commit));
    let names = files.unwrap_or_default();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut files = listing::chosen(&dataset, &names).unwrap_or_default();
    files.sort();
    Ok(files.into_iter().map(|name| folder.join(name)).collect())
}

impl Hub {
    /// Returns the folder of a model if the cache has all its files.
    ///
    /// # Errors
    /// [`HubError::Missing`] with every file that is missing.
    pub fn snapshot(&self, model: &Model) -> Result<PathBuf> {
        let repository = Repository::new(self, model);
        let commit = repository.commit(&model.revision);
        let there = |file: &String| commit.as_ref().is_some_and(|commit| repository.has(commit, file));
        let files: Vec<_> = model.files.iter().filter(|file| !there(file)).cloned().collect();
        match commit {
            // Of a model without a list, the files in the cache must make a whole checkpoint.
            Some(commit) if model.files.is_empty() => match session::in_cache(&repository, &commit, model) {
                Ok(_) => Ok(repository.snapshot(&commit)),
                Err(what) => Err(self.missing(model, vec![what], false)),
            },
            Some(commit) if files.is_empty() => Ok(repository.snapshot(&commit)),
            Some(_) | None => Err(self.missing(model, files, false)),
        }
    }

    /// Asks the hub what would be downloaded of a model, without downloading it. Makes no request if the model is complete
    /// or the hub is offline.
    ///
    /// # Errors
    /// The errors of [`Hub::fetch`] until the first file is downloaded.
    pub fn offer(&self, model: &Model, progress: &mut dyn Progress) -> Result<Offer> {
        session::offer(self, model, progress)
    }

    /// Downloads the missing files of a model, checks the others, and returns its folder. Makes no request if the model
    /// is complete.
    ///
    /// # Errors
    /// Any [`HubError`] except an unknown name. The part that has arrived is kept, and the next call resumes from it.
    pub fn fetch(&self, model: &Model, progress: &mut dyn Progress) -> Result<PathBuf> {
        session::fetch(self, model, progress)
    }

    fn missing(&self, model: &Model, files: Vec<String>, offline: bool) -> HubError {
        let name = match model.kind {
            RepositoryKind::Model => model.name.clone(),
            RepositoryKind::Dataset => "--for FILE.toml".into(),
        };
        let (id, cache) = (model.id.clone(), self.cache.clone());
        let files = if files.is_empty() { vec!["all files".into()] } else { files };
        HubError::Missing { id, name, files, cache, offline }
    }

    /// Returns the files of a complete model whose names in the cache are not hashes.
    fn without_hash(&self, model: &Model) -> Vec<String> {
        let repository = Repository::new(self, model);
        let Some(commit) = repository.commit(&model.revision) else { return Vec::new() };
        let files = match model.files.is_empty() {
            true => session::in_cache(&repository, &commit, model).unwrap_or_default(),
            false => model.files.clone(),
        };
        let proven = |file: &str| {
            let tag = repository.stored(&commit, file).and_then(|stored| stored.tag);
            tag.is_some_and(|tag| tag.proves(Kind::of(file)))
        };
        files.into_iter().filter(|file| !proven(file)).collect()
    }
}
