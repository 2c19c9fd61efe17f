//! A folder of files that appears whole.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use eval::{Error, Result};
use runs::FileAction;
use runs::files::write_whole;

/// The folder under way.
const NAME: &str = ".tokenrank-show.partial";

/// A folder under way inside the one it is meant for, of one process at a time; gone again where nothing is published.
pub(super) struct Staged {
    out: PathBuf,
    folder: PathBuf,
    /// Whether the folder that it is meant for was made for it.
    made: bool,
    /// The lock on that folder. It goes with its process, however that ends.
    _lock: File,
}

impl Staged {
    /// An empty folder on the same disk as `out`, inside it, once no other process draws there. What one that was killed has
    /// left is removed.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn beside(out: &Path) -> Result<Self> {
        let made = !out.exists();
        fs::create_dir_all(out).map_err(Error::file(FileAction::Create, out))?;
        let lock = File::open(out).map_err(Error::file(FileAction::Read, out))?;
        // File systems that lock no folders leave two processes that draw into one of them on their own.
        while lock.lock().is_err_and(|e| e.kind() == ErrorKind::Interrupted) {}
        let folder = out.join(NAME);
        match fs::remove_dir_all(&folder) {
            Err(e) if e.kind() != ErrorKind::NotFound => {
                return Err(Error::file(FileAction::Remove, &folder)(e));
            }
            _ => {}
        }
        // All of it: who was waited for may have removed what it had made.
        fs::create_dir_all(&folder).map_err(Error::file(FileAction::Create, &folder))?;
        Ok(Self { out: out.into(), folder, made, _lock: lock })
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
        Ok(write_whole(&self.path(name), bytes)?)
    }

    /// Reads a file back.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read(&self, name: &str) -> Result<Vec<u8>> {
        let path = self.path(name);
        fs::read(&path).map_err(Error::file(FileAction::Read, &path))
    }

    /// Brings the files of these names to `out`, in order, each whole and on the disk, over files of the same names, and
    /// says where they are. The last of them is not there before all are: an old one is removed first.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn publish(self, out: &Path, names: &[&str]) -> Result<Vec<PathBuf>> {
        if let Some(last) = names.last() {
            let path = out.join(last);
            match fs::remove_file(&path) {
                Err(e) if e.kind() != ErrorKind::NotFound => {
                    return Err(Error::file(FileAction::Remove, &path)(e));
                }
                _ => {}
            }
        }
        names
            .iter()
            .map(|name| {
                let path = out.join(name);
                write_whole(&path, &self.read(name)?)?;
                Ok(path)
            })
            .collect()
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // What is left is of no use; where it cannot be removed the reason is the one already reported.
        let _ = fs::remove_dir_all(&self.folder);
        if self.made {
            // Which fails where something was published.
            let _ = fs::remove_dir(&self.out);
        }
    }
}
