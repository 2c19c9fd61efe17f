//! What becomes of a command whose stdout or stderr cannot be written, that is interrupted, or whose words are no text.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use crate::browser::skipped::{Requirement, lacks};
use crate::common::{arg, root, run, scratch, tokenrank, words};
use crate::experiments::{ALL, results};

/// A device that takes nothing. Says that the test is skipped if there is none.
fn full() -> Option<File> {
    let open = || File::options().write(true).open("/dev/full").expect("it could be opened before");
    (!lacks(Requirement::FullDevice)).then(open)
}

#[test]
fn a_stderr_that_cannot_be_written_stops_nothing() {
    let Some(stderr) = full() else { return };
    let dir = scratch();
    let (whole, out, sweep) = (dir.path().join("whole"), dir.path().join("run"), dir.path().join("sweep"));
    let small = &ALL[0];
    let table = small.run(&whole, &[], 0).stdout;
    let with = |command: &mut Command, code: i32| {
        let stderr = stderr.try_clone().expect("another handle");
        let output = command.stderr(stderr).output().expect("starts");
        assert_eq!(output.status.code(), Some(code));
        output.stdout
    };
    assert!(with(&mut small.command(&out), 0) == table);
    assert_eq!(results(&out)["metrics"], results(&whole)["metrics"]);
    let axis = ["--set", "sweep.alpha=[0.5, 0.9]"];
    assert!(!with(small.command(&sweep).args(axis), 0).is_empty());
    assert!(sweep.join("sweep.json").exists());
    // Refusals keep their exit codes.
    with(tokenrank().args(["run", "no/such/config.toml"]), 2);
    with(small.command(&out).args(["--set", "model.path=no/such/model"]), 3);
}

#[test]
fn a_result_that_stdout_does_not_take_is_no_success() {
    let Some(stdout) = full() else { return };
    let dir = scratch();
    let (out, sweep) = (dir.path().join("run"), dir.path().join("sweep"));
    let small = &ALL[0];
    let lost = |command: &mut Command| {
        let output = command.stdout(stdout.try_clone().expect("another handle")).output().expect("starts");
        let message = words(&output);
        assert_eq!(output.status.code(), Some(1), "{message}");
        assert_eq!(message.matches("cannot write to stdout: No space left").count(), 1, "{message}");
    };
    lost(&mut small.command(&out));
    lost(small.command(&sweep).args(["--set", "sweep.alpha=[0.5, 0.9]"]));
    for file in [out.join("results.json"), out.join("table.md"), sweep.join("sweep.json")] {
        assert!(file.exists(), "{}", file.display());
    }
    lost(tokenrank().args(["compare", arg(&out), arg(&out)]));
    lost(tokenrank().arg("ls"));
    lost(tokenrank().arg("doctor"));
    lost(tokenrank().arg("--help"));
    lost(tokenrank().args(["run", "--help"]));
    lost(tokenrank().arg("--version"));
    // What else is wrong comes first.
    let changed = ["--set", "seed=9"];
    let output = small.command(&out).args(changed).stdout(stdout).output().expect("starts");
    assert_eq!(output.status.code(), Some(2), "{}", words(&output));
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let mut child =
        tokenrank().arg("ls").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("a child");
    assert!(output.status.success(), "{}", words(&output));
}

/// A process under way, once `begun`.
fn started(command: &mut Command, begun: impl Fn() -> bool) -> Child {
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("starts");
    while !begun() {
        assert!(child.try_wait().expect("a child").is_none(), "it was over before it could be seen");
        std::thread::sleep(Duration::from_millis(1));
    }
    child
}

fn has_records(out: &Path) -> bool {
    out.join("records.jsonl").metadata().is_ok_and(|file| file.len() > 0)
}

fn interrupt(child: &Child) {
    let status = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(status.expect("kill is there").success());
}

