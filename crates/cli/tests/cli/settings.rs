//! Attacks: experiment files and settings that are wrong, absurd or made to do harm. Each is refused in one paragraph with exit
//! code 2, by `validate` and by `run`, before anything is written.
//!
//! A line of [`FILES`] or [`SETS`] is an attack.

use std::fs;

use crate::common::{arg, root, run, scratch, words};

/// What is made of the text of an experiment.
type Edit = fn(&str) -> Vec<u8>;

/// Name, what is made of the miniature's masking experiment, and words of the message.
const FILES: [(&str, Edit, &str); 14] = [
    ("empty", |_| Vec::new(), "missing field"),
    ("no text", |_| b"\xff\xfe\x00".to_vec(), "UTF-8"),
    ("not TOML", |text| format!("{text}\n[[[").into_bytes(), "TOML"),
    (
        "cut in the middle of a string",
        |text| text[..text.find("random").expect("a method") + 3].into(),
        "TOML",
    ),
    ("an unknown table", |text| format!("{text}\n[surprise]\nx = 1\n").into_bytes(), "surprise"),
    ("an unknown key", |text| text.replace("alpha", "alhpa").into_bytes(), "alhpa"),
    ("a key twice", |text| text.replace("alpha = 0.99", "alpha = 0.99\nalpha = 0.9").into_bytes(), "alpha"),
    (
        "two tasks",
        |text| format!("{text}\n[task.kept]\nmethods = [\"tokenrank\"]\n").into_bytes(),
        "more than 1 element",
    ),
    (
        "two data sets",
        |text| format!("{text}\n[dataset.folder]\nroot = \"x\"\n").into_bytes(),
        "more than 1 element",
    ),
    ("a text for a number", |text| text.replace("alpha = 0.99", "alpha = \"0.99\"").into_bytes(), "alpha"),
    ("not a number", |text| text.replace("alpha = 0.99", "alpha = nan").into_bytes(), "task.masking.alpha"),
    (
        "deeper than any parser should follow",
        |_| [b"a = ".to_vec(), b"[".repeat(100_000)].concat(),
        "experiment",
    ),
    ("longer than any experiment", |text| text.repeat(2_000).into_bytes(), "experiment"),
    ("steers the terminal", |text| format!("\u{1b}[2J = 1\n{text}").into_bytes(), "experiment"),
];

/// Assignments of `--set` and words of the message.
const SETS: [(&str, &str); 23] = [
    ("", "--set"),
    ("=", "--set"),
    ("task", "--set"),
    ("task.masking.alpha", "--set"),
    ("task..alpha=1", "--set"),
    ("task.masking.alpha=", "alpha"),
    ("task.masking.alpha=inf", "task.masking.alpha"),
    ("task.masking.alpha=-0.1", "task.masking.alpha"),
    ("task.masking.alpha=1e999", "alpha"),
    ("task.masking.batch=0", "task.masking.batch"),
    ("task.masking.batch=-1", "batch"),
    ("task.masking.batch=99999999999999999999", "batch"),
    ("task.masking.methods=[]", "task.masking.methods"),
    ("task.masking.fractions=[2.0]", "a fraction must lie in [0, 1]"),
    ("task.masking.fractions=[0.0, 1.0]", "below 1 for the mechanism `remove`"),
    ("task.masking.mechanism=melt", "melt"),
    ("task.masking.mechanism={ pixels = \"pink\" }", "pink"),
    ("task.masking.mechanism=mask-token", "task.masking.mechanism"),
    ("task.masking.direction=up", "up"),
    ("task.masking.methods.tokenrnk.weight=lambda2", "no method `tokenrnk`"),
    ("task.masking.methods.tokenrank=1", "methods.NAME.SETTING"),
    ("dataset.mini.count=18446744073709551615", "count"),
    ("model.path=/dev/null", "/dev/null"),
];

#[test]
fn experiment_files_that_are_wrong_are_refused_before_anything_is_written() {
    let text = fs::read_to_string(root().join("configs/mini/masking-vit.toml")).expect("an experiment");
    let dir = scratch();
    for (name, edit, expected) in FILES {
        let path = dir.path().join("attack.toml");
        fs::write(&path, edit(&text)).expect("writable");
        refused(name, &["validate", arg(&path)], 2, expected);
        let out = dir.path().join("run");
        refused(name, &["run", arg(&path), "--out", arg(&out)], 2, expected);
        assert!(!out.exists(), "{name}: something was written");
    }
}

#[test]
fn assignments_that_are_wrong_are_refused_before_anything_is_written() {
    let dir = scratch();
    let out = dir.path().join("run");
    for (set, expected) in SETS {
        // A folder without a model is missing data, not a wrong setting.
        let code = if set.starts_with("model.path") { 3 } else { 2 };
        let args = ["run", "configs/mini/masking-vit.toml", "--out", arg(&out), "--set", set];
        refused(set, &args, code, expected);
        assert!(!out.exists(), "{set}: something was written");
    }
}

#[track_caller]
fn refused(name: &str, args: &[&str], code: i32, expected: &str) {
    let output = run(args, code);
    let told = words(&output);
    assert!(told.contains(expected), "{name}: {told}");
    assert!(told.len() < 2_000, "{name}: {} bytes", told.len());
    assert!(!output.stderr.contains(&0x1b) && !told.contains("panicked"), "{name}: {told}");
}
