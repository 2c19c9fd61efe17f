//! The cache on disk, in the layout of Python's `huggingface_hub`, so that either program finds the files of the other:
//!
//! ```text
//! models--organisation--repository/
//!   blobs/ETAG                       the data, under the hub's entity tag
//!   blobs/ETAG.incomplete            what has arrived of a download
//!   refs/REVISION                    the commit of a branch
//!   snapshots/COMMIT/FILE            → ../../blobs/ETAG
//! .locks/models--organisation--repository/ETAG.lock
//! ```

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::error::{HubError, Result};
use super::registry::is_commit;

/// One repository in the cache.
pub(super) struct Repository {
    folder: PathBuf,
    locks: PathBuf,
}

/// A lock that is held while a blob is written. It is released when the process ends at the latest.
pub(super) struct Lock {
    _file: Option<File>,
}

impl Repository {
    pub(super) fn new(cache: &Path, id: &str) -> Self {
        let name = format!("models--{}", id.replace('/', "--"));
        Self { folder: cache.join(&name), locks: cache.join(".locks").join(&name) }
    }

    /// Returns the commit of a revision if the cache knows it.
    pub(super) fn commit(&self, revision: &str) -> Option<String> {
        if is_commit(revision) {
            return Some(revision.into());
        }
        let text = fs::read_to_string(self.folder.join("refs").join(revision)).ok()?;
        Some(text.trim().to_owned()).filter(|commit| is_commit(commit))
    }

    /// Returns the folder of a commit.
    pub(super) fn snapshot(&self, commit: &str) -> PathBuf {
        self.folder.join("snapshots").join(commit)
    }

    /// Whether the cache has the file of that commit.
    pub(super) fn has(&self, commit: &str, file: &str) -> bool {
        self.snapshot(commit).join(file).is_file()
    }

    /// Returns the path of the blob with this entity tag.
    pub(super) fn blob(&self, etag: &str) -> PathBuf {
        self.folder.join("blobs").join(etag)
    }

    /// Whether the cache has the blob with this entity tag and, if `size` is given, of this size.
    pub(super) fn has_blob(&self, etag: &str, size: Option<u64>) -> bool {
        self.blob(etag)
            .metadata()
            .is_ok_and(|data| data.is_file() && size.is_none_or(|size| data.len() == size))
    }

    /// Links the file of a commit to the blob with this entity tag.
    pub(super) fn link(&self, commit: &str, file: &str, etag: &str) -> Result<()> {
        let link = self.snapshot(commit).join(file);
        if let Some(folder) = link.parent() {
            fs::create_dir_all(folder).map_err(HubError::file("create", folder))?;
        }
        let depth = 2 + file.matches('/').count();
        let target = Path::new(&"../".repeat(depth)).join("blobs").join(etag);
        match place(&self.blob(etag), &target, &link) {
            // Another process was faster, or the link is dangling because somebody removed blobs by hand.
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && link.is_file() => Ok(()),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                fs::remove_file(&link).and_then(|()| place(&self.blob(etag), &target, &link))
            }
            done => done,
        }
        .map_err(HubError::file("link", &link))
    }

    /// Stores the commit of a branch. Readers see the old or the new commit, never a part of it.
    pub(super) fn remember(&self, revision: &str, commit: &str) -> Result<()> {
        if revision == commit || self.commit(revision).as_deref() == Some(commit) {
            return Ok(());
        }
        let path = self.folder.join("refs").join(revision);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(HubError::file("create", folder))?;
        }
        let new = path.with_added_extension(format!("{}.tmp", unique()));
        fs::write(&new, commit).and_then(|()| fs::rename(&new, &path)).map_err(HubError::file("write", &path))
    }

    /// Waits until no other process, Python's included, writes the blob with this entity tag. Calls `waiting` if the
    /// lock is not free at once. On network file systems without locks it does not wait.
    pub(super) fn lock(&self, etag: &str, waiting: impl FnOnce()) -> Result<Lock> {
        fs::create_dir_all(&self.locks).map_err(HubError::file("create", &self.locks))?;
        let path = self.locks.join(format!("{etag}.lock"));
        let mut options = File::options();
        let file = options
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(HubError::file("open", &path))?;
        let held = match file.try_lock() {
            Err(TryLockError::WouldBlock) => {
                waiting();
                file.lock()
            }
            Err(TryLockError::Error(e)) => Err(e),
            Ok(()) => Ok(()),
        };
        match held {
            Ok(()) => Ok(Lock { _file: Some(file) }),
            Err(e) if e.kind() == io::ErrorKind::Unsupported => Ok(Lock { _file: None }),
            Err(e) => Err(HubError::file("lock", &path)(e)),
        }
    }
}

/// Returns a part of a file name that no other writer uses at the same time.
pub(super) fn unique() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

#[cfg(unix)]
fn place(_blob: &Path, target: &Path, link: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, link)
}

/// On systems where creating links needs special rights, the snapshot holds a copy, as in Python's library.
#[cfg(not(unix))]
fn place(blob: &Path, _target: &Path, link: &Path) -> io::Result<()> {
    if link.exists() { Err(io::ErrorKind::AlreadyExists.into()) } else { fs::copy(blob, link).map(drop) }
}
