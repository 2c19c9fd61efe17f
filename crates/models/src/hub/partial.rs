//! A file on its way into the cache: what has arrived, and its hash as it arrives.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::cache::unique;
use super::error::{HubError, Result};
use crate::hex::hex;

/// Data that do not have their final name yet.
pub(super) struct Partial {
    path: PathBuf,
    file: File,
    hasher: Sha256,
    len: u64,
    /// Whether what has arrived is worth keeping when the download fails.
    keep: bool,
}

impl Partial {
    /// Opens the file beside its final name `blob`. Data whose hash is known are kept from one process to the next and
    /// gone on with; of others nobody could tell whether two halves belong together.
    pub(super) fn open(blob: &Path, hash_known: bool) -> Result<Self> {
        let extension = if hash_known { "incomplete".into() } else { format!("{}.incomplete", unique()) };
        let path = blob.with_added_extension(extension);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(HubError::file("create", folder))?;
        }
        // Not in append mode: where a file system has no locks, two processes write the same bytes to the same places.
        let mut options = File::options();
        let options = options.read(true).write(true).create(true).truncate(!hash_known);
        let file = options.open(&path).map_err(HubError::file("open", &path))?;
        let mut partial = Self { path, file, hasher: Sha256::new(), len: 0, keep: hash_known };
        partial.take_in().map_err(HubError::file("read", &partial.path))?;
        Ok(partial)
    }

    /// Hashes what an earlier process has left.
    fn take_in(&mut self) -> io::Result<()> {
        // What is no regular file ends nowhere.
        let left = self.file.metadata()?.len();
        let mut buffer = vec![0; 1 << 20];
        while self.len < left {
            let count = (&self.file).take(left - self.len).read(&mut buffer)?;
            if count == 0 {
                break;
            }
            self.hasher.update(&buffer[..count]);
            self.len += count as u64;
        }
        Ok(())
    }

    /// Where the data are.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes that have arrived.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Forgets what has arrived.
    pub(super) fn restart(&mut self) -> Result<()> {
        if self.len > 0 {
            self.file.set_len(0).map_err(HubError::file("write", &self.path))?;
            self.file.seek(SeekFrom::Start(0)).map_err(HubError::file("write", &self.path))?;
            (self.hasher, self.len) = (Sha256::new(), 0);
        }
        Ok(())
    }

    /// Adds what arrives.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.hasher.update(bytes);
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// SHA-256 of what has arrived, in hexadecimal.
    pub(super) fn sha256(&self) -> String {
        hex(self.hasher.clone().finalize())
    }

    /// Waits until the data are on the disk: a name must not outlive a power failure that its data do not.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    /// Gives the data their final name.
    pub(super) fn publish(mut self, blob: &Path) -> Result<()> {
        fs::rename(&self.path, blob).map_err(HubError::file("rename", &self.path))?;
        self.keep = true;
        Ok(())
    }

    /// Removes the data, which are not what they should be.
    pub(super) fn discard(mut self) {
        self.keep = false;
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.keep {
            // It may be gone already; if it cannot go, the next download writes over it.
            let _ = fs::remove_file(&self.path);
        }
    }
}
