//! The licences of everything in a bundle.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::libraries::{Libraries, file_name};
use crate::error::{Error, Result};
use crate::launch::{self, Step};
use crate::workspace::Workspace;

/// The runtime libraries of GCC.
const OF_GCC: [&str; 3] = ["libgcc_s.so.1", "libgomp.so.1", "libstdc++.so.6"];

/// Their licence: the GPL with an exception that lets any program bring them along.
const GCC_LICENCE: [(&str, &str); 2] = [
    ("GCC-exception-3.1.txt", include_str!("../../licences/GCC-exception-3.1.txt")),
    ("GPL-3.0.txt", include_str!("../../licences/GPL-3.0.txt")),
];

/// How files with licences begin, in capitals.
const NAMES: [&str; 6] = ["LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE", "UNLICENSE"];

/// Folders below that of a crate in which licences are looked for: those of libraries that it brings along.
const DEPTH: usize = 4;

/// Writes the licences of the program, of the crates it is made of and of the libraries into a folder.
///
/// # Errors
/// Fails if a library has no licence, or if a file cannot be read or written.
pub(super) fn write(workspace: &Workspace, libraries: &Libraries, folder: &Path) -> Result<()> {
    let root = &workspace.root;
    for file in ["LICENSE-APACHE", "LICENSE-MIT", "crates/plot/assets/DejaVuSans-LICENSE.txt"] {
        copy(&root.join(file), &folder.join("tokenrank"))?;
    }
    put(&folder.join("tokenrank/crates.txt"), &crates(workspace)?)?;
    let sysroot = Command::new("rustc").args(["--print", "sysroot"]).current_dir(root).output();
    let sysroot =
        sysroot.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default();
    // Not every distribution of Rust has this page; its licences are those of the crates.
    let rust = Path::new(&sysroot).join("share/doc/rust/COPYRIGHT-library.html");
    if rust.is_file() {
        copy(&rust, &folder.join("rust"))?;
    }
    for (name, path) in libraries {
        if OF_GCC.contains(&&**name) {
            GCC_LICENCE.iter().try_for_each(|(file, text)| put(&folder.join("gcc").join(file), text))?;
            continue;
        }
        let real = path.canonicalize().map_err(|error| unreadable(path, &error))?;
        let (owner, licences) = licences_of(&real).ok_or_else(|| {
            Error::missing(format!(
                "no licence is known for {}, so it cannot be handed on: put the licence of its publisher into a file LICENSE in \
                 the folder above it",
                real.display()
            ))
        })?;
        licences.iter().try_for_each(|licence| copy(licence, &folder.join(&owner)))?;
    }
    Ok(())
}

/// Finds the licences of a library: those of the Python package that owns it, of the folder above it, or of the package of the
/// Linux distribution. Returns the name of the package or folder, and the files.
fn licences_of(library: &Path) -> Option<(String, Vec<PathBuf>)> {
    let owned = library.ancestors().skip(1).find_map(|home| {
        let name = library.strip_prefix(home).ok()?.to_string_lossy().into_owned();
        packages(home).into_iter().find(|package| {
            let record = fs::read_to_string(package.join("RECORD")).unwrap_or_default();
            record.lines().any(|line| line.strip_prefix(&*name).is_some_and(|rest| rest.starts_with(',')))
        })
    });
    let above = library.parent()?.parent()?.to_owned();
    let mut found = Vec::new();
    if let Some(package) = &owned {
        find(package, DEPTH, &mut found);
    }
    if found.is_empty() {
        find(&above, 0, &mut found);
    }
    if found.is_empty() {
        return of_distribution(library);
    }
    let name = file_name(owned.as_ref().unwrap_or(&above)).trim_end_matches(".dist-info").to_owned();
    Some((name, found))
}

