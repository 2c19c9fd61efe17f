//! Checks whether the data of a run have changed since its records were made.
//!
//! A record has the SHA-256 of the files of its item. Hashing all files whenever a run continues would read the whole data set, so
//! `inputs.jsonl` keeps the metadata of the files from before they were read: as long as the metadata are equal (size, time of
//! modification and, on Unix, time of the last change of state, which nobody can set back), the content is the same. Files with
//! other or unknown metadata are hashed. `inputs.jsonl` only saves time: any part of it may be lost.

use std::collections::HashMap;
use std::fs::{Metadata, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use models::{escape, limits};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use tasks::Task;
use tasks::dataset::{InputFile, Sourced};

use crate::layout::INPUTS;
use crate::records::Scan;

/// A file may change within one tick of a file system's clock (two seconds on FAT) and keep its metadata. Files younger than this
/// are therefore hashed again the next time.
const SETTLED: Duration = Duration::from_secs(3);
/// Maximum number of changed items that are named.
const NAMED: usize = 5;

/// Metadata of a file: size in bytes, and times in nanoseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stamp {
    bytes: u64,
    modified: u64,
    /// Time of the last change of state; the time of modification on systems that do not record it.
    changed: u64,
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let found = std::fs::metadata(path).ok()?;
        let modified = found.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
        let modified = u64::try_from(modified.as_nanos()).ok()?;
        Some(Self { bytes: found.len(), modified, changed: state_changed(&found).unwrap_or(modified) })
    }

    /// Whether any later change will alter the stamp.
    fn is_settled(self, now: u64) -> bool {
        let settled = |time: u64| time.saturating_add(SETTLED.as_nanos() as u64) < now;
        settled(self.modified) && settled(self.changed)
    }
}

#[cfg(unix)]
fn state_changed(found: &Metadata) -> Option<u64> {
    use std::os::unix::fs::MetadataExt;

    let seconds = u64::try_from(found.ctime()).ok()?;
    seconds.checked_mul(1_000_000_000)?.checked_add(u64::try_from(found.ctime_nsec()).ok()?)
}

#[cfg(not(unix))]
fn state_changed(_: &Metadata) -> Option<u64> {
    None
}

/// The hash of an item's data, and the stamps of its files when they were hashed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Seen {
    id: String,
    sha256: String,
    files: Vec<Stamp>,
}

/// Hashes and stamps of the files of a run's items, as kept in `inputs.jsonl`.
#[derive(Debug, Default)]
pub struct Inputs {
    seen: HashMap<String, Seen>,
    /// Names of the items that are not in the file yet.
    new: Vec<String>,
}

/// The stamps of items' files from before they were read, by item name; items with unsettled stamps are left out.
pub(crate) type Stamps = HashMap<String, Vec<Stamp>>;

/// Result of comparing records with the data.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Compared {
    /// Records whose data have changed: index among the given records, and the item and files that changed.
    pub changed: Vec<(usize, String)>,
    /// Items whose data cannot be read now, each with the reason.
    pub unread: Vec<String>,
    /// Number of records without a hash of their data.
    pub unknown: usize,
}

enum Found {
    Same(Option<Seen>),
    Changed(String),
    Unread(String),
    Unknown,
}

