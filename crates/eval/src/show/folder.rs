//! A folder of files that appears whole.

use std::path::{Path, PathBuf};
use std::{fs, process};

use crate::error::{Error, Result};

/// A folder under way, beside or inside the one it is meant for; gone again where nothing is published.
pub(super) struct Staged {
    folder: PathBuf,
}

impl Staged {
    /// An empty folder on the same disk as `out`.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn beside(out: &Path) -> Result<Self> {
        let name = format!(".tokenrank-show-{}", process::id());
        let folder = match out.parent() {
            _ if out.is_dir() => out.join(name),
            Some(parent) => parent.join(name),
            None => name.into(),
        };
        fs::create_dir_all(&folder).map_err(Error::file("create", &folder))?;
        Ok(Self { folder })
    }

    /// Where a file of this name is to be written.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Writes a file.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let path = self.path(name);
        fs::write(&path, bytes).map_err(Error::file("write", &path))
    }

    /// Reads a file back.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read(&self, name: &str) -> Result<Vec<u8>> {
        let path = self.path(name);
        fs::read(&path).map_err(Error::file("read", &path))
    }

    /// Moves the files of these names to `out`, over files of the same names, and says where they are.
    ///
    /// # Errors
    /// A file cannot be moved.
    pub fn publish(self, out: &Path, names: &[&str]) -> Result<Vec<PathBuf>> {
        fs::create_dir_all(out).map_err(Error::file("create", out))?;
        names
            .iter()
            .map(|name| {
                let path = out.join(name);
                fs::rename(self.path(name), &path).map_err(Error::file("write", &path))?;
                Ok(path)
            })
            .collect()
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // What is left is of no use; where it cannot be removed the reason is the one already reported.
        let _ = fs::remove_dir_all(&self.folder);
    }
}
