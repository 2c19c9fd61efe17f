//! The locations of the repository and its build folder.

use std::env;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// The checkout on which this program works.
#[derive(Debug, Clone)]
pub(crate) struct Workspace {
    /// Repository root, absolute.
    pub root: PathBuf,
}

impl Workspace {
    /// Finds the repository root, starting at the current folder and going up.
    pub(crate) fn find() -> Result<Self> {
        let here = env::current_dir()
            .and_then(|dir| dir.canonicalize())
            .map_err(|error| Error::missing(format!("the current folder cannot be read: {error}")))?;
        match here.ancestors().find(|dir| dir.join("crates/xtask/Cargo.toml").is_file()) {
            Some(root) => Ok(Self { root: root.to_owned() }),
            None => Err(Error::missing(format!(
                "{} is not inside a checkout of tokenrank: run `cargo xtask` from one",
                here.display()
            ))),
        }
    }

    /// The folder of the set-up, with everything that pip installs, including `torch`.
    pub(crate) fn libtorch_home(&self) -> PathBuf {
        self.root.join(".libtorch")
    }

    /// The build folder of cargo, as far as the environment tells.
    pub(crate) fn target(&self) -> PathBuf {
        match env::var_os("CARGO_TARGET_DIR").filter(|dir| !dir.is_empty()) {
            Some(dir) => self.root.join(dir),
            None => self.root.join("target"),
        }
    }

    /// Returns a path for messages: relative to the repository root if it lies inside.
    pub(crate) fn shown<'a>(&self, path: &'a Path) -> std::path::Display<'a> {
        path.strip_prefix(&self.root).unwrap_or(path).display()
    }
}