impl Inputs {
    /// Reads the `inputs.jsonl` files of a run or of its shards. Lines that cannot be parsed are skipped.
    pub fn open<'a>(folders: impl IntoIterator<Item = &'a Path>) -> Self {
        let mut inputs = Self::default();
        for folder in folders {
            let Ok(text) = limits::read_text(&folder.join(INPUTS), limits::TABLE_BYTES) else { continue };
            let lines = text.lines().filter_map(|line| serde_json::from_str::<Seen>(line).ok());
            inputs.seen.extend(lines.map(|seen| (seen.id.clone(), seen)));
        }
        inputs
    }

    /// Compares records with the data of their items, and remembers the hashes it had to compute.
    pub fn compare<T: Task>(&mut self, records: &[(&T::Item, &T::Record)]) -> Compared {
        let now = now();
        let found: Vec<Found> = records
            .par_iter()
            .map(|(item, record)| self.found(*item, T::id(item), T::made_from(record), now))
            .collect();
        let mut compared = Compared::default();
        for (place, found) in found.into_iter().enumerate() {
            match found {
                Found::Same(seen) => seen.into_iter().for_each(|seen| self.learn(seen)),
                Found::Changed(what) => compared.changed.push((place, what)),
                Found::Unread(reason) => compared.unread.push(reason),
                Found::Unknown => compared.unknown += 1,
            }
        }
        compared
    }

    fn found<I: Sourced>(&self, item: &I, id: &str, made_from: Option<&str>, now: u64) -> Found {
        let files = item.files();
        if files.is_empty() {
            return Found::Same(None);
        }
        let Some(made_from) = made_from else { return Found::Unknown };
        // Taken before anything is read, so that a later change shows the next time.
        let stamps = stamps(&files);
        let seen = self.seen.get(id);
        let differ = || {
            let then = seen.filter(|seen| seen.sha256 == made_from && seen.files.len() == files.len());
            let pairs =
                then.zip(stamps.as_ref()).into_iter().flat_map(|(then, now)| then.files.iter().zip(now));
            let other = pairs.zip(&files).filter(|((then, now), _)| then != now);
            let names: Vec<String> = other.map(|(_, file)| file.path.display().to_string()).collect();
            Found::Changed(if names.is_empty() {
                id.to_owned()
            } else {
                format!("{id}: {}", names.join(", "))
            })
        };
        if let Some(seen) = seen.filter(|seen| stamps.as_ref() == Some(&seen.files)) {
            return if seen.sha256 == made_from { Found::Same(None) } else { differ() };
        }
        match item.sha256() {
            Ok(sha256) if sha256 == made_from => {
                let settled = stamps.filter(|stamps| stamps.iter().all(|stamp| stamp.is_settled(now)));
                Found::Same(settled.map(|files| Seen { id: id.to_owned(), sha256, files }))
            }
            Ok(_) => differ(),
            Err(e) => Found::Unread(format!("{id}: {e}")),
        }
    }

    /// Returns the stamps of the files of items that are about to be read.
    pub(crate) fn look<T: Task>(items: &[T::Item]) -> Stamps {
        let now = now();
        let look = |item: &T::Item| {
            let stamps = stamps(&item.files()).filter(|stamps| !stamps.is_empty())?;
            let settled = stamps.iter().all(|stamp| stamp.is_settled(now));
            settled.then(|| (T::id(item).to_owned(), stamps))
        };
        items.par_iter().filter_map(look).collect()
    }

    /// Keeps the stamps that an item's files had before a record was made from them.
    pub(crate) fn keep(&mut self, id: &str, made_from: Option<&str>, before: &Stamps) {
        if let (Some(sha256), Some(stamps)) = (made_from, before.get(id)) {
            self.learn(Seen { id: id.to_owned(), sha256: sha256.to_owned(), files: stamps.clone() });
        }
    }

    fn learn(&mut self, seen: Seen) {
        self.new.push(seen.id.clone());
        self.seen.insert(seen.id.clone(), seen);
    }

    /// Appends the new entries to the folder's `inputs.jsonl`. Write errors are ignored: the files are then hashed again.
    pub fn save(&mut self, folder: &Path) {
        let new = std::mem::take(&mut self.new);
        self.append(folder, new.iter().filter_map(|id| self.seen.get(id)));
    }

    /// Writes all entries to the folder's `inputs.jsonl`, replacing that file.
    pub(crate) fn save_all(&self, folder: &Path) {
        let mut all: Vec<&Seen> = self.seen.values().collect();
        all.sort_by(|a, b| a.id.cmp(&b.id));
        let _ = std::fs::remove_file(folder.join(INPUTS));
        self.append(folder, all.into_iter());
    }

    fn append<'a>(&self, folder: &Path, seen: impl Iterator<Item = &'a Seen>) {
        let lines: String = seen.filter_map(|seen| Some(serde_json::to_string(seen).ok()? + "\n")).collect();
        if !lines.is_empty() {
            let file = OpenOptions::new().create(true).append(true).open(folder.join(INPUTS));
            let _ = file.and_then(|mut file| file.write_all(escape::json(lines).as_bytes()));
        }
    }
}

