//! Every file below a folder, and what a killed process may leave of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::Value;

/// Files by their paths below a folder.
pub type Tree = BTreeMap<PathBuf, Vec<u8>>;

/// Reads every file below a folder, but for what the file system said of the data and what depends on the process: its memory.
pub fn tree(folder: &Path) -> Tree {
    fn walk(root: &Path, folder: &Path, found: &mut Tree) {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("readable").path();
            if path.is_dir() {
                walk(root, &path, found);
            } else if !path.ends_with("inputs.jsonl") {
                let bytes = std::fs::read(&path).expect("readable");
                let bytes = if path.ends_with("results.json") { without_memory(&bytes) } else { bytes };
                found.insert(path.strip_prefix(root).expect("below").to_owned(), bytes);
            }
        }
    }
    let mut found = Tree::new();
    walk(folder, folder, &mut found);
    found
}

fn without_memory(results: &[u8]) -> Vec<u8> {
    let mut results: Value = serde_json::from_slice(results).expect("results are whole");
    results.as_object_mut().expect("an object").remove("memory");
    results.to_string().into_bytes()
}

/// The whole chunks of records, and whether there is more behind them.
pub fn chunks(records: &[u8]) -> (BTreeSet<&[u8]>, bool) {
    let (mut whole, mut start, mut at) = (BTreeSet::new(), 0, 0);
    for line in records.split_inclusive(|&byte| byte == b'\n') {
        at += line.len();
        if line.starts_with(b"{\"segment\":") && line.ends_with(b"\n") {
            whole.insert(&records[start..at]);
            start = at;
        }
    }
    (whole, start < records.len())
}

/// Whether a path is that of a file which is not finished, and which the next process replaces or removes.
pub fn is_partial(path: &Path) -> bool {
    path.iter().any(|name| name.to_string_lossy().ends_with(".partial"))
}
