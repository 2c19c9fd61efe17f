//! Records on disk: chunks of JSON lines, each closed by a line with its checksum.
//!
//! A chunk holds the answers to one batch in manifest order, one per line: the record, or `{"failed": …}` for an item
//! whose data cannot be read. The closing line `{"segment": …}` gives the items of the chunk and the SHA-256 of the run's
//! fingerprint and the chunk's bytes. A chunk is used completely or not at all: if a crash has torn it, if it belongs to another
//! run, or if its checksum is wrong for any other reason, it is left out and its batch is run again. Chunks may stand in any
//! order.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use models::files::is_at;
use models::{escape, limits};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tasks::{Answer, Failure};

use crate::error::{Error, FileAction, Result};
use crate::files::write_whole;
use crate::header::RunHeader;
use crate::layout::{RECORDS, RESULTS};
use crate::progress;
use crate::shard::Batches;

const CLOSING: &[u8] = b"{\"segment\":";
const FAILED: &[u8] = b"{\"failed\":";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ClosingLine {
    segment: Closing,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Closing {
    first: usize,
    items: usize,
    sha256: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FailedLine {
    failed: Failure,
}

/// A chunk of a run whose checksum is right.
#[derive(Debug, Clone)]
pub struct Chunk<'a> {
    /// Indices of its items.
    pub range: Range<usize>,
    /// Number of the line of its first answer in the file, from 1.
    pub line: usize,
    /// The bytes of the chunk, closing line included.
    pub bytes: &'a [u8],
    /// The lines of its answers.
    lines: &'a [u8],
}

/// The chunks found in a records file.
#[derive(Debug, Default)]
pub struct Scan<'a> {
    /// Valid chunks in the order of the file.
    pub chunks: Vec<Chunk<'a>>,
    /// Number of chunks whose checksum is wrong.
    pub damaged: usize,
    /// Number of bytes after the last closing line.
    pub torn: usize,
}

impl<'a> Scan<'a> {
    /// Finds the chunks of the run with the fingerprint `run`.
    pub fn of(bytes: &'a [u8], run: &str) -> Self {
        let mut scan = Self::default();
        let (mut start, mut at, mut first) = (0, 0, 1);
        for (number, line) in (1..).zip(bytes.split_inclusive(|&byte| byte == b'\n')) {
            let end = at + line.len();
            if line.starts_with(CLOSING) && line.ends_with(b"\n") {
                match Chunk::closed(&bytes[start..end], at - start, first, run) {
                    Some(chunk) => scan.chunks.push(chunk),
                    None => scan.damaged += 1,
                }
                (start, first) = (end, number + 1);
            }
            at = end;
        }
        scan.torn = bytes.len() - start;
        scan
    }
}

impl<'a> Chunk<'a> {
    /// Returns the chunk whose closing line begins at `closing`; `None` if the closing line does not match the answers.
    fn closed(bytes: &'a [u8], closing: usize, line: usize, run: &str) -> Option<Self> {
        let lines = &bytes[..closing];
        let ClosingLine { segment: closing_line } = serde_json::from_slice(&bytes[closing..]).ok()?;
        let items = lines.iter().filter(|&&byte| byte == b'\n').count();
        let range = closing_line.first..closing_line.first.checked_add(closing_line.items)?;
        (items == closing_line.items && sha256(run, lines) == closing_line.sha256).then_some(Self {
            range,
            line,
            bytes,
            lines,
        })
    }

    /// Parses the answers. Returns `None` if a line is not an answer.
    pub fn answers<R: DeserializeOwned>(&self) -> Option<Vec<Answer<R>>> {
        let answer = |line: &[u8]| {
            if line.starts_with(FAILED) {
                return Some(Answer::Failed(serde_json::from_slice::<FailedLine>(line).ok()?.failed));
            }
            serde_json::from_slice(line).ok().map(Answer::Record)
        };
        self.lines.split_inclusive(|&byte| byte == b'\n').map(answer).collect()
    }
}

