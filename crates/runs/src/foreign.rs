//! Files in a folder that no run has made, which a run must not write over.

use std::path::Path;

use models::limits;
use serde_json::Value;

use crate::error::{Error, Result};
use crate::layout::{DEPTH, HEADER, RECORDS};

/// Maximum number of files that a message names.
const NAMED: usize = 8;

/// Bytes at the end of a records file among which a chunk of ours ends; a line of a record may be long.
const END: u64 = 64 << 20;

/// Refuses a folder that does not belong to a run and has one of the files `names`, which a run would write.
///
/// # Errors
/// Fails with [`Error::Foreign`] and the names of the files.
pub fn refuse_foreign<N: AsRef<str>>(folder: &Path, names: impl IntoIterator<Item = N>) -> Result<()> {
    refuse_unless(folder, names, || is_run(folder))
}

/// Like [`refuse_foreign`], for a folder of several runs: with a run of ours at some depth it may be written to.
///
/// # Errors
/// Fails with [`Error::Foreign`] and the names of the files.
pub fn refuse_foreign_above_runs<N: AsRef<str>>(
    folder: &Path,
    names: impl IntoIterator<Item = N>,
) -> Result<()> {
    refuse_unless(folder, names, || holds_run(folder, DEPTH))
}

fn refuse_unless<N: AsRef<str>>(
    folder: &Path,
    names: impl IntoIterator<Item = N>,
    is_ours: impl FnOnce() -> bool,
) -> Result<()> {
    let exists = |name: &N| folder.join(name.as_ref()).symlink_metadata().is_ok();
    let mut files: Vec<String> = names.into_iter().filter(exists).map(|name| name.as_ref().into()).collect();
    // A header that is not ours is in the way of ours.
    let header = folder.join(HEADER);
    if header.symlink_metadata().is_ok() && !is_header(&header) {
        files.insert(0, HEADER.into());
    }
    if files.is_empty() || is_ours() {
        return Ok(());
    }
    let more = files.len().saturating_sub(NAMED);
    files.truncate(NAMED);
    Err(Error::Foreign { path: folder.into(), files, more })
}

/// Whether the folder has a header or records of ours. A folder can lose its header and keep its records.
fn is_run(folder: &Path) -> bool {
    let header = folder.join(HEADER);
    match header.symlink_metadata() {
        Ok(_) => is_header(&header),
        Err(_) => has_chunk(&folder.join(RECORDS)),
    }
}

fn holds_run(folder: &Path, depth: usize) -> bool {
    if is_run(folder) {
        return true;
    }
    let Some(depth) = depth.checked_sub(1) else { return false };
    let below = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    below.filter(|path| path.is_dir()).any(|path| holds_run(&path, depth))
}

/// Whether a file is a header of any version, damaged or not.
fn is_header(path: &Path) -> bool {
    let Ok(bytes) = limits::read_bytes(path, limits::RESULTS_BYTES) else { return false };
    match serde_json::from_slice::<Value>(&bytes) {
        Ok(value) => ["schema", "fingerprint", "identity"].iter().all(|key| value.get(key).is_some()),
        Err(_) => {
            let text = String::from_utf8_lossy(&bytes);
            text.contains("\"fingerprint\"") && text.contains("\"identity\"")
        }
    }
}

/// Whether a records file has the closing line of a chunk near its end.
fn has_chunk(path: &Path) -> bool {
    use std::io::{Read, Seek, SeekFrom};
    let tail = || -> std::io::Result<Vec<u8>> {
        if !path.metadata()?.is_file() {
            return Ok(Vec::new());
        }
        let mut file = std::fs::File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(END)))?;
        let mut bytes = Vec::new();
        file.take(END).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let tail = tail().unwrap_or_default();
    tail.split(|&byte| byte == b'\n').any(|line| line.starts_with(b"{\"segment\":{\"first\":"))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Files of a folder, and whether it may be written to.
    /// Files by name and content.
    type Files<'a> = &'a [(&'a str, &'a str)];

    #[test]
    fn files_of_others_are_recognised() {
        let header = r#"{"schema": 1, "fingerprint": "a", "identity": {}}"#;
        let chunk = "{\"a\":1}\n{\"segment\":{\"first\":0,\"items\":1,\"sha256\":\"\"}}\n";
        #[rustfmt::skip]
        let folders: [(&str, Files, bool); 10] = [
            ("nothing", &[], true),
            ("other files", &[("notes.txt", "a")], true),
            ("a lock of ours", &[("run.lock", "")], true),
            ("a table", &[("table.csv", "a")], false),
            ("results", &[("results.json", "{}")], false),
            ("a header of ours", &[("run.json", header), ("table.csv", "a")], true),
            ("a damaged header of ours", &[("run.json", &header[..48]), ("table.csv", "a")], true),
            ("a header of others", &[("run.json", "{\"schema\": 1}")], false),
            ("records of ours", &[("records.jsonl", chunk), ("table.csv", "a")], true),
            ("records of others", &[("records.jsonl", "{\"a\":1}\n")], false),
        ];
        for (what, files, allowed) in folders {
            let dir = tempfile::tempdir().expect("a scratch folder");
            files.iter().for_each(|(name, text)| fs::write(dir.path().join(name), text).expect("writable"));
            let found = refuse_foreign(dir.path(), ["table.csv", "records.jsonl", "results.json"]);
            assert_eq!(found.is_ok(), allowed, "{what}: {found:?}");
            if let Err(error) = found {
                let name = files.last().expect("a file").0;
                assert!(error.to_string().contains(name), "{error}");
            }
            let below = dir.path().join("runs/one");
            fs::create_dir_all(&below).expect("made");
            fs::write(below.join("run.json"), header).expect("writable");
            let above = refuse_foreign_above_runs(dir.path(), ["table.csv"]);
            assert!(above.is_ok(), "{what}: {above:?}");
        }
    }
}
