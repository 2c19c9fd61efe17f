//! A test that lacks a program is skipped and says so, or fails where `TOKENRANK_REQUIRE` names the program. Each case runs a test
//! of this binary in a process of its own that finds other programs.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

/// Runs one test of this binary, with the programs of these folders only.
fn run_test(test: &str, path: &str, require: &str) -> Output {
    let binary = std::env::current_exe().expect("this binary");
    let mut command = Command::new(binary);
    command.args(["--exact", test]).env("PATH", path).env("TOKENRANK_REQUIRE", require);
    command.env_remove("CHROME").output().expect("this binary starts")
}

fn text(output: &Output) -> String {
    let text = [&output.stdout[..], b"\n", &output.stderr].concat();
    String::from_utf8(text).expect("text")
}

#[test]
fn what_a_test_lacks_is_a_skip_or_a_failure() {
    const BROWSER: &str = "show::the_page_opens_without_a_word_on_the_console";
    const CLOCK: &str = "faults::a_process_with_an_earlier_clock_resumes";
    const DISK: &str = "faults::a_full_or_read_only_disk_is_said_and_costs_nothing";
    let none = tempfile::tempdir().expect("a scratch folder");
    for (test, require, passes, says) in [
        (
            BROWSER,
            "",
            true,
            "skipped: show::the_page_opens_without_a_word_on_the_console: chromium: no chromium",
        ),
        (
            CLOCK,
            "chromium,slurm",
            true,
            "skipped: faults::a_process_with_an_earlier_clock_resumes: faketime: ",
        ),
        (DISK, "faketime", true, "mount: file systems cannot be mounted here"),
        (BROWSER, "slurm,chromium", false, "TOKENRANK_REQUIRE requires chromium: no chromium"),
        (CLOCK, "faketime", false, "TOKENRANK_REQUIRE requires faketime: "),
        (DISK, "all", false, "TOKENRANK_REQUIRE requires mount: "),
        (CLOCK, "cromium", false, "names `cromium`, which no test needs; the known names are advisories, "),
    ] {
        let output = run_test(test, none.path().to_str().expect("text"), require);
        let text = text(&output);
        assert!(text.contains("running 1 test\n"), "{test}: {text}");
        assert!(output.status.success() == passes && text.contains(says), "{test}, {require}: {text}");
    }
}

#[test]
fn a_slurm_that_is_installed_but_does_not_start_is_a_failure() {
    let fakes = tempfile::tempdir().expect("a scratch folder");
    for program in ["munged", "slurmctld", "slurmd", "sbatch"] {
        write_program(&fakes.path().join(program), "echo 'munged: no entropy' >&2; exit 7");
    }
    let path = std::env::var("PATH").expect("PATH");
    let output = run_test("slurm::on_a_real_cluster", &format!("{}:{path}", fakes.path().display()), "");
    let text = text(&output);
    assert!(!output.status.success(), "{text}");
    for words in
        ["Slurm is installed but does not start", "munged ended with exit status: 7", "munged: no entropy"]
    {
        assert!(text.contains(words), "{text}");
    }
}

fn write_program(path: &Path, script: &str) {
    std::fs::write(path, format!("#!/bin/sh\n{script}\n")).expect("written");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("permitted");
}