/// Returns the bytes of a chunk of the run with the fingerprint `run`.
pub fn chunk<R: Serialize>(run: &str, first: usize, answers: &[Answer<R>]) -> serde_json::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for answer in answers {
        match answer {
            Answer::Record(record) => serde_json::to_writer(&mut bytes, record)?,
            Answer::Failed(failed) => {
                serde_json::to_writer(&mut bytes, &FailedLine { failed: failed.clone() })?;
            }
        }
        bytes.push(b'\n');
    }
    let mut bytes = escape::json_bytes(bytes);
    let closing = Closing { first, items: answers.len(), sha256: sha256(run, &bytes) };
    serde_json::to_writer(&mut bytes, &ClosingLine { segment: closing })?;
    bytes.push(b'\n');
    Ok(bytes)
}

fn sha256(run: &str, lines: &[u8]) -> String {
    models::hex(Sha256::new().chain_update(run).chain_update(b"\n").chain_update(lines).finalize())
}

/// Returns the bytes of a records file; empty if there is no such file.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    match limits::read_bytes(path, limits::RECORD_BYTES) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        other => other.map_err(Error::file(FileAction::Read, path)),
    }
}

/// Returns the answers of a finished run in manifest order, each with the number of its line in [`RECORDS`], from 1. `R` is the
/// record type of the run's task.
///
/// # Errors
/// Fails with [`Error::Unreadable`] if answers are missing or damaged.
pub fn finished<R: DeserializeOwned>(folder: &Path, header: &RunHeader) -> Result<Vec<(usize, Answer<R>)>> {
    let path = folder.join(RECORDS);
    let bytes = read(&path)?;
    let refuse = |reason: String| Error::unreadable(&path, reason);
    let again = "run the experiment again, which repairs it";
    let batches = Batches { items: header.items, batch: header.batch, shard: None };
    let mut answers = BTreeMap::new();
    for chunk in &Scan::of(&bytes, &header.fingerprint).chunks {
        if batches.has(&chunk.range) {
            let parsed = chunk
                .answers::<R>()
                .ok_or_else(|| refuse(format!("a record cannot be understood; {again}")))?;
            answers.insert(chunk.range.start, (chunk.line..).zip(parsed).collect::<Vec<_>>());
        }
    }
    let found: usize = answers.values().map(Vec::len).sum();
    if found != batches.items {
        return Err(refuse(format!("has {found} of {} whole records; {again}", batches.items)));
    }
    Ok(answers.into_values().flatten().collect())
}

/// The records of a run, open for appending.
pub struct RecordLog<R> {
    path: PathBuf,
    /// Fingerprint of the run.
    run: String,
    file: File,
    /// Offset of the end of the last complete chunk.
    end: u64,
    batches: Batches,
    /// Answers of each batch, by index of its first item.
    answers: BTreeMap<usize, Vec<Answer<R>>>,
}

