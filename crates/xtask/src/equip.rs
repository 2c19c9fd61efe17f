//! `cargo xtask equip`: the programs that some tests need, from Debian packages.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::error::{Error, Result};
use crate::requirement::{Requirement, find};
use crate::workspace::Workspace;

/// What apt-get printed, in the build folder.
const LOG: &str = "equip.log";

/// A line for each requirement that could not be installed, in the build folder.
const LACKING: &str = "lacking.txt";

/// Options of apt-get: it asks nothing, and gives up instead of waiting for a mirror or another apt-get.
const OPTIONS: [&str; 8] = [
    "--quiet",
    "--yes",
    "-o",
    "Acquire::http::Timeout=20",
    "-o",
    "Acquire::Retries=1",
    "-o",
    "DPkg::Lock::Timeout=60",
];

/// Installs the packages of every requirement that this machine lacks, if it has apt-get and may use it. Prints the names of the
/// requirements that are there, with commas between them, and on stderr why others are not. What cannot be installed is no failure.
///
/// # Errors
/// If the build folder cannot be written.
pub(crate) fn run(workspace: &Workspace) -> Result<u8> {
    let folder = workspace.target();
    let cannot_write =
        |error: io::Error| Error::missing(format!("{} cannot be written: {error}", workspace.shown(&folder)));
    fs::create_dir_all(&folder).map_err(cannot_write)?;
    let log = folder.join(LOG);
    File::create(&log).map_err(cannot_write)?;
    let mut apt = Apt { log: &log, updated: false };
    let (mut there, mut lacking) = (Vec::new(), String::new());
    for requirement in Requirement::ALL {
        let name = requirement.name();
        let Some(reason) = requirement.missing() else {
            there.push(name);
            continue;
        };
        let packages = requirement.packages();
        if packages.is_empty() {
            lacking += &format!("{name}: {reason}\n");
        } else {
            eprintln!("equip: installing {}", packages.join(", "));
            match (apt.install(packages), requirement.missing()) {
                (Ok(()), None) => there.push(name),
                (Ok(()), Some(reason)) => lacking += &format!("{name}: was installed, but {reason}\n"),
                (Err(error), _) => {
                    lacking += &format!("{name}: {reason}, and cannot be installed: {error}\n")
                }
            }
        }
    }
    eprint!("{lacking}");
    fs::write(folder.join(LACKING), &lacking).map_err(cannot_write)?;
    // The database of advisories is fetched when it is used, which says whether it is there.
    there.retain(|name| *name != Requirement::Advisories.name());
    println!("{}", there.join(","));
    Ok(0)
}

/// The package manager.
struct Apt<'a> {
    log: &'a Path,
    updated: bool,
}

impl Apt<'_> {
    /// Installs packages. The error says why that is not possible, in half a sentence.
    fn install(&mut self, packages: &[&str]) -> std::result::Result<(), String> {
        if find("apt-get").is_none() {
            return Err("there is no apt-get here".to_owned());
        }
        let prefix = privileges().ok_or("apt-get needs root, or sudo without a password")?;
        if !self.updated {
            // Packages may be known from an earlier update.
            let _ = self.call(prefix, &["update"]);
            self.updated = true;
        }
        let install = ["install", "--no-install-recommends"];
        match self.call(prefix, &[&install, packages].concat()) {
            Ok(true) => Ok(()),
            Ok(false) => Err(format!("apt-get failed, see {}", self.log.display())),
            Err(error) => Err(format!("apt-get cannot be started: {error}")),
        }
    }

    /// Calls apt-get and keeps what it prints. Returns whether it succeeded.
    fn call(&self, prefix: &[&str], args: &[&str]) -> io::Result<bool> {
        let log = File::options().append(true).open(self.log)?;
        let start = [prefix, &["env", "DEBIAN_FRONTEND=noninteractive", "apt-get"], &OPTIONS, args].concat();
        let mut command = Command::new(start[0]);
        command.args(&start[1..]).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        Ok(command.status()?.success())
    }
}

/// Returns the words in front of a command that needs root, none if we are root; `None` if we may not become root.
fn privileges() -> Option<&'static [&'static str]> {
    let id = Command::new("id").arg("-u").stderr(Stdio::null()).output().ok()?;
    if id.stdout.trim_ascii() == b"0" {
        return Some(&[]);
    }
    let mut sudo = Command::new("sudo");
    sudo.args(["-n", "true"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    sudo.status().is_ok_and(|status| status.success()).then_some(&["sudo", "-n"])
}
