//! `cargo xtask equip` and `TOKENRANK_REQUIRE` on machines with a fake apt-get.
#![allow(clippy::unwrap_used)]
#![cfg(all(target_os = "linux", target_arch = "x86_64", target_env = "gnu"))]

mod machine;

use std::fs;
use std::process::Output;

use machine::{INSTALL, Machine, stderr};

/// Installs `faketime`, and knows no other package.
const APT: &str = r#"
echo "$@" >> "$(/usr/bin/dirname "$0")/../apt-calls"
for arg in "$@"; do
  if [ "$arg" = faketime ]; then echo > "$(/usr/bin/dirname "$0")/faketime"; fi
  if [ "$arg" = chromium ]; then echo "E: Unable to locate package" >&2; exit 100; fi
done"#;

/// Returns the names on stdout, and the file with what is lacking.
fn equip(machine: &Machine) -> (Vec<String>, String) {
    let output: Output = machine.run(&["equip"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let there = String::from_utf8(output.stdout).unwrap();
    let lacking = fs::read_to_string(machine.root().join("target/lacking.txt")).unwrap();
    (there.trim_end().split(',').map(str::to_owned).collect(), lacking)
}

fn line<'a>(lacking: &'a str, name: &str) -> &'a str {
    lacking
        .lines()
        .find(|line| line.starts_with(&format!("{name}: ")))
        .unwrap_or_else(|| panic!("{name}: {lacking}"))
}

#[test]
fn what_apt_installs_is_required_and_what_it_cannot_is_named() {
    let machine = Machine::new();
    machine.program("env", "while [ \"${1#*=}\" != \"$1\" ]; do shift; done; exec \"$@\"");
    machine.program("apt-get", APT);
    for (id, faketime, reason) in [
        ("echo 1000", false, "cannot be installed: apt-get needs root, or sudo without a password"),
        ("echo 0", true, "cannot be installed: apt-get failed, see "),
    ] {
        machine.program("id", id);
        let (there, lacking) = equip(&machine);
        assert_eq!(there.contains(&"faketime".to_owned()), faketime, "{there:?}");
        assert!(line(&lacking, "chromium").contains(reason), "{lacking}");
        assert!(!there.contains(&"chromium".to_owned()), "{there:?}");
        assert!(line(&lacking, "mount").contains("cannot be mounted"), "{lacking}");
    }
    let log = fs::read_to_string(machine.root().join("target/equip.log")).unwrap();
    assert!(log.contains("Unable to locate package"), "{log}");
    let calls = fs::read_to_string(machine.root().join("../apt-calls")).unwrap();
    assert_eq!(calls.lines().filter(|call| call.ends_with(" update")).count(), 1, "{calls}");
}

#[test]
fn without_apt_everything_that_is_lacking_is_named() {
    let machine = Machine::new();
    let (there, lacking) = equip(&machine);
    assert!(!there.contains(&"faketime".to_owned()), "{there:?}");
    assert!(
        line(&lacking, "faketime").ends_with("cannot be installed: there is no apt-get here"),
        "{lacking}"
    );
    assert!(line(&lacking, "slurm").contains("Debian packages: munge, slurmctld, "), "{lacking}");
}

#[test]
fn an_unknown_requirement_stops_the_tests_before_they_are_built() {
    let machine = Machine::with_pip(INSTALL);
    machine.program("cargo", "echo built");
    for args in [&["test"][..], &["test", "-p", "eval"]] {
        let output = machine.command(args).env("TOKENRANK_REQUIRE", "slurm,cromium").output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
        assert!(
            stderr(&output).contains("`cromium`") && stderr(&output).contains("chromium"),
            "{}",
            stderr(&output)
        );
        assert!(output.stdout.is_empty());
    }
}
