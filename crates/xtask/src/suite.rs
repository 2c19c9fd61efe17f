//! `cargo xtask test`: every test of the workspace, several test binaries at a time.
//!
//! Cargo runs one binary after the other, and in the longest of ours the tests wait for processes they have started.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::launch::{self, Cargo, Step};
use crate::outcome::Outcome;
use crate::workspace::Workspace;

/// How many test binaries run at the same time.
const AT_ONCE: usize = 2;

/// How many tests of a binary run at the same time, a core: most of the long ones wait for a process they have started.
const TESTS_PER_CORE: usize = 2;

/// The names of what takes longest, which starts first.
const FIRST: [&str; 2] = ["cli/tests/cli", DOCUMENTATION];

/// The name of the documentation tests, which cargo runs.
const DOCUMENTATION: &str = "documentation";

/// Exit code of `cargo test` where a test has failed.
const FAILED: u8 = 101;

/// A program that runs tests, and what it is called in messages.
struct Job {
    name: String,
    command: Command,
}

/// What became of a job.
struct Done {
    name: String,
    outcome: Outcome,
    took: Duration,
    success: bool,
}

/// Builds the tests and runs all of them; `args` go to every test binary. Returns the exit code.
///
/// What each binary prints is kept in `target/tests` and printed when the binary has ended; the tests that were skipped are
/// named at the end and in `target/skipped.txt`.
///
/// # Errors
/// If cargo or a test binary cannot be started, or what they print cannot be kept.
pub(crate) fn run(workspace: &Workspace, cargo: &Cargo, args: &[String]) -> Result<u8> {
    // Examples hold no tests, and each of them would be linked against libtorch.
    let build = [
        "test",
        "--workspace",
        "--lib",
        "--bins",
        "--tests",
        "--no-run",
        "--message-format=json-render-diagnostics",
    ];
    let build = Step::new(&build, &[]);
    let started = Instant::now();
    let (code, binaries) = built(&mut cargo.command(&build))?;
    if code != 0 {
        return Ok(code);
    }
    println!("== {} test binaries built ({:.0} s)", binaries.len(), started.elapsed().as_secs_f64());
    let documentation = Step {
        documentation: true,
        ..Step::new(&["test", "--workspace", "--doc", "--no-fail-fast", "--"], args)
    };
    let threads = TESTS_PER_CORE * std::thread::available_parallelism().map_or(1, usize::from);
    let mut jobs = vec![Job { name: DOCUMENTATION.to_owned(), command: cargo.command(&documentation) }];
    for binary in binaries {
        let mut command = Command::new(&binary.path);
        command.args(args).current_dir(&binary.package).env("CARGO_MANIFEST_DIR", &binary.package);
        cargo.find_libtorch(&mut command);
        if std::env::var_os("RUST_TEST_THREADS").is_none() {
            command.env("RUST_TEST_THREADS", threads.to_string());
        }
        jobs.push(Job { name: binary.name, command });
    }
    jobs.sort_by_key(|job| FIRST.iter().position(|name| *name == job.name).unwrap_or(FIRST.len()));

    let logs = workspace.target().join("tests");
    fs::create_dir_all(&logs).map_err(|error| cannot_write(&logs, &error))?;
    let done = all(jobs, &logs)?;
    let skipped = report(&done);
    let list = workspace.target().join("skipped.txt");
    fs::write(&list, skipped.iter().map(|line| format!("{line}\n")).collect::<String>())
        .map_err(|error| cannot_write(&list, &error))?;
    Ok(if done.iter().all(|done| done.success) { 0 } else { FAILED })
}

fn cannot_write(path: &Path, error: &io::Error) -> Error {
    Error::missing(format!("{} cannot be written: {error}", path.display()))
}

/// A test binary as cargo built it.
#[derive(Debug, PartialEq, Eq)]
struct Binary {
    /// The folder of its package and what is tested: `cli/tests/cli`, `eval/src`.
    name: String,
    path: PathBuf,
    /// The folder of its package, in which it runs.
    package: PathBuf,
}

/// Builds. Returns cargo's exit code and the test binaries.
fn built(command: &mut Command) -> Result<(u8, Vec<Binary>)> {
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| Error::missing(format!("cargo cannot be started: {error}")))?;
    let mut binaries = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).lines() {
            let line = line.map_err(|error| Error::missing(format!("cargo cannot be read: {error}")))?;
            if line.starts_with('{') {
                binaries.extend(binary(&line));
            } else {
                println!("{line}");
            }
        }
    }
    let status =
        child.wait().map_err(|error| Error::missing(format!("cargo cannot be waited for: {error}")))?;
    Ok((launch::code_of(status), binaries))
}

/// The test binary of which a message of cargo speaks, if it speaks of one.
fn binary(message: &str) -> Option<Binary> {
    let (_, target) = message.split_once("\"target\":{")?;
    let (_, profile) = message.split_once("\"profile\":{")?;
    if text(message, "reason")? != "compiler-artifact"
        || !profile.split('}').next()?.contains("\"test\":true")
    {
        return None;
    }
    let path = PathBuf::from(text(message, "executable")?);
    let package = Path::new(&text(message, "manifest_path")?).parent()?.to_owned();
    let folder = package.file_name()?.to_string_lossy().into_owned();
    let name = if target.starts_with("\"kind\":[\"test\"]") {
        format!("{folder}/tests/{}", text(target, "name")?)
    } else {
        format!("{folder}/src")
    };
    Some(Binary { name, path, package })
}

