//! The libtorch for the build: the one of the set-up, or the user's own.

use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::workspace::Workspace;

/// A libtorch folder (holding `lib/` and `include/`) and its owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Libtorch {
    /// `.libtorch/torch` of the repository, to which the rpath of the binaries leads.
    Ours(PathBuf),
    /// The absolute path of a folder that the user named in `LIBTORCH`.
    Users(PathBuf),
}

impl Libtorch {
    /// Returns the libtorch that the environment selects.
    pub(crate) fn chosen(workspace: &Workspace) -> Self {
        let here = env::current_dir().unwrap_or_else(|_| workspace.root.clone());
        Self::from_value(workspace, env::var_os("LIBTORCH").as_deref(), &here)
    }

    /// `.cargo/config.toml` sets `LIBTORCH` for every program that cargo runs, including this one, so only another
    /// value is the user's own.
    fn from_value(workspace: &Workspace, value: Option<&OsStr>, here: &Path) -> Self {
        let ours = workspace.libtorch_home().join("torch");
        let Some(value) = value.filter(|value| !value.is_empty()) else { return Self::Ours(ours) };
        let named = here.join(value);
        let same = match (named.canonicalize(), ours.canonicalize()) {
            (Ok(named), Ok(ours)) => named == ours,
            _ => named.components().eq(ours.components()),
        };
        if same { Self::Ours(ours) } else { Self::Users(named) }
    }

    /// The folder that holds `lib/` and `include/`.
    pub(crate) fn folder(&self) -> &Path {
        match self {
            Self::Ours(folder) | Self::Users(folder) => folder,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configured_value_is_ours_and_any_other_the_users() {
        let workspace = Workspace { root: PathBuf::from("/nowhere/tokenrank") };
        let choose = |value: Option<&str>| {
            Libtorch::from_value(&workspace, value.map(OsStr::new), Path::new("/nowhere/tokenrank/crates"))
        };
        let ours = Libtorch::Ours(PathBuf::from("/nowhere/tokenrank/.libtorch/torch"));
        assert_eq!(choose(None), ours);
        assert_eq!(choose(Some("")), ours);
        assert_eq!(choose(Some("/nowhere/tokenrank/.libtorch/torch")), ours);
        assert_eq!(choose(Some("/nowhere/tokenrank/.libtorch/torch/")), ours);
        assert_eq!(choose(Some("/opt/libtorch")), Libtorch::Users("/opt/libtorch".into()));
        assert_eq!(choose(Some("lib")), Libtorch::Users("/nowhere/tokenrank/crates/lib".into()));
    }
}
