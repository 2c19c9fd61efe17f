//! A campaign of `kill -9` over all four tasks and, in `commands`, over the commands that write: nothing lost, nothing misread.
//!
//! A third of the kills come at any moment between the start of the program and its end, a third right behind a change in the
//! run's folder, where files are being written, and a third in the middle of a write: the system ends the process where a file
//! would grow beyond a limit, and what was written up to there stays. After each, everything on disk must be a part of what
//! an undisturbed run leaves; the same command goes on from there until the run is whole, and then with the next.

mod commands;
pub mod moment;
pub mod tree;

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};
use tasks::Rng;

use crate::common::full_campaign;
use crate::experiments::{ALL, SIGXFSZ, Small, assert_same, files, results, segments};
use moment::Moment;

/// Kills of each task: in the default run, and with TOKENRANK_CAMPAIGN=full. TOKENRANK_KILLS asks for another number.
const KILLS: [usize; 2] = [10, 52];

/// How many kills are asked for, of each task or command.
pub fn asked(usual: [usize; 2]) -> usize {
    let asked = std::env::var("TOKENRANK_KILLS").ok().and_then(|number| number.parse().ok());
    asked.unwrap_or(usual[usize::from(full_campaign())])
}

/// Adds figures to the file that TOKENRANK_REPORT names, in place of earlier ones of the same names.
pub fn report(figures: BTreeMap<&'static str, Value>) {
    static ALONE: Mutex<()> = Mutex::new(());
    let Some(path) = std::env::var_os("TOKENRANK_REPORT") else { return };
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let known = std::fs::read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let mut all: Map<String, Value> = known.unwrap_or_default();
    all.extend(figures.into_iter().map(|(name, found)| (name.to_owned(), found)));
    all.sort_keys();
    let text = serde_json::to_string_pretty(&all).expect("JSON");
    std::fs::write(path, format!("{text}\n")).expect("writable");
}

/// What an undisturbed run leaves.
struct Whole {
    results: Value,
    files: BTreeMap<std::path::PathBuf, Vec<u8>>,
    segments: BTreeMap<u64, Vec<u8>>,
    /// How long it takes, so that kills can be spread over it.
    takes: Duration,
    /// How large its files are, the records' first.
    sizes: Vec<usize>,
    /// How large `run.json` is.
    header: usize,
}

impl Whole {
    fn of(small: &Small, out: &Path) -> Self {
        let start = Instant::now();
        small.run(out, &[], 0);
        let takes = start.elapsed();
        let mut files = files(out);
        let records = files.remove(Path::new("records.jsonl")).expect("records");
        let sizes = std::iter::once(&records).chain(files.values()).map(Vec::len).collect();
        let header = files[Path::new("run.json")].len();
        Self { results: results(out), files, segments: segments(&records), takes, sizes, header }
    }

    /// Checks what a killed process has left. Returns the number of its whole segments and whether another was torn.
    fn check(&self, small: &Small, out: &Path) -> (usize, bool) {
        if !out.exists() {
            return (0, false);
        }
        let (mut whole, mut torn) = (0, false);
        for (name, bytes) in files(out) {
            let text = name.to_string_lossy();
            if text == "records.jsonl" {
                let (mut open, mut closed) = (Vec::new(), Vec::new());
                for line in bytes.split_inclusive(|&byte| byte == b'\n') {
                    open.extend_from_slice(line);
                    if line.starts_with(b"{\"segment\":") && line.ends_with(b"\n") {
                        closed.push(std::mem::take(&mut open));
                    }
                }
                for segment in &closed {
                    let known = self.segments.values().any(|known| known == segment);
                    assert!(known, "{}: a segment that no run writes", small.task);
                }
                (whole, torn) = (closed.len(), !open.is_empty());
            } else if text != "run.lock" && !text.contains(".partial") {
                // Written whole or not at all, and by a deterministic program.
                let expected = self.files.get(&name);
                assert!(expected == Some(&bytes), "{}: {text} is not what a run leaves", small.task);
            }
        }
        if out.join("results.json").exists() {
            assert_eq!(results(out), self.results, "{}", small.task);
        }
        (whole, torn)
    }
}

/// The kills of one task.
fn campaign(small: &Small, seed: u64, asked: usize) -> Value {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let undisturbed = dir.path().join("whole");
    let whole = Whole::of(small, &undisturbed);
    let mut rng = Rng::keyed(&[seed]);
    let (mut kills, mut runs, mut written, mut torn_tails) = (0, 0, 0, 0);
    let (mut before_records, mut after_records) = (0, 0);
    let mut out = dir.path().join("run-0");
    // What is there never becomes less.
    let mut most = 0;
    while kills < asked {
        // Behind the header, which would always be the first to be cut.
        let moment = Moment::any(whole.takes, &whole.sizes, whole.header, &mut rng);
        let status = moment.strike(small.command(&out), &out);
        let (segments, torn) = whole.check(small, &out);
        assert!(segments >= most, "{}: {segments} segments are left of {most}", small.task);
        let all = segments == whole.segments.len();
        if !status.success() {
            let signal = moment.signal();
            assert_eq!(status.signal(), Some(signal), "{}: ended with {status}", small.task);
            kills += 1;
            written += usize::from(signal == SIGXFSZ);
            torn_tails += usize::from(torn);
            before_records += usize::from(segments == 0);
            after_records += usize::from(all);
        }
        // One kill behind its last batch is enough for a run: there are other moments.
        if all {
            if !status.success() {
                small.run(&out, &[], 0);
            }
            assert_same(&undisturbed, &out);
            runs += 1;
            out = dir.path().join(format!("run-{runs}"));
        }
        most = if all { 0 } else { segments };
    }
    small.run(&out, &[], 0);
    assert_same(&undisturbed, &out);
    json!({
        "kills": kills,
        "of them in the middle of a write": written,
        "runs brought to their end": runs + 1,
        "batches of a run": whole.segments.len(),
        "killed before the first batch was recorded": before_records,
        "killed after the last batch was recorded": after_records,
        "torn segments left behind": torn_tails,
        "whole segments lost": 0,
        "files or numbers unlike an undisturbed run's": 0,
    })
}

#[test]
fn killed_again_and_again_every_task_gives_the_files_of_an_undisturbed_run() {
    let asked = asked(KILLS);
    let figures = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for (small, seed) in ALL.iter().zip(1..) {
            let figures = &figures;
            scope.spawn(move || {
                let found = campaign(small, seed, asked);
                figures.lock().expect("no panic").insert(small.task, found);
            });
        }
    });
    let figures = figures.into_inner().expect("no panic");
    assert_eq!(figures.len(), ALL.len());
    report(figures);
}