/// The first text of that name in JSON that cargo wrote, without white space.
fn text(json: &str, name: &str) -> Option<String> {
    let (_, rest) = json.split_once(&format!("\"{name}\":\""))?;
    let mut found = String::new();
    let mut letters = rest.chars();
    loop {
        match letters.next()? {
            '"' => return Some(found),
            '\\' => match letters.next()? {
                'u' => {
                    let code: String = letters.by_ref().take(4).collect();
                    found.push(char::from_u32(u32::from_str_radix(&code, 16).ok()?)?);
                }
                letter => found.push(letter),
            },
            letter => found.push(letter),
        }
    }
}

/// Runs all jobs and prints what each has printed when it has ended.
fn all(jobs: Vec<Job>, logs: &Path) -> Result<Vec<Done>> {
    let (waiting, done) = (Mutex::new(VecDeque::from(jobs)), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        let lanes: Vec<_> = (0..AT_ONCE)
            .map(|_| {
                scope.spawn(|| {
                    loop {
                        let job = waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                        let Some(job) = job else { return Ok(()) };
                        let (one, log) = job.run(logs)?;
                        let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
                        let mut stdout = io::stdout().lock();
                        // Somebody who closed the pipe still wants the exit code.
                        let _ = writeln!(
                            stdout,
                            "== {} ({:.0} s)\n{}",
                            one.name,
                            one.took.as_secs_f64(),
                            log.trim_end()
                        );
                        done.push(one);
                    }
                })
            })
            .collect();
        lanes.into_iter().try_for_each(|lane| {
            lane.join().unwrap_or_else(|_| Err(Error::missing("a thread that runs tests has panicked")))
        })
    })?;
    Ok(done.into_inner().unwrap_or_else(PoisonError::into_inner))
}

impl Job {
    /// Runs the program and returns what it printed as well.
    fn run(mut self, logs: &Path) -> Result<(Done, String)> {
        let path = logs.join(format!("{}.log", self.name.replace('/', "-")));
        let file = || File::options().append(true).open(&path).map_err(|error| cannot_write(&path, &error));
        File::create(&path).map_err(|error| cannot_write(&path, &error))?;
        eprintln!("== {} starts", self.name);
        let started = Instant::now();
        let status = self.command.stdin(Stdio::null()).stdout(file()?).stderr(file()?).status();
        let status =
            status.map_err(|error| Error::missing(format!("{} cannot be started: {error}", self.name)))?;
        let mut bytes = Vec::new();
        let read = File::open(&path).and_then(|mut file| file.read_to_end(&mut bytes));
        read.map_err(|error| Error::missing(format!("{} cannot be read: {error}", path.display())))?;
        let log = String::from_utf8_lossy(&bytes).into_owned();
        let mut outcome = Outcome::of(&log);
        if !status.success() && outcome.failed.is_empty() {
            outcome.failed.push(format!("(ended with {status})"));
        }
        let done = Done { name: self.name, outcome, took: started.elapsed(), success: status.success() };
        Ok((done, log))
    }
}

/// Prints the summary. Returns a line for each test that was skipped.
fn report(done: &[Done]) -> Vec<String> {
    let named = |of: fn(&Outcome) -> &Vec<String>| -> Vec<String> {
        done.iter()
            .flat_map(|one| of(&one.outcome).iter().map(|line| format!("{}: {line}", one.name)))
            .collect()
    };
    let (failed, skipped) = (named(|outcome| &outcome.failed), named(|outcome| &outcome.skipped));
    let mut by_time: Vec<&Done> = done.iter().collect();
    by_time.sort_by_key(|one| std::cmp::Reverse(one.took));
    println!("== the slowest");
    for one in by_time.iter().take(8) {
        println!("{:>5.0} s  {}", one.took.as_secs_f64(), one.name);
    }
    for (what, lines) in [("skipped", &skipped), ("failed", &failed)] {
        if !lines.is_empty() {
            println!("== {what}");
            lines.iter().for_each(|line| println!("{line}"));
        }
    }
    let passed: usize = done.iter().map(|one| one.outcome.passed).sum();
    let compiled: usize = done.iter().map(|one| one.outcome.compiled).sum();
    let (failed, count) = (failed.len(), skipped.len());
    println!("== {passed} tests passed, {failed} failed, {count} skipped; {compiled} examples compiled only");
    skipped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_binaries_are_found_among_the_messages_of_cargo() {
        let message = |kind: &str, test: bool| {
            format!(
                r#"{{"reason":"compiler-artifact","package_id":"path+file:///home/a/crates/cli#tokenrank@0.1.0","manifest_path":"/home/a \"b\"/crates/cli/Cargo.toml","target":{{"kind":["{kind}"],"crate_types":["bin"],"name":"paper","src_path":"/home/a/crates/cli/tests/cli/main.rs","edition":"2024","doc":false,"doctest":false,"test":true}},"profile":{{"opt_level":"3","debuginfo":2,"debug_assertions":true,"overflow_checks":true,"test":{test}}},"features":[],"filenames":["/t/paper-1f"],"executable":"/t/paper-1f","fresh":true}}"#
            )
        };
        let found = binary(&message("test", true)).unwrap();
        assert_eq!(found.name, "cli/tests/paper");
        assert_eq!(found.path, Path::new("/t/paper-1f"));
        assert_eq!(found.package, Path::new("/home/a \"b\"/crates/cli"));
        assert_eq!(binary(&message("bin", true)).unwrap().name, "cli/src");
        // The program itself, and a library.
        assert_eq!(binary(&message("bin", false)), None);
        assert_eq!(binary(&message("lib", true).replace("\"/t/paper-1f\",\"fresh", "null,\"fresh")), None);
        assert_eq!(binary(r#"{"reason":"build-finished","success":true}"#), None);
    }
}
