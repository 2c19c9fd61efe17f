//! Kills of every command that writes files, and of several processes at once.
//!
//! A line of the table is a command. It is killed again and again; after each kill every file is the one from before, the one
//! that an undisturbed command leaves, or absent, and the same command then ends with what an undisturbed one leaves.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tasks::Rng;

use super::moment::Moment;
use super::tree::{Tree, chunks, is_partial, tree};
use super::{asked, report};
use crate::common::tokenrank;

/// Kills of each line: in the default run, and with TOKENRANK_CAMPAIGN=full. TOKENRANK_KILLS asks for another number.
const KILLS: [usize; 2] = [3, 53];

/// Commands that work on files which [`prepare`] has made.
struct Killed {
    name: &'static str,
    /// They run at the same time, and each is killed.
    commands: &'static [&'static str],
    /// They run when those have ended, and are not killed.
    then: &'static [&'static str],
    /// What they write: files or folders below the folder of all files. Nothing else may change.
    writes: &'static [&'static str],
    /// Whether the finished batches of a killed process stay.
    resumes: bool,
}

const RUN: &str = "run configs/mini/masking-vit.toml --limit 6 --set task.masking.batch=2 --set task.masking.figures=1 \
                   --set task.masking.fractions={from=0.0,to=0.8,step=0.4} --set task.masking.methods=[\"cls\",\"tokenrank\"]";
const OTHER: &str = "configs/mini/masking-dinov1.toml";
const SWEEP: &str = "--set sweep.alpha=[0.5,0.9]";
const GUIDANCE: &str = "run configs/mini/guidance.toml --limit 6 --set task.guidance.count=6 --set task.guidance.steps=2 \
                        --set task.guidance.batch=2 --set task.guidance.figures=1 --set dataset.mini.count=24 \
                        --set metrics.splits=2 --set metrics.kernel={subsets=5,subset_size=4} --set metrics.resamples=8";

const TABLE: [Killed; 14] = [
    Killed { name: "merge", commands: &["merge @shards"], then: &[], writes: &["shards"], resumes: false },
    Killed {
        name: "merge of a sweep",
        commands: &["merge @swept"],
        then: &[],
        writes: &["swept"],
        resumes: false,
    },
    Killed {
        name: "report",
        commands: &["report @run"],
        then: &[],
        writes: &["run/report.html", "run/.report.html.partial", "run/run.lock"],
        resumes: false,
    },
    Killed {
        name: "compare --update",
        commands: &["compare @run @baseline.json --update"],
        then: &[],
        writes: &["baseline.json", ".baseline.json.partial"],
        resumes: false,
    },
    Killed {
        name: "compare --markdown --junit",
        commands: &["compare @run @other --markdown @said/c.md --junit @said/c.xml"],
        then: &[],
        writes: &["said"],
        resumes: false,
    },
    Killed {
        name: "slurm",
        commands: &["slurm CONFIG --nodes 2 --out @cluster"],
        then: &[],
        writes: &["cluster"],
        resumes: false,
    },
    Killed {
        name: "show",
        commands: &["show --model MODEL --image @image.png --out @shown"],
        then: &[],
        writes: &["shown"],
        resumes: false,
    },
    Killed {
        name: "attend",
        commands: &["attend --model MODEL --image @image.png --out @said/maps.safetensors"],
        then: &[],
        writes: &["said"],
        resumes: false,
    },
    Killed {
        name: "rank",
        commands: &["rank @maps.safetensors --out @said/ranks.safetensors"],
        then: &[],
        writes: &["said"],
        resumes: false,
    },
    Killed {
        name: "run of a sweep",
        commands: &["RUN SWEEP --out @sweep"],
        then: &[],
        writes: &["sweep"],
        resumes: true,
    },
    Killed {
        name: "run --fresh of a finished run",
        commands: &["RUN --set task.masking.alpha=0.7 --fresh --out @run"],
        then: &[],
        writes: &["run"],
        resumes: false,
    },
    Killed {
        name: "run of several experiments",
        commands: &["RUN OTHER --out @several"],
        then: &[],
        writes: &["several"],
        resumes: true,
    },
    Killed {
        name: "two shards of a sweep at once",
        commands: &["RUN SWEEP --out @sweep --shard 1/2", "RUN SWEEP --out @sweep --shard 2/2"],
        then: &["merge @sweep", "RUN SWEEP --out @sweep"],
        writes: &["sweep"],
        resumes: true,
    },
    Killed {
        name: "three shards of several experiments at once",
        commands: &[
            "RUN OTHER --out @several --shard 1/3",
            "RUN OTHER --out @several --shard 2/3",
            "RUN OTHER --out @several --shard 3/3",
        ],
        then: &["merge @several"],
        writes: &["several"],
        resumes: true,
    },
];

