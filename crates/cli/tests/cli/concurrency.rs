//! Several processes in the same folders: one line for each attack.
//!
//! The first process is stopped at a known point for as long as the second one runs. It then ends undisturbed, with the files of
//! a process that was alone. A refused process has changed nothing.

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, PoisonError};

use crate::common::{scratch, tokenrank, words};
use crate::kills::tree::{Tree, tree};

/// What the first process does. Each writes to `@all/masking-vit`, or below `@all`.
#[derive(Clone, Copy)]
struct First {
    command: &'static str,
    /// It is stopped when this file has content.
    until: &'static str,
    /// This file must not be there yet.
    before: &'static str,
}

const RUN: &str = "run configs/mini/masking-vit.toml --limit 8 --set task.masking.batch=2 --set task.masking.figures=0 \
                   --set task.masking.fractions={from=0.0,to=0.8,step=0.4} --set task.masking.methods=[\"cls\",\"tokenrank\"]";
const OTHER: &str = "configs/mini/masking-dinov1.toml";
const SWEEP: &str = "--set sweep.alpha=[0.5,0.7,0.9]";

/// The first of three runs is done, the second goes on.
const IN_A_SWEEP: First = First {
    command: "RUN SWEEP --out @all/masking-vit",
    until: "all/masking-vit/runs/alpha-0.7/records.jsonl",
    before: "all/masking-vit/runs/alpha-0.9/results.json",
};
/// The first of two experiments is done.
const IN_SEVERAL: First = First {
    command: "RUN OTHER --out @all",
    until: "all/masking-dinov1/records.jsonl",
    before: "all/masking-dinov1/results.json",
};
const IN_A_SHARD: First = First {
    command: "RUN SWEEP --out @all/masking-vit --shard 1/2",
    until: "all/masking-vit/runs/alpha-0.7/shard-1-of-2/records.jsonl",
    before: "all/masking-vit/runs/alpha-0.9/shard-1-of-2/records.jsonl",
};
const IN_A_RUN: First = First {
    command: "RUN --out @all/masking-vit",
    until: "all/masking-vit/records.jsonl",
    before: "all/masking-vit/results.json",
};

/// What becomes of the second process.
#[derive(Clone, Copy, PartialEq)]
enum Second {
    /// It is refused because the folder is in use, and changes nothing.
    Refused,
    /// It ends with this exit code and leaves the first one's files alone.
    Ends(i32),
}
use Second::{Ends, Refused};

/// Whether the file system has locks. Without them, the owner that the lock file names decides.
#[derive(Clone, Copy, PartialEq)]
enum Locks {
    Yes,
    No,
}

