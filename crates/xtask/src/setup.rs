//! `cargo xtask setup`: puts libtorch in place, completely or not at all.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process;
use std::time::Instant;

use crate::error::{Error, Result};
use crate::libtorch::Libtorch;
use crate::needs::{self, Platform};
use crate::pip;
use crate::version::{Found, WANTED, inspect};
use crate::workspace::Workspace;

/// The result of the set-up, which a build needs.
#[derive(Debug)]
pub(crate) struct Ready {
    /// The libtorch to build against.
    pub libtorch: Libtorch,
    /// The C++ compiler to name in `CXX`; `None` if the default works.
    pub cxx: Option<&'static str>,
}

/// Makes sure that the workspace can be built: it needs a C++ compiler, and libtorch 2.11.0 in the user's `LIBTORCH` or
/// in `.libtorch`, where it is downloaded if missing. With `cuda`, `.libtorch` includes the CUDA libraries.
///
/// # Errors
/// Fails with one line that says what is missing.
pub(crate) fn ensure(workspace: &Workspace, cuda: bool) -> Result<Ready> {
    let cxx = needs::cxx()?;
    let libtorch = Libtorch::chosen(workspace);
    match &libtorch {
        Libtorch::Users(folder) => {
            let version = check_users(folder)?;
            eprintln!("libtorch {version} is in {} (LIBTORCH)", folder.display());
            if cuda {
                eprintln!("--cuda changes nothing here: LIBTORCH names a libtorch of your own");
            }
        }
        Libtorch::Ours(folder) => ensure_ours(workspace, folder, cuda)?,
    }
    Ok(Ready { libtorch, cxx })
}

/// Returns the version of the user's own libtorch. Fails if this workspace cannot be built against it.
fn check_users(folder: &Path) -> Result<String> {
    let shown = folder.display();
    let remedy = format!("name a libtorch {WANTED} or unset LIBTORCH to have one downloaded");
    match inspect(folder) {
        Found::Good(version) => Ok(version),
        Found::Wrong(version) => Err(Error::missing(format!(
            "LIBTORCH names libtorch {version} in {shown}, and this workspace needs {WANTED}: {remedy}"
        ))),
        Found::Unversioned => Err(Error::missing(format!(
            "LIBTORCH names {shown}, which has neither version.py nor build-version to tell its version: {remedy}"
        ))),
        Found::Nothing => {
            Err(Error::missing(format!("LIBTORCH names {shown}, which is not a folder: {remedy}")))
        }
        Found::Incomplete(file) => Err(Error::missing(format!(
            "LIBTORCH names {shown}, which has no {}: it must be the folder that holds lib/ and include/; {remedy}",
            file.strip_prefix(folder).unwrap_or(&file).display()
        ))),
    }
}

/// Whether `.libtorch` includes the CUDA libraries. It is always put in place completely, so checking one of them is
/// enough.
fn has_cuda(home: &Path) -> bool {
    home.join("nvidia/cudnn").is_dir()
}

fn ensure_ours(workspace: &Workspace, folder: &Path, cuda: bool) -> Result<()> {
    let home = workspace.libtorch_home();
    let complete = || matches!(inspect(folder), Found::Good(_)) && (!cuda || has_cuda(&home));
    let kind = |cuda: bool| if cuda { " with CUDA" } else { "" };
    if complete() {
        eprintln!("libtorch {WANTED}{} is in .libtorch", kind(has_cuda(&home)));
        return Ok(());
    }
    Platform::here().check()?;
    needs::pip()?;

    match inspect(folder) {
        Found::Good(_) => eprintln!("libtorch {WANTED} without CUDA is in .libtorch; it will be replaced"),
        Found::Wrong(version) => eprintln!("libtorch {version} is in .libtorch; it will be replaced"),
        Found::Unversioned | Found::Incomplete(_) => {
            eprintln!(".libtorch is incomplete; it will be replaced")
        }
        Found::Nothing => {}
    }
    let size = if cuda { "about 2.5 GB, 4.5 GB on disk" } else { "about 550 MB, 1.2 GB on disk" };
    eprintln!("downloading libtorch {WANTED}{} ({size}) ...", kind(cuda));

    let started = Instant::now();
    let staging = Staging::new(workspace)?;
    let target_dir = workspace.target();
    fs::create_dir_all(&target_dir).map_err(|error| cannot_write(&target_dir, &error))?;
    let log = target_dir.join("libtorch-setup.log");
    pip::install(&staging.home, &staging.scratch, &log, cuda)?;
    match inspect(&staging.home.join("torch")) {
        Found::Good(_) => {}
        found @ (Found::Wrong(_) | Found::Unversioned | Found::Nothing | Found::Incomplete(_)) => {
            return Err(Error::missing(format!(
                "what pip installed is not libtorch {WANTED} ({found:?}); the output of pip is in {}",
                workspace.shown(&log)
            )));
        }
    }
    // Another set-up may have finished meanwhile, and its libtorch may already be in use.
    if !complete() {
        staging.put_in_place(&home)?;
    }
    eprintln!("libtorch {WANTED}{} is in .libtorch ({:.0} s)", kind(cuda), started.elapsed().as_secs_f64());
    Ok(())
}

fn cannot_write(path: &Path, error: &io::Error) -> Error {
    Error::missing(format!("{} cannot be written: {error}", path.display()))
}

/// A folder next to `.libtorch`, on the same disk, that is renamed when it is complete and removed otherwise.
struct Staging {
    root: PathBuf,
    home: PathBuf,
    scratch: PathBuf,
}

const STAGING_PREFIX: &str = ".libtorch.partial-";

impl Staging {
    fn new(workspace: &Workspace) -> Result<Self> {
        remove_abandoned(&workspace.root);
        let root = workspace.root.join(format!("{STAGING_PREFIX}{}", process::id()));
        let staging = Self { home: root.join("home"), scratch: root.join("scratch"), root };
        for dir in [&staging.home, &staging.scratch] {
            fs::create_dir_all(dir).map_err(|error| cannot_write(dir, &error))?;
        }
        Ok(staging)
    }

    fn put_in_place(&self, home: &Path) -> Result<()> {
        if home.symlink_metadata().is_ok() {
            let old = self.root.join("old");
            fs::rename(home, &old).map_err(|error| cannot_write(home, &error))?;
        }
        fs::rename(&self.home, home).map_err(|error| cannot_write(home, &error))
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // If this fails, the next set-up removes the folder.
        let _ = fs::remove_dir_all(&self.root);
    }
}

/// Removes the folders of set-ups that were killed, that is, whose process no longer exists.
fn remove_abandoned(root: &Path) {
    let Ok(entries) = fs::read_dir(root) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.strip_prefix(STAGING_PREFIX)) else { continue };
        if !Path::new("/proc").join(pid).exists() {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