/// Makes what the commands read.
fn prepare(at: &Path) {
    std::fs::create_dir_all(at.join("said")).expect("writable");
    let image = crate::common::root().join("datasets/mini/scenes.png");
    std::fs::copy(image, at.join("image.png")).expect("copied");
    for line in [
        "RUN --out @run",
        "RUN --set task.masking.alpha=0.5 --out @other",
        "compare @other @baseline.json --update",
        "RUN SWEEP --out @swept --shard 1/2",
        "RUN SWEEP --out @swept --shard 2/2",
        "GUIDANCE --out @shards --shard 1/2",
        "GUIDANCE --out @shards --shard 2/2",
        "attend --model MODEL --image @image.png --layers last:1 --out @maps.safetensors",
    ] {
        let output = command(at, line).output().expect("the binary starts");
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

/// The command of a line; `@` stands for the folder of all files.
fn command(at: &Path, line: &str) -> Command {
    let words = line
        .replace("RUN", RUN)
        .replace("OTHER", OTHER)
        .replace("SWEEP", SWEEP)
        .replace("GUIDANCE", GUIDANCE)
        .replace("CONFIG", "configs/mini/masking-vit.toml")
        .replace("MODEL", "datasets/mini/models/vit");
    let mut command = tokenrank();
    command.args(words.split_whitespace().map(|word| match word.strip_prefix('@') {
        Some(below) => at.join(below).into_os_string(),
        None => word.into(),
    }));
    command
}

/// What an undisturbed command finds and leaves.
struct Whole {
    before: Tree,
    after: Tree,
    codes: Vec<Option<i32>>,
    /// How long the longest of the processes takes.
    takes: Duration,
    /// Sizes of the files that it writes, the largest first.
    sizes: Vec<usize>,
}

/// The scratch folders of a line. All rounds have the files at one path, which some files contain.
struct Place {
    template: PathBuf,
    at: PathBuf,
}

impl Place {
    /// Makes all files as they are before the command.
    fn renew(&self) {
        let _ = std::fs::remove_dir_all(&self.at);
        copy(&self.template, &self.at);
    }
}

/// Copies a folder. Files with several names become files of their own.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("writable");
    for entry in std::fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("readable");
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            copy(&from, &to);
        } else {
            std::fs::copy(from, to).expect("copied");
        }
    }
}

impl Killed {
    fn whole(&self, place: &Place) -> Whole {
        place.renew();
        let before = tree(&place.at);
        let start = Instant::now();
        let codes = self.finish(&place.at);
        let takes = start.elapsed() / codes.len() as u32;
        let after = tree(&place.at);
        let written = after.iter().filter(|(path, bytes)| before.get(*path) != Some(bytes));
        let mut sizes: Vec<usize> = written.map(|(_, bytes)| bytes.len()).collect();
        assert!(!sizes.is_empty(), "{}: nothing is written", self.name);
        sizes.sort_unstable_by(|a, b| b.cmp(a));
        Whole { before, after, codes, takes, sizes }
    }

    /// Runs everything to its end, one after the other. Returns the exit codes.
    fn finish(&self, at: &Path) -> Vec<Option<i32>> {
        let lines = self.commands.iter().chain(self.then);
        let run = |line: &&str| {
            let output = command(at, line).output().expect("the binary starts");
            let told = String::from_utf8_lossy(&output.stderr);
            assert!(matches!(output.status.code(), Some(0 | 4)), "{line}: {told}");
            output.status.code()
        };
        lines.map(run).collect()
    }