/// Compares records with the data of `items`, the manifest of their run. `bytes` is the content of the records file, `run` the
/// run's fingerprint. The indices returned are those of items.
pub fn compare_records<T: Task>(
    inputs: &mut Inputs,
    items: &[T::Item],
    (bytes, run): (&[u8], &str),
) -> Compared {
    let mut places = Vec::new();
    let mut records = Vec::new();
    for chunk in Scan::of(bytes, run).chunks {
        let answers = chunk.answers::<T::Record>().unwrap_or_default();
        for (place, answer) in chunk.range.clone().zip(answers) {
            if let Some(record) = answer.record() {
                places.push(place);
                records.push(record);
            }
        }
    }
    let pairs =
        places.iter().zip(&records).filter_map(|(&place, record)| Some((place, (items.get(place)?, record))));
    let (places, pairs): (Vec<usize>, Vec<_>) = pairs.unzip();
    let mut compared = inputs.compare::<T>(&pairs);
    compared.changed.iter_mut().for_each(|(place, _)| *place = places[*place]);
    compared
}

/// Compares the records of a finished run in `folder` with the data on this machine. Returns a sentence for each thing that a
/// reader must know. `items` are the items of the data set, in any order.
pub fn since_run<T: Task>(folder: &Path, items: &[T::Item], records: &[&T::Record]) -> Vec<String> {
    let by_id: HashMap<&str, &T::Item> = items.iter().map(|item| (T::id(item), item)).collect();
    let pair = |record: &&'_ T::Record| by_id.get(T::answered(record)).copied();
    let pairs: Vec<(&T::Item, &T::Record)> =
        records.iter().filter_map(|record| Some((pair(record)?, *record))).collect();
    let compared = Inputs::open([folder]).compare::<T>(&pairs);
    let mut lines = Vec::new();
    if !compared.changed.is_empty() {
        let have = if compared.changed.len() == 1 { "item has" } else { "items have" };
        lines.push(format!(
            "{} {have} changed since the run ({}); the numbers describe the data at that time. Give the run's command again to \
             update them",
            compared.changed.len(),
            compared.names()
        ));
    }
    if pairs.len() < records.len() {
        let are = if records.len() - pairs.len() == 1 { "item is" } else { "items are" };
        lines.push(format!("{} {are} no longer in the data set", records.len() - pairs.len()));
    }
    lines.extend(compared.unsure());
    lines
}

impl Compared {
    /// Returns the names of the first few changed items.
    pub fn names(&self) -> String {
        named(self.changed.iter().map(|(_, what)| what.as_str()))
    }

    /// Returns a sentence for each reason why it is unknown whether items have changed.
    pub fn unsure(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some(first) = self.unread.first() {
            let items = if self.unread.len() == 1 { "item" } else { "items" };
            lines.push(format!(
                "the data of {} {items} cannot be read now, so it is not known whether they have changed ({first})",
                self.unread.len()
            ));
        }
        if self.unknown > 0 {
            let records = if self.unknown == 1 { "record has" } else { "records have" };
            lines.push(format!(
                "{} {records} no hash of the data, so it is not known whether the data have changed",
                self.unknown
            ));
        }
        lines
    }
}

/// Joins the first few names.
pub(crate) fn named<'a>(names: impl ExactSizeIterator<Item = &'a str>) -> String {
    let more = if names.len() > NAMED { "; …" } else { "" };
    format!("{}{more}", names.take(NAMED).collect::<Vec<_>>().join("; "))
}

/// Returns the stamps of all files; `None` if the metadata of one cannot be read.
fn stamps(files: &[InputFile]) -> Option<Vec<Stamp>> {
    files.iter().map(|file| Stamp::of(&file.path)).collect()
}

/// Returns the nanoseconds since 1970. A wrong clock only causes unnecessary hashing.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(0)
}

#[cfg(test)]
mod tests;
