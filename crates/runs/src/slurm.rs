//! A run on a Slurm cluster: writes the scripts of a job array with a task for each shard, and of a merge after it.
//!
//! Only [`submit`] contacts a cluster. The scripts rely on two properties of a run: SIGTERM ends it after the current batch with
//! exit code 5, and the same command continues from there.

mod quote;
mod script;

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use models::{ErrorKind, limits};

use crate::files::write_whole;
use crate::lock::FolderLocks;

/// Errors of writing and submitting the scripts.
#[derive(Debug, thiserror::Error)]
pub enum SlurmError {
    /// A text cannot be written into a script.
    #[error("{what} `{value}` {reason}")]
    Text {
        /// Name of the option or path.
        what: Given,
        /// As given.
        value: String,
        /// What is wrong and what to do.
        reason: &'static str,
    },
    /// A folder or script cannot be written.
    #[error(transparent)]
    File(#[from] crate::Error),
    /// Bash cannot parse the shell lines of the prologue.
    #[error("bash cannot parse the prologue `{}`: {reason}", lines.join("\n"))]
    Prologue {
        /// The lines as given.
        lines: Vec<String>,
        /// Bash's error message.
        reason: String,
    },
    /// The time limit is so short that no task would compute anything.
    #[error(
        "time `{0}` is used up by the grace period and the minute by which Slurm may signal early, so every shard would be told \
         to stop as it starts"
    )]
    Time(String),
    /// Slurm refused the jobs.
    #[error("cannot submit with `{command}`: {reason}")]
    Submit {
        /// The command, as typed into a shell.
        command: String,
        /// Error message of the system or of Slurm.
        reason: String,
    },
}

/// What stands in a script as the user gave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Given {
    /// The value of this option of the program.
    Option(&'static str),
    /// What is called this.
    Thing(&'static str),
}

impl std::fmt::Display for Given {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Option(name) | Self::Thing(name) => f.write_str(name),
        }
    }
}

impl SlurmError {
    /// Returns the kind of the error, which decides the exit code.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Text { .. } | Self::Prologue { .. } | Self::Time(_) => ErrorKind::Usage,
            Self::File(error) => error.kind(),
            Self::Submit { .. } => ErrorKind::Other,
        }
    }
}

/// Resources of each task of the array, and of the merge. Fields that are `None` are left to the cluster's defaults.
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
    /// One GPU, of any or of a given type.
    pub gpu: Option<Gpu>,
}

/// One GPU of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gpu {
    /// A GPU of any type.
    Any,
    /// A GPU of this type, by the cluster's name for it: `a100`.
    Type(String),
}

impl std::str::FromStr for Gpu {
    type Err = String;

    /// Reads `1` or `a100:1`; other counts are refused, since a shard computes on one GPU.
    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, count) = text.rsplit_once(':').map_or((None, text), |(kind, count)| (Some(kind), count));
        let plain = |kind: &&str| {
            !kind.is_empty() && kind.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
        };
        match (kind, count) {
            (None, "1") => Ok(Self::Any),
            (Some(kind), "1") if plain(&kind) => Ok(Self::Type(kind.into())),
            (_, count) if count.parse::<u32>().is_ok_and(|count| count > 1) => {
                Err("a shard computes on one GPU: ask for 1 and for more shards".into())
            }
            _ => Err("expected 1, or a type and 1 as in a100:1".into()),
        }
    }
}