impl<R: Serialize + DeserializeOwned> RecordLog<R> {
    /// Opens or creates the records of the run with the fingerprint `run` and keeps every complete chunk of its batches.
    /// `is(i, answer)` is true if an answer belongs to item `i`. With `retry`, batches with an item that could not be answered are
    /// left out. If batches remain to be run, existing results are removed first, because they belong to other records.
    pub fn open(
        path: &Path,
        run: &str,
        batches: Batches,
        retry: bool,
        is: impl Fn(usize, &Answer<R>) -> bool,
    ) -> Result<Self> {
        let bytes = read(path)?;
        let Scan { chunks, damaged, torn } = Scan::of(&bytes, run);
        let mut answers = BTreeMap::new();
        let mut kept: Vec<&[u8]> = Vec::new();
        let (mut foreign, mut unread) = (0, 0);
        for chunk in chunks {
            let belongs = |answers: &Vec<Answer<R>>| {
                batches.has(&chunk.range)
                    && chunk.range.clone().zip(answers).all(|(item, answer)| is(item, answer))
            };
            let failed = |answers: &Vec<Answer<R>>| {
                answers.iter().filter(|answer| matches!(answer, Answer::Failed(_))).count()
            };
            match chunk.answers().filter(belongs) {
                _ if answers.contains_key(&chunk.range.start) => foreign += 1,
                None => foreign += 1,
                Some(found) if retry && failed(&found) > 0 => unread += failed(&found),
                Some(found) => {
                    answers.insert(chunk.range.start, found);
                    kept.push(chunk.bytes);
                }
            }
        }
        if !batches.mine().all(|range| answers.contains_key(&range.start)) {
            unfinish(path)?;
        }
        let end = kept.iter().map(|chunk| chunk.len()).sum::<usize>();
        if bytes.is_empty() {
            write_whole(path, b"")?;
        } else if kept.concat() != bytes[..end] {
            write_whole(path, &kept.concat())?;
        }
        let file = OpenOptions::new().write(true).open(path).map_err(Error::file(FileAction::Write, path))?;
        let cut = || -> std::io::Result<()> {
            file.set_len(end as u64)?;
            file.sync_data()
        };
        if end < bytes.len() {
            cut().map_err(Error::file(FileAction::Write, path))?;
        }
        tell(path, torn, damaged + foreign, unread);
        Ok(Self { path: path.into(), run: run.into(), file, end: end as u64, batches, answers })
    }

    /// Returns the records so far, each with the index of its item.
    pub fn records(&self) -> impl Iterator<Item = (usize, &R)> {
        let answers = self.answers.iter().flat_map(|(&first, answers)| (first..).zip(answers));
        answers.filter_map(|(item, answer)| match answer {
            Answer::Record(record) => Some((item, record)),
            Answer::Failed(_) => None,
        })
    }

    /// Removes the batches of these items, so that they are run again, and the results. Returns the number of items removed.
    pub fn forget(&mut self, items: &BTreeSet<usize>) -> Result<usize> {
        let gone = |first: usize, length: usize| items.range(first..first + length).next().is_some();
        let bytes = read(&self.path)?;
        let kept = Scan::of(&bytes, &self.run).chunks.into_iter();
        let kept = kept.filter(|chunk| !gone(chunk.range.start, chunk.range.len()));
        let kept: Vec<&[u8]> = kept.map(|chunk| chunk.bytes).collect();
        unfinish(&self.path)?;
        write_whole(&self.path, &kept.concat())?;
        // The path now names a new file.
        self.file = OpenOptions::new()
            .write(true)
            .open(&self.path)
            .map_err(Error::file(FileAction::Write, &self.path))?;
        self.end = kept.iter().map(|chunk| chunk.len() as u64).sum();
        let before = self.answered();
        self.answers.retain(|&first, answers| !gone(first, answers.len()));
        Ok(before - self.answered())
    }

    /// Returns the batches that are not answered yet, in order.
    pub fn missing(&self) -> Vec<Range<usize>> {
        self.batches.mine().filter(|range| !self.answers.contains_key(&range.start)).collect()
    }

    /// Appends the answers to a batch; they are on disk when this returns.
    pub fn append(&mut self, range: &Range<usize>, answers: Vec<Answer<R>>) -> Result<()> {
        let bytes = chunk(&self.run, range.start, &answers)
            .map_err(|e| Error::file(FileAction::Write, &self.path)(e.into()))?;
        self.check()?;
        let mut write = || {
            self.file.seek(SeekFrom::Start(self.end))?;
            self.file.write_all(&bytes)?;
            self.file.sync_data()
        };
        if let Err(e) = write() {
            // The bytes written are an incomplete chunk. If they cannot be cut off now, the next run does it.
            let _ = self.file.set_len(self.end);
            return Err(Error::file(FileAction::Write, &self.path)(e));
        }
        self.end += bytes.len() as u64;
        self.answers.insert(range.start, answers);
        Ok(())
    }

