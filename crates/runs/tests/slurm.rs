//! Tests of the scripts: their text, their syntax, and their behaviour with stand-ins for Slurm's commands.

use std::num::NonZeroUsize;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use runs::slurm::{ArrayJob, Gpu, Resources, submit_command};

fn job(folder: &str) -> ArrayJob {
    ArrayJob {
        name: "masking-vit".into(),
        program: "/opt/tokenrank/bin/tokenrank".into(),
        directory: "/home/ada/tables".into(),
        configs: vec!["/home/ada/tables/configs/masking-vit.toml".into()],
        assignments: vec![],
        limit: None,
        out: "/scratch/ada/masking-vit".into(),
        shards: NonZeroUsize::MIN.saturating_add(63),
        max_running: None,
        resources: Resources::default(),
        grace: 120,
        max_requeues: 100,
        sbatch: vec![],
        merge_sbatch: vec![],
        runs: vec![],
        sweep: false,
        prologue: vec![],
        folder: folder.into(),
    }
}

fn full() -> ArrayJob {
    ArrayJob {
        configs: vec!["/home/ada/a.toml".into(), "/home/ada/b.toml".into()],
        assignments: vec!["task.masking.layers=all".into(), "task.masking.methods=[\"cls\"]".into()],
        limit: Some(50_000),
        max_running: NonZeroUsize::new(16),
        resources: Resources {
            partition: Some("gpu".into()),
            account: Some("vision lab".into()),
            time: Some("0-08:00".into()),
            cpus: NonZeroUsize::new(8),
            memory: Some("32G".into()),
            gpu: Some(Gpu::Type("a100".into())),
        },
        sbatch: vec!["--constraint=ib".into(), "#SBATCH --qos=long".into()],
        merge_sbatch: vec!["--time=30".into()],
        prologue: vec!["module load cuda".into()],
        ..job("/scratch/ada/it's 100% \"fine\" #1")
    }
}

