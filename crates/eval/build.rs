//! Writes the list of the texts of the repository that the program carries, for `src/embedded.rs`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

/// The texts: paths in the repository, where `*` stands for any characters of one name.
const TEXTS: [&str; 8] = [
    "LICENSE-*",
    "configs/*.json",
    "configs/*.toml",
    "configs/*/*.toml",
    "configs/*/*/*.toml",
    "crates/plot/assets/*-LICENSE.txt",
    "datasets/*/*.toml",
    "eval/tables/*.toml",
];

/// Folders in which a new file is noticed. Others may hold millions of files, which cargo would look at in every build.
const WATCHED: [&str; 4] = ["configs", "configs/mini/ablations", "configs/paper/ablations", "eval/tables"];

fn main() -> io::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize()?;
    let mut files = Vec::new();
    for pattern in TEXTS {
        find(&root, pattern, &mut files)?;
    }
    files.sort();
    let mut list = "&[\n".to_owned();
    for path in &files {
        println!("cargo::rerun-if-changed={}", path.display());
        let name = path.strip_prefix(&root).map_err(io::Error::other)?;
        writeln!(list, "    Text {{ name: {name:?}, text: include_str!({path:?}) }},")
            .map_err(io::Error::other)?;
    }
    list.push_str("]\n");
    for folder in WATCHED {
        println!("cargo::rerun-if-changed={}", root.join(folder).display());
    }
    let out = env::var_os("OUT_DIR").ok_or_else(|| io::Error::other("cargo sets OUT_DIR"))?;
    fs::write(Path::new(&out).join("embedded.rs"), list)
}

/// Adds the files below a folder that a pattern names.
fn find(folder: &Path, pattern: &str, files: &mut Vec<PathBuf>) -> io::Result<()> {
    let (first, rest) = match pattern.split_once('/') {
        Some((first, rest)) => (first, Some(rest)),
        None => (pattern, None),
    };
    let (begin, end) = first.split_once('*').unwrap_or((first, ""));
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let fits = match first.contains('*') {
            true => name.starts_with(begin) && name.ends_with(end) && name.len() >= begin.len() + end.len(),
            false => name == first,
        };
        match rest {
            Some(rest) if fits && path.is_dir() => find(&path, rest, files)?,
            None if fits && path.is_file() => files.push(path),
            Some(_) | None => {}
        }
    }
    Ok(())
}
