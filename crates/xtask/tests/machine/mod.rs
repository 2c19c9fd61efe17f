//! A machine that lacks things, for the tests of the program: a PATH with fakes only.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

/// A checkout and a PATH of its own.
pub(crate) struct Machine {
    pub(crate) dir: TempDir,
}

pub(crate) const PIP_VERSION: &str =
    r#"if [ "$3" = --version ]; then echo "pip 24.0 from /usr/lib (python 3.11)"; exit 0; fi"#;

/// Puts a libtorch where pip was told to.
pub(crate) const INSTALL: &str = r#"
while [ "$#" -gt 0 ]; do
  if [ "$1" = --target ]; then home="$2"; fi
  if [ "$1" = --requirement ]; then wheels="$2"; fi
  shift
done
/bin/mkdir -p "$home/torch/lib" "$home/torch/include/torch/csrc/api/include/torch"
echo > "$home/torch/lib/libtorch_cpu.so"
echo > "$home/torch/include/torch/csrc/api/include/torch/torch.h"
echo "__version__ = '${FAKE_VERSION:-2.11.0+cu130}'" > "$home/torch/version.py"
case "$(/bin/cat "$wheels")" in *nvidia-cudnn*) /bin/mkdir -p "$home/nvidia/cudnn" ;; esac
echo "Successfully installed torch"
"#;

impl Machine {
    /// With a C++ compiler, and nothing else.
    pub(crate) fn new() -> Self {
        let machine = Self { dir: tempfile::tempdir().unwrap() };
        fs::create_dir_all(machine.root().join("crates/xtask")).unwrap();
        fs::write(machine.root().join("crates/xtask/Cargo.toml"), "").unwrap();
        fs::create_dir_all(machine.bin()).unwrap();
        machine.program("c++", "");
        machine
    }

    /// With a pip that goes on with `script` when asked to install.
    pub(crate) fn with_pip(script: &str) -> Self {
        let machine = Self::new();
        machine.pip(script);
        machine
    }

    pub(crate) fn pip(&self, script: &str) {
        let count = self.dir.path().join("installs");
        let script = format!(
            "if [ \"$1\" = --version ]; then echo Python 3.11.2; exit 0; fi\n{PIP_VERSION}\n\
             echo \"$@\" >> {}\n{script}",
            count.display()
        );
        self.program("python3", &script);
    }

    pub(crate) fn installs(&self) -> Vec<String> {
        let log = fs::read_to_string(self.dir.path().join("installs")).unwrap_or_default();
        log.lines().map(str::to_owned).collect()
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.dir.path().canonicalize().unwrap().join("checkout")
    }

    pub(crate) fn bin(&self) -> PathBuf {
        self.dir.path().canonicalize().unwrap().join("bin")
    }

    pub(crate) fn program(&self, name: &str, script: &str) {
        let path = self.bin().join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
        command.args(args).current_dir(self.root()).env_clear().env("PATH", self.bin());
        command.env("CARGO", self.bin().join("cargo"));
        // As cargo sets it from .cargo/config.toml.
        command.env("LIBTORCH", self.root().join(".libtorch/torch"));
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Fails with code 1 and one line, which is returned.
    pub(crate) fn refusal(&self, args: &[&str]) -> String {
        refusal(&self.run(args))
    }

    pub(crate) fn leftovers(&self) -> Vec<String> {
        let names = fs::read_dir(self.root()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with(".libtorch.partial")).collect()
    }
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

pub(crate) fn refusal(output: &Output) -> String {
    let text = stderr(output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    let lines: Vec<&str> = text.lines().filter(|line| line.starts_with("xtask: ")).collect();
    assert_eq!(lines.len(), 1, "{text}");
    assert!(text.ends_with(&format!("{}\n", lines[0])), "the reason must come last: {text}");
    lines[0].to_owned()
}

pub(crate) fn write_libtorch(folder: &Path, file: &str, version: &str) {
    for path in ["lib/libtorch_cpu.so", "include/torch/csrc/api/include/torch/torch.h"] {
        fs::create_dir_all(folder.join(path).parent().unwrap()).unwrap();
        fs::write(folder.join(path), "").unwrap();
    }
    fs::write(folder.join(file), version).unwrap();
}
