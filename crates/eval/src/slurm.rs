//! A run on a Slurm cluster: the scripts of a job array, a task for each shard, and of a merge behind it.
//!
//! Text only: nothing here asks a cluster anything but [`submit`]. The scripts rest on what a run promises: SIGTERM ends it after
//! the batch in flight with exit code 5, and the same command goes on from there.

mod quote;
mod script;

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::files::write_whole;

/// What can go wrong on the way to a cluster.
#[derive(Debug, thiserror::Error)]
pub enum SlurmError {
    /// Something that cannot stand in a script.
    #[error("{what} `{value}` {reason}")]
    Text {
        /// Which option or path.
        what: &'static str,
        /// As given.
        value: String,
        /// What is wrong and what to do.
        reason: &'static str,
    },
    /// A folder or script that cannot be written.
    #[error(transparent)]
    File(#[from] crate::Error),
    /// Slurm did not take the jobs.
    #[error("cannot submit with `sh {}`: {reason}", script.display())]
    Submit {
        /// The script.
        script: PathBuf,
        /// What the system or Slurm says.
        reason: String,
    },
}

/// What a task of the array, and the merge, ask of the cluster. What is not given is left to the cluster's defaults.
#[derive(Debug, Clone, Default)]
pub struct Resources {
    /// `--partition`.
    pub partition: Option<String>,
    /// `--account`.
    pub account: Option<String>,
    /// `--time`, in any form that Slurm reads: minutes, `HH:MM:SS`, `D-HH`.
    pub time: Option<String>,
    /// `--cpus-per-task`.
    pub cpus: Option<NonZeroUsize>,
    /// `--mem` of a node: `16G`.
    pub memory: Option<String>,
    /// One GPU, of this type where there is a choice.
    pub gpu: Option<Gpu>,
}

/// One GPU of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gpu {
    /// Whatever there is.
    Any,
    /// `a100`, as the cluster calls it.
    Type(String),
}

impl std::str::FromStr for Gpu {
    type Err = String;

    /// `1` or `a100:1`: a shard computes on one GPU.
    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, count) = text.rsplit_once(':').map_or((None, text), |(kind, count)| (Some(kind), count));
        let plain = |kind: &&str| {
            !kind.is_empty() && kind.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
        };
        match (kind, count) {
            (None, "1") => Ok(Self::Any),
            (Some(kind), "1") if plain(&kind) => Ok(Self::Type(kind.into())),
            (_, count) if count.parse::<u32>().is_ok_and(|count| count > 1) => {
                Err("a shard computes on one GPU: ask for --gpus 1 and for more shards".into())
            }
            _ => Err("expected 1, or a type and 1 as in a100:1".into()),
        }
    }
}

/// A run as a job array with a merge behind it.
#[derive(Debug, Clone)]
pub struct ArrayJob {
    /// Name of the job, as `squeue` shows it.
    pub name: String,
    /// The `tokenrank` that the nodes run; absolute.
    pub program: PathBuf,
    /// Where it is started: relative paths in experiments start there. Absolute.
    pub directory: PathBuf,
    /// Experiment files; absolute.
    pub configs: Vec<PathBuf>,
    /// `--set` assignments.
    pub assignments: Vec<String>,
    /// Only the first items of the manifest.
    pub limit: Option<usize>,
    /// Folder of the run, or of the runs of several experiments; absolute.
    pub out: PathBuf,
    /// Tasks of the array.
    pub shards: NonZeroUsize,
    /// How many of them may run at a time.
    pub max_running: Option<NonZeroUsize>,
    /// What each asks of the cluster.
    pub resources: Resources,
    /// Seconds before the time limit at which a task is told to finish its batch.
    pub grace: u32,
    /// How often a task that met its time limit queues again.
    pub max_requeues: u32,
    /// `#SBATCH` options of both scripts, verbatim.
    pub sbatch: Vec<String>,
    /// `#SBATCH` options of the merge alone, verbatim, after the others.
    pub merge_sbatch: Vec<String>,
    /// Whether an experiment is a sweep, whose table is made of merged runs.
    pub sweep: bool,
    /// Shell lines before `tokenrank`: `module load cuda`.
    pub prologue: Vec<String>,
    /// Where scripts and logs go; absolute.
    pub folder: PathBuf,
}

/// The text of the three scripts.
#[derive(Debug, Clone)]
pub struct Scripts {
    /// The array.
    pub array: String,
    /// The merge.
    pub merge: String,
    /// What submits both.
    pub submit: String,
}

impl ArrayJob {
    /// The scripts.
    ///
    /// # Errors
    /// A path or an option that no script can hold.
    pub fn scripts(&self) -> Result<Scripts, SlurmError> {
        Ok(Scripts {
            array: script::array(self)?,
            merge: script::merge(self)?,
            submit: script::submit(&self.file("array.sbatch"), &self.file("merge.sbatch"))?,
        })
    }

    /// Writes `array.sbatch`, `merge.sbatch`, `submit.sh` and an empty `logs/`, and returns the path of `submit.sh`.
    ///
    /// # Errors
    /// As [`scripts`](Self::scripts); or a file cannot be written.
    pub fn write(&self) -> Result<PathBuf, SlurmError> {
        let scripts = self.scripts()?;
        let logs = self.file("logs");
        std::fs::create_dir_all(&logs).map_err(crate::Error::file("create", &logs))?;
        write_whole(&self.file("array.sbatch"), scripts.array.as_bytes())?;
        write_whole(&self.file("merge.sbatch"), scripts.merge.as_bytes())?;
        let submit = self.file("submit.sh");
        write_whole(&submit, scripts.submit.as_bytes())?;
        Ok(submit)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

/// How a person types the command that submits.
///
/// # Errors
/// A path that no command line can hold.
pub fn submit_command(script: &Path) -> Result<String, SlurmError> {
    Ok(format!("sh {}", quote::shell_path("the folder of the scripts", script)?))
}

/// Runs `submit.sh`; returns what it prints, the numbers of both jobs.
///
/// # Errors
/// There is no `sbatch` here, or it refuses.
pub fn submit(script: &Path) -> Result<String, SlurmError> {
    let refuse = |reason: String| SlurmError::Submit { script: script.into(), reason };
    let output = Command::new("sh").arg(script).stdin(Stdio::null()).output();
    let output = output.map_err(|e| refuse(e.to_string()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let advice = match output.status.code() {
            Some(127) => "; submit on a machine of the cluster that has Slurm's commands",
            _ => "",
        };
        return Err(refuse(format!("{}{advice}", said.trim())));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