    /// Checks that the file on disk is still the one that this process has written.
    ///
    /// # Errors
    /// Fails with [`Error::Lost`] if it was removed or replaced.
    pub fn check(&self) -> Result<()> {
        // The records may be a link.
        match self.path.canonicalize().is_ok_and(|path| is_at(&self.file, &path)) {
            true => Ok(()),
            false => Err(Error::Lost { path: self.path.clone() }),
        }
    }

    /// Returns the number of items answered so far.
    pub fn answered(&self) -> usize {
        self.answers.values().map(Vec::len).sum()
    }

    /// Returns all answers in manifest order, each with the index of its item.
    pub fn into_answers(self) -> impl Iterator<Item = (usize, Answer<R>)> {
        self.answers.into_iter().flat_map(|(first, answers)| (first..).zip(answers))
    }
}

/// Removes the results in the folder of records that are about to change.
pub(super) fn unfinish(records: &Path) -> Result<()> {
    let results = records.with_file_name(RESULTS);
    match std::fs::remove_file(&results) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Ok(()) => models::files::sync_folder(&results).map_err(Error::file(FileAction::Remove, &results)),
        Err(e) => Err(Error::file(FileAction::Remove, &results)(e)),
    }
}

/// Prints which parts of the records are not used.
fn tell(path: &Path, torn: usize, damaged: usize, unread: usize) {
    let path = path.display();
    if torn > 0 {
        progress::say(&format!(
            "{path}: its last {torn} bytes are the beginning of a chunk that was never finished; that batch is run again"
        ));
    }
    if damaged > 0 {
        let (chunks, their) = if damaged == 1 { ("chunk is", "its") } else { ("chunks are", "their") };
        progress::say(&format!(
            "{path}: {damaged} {chunks} damaged or of other items; {their} items are run again"
        ));
    }
    if unread > 0 {
        let (items, they) = if unread == 1 { ("item", "it is") } else { ("items", "they are") };
        progress::say(&format!("{unread} {items} could not be answered the last time; {they} tried again"));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Record = (usize, String);

    const BATCHES: Batches = Batches { items: 7, batch: 3, shard: None };
    const RUN: &str = "0a4379e1";

    fn open_again(path: &Path, retry: bool) -> RecordLog<Record> {
        let is = |i: usize, answer: &Answer<Record>| match answer {
            Answer::Record(record) => record.0 == i,
            Answer::Failed(failure) => failure.id == i.to_string(),
        };
        RecordLog::open(path, RUN, BATCHES, retry, is).expect("readable")
    }

    fn open(path: &Path) -> RecordLog<Record> {
        open_again(path, false)
    }

    fn answer(i: usize) -> Answer<Record> {
        match i {
            4 => Answer::Failed(Failure {
                id: "4".into(),
                reason: "torn \"JPEG\"\n".into(),
                fault: tasks::Fault::Data,
            }),
            _ => Answer::Record((i, format!("item {i}"))),
        }
    }

    fn fill(path: &Path) -> Vec<u8> {
        let mut log = open(path);
        for range in log.missing() {
            log.append(&range, range.clone().map(answer).collect()).expect("writable");
        }
        let answers: Vec<_> = log.into_answers().collect();
        assert_eq!(answers, (0..7).map(|i| (i, answer(i))).collect::<Vec<_>>());
        std::fs::read(path).expect("readable")
    }

    proptest! {
        // Every append waits for the disk.
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn records_cut_anywhere_keep_complete_batches_and_are_completed(cut in 0usize..1000) {
            let dir = tempfile::tempdir().expect("a scratch folder");
            let path = dir.path().join(RECORDS);
            let whole = fill(&path);
            std::fs::write(&path, &whole[..cut.min(whole.len())]).expect("writable");
            prop_assert!(matches!(open(&path).answered(), 0 | 3 | 6 | 7));
            prop_assert_eq!(fill(&path), whole);
        }

        #[test]
        fn a_flipped_bit_loses_chunks_but_never_changes_an_answer(at in 0usize..1000, bit in 0u8..8) {
            let dir = tempfile::tempdir().expect("a scratch folder");
            let path = dir.path().join(RECORDS);
            let mut bytes = fill(&path);
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
            std::fs::write(&path, &bytes).expect("writable");
            // The remaining answers are right, and the missing ones are computed again.
            let log = open(&path);
            prop_assert!(log.answered() < 7);
            for (i, found) in log.into_answers() {
                prop_assert_eq!(found, answer(i));
            }
            fill(&path);
        }

        #[test]
        fn arbitrary_bytes_are_read_as_no_records(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let dir = tempfile::tempdir().expect("a scratch folder");
            let path = dir.path().join(RECORDS);
            std::fs::write(&path, &bytes).expect("writable");
            prop_assert_eq!(open(&path).answered(), 0);
            fill(&path);
        }
    }

    #[test]
    fn chunks_may_stand_in_any_order() {
        let dir = tempfile::tempdir().expect("a scratch folder");
        let path = dir.path().join(RECORDS);
        let whole = fill(&path);
        let Scan { chunks, .. } = Scan::of(&whole, RUN);
        let turned: Vec<&[u8]> = chunks.iter().rev().map(|chunk| chunk.bytes).collect();
        std::fs::write(&path, turned.concat()).expect("writable");
        fill(&path);
    }

    #[test]
    fn records_of_other_items_or_batches_are_not_taken() {
        let dir = tempfile::tempdir().expect("a scratch folder");
        let path = dir.path().join(RECORDS);
        let shifted: Vec<_> = (3..6).map(answer).collect();
        std::fs::write(&path, chunk(RUN, 0, &shifted).expect("JSON")).expect("writable");
        assert_eq!(open(&path).answered(), 0);
        std::fs::write(&path, chunk(RUN, 3, &shifted[..2]).expect("JSON")).expect("writable");
        assert_eq!(open(&path).answered(), 0);
        // The right items of another run.
        std::fs::write(&path, chunk("ffff", 3, &shifted).expect("JSON")).expect("writable");
        assert_eq!(open(&path).answered(), 0);
        std::fs::write(&path, chunk(RUN, 3, &shifted).expect("JSON")).expect("writable");
        assert_eq!(open(&path).answered(), 3);
    }

    #[test]
    fn results_are_removed_when_a_batch_is_missing() {
        let dir = tempfile::tempdir().expect("a scratch folder");
        let path = dir.path().join(RECORDS);
        let whole = fill(&path);
        let results = dir.path().join(RESULTS);
        std::fs::write(&results, "{}").expect("writable");
        open(&path);
        assert!(results.exists());
        // Batches that are retried, and batches that are lost.
        open_again(&path, true);
        assert!(!results.exists());
        for left in [&whole[..whole.len() / 2], b""] {
            std::fs::write(&results, "{}").expect("writable");
            std::fs::write(&path, left).expect("writable");
            open(&path);
            assert!(!results.exists());
        }
    }

    #[test]
    fn items_that_could_not_be_read_are_tried_again_when_asked() {
        let dir = tempfile::tempdir().expect("a scratch folder");
        let path = dir.path().join(RECORDS);
        fill(&path);
        let missing = open_again(&path, true).missing();
        assert_eq!((missing.len(), missing.first()), (1, Some(&(3..6))));
    }

    #[test]
    fn a_failed_append_leaves_complete_chunks() {
        // A device on which every write fails.
        let Ok(file) = OpenOptions::new().write(true).open("/dev/full") else { return };
        let dir = tempfile::tempdir().expect("a scratch folder");
        let mut log = open(&dir.path().join(RECORDS));
        log.file = file;
        assert!(log.append(&(0..3), (0..3).map(answer).collect()).is_err());
        assert_eq!((log.answered(), log.end), (0, 0));
    }
}