/// The command that an interrupted process has left on the last line, byte for byte.
#[track_caller]
fn resume_command(child: Child) -> OsString {
    let output = child.wait_with_output().expect("a child");
    let message = words(&output);
    assert_eq!(output.status.code(), Some(5), "{message}");
    assert!(message.contains("interrupted ") && message.contains("resume with:"), "{message}");
    let line = output.stderr.strip_suffix(b"\n").expect("a whole line").rsplit(|&byte| byte == b'\n').next();
    OsString::from_vec(line.expect("a line").to_vec())
}

/// Runs a command as it was printed. Names that are not UTF-8 are quoted for bash, not for the plain `sh`.
#[track_caller]
fn shell(command: &OsStr) -> Output {
    let output = Command::new("bash").arg("-c").arg(command).current_dir(root()).output().expect("a shell");
    assert!(output.status.success(), "{command:?}: {}", words(&output));
    output
}

#[test]
fn a_second_interruption_ends_at_once_and_in_order() {
    let dir = scratch();
    for attempt in 0..5 {
        let out = dir.path().join(attempt.to_string());
        let child = started(&mut ALL[3].command(&out), || has_records(&out));
        interrupt(&child);
        interrupt(&child);
        let output = child.wait_with_output().expect("a child");
        assert_eq!(output.status.code(), Some(5), "{:?}: {}", output.status, words(&output));
    }
}

#[test]
fn interrupted_before_the_first_item_it_goes_on_as_well() {
    let dir = scratch();
    let out = dir.path().join("run");
    let child = started(&mut ALL[3].command(&out), || out.join("run.json").exists());
    interrupt(&child);
    shell(&resume_command(child));
    assert_eq!(results(&out)["items"], 9);
}

#[test]
fn words_that_are_no_text_are_taken_and_given_back() {
    if lacks(Requirement::ByteNames) {
        return;
    }
    let dir = scratch();
    let out = dir.path().join(OsStr::from_bytes(b"a \xff run"));
    std::fs::create_dir(&out).expect("writable");
    let args = ALL[3].args(Path::new("OUT"), &[]).into_iter();
    let args = args.map(|word| if word == "OUT" { out.clone().into_os_string() } else { word.into() });
    let child = started(tokenrank().args(args), || has_records(&out));
    interrupt(&child);
    let command = resume_command(child);
    shell(&command);
    assert_eq!(results(&out)["items"], 9);
}

/// Two experiments of one command that starts over, interrupted in the first: both have been begun anew, neither is again.
#[test]
fn starting_over_is_done_once_for_all_experiments() {
    let dir = scratch();
    let text = std::fs::read_to_string(root().join(ALL[3].config)).expect("an experiment");
    let configs = ["first.toml", "second.toml"].map(|name| dir.path().join(name));
    configs.iter().for_each(|path| std::fs::write(path, &text).expect("writable"));
    let out = dir.path().join("out");
    let mut args = vec!["run", arg(&configs[0]), arg(&configs[1]), "--out", arg(&out), "--limit", "9"];
    args.extend(["--set", "task.diffseg.batch=2"]);
    run(&args, 0);
    let folders = ["first", "second"].map(|name| out.join(name));
    let before = folders.each_ref().map(|folder| results(folder));

    args.push("--fresh");
    // The second folder is cleared after the first.
    let begun = || !folders[1].join("results.json").exists() && has_records(&folders[0]);
    let child = started(tokenrank().args(&args), begun);
    interrupt(&child);
    let command = resume_command(child).into_string().expect("text");
    assert!(!command.contains("--fresh"), "{command}");
    assert!(!folders[1].join("results.json").exists(), "the second is as it was before");
    let kept = std::fs::read(folders[0].join("records.jsonl")).expect("records");
    shell(command.as_ref());
    let records = std::fs::read(folders[0].join("records.jsonl")).expect("records");
    assert!(records.starts_with(&kept), "what was kept was begun anew");
    assert_eq!(folders.each_ref().map(|folder| results(folder)), before);
}
