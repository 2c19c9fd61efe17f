//! The text of the scripts.

use std::path::Path;

use super::quote::{one_line, sbatch, sbatch_file, shell, shell_path};
use super::{ArrayJob, Given, Gpu, SlurmError};

/// The words in every script by which it is known.
pub(super) const MARK: &str = "# Written by `tokenrank slurm`";

/// Commands of a task of the array: run the shard, pass on Slurm's warning, queue again.
const ARRAY_BODY: &str = r#"
shard="${SLURM_ARRAY_TASK_ID:?is set by sbatch, which submits this script}/@SHARDS@"
# Never SLURM_JOB_ID: that of one task is also the number of the whole array.
task="${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}"
restarts="${SLURM_RESTART_COUNT:-0}"
run=
warned=

# False if Slurm is ending this task: it was cancelled, or preempted and queues again by itself.
goes_on() {
    case "$(squeue --noheader --jobs="$task" --format=%T 2>/dev/null)" in
        '' | RUNNING | SIGNALING) true ;;
        *) false ;;
    esac
}

# Before the time limit, or to warn of preemption, Slurm signals only this shell, which passes the signal on. When Slurm ends a task it signals every process
# itself, and a second signal would stop the shard within its batch.
warn() {
    goes_on || return
    warned=yes
    [ -z "$run" ] || kill -TERM "$run" 2>/dev/null
}
trap warn TERM

cd -- @DIRECTORY@ || exit 3
echo "shard $shard: task $task, restart $restarts, on ${SLURMD_NODENAME:-this node}, $(date '+%F %T')" >&2
@PROLOGUE@
@RUN@ --shard "$shard" &
run=$!
[ -z "$warned" ] || kill -TERM "$run" 2>/dev/null
# A trapped signal ends `wait` early; the last one has the exit code.
while kill -0 "$run" 2>/dev/null; do wait "$run"; done
wait "$run"
code=$?

# 5: interrupted, resumable; 143: the signal came before the program could watch for it.
if [ -n "$warned" ] && { [ "$code" -eq 5 ] || [ "$code" -eq 143 ]; } && goes_on; then
    if [ "$restarts" -lt @REQUEUES@ ]; then
        echo "shard $shard: asked to stop before it was done; queues again" >&2
        scontrol requeue "$task"
    else
        echo "shard $shard: not done after $restarts restarts; 'scontrol requeue $task' continues it" >&2
    fi
fi
echo "shard $shard: exit $code" >&2
exit "$code"
"#;

/// Returns the script of the array, with a task for each shard.
pub(super) fn array(job: &ArrayJob) -> Result<String, SlurmError> {
    let mut lines = vec![
        "#!/bin/bash".to_owned(),
        "# Written by `tokenrank slurm`: the shards of a run, one task each. A task that starts again goes on where it was."
            .to_owned(),
    ];
    let running = job.max_running.map(|tasks| format!("%{tasks}")).unwrap_or_default();
    lines.push(option("job-name", &sbatch(Given::Thing("the name of the job"), &job.name)?));
    lines.push(option("array", &format!("1-{}{running}", job.shards)));
    resources(job, &mut lines)?;
    lines.push(option("signal", &format!("B:TERM@{}", job.grace)));
    lines.push(option("output", &log(job, "shard-%a.log")?));
    verbatim(Given::Option("sbatch"), &job.sbatch, &mut lines)?;

    let body = ARRAY_BODY
        .replace("@SHARDS@", &job.shards.to_string())
        .replace("@REQUEUES@", &job.max_requeues.to_string());
    Ok(format!("{}\n{}", lines.join("\n"), fill(&body, job)?))
}

const MERGE_BODY: &str = r#"
cd -- @DIRECTORY@ || exit 3
@PROLOGUE@
@MERGE@
"#;

/// Returns the script of the merge, which waits for the array.
pub(super) fn merge(job: &ArrayJob) -> Result<String, SlurmError> {
    let mut lines = vec![
        "#!/bin/bash".to_owned(),
        "# Written by `tokenrank slurm`: results and tables from the shards. It says which shards lack, if any do.".to_owned(),
    ];
    lines.push(option(
        "job-name",
        &sbatch(Given::Thing("the name of the job"), &format!("{}-merge", job.name))?,
    ));
    resources(job, &mut lines)?;
    lines.push(option("output", &log(job, "merge.log")?));
    verbatim(Given::Option("sbatch"), &job.sbatch, &mut lines)?;
    verbatim(Given::Option("merge-sbatch"), &job.merge_sbatch, &mut lines)?;

    Ok(format!("{}\n{}", lines.join("\n"), fill(MERGE_BODY, job)?))
}

/// Returns the script that submits both jobs and prints their numbers.
pub(super) fn submit(array: &Path, merge: &Path) -> Result<String, SlurmError> {
    let what = Given::Thing("the folder of the scripts");
    let (array, merge) = (shell_path(what, array)?, shell_path(what, merge)?);
    Ok(format!(
        r#"#!/bin/sh
# Written by `tokenrank slurm`: submits the shards, and the merge behind them; prints the numbers of both jobs.
# If they are submitted again, finished shards end at once and the others continue.
array=$(sbatch --parsable {array}) || exit
array=${{array%%;*}}
# afterany: a shard with items that could not be answered ends with exit code 3 and must not prevent the merge;
# if shards are unfinished, the merge names them and writes nothing.
if ! merge=$(sbatch --parsable --dependency=afterany:"$array" {merge}); then
    if scancel "$array"; then
        echo "the merge was refused, and the array $array taken back" >&2
    else
        echo "the merge was refused; scancel $array takes the array back" >&2
    fi
    exit 1
fi
echo "array $array"
echo "merge ${{merge%%;*}}"
"#
    ))
}

