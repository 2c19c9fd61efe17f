//! Where the repository and its build folder are.

use std::env;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// The checkout this program works on.
#[derive(Debug, Clone)]
pub struct Workspace {
    /// Repository root, absolute.
    pub root: PathBuf,
}

impl Workspace {
    /// Walks up from the current folder to the repository root.
    pub fn find() -> Result<Self> {
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

    /// The set-up's own folder: what pip installs, `torch` among it.
    pub fn libtorch_home(&self) -> PathBuf {
        self.root.join(".libtorch")
    }

    /// Cargo's build folder, as far as the environment tells.
    pub fn target(&self) -> PathBuf {
        match env::var_os("CARGO_TARGET_DIR").filter(|dir| !dir.is_empty()) {
            Some(dir) => self.root.join(dir),
            None => self.root.join("target"),
        }
    }

    /// A path for people: relative to the repository root where it lies inside.
    pub fn shown<'a>(&self, path: &'a Path) -> std::path::Display<'a> {
        path.strip_prefix(&self.root).unwrap_or(path).display()
    }
}
