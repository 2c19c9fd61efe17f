//! The bundle of `cargo xtask dist` in a root folder that has glibc and nothing else.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::browser::skipped::{Requirement, lacks, mount_options};
use crate::common::{arg, root, scratch, words};

/// The libraries of glibc that bundled ones need, with the loader.
const GLIBC: [&str; 8] = [
    "ld-linux-x86-64.so.2",
    "libc.so.6",
    "libdl.so.2",
    "libm.so.6",
    "libmvec.so.1",
    "libpthread.so.0",
    "librt.so.1",
    "libutil.so.1",
];

/// Calls `cargo xtask dist` with the program under test instead of one it builds.
fn dist(out: &Path, more: &[&str]) -> Output {
    let program = Path::new(env!("CARGO_BIN_EXE_tokenrank"));
    let mut dist = Command::new(program.with_file_name("xtask"));
    dist.args(["dist", "--binary", arg(program), "--no-archive", "--out", arg(out)]).args(more);
    dist.current_dir(root()).output().expect("xtask is built with the tests of the workspace")
}

/// A root folder in which programs run.
struct Root<'a>(&'a Path);

impl Root<'_> {
    /// Puts glibc where the loader looks for it.
    fn fill(&self) {
        for name in GLIBC {
            let folders = ["/lib64", "/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/lib/x86_64-linux-gnu"];
            for folder in folders.map(Path::new).into_iter().filter(|folder| folder.join(name).exists()) {
                let copy = self.0.join(folder.strip_prefix("/").expect("absolute"));
                std::fs::create_dir_all(&copy).expect("writable");
                std::fs::copy(folder.join(name), copy.join(name)).expect("copied");
            }
        }
        for folder in ["proc", "tmp"] {
            std::fs::create_dir_all(self.0.join(folder)).expect("writable");
        }
    }

    /// Runs a program in this root and expects success. Its environment is empty.
    #[track_caller]
    fn run(&self, args: &[&str]) -> String {
        let options = mount_options().expect("file systems can be mounted");
        // Where a new /proc is not allowed, the program does without.
        let script = "mount -t proc proc \"$1/proc\" 2>/dev/null || true; exec env -i HOME=/tmp \"$(command -v chroot)\" \"$@\"";
        let mut command = Command::new("unshare");
        command.args(options).args(["--pid", "--fork", "sh", "-c", script, "sh", arg(self.0)]).args(args);
        let output = command.output().expect("unshare starts");
        assert!(output.status.success(), "{args:?}: {}", words(&output));
        String::from_utf8(output.stdout).expect("text")
    }
}

#[test]
fn the_bundle_runs_where_there_is_glibc_only() {
    if lacks(Requirement::Mount) {
        return;
    }
    let dir = scratch();
    let folder = dir.path().join("opt");
    let made = dist(&folder, &[]);
    assert!(made.status.success(), "{}", words(&made));
    let bundle = PathBuf::from(String::from_utf8(made.stdout).expect("text").trim());
    let name = bundle.file_name().expect("a name").to_string_lossy().into_owned();
    assert!(name.starts_with("tokenrank-") && name.ends_with("-x86_64-linux"), "{name}");

    let there = Root(dir.path());
    there.fill();
    let program = format!("/opt/{name}/tokenrank");
    assert!(there.run(&[&program, "ls"]).contains("paper/masking-vit"));
    assert!(
        there.run(&[&program, "ls", "--show", "paper/masking-vit"]).contains("google/vit-base-patch16-224")
    );
    let told = there.run(&[&program, "doctor"]);
    assert!(told.contains("compute    works"), "{told}");
    assert!(!told.contains("2.11.0") || told.contains(&format!("in /opt/{name}")), "{told}");
    symlink(bundle.join("datasets").strip_prefix(dir.path()).expect("below"), dir.path().join("datasets"))
        .expect("writable");
    let table = there.run(&[&program, "run", "mini/masking-vit", "--limit", "8", "--out", "/tmp/run"]);
    assert!(table.contains("TokenRank"), "{table}");
    assert!(dir.path().join("tmp/run/results.json").exists());

    for file in [
        "README.md",
        "SHA256SUMS",
        "licences/gcc/GCC-exception-3.1.txt",
        "licences/tokenrank/LICENSE-MIT",
        "licences/tokenrank/crates.txt",
        "share/bash-completion/completions/tokenrank",
        "share/man/man1/tokenrank-run.1",
    ] {
        assert!(bundle.join(file).metadata().is_ok_and(|file| file.len() > 0), "{file}");
    }
    let crates = std::fs::read_to_string(bundle.join("licences/tokenrank/crates.txt")).expect("a list");
    for line in ["\nclap ", "\ntch ", "\nring ", "Permission is hereby granted"] {
        assert!(crates.contains(line), "{line}");
    }

    // A bundle is replaced, a folder with something else is not.
    let again = dist(&folder, &[]);
    assert!(again.status.success(), "{}", words(&again));
    std::fs::write(bundle.join("results.txt"), "mine").expect("writable");
    let refused = dist(&folder, &[]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(words(&refused).contains("has results.txt, which no bundle has"), "{}", words(&refused));
    assert_eq!(std::fs::read_to_string(bundle.join("results.txt")).expect("kept"), "mine");
    let left: Vec<_> =
        std::fs::read_dir(&folder).expect("a folder").flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(left, [name.as_str()]);
}