/// A run as a job array followed by a merge.
#[derive(Debug, Clone)]
pub struct ArrayJob {
    /// Name of the job, as `squeue` shows it.
    pub name: String,
    /// Path of the `tokenrank` program on the nodes; absolute.
    pub program: PathBuf,
    /// Working folder, from which relative paths in experiments start; absolute.
    pub directory: PathBuf,
    /// Experiments: files, as absolute paths, or names that the program knows.
    pub configs: Vec<PathBuf>,
    /// `--set` assignments.
    pub assignments: Vec<String>,
    /// Number of items to use from the beginning of the manifest; `None` for all.
    pub limit: Option<usize>,
    /// Folder of the run, or of the runs of several experiments; absolute.
    pub out: PathBuf,
    /// Number of tasks of the array.
    pub shards: NonZeroUsize,
    /// Maximum number of tasks that run at a time.
    pub max_running: Option<NonZeroUsize>,
    /// Resources of each task.
    pub resources: Resources,
    /// Seconds before the time limit at which a task is asked to stop after its batch.
    pub grace: u32,
    /// Maximum number of times that a task which met its time limit queues again.
    pub max_requeues: u32,
    /// `#SBATCH` options of both scripts, verbatim.
    pub sbatch: Vec<String>,
    /// `#SBATCH` options of the merge alone, verbatim, after the others.
    pub merge_sbatch: Vec<String>,
    /// Folders of the runs if there are several, of experiments or of a sweep; absolute. Empty if `out` is the only one.
    pub runs: Vec<PathBuf>,
    /// Whether an experiment is a sweep, whose table is made from merged runs.
    pub sweep: bool,
    /// Shell lines to run before `tokenrank`, such as `module load cuda`.
    pub prologue: Vec<String>,
    /// Folder of the scripts and logs; absolute.
    pub folder: PathBuf,
}

/// The names of the three scripts.
const SCRIPTS: [&str; 3] = ["array.sbatch", "merge.sbatch", "submit.sh"];

/// The text of the three scripts.
#[derive(Debug, Clone)]
pub struct Scripts {
    /// Script of the array.
    pub array: String,
    /// Script of the merge.
    pub merge: String,
    /// Script that submits both.
    pub submit: String,
}

impl ArrayJob {
    /// Returns the text of the scripts.
    ///
    /// # Errors
    /// Fails if a path or an option cannot be written into a script, bash cannot parse the prologue, or the time limit is not
    /// longer than the grace.
    pub fn scripts(&self) -> Result<Scripts, SlurmError> {
        self.check_time()?;
        self.check_prologue()?;
        Ok(Scripts {
            array: script::array(self)?,
            merge: script::merge(self)?,
            submit: script::submit(&self.file("array.sbatch"), &self.file("merge.sbatch"))?,
        })
    }

