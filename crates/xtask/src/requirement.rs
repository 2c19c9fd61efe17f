//! What some tests need and a machine may lack. The names are those of `TOKENRANK_REQUIRE`.
//!
//! `crates/xtask/tests/skipped/mod.rs` includes this file in the tests of other crates, so it uses the standard library only.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The environment variable that lists what must be there: a test that lacks a listed thing fails instead of being skipped.
pub(crate) const VARIABLE: &str = "TOKENRANK_REQUIRE";

/// Stands for every requirement in `TOKENRANK_REQUIRE`.
const EVERYTHING: &str = "all";

/// Something that a test needs and a machine may lack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Requirement {
    /// The database of security advisories, which `.ci/run` checks the dependencies against.
    Advisories,
    /// A disk that takes file names which are not UTF-8.
    ByteNames,
    /// Chromium or Chrome.
    Chromium,
    /// `faketime`, which sets the clock of a process.
    Faketime,
    /// `/dev/full`.
    FullDevice,
    /// The right to mount file systems.
    Mount,
    /// A system that resets and reports the peak memory of a process.
    PeakMemory,
    /// The daemons and commands of Slurm and munge.
    Slurm,
    /// The right to start a process of another user with a limit on its threads.
    ThreadLimits,
    /// A Python with torch, transformers, diffusers, timm and pytest.
    Torch,
}

impl Requirement {
    /// Every requirement, ordered by name.
    pub(crate) const ALL: [Self; 10] = [
        Self::Advisories,
        Self::ByteNames,
        Self::Chromium,
        Self::Faketime,
        Self::FullDevice,
        Self::Mount,
        Self::PeakMemory,
        Self::Slurm,
        Self::ThreadLimits,
        Self::Torch,
    ];

    /// Returns the name in `TOKENRANK_REQUIRE`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Advisories => "advisories",
            Self::ByteNames => "byte-names",
            Self::Chromium => "chromium",
            Self::Faketime => "faketime",
            Self::FullDevice => "full-device",
            Self::Mount => "mount",
            Self::PeakMemory => "peak-memory",
            Self::Slurm => "slurm",
            Self::ThreadLimits => "thread-limits",
            Self::Torch => "torch",
        }
    }

    /// Reads a list as in `TOKENRANK_REQUIRE`: names with commas between them, or `all`.
    ///
    /// # Errors
    /// Fails if a name is unknown; the message lists the known ones.
    pub(crate) fn parse(list: &str) -> Result<Vec<Self>, String> {
        let mut found = Vec::new();
        for name in list.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            match Self::ALL.into_iter().find(|requirement| requirement.name() == name) {
                Some(requirement) => found.push(requirement),
                None if name == EVERYTHING => found.extend(Self::ALL),
                None => {
                    let known = Self::ALL.map(Self::name).join(", ");
                    return Err(format!(
                        "{VARIABLE} names `{name}`, which no test needs; the known names are {known} and {EVERYTHING}"
                    ));
                }
            }
        }
        Ok(found)
    }

    /// Reads `TOKENRANK_REQUIRE` of this process.
    ///
    /// # Errors
    /// Fails if a name in it is unknown.
    pub(crate) fn required() -> Result<Vec<Self>, String> {
        Self::parse(&std::env::var_os(VARIABLE).unwrap_or_default().to_string_lossy())
    }

    /// Returns the Debian packages that provide it; none if no package does.
    pub(crate) fn packages(self) -> &'static [&'static str] {
        match self {
            Self::Chromium => &["chromium"],
            Self::Faketime => &["faketime"],
            Self::Slurm => &["munge", "slurmctld", "slurmd", "slurm-client"],
            Self::Advisories
            | Self::ByteNames
            | Self::FullDevice
            | Self::Mount
            | Self::PeakMemory
            | Self::ThreadLimits
            | Self::Torch => &[],
        }
    }

    /// Returns why this machine lacks it; `None` if it is there.
    pub(crate) fn missing(self) -> Option<String> {
        let lacks = |is_there: bool, reason: &str| (!is_there).then(|| reason.to_owned());
        match self {
            // Only a fetch of the database can tell.
            Self::Advisories => None,
            Self::ByteNames => lacks(takes_byte_names(), "this disk takes names in UTF-8 only"),
            Self::Chromium => {
                lacks(chromium().is_some(), "no chromium or google-chrome in PATH, and CHROME is not set")
            }
            Self::Faketime => lacks(find("faketime").is_some(), "faketime is not installed"),
            Self::FullDevice => {
                lacks(File::options().write(true).open("/dev/full").is_ok(), "there is no /dev/full here")
            }
            Self::Mount => {
                lacks(mount_options().is_some(), "file systems cannot be mounted here (unshare --mount)")
            }
            Self::PeakMemory => {
                // 5 resets the peak (proc(5)).
                let reset = File::options().write(true).open("/proc/self/clear_refs");
                let resets = reset.is_ok_and(|mut file| file.write_all(b"5").is_ok());
                let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
                let reason = "this system does not let a process reset and read its peak memory";
                lacks(resets && status.contains("VmHWM:"), reason)
            }
            Self::ThreadLimits => {
                let mut limited = Command::new("setpriv");
                limited.args(["--reuid", "64321", "--clear-groups", "prlimit", "--nproc=64", "true"]);
                let status =
                    limited.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
                let reason = "threads can be limited by root with setpriv and prlimit only";
                lacks(status.is_ok_and(|status| status.success()), reason)
            }
            Self::Torch => {
                let reason = "python3, or the Python that TOKENRANK_PYTHON names, has no torch, transformers, diffusers, timm \
                              and pytest";
                lacks(imports(&python(), "torch, transformers, diffusers, timm, pytest"), reason)
            }
            Self::Slurm => {
                let programs = ["munged", "slurmctld", "slurmd", "sbatch"];
                let missing = programs.into_iter().find(|program| find(program).is_none())?;
                let packages = self.packages().join(", ");
                Some(format!("{missing} is not installed (Debian packages: {packages})"))
            }
        }
    }
}

