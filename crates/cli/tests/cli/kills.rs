//! A campaign of `kill -9` over all four tasks: nothing lost, nothing misread.
//!
//! A third of the kills come at any moment between the start of the program and its end, a third right behind a change in the
//! run's folder, where files are being written, and a third in the middle of a write: the system ends the process where a file
//! would grow beyond a limit, and what was written up to there stays. After each, everything on disk must be a part of what
//! an undisturbed run leaves; the same command goes on from there until the run is whole, and then with the next.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tasks::Rng;

use crate::common::full_campaign;
use crate::experiments::{ALL, SIGXFSZ, Small, assert_same, files, limited, results, segments};

/// Kills of each task: in the default run, and with TOKENRANK_CAMPAIGN=full. TOKENRANK_KILLS asks for another number.
const KILLS: [usize; 2] = [10, 52];

/// What `kill -9` sends.
const SIGKILL: i32 = 9;

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

/// Names, sizes and times of the files in a folder.
fn listing(out: &Path) -> Vec<(std::ffi::OsString, u64)> {
    let Ok(entries) = std::fs::read_dir(out) else { return Vec::new() };
    entries.flatten().filter_map(|entry| Some((entry.file_name(), entry.metadata().ok()?.len()))).collect()
}

/// What ends a process.
enum Moment {
    /// A kill so long after its start.
    After(Duration),
    /// A kill behind so many changes in its folder.
    Behind(usize),
    /// The system, where a file would grow beyond so many blocks of 512 bytes.
    Beyond(usize),
}

impl Moment {
    fn any(whole: &Whole, rng: &mut Rng) -> Self {
        match rng.below(3) {
            0 => Self::After(whole.takes.mul_f64(0.8 * rng.unit())),
            1 => Self::Behind(1 + rng.below(12)),
            _ => {
                // Every other one within the records, and behind the header, which would always be the first to be cut.
                let file = if rng.chance(0.5) { 0 } else { rng.below(whole.sizes.len()) };
                let (header, blocks) = (whole.header.div_ceil(512), whole.sizes[file] / 512);
                Self::Beyond(header + rng.below(blocks.saturating_sub(header).max(1)))
            }
        }
    }

    /// Starts the program, and ends it when the moment comes. Returns how it ended.
    fn strike(&self, small: &Small, out: &Path) -> std::process::ExitStatus {
        let mut command = small.command(out);
        if let Self::Beyond(blocks) = *self {
            command = limited(&command, blocks);
        }
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let mut child = child.expect("the binary starts");
        if self.comes(&mut child, out) {
            child.kill().expect("killed");
        }
        child.wait().expect("a child")
    }

    /// Waits for the moment. False if the process ended before, or ends by itself.
    fn comes(&self, child: &mut Child, out: &Path) -> bool {
        let mut running = || child.try_wait().expect("a child").is_none();
        match *self {
            Self::After(time) => {
                let until = Instant::now() + time;
                while Instant::now() < until && running() {
                    std::thread::sleep(Duration::from_millis(2));
                }
            }
            Self::Behind(changes) => {
                let mut seen = listing(out);
                for _ in 0..changes {
                    while running() {
                        let now = listing(out);
                        if now != seen {
                            seen = now;
                            break;
                        }
                        std::thread::sleep(Duration::from_micros(200));
                    }
                }
            }
            Self::Beyond(_) => return false,
        }
        running()
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
        let moment = Moment::any(&whole, &mut rng);
        let status = moment.strike(small, &out);
        let (segments, torn) = whole.check(small, &out);
        assert!(segments >= most, "{}: {segments} segments are left of {most}", small.task);
        let all = segments == whole.segments.len();
        if !status.success() {
            let signal = if matches!(moment, Moment::Beyond(_)) { SIGXFSZ } else { SIGKILL };
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
    let asked = std::env::var("TOKENRANK_KILLS").ok().and_then(|number| number.parse().ok());
    let asked = asked.unwrap_or(KILLS[usize::from(full_campaign())]);
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
