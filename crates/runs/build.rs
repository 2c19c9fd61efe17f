//! Identity of the code that a run was made with: the commit where there is one, and a hash of the sources.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};

/// What decides the numbers of a run.
const CRATES: [&str; 5] = ["markov-core", "models", "tasks", "runs", "eval"];

fn main() -> std::io::Result<()> {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut hasher = Sha256::new();
    for name in CRATES {
        let sources = crates.join(name).join("src");
        println!("cargo::rerun-if-changed={}", sources.display());
        for file in rust_files(&sources)? {
            hasher.update(fs::read(file)?);
        }
    }
    let lock = crates.join("../Cargo.lock");
    println!("cargo::rerun-if-changed={}", lock.display());
    hasher.update(fs::read(lock).unwrap_or_default());
    let digest: String = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    println!("cargo::rustc-env=TOKENRANK_SOURCES={digest}");

    // The reflog grows with every commit; HEAD itself only changes with the branch.
    let log = git(&crates, &["rev-parse", "--path-format=absolute", "--git-path", "logs/HEAD"]);
    if let Some(log) = log.filter(|log| Path::new(log).exists()) {
        println!("cargo::rerun-if-changed={log}");
    }
    let commit = git(&crates, &["rev-parse", "HEAD"]).map(|commit| {
        let sources = CRATES.map(|name| format!("{name}/src"));
        let status = ["status", "--porcelain", "--", "../Cargo.lock"].into_iter();
        let changed = git(&crates, &status.chain(sources.iter().map(String::as_str)).collect::<Vec<_>>());
        if changed.is_some_and(|files| !files.is_empty()) { format!("{commit}-dirty") } else { commit }
    });
    println!("cargo::rustc-env=TOKENRANK_COMMIT={}", commit.unwrap_or_default());
    Ok(())
}

/// What git says, `None` where there is no repository or no git.
fn git(folder: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).current_dir(folder).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn rust_files(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(rust_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
