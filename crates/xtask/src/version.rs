//! Reads the version of a libtorch folder from the files of its two distributions.

use std::fs;
use std::path::{Path, PathBuf};

/// The libtorch this workspace is built against (`tch` 0.24 pins it).
pub(crate) const WANTED: &str = "2.11.0";

/// The content of a folder.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// The wanted version, with its local suffix (`2.11.0+cu130`).
    Good(String),
    /// Another version.
    Wrong(String),
    /// The library, but neither `version.py` nor `build-version` gives its version.
    Unversioned,
    /// The folder does not exist.
    Nothing,
    /// The folder lacks this file.
    Incomplete(PathBuf),
}

/// Inspects a libtorch folder: a pip package (`torch/`, with `version.py`) or an unpacked zip (with `build-version`).
pub(crate) fn inspect(libtorch: &Path) -> Found {
    if !libtorch.is_dir() {
        return Found::Nothing;
    }
    let library = libtorch.join("lib").join(library_name());
    for needed in [library, libtorch.join("include/torch/csrc/api/include/torch/torch.h")] {
        if !needed.exists() {
            return Found::Incomplete(needed);
        }
    }
    let read = |name: &str| fs::read_to_string(libtorch.join(name)).ok();
    let version = read("version.py")
        .as_deref()
        .and_then(of_version_py)
        .or_else(|| read("build-version").map(|text| text.trim().to_owned()).filter(|text| !text.is_empty()));
    match version {
        Some(version) if release(&version) == WANTED => Found::Good(version),
        Some(version) => Found::Wrong(version),
        None => Found::Unversioned,
    }
}

/// Returns the name of `libtorch_cpu.so` on this platform.
pub(crate) fn library_name() -> String {
    format!("{}torch_cpu{}", std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX)
}

/// Returns the value of `__version__ = '…'` in `torch/version.py`.
fn of_version_py(text: &str) -> Option<String> {
    let line = text.lines().find_map(|line| line.strip_prefix("__version__"))?;
    let value = line.trim_start().strip_prefix('=')?.trim();
    let value = value.trim_matches(['\'', '"']);
    (!value.is_empty()).then(|| value.to_owned())
}

/// Returns a version without its local suffix: `2.11.0` for `2.11.0+cu130`.
fn release(version: &str) -> &str {
    version.split_once('+').map_or(version, |(release, _)| release)
}

/// Returns the leading numbers of a dotted version: `(23, 2)` for `23.2.1`, `(20, 3)` for `20.3b1`.
pub(crate) fn major_minor(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.split('.').map(|part| {
        let digits = part.len() - part.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        part[..digits].parse::<u32>().ok()
    });
    let major = numbers.next()??;
    Some((major, numbers.next().flatten().unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_py_is_read() {
        let text = "from typing import Optional\n\n__all__ = ['__version__', 'cuda']\n__version__ = '2.11.0+cu130'\n";
        assert_eq!(of_version_py(text).as_deref(), Some("2.11.0+cu130"));
        assert_eq!(of_version_py("__version__=\"2.11.0\"").as_deref(), Some("2.11.0"));
        assert_eq!(of_version_py("__version__ = ''"), None);
        assert_eq!(of_version_py("debug = False"), None);
    }

    #[test]
    fn the_local_suffix_is_ignored() {
        for good in ["2.11.0", "2.11.0+cu130", "2.11.0+cpu"] {
            assert_eq!(release(good), WANTED, "{good}");
        }
        for wrong in ["2.11.1", "2.11.0a0+git1234", "2.1.0", "12.11.0", "2.11"] {
            assert_ne!(release(wrong), WANTED, "{wrong}");
        }
    }

    #[test]
    fn numbers_of_versions() {
        assert_eq!(major_minor("23.2.1"), Some((23, 2)));
        assert_eq!(major_minor("20.3b1"), Some((20, 3)));
        assert_eq!(major_minor("9"), Some((9, 0)));
        assert_eq!(major_minor("git"), None);
    }

    #[test]
    fn incomplete_folders_are_recognised() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("torch");
        assert_eq!(inspect(&home), Found::Nothing);
        fs::create_dir_all(home.join("lib")).unwrap();
        let library = home.join("lib").join(library_name());
        assert_eq!(inspect(&home), Found::Incomplete(library.clone()));
        fs::write(&library, "").unwrap();
        let header = home.join("include/torch/csrc/api/include/torch/torch.h");
        assert_eq!(inspect(&home), Found::Incomplete(header.clone()));
        fs::create_dir_all(header.parent().unwrap()).unwrap();
        fs::write(&header, "").unwrap();
        assert_eq!(inspect(&home), Found::Unversioned);
        fs::write(home.join("build-version"), "2.11.0+cpu\n").unwrap();
        assert_eq!(inspect(&home), Found::Good("2.11.0+cpu".into()));
        fs::write(home.join("version.py"), "__version__ = '2.12.0'\n").unwrap();
        assert_eq!(inspect(&home), Found::Wrong("2.12.0".into()));
    }
}
