//! `cargo xtask bench`: times our code, and SciPy and torch for comparison if a Python has them.

use std::env;
use std::path::PathBuf;
use std::process::Command;

use crate::error::{Error, Result};
use crate::launch::{self, Step};
use crate::requirement::imports;
use crate::workspace::Workspace;

/// The example of markov-core that times λ₂ and TokenRank over a batch of heads. It needs no libtorch.
const EXAMPLE: [&str; 5] = ["--release", "--package", "markov-core", "--example", "bench_heads"];

/// Times the same computations in SciPy and torch, in turn with the example on the same matrices, and prints the ratios.
const PEER: &str = "tools/bench_peer.py";

/// Runs the benchmark, and its peers for comparison if a Python has torch. `args` go to the program that prints the result.
pub(crate) fn run(workspace: &Workspace, args: &[String]) -> Result<u8> {
    let Some(python) = python_with_torch(workspace) else {
        eprintln!(
            "torch skipped: none of TOKENRANK_PYTHON, .venv/bin/python and python3 can `import torch`; \
             to create one, run `python3 -m venv .venv && .venv/bin/pip install torch==2.11.0 numpy scipy`"
        );
        let step = Step::new(&[&["run"], &EXAMPLE[..], &["--"]].concat(), args);
        return launch::exit_code(&mut launch::cargo(workspace, &step));
    };
    let code = launch::exit_code(&mut launch::cargo(
        workspace,
        &Step::new(&[&["build"], &EXAMPLE[..]].concat(), &[]),
    ))?;
    if code != 0 {
        return Ok(code);
    }
    let mut peer = Command::new(python);
    peer.arg(PEER).arg("--ours").arg(example()?).args(args).current_dir(&workspace.root);
    // Another libtorch on the loader's path would be mixed with the one of this Python.
    launch::exit_code(peer.env_remove("LD_LIBRARY_PATH"))
}

/// Returns where cargo puts the example: the build folder is the one of this program.
fn example() -> Result<PathBuf> {
    let exe = env::current_exe()
        .map_err(|error| Error::missing(format!("cannot find the path of this program: {error}")))?;
    let target = exe.ancestors().nth(2).unwrap_or(&exe);
    Ok(target.join("release/examples").join(format!("bench_heads{}", env::consts::EXE_SUFFIX)))
}

/// Returns the first Python that can `import torch`: the user's choice, the repository's venv, or the system's.
fn python_with_torch(workspace: &Workspace) -> Option<PathBuf> {
    let chosen = env::var_os("TOKENRANK_PYTHON").filter(|value| !value.is_empty()).map(PathBuf::from);
    let candidates =
        chosen.into_iter().chain([workspace.root.join(".venv/bin/python"), PathBuf::from("python3")]);
    candidates.into_iter().find(|python| imports(python, "torch"))
}
