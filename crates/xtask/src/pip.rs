//! Installs wheels with pip: the command, its log, and the meaning of its errors.

use std::fs::{self, File};
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::version::WANTED;

/// The wheels of libtorch with their versions and hashes, as pip reads them.
const CPU_WHEELS: &str = include_str!("../wheels/cpu.txt");
const CUDA_WHEELS: &str = include_str!("../wheels/cuda.txt");

/// Returns the arguments with which `python3` installs the wheels that a requirements file lists into `target`. pip
/// refuses a wheel whose hash is not the listed one.
///
/// The tags of the wheels are given explicitly rather than taken from the Python that runs pip: the C++ libraries are
/// identical in every wheel, so any python3 will do.
pub(crate) fn install_args(target: &Path, requirements: &Path) -> Vec<String> {
    let mut args: Vec<String> =
        ["-m", "pip", "install", "--no-compile", "--no-input", "--progress-bar", "off"]
            .map(str::to_owned)
            .into();
    args.extend(
        ["--only-binary", ":all:", "--implementation", "cp", "--python-version", "3.12"].map(str::to_owned),
    );
    args.extend(["--abi", "cp312"].map(str::to_owned));
    // pip matches platform tags literally, so every older glibc that a wheel may name is listed.
    args.extend(
        (5..=28).rev().flat_map(|minor| ["--platform".to_owned(), format!("manylinux_2_{minor}_x86_64")]),
    );
    args.extend(["--platform", "manylinux2014_x86_64", "--target"].map(str::to_owned));
    args.push(target.to_string_lossy().into_owned());
    // The file lists everything that libtorch loads.
    args.extend(["--no-deps", "--require-hashes", "--requirement"].map(str::to_owned));
    args.push(requirements.to_string_lossy().into_owned());
    args
}

/// Runs pip to install into `target`. Its temporary files go to `scratch`, its output to `log`.
///
/// # Errors
/// Fails with one line that gives the reason, derived from pip's output if it is a known one.
pub(crate) fn install(target: &Path, scratch: &Path, log: &Path, cuda: bool) -> Result<()> {
    let unwritable =
        |error: io::Error| Error::missing(format!("{} cannot be written: {error}", log.display()));
    let requirements = scratch.join(if cuda { "cuda.txt" } else { "cpu.txt" });
    fs::write(&requirements, if cuda { CUDA_WHEELS } else { CPU_WHEELS })
        .map_err(|error| Error::missing(format!("{} cannot be written: {error}", requirements.display())))?;
    let out = File::create(log).map_err(unwritable)?;
    let err = out.try_clone().map_err(unwritable)?;
    let mut child = Command::new("python3")
        .args(install_args(target, &requirements))
        // The unpacked wheel takes 1.2 GB: a small /tmp could not hold it, and moving it from there would be a copy.
        .env("TMPDIR", scratch)
        .env("PIP_DISABLE_PIP_VERSION_CHECK", "1")
        .env("PIP_ROOT_USER_ACTION", "ignore")
        // Settings of the user's pip that would contradict --target.
        .env("PIP_USER", "0")
        .env("PIP_REQUIRE_VIRTUALENV", "0")
        .env_remove("PIP_PREFIX")
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(err)
        .spawn()
        .map_err(|error| Error::missing(format!("python3 cannot be started: {error}")))?;

    let watched = io::stderr().is_terminal();
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) => thread::sleep(Duration::from_millis(200)),
            Err(error) => return Err(Error::missing(format!("cannot wait for pip: {error}"))),
        }
        if watched {
            let megabytes = (size(target) + size(scratch)) / 1_000_000;
            eprint!("\r  {megabytes:>5} MB on disk");
            thread::sleep(Duration::from_millis(800));
        }
    };
    if watched {
        eprint!("\r{:18}\r", "");
        // It does not matter if the line cannot be erased.
        let _ = io::stderr().flush();
    }
    if status.success() {
        return Ok(());
    }
    let text = fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    Err(Error::missing(format!("{} (output of pip: {})", diagnose(&text), log.display())))
}

