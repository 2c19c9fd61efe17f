//! Records on disk: one JSON line per item, in manifest order, appended a batch at a time.
//!
//! The file is always a prefix of the manifest. After a crash its last line may be torn or its last batch incomplete;
//! both are cut off, and the batch is run again as a whole.

use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};

/// The records of a run, open for appending.
pub(crate) struct RecordLog<R> {
    path: PathBuf,
    file: File,
    records: Vec<R>,
}

impl<R: Serialize + DeserializeOwned> RecordLog<R> {
    /// Opens or creates the log and keeps the whole batches at its start. `belongs(i, record)` says whether a record
    /// answers item `i`.
    pub fn open(
        path: &Path,
        items: usize,
        batch: usize,
        belongs: impl Fn(usize, &R) -> bool,
    ) -> Result<Self> {
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(e) => return Err(Error::file("read", path)(e)),
        };
        let mut records = Vec::new();
        // End of each record in the file.
        let mut ends = vec![0];
        for line in bytes.split_inclusive(|&byte| byte == b'\n') {
            let whole = line.ends_with(b"\n") && records.len() < items;
            match serde_json::from_slice(line) {
                Ok(record) if whole && belongs(records.len(), &record) => records.push(record),
                _ => break,
            }
            ends.push(ends[ends.len() - 1] + line.len());
        }
        if records.len() < items {
            records.truncate(records.len() - records.len() % batch);
        }
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path)
            .map_err(Error::file("open", path))?;
        file.set_len(ends[records.len()] as u64).map_err(Error::file("write", path))?;
        file.seek(SeekFrom::End(0)).map_err(Error::file("write", path))?;
        Ok(Self { path: path.into(), file, records })
    }

    /// The records so far, in manifest order.
    pub fn records(&self) -> &[R] {
        &self.records
    }

    /// Appends the records of a batch; they are on disk when this returns.
    pub fn append(&mut self, batch: Vec<R>) -> Result<()> {
        let mut lines = Vec::new();
        for record in &batch {
            serde_json::to_writer(&mut lines, record)
                .map_err(|e| Error::Export { path: self.path.clone(), reason: e.to_string() })?;
            lines.push(b'\n');
        }
        self.file.write_all(&lines).map_err(Error::file("write", &self.path))?;
        self.file.sync_data().map_err(Error::file("write", &self.path))?;
        self.records.extend(batch);
        Ok(())
    }
}

/// Writes a file whole or not at all.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let temporary = path.with_extension("partial");
    let write = || {
        let mut file = File::create(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)
    };
    write().map_err(|e| {
        // The error that matters is the first one.
        let _ = std::fs::remove_file(&temporary);
        Error::file("write", path)(e)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn open(path: &Path) -> RecordLog<(usize, String)> {
        RecordLog::open(path, 7, 3, |i, record: &(usize, String)| record.0 == i).expect("readable")
    }

    fn item(i: usize) -> (usize, String) {
        (i, format!("item {i}"))
    }

    proptest! {
        // Every append waits for the disk.
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn cut_anywhere_the_log_is_whole_batches(cut in 0usize..200) {
            let dir = tempfile::tempdir().expect("a scratch folder");
            let path = dir.path().join("records.jsonl");
            let mut log = open(&path);
            for batch in [0..3, 3..6, 6..7] {
                log.append(batch.map(item).collect()).expect("writable");
            }
            let whole = std::fs::read(&path).expect("readable");
            let cut = cut.min(whole.len());
            std::fs::write(&path, &whole[..cut]).expect("writable");
            let mut log = open(&path);
            let done = log.records().len();
            prop_assert!(matches!(done, 0 | 3 | 6 | 7));
            for batch in [0..3, 3..6, 6..7].into_iter().filter(|batch| batch.start >= done) {
                log.append(batch.map(item).collect()).expect("writable");
            }
            drop(log);
            prop_assert_eq!(std::fs::read(&path).expect("readable"), whole);
        }
    }

    #[test]
    fn records_of_other_items_are_not_taken() {
        let dir = tempfile::tempdir().expect("a scratch folder");
        let path = dir.path().join("records.jsonl");
        open(&path).append((3..6).map(item).collect()).expect("writable");
        assert!(open(&path).records().is_empty());
    }
}
