//! `cargo xtask bench`: times our code beside its peers if a Python has them, and prints one table with the aim of each.

use std::env;
use std::path::PathBuf;
use std::process::Command;

use crate::error::{Error, Result};
use crate::launch::{self, Cargo, Step};
use crate::requirement::imports;
use crate::workspace::Workspace;

/// The example of markov-core that times λ₂ and TokenRank over a batch of heads. It needs no libtorch.
const EXAMPLE: [&str; 5] = ["--release", "--package", "markov-core", "--example", "bench_heads"];

/// The program and the examples that tools/bench.py starts. Linking the others as well would take longer than all measurements.
const PROGRAMS: [&str; 13] = [
    "build",
    "--release",
    "--workspace",
    "--bin",
    "tokenrank",
    "--example",
    "bench_heads",
    "--example",
    "bench_jpeg",
    "--example",
    "diffseg_bench",
    "--example",
    "report_bench",
];

/// Runs each benchmark in turn with its peer and prints the ratios.
const PEERS: &str = "tools/bench.py";

/// Runs all benchmarks beside their peers, or λ₂ and TokenRank alone if no Python has torch. `args` go to the program that
/// prints the result.
pub(crate) fn run(workspace: &Workspace, args: &[String]) -> Result<u8> {
    let Some(python) = python_with_torch(workspace) else {
        eprintln!(
            "peers skipped: none of TOKENRANK_PYTHON, .venv/bin/python and python3 can `import torch`; to create one, run \
             `python3 -m venv .venv && .venv/bin/pip install torch==2.11.0 transformers==5.23.0 numpy scipy pillow`"
        );
        let step = Step::new(&[&["run"], &EXAMPLE[..], &["--"]].concat(), args);
        return launch::exit_code(&mut launch::cargo(workspace, &step));
    };
    let code = Cargo::new(workspace)?.run(&Step::new(&PROGRAMS, &[]))?;
    if code != 0 {
        return Ok(code);
    }
    let mut peers = Command::new(python);
    peers.arg(PEERS).arg("--bin").arg(programs()?).args(args).current_dir(&workspace.root);
    // Another libtorch on the loader's path would be mixed with the one of this Python.
    launch::exit_code(peers.env_remove("LD_LIBRARY_PATH"))
}

/// Returns where cargo puts the programs: the build folder is the one of this program.
fn programs() -> Result<PathBuf> {
    let exe = env::current_exe()
        .map_err(|error| Error::missing(format!("cannot find the path of this program: {error}")))?;
    Ok(exe.ancestors().nth(2).unwrap_or(&exe).join("release"))
}

/// Returns the first Python that can `import torch`: the user's choice, the repository's venv, or the system's.
fn python_with_torch(workspace: &Workspace) -> Option<PathBuf> {
    let chosen = env::var_os("TOKENRANK_PYTHON").filter(|value| !value.is_empty()).map(PathBuf::from);
    let candidates =
        chosen.into_iter().chain([workspace.root.join(".venv/bin/python"), PathBuf::from("python3")]);
    candidates.into_iter().find(|python| imports(python, "torch"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRIPT: &str = include_str!("../../../tools/bench.py");

    #[test]
    fn every_program_that_the_script_starts_is_built() {
        let started: Vec<&str> = SCRIPT
            .split("{bin}/")
            .skip(1)
            .filter_map(|rest| rest.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == '/')).next())
            .collect();
        assert!(started.len() > 4, "{started:?}");
        for program in started {
            let name = program.trim_start_matches("examples/");
            assert!(PROGRAMS.contains(&name), "tools/bench.py starts {name}, which is not built");
        }
    }
}
