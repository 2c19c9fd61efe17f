//! What the tests of the paper's experiments share.

use std::path::Path;
use std::process::Output;

use crate::common::{tokenrank, words};

/// `validate` with an empty cache of checkpoints.
pub fn validate(config: &str, sets: &[String], code: i32) -> Output {
    let home = tempfile::tempdir().expect("a scratch folder");
    let mut command = tokenrank();
    for name in ["HF_HUB_CACHE", "HF_HUB_OFFLINE", "HF_TOKEN_PATH"] {
        command.env_remove(name);
    }
    command.args(["validate", config]).env("HF_HOME", home.path());
    for set in sets {
        command.args(["--set", set]);
    }
    let output = command.output().expect("the binary starts");
    assert_eq!(output.status.code(), Some(code), "{config}: {}", words(&output));
    output
}

/// Writes a file and the folders above it.
pub fn put(dir: &Path, name: &str, content: impl AsRef<[u8]>) {
    let path = dir.join(name);
    std::fs::create_dir_all(path.parent().expect("a parent")).expect("writable");
    std::fs::write(path, content).expect("writable");
}
