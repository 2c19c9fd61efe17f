//! Attacks: limits of the system on memory and threads. Each gives a message without a stack, an exit code of the documented
//! ones, and keeps what was answered.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use crate::browser::skipped::{Requirement, lacks};
use crate::common::{arg, root, scratch, words};
use crate::experiments::{ALL, assert_same, segments};

/// Limits on the address space in kB, from one in which libtorch hardly starts to one in which every miniature runs.
const MEMORY: [u32; 5] = [580_000, 640_000, 700_000, 760_000, 840_000];

/// Limits on the number of threads.
const THREADS: [u32; 6] = [1, 2, 3, 4, 5, 6];

/// Text of messages for lack of memory.
const MEMORY_WORDS: [&str; 3] = ["memory does not suffice", "memory ran out", "Cannot allocate memory"];

/// Text of messages for a missing thread; libgomp ends the process with its own.
const THREAD_WORDS: [&str; 3] =
    ["a thread cannot be started", "limit on threads", "libgomp: Thread creation failed"];

/// Runs a command of the shell `limit` and then the program with these arguments.
fn limited(limit: &str, args: &[String]) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("ulimit -c 0; {limit} && exec \"$0\" \"$@\"")]);
    shell.arg(env!("CARGO_BIN_EXE_tokenrank")).args(args).current_dir(root());
    shell.env("NO_COLOR", "1").env("RUST_BACKTRACE", "0").env_remove("COLUMNS");
    shell
}

/// Checks a failure under a limit. Returns whether the program failed.
#[track_caller]
fn explained(output: &Output, expected: &[&str]) -> bool {
    let (message, code) = (words(output), output.status.code());
    // The dynamic loader and libtorch's initialisers run before the program does.
    if code == Some(0)
        || message.starts_with("terminate called")
        || message.contains("error while loading shared")
    {
        return false;
    }
    assert!(matches!(code, Some(1 | 3)), "{code:?}: {message}");
    assert!(expected.iter().any(|part| message.contains(part)), "{message}");
    for part in ["frame #", "panicked", "Exception raised from"] {
        assert!(!message.contains(part), "{message}");
    }
    true
}

/// Number of whole segments of records in a folder.
fn answered(out: &Path) -> usize {
    fs::read(out.join("records.jsonl")).map_or(0, |bytes| segments(&bytes).len())
}

#[test]
fn memory_that_runs_out_is_explained_and_costs_no_answer() {
    for small in &ALL {
        let dir = scratch();
        let [out, whole] = ["run", "whole"].map(|name| dir.path().join(name));
        let (mut failures, mut before) = (0, 0);
        for limit in MEMORY {
            let args = small.args(&out, &[]);
            let output = limited(&format!("ulimit -v {limit}"), &args).output().expect("a shell");
            failures += usize::from(explained(&output, &MEMORY_WORDS));
            let now = answered(&out);
            assert!(now >= before, "{}: {now} of {before} batches are left", small.task);
            before = now;
        }
        assert!(failures > 0, "{}: no limit was met", small.task);
        small.run(&out, &[], 0);
        small.run(&whole, &[], 0);
        assert_same(&whole, &out);
    }
}

#[test]
fn threads_that_cannot_be_started_are_explained() {
    // Limits on the threads of a user do not hold for root, and those of another user count all of that user's.
    const USER: &str = "64321";
    if lacks(Requirement::ThreadLimits) {
        return;
    }
    for small in [&ALL[0], &ALL[2]] {
        let mut failures = 0;
        for limit in THREADS {
            let dir = scratch();
            open(dir.path());
            let args = small.args(&dir.path().join("run"), &[]);
            let mut command = Command::new("setpriv");
            command.args(["--reuid", USER, "--clear-groups", "prlimit", &format!("--nproc={limit}")]);
            command.arg(env!("CARGO_BIN_EXE_tokenrank")).args(args);
            command.current_dir(root()).env("NO_COLOR", "1").env("RUST_BACKTRACE", "0");
            failures += usize::from(explained(&command.output().expect("setpriv"), &THREAD_WORDS));
        }
        assert!(failures > 0, "{}: no limit was met", small.task);
    }
}

/// Lets every user write to a folder.
fn open(folder: &Path) {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(folder, fs::Permissions::from_mode(0o777)).expect("permissions");
    }
}

#[test]
fn a_matrix_that_does_not_fit_into_memory_is_explained() {
    let dir = scratch();
    let file = dir.path().join("maps.npy");
    // 20,000 × 20,000 numbers of one byte each in the file, eight in memory: a hole in the file, which takes no disk.
    let header = "{'descr': '<f2', 'fortran_order': False, 'shape': (20000, 20000), }";
    let padded = format!("{header:<117}\n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend(u16::try_from(padded.len()).expect("short").to_le_bytes());
    bytes.extend(padded.as_bytes());
    let length = bytes.len() as u64 + 2 * 20_000 * 20_000;
    fs::write(&file, bytes).expect("writable");
    fs::File::options().write(true).open(&file).and_then(|file| file.set_len(length)).expect("a long file");
    let args = ["rank", arg(&file), "--out", arg(&dir.path().join("out.safetensors"))].map(str::to_owned);
    let output = limited("ulimit -v 1200000", &args).output().expect("a shell");
    assert!(explained(&output, &["memory"]), "{}", words(&output));
}
