//! Starting over.

use std::path::Path;

use super::header::HEADER;
use super::records::RECORDS;
use crate::error::{Error, Result};

/// Folders that runs make in theirs.
const FOLDERS: [&str; 1] = ["pictures"];
/// What the names of the other files end in.
const KINDS: [&str; 7] = ["json", "jsonl", "md", "csv", "tex", "parquet", "png"];

/// Removes what a run has left in its folder, `run.json` last, and nothing else. A folder without it is left alone, but for
/// records that would be read.
///
/// # Errors
/// A file cannot be removed.
pub(crate) fn start_over(folder: &Path) -> Result<()> {
    let remove = |name: &Path| {
        let path = folder.join(name);
        let removed =
            if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
        match removed {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
            other => other.map_err(Error::file("remove", &path)),
        }
    };
    remove(RECORDS.as_ref())?;
    if !folder.join(HEADER).exists() {
        return Ok(());
    }
    let entries = std::fs::read_dir(folder).map_err(Error::file("read", folder))?;
    for entry in entries {
        let entry = entry.map_err(Error::file("read", folder))?;
        let (name, is_dir) = (entry.file_name(), entry.path().is_dir());
        let text = name.to_string_lossy();
        let of_run = match Path::new(&name).extension().and_then(|kind| kind.to_str()) {
            _ if is_dir => FOLDERS.contains(&&*text),
            Some(kind) => KINDS.contains(&kind) && text != HEADER,
            None => false,
        };
        if of_run {
            remove(name.as_ref())?;
        }
    }
    remove(HEADER.as_ref())
}
