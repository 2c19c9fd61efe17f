//! What the tests of the binary share.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Root of the repository, where the README's commands are run.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The binary, in the root of the repository.
pub fn tokenrank() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tokenrank"));
    command.current_dir(root()).env("NO_COLOR", "1").env_remove("COLUMNS");
    command
}

/// Runs and expects this exit code; stderr is shown otherwise.
#[track_caller]
pub fn run(args: &[&str], code: i32) -> Output {
    let output = tokenrank().args(args).output().expect("the binary starts");
    assert_eq!(output.status.code(), Some(code), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

/// The words of an error, line breaks and decoration undone.
pub fn words(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    text.replace(['×', '│', '╰', '─', '▶'], " ").split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A path as an argument.
pub fn arg(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}