const ATTACKS: &[(First, &str, Second, Locks)] = &[
    // Every way to start over, or to go on, in a folder of the sweep.
    (IN_A_SWEEP, "RUN SWEEP --out @all/masking-vit --fresh", Refused, Locks::Yes),
    (IN_A_SWEEP, "RUN SWEEP --out @all/masking-vit --fresh", Refused, Locks::No),
    (IN_A_SWEEP, "RUN SWEEP --out @all/masking-vit", Refused, Locks::Yes),
    (IN_A_SWEEP, "RUN --set seed=1 SWEEP --out @all/masking-vit --fresh", Refused, Locks::Yes),
    (IN_A_SWEEP, "RUN --set sweep.alpha=[0.1,0.2] --out @all/masking-vit", Refused, Locks::Yes),
    (IN_A_SWEEP, "RUN SWEEP --out @link --fresh", Refused, Locks::Yes),
    (IN_A_SWEEP, "RUN SWEEP --out @all/../all/./masking-vit --fresh", Refused, Locks::Yes),
    (IN_A_SWEEP, "RUN --out @all/masking-vit/runs/alpha-0.5 --fresh", Refused, Locks::Yes),
    (IN_A_SWEEP, "RUN --out @all/masking-vit/runs/alpha-0.9 --fresh", Refused, Locks::Yes),
    (IN_A_SWEEP, "RUN --out @all/masking-vit --fresh", Refused, Locks::Yes),
    // The other experiment has finished before, and stays.
    (IN_A_SWEEP, "RUN OTHER --out @all --fresh", Refused, Locks::Yes),
    (IN_A_SWEEP, "RUN OTHER SWEEP --out @all --fresh", Refused, Locks::No),
    // Commands that read.
    (IN_A_SWEEP, "report @all/masking-vit", Ends(0), Locks::Yes),
    (IN_A_SWEEP, "report @all/masking-vit/runs/alpha-0.5", Refused, Locks::Yes),
    (IN_A_SWEEP, "report @all/masking-vit/runs/alpha-0.5 --out @page.html", Ends(0), Locks::Yes),
    (IN_A_SWEEP, "report @all/masking-vit/runs/alpha-0.7", Ends(3), Locks::Yes),
    (IN_A_SWEEP, "compare @all/masking-vit @baseline.json --update", Ends(3), Locks::Yes),
    (IN_A_SWEEP, "compare @all/masking-vit/runs/alpha-0.5 @baseline.json --update", Ends(0), Locks::Yes),
    (IN_A_SWEEP, "merge @all/masking-vit", Ends(3), Locks::Yes),
    // A merge into a folder of the sweep.
    (IN_A_SWEEP, "merge @shards --out @all/masking-vit/runs/alpha-0.9", Refused, Locks::Yes),
    // Others' folders.
    (IN_A_SWEEP, "RUN OTHER --out @elsewhere --fresh", Ends(0), Locks::Yes),
    (IN_SEVERAL, "RUN OTHER --out @all --fresh", Refused, Locks::Yes),
    (IN_SEVERAL, "RUN OTHER --out @all", Refused, Locks::No),
    (IN_SEVERAL, "RUN --out @all/masking-vit --fresh", Refused, Locks::Yes),
    (IN_SEVERAL, "RUN --out @all --fresh", Refused, Locks::Yes),
    (IN_SEVERAL, "RUN SWEEP --out @all/masking-vit --fresh", Refused, Locks::Yes),
    (IN_A_RUN, "RUN --out @all/masking-vit --fresh", Refused, Locks::No),
    (IN_A_RUN, "RUN --out @all/masking-vit/inside --fresh", Ends(0), Locks::Yes),
    // Shards are made to run at the same time.
    (IN_A_SHARD, "RUN SWEEP --out @all/masking-vit --shard 2/2", Ends(0), Locks::Yes),
    (IN_A_SHARD, "RUN SWEEP --out @all/masking-vit --shard 2/2 --fresh", Ends(0), Locks::No),
    (IN_A_SHARD, "RUN SWEEP --out @all/masking-vit --shard 1/2 --fresh", Refused, Locks::Yes),
    (IN_A_SHARD, "merge @all/masking-vit", Ends(3), Locks::Yes),
];

/// What somebody does to the files of a process that is stopped, and what the process says of it.
const LOSSES: &[(First, &str, &str)] = &[
    (IN_A_SWEEP, "rm all/masking-vit/runs/alpha-0.5/records.jsonl", "alpha-0.5/records.jsonl was removed"),
    (IN_A_SWEEP, "rm -r all/masking-vit/runs/alpha-0.5", "alpha-0.5/records.jsonl was removed"),
    (IN_A_SWEEP, "rm all/masking-vit/runs/alpha-0.5/results.json", "alpha-0.5/results.json was removed"),
    (IN_A_SWEEP, "rm all/masking-vit/runs/alpha-0.7/records.jsonl", "alpha-0.7/records.jsonl was removed"),
    (IN_A_SWEEP, "rm -r all", "was removed, moved or replaced"),
    (IN_A_SWEEP, "mv all/masking-vit all/moved", "was removed, moved or replaced"),
    (
        IN_A_SWEEP,
        "mv all/masking-vit all/moved; cp -r all/moved all/masking-vit",
        "was removed, moved or replaced",
    ),
    (IN_SEVERAL, "rm -r all/masking-vit", "masking-vit/records.jsonl was removed"),
    (
        IN_A_RUN,
        "mv all/masking-vit all/moved; cp -r all/moved all/masking-vit",
        "was removed, moved or replaced",
    ),
];

/// A scratch folder in which commands run one after the other.
struct Place {
    dir: tempfile::TempDir,
    /// A library that makes a file system one without locks.
    without_locks: Option<PathBuf>,
}

