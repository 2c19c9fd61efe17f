//! Starting over.

use std::ffi::OsStr;
use std::io::{Error as IoError, ErrorKind};
use std::path::Path;

use super::folder::{PAGE, RESULTS};
use super::header::HEADER;
use super::inputs::INPUTS;
use super::records::RECORDS;
use crate::error::{Error, Result};

/// The files of a run but for its header, by what their names begin with and how they may end. A name that is not here is
/// somebody else's.
const FILES: [(&str, &[&str]); 10] = [
    (RECORDS, &[""]),
    (INPUTS, &[""]),
    (RESULTS, &[""]),
    (PAGE, &[""]),
    ("table", &[".md", ".csv", ".tex", ".parquet"]),
    ("comparisons", &[".md", ".csv", ".tex", ".parquet"]),
    ("curves", &[".png"]),
    ("overlays", &[".png"]),
    ("pictures", &[".png"]),
    ("masks", &[".png"]),
];

/// Where a guidance run draws, a folder for each method.
const PICTURES: &str = "pictures";

/// Removes what a run has left in its folder, its page too, `run.json` last, and nothing else. A folder without it is left
/// alone, but for records that would be read.
///
/// # Errors
/// A file cannot be removed, or a folder is where a file should be.
pub(crate) fn start_over(folder: &Path) -> Result<()> {
    if !folder.join(HEADER).exists() {
        return remove(&folder.join(RECORDS));
    }
    for (name, kinds) in FILES {
        kinds.iter().try_for_each(|kind| remove(&folder.join(format!("{name}{kind}"))))?;
    }
    start_pictures_over(&folder.join(PICTURES))?;
    remove(&folder.join(HEADER))
}

/// Removes the pictures of every method, and the folders that are empty then.
fn start_pictures_over(pictures: &Path) -> Result<()> {
    for method in entries(pictures)? {
        for file in entries(&method)? {
            if file.file_name().is_some_and(is_picture) {
                remove(&file)?;
            }
        }
        remove_if_empty(&method)?;
    }
    remove_if_empty(pictures)
}

/// Whether a run gives its pictures such names: `00000012.png`.
fn is_picture(name: &OsStr) -> bool {
    let digits = name.to_str().and_then(|name| name.strip_suffix(".png"));
    digits.is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()))
}

/// What is in a folder; nothing where there is none.
fn entries(folder: &Path) -> Result<Vec<std::path::PathBuf>> {
    let read = || std::fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<Result<_, IoError>>();
    match read() {
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(Vec::new()),
        other => other.map_err(Error::file("read", folder)),
    }
}

fn remove(file: &Path) -> Result<()> {
    match std::fs::remove_file(file) {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        other => other.map_err(Error::file("remove", file)),
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
        other => other.map_err(Error::file("remove", folder)),
    }
}
