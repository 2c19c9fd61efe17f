//! The corpus of experiment files, and damaged copies of it, as in `crates/tasks/tests/hostile.rs`.

#[path = "../../../fuzz/src/experiment.rs"]
mod experiment;
#[path = "../../../fuzz/src/mutate.rs"]
mod mutate;

use std::fs;
use std::path::Path;

use eval::Experiment;

const MUTATIONS: u64 = 40;

#[test]
fn experiment_files_are_read_or_refused() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/experiment");
    let entries = fs::read_dir(folder).expect("the corpus");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("readable").path()).collect();
    paths.sort();
    let files: Vec<Vec<u8>> = paths.iter().map(|path| fs::read(path).expect("readable")).collect();
    let mutations = std::env::var("TOKENRANK_MUTATIONS").ok().and_then(|text| text.parse().ok());
    let mut number = 0;
    for (index, bytes) in files.iter().enumerate() {
        experiment::experiment(bytes);
        for _ in 0..mutations.unwrap_or(MUTATIONS) {
            number += 1;
            let damaged = mutate::mutated(bytes, &files[(index + 1) % files.len()], number);
            let read = std::panic::catch_unwind(|| experiment::experiment(&damaged));
            assert!(read.is_ok(), "copy {number} panics:\n{}", String::from_utf8_lossy(&damaged));
        }
    }
}

/// Depth and size that would exhaust the stack or the memory of a reader that trusts them.
#[test]
fn bombs_are_refused() {
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