/// Returns the line `#SBATCH --key=value`.
fn option(key: &str, value: &str) -> String {
    format!("#SBATCH --{key}={value}")
}

/// Appends the options that the array and the merge have in common.
fn resources(job: &ArrayJob, lines: &mut Vec<String>) -> Result<(), SlurmError> {
    let wanted = &job.resources;
    lines.push(option("nodes", "1"));
    lines.push(option("ntasks", "1"));
    if let Some(cpus) = wanted.cpus {
        lines.push(option("cpus-per-task", &cpus.to_string()));
    }
    match &wanted.gpu {
        Some(Gpu::Any) => lines.push(option("gres", "gpu:1")),
        Some(Gpu::Type(kind)) => lines.push(option("gres", &format!("gpu:{kind}:1"))),
        None => {}
    }
    for (key, value) in [
        ("mem", &wanted.memory),
        ("time", &wanted.time),
        ("partition", &wanted.partition),
        ("account", &wanted.account),
    ] {
        if let Some(value) = value {
            lines.push(option(key, &sbatch(Given::Option(key), value)?));
        }
    }
    lines.push("#SBATCH --requeue".into());
    lines.push(option("open-mode", "append"));
    Ok(())
}

fn log(job: &ArrayJob, name: &str) -> Result<String, SlurmError> {
    sbatch_file(Given::Thing("the folder of the logs"), &job.folder.join("logs"), name)
}

/// Appends `#SBATCH` lines as given, with or without `#SBATCH` in front.
fn verbatim(what: Given, options: &[String], lines: &mut Vec<String>) -> Result<(), SlurmError> {
    for given in options {
        let option = one_line(what, given)?.trim_start_matches("#SBATCH").trim();
        if !option.starts_with('-') {
            let reason = "is no option; write it as sbatch takes it, such as --constraint=ib";
            return Err(SlurmError::Text { what, value: given.clone(), reason });
        }
        lines.push(format!("#SBATCH {option}"));
    }
    Ok(())
}

/// Returns the command `tokenrank run …` without the shard.
fn run(job: &ArrayJob) -> Result<String, SlurmError> {
    let mut words = vec![shell_path(Given::Thing("the program"), &job.program)?, "run".to_owned()];
    for config in &job.configs {
        words.push(shell_path(Given::Thing("the experiment"), config)?);
    }
    for assignment in &job.assignments {
        words.extend(["--set".to_owned(), shell(Given::Option("set"), assignment)?]);
    }
    if let Some(limit) = job.limit {
        words.extend(["--limit".to_owned(), limit.to_string()]);
    }
    words.extend(["--out".to_owned(), shell_path(Given::Option("out"), &job.out)?]);
    words.extend(["--device".to_owned(), device(job).to_owned()]);
    Ok(words.join(" "))
}

/// Returns the commands around `tokenrank merge …`. With several runs they check that each was merged, since the merge cannot
/// know of a run that no shard has started. For a sweep, `run` then makes the table without computing anything.
fn merge_command(job: &ArrayJob) -> Result<String, SlurmError> {
    let program = shell_path(Given::Thing("the program"), &job.program)?;
    let merge =
        format!("{program} merge {} --device {}", shell_path(Given::Option("out"), &job.out)?, device(job));
    if job.runs.is_empty() && !job.sweep {
        return Ok(format!("exec {merge}"));
    }
    let mut lines = vec![merge];
    lines.push(MERGED.trim().to_owned());
    for folder in &job.runs {
        lines.push(format!("made {}", shell_path(Given::Option("out"), folder)?));
    }
    lines.push(if job.sweep { format!("exec {}", run(job)?) } else { "exit \"$code\"".to_owned() });
    Ok(lines.join("\n"))
}

const MERGED: &str = r#"
code=$?
# 3: either items could not be answered, and the runs are merged without them, or a shard is unfinished, and nothing is merged.
[ "$code" -eq 0 ] || [ "$code" -eq 3 ] || exit "$code"
made() {
    [ ! -e "$1/results.json" ] || return 0
    echo "the merge did not write $1: submit again to finish its shards" >&2
    exit 3
}
"#;

/// Returns the device of a task, to which Slurm shows only its own GPU.
fn device(job: &ArrayJob) -> &'static str {
    if job.resources.gpu.is_some() { "cuda:0" } else { "cpu" }
}

/// Fills in the placeholders of a body. Placeholders within the user's own text are not replaced.
fn fill(body: &str, job: &ArrayJob) -> Result<String, SlurmError> {
    let mut lines = Vec::new();
    for line in body.lines() {
        match line {
            "@PROLOGUE@" => {
                for given in &job.prologue {
                    lines.push(one_line(Given::Option("prologue"), given)?.to_owned());
                }
            }
            "@MERGE@" => lines.push(merge_command(job)?),
            _ => match (line.split_once("@DIRECTORY@"), line.split_once("@RUN@")) {
                (Some((before, after)), _) => {
                    let directory = shell_path(Given::Thing("the working folder"), &job.directory)?;
                    lines.push(format!("{before}{directory}{after}"));
                }
                (_, Some((before, after))) => lines.push(format!("{before}{}{after}", run(job)?)),
                _ => lines.push(line.to_owned()),
            },
        }
    }
    Ok(lines.join("\n") + "\n")
}