impl Place {
    fn new(locks: Locks) -> Self {
        let dir = scratch();
        let without_locks = (locks == Locks::No).then(|| {
            let (source, library) = (dir.path().join("locks.c"), dir.path().join("locks.so"));
            let text = "#include <errno.h>\nint flock(int file, int how) { errno = ENOLCK; return -1; }\n";
            std::fs::write(&source, text).expect("writable");
            let mut compiler = Command::new("cc");
            let built = compiler.args(["-shared", "-fPIC", "-o"]).args([&library, &source]).status();
            assert!(built.expect("the linker of Rust programs").success());
            library
        });
        std::fs::create_dir_all(dir.path().join("all")).expect("writable");
        symlink("all/masking-vit", dir.path().join("link")).expect("a link");
        Self { dir, without_locks }
    }

    fn at(&self, below: &str) -> PathBuf {
        self.dir.path().join(below)
    }

    fn command(&self, line: &str) -> Command {
        let words = line.replace("RUN", RUN).replace("OTHER", OTHER).replace("SWEEP", SWEEP);
        let mut command = tokenrank();
        command.args(words.split_whitespace().map(|word| match word.strip_prefix('@') {
            Some(below) => self.at(below).into_os_string(),
            None => word.into(),
        }));
        if let Some(library) = &self.without_locks {
            command.env("LD_PRELOAD", library);
        }
        command
    }

    #[track_caller]
    fn run(&self, line: &str, code: i32) -> Output {
        let output = self.command(line).output().expect("the binary starts");
        assert_eq!(output.status.code(), Some(code), "{line}: {}", words(&output));
        output
    }

    /// Starts the first process and stops it. None if it was too far already.
    fn stopped(&self, first: First) -> Option<Child> {
        let mut command = self.command(first.command);
        let mut child =
            command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the binary starts");
        while !self.at(first.until).metadata().is_ok_and(|file| file.len() > 0) {
            assert!(child.try_wait().expect("a child").is_none(), "{} is over", first.command);
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        send("-STOP", &child);
        if !self.at(first.before).exists() && child.try_wait().expect("a child").is_none() {
            return Some(child);
        }
        child.kill().expect("killed");
        child.wait().expect("a child");
        None
    }
}

/// The scratch folder with the first process stopped in it. `prepare` is called before it starts.
fn under_way(first: First, locks: Locks, prepare: impl Fn(&Place)) -> (Place, Child) {
    for _ in 0..20 {
        let place = Place::new(locks);
        prepare(&place);
        if let Some(child) = place.stopped(first) {
            return (place, child);
        }
    }
    panic!("{} is always over before it can be stopped", first.command);
}

fn send(signal: &str, child: &Child) {
    let status = Command::new("kill").args([signal, &child.id().to_string()]).status();
    assert!(status.expect("kill is there").success());
}

/// Every file but the lock files, which name the processes; none if there is no such folder.
fn files(folder: &Path) -> Tree {
    let mut files = if folder.exists() { tree(folder) } else { Tree::new() };
    files.retain(|path, _| !path.ends_with("run.lock"));
    files
}

/// What the first process leaves where it is alone.
fn alone(first: First) -> Tree {
    static KNOWN: Mutex<BTreeMap<&str, Tree>> = Mutex::new(BTreeMap::new());
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let make = || {
        let place = Place::new(Locks::Yes);
        place.run(first.command, 0);
        files(&place.at("all"))
    };
    known.entry(first.command).or_insert_with(make).clone()
}

/// Whether everything that the first process leaves where it is alone is there, byte for byte.
#[track_caller]
fn assert_whole(place: &Place, first: First) {
    let found = files(&place.at("all"));
    for (path, bytes) in alone(first) {
        assert!(found.get(&path) == Some(&bytes), "{} is not that of an undisturbed process", path.display());
    }
}

/// Calls `check` for every line of a table, on as many threads as there are processors.
fn each<T: Sync>(table: &[T], check: impl Fn(&T) + Sync) {
    let next = Mutex::new(table.iter());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                loop {
                    let Some(line) = next.lock().expect("no panic").next() else { return };
                    check(line);
                }
            });
        }
    });
}

