//! Merges shards to one run.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Error, FileAction, Remedy, Result};
use crate::files::write_whole;
use crate::header::{RunHeader, note_threads};
use crate::inputs::{Compared, Inputs};
use crate::layout::{DEPTH, PICTURES, RECORDS};
use crate::lock::FolderLocks;
use crate::progress;
use crate::records::{self, Chunk, Scan};
use crate::shard::{Batches, Shard};

/// Maximum number of missing shards that are named.
const NAMED: usize = 8;

fn refused(reason: String) -> Error {
    Error::Merge { reason, remedy: None }
}

fn refused_but(reason: String, remedy: Remedy) -> Error {
    Error::Merge { reason, remedy: Some(remedy) }
}

/// Finds the shards in `dirs`, which are shards or hold shards at some depth, and checks and merges them. Returns each run with
/// its folder: below `out`, or else the folder that holds its shards.
///
/// # Errors
/// Fails with [`Error::Merge`] if shards are missing, unfinished, given twice, or of different runs.
pub fn runs_of_shards(dirs: &[PathBuf], out: Option<&Path>) -> Result<Vec<(PathBuf, ShardedRun)>> {
    let groups = groups(dirs, out)?.into_iter();
    groups.map(|(target, shards)| Ok((target, ShardedRun::of(&shards)?))).collect()
}

/// Returns the folders of shards, grouped by the folder of their run.
fn groups(dirs: &[PathBuf], out: Option<&Path>) -> Result<BTreeMap<PathBuf, Vec<PathBuf>>> {
    let mut groups: BTreeMap<PathBuf, Vec<PathBuf>> = BTreeMap::new();
    for dir in dirs {
        let mut shards = Vec::new();
        find(dir, DEPTH, &mut shards)?;
        if shards.is_empty() {
            return Err(refused_but(format!("{}: no shards here", dir.display()), Remedy::MakeShards));
        }
        for shard in shards {
            let run = shard.parent().unwrap_or(Path::new("."));
            let target = match out {
                None if shard == *dir && dirs.len() > 1 => {
                    let reason =
                        "the shards were given as separate folders, so the folder of their run is unknown"
                            .into();
                    return Err(refused_but(reason, Remedy::NameTarget));
                }
                None => run.to_path_buf(),
                // At the same relative path as below the given folder.
                Some(out) => match run.strip_prefix(dir) {
                    Ok(below) if below.as_os_str().is_empty() => out.to_owned(),
                    Ok(below) => out.join(below),
                    Err(_) => out.to_owned(),
                },
            };
            groups.entry(target).or_default().push(shard);
        }
    }
    Ok(groups)
}

/// Appends the folders of shards in `dir`, or `dir` if it is one itself.
fn find(dir: &Path, depth: usize, shards: &mut Vec<PathBuf>) -> Result<()> {
    if RunHeader::look(dir)?.is_some_and(|header| header.shard.is_some()) {
        shards.push(dir.into());
        return Ok(());
    }
    if depth == 0 {
        return Ok(());
    }
    let entries = fs::read_dir(dir).map_err(Error::file(FileAction::Read, dir))?;
    let mut below: Vec<PathBuf> = Vec::new();
    for entry in entries {
        below.push(entry.map_err(Error::file(FileAction::Read, dir))?.path());
    }
    below.sort();
    below.iter().filter(|path| path.is_dir()).try_for_each(|path| find(path, depth - 1, shards))
}

/// The complete shards of a run.
pub struct ShardedRun {
    /// Header of the run.
    pub header: RunHeader,
    /// Content of the merged records file, in manifest order.
    records: Vec<u8>,
    shards: Vec<PathBuf>,
    /// Number of shards that the run was divided into.
    of: usize,
}

impl ShardedRun {
    /// Checks shards against each other and their records against the manifest.
    fn of(folders: &[PathBuf]) -> Result<Self> {
        let mut known: BTreeMap<Shard, (&PathBuf, RunHeader)> = BTreeMap::new();
        for folder in folders {
            let Some((shard, header)) =
                RunHeader::look(folder)?.and_then(|header| Some((header.shard?, header)))
            else {
                return Err(refused(format!("{} is not a shard", folder.display())));
            };
            if let Some((_, (first, other))) = known.first_key_value()
                && (&other.fingerprint, other.shard.map(|shard| shard.of))
                    != (&header.fingerprint, Some(shard.of))
            {
                let mut changes = other.identity.differences(&header.identity);
                if other.shard.map(|one| one.of) != Some(shard.of) {
                    changes.push(format!("shard: {shard}, not one of those of the other"));
                }
                return Err(refused(format!(
                    "{} and {} are of different runs ({}); merge each only with shards of its own run",
                    first.display(),
                    folder.display(),
                    changes.join("; ")
                )));
            }
            if let Some((_, (first, other))) = known.first_key_value() {
                let changes = other.judged_otherwise(&header);
                if !changes.is_empty() {
                    return Err(refused(format!(
                        "{} and {} are judged differently ({}); run each shard again with the same settings, which keeps \
                         what it has generated",
                        first.display(),
                        folder.display(),
                        changes.join("; ")
                    )));
                }
            }
            if let Some((twin, _)) = known.insert(shard, (folder, header)) {
                let (twin, folder) = (twin.display(), folder.display());
                return Err(refused(format!(
                    "shard {shard} was given twice ({twin} and {folder}); pass only one of them"
                )));
            }
        }
        let Some((_, (_, first))) = known.first_key_value() else { return Err(refused("no shards".into())) };
        note_threads(first, known.values().map(|(folder, header)| (folder.as_path(), header)));
        let header = RunHeader { shard: None, ..first.clone() };
        let of = first.shard.map_or(1, |shard| shard.of);

        let whole = Batches { items: header.items, batch: header.batch, shard: None };
        // Shards beyond the last batch have nothing to do. `of` comes from a file and may be huge, so the loop ends at the batches.
        let busy = of.min(whole.count());
        let missing = (1..=busy).map(|index| Shard { index, of }).filter(|shard| !known.contains_key(shard));
        let mut lacking: Vec<String> =
            missing.take(NAMED + 1).map(|shard| format!("shard {shard} is not there")).collect();
        if lacking.len() > NAMED {
            let there = known.keys().filter(|shard| shard.index <= busy).count();
            lacking[NAMED] = format!("nor are other shards, {} in all", busy - there);
        }
        let mut parts: BTreeMap<usize, Vec<u8>> = BTreeMap::new();
        for (&shard, (folder, _)) in &known {
            let batches = Batches { shard: Some(shard), ..whole };
            let bytes = records::read(&folder.join(RECORDS))?;
            let mut found = 0;
            for Chunk { range, bytes, .. } in Scan::of(&bytes, &header.fingerprint).chunks {
                if batches.has(&range) && !parts.contains_key(&range.start) {
                    found += range.len();
                    parts.insert(range.start, bytes.to_vec());
                }
            }
            let total = batches.total();
            if found < total {
                lacking.push(format!(
                    "shard {shard} lacks {} of its {total} items ({})",
                    total - found,
                    folder.display()
                ));
            }
        }
        if !lacking.is_empty() {
            let reason = format!("the run is not whole: {}", lacking.join("; "));
            return Err(refused_but(reason, Remedy::FinishShards));
        }
        let records = parts.into_values().flatten().collect();
        let shards = known.into_values().map(|(folder, _)| folder.clone()).collect();
        Ok(Self { header, records, shards, of })
    }

