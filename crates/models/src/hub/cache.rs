//! The cache on disk, in the layout of Python's `huggingface_hub`, so that either program finds the files of the other:
//!
//! ```text
//! models--organisation--repository/   or datasets--…
//!   blobs/ETAG                       the data, under the hub's entity tag
//!   blobs/ETAG.incomplete            what has arrived of a download
//!   refs/REVISION                    the commit of a branch
//!   snapshots/COMMIT/FILE            → ../../blobs/ETAG
//! .locks/models--organisation--repository/ETAG.lock
//! ```

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::content::Tag;
use super::disk::create_folder;
use super::error::{HubError, Result};
use super::flock::FileLock;
use super::registry::{Model, is_commit};
use super::settings::Hub;
use crate::files::write_whole;
use crate::limits::read_text;

/// Maximum size of a file that holds a commit, in bytes.
const REF_BYTES: u64 = 4096;

/// One repository in the cache.
pub(super) struct Repository {
    folder: PathBuf,
    locks: PathBuf,
    copies: bool,
}

/// A file of a commit in the cache.
pub(super) struct Stored {
    pub(super) path: PathBuf,
    /// Name of the blob; `None` if the file is not a link to a blob of this repository.
    pub(super) tag: Option<Tag>,
}

impl Repository {
    pub(super) fn new(hub: &Hub, model: &Model) -> Self {
        let name = format!("{}--{}", model.kind.api_folder(), model.id.replace('/', "--"));
        let (folder, locks) = (hub.cache.join(&name), hub.cache.join(".locks").join(&name));
        Self { folder, locks, copies: hub.copies }
    }

    /// Returns the commit of a revision if the cache knows it.
    pub(super) fn commit(&self, revision: &str) -> Option<String> {
        if is_commit(revision) {
            return Some(revision.into());
        }
        let text = read_text(&self.folder.join("refs").join(revision), REF_BYTES).ok()?;
        Some(text.trim().to_owned()).filter(|commit| is_commit(commit))
    }

    /// Returns the folder of a commit.
    pub(super) fn snapshot(&self, commit: &str) -> PathBuf {
        self.folder.join("snapshots").join(commit)
    }

    /// Returns the files of a commit that the cache has, with the folders below it, in no particular order.
    pub(super) fn files(&self, commit: &str) -> Vec<String> {
        const DEPTH: usize = 3;
        let mut found = Vec::new();
        let mut open = vec![(self.snapshot(commit), String::new(), 0)];
        while let Some((folder, prefix, depth)) = open.pop() {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                let Ok(name) = entry.file_name().into_string() else { continue };
                let (path, name) = (entry.path(), format!("{prefix}{name}"));
                if path.is_file() {
                    found.push(name);
                } else if depth < DEPTH && path.is_dir() {
                    open.push((path, format!("{name}/"), depth + 1));
                }
            }
        }
        found
    }

    /// Whether the cache has the file of that commit.
    pub(super) fn has(&self, commit: &str, file: &str) -> bool {
        self.snapshot(commit).join(file).is_file()
    }

    /// Returns the file of that commit if the cache has it.
    pub(super) fn stored(&self, commit: &str, file: &str) -> Option<Stored> {
        let path = self.snapshot(commit).join(file);
        path.is_file().then(|| Stored { tag: self.tag_of(&path), path })
    }

    /// Returns the name of the blob to which a link leads, if it is one of this repository.
    fn tag_of(&self, link: &Path) -> Option<Tag> {
        let target = link.parent()?.join(fs::read_link(link).ok()?);
        let ours = self.folder.join("blobs").canonicalize().ok()?;
        let name = target.file_name()?.to_str()?;
        (target.parent()?.canonicalize().ok()? == ours).then(|| Tag::of_header(name))?
    }

    /// Returns the path of the blob with this entity tag.
    pub(super) fn blob(&self, tag: &Tag) -> PathBuf {
        self.folder.join("blobs").join(tag.name())
    }

    /// Links the file of a commit to the blob with this entity tag.
    pub(super) fn link(&self, commit: &str, file: &str, tag: &Tag) -> Result<()> {
        let link = self.snapshot(commit).join(file);
        if let Some(folder) = link.parent() {
            create_folder(folder)?;
        }
        let depth = 2 + file.matches('/').count();
        let target = Path::new(&"../".repeat(depth)).join("blobs").join(tag.name());
        let blob = self.blob(tag);
        if self.copies {
            return self.copy(&blob, &link);
        }
        // A link to something else is left from an earlier version of the file, or from somebody else.
        if self.tag_of(&link).as_ref() != Some(tag) && link.symlink_metadata().is_ok() {
            fs::remove_file(&link).map_err(HubError::file("replace", &link))?;
        }
        match place(&blob, &target, &link) {
            // It was there, or another process was faster.
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && link.is_file() => Ok(()),
            done => done.map_err(HubError::file("link", &link)),
        }
    }

    /// Copies a blob to its place in the folder of a commit, if that has no file of its size.
    fn copy(&self, blob: &Path, to: &Path) -> Result<()> {
        let size =
            |path: &Path| path.symlink_metadata().ok().filter(fs::Metadata::is_file).map(|found| found.len());
        if size(to).is_some() && size(to) == size(blob) {
            return Ok(());
        }
        if to.is_symlink() {
            fs::remove_file(to).map_err(HubError::file("replace", to))?;
        }
        let copied = write_whole(to, |out| {
            let mut from = fs::File::open(blob)?;
            io::copy(&mut from, out).map(drop)
        });
        copied.map_err(HubError::file("write", to))
    }

    /// Stores the commit of a branch. Readers see the old or the new commit, never a part of it.
    pub(super) fn remember(&self, revision: &str, commit: &str) -> Result<()> {
        if revision == commit || self.commit(revision).as_deref() == Some(commit) {
            return Ok(());
        }
        let path = self.folder.join("refs").join(revision);
        if let Some(folder) = path.parent() {
            create_folder(folder)?;
        }
        write_whole(&path, |out| out.write_all(commit.as_bytes())).map_err(HubError::file("write", &path))
    }

    /// Waits until no other process, Python's included, writes the blob with this entity tag. Calls `waiting` if the
    /// lock is not free at once.
    pub(super) fn lock(&self, tag: &Tag, waiting: impl FnOnce()) -> Result<FileLock> {
        let path = self.lock_of(tag.name());
        let lock = FileLock::wait(&path, waiting)?;
        lock.mark().map_err(HubError::file("write", &path))?;
        Ok(lock)
    }

    fn lock_of(&self, tag: &str) -> PathBuf {
        self.locks.join(format!("{tag}.lock"))
    }

    /// Removes partial downloads that this program began and nobody continues: of a version of a file that the branch
    /// no longer has, or of a process of an earlier release. Partial downloads of Python's library stay.
    pub(super) fn remove_abandoned(&self) {
        for entry in fs::read_dir(self.folder.join("blobs")).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let Some(rest) = name.to_str().and_then(|name| name.strip_suffix(".incomplete")) else {
                continue;
            };
            // Earlier releases wrote small files to `ETAG.PROCESS-COUNT.incomplete`.
            let earlier = rest.rsplit_once('.').filter(|(_, process)| {
                process
                    .split('-')
                    .all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()))
            });
            let tag = earlier.map_or(rest, |(tag, _)| tag);
            // While the lock is held here, nobody writes the file.
            let free = FileLock::try_take(&self.lock_of(tag));
            if free.is_some_and(|lock| earlier.is_some() || lock.is_marked()) {
                // If it cannot be removed, the next fetch tries again.
                let _ = fs::remove_file(entry.path());
            }
        }
    }
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