#[test]
fn a_second_process_does_not_disturb_the_first() {
    each(ATTACKS, |&(first, second, becomes, locks)| {
        let (place, child) = under_way(first, locks, |place| {
            if second.contains("OTHER --out @all") || second.contains("OTHER SWEEP") {
                // An experiment that has finished before, and which a refused process must not remove.
                let line = RUN.replace("configs/mini/masking-vit.toml", OTHER);
                if first.command == IN_A_SWEEP.command {
                    place.run(&format!("{line} --out @all/masking-dinov1"), 0);
                }
            }
            if second.contains("@shards") {
                place.run("RUN --out @shards --shard 1/1", 0);
            }
        });
        let before = files(place.dir.path());
        let output = place.command(second).output().expect("the binary starts");
        let (code, message) = (output.status.code(), words(&output));
        match becomes {
            Refused => {
                assert_eq!(code, Some(1), "{second}: {message}");
                let owner = format!("in use by process {}", child.id());
                assert!(message.contains(&owner), "{second}: {message}");
                assert!(files(place.dir.path()) == before, "{second}: a refused process has changed files");
            }
            Ends(expected) => assert_eq!(code, Some(expected), "{second}: {message}"),
        }
        send("-CONT", &child);
        let ended = child.wait_with_output().expect("a child");
        assert!(ended.status.success(), "after {second}: {}", words(&ended));
        assert_whole(&place, first);
    });
}

#[test]
fn no_table_is_written_of_records_that_are_gone() {
    each(LOSSES, |&(first, script, says)| {
        let (place, child) = under_way(first, Locks::Yes, |_| {});
        let status = Command::new("sh").args(["-ec", script]).current_dir(place.dir.path()).status();
        assert!(status.expect("a shell").success());
        let before = files(&place.at("all"));
        send("-CONT", &child);
        let ended = child.wait_with_output().expect("a child");
        let message = words(&ended);
        assert_eq!(ended.status.code(), Some(1), "{script}: {message}");
        assert!(message.contains(says), "{script}: {message}");
        let after = files(&place.at("all"));
        let tables = |path: &&PathBuf| {
            path.parent().is_some_and(|folder| [Path::new(""), Path::new("masking-vit")].contains(&folder))
                && !before.contains_key(*path)
        };
        let written: Vec<&PathBuf> = after.keys().filter(tables).collect();
        assert!(written.is_empty(), "{script}: {written:?}");
    });
}

#[test]
fn whoever_comes_after_a_killed_process_goes_on_or_starts_over() {
    let mut cases = Vec::new();
    for first in [IN_A_SWEEP, IN_SEVERAL] {
        for more in ["", " --fresh"] {
            cases.extend([(first, more, Locks::Yes), (first, more, Locks::No)]);
        }
    }
    each(&cases, |&(first, more, locks)| {
        let (place, mut child) = under_way(first, locks, |_| {});
        child.kill().expect("killed");
        child.wait().expect("a child");
        let told = words(&place.run(&format!("{}{more}", first.command), 0));
        let said = told.matches("ended before it finished").count();
        assert!(said == 1 && told.contains(&format!("process {} ", child.id())), "{told}");
        assert_whole(&place, first);
    });
}

#[test]
fn of_two_updates_of_one_baseline_none_is_lost() {
    let place = Place::new(Locks::Yes);
    place.run("RUN OTHER --out @all", 0);
    for _ in 0..4 {
        let _ = std::fs::remove_file(place.at("baseline.json"));
        let start = |name: &str| {
            let mut command = place.command(&format!("compare @all/{name} @baseline.json --update"));
            command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the binary starts")
        };
        let both = ["masking-vit", "masking-dinov1"].map(|name| (name, start(name)));
        let text = |place: &Place| std::fs::read_to_string(place.at("baseline.json")).expect("a baseline");
        let mut done = Vec::new();
        for (name, child) in both {
            let output = child.wait_with_output().expect("a child");
            match output.status.code() {
                Some(0) => done.push(name),
                _ => assert!(
                    words(&output).contains("another process has changed this baseline"),
                    "{}",
                    words(&output)
                ),
            }
        }
        assert!(!done.is_empty());
        let baseline: serde_json::Value = serde_json::from_str(&text(&place)).expect("JSON");
        assert!(done.iter().all(|name| baseline["runs"].get(name).is_some()), "{done:?}");
    }
}

#[test]
fn one_command_does_not_write_two_runs_to_one_folder() {
    let place = Place::new(Locks::Yes);
    symlink("masking-vit", place.at("all/masking-dinov1")).expect("a link");
    std::fs::create_dir(place.at("all/masking-vit")).expect("writable");
    let message = words(&place.run("RUN OTHER --out @all --fresh", 2));
    assert!(message.contains("one folder") && message.contains("--out"), "{message}");
    assert!(files(&place.at("all")).is_empty());
}
