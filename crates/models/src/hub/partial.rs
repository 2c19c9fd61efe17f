//! A partly downloaded file and the hash of the data that have arrived.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::content::git_hash_of;
use super::disk::{create_folder, open_own};
use super::error::{HubError, Result};
use crate::hex::hex;

/// Data of a download that does not have its final name yet.
pub(super) struct Partial {
    path: PathBuf,
    file: File,
    hasher: Sha256,
    len: u64,
    /// Whether the data are kept when the download fails.
    keep: bool,
    /// Whether the file has its final name.
    published: bool,
}

impl Partial {
    /// Opens the partial file next to its final name `blob`. With `resume`, data of an earlier process are kept and
    /// continued; otherwise the download starts over. The caller holds the lock of the blob.
    pub(super) fn open(blob: &Path, resume: bool) -> Result<Self> {
        let path = blob.with_added_extension("incomplete");
        if let Some(folder) = path.parent() {
            create_folder(folder)?;
        }
        // Not in append mode: where a file system has no locks, two processes write the same bytes to the same places.
        let file = open_own(&path).map_err(HubError::file("open", &path))?;
        let mut partial = Self { path, file, hasher: Sha256::new(), len: 0, keep: resume, published: false };
        if resume {
            partial.take_in().map_err(HubError::file("read", &partial.path))?;
        } else {
            partial.file.set_len(0).map_err(HubError::file("write", &partial.path))?;
        }
        Ok(partial)
    }

    /// Hashes the data that an earlier process has left.
    fn take_in(&mut self) -> io::Result<()> {
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

    /// Path of the partial file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Number of bytes that have arrived.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Discards the data and starts over.
    pub(super) fn restart(&mut self) -> Result<()> {
        if self.len > 0 {
            self.file.set_len(0).map_err(HubError::file("write", &self.path))?;
            self.file.seek(SeekFrom::Start(0)).map_err(HubError::file("write", &self.path))?;
            (self.hasher, self.len) = (Sha256::new(), 0);
        }
        Ok(())
    }

    /// Appends data.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.hasher.update(bytes);
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// SHA-256 of the data so far, in hexadecimal.
    pub(super) fn sha256(&self) -> String {
        hex(self.hasher.clone().finalize())
    }

    /// SHA-1 that git gives the data so far, in hexadecimal.
    pub(super) fn git_hash(&self) -> io::Result<String> {
        (&self.file).seek(SeekFrom::Start(0))?;
        // The position is at the end again afterwards.
        git_hash_of((&self.file).take(self.len), self.len)
    }

    /// Flushes the data to the disk, so that after a power failure the final name never stands for incomplete data.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    /// Renames the file to its final name.
    pub(super) fn publish(mut self, blob: &Path) -> Result<()> {
        fs::rename(&self.path, blob).map_err(HubError::file("rename", &self.path))?;
        self.published = true;
        Ok(())
    }

    /// Removes the file, since its data are wrong.
    pub(super) fn discard(mut self) {
        self.keep = false;
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        let empty = self.file.metadata().is_ok_and(|found| found.len() == 0);
        if !self.published && (!self.keep || empty) {
            // It may be gone already; if it cannot be removed, the next download overwrites it.
            let _ = fs::remove_file(&self.path);
        }
    }
}
