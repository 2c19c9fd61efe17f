//! Checks what must be installed before anything is downloaded or built.

use std::env;
use std::process::{Command, Stdio};

use crate::error::{Error, Result};
use crate::version::{WANTED, major_minor};

/// The oldest glibc on which the wheels of libtorch run (`manylinux_2_28`).
const GLIBC: (u32, u32) = (2, 28);

/// The oldest pip that knows the platform tags of the wheels.
const PIP: (u32, u32) = (20, 3);

/// The properties of a machine on which the choice of a libtorch depends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Platform<'a> {
    /// `linux`, `macos`, …
    pub os: &'a str,
    /// `x86_64`, `aarch64`, …
    pub arch: &'a str,
    /// `glibc` or `musl`; anything else counts as glibc.
    pub libc: &'a str,
    /// Version of glibc, if known.
    pub glibc: Option<(u32, u32)>,
}

impl Platform<'static> {
    /// Returns the machine on which this program runs.
    pub(crate) fn here() -> Self {
        Self {
            os: env::consts::OS,
            arch: env::consts::ARCH,
            libc: if cfg!(target_env = "musl") { "musl" } else { "glibc" },
            glibc: first_line(Command::new("getconf").arg("GNU_LIBC_VERSION"))
                .and_then(|line| major_minor(line.strip_prefix("glibc ")?)),
        }
    }
}

impl Platform<'_> {
    /// Fails on machines for which there are no wheels; the error says what to do instead.
    pub(crate) fn check(&self) -> Result<()> {
        let this = match (self.os, self.arch, self.libc, self.glibc) {
            ("linux", "x86_64", "musl", _) => "x86_64 Linux with musl".to_owned(),
            ("linux", "x86_64", _, Some((major, minor))) if (major, minor) < GLIBC => {
                format!("x86_64 Linux with glibc {major}.{minor}")
            }
            ("linux", "x86_64", _, _) => return Ok(()),
            (os, arch, _, _) => format!("{arch} {os}"),
        };
        Err(Error::missing(format!(
            "the set-up downloads libtorch only for x86_64 Linux with glibc {}.{} or newer, and this is {this}: install \
             libtorch {WANTED} yourself and set LIBTORCH to the folder that holds its lib/ and include/",
            GLIBC.0, GLIBC.1
        )))
    }
}

/// Finds a C++ compiler. Returns the value that `CXX` needs, or `None` if the default `c++` works.
pub(crate) fn cxx() -> Result<Option<&'static str>> {
    // The variables that the `cc` crate reads, in all of their spellings.
    let chosen = env::vars().any(|(name, value)| {
        (name == "CXX" || name.starts_with("CXX_") || name == "HOST_CXX") && !value.is_empty()
    });
    if chosen || answers("c++") {
        return Ok(None);
    }
    ["g++", "clang++"].into_iter().find(|name| answers(name)).map(Some).ok_or_else(|| {
        Error::missing(
            "no C++ compiler (c++, g++ or clang++) is on PATH: install one (Debian and Ubuntu: `apt install g++`, \
             Fedora: `dnf install gcc-c++`) or name it in CXX",
        )
    })
}

/// Checks that `python3 -m pip` works and is new enough.
pub(crate) fn pip() -> Result<()> {
    let Ok(python) = Command::new("python3").arg("--version").stdin(Stdio::null()).output() else {
        return Err(Error::missing(format!(
            "python3 is not on PATH; it is needed to download libtorch from the Python package registry: install it with pip (Debian \
             and Ubuntu: `apt install python3-pip`), or set LIBTORCH to a libtorch {WANTED} of your own"
        )));
    };
    if !python.status.success() {
        return Err(Error::missing(
            "python3 is on PATH but `python3 --version` fails: repair or reinstall Python",
        ));
    }
    let Some(line) = first_line(Command::new("python3").args(["-m", "pip", "--version"])) else {
        return Err(Error::missing(
            "python3 has no pip: install it (Debian and Ubuntu: `apt install python3-pip`; elsewhere: \
             `python3 -m ensurepip`)",
        ));
    };
    match line.strip_prefix("pip ").and_then(major_minor) {
        Some(version) if version < PIP => Err(Error::missing(format!(
            "pip {}.{} is too old for the wheels of libtorch, which need {}.{}: `python3 -m pip install --upgrade pip`",
            version.0, version.1, PIP.0, PIP.1
        ))),
        _ => Ok(()),
    }
}

/// Whether the program exists and prints its version.
fn answers(program: &str) -> bool {
    let mut command = Command::new(program);
    command.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Returns the first line that a program prints, if it runs and succeeds.
fn first_line(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    let text = output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())?;
    text.lines().next().map(|line| line.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVED: Platform = Platform { os: "linux", arch: "x86_64", libc: "glibc", glibc: Some((2, 36)) };

    #[test]
    fn ordinary_linux_is_served() {
        SERVED.check().unwrap();
        Platform { glibc: None, ..SERVED }.check().unwrap();
        Platform { glibc: Some(GLIBC), ..SERVED }.check().unwrap();
    }

    #[test]
    fn other_machines_are_named_and_sent_to_libtorch() {
        let others = [
            (Platform { arch: "aarch64", ..SERVED }, "aarch64 linux"),
            (Platform { os: "macos", arch: "aarch64", glibc: None, ..SERVED }, "aarch64 macos"),
            (Platform { libc: "musl", glibc: None, ..SERVED }, "musl"),
            (Platform { glibc: Some((2, 17)), ..SERVED }, "glibc 2.17"),
        ];
        for (platform, name) in others {
            let line = platform.check().unwrap_err().to_string();
            assert!(line.contains(name) && line.contains("LIBTORCH"), "{line}");
            assert!(!line.contains('\n'), "{line}");
        }
    }
}