/// Returns what went wrong in a failed pip run, and what to do.
fn diagnose(log: &str) -> String {
    let says = |needles: &[&str]| needles.iter().any(|needle| log.contains(needle));
    if says(&["No space left on device", "Errno 28", "Disk quota exceeded", "Errno 122"]) {
        return "the disk is full: free about 2 GB (7 GB with --cuda) where the repository is and try again"
            .to_owned();
    }
    if let Some(wheel) = other_hash(log) {
        return format!(
            "{wheel} is not the published wheel, since its hash differs from the one in crates/xtask/wheels, and nothing was \
             installed: do not trust the package registry or mirror that pip is set up for, or name another one in \
             PIP_INDEX_URL; if pip's cache is damaged, run `python3 -m pip cache purge`"
        );
    }
    if says(&["CERTIFICATE_VERIFY_FAILED", "SSLError", "SSL module is not available"]) {
        return "the Python package registry's certificate cannot be checked: set PIP_CERT to the network's own \
                certificates or PIP_INDEX_URL to its mirror"
            .to_owned();
    }
    let offline = [
        "Failed to establish a new connection",
        "NewConnectionError",
        "Temporary failure in name resolution",
        "Name or service not known",
        "NameResolutionError",
        "ConnectTimeoutError",
        "ReadTimeoutError",
        "Network is unreachable",
        "ProxyError",
        "Connection aborted",
        "Connection broken",
        "Max retries exceeded",
    ];
    if says(&offline) {
        return format!(
            "no network: the Python package registry cannot be reached; connect, set PIP_INDEX_URL to a mirror, or set \
             LIBTORCH to a libtorch {WANTED} of your own"
        );
    }
    if says(&["No matching distribution found"]) {
        return format!(
            "the Python package registry pip is set up for does not offer the wheels of torch {WANTED}, or cannot be \
             reached: set PIP_INDEX_URL to one that does, or LIBTORCH to a libtorch {WANTED} of your own"
        );
    }
    let last = log.lines().rev().map(str::trim).find(|line| !line.is_empty() && !line.starts_with("WARNING"));
    format!("pip failed: {}", last.unwrap_or("it printed nothing"))
}

/// Returns the requirement whose wheel has another hash than the listed one, if that is why pip failed.
fn other_hash(log: &str) -> Option<&str> {
    // pip goes on with lines such as `    torch==2.11.0 from https://… (from -r FILE (line 8)):`.
    let (_, after) = log.split_once("DO NOT MATCH THE HASHES")?;
    let requirement = after.lines().find(|line| line.starts_with("    ") && line.trim_end().ends_with(':'));
    Some(requirement.and_then(|line| line.split_whitespace().next()).unwrap_or("a wheel"))
}

/// Returns the total size of the files under a folder; files that vanish meanwhile count as 0.
fn size(dir: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(dir) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(meta) if meta.is_dir() => size(&entry.path()),
            Ok(meta) => meta.len(),
            Err(_) => 0,
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_wheel_has_a_version_and_a_hash() {
        for (wheels, count) in [(CPU_WHEELS, 3), (CUDA_WHEELS, 16)] {
            let text = wheels.replace("\\\n", " ");
            let lines: Vec<&str> =
                text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
            assert_eq!(lines.len(), count, "{text}");
            for line in lines {
                let (requirement, hash) = line.split_once(" --hash=sha256:").expect(line);
                let (name, version) = requirement.trim().split_once("==").expect(line);
                assert!(hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()), "{line}");
                assert!(name != "torch" || version == WANTED, "{line}");
            }
        }
    }

    #[test]
    fn pip_checks_the_hashes_of_exactly_these_wheels() {
        let args = install_args(Path::new("/there"), Path::new("/scratch/cpu.txt"));
        let end =
            ["--target", "/there", "--no-deps", "--require-hashes", "--requirement", "/scratch/cpu.txt"];
        assert!(args.ends_with(&end.map(str::to_owned)), "{args:?}");
        assert!(args.contains(&"manylinux_2_28_x86_64".to_owned()));
    }

    #[test]
    fn errors_of_pip_become_one_line() {
        let refused = "WARNING: Retrying (Retry(total=4, …)) after connection broken by 'NewConnectionError(…: Failed \
                       to establish a new connection: [Errno 111] Connection refused')': /simple/torch/\nERROR: No \
                       matching distribution found for torch==2.11.0\n";
        let cases = [
            (refused, "no network"),
            (
                "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device\n",
                "disk is full",
            ),
            ("ERROR: No matching distribution found for torch==2.11.0\n", "does not offer"),
            ("SSLError(SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED]", "certificate"),
            (
                "Collecting torch\nERROR: the moon is full\nWARNING: upgrade\n\n",
                "pip failed: ERROR: the moon is full",
            ),
            (
                "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE. If you have updated the package \
                 versions, please update the hashes. Otherwise, examine the package contents carefully; someone may have \
                 tampered with them.\n    torch==2.11.0 from https://mirror/torch.whl (from -r cpu.txt (line 7)):\n        \
                 Expected sha256 0f68\n             Got        1f68\n",
                "torch==2.11.0 is not the published wheel",
            ),
            ("", "printed nothing"),
        ];
        for (log, expected) in cases {
            let line = diagnose(log);
            assert!(line.contains(expected) && !line.contains('\n'), "{line}");
        }
    }
}
