//! The four experiments in miniature, small enough to be run hundreds of times.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use crate::common::{arg, run, tokenrank};

/// An experiment and what makes it small.
#[derive(Debug)]
pub struct Small {
    pub task: &'static str,
    pub config: &'static str,
    sets: &'static [&'static str],
    limit: usize,
}

/// Every task, in four to six batches.
pub const ALL: [Small; 4] = [
    Small {
        task: "masking",
        config: "configs/mini/masking-vit.toml",
        sets: &["task.masking.batch=5", "task.masking.fractions={ from = 0.0, to = 0.9, step = 0.3 }"],
        limit: 27,
    },
    Small { task: "segment", config: "configs/mini/segment.toml", sets: &["task.segment.batch=2"], limit: 9 },
    Small {
        task: "guidance",
        config: "configs/mini/guidance.toml",
        sets: &[
            "task.guidance.count=9",
            "task.guidance.steps=2",
            "task.guidance.batch=2",
            "task.guidance.figures=2",
            "dataset.mini.count=24",
            "metrics.splits=2",
            "metrics.kernel={ subsets = 5, subset_size = 6 }",
            "metrics.resamples=8",
        ],
        limit: 9,
    },
    Small { task: "diffseg", config: "configs/mini/diffseg.toml", sets: &["task.diffseg.batch=2"], limit: 9 },
];

impl Small {
    /// Arguments of `tokenrank run`.
    pub fn args<'a>(&self, out: &'a Path, more: &[&'a str]) -> Vec<String> {
        let mut args = vec!["run".to_owned(), self.config.into(), "--out".into(), arg(out).into()];
        args.extend(["--limit".to_owned(), self.limit.to_string()]);
        args.extend(self.sets.iter().flat_map(|set| ["--set".to_owned(), (*set).to_owned()]));
        args.extend(more.iter().map(|&word| word.to_owned()));
        args
    }

    /// Runs it and expects this exit code.
    #[track_caller]
    pub fn run(&self, out: &Path, more: &[&str], code: i32) -> Output {
        let args = self.args(out, more);
        run(&args.iter().map(String::as_str).collect::<Vec<_>>(), code)
    }

    /// The command, not started yet.
    pub fn command(&self, out: &Path) -> Command {
        let mut command = tokenrank();
        command.args(self.args(out, &[]));
        command
    }
}

/// What the system sends to a process whose file would grow beyond its limit.
pub const SIGXFSZ: i32 = 25;

/// The same command in a process that ends, by [`SIGXFSZ`], in the middle of the write with which a file would grow beyond so
/// many blocks of 512 bytes; what fits is written.
pub fn limited(command: &Command, blocks: usize) -> Command {
    let mut limited = Command::new("sh");
    limited.args(["-c", &format!("ulimit -c 0 && ulimit -f {blocks} && exec \"$@\""), "sh"]);
    limited.arg(command.get_program()).args(command.get_args());
    limited.current_dir(command.get_current_dir().unwrap_or(Path::new(".")));
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => limited.env(name, value),
            None => limited.env_remove(name),
        };
    }
    limited
}

/// The content of `results.json`, but for what depends on the process: its memory.
pub fn results(out: &Path) -> Value {
    let text = std::fs::read_to_string(out.join("results.json")).expect("results");
    let mut results: Value = serde_json::from_str(&text).expect("JSON");
    results.as_object_mut().expect("an object").remove("memory");
    results
}

/// Every other file that a finished run leaves, by its path in the folder; shards are left out, and what the file system said of
/// the data.
pub fn files(out: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    fn walk(root: &Path, folder: &Path, found: &mut BTreeMap<PathBuf, Vec<u8>>) {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("readable").path();
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            if path.is_dir() && !name.starts_with("shard-") {
                walk(root, &path, found);
            } else if path.is_file() && !["results.json", "inputs.jsonl"].contains(&&*name) {
                let relative = path.strip_prefix(root).expect("below").to_owned();
                found.insert(relative, std::fs::read(&path).expect("readable"));
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(out, out, &mut found);
    found
}

/// Segments of `records.jsonl` by first item; panics at anything else in the file.
pub fn segments(bytes: &[u8]) -> BTreeMap<u64, Vec<u8>> {
    let (mut found, mut open) = (BTreeMap::new(), Vec::new());
    for line in bytes.split_inclusive(|&byte| byte == b'\n') {
        open.extend_from_slice(line);
        let value: Value = serde_json::from_slice(line).expect("a line of JSON");
        if let Some(first) = value["segment"]["first"].as_u64() {
            found.insert(first, std::mem::take(&mut open));
        }
    }
    assert!(open.is_empty(), "a torn segment is left");
    found
}

/// Whether two finished runs left the same: every file byte for byte (segments in any order), results but for memory.
#[track_caller]
pub fn assert_same(a: &Path, b: &Path) {
    assert_eq!(results(a), results(b), "{} and {}", a.display(), b.display());
    let (mut a, mut b) = (files(a), files(b));
    let records = Path::new("records.jsonl");
    let [of_a, of_b] = [&mut a, &mut b].map(|files| segments(&files.remove(records).expect("records")));
    assert_eq!(of_a, of_b, "records");
    assert!(a.keys().eq(b.keys()), "{:?} and {:?}", a.keys(), b.keys());
    for (name, bytes) in &a {
        assert!(bytes == &b[name], "{} differs", name.display());
    }
}