    /// Checks that the run has the numbers of items and batches that its experiment gives.
    ///
    /// # Errors
    /// Fails if they differ, because then the header is damaged.
    pub fn check_size(&self, items: usize, batches: usize) -> Result<()> {
        if (items, batches) == (self.header.items, self.batches()) {
            return Ok(());
        }
        let first = self.shards.first().map_or(Path::new("."), PathBuf::as_path);
        let reason = format!(
            "{}: its run.json is damaged: the run has {items} items in {batches} batches",
            first.display()
        );
        Err(refused_but(reason, Remedy::RunShardAfresh))
    }

    fn batches(&self) -> usize {
        Batches { items: self.header.items, batch: self.header.batch, shard: None }.count()
    }

    /// Checks that the data have not changed since any shard was made, so that all shards have the same data. `compare` compares
    /// the content of a records file, given with the run's fingerprint, with the data.
    ///
    /// # Errors
    /// Fails with the shards and the items if data have changed.
    pub fn check_data(&self, compare: impl FnOnce(&mut Inputs, (&[u8], &str)) -> Compared) -> Result<Inputs> {
        let mut inputs = Inputs::open(self.shards.iter().map(PathBuf::as_path));
        let compared = compare(&mut inputs, (&self.records, &self.header.fingerprint));
        compared.unsure().iter().for_each(|line| progress::say(line));
        if compared.changed.is_empty() {
            return Ok(inputs);
        }
        let of = self.of.max(1);
        let shard = |&(item, _): &(usize, String)| item / self.header.batch % of + 1;
        let indices: BTreeSet<usize> = compared.changed.iter().map(shard).collect();
        let names: Vec<String> = indices.iter().map(|index| format!("{index}/{of}")).collect();
        let (shards, were) = if names.len() == 1 { ("shard", "was") } else { ("shards", "were") };
        let reason = format!(
            "{shards} {} {were} made from other data than is there now: {} of {} items have changed ({})",
            names.join(", "),
            compared.changed.len(),
            self.header.items,
            compared.names()
        );
        Err(refused_but(reason, Remedy::RenewShards))
    }

    /// Makes `out`, which `locks` has locked, the folder of the run, with all records and generated images.
    ///
    /// # Errors
    /// Fails if `out` holds another run or a file cannot be written.
    pub fn write(self, out: &Path, locks: &FolderLocks, inputs: &Inputs) -> Result<()> {
        locks.check(out)?;
        self.header.claim(out).map_err(|error| {
            let Error::OtherRun { path, reason } = error else { return error };
            let reason = format!("{} holds another run ({reason})", path.display());
            refused_but(reason, Remedy::ClearTarget)
        })?;
        records::unfinish(&out.join(RECORDS))?;
        for shard in &self.shards {
            link(&shard.join(PICTURES), &out.join(PICTURES))?;
        }
        inputs.save_all(out);
        write_whole(&out.join(RECORDS), &self.records)
    }
}

/// Links the files below `from` to the same relative paths below `to`; copies them if the file system cannot link.
fn link(from: &Path, to: &Path) -> Result<()> {
    let entries = match fs::read_dir(from) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(Error::file(FileAction::Read, from))?,
    };
    fs::create_dir_all(to).map_err(Error::file(FileAction::Create, to))?;
    for entry in entries {
        let entry = entry.map_err(Error::file(FileAction::Read, from))?;
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            link(&from, &to)?;
            continue;
        }
        // A file of an earlier merge.
        let _ = fs::remove_file(&to);
        if fs::hard_link(&from, &to).is_err() {
            let bytes = fs::read(&from).map_err(Error::file(FileAction::Read, &from))?;
            write_whole(&to, &bytes)?;
        }
    }
    Ok(())
}