#[test]
fn script_of_the_array() {
    let text = full().scripts().expect("scripts").array;
    let (head, body) = text.split_once("\n\n").expect("options, then commands");
    insta::assert_snapshot!(head, @r#"
    #!/bin/bash
    # Written by `tokenrank slurm`: the shards of a run, one task each. A task that starts again goes on where it was.
    #SBATCH --job-name=masking-vit
    #SBATCH --array=1-64%16
    #SBATCH --nodes=1
    #SBATCH --ntasks=1
    #SBATCH --cpus-per-task=8
    #SBATCH --gres=gpu:a100:1
    #SBATCH --mem=32G
    #SBATCH --time=0-08:00
    #SBATCH --partition=gpu
    #SBATCH --account="vision lab"
    #SBATCH --requeue
    #SBATCH --open-mode=append
    #SBATCH --signal=B:TERM@120
    #SBATCH --output="/scratch/ada/it's 100%% \"fine\" #1/logs/shard-%a.log"
    #SBATCH --constraint=ib
    #SBATCH --qos=long
    "#);
    let run: Vec<&str> = body.lines().filter(|line| line.starts_with(['/', 'c', 'm', 's'])).collect();
    insta::assert_snapshot!(run.join("\n"), @r#"
    shard="${SLURM_ARRAY_TASK_ID:?is set by sbatch, which submits this script}/64"
    cd -- /home/ada/tables || exit 3
    module load cuda
    /opt/tokenrank/bin/tokenrank run /home/ada/a.toml /home/ada/b.toml --set task.masking.layers=all --set 'task.masking.methods=["cls"]' --limit 50000 --out /scratch/ada/masking-vit --device cuda:0 --shard "$shard" &
    code=$?
    "#);
    assert!(!text.contains('@') || text.matches('@').count() == 1, "a placeholder is left: {text}");
}

#[test]
fn script_of_the_merge() {
    insta::assert_snapshot!(full().scripts().expect("scripts").merge, @r#"
    #!/bin/bash
    # Written by `tokenrank slurm`: results and tables from the shards. It says which shards lack, if any do.
    #SBATCH --job-name=masking-vit-merge
    #SBATCH --nodes=1
    #SBATCH --ntasks=1
    #SBATCH --cpus-per-task=8
    #SBATCH --gres=gpu:a100:1
    #SBATCH --mem=32G
    #SBATCH --time=0-08:00
    #SBATCH --partition=gpu
    #SBATCH --account="vision lab"
    #SBATCH --requeue
    #SBATCH --open-mode=append
    #SBATCH --output="/scratch/ada/it's 100%% \"fine\" #1/logs/merge.log"
    #SBATCH --constraint=ib
    #SBATCH --qos=long
    #SBATCH --time=30

    cd -- /home/ada/tables || exit 3
    module load cuda
    exec /opt/tokenrank/bin/tokenrank merge /scratch/ada/masking-vit --device cuda:0
    "#);
}

/// A sweep of two runs, which are merged one by one and then read for the table.
fn sweep() -> ArrayJob {
    let runs = ["alpha-0.5", "alpha-0.9"].map(|run| PathBuf::from("/scratch/ada/masking-vit/runs").join(run));
    ArrayJob { sweep: true, runs: runs.into(), ..job("/scratch") }
}

#[test]
fn script_of_the_merge_of_a_sweep_makes_its_table() {
    let text = sweep().scripts().expect("scripts").merge;
    let (_, body) = text.split_once("|| exit 3\n").expect("a body");
    insta::assert_snapshot!(body, @r#"
    /opt/tokenrank/bin/tokenrank merge /scratch/ada/masking-vit --device cpu
    code=$?
    # 3: either items could not be answered, and the runs are merged without them, or a shard is unfinished, and nothing is merged.
    [ "$code" -eq 0 ] || [ "$code" -eq 3 ] || exit "$code"
    made() {
        [ ! -e "$1/results.json" ] || return 0
        echo "the merge did not write $1: submit again to finish its shards" >&2
        exit 3
    }
    made /scratch/ada/masking-vit/runs/alpha-0.5
    made /scratch/ada/masking-vit/runs/alpha-0.9
    exec /opt/tokenrank/bin/tokenrank run /home/ada/tables/configs/masking-vit.toml --out /scratch/ada/masking-vit --device cpu
    "#);
}

#[test]
fn bash_can_parse_every_script() {
    let mut strange = full();
    strange.name = "it's $(a) \"name\" #1".into();
    strange.configs = vec!["/a b/it's \"it\" `x` $y \\ z*.toml".into()];
    strange.out = "/out dir/'; exit #".into();
    let runs = vec![strange.out.join("a run's"), strange.out.join("$HOME")];
    let sweep = ArrayJob { sweep: true, runs, ..strange.clone() };
    for job in [job("/scratch/plain"), full(), strange, sweep] {
        let scripts = job.scripts().expect("scripts");
        for text in [&scripts.array, &scripts.merge, &scripts.submit] {
            let output = Command::new("bash").args(["-n", "-c", text]).output().expect("bash");
            assert!(output.status.success(), "{}\n{text}", String::from_utf8_lossy(&output.stderr));
        }
    }
}

#[test]
fn text_that_a_script_cannot_hold_is_refused() {
    let refuse = |job: ArrayJob, word: &str| {
        let message = job.scripts().expect_err("refused").to_string();
        assert!(message.contains(word), "{message}");
    };
    refuse(ArrayJob { assignments: vec!["a=1\nrm -r /".into()], ..job("/a") }, "set `a=1");
    refuse(ArrayJob { sbatch: vec!["--qos=a\nb".into()], ..job("/a") }, "sbatch `--qos");
    refuse(ArrayJob { sbatch: vec!["constraint=ib".into()], ..job("/a") }, "such as --constraint=ib");
    refuse(ArrayJob { prologue: vec!["a\nb".into()], ..job("/a") }, "line break");
    refuse(ArrayJob { prologue: vec!["echo it's".into()], ..job("/a") }, "echo it's");
    refuse(ArrayJob { prologue: vec!["export A=b\\".into()], ..job("/a") }, "backslash");
    refuse(ArrayJob { out: "/a\nb".into(), ..job("/a") }, "out");
    refuse(job("/a\\b"), "backslash");
    let bytes: std::ffi::OsString = std::os::unix::ffi::OsStringExt::from_vec(b"/a\xff".to_vec());
    refuse(ArrayJob { out: bytes.into(), ..job("/a") }, "UTF-8");
}

/// Slurm signals up to a minute before the grace begins, and a shard needs some time before that.
#[test]
fn a_time_limit_is_longer_than_the_grace() {
    let limited = |time: &str, grace| {
        let resources = Resources { time: Some(time.into()), ..Resources::default() };
        ArrayJob { resources, grace, ..job("/a") }.scripts()
    };
    for time in ["3", "03:00", "0:03:00", "0-0:3", "0-00:03:00", "1", "0:30"] {
        let message = limited(time, 120).expect_err("refused").to_string();
        assert!(message.contains("grace") && message.contains(time), "{message}");
    }
    // Slurm reads `0` and `UNLIMITED` as no limit, and refuses invalid times itself.
    for time in ["4", "03:01", "0:03:01", "0-1", "1-0", "0-0:4", "0", "UNLIMITED", "tomorrow"] {
        assert!(limited(time, 120).is_ok(), "{time}");
    }
    assert!(limited("2", 30).is_ok());
}

#[test]
fn a_shard_has_one_gpu() {
    assert_eq!("1".parse(), Ok(Gpu::Any));
    assert_eq!("a100:1".parse(), Ok(Gpu::Type("a100".into())));
    for (text, word) in [
        ("4", "more shards"),
        ("a100:2", "more shards"),
        ("0", "a100:1"),
        ("a b:1", "a100:1"),
        ("", "a100:1"),
    ] {
        let message = text.parse::<Gpu>().expect_err("refused");
        assert!(message.contains(word), "{text}: {message}");
    }
}

/// A folder with stand-ins: a `tokenrank` that records its arguments and how it ends, a `squeue` that prints the file `state`,
/// a `scontrol` that records its arguments.
struct Stage {
    dir: tempfile::TempDir,
}

impl Stage {
    fn new() -> Self {
        let stage =
            Self { dir: tempfile::Builder::new().prefix("it's a $HOME #1").tempdir().expect("scratch") };
        stage.tool(
            "tokenrank",
            r#"
for word in "$@"; do printf '[%s]' "$word"; done >> "$STAGE/arguments"
printf '\n' >> "$STAGE/arguments"
[ -z "$ENDS" ] || exit "$ENDS"
trap 'kill $nap; echo finished the batch >> "$STAGE/arguments"; exit 5' TERM
sleep 60 > /dev/null 2>&1 & nap=$!
touch "$STAGE/started"
wait"#,
        );
        stage.tool("squeue", r#"cat "$STAGE/state""#);
        stage.tool("scontrol", r#"echo "$@" >> "$STAGE/asked""#);
        std::fs::write(stage.path("state"), "RUNNING\n").expect("written");
        stage
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    fn tool(&self, name: &str, body: &str) {
        let path = self.path(name);
        std::fs::write(&path, format!("#!/bin/bash\n{body}\n")).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("permitted");
    }

    fn job(&self) -> ArrayJob {
        let root = self.dir.path();
        ArrayJob {
            program: self.path("tokenrank"),
            directory: root.into(),
            configs: vec![root.join("it's \"a\" table.toml")],
            assignments: vec!["task.masking.methods=[\"cls\", 'x'] $(touch ran)".into()],
            out: root.join("out `touch ran` \\ dir"),
            prologue: vec!["export PROLOGUE=read".into()],
            ..job("/unused")
        }
    }

    fn bash(&self, script: &str) -> Command {
        let path = self.path("array.sbatch");
        std::fs::write(&path, script).expect("written");
        let tools = format!("{}:{}", self.dir.path().display(), std::env::var("PATH").expect("PATH"));
        let mut command = Command::new("bash");
        command.arg(path).env("PATH", tools).env("STAGE", self.dir.path()).env("ENDS", "");
        command.env("SLURM_ARRAY_JOB_ID", "70").env("SLURM_ARRAY_TASK_ID", "3").env("SLURM_JOB_ID", "73");
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs a task of the array, signals its shell once the shard has begun, and waits for its end.
    fn signalled(&self, script: &str, restarts: u32) -> Output {
        let child = self.bash(script).env("SLURM_RESTART_COUNT", restarts.to_string()).spawn().expect("bash");
        while !self.path("started").exists() {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        signal("-TERM", &child);
        child.wait_with_output().expect("an end")
    }
}

fn signal(signal: &str, child: &Child) {
    let status = Command::new("kill").args([signal, &child.id().to_string()]).status();
    assert!(status.expect("kill").success());
}

#[test]
fn arguments_reach_the_program_unchanged() {
    let stage = Stage::new();
    let job = stage.job();
    let output = stage.bash(&job.scripts().expect("scripts").array).env("ENDS", "3").output().expect("bash");
    assert_eq!(output.status.code(), Some(3), "the shard's exit code is the task's: {output:?}");
    let merge = stage.bash(&job.scripts().expect("scripts").merge).env("ENDS", "0").output().expect("bash");
    assert_eq!(merge.status.code(), Some(0), "{merge:?}");
    let root = stage.dir.path().display();
    assert_eq!(
        stage.read("arguments"),
        format!(
            "[run][{root}/it's \"a\" table.toml][--set][task.masking.methods=[\"cls\", 'x'] $(touch ran)]\
             [--out][{root}/out `touch ran` \\ dir][--device][cpu][--shard][3/64]\n\
             [merge][{root}/out `touch ran` \\ dir][--device][cpu]\n"
        )
    );
    assert!(!stage.path("ran").exists(), "something given was run");
    assert_eq!(stage.read("asked"), "", "nothing was requeued");
}

/// A merge ends with 3 if items could not be answered and if it writes nothing; the folders show which.
#[test]
fn the_table_of_a_sweep_is_made_only_if_every_run_was_merged() {
    let stage = Stage::new();
    let runs = ["it's", "$HOME"].map(|run| stage.path("out").join(run));
    let job = ArrayJob { sweep: true, runs: runs.to_vec(), ..stage.job() };
    let script = job.scripts().expect("scripts").merge;
    let merged_with = |code: &str| {
        let _ = std::fs::remove_file(stage.path("arguments"));
        let output = stage.bash(&script).env("ENDS", code).output().expect("bash");
        let ran = stage.read("arguments").lines().filter(|line| line.starts_with("[run]")).count();
        (output.status.code().expect("a code"), ran)
    };
    for code in ["0", "3"] {
        assert_eq!(merged_with(code), (3, 0), "neither run is there");
    }
    for (made, ran) in runs.iter().zip([0, 1]) {
        std::fs::create_dir_all(made).expect("a folder");
        std::fs::write(made.join("results.json"), "{}").expect("written");
        assert_eq!(merged_with("3"), (3, ran));
    }
    assert_eq!(merged_with("0"), (0, 1));
    assert_eq!(merged_with("5"), (5, 0), "an interrupted merge does not count");
    let several = ArrayJob { sweep: false, ..job }.scripts().expect("scripts").merge;
    let output = stage.bash(&several).env("ENDS", "3").output().expect("bash");
    assert_eq!(output.status.code(), Some(3), "{output:?}");
}

#[test]
fn a_task_near_its_time_limit_finishes_its_batch_and_queues_again() {
    let stage = Stage::new();
    let output = stage.signalled(&stage.job().scripts().expect("scripts").array, 99);
    assert_eq!(output.status.code(), Some(5), "{output:?}");
    assert!(stage.read("arguments").ends_with("finished the batch\n"));
    assert_eq!(stage.read("asked"), "requeue 70_3\n");
}

#[test]
fn a_task_queues_again_a_limited_number_of_times() {
    let stage = Stage::new();
    let output = stage.signalled(&stage.job().scripts().expect("scripts").array, 100);
    assert_eq!(output.status.code(), Some(5), "{output:?}");
    assert_eq!(stage.read("asked"), "");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("not done after 100 restarts"), "{said}");
}

/// `scancel` and preemption signal every process: the shell neither repeats the signal nor queues a cancelled task again.
#[test]
fn a_task_that_slurm_ends_is_not_queued_again() {
    let stage = Stage::new();
    std::fs::write(stage.path("state"), "COMPLETING\n").expect("written");
    let mut child = stage.bash(&stage.job().scripts().expect("scripts").array).spawn().expect("bash");
    while !stage.path("started").exists() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    signal("-TERM", &child);
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert!(child.try_wait().expect("a child").is_none(), "the shell waits for the shard");
    assert!(!stage.read("arguments").contains("finished"), "the shell passed the signal on");
    // Slurm signals the other processes itself.
    let shard = Command::new("pkill").args(["-TERM", "-P", &child.id().to_string()]).status();
    assert!(shard.expect("pkill").success());
    assert_eq!(child.wait().expect("an end").code(), Some(5));
    assert_eq!(stage.read("asked"), "");
}

#[test]
fn the_merge_is_submitted_to_run_after_the_array() {
    let stage = Stage::new();
    stage.tool(
        "sbatch",
        r#"for word in "$@"; do printf '[%s]' "$word"; done >> "$STAGE/asked"; echo "41;cluster""#,
    );
    let folder = stage.path("scripts");
    let job = ArrayJob { folder: folder.clone(), ..stage.job() };
    let script = job.write().expect("written");
    assert!(folder.join("logs").is_dir());
    let command = submit_command(&script).expect("a command");
    let output = stage.bash(&command).output().expect("bash");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "array 41\nmerge 41\n", "{output:?}");
    let at = |name: &str| folder.join(name).display().to_string();
    let asked = format!(
        "[--parsable][{}][--parsable][--dependency=afterany:41][{}]",
        at("array.sbatch"),
        at("merge.sbatch")
    );
    assert_eq!(stage.read("asked"), asked);

    stage.tool("sbatch", "echo sbatch: error: no such partition >&2; exit 1");
    let output = stage.bash(&command).output().expect("bash");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "");

    // An array without its merge is useless and would block the next one, so it is cancelled.
    std::fs::write(stage.path("asked"), "").expect("written");
    stage.tool("sbatch", "case $* in *--dependency*) exit 1 ;; *) echo 42 ;; esac");
    for (code, word) in [(0, "taken back"), (1, "scancel 42")] {
        stage.tool("scancel", &format!("echo \"$@\" >> \"$STAGE/asked\"; exit {code}"));
        let output = stage.bash(&command).output().expect("bash");
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "");
        assert!(String::from_utf8_lossy(&output.stderr).contains(word), "{output:?}");
    }
    assert_eq!(stage.read("asked"), "42\n42\n");
}