/// Returns the Python of the user: `TOKENRANK_PYTHON`, otherwise `python3`.
pub(crate) fn python() -> PathBuf {
    let named = std::env::var_os("TOKENRANK_PYTHON").filter(|name| !name.is_empty());
    named.map_or_else(|| PathBuf::from("python3"), PathBuf::from)
}

/// Whether a Python can import modules, given with commas between them.
pub(crate) fn imports(python: &Path, modules: &str) -> bool {
    let mut command = Command::new(python);
    // Another libtorch on the loader's path would be mixed with this Python's own.
    command.arg("-c").arg(format!("import {modules}")).env_remove("LD_LIBRARY_PATH").stdin(Stdio::null());
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// Finds Chromium or Chrome: the environment variable `CHROME`, otherwise the search path.
pub(crate) fn chromium() -> Option<PathBuf> {
    let named = std::env::var_os("CHROME").map(PathBuf::from);
    let names = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
    named.or_else(|| names.into_iter().find_map(find))
}

/// Finds a program in the search path, or in the folders of daemons, which are not in everybody's path.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(system).map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// Returns the options with which `unshare` lets a process mount file systems of its own; `None` if nothing does.
pub(crate) fn mount_options() -> Option<&'static [&'static str]> {
    let ways: [&[&str]; 2] = [&["--mount"], &["--user", "--map-root-user", "--mount"]];
    ways.into_iter().find(|options| {
        let mut unshare = Command::new("unshare");
        unshare.args(*options).args(["sh", "-ec", "mount -t tmpfs tmpfs /mnt"]);
        let status = unshare.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    })
}

/// Whether the folder of temporary files takes a name that is not UTF-8.
#[cfg(unix)]
fn takes_byte_names() -> bool {
    use std::os::unix::ffi::OsStringExt;
    let mut name = format!("tokenrank-{}-", std::process::id()).into_bytes();
    name.push(0xff);
    let folder = std::env::temp_dir().join(std::ffi::OsString::from_vec(name));
    let made = std::fs::create_dir_all(&folder);
    // It is empty, and nobody looks at it.
    let _ = std::fs::remove_dir(&folder);
    made.is_ok()
}

#[cfg(not(unix))]
fn takes_byte_names() -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_requirements_are_read_and_unknown_names_refused() {
        assert_eq!(Requirement::parse(""), Ok(Vec::new()));
        assert_eq!(Requirement::parse("slurm, mount,"), Ok(vec![Requirement::Slurm, Requirement::Mount]));
        assert_eq!(Requirement::parse("all"), Ok(Requirement::ALL.to_vec()));
        for misspelt in ["cromium", "slurm mount", "Slurm", "slurm,none"] {
            let message = Requirement::parse(misspelt).unwrap_err();
            for name in Requirement::ALL.map(Requirement::name) {
                assert!(message.contains(name), "{message}");
            }
        }
    }
}