    /// Writes `array.sbatch`, `merge.sbatch`, `submit.sh` and an empty `logs/`, and returns the path of `submit.sh`.
    ///
    /// # Errors
    /// Fails like [`scripts`](Self::scripts), and if a file cannot be written.
    pub fn write(&self) -> Result<PathBuf, SlurmError> {
        let scripts = self.scripts()?;
        let is_other = |name: &&str| {
            let path = self.file(name);
            let text = || limits::read_text(&path, limits::EXPERIMENT_BYTES).unwrap_or_default();
            path.symlink_metadata().is_ok() && !text().contains(script::MARK)
        };
        let files: Vec<String> =
            SCRIPTS.iter().filter(|name| is_other(name)).map(|name| (*name).to_owned()).collect();
        if !files.is_empty() {
            return Err(crate::Error::Foreign { path: self.folder.clone(), files, more: 0 }.into());
        }
        let logs = self.file("logs");
        std::fs::create_dir_all(&logs).map_err(crate::Error::file(crate::FileAction::Create, &logs))?;
        let _lock = FolderLocks::take([self.folder.clone()])?;
        // Removed first and written last: whoever submits finds both scripts of one call, or nothing to submit.
        let submit = self.file("submit.sh");
        match std::fs::remove_file(&submit) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(crate::Error::file(crate::FileAction::Remove, &submit)(e).into());
            }
            _ => {}
        }
        write_whole(&self.file("array.sbatch"), scripts.array.as_bytes())?;
        write_whole(&self.file("merge.sbatch"), scripts.merge.as_bytes())?;
        write_whole(&submit, scripts.submit.as_bytes())?;
        Ok(submit)
    }

    /// Refuses a time limit within the grace. Slurm checks the time every half minute and signals up to a minute early.
    fn check_time(&self) -> Result<(), SlurmError> {
        match self.resources.time.as_deref() {
            Some(time) if seconds(time).is_some_and(|limit| limit <= u64::from(self.grace) + 60) => {
                Err(SlurmError::Time(time.into()))
            }
            _ => Ok(()),
        }
    }

    /// Checks the syntax of the prologue here, before jobs wait for a node. Without bash on this machine nothing is checked.
    fn check_prologue(&self) -> Result<(), SlurmError> {
        let Some(last) = self.prologue.last() else { return Ok(()) };
        if last.chars().rev().take_while(|&c| c == '\\').count() % 2 == 1 {
            let reason = "ends in a backslash, which joins the next line to it; remove the backslash";
            return Err(SlurmError::Text { what: Given::Option("prologue"), value: last.clone(), reason });
        }
        let text = self.prologue.join("\n");
        match Command::new("bash").args(["-n", "-c", &text, "prologue"]).stdin(Stdio::null()).output() {
            Ok(output) if !output.status.success() => Err(SlurmError::Prologue {
                lines: self.prologue.clone(),
                reason: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            }),
            _ => Ok(()),
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

/// Returns the seconds of a time limit as Slurm reads it; `None` if it is unlimited or has a form that only Slurm can judge.
fn seconds(time: &str) -> Option<u64> {
    let (days, rest) = time.split_once('-').map_or((None, time), |(days, rest)| (Some(days), rest));
    let parts = rest.split(':').map(|part| part.parse().ok()).collect::<Option<Vec<u64>>>()?;
    let [hours, minutes, seconds] = match (days, &parts[..]) {
        (None, &[minutes]) => [0, minutes, 0],
        (None, &[minutes, seconds]) => [0, minutes, seconds],
        (Some(_), &[hours]) => [hours, 0, 0],
        (Some(_), &[hours, minutes]) => [hours, minutes, 0],
        (_, &[hours, minutes, seconds]) => [hours, minutes, seconds],
        _ => return None,
    };
    let days: u64 = days.map_or(Ok(0), str::parse).ok()?;
    let units = [(days, 86_400), (hours, 3_600), (minutes, 60), (seconds, 1)];
    let total =
        units.iter().try_fold(0u64, |sum, &(count, unit)| sum.checked_add(count.checked_mul(unit)?))?;
    (total > 0).then_some(total)
}

/// Returns the command that submits the jobs, as typed into a shell.
///
/// # Errors
/// Fails if the path cannot be written into a command line.
pub fn submit_command(script: &Path) -> Result<String, SlurmError> {
    Ok(format!("sh {}", quote::shell_path(Given::Thing("the folder of the scripts"), script)?))
}

/// The jobs that were submitted.
#[derive(Debug, Clone)]
pub struct Submitted {
    /// Numbers of both jobs, as `submit.sh` prints them.
    pub jobs: String,
    /// Messages of the cluster on stderr, such as that a budget is nearly used up.
    pub said: String,
}

/// Runs `submit.sh`.
///
/// # Errors
/// Fails if there is no `sbatch` on this machine, or if it refuses the jobs.
pub fn submit(script: &Path) -> Result<Submitted, SlurmError> {
    let command = submit_command(script)?;
    let refuse = |reason: String| SlurmError::Submit { command: command.clone(), reason };
    let output = Command::new("sh").arg(script).stdin(Stdio::null()).output();
    let output = output.map_err(|e| refuse(e.to_string()))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        let advice = match output.status.code() {
            Some(127) => "; submit on a machine of the cluster that has Slurm's commands",
            _ => "",
        };
        return Err(refuse(format!("{}{advice}", said.trim())));
    }
    Ok(Submitted { jobs: String::from_utf8_lossy(&output.stdout).into_owned(), said: said.into_owned() })
}