    /// Checks what killed processes have left. Returns the whole chunks of records by file, and how many files were not
    /// finished.
    fn check(&self, whole: &Whole, at: &Path) -> (BTreeMap<PathBuf, BTreeSet<Vec<u8>>>, usize) {
        let left = tree(at);
        let ours = |path: &Path| self.writes.iter().any(|folder| path.starts_with(folder));
        for (path, bytes) in whole.before.iter().filter(|(path, _)| !ours(path)) {
            assert!(left.get(path) == Some(bytes), "{}: {} was changed", self.name, path.display());
        }
        let (mut found, mut unfinished) = (BTreeMap::new(), 0);
        for (path, bytes) in &left {
            let [old, new] = [&whole.before, &whole.after].map(|tree| tree.get(path));
            if is_partial(path) {
                assert!(ours(path), "{}: {} was left", self.name, path.display());
                unfinished += 1;
            } else if path.ends_with("records.jsonl") && old != Some(bytes) {
                let (expected, _) = chunks(new.expect("records"));
                let (whole, torn) = chunks(bytes);
                assert!(whole.is_subset(&expected), "{}: a chunk that no run writes", self.name);
                found.insert(path.clone(), whole.into_iter().map(<[u8]>::to_vec).collect());
                unfinished += usize::from(torn);
            } else if !path.ends_with("run.lock") {
                let known = [old, new].contains(&Some(bytes));
                assert!(known, "{}: {} is neither old nor new", self.name, path.display());
            }
        }
        (found, unfinished)
    }

    /// Kills the commands so many times.
    fn campaign(&self, place: &Place, seed: u64, asked: usize) -> Value {
        let whole = self.whole(place);
        let mut rng = Rng::keyed(&[seed]);
        let (mut kills, mut written, mut unfinished, mut rounds) = (0, 0, 0, 0);
        while kills < asked {
            place.renew();
            // Up to three times before it may finish.
            let mut known: BTreeMap<PathBuf, BTreeSet<Vec<u8>>> = BTreeMap::new();
            for _ in 0..1 + rng.below(3) {
                let moments: Vec<Moment> = self
                    .commands
                    .iter()
                    .map(|_| Moment::any(whole.takes, &whole.sizes, 0, &mut rng))
                    .collect();
                let ended = std::thread::scope(|scope| {
                    let mut started = Vec::new();
                    for (moment, line) in moments.iter().zip(self.commands) {
                        let (command, folder) = (command(&place.at, line), place.at.as_path());
                        started.push((moment.signal(), scope.spawn(move || moment.strike(command, folder))));
                    }
                    let end = |(signal, status): (i32, std::thread::ScopedJoinHandle<'_, ExitStatus>)| {
                        (signal, status.join().expect("no panic"))
                    };
                    started.into_iter().map(end).collect::<Vec<_>>()
                });
                for (signal, status) in ended {
                    let killed = status.signal();
                    assert!(killed.is_none_or(|by| by == signal), "{}: ended with {status}", self.name);
                    assert!(
                        killed.is_some() || matches!(status.code(), Some(0 | 4)),
                        "{}: {status}",
                        self.name
                    );
                    kills += usize::from(killed.is_some());
                    written += usize::from(killed == Some(crate::experiments::SIGXFSZ));
                }
                let (found, torn) = self.check(&whole, &place.at);
                for (path, chunks) in known.iter().filter(|_| self.resumes) {
                    let lost = found.get(path).is_none_or(|found| !chunks.is_subset(found));
                    assert!(!lost, "{}: {} has lost chunks", self.name, path.display());
                }
                unfinished += torn;
                known = found;
            }
            assert_eq!(self.finish(&place.at), whole.codes, "{}", self.name);
            let end = tree(&place.at);
            let differ = |path: &&PathBuf| end.get(*path) != whole.after.get(*path);
            let wrong: Vec<&PathBuf> = end.keys().chain(whole.after.keys()).filter(differ).collect();
            assert!(wrong.is_empty(), "{}: unlike an undisturbed command's: {wrong:?}", self.name);
            rounds += 1;
        }
        json!({
            "kills": kills,
            "of them in the middle of a write": written,
            "commands brought to their end": rounds,
            "unfinished files left behind": unfinished,
            "finished batches lost": 0,
            "files unlike an undisturbed command's": 0,
        })
    }
}

#[test]
fn every_killed_command_leaves_old_or_new_files_and_ends_as_if_undisturbed() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let template = dir.path().join("template");
    prepare(&template);
    let (figures, next) = (Mutex::new(BTreeMap::new()), Mutex::new((1..).zip(&TABLE)));
    std::thread::scope(|scope| {
        for worker in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            let (template, at) = (template.clone(), dir.path().join(format!("files-{worker}")));
            let place = Place { template, at };
            let (figures, next) = (&figures, &next);
            scope.spawn(move || {
                loop {
                    let Some((seed, killed)) = next.lock().expect("no panic").next() else { return };
                    let found = killed.campaign(&place, seed, asked(KILLS));
                    figures.lock().expect("no panic").insert(killed.name, found);
                }
            });
        }
    });
    let figures = figures.into_inner().expect("no panic");
    assert_eq!(figures.len(), TABLE.len());
    report(figures);
}
