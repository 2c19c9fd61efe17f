//! `cargo xtask`: set-up, demo, tests and benchmarks of the workspace.
//!
//! It needs only Rust, a C++ compiler and python3 with pip, and reports what is missing in one line.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod bench;
mod circles;
mod dist;
mod elf;
mod equip;
mod error;
mod launch;
mod libtorch;
mod needs;
mod outcome;
mod pip;
mod requirement;
mod setup;
mod suite;
mod version;
mod wheel;
mod workspace;

use std::process::ExitCode;

use error::{Error, Result};
use workspace::Workspace;

const USAGE: &str = "\
Set-up, demo, tests and benchmarks of the workspace.

Usage: cargo xtask <COMMAND>

Commands:
  setup [--cuda]    put libtorch 2.11.0 into .libtorch, or check the one that LIBTORCH names;
                    --cuda includes the CUDA libraries (about 5 GB on disk instead of 1.2 GB)
  demo [--full] [ARGS]
                    set up if needed, then the masking table on the miniatures, `tokenrank run` with ARGS; --full
                    runs the other three experiments as well
  test [ARGS]       set up if needed, then run every test, documentation tests included, two test binaries at a
                    time; `-- FILTER` selects tests by name, other ARGS go to `cargo test`, which runs them itself
  bench [ARGS]      if TOKENRANK_PYTHON, .venv/bin/python or python3 can `import torch`, time our programs beside their
                    peers and print one table with the aim of each, by tools/bench.py with ARGS; otherwise time λ₂
                    and TokenRank over a batch of heads alone
  dist [--cuda] [--out DIR] [--profile NAME | --binary FILE] [--no-archive]
                    build the program and make a folder and an archive of it with the libraries it needs, licences,
                    completions and manual pages: tokenrank-VERSION-x86_64-linux in target/dist or DIR. It runs on
                    any x86-64 Linux with a glibc as new as here. --cuda takes the CUDA libraries along, --binary
                    takes a program that is built already
  wheel [--out DIR] [--profile NAME] [--test [ARGS]]
                    build the Python package: a wheel and a source distribution in target/wheels or DIR. --test runs
                    its tests on the wheel, with ARGS of pytest: with numpy alone and, if TOKENRANK_PYTHON or python3
                    has torch, transformers, diffusers and timm, with these
  equip             install the programs that some tests need (Chromium, Slurm, faketime) with apt-get, where it may;
                    prints what is there, as a value for TOKENRANK_REQUIRE
  circles           list import circles between the files of each crate; fails if there is a new one

Environment:
  LIBTORCH          a libtorch 2.11.0 of your own: the folder that holds lib/ and include/
  TOKENRANK_REQUIRE what tests must not lack, for example `chromium,slurm`, or `all`: a test that would be skipped
                    because of it fails
";

/// The task that the command line asks for.
#[derive(Debug, PartialEq, Eq)]
enum Task {
    Help,
    Setup { cuda: bool },
    Demo { full: bool, args: Vec<String> },
    Test { args: Vec<String> },
    Bench { args: Vec<String> },
    Dist(dist::Options),
    Wheel(wheel::Options),
    Equip,
    Circles,
}

fn parse(args: &[String]) -> Result<Task> {
    let Some((command, rest)) = args.split_first() else { return Ok(Task::Help) };
    let help = rest.iter().take_while(|arg| *arg != "--").any(|arg| arg == "--help" || arg == "-h");
    match command.as_str() {
        "help" | "--help" | "-h" => Ok(Task::Help),
        "setup" | "demo" | "test" | "bench" | "dist" | "wheel" | "equip" | "circles" if help => {
            Ok(Task::Help)
        }
        "setup" => {
            let mut cuda = false;
            for arg in rest {
                match arg.as_str() {
                    "--cuda" => cuda = true,
                    other => return Err(Error::usage(format!("`setup` takes --cuda only, not `{other}`"))),
                }
            }
            Ok(Task::Setup { cuda })
        }
        "demo" => {
            let (full, args): (Vec<String>, _) = rest.iter().cloned().partition(|arg| arg == "--full");
            Ok(Task::Demo { full: !full.is_empty(), args })
        }
        "test" => Ok(Task::Test { args: rest.to_vec() }),
        "bench" => Ok(Task::Bench { args: rest.to_vec() }),
        "dist" => dist::Options::parse(rest).map(Task::Dist),
        "wheel" => wheel::Options::parse(rest).map(Task::Wheel),
        "equip" if rest.is_empty() => Ok(Task::Equip),
        "circles" if rest.is_empty() => Ok(Task::Circles),
        "equip" | "circles" => Err(Error::usage(format!("`{command}` takes no arguments"))),
        other => Err(Error::usage(format!(
            "unknown command `{other}`; the commands are setup, demo, test, bench, dist, wheel, equip and circles"
        ))),
    }
}

/// Runs the task and returns the exit code of the process.
fn run(task: Task) -> Result<u8> {
    if task == Task::Help {
        print!("{USAGE}");
        return Ok(0);
    }
    let workspace = Workspace::find()?;
    match task {
        Task::Help => Ok(0),
        Task::Setup { cuda } => setup::ensure(&workspace, cuda).map(|_| 0),
        Task::Demo { full, args } => {
            launch::Cargo::new(&workspace)?.run(&launch::demo(&workspace, full, &args)?)
        }
        Task::Test { args } => {
            requirement::Requirement::required().map_err(Error::usage)?;
            let cargo = launch::Cargo::new(&workspace)?;
            match args.split_first() {
                None => suite::run(&workspace, &cargo, &[]),
                Some((dashes, of_tests)) if dashes == "--" => suite::run(&workspace, &cargo, of_tests),
                Some(_) => cargo.run(&launch::test(&args)),
            }
        }
        Task::Bench { args } => bench::run(&workspace, &args),
        Task::Dist(options) => dist::run(&workspace, &options),
        Task::Wheel(options) => wheel::run(&workspace, &options),
        Task::Equip => equip::run(&workspace),
        Task::Circles => circles::run(&workspace),
    }
}

fn main() -> ExitCode {
    let args: Vec<String> =
        std::env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned()).collect();
    match parse(&args).and_then(run) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("xtask: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn commands_are_told_apart() {
        assert_eq!(parse(&[]).unwrap(), Task::Help);
        assert_eq!(parse(&words("--help")).unwrap(), Task::Help);
        assert_eq!(parse(&words("setup")).unwrap(), Task::Setup { cuda: false });
        assert_eq!(parse(&words("setup --cuda")).unwrap(), Task::Setup { cuda: true });
        assert_eq!(parse(&words("test -- power")).unwrap(), Task::Test { args: words("-- power") });
        let demo = |full| Task::Demo { full, args: words("--limit 4") };
        assert_eq!(parse(&words("demo --limit 4")).unwrap(), demo(false));
        assert_eq!(parse(&words("demo --limit --full 4")).unwrap(), demo(true));
    }

    #[test]
    fn help_is_ours_before_the_double_dash_only() {
        assert_eq!(parse(&words("test --help")).unwrap(), Task::Help);
        assert_eq!(parse(&words("test -- --help")).unwrap(), Task::Test { args: words("-- --help") });
    }

    #[test]
    fn unknown_commands_and_options_are_usage_errors() {
        for line in ["frobnicate", "setup --gpu", "setup --cuda now", "dist --gpu", "dist --out"] {
            assert_eq!(parse(&words(line)).unwrap_err().exit_code(), 2, "{line}");
        }
    }
}
