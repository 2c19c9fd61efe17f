//! The shared libraries of a bundle, found by what each of them needs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::elf::Dynamic;
use crate::error::{Error, Result};

/// Libraries of the machine on which the bundle runs: glibc, which fits its kernel and settings, and the driver of the GPU.
const OF_THE_MACHINE: [&str; 11] = [
    "ld-linux-x86-64.so.2",
    "libc.so.6",
    "libcuda.so.1",
    "libdl.so.2",
    "libm.so.6",
    "libmvec.so.1",
    "libnvidia-ml.so.1",
    "libpthread.so.0",
    "libresolv.so.2",
    "librt.so.1",
    "libutil.so.1",
];

/// Folders in which Linux distributions keep their libraries.
const OF_THE_SYSTEM: [&str; 5] =
    ["/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib64", "/usr/lib64", "/usr/lib"];

/// The libraries that libtorch opens for a GPU while it runs; nothing names them as needed.
const CUDA: [&str; 2] = ["libtorch_cuda.so", "libcaffe2_nvrtc.so"];

/// The libraries of a bundle: the names by which they are needed, and their files.
pub(crate) type Libraries = BTreeMap<String, PathBuf>;

/// Finds all libraries that a program needs, directly or through others, except those of the machine. With `cuda`, also those
/// that are opened for a GPU. `libtorch` is the folder of its libraries.
///
/// # Errors
/// Fails with the names of all that are missing.
pub(crate) fn needed(program: &Path, libtorch: &Path, cuda: bool) -> Result<Libraries> {
    let mut found = Libraries::new();
    let mut missing = add(vec![program.to_owned()], libtorch, &mut found)?;
    if cuda {
        for name in CUDA {
            let path = libtorch.join(name);
            if path.is_file() {
                found.insert(name.to_owned(), path.clone());
                missing.extend(add(vec![path], libtorch, &mut found)?);
            } else {
                missing.insert(name.to_owned());
            }
        }
    }
    if !missing.is_empty() {
        let missing: Vec<String> = missing.into_iter().collect();
        let remedy = if cuda { ": `cargo xtask setup --cuda` downloads the libraries of CUDA" } else { "" };
        return Err(Error::missing(format!("libraries are missing: {}{remedy}", missing.join(", "))));
    }
    if cuda {
        for (name, path) in parts(&found) {
            let mut more = found.clone();
            more.insert(name.clone(), path.clone());
            match add(vec![path], libtorch, &mut more)? {
                missing if missing.is_empty() => found = more,
                // The library does without, as libcufile does without InfiniBand.
                missing => eprintln!("{name} is left out, since it needs {missing:?}"),
            }
        }
    }
    Ok(found)
}

/// Adds what these files need, directly or through others. Returns what is missing.
fn add(mut open: Vec<PathBuf>, libtorch: &Path, found: &mut Libraries) -> Result<BTreeSet<String>> {
    let mut missing = BTreeSet::new();
    while let Some(path) = open.pop() {
        let dynamic = Dynamic::read(&path)?;
        for name in dynamic.needed {
            if found.contains_key(&name) || OF_THE_MACHINE.contains(&&*name) {
                continue;
            }
            match find(&name, &path, &dynamic.search, libtorch) {
                Some(path) => {
                    open.push(path.clone());
                    found.insert(name, path);
                }
                None => _ = missing.insert(format!("{name} (needed by {})", file_name(&path))),
            }
        }
    }
    Ok(missing)
}

/// The files next to libraries that these open while they run: `libcudnn_ops.so.9` is a part of `libcudnn.so.9`,
/// `libnvrtc-builtins.so.13.0` of `libnvrtc.so.13`.
fn parts(found: &Libraries) -> Libraries {
    let mut parts = Libraries::new();
    for (name, path) in found {
        let stem = name.split(".so").next().unwrap_or(name);
        for entry in
            path.parent().and_then(|folder| fs::read_dir(folder).ok()).into_iter().flatten().flatten()
        {
            let part = file_name(&entry.path());
            let rest = part.strip_prefix(stem).filter(|rest| rest.starts_with(['_', '-']));
            if rest.is_some_and(|rest| rest.contains(".so")) && !found.contains_key(&part) {
                parts.insert(part, entry.path());
            }
        }
    }
    parts
}

/// Finds a library where the loader would, or next to libtorch.
fn find(name: &str, from: &Path, search: &[String], libtorch: &Path) -> Option<PathBuf> {
    let real = from.canonicalize().ok()?;
    let origin = real.parent()?.to_string_lossy().into_owned();
    let search = search.iter().map(|folder| PathBuf::from(folder.replace("$ORIGIN", &origin)));
    let folders = std::iter::once(libtorch.to_owned()).chain(search).chain(OF_THE_SYSTEM.map(PathBuf::from));
    folders.map(|folder| folder.join(name)).find(|path| path.is_file())
}

pub(super) fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
