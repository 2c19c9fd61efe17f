//! A campaign of `kill -9` over all four tasks: nothing lost, nothing misread.
//!
//! Half of the kills come at any moment between the start of the program and its end, the others right behind a change in
//! the run's folder, where files are being written. After each, everything on disk must be a part of what an undisturbed
//! run leaves; the same command goes on from there until the run is whole, and then with the next.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tasks::Rng;

use crate::experiments::{ALL, Small, assert_same, files, results, segments};

/// Kills of each task, where TOKENRANK_KILLS asks for no other number.
const KILLS: usize = 52;

/// What an undisturbed run leaves.
struct Whole {
    results: Value,
    files: BTreeMap<std::path::PathBuf, Vec<u8>>,
    segments: BTreeMap<u64, Vec<u8>>,
    /// How long it takes, so that kills can be spread over it.
    takes: Duration,
}

impl Whole {
    fn of(small: &Small, out: &Path) -> Self {
        let start = Instant::now();
        small.run(out, &[], 0);
        let takes = start.elapsed();
        let mut files = files(out);
        let segments = segments(&files.remove(Path::new("records.jsonl")).expect("records"));
        Self { results: results(out), files, segments, takes }
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

/// Names, sizes and times of the files in a folder.
fn listing(out: &Path) -> Vec<(std::ffi::OsString, u64)> {
    let Ok(entries) = std::fs::read_dir(out) else { return Vec::new() };
    entries.flatten().filter_map(|entry| Some((entry.file_name(), entry.metadata().ok()?.len()))).collect()
}

/// Waits for the moment of a kill. False if the process ended before.
fn wait(child: &mut Child, out: &Path, takes: Duration, rng: &mut Rng) -> bool {
    let mut running = || child.try_wait().expect("a child").is_none();
    if rng.chance(0.5) {
        let until = Instant::now() + takes.mul_f64(0.8 * rng.unit());
        while Instant::now() < until {
            if !running() {
                return false;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        return running();
    }
    let mut seen = listing(out);
    for _ in 0..1 + rng.below(5) {
        loop {
            if !running() {
                return false;
            }
            let now = listing(out);
            if now != seen {
                seen = now;
                break;
            }
            std::thread::sleep(Duration::from_micros(200));
        }
    }
    running()
}

/// The kills of one task.
fn campaign(small: &Small, seed: u64, asked: usize) -> Value {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let undisturbed = dir.path().join("whole");
    let whole = Whole::of(small, &undisturbed);
    let mut rng = Rng::keyed(&[seed]);
    let (mut kills, mut runs, mut torn_tails, mut before_records, mut after_records) = (0, 0, 0, 0, 0);
    let mut out = dir.path().join("run-0");
    // What is there never becomes less.
    let mut most = 0;
    while kills < asked {
        let mut child = small
            .command(&out)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the binary starts");
        let killed = wait(&mut child, &out, whole.takes, &mut rng);
        if killed {
            child.kill().expect("killed");
        }
        let status = child.wait().expect("a child");
        let (segments, torn) = whole.check(small, &out);
        assert!(segments >= most, "{}: {segments} segments are left of {most}", small.task);
        most = segments;
        if status.success() {
            assert_same(&undisturbed, &out);
            runs += 1;
            out = dir.path().join(format!("run-{runs}"));
            most = 0;
            continue;
        }
        assert!(killed, "{}: ended by itself with {status}", small.task);
        kills += 1;
        torn_tails += usize::from(torn);
        before_records += usize::from(segments == 0);
        after_records += usize::from(segments == whole.segments.len());
    }
    small.run(&out, &[], 0);
    assert_same(&undisturbed, &out);
    json!({
        "kills": kills,
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
fn killed_two_hundred_times_every_task_gives_the_files_of_an_undisturbed_run() {
    let asked = std::env::var("TOKENRANK_KILLS").ok().and_then(|number| number.parse().ok()).unwrap_or(KILLS);
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
    if let Some(path) = std::env::var_os("TOKENRANK_REPORT") {
        let text = serde_json::to_string_pretty(&figures).expect("JSON");
        std::fs::write(path, format!("{text}\n")).expect("writable");
    }
}
