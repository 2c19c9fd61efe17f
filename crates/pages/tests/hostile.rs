//! Reads the corpus of experiments and files of runs, and damaged copies of it, as in `crates/tasks/tests/hostile.rs`.
#![allow(unreachable_pub)]

#[path = "../../../fuzz/src/eval_targets.rs"]
mod eval_targets;
#[path = "../../../fuzz/src/mutate.rs"]
mod mutate;

use std::fs;
use std::path::Path;

use eval::Experiment;

const MUTATIONS: u64 = 40;

fn run(target: &str) {
    let read = eval_targets::eval_target(target).expect("a target of that name");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let entries = fs::read_dir(folder).expect("the corpus");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("readable").path()).collect();
    paths.sort();
    let files: Vec<Vec<u8>> = paths.iter().map(|path| fs::read(path).expect("readable")).collect();
    let mutations = std::env::var("TOKENRANK_MUTATIONS").ok().and_then(|text| text.parse().ok());
    let mut number = 0;
    for (index, (path, bytes)) in paths.iter().zip(&files).enumerate() {
        let whole = std::panic::catch_unwind(|| read(bytes));
        assert!(whole.is_ok(), "{} makes {target} panic", path.display());
        for _ in 0..mutations.unwrap_or(MUTATIONS) {
            number += 1;
            let damaged = mutate::mutated(bytes, &files[(index + 1) % files.len()], number);
            let read = std::panic::catch_unwind(|| read(&damaged));
            assert!(
                read.is_ok(),
                "copy {number} makes {target} panic:\n{}",
                String::from_utf8_lossy(&damaged)
            );
        }
    }
}

#[test]
fn arguments_are_read_or_refused() {
    run("arguments");
}

#[test]
fn baselines_are_read_or_refused() {
    run("baseline");
}

#[test]
fn experiment_files_are_read_or_refused() {
    run("experiment");
}

#[test]
fn folders_of_runs_are_read_or_refused() {
    run("run_folder");
}

#[test]
fn lists_of_inputs_are_read_or_refused() {
    run("inputs");
}

#[test]
fn statistics_of_references_are_read_or_refused() {
    run("statistics");
}

/// Most of the parsing comes after the checks of the headers, so seeds that fail these checks would test little.
#[test]
fn seeds_of_runs_and_baselines_are_read() {
    let seed = |name: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(name);
        fs::read(path).expect("readable")
    };
    for name in ["masking", "failed", "segment", "guidance", "diffseg"] {
        let folder = eval_targets::run_laid_out(&seed(&format!("run_folder/{name}"))).expect("few scenes");
        let report = pages::report(folder.path(), None);
        assert!(report.is_ok(), "{name}: {report:?}");
        let runs = eval::compare::read_runs(folder.path());
        assert!(runs.is_ok(), "{name}: {runs:?}");
    }
    let folder = tempfile::tempdir().expect("a scratch folder");
    let path = folder.path().join("baseline.json");
    fs::write(&path, seed("baseline/whole")).expect("writable");
    assert!(eval::compare::Baseline::read(&path).expect("whole").is_some());
}

/// Depth and size that would exhaust the stack or the memory of a reader without limits.
#[test]
fn too_deep_and_too_large_files_are_refused() {
    let deep = 200_000;
    for (text, word) in [
        (format!("x = {}", "[".repeat(deep)), "recurs"),
        (format!("x = {}", "{a=".repeat(deep)), "recurs"),
        (format!("{} = 1", vec!["a"; deep].join(".")), "recurs"),
        (format!("[{}]", vec!["a"; deep].join(".")), "recurs"),
        ("# ".repeat(1 << 20), "1048576"),
        ("x = \"".to_owned() + &"a".repeat(1 << 19), "line 1"),
    ] {
        let dir = tempfile::tempdir().expect("a scratch folder");
        let path = dir.path().join("bomb.toml");
        fs::write(&path, &text).expect("writable");
        let message = Experiment::read(&path, &[]).expect_err("accepted").to_string();
        assert!(message.contains(word) && message.contains("bomb.toml"), "{:.300}", message);
    }
}
