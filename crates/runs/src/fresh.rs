//! Removes the files of an earlier run, to start over.

use std::ffi::OsStr;
use std::io::{Error as IoError, ErrorKind};
use std::path::{Path, PathBuf};

use crate::error::{Error, FileAction, Result};
use crate::layout::{HEADER, INPUTS, PAGE, PICTURES, RECORDS, RESULTS, is_items_file};

/// Removes the files of a run from its folder and nothing else: the files that every run has, the files named `names` (tables
/// and figures), its page and the lists beside it, and `run.json` last. In a folder without `run.json` only records are removed.
///
/// # Errors
/// Fails if a file cannot be removed or a folder has the name of a file.
pub(crate) fn start_over(folder: &Path, names: &[String]) -> Result<()> {
    if !folder.join(HEADER).exists() {
        return remove(&folder.join(RECORDS));
    }
    // The results first: if they are there, everything else is there too.
    let own = [RESULTS, RECORDS, INPUTS, PAGE].into_iter();
    remove_files(folder, own.chain(names.iter().map(String::as_str)))?;
    remove_lists(folder)?;
    remove_images(&folder.join(PICTURES))?;
    remove(&folder.join(HEADER))
}

/// Removes the tables of several runs from their folder: the files named `names`, the page and the lists beside it, then the file named `last`. If
/// `last` is not there, nothing is removed, because the files may be the user's.
///
/// # Errors
/// Fails if a file cannot be removed.
pub fn remove_tables(folder: &Path, names: &[String], last: &str) -> Result<()> {
    if !folder.join(last).exists() {
        return Ok(());
    }
    remove_lists(folder)?;
    remove_files(folder, names.iter().map(String::as_str).chain([PAGE, last]))
}

/// Removes the lists of items beside the page.
fn remove_lists(folder: &Path) -> Result<()> {
    let is_list = |path: &&PathBuf| {
        path.is_file() && path.file_name().and_then(OsStr::to_str).is_some_and(is_items_file)
    };
    entries(folder)?.iter().filter(is_list).try_for_each(|path| remove(path))
}

/// Removes the files of a folder with these names, if they are there.
///
/// # Errors
/// Fails if a file cannot be removed.
pub fn remove_files(folder: &Path, names: impl IntoIterator<Item = impl AsRef<Path>>) -> Result<()> {
    names.into_iter().try_for_each(|name| remove(&folder.join(name)))
}

/// Removes the generated images of every method, and the folders that this leaves empty.
fn remove_images(images: &Path) -> Result<()> {
    for method in entries(images)? {
        for file in entries(&method)? {
            if file.file_name().is_some_and(is_image) {
                remove(&file)?;
            }
        }
        remove_if_empty(&method)?;
    }
    remove_if_empty(images)
}

/// Whether a name is that of a generated image, such as `00000012.png`.
fn is_image(name: &OsStr) -> bool {
    let digits = name.to_str().and_then(|name| name.strip_suffix(".png"));
    digits.is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Returns the paths in a folder; empty if there is no such folder.
fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let read = || std::fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<Result<_, IoError>>();
    match read() {
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(Vec::new()),
        other => other.map_err(Error::file(FileAction::Read, folder)),
    }
}

fn remove(file: &Path) -> Result<()> {
    match std::fs::remove_file(file) {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        other => other.map_err(Error::file(FileAction::Remove, file)),
    }
}

fn remove_if_empty(folder: &Path) -> Result<()> {
    match std::fs::remove_dir(folder) {
        Err(e)
            if matches!(
                e.kind(),
                ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::DirectoryNotEmpty
            ) =>
        {
            Ok(())
        }
        other => other.map_err(Error::file(FileAction::Remove, folder)),
    }
}
