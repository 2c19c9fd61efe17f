//! Publishes the files of a folder only when all of them are complete.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use chain_page::MARK;
use eval::{Error, Result};
use models::limits;
use runs::FileAction;
use runs::files::write_whole;

use super::{NUMBERS, PAGE};

/// Name of the staging folder.
const NAME: &str = ".tokenrank-show.partial";

/// A staging folder inside the output folder, used by one process at a time and removed when the value is dropped.
pub(super) struct Staged {
    out: PathBuf,
    folder: PathBuf,
    /// Whether the output folder was created together with the staging folder.
    made: bool,
    /// Whether something was drawn into the output folder before.
    ours: bool,
    /// Lock on the output folder. It ends with its process, in whatever way that ends.
    _lock: File,
}

/// Whether something was drawn into the folder: it has a page or numbers of ours, or what a killed process leaves.
fn is_ours(out: &Path) -> bool {
    let has = |name: &str, words: &[&str]| {
        let text = limits::read_bytes(&out.join(name), limits::RESULTS_BYTES).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        words.iter().all(|word| text.contains(word))
    };
    out.join(NAME).is_dir() || has(NUMBERS, &["\"schema\"", "\"lambda2\""]) || has(PAGE, &[MARK])
}

/// Refuses a folder that has files of these names and that nothing was drawn into.
///
/// # Errors
/// Fails with the names of the files.
pub(super) fn refuse_foreign(out: &Path, names: &[&str]) -> Result<()> {
    refuse_unless(|| is_ours(out), out, names)
}

fn refuse_unless(is_ours: impl FnOnce() -> bool, out: &Path, names: &[&str]) -> Result<()> {
    let files = names.iter().filter(|name| out.join(name).symlink_metadata().is_ok());
    let files: Vec<String> = files.map(|name| (*name).to_owned()).collect();
    match files.is_empty() || is_ours() {
        true => Ok(()),
        false => Err(runs::Error::Foreign { path: out.into(), files, more: 0 }.into()),
    }
}

/// Writes a file completely, creating the folders above it.
fn write_below(path: &Path, bytes: &[u8]) -> Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(Error::file(FileAction::Create, folder))?;
    }
    Ok(write_whole(path, bytes)?)
}

impl Staged {
    /// Waits until no other process draws into `out`, then creates an empty staging folder inside it. A staging folder left by a
    /// killed process is removed.
    ///
    /// # Errors
    /// Fails if the folder cannot be created.
    pub(super) fn inside(out: &Path) -> Result<Self> {
        let made = !out.exists();
        fs::create_dir_all(out).map_err(Error::file(FileAction::Create, out))?;
        let lock = File::open(out).map_err(Error::file(FileAction::Read, out))?;
        // On file systems that cannot lock folders, nothing separates two processes that draw into the same folder.
        while lock.lock().is_err_and(|e| e.kind() == ErrorKind::Interrupted) {}
        let ours = is_ours(out);
        let folder = out.join(NAME);
        match fs::remove_dir_all(&folder) {
            Err(e) if e.kind() != ErrorKind::NotFound => {
                return Err(Error::file(FileAction::Remove, &folder)(e));
            }
            _ => {}
        }
        // With its parents: the process waited for may have removed the output folder.
        fs::create_dir_all(&folder).map_err(Error::file(FileAction::Create, &folder))?;
        Ok(Self { out: out.into(), folder, made, ours, _lock: lock })
    }

    /// Refuses to publish files of these names over others that were not drawn by this program.
    ///
    /// # Errors
    /// Fails with the names of the files.
    pub(super) fn refuse_foreign(&self, names: &[&str]) -> Result<()> {
        refuse_unless(|| self.ours, &self.out, names)
    }

    /// Returns the path for a file of this name.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Writes a file, whose name may have folders before it.
    ///
    /// # Errors
    /// Fails if the file cannot be written.
    pub(super) fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        write_below(&self.path(name), bytes)
    }

    /// Reads a file back.
    ///
    /// # Errors
    /// Fails if the file cannot be read.
    pub(super) fn read(&self, name: &str) -> Result<Vec<u8>> {
        let path = self.path(name);
        fs::read(&path).map_err(Error::file(FileAction::Read, &path))
    }

    /// Writes the files of these names to `out`, in order and each completely, replacing files of the same names. Returns their
    /// paths. The last file exists only if all others are written: an old one is removed first.
    ///
    /// # Errors
    /// Fails if a file cannot be written.
    pub(super) fn publish(self, out: &Path, names: &[&str]) -> Result<Vec<PathBuf>> {
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
                write_below(&path, &self.read(name)?)?;
                Ok(path)
            })
            .collect()
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // Errors are ignored: a failure here has the same cause as the error already reported.
        let _ = fs::remove_dir_all(&self.folder);
        if self.made {
            // Fails, as intended, if files were published.
            let _ = fs::remove_dir(&self.out);
        }
    }
}