/// Finds the licences of a library by the package of Debian or of an RPM distribution that it belongs to.
fn of_distribution(library: &Path) -> Option<(String, Vec<PathBuf>)> {
    let says = |program: &str, args: &[&str]| {
        let output =
            Command::new(program).args(args).output().ok().filter(|output| output.status.success())?;
        Some(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    // Debian knows files by their paths before /lib became /usr/lib.
    if let Some(found) = says("dpkg-query", &["--search", &format!("*/{}", file_name(library))]) {
        let package = found.split(':').next()?.to_owned();
        let licence = Path::new("/usr/share/doc").join(&package).join("copyright");
        return licence.is_file().then(|| (package, vec![licence]));
    }
    let library = library.to_str()?;
    let package = says("rpm", &["--query", "--queryformat", "%{NAME}", "--file", library])?;
    let files = says("rpm", &["--query", "--licensefiles", "--file", library])?;
    let files: Vec<PathBuf> = files.lines().map(PathBuf::from).filter(|path| path.is_file()).collect();
    (!files.is_empty()).then_some((package, files))
}

/// The folders in which pip describes the packages that it installed.
fn packages(home: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(home).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.filter(|path| file_name(path).ends_with(".dist-info")).collect()
}

/// Finds files with licences in a folder and so many levels below it.
fn find(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) {
    let mut paths: Vec<PathBuf> =
        fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        let name = file_name(&path).to_uppercase();
        if path.is_dir() && depth > 0 {
            find(&path, depth - 1, found);
        } else if path.is_file()
            && NAMES.iter().any(|begin| name.starts_with(begin))
            && !name.ends_with(".RS")
        {
            found.push(path);
        }
    }
}

/// Returns the names of the crates that the program is made of with their licences: first a list, then every text once with
/// the crates that have it.
fn crates(workspace: &Workspace) -> Result<String> {
    let target = ["--package", "tokenrank", "--target", "x86_64-unknown-linux-gnu"];
    let tree = ["tree", "--locked", "--edges", "normal", "--prefix", "none", "--format", "{p}\t{l}"];
    let tree = output(workspace, &[&tree[..], &target].concat())?;
    let metadata = output(workspace, &["metadata", "--locked", "--format-version", "1"])?;
    // The only value of this name is the path of a package.
    let manifests = metadata.split("\"manifest_path\":\"").skip(1).filter_map(|rest| rest.split('"').next());
    let folders: BTreeMap<String, PathBuf> = manifests
        .filter_map(|path| Path::new(path).parent())
        .map(|folder| (file_name(folder), folder.to_owned()))
        .collect();
    let mut list = BTreeMap::new();
    for line in tree.lines() {
        let (package, licence) = line.split_once('\t').unwrap_or((line, ""));
        // A folder is named for crates of this repository only.
        if let [name, version, ..] = package.split_whitespace().collect::<Vec<_>>()[..]
            && !package.contains("(/")
        {
            let licence = licence.trim_end_matches(" (*)").to_owned();
            list.insert((name.to_owned(), version.trim_start_matches('v').to_owned()), licence);
        }
    }
    let mut text = format!(
        "The program is made of Rust's standard library (MIT OR Apache-2.0) and of {} crates from crates.io:\n\n",
        list.len()
    );
    let mut texts: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for ((name, version), licence) in &list {
        text += &format!("{name} {version}: {licence}\n");
        let folder =
            folders.get(&format!("{name}-{version}")).or_else(|| folders.get(name)).ok_or_else(|| {
                Error::missing(format!("cargo does not say where the sources of {name} {version} are"))
            })?;
        let mut found = Vec::new();
        find(folder, DEPTH, &mut found);
        for path in found {
            let content = fs::read(&path).map_err(|error| unreadable(&path, &error))?;
            let content = String::from_utf8_lossy(&content).replace("\r\n", "\n").trim().to_owned();
            texts.entry(content).or_default().insert(format!("{name} {version}"));
        }
    }
    for (content, of) in texts {
        let of: Vec<String> = of.into_iter().collect();
        text += &format!("\n{}\n{}\n\n{content}\n", "-".repeat(80), of.join(", "));
    }
    Ok(text)
}

/// Returns what a call of cargo prints.
fn output(workspace: &Workspace, args: &[&str]) -> Result<String> {
    let output = launch::cargo(workspace, &Step::new(args, &[])).output();
    let output = output.map_err(|error| Error::missing(format!("cargo cannot be started: {error}")))?;
    if !output.status.success() {
        let reason = String::from_utf8_lossy(&output.stderr).trim().replace('\n', " ");
        return Err(Error::missing(format!("`cargo {}` failed: {reason}", args.join(" "))));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn unreadable(path: &Path, error: &io::Error) -> Error {
    Error::missing(format!("{} cannot be read: {error}", path.display()))
}

/// Copies a file into a folder.
fn copy(file: &Path, folder: &Path) -> Result<()> {
    let text = fs::read_to_string(file).map_err(|error| unreadable(file, &error))?;
    put(&folder.join(file_name(file)), &text)
}

/// Writes a file and the folders above it.
fn put(path: &Path, text: &str) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)
        .and_then(|()| fs::write(path, text))
        .map_err(|error| Error::missing(format!("{} cannot be written: {error}", path.display())))
}
