//! `tokenrank slurm`: what it writes and refuses, and a real cluster on this machine where Slurm is installed.
//!
//! With `TOKENRANK_REPORT=FILE` the test on the cluster writes down what it did to the jobs.

use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::browser::skipped::{Requirement, lacks};
use crate::common::{arg, root, run, tokenrank, words};
use crate::slurm_cluster::{Cluster, NODES, processes};

const CONFIG: &str = "configs/mini/masking-vit.toml";

#[test]
fn the_command_that_submits_goes_to_stdout() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let out = dir.path().join("it's a run");
    let args = ["slurm", CONFIG, "--nodes", "4", "--limit", "100", "--time", "30", "--out", arg(&out)];
    let output = run(&args, 0);
    let folder = out.join("slurm");
    let text = String::from_utf8(output.stdout.clone()).expect("text");
    assert_eq!(text, format!("sh '{}/slurm/submit.sh'\n", arg(&out).replace('\'', r"'\''")));
    assert!(words(&output).contains("ready, 100 items in 7 batches on 4 shards"), "{}", words(&output));
    let array = std::fs::read_to_string(folder.join("array.sbatch")).expect("a script");
    for line in ["#SBATCH --array=1-4", "#SBATCH --time=30", "#SBATCH --requeue"] {
        assert!(array.lines().any(|found| found == line), "{line} is not in\n{array}");
    }
    assert!(array.contains(&format!("{} run /", env!("CARGO_BIN_EXE_tokenrank"))), "{array}");
    assert!(!out.join("run.json").exists(), "nothing was run");
}

#[test]
fn mistakes_are_found_before_a_node_is_asked_for() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let out = dir.path().join("run");
    let args = ["slurm", CONFIG, "--nodes", "4", "--out", arg(&out)];
    for (more, code, word) in [
        (&["--set", "model.path=no/such/model"][..], 3, "no/such/model"),
        (&["--set", "task.masking.speed=9"], 2, "speed"),
        (&["--limit", "40"], 2, "--nodes at most 3"),
        (&["--gpus", "4"], 2, "more shards"),
        (&["--sbatch", "--qos=a\nb"], 2, "--sbatch"),
        (&["--merge-sbatch", "mem=64G"], 2, "--merge-sbatch"),
        (&["--time", "2"], 2, "smaller --grace"),
        (&["--prologue", "echo it's"], 2, "bash"),
        (&["--nodes", "0"], 2, "--nodes"),
        (&[CONFIG], 2, "masking-vit"),
    ] {
        let all: Vec<&str> = if more[0] == "--nodes" {
            vec!["slurm", CONFIG, "--out", arg(&out), "--nodes", "0"]
        } else {
            args.iter().chain(more).copied().collect()
        };
        let message = words(&run(&all, code));
        assert!(message.contains(word) && !message.contains("panicked"), "{more:?}: {message}");
        assert!(!out.exists(), "{more:?}: scripts were written");
    }
}

/// What the merge would refuse after hours on the cluster is refused now.
#[test]
fn shards_of_another_number_or_experiment_are_not_mixed() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let out = dir.path().join("run");
    let limit = ["--limit", "40", "--out", arg(&out)];
    run(&[&["run", CONFIG, "--shard", "1/2"][..], &limit].concat(), 0);
    let spread = |more: &[&str], code| words(&run(&[&["slurm", CONFIG][..], &limit, more].concat(), code));
    for (more, word) in [
        (&["--nodes", "3"][..], "go on with --nodes 2"),
        (&["--nodes", "2", "--set", "task.masking.alpha=0.5"], "task.masking.alpha: 0.99 → 0.5"),
        (&["--nodes", "2", "--gpus", "1"], "device: cpu → cuda"),
    ] {
        let message = spread(more, 2);
        assert!(message.contains(word) && message.contains("choose another --out"), "{more:?}: {message}");
        assert!(!out.join("slurm").exists(), "{more:?}: scripts were written");
    }
    spread(&["--nodes", "2"], 0);
}

#[test]
fn without_slurm_nothing_is_submitted() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let tools = dir.path().join("tools");
    std::fs::create_dir(&tools).expect("a folder");
    std::os::unix::fs::symlink("/bin/sh", tools.join("sh")).expect("a link");
    let mut command = tokenrank();
    command.args(["slurm", CONFIG, "--nodes", "2", "--submit", "--out", arg(&dir.path().join("run"))]);
    let output = command.env("PATH", &tools).output().expect("the binary starts");
    assert_eq!(output.status.code(), Some(1), "{}", words(&output));
    assert!(words(&output).contains("that has Slurm's commands"), "{}", words(&output));
    assert!(output.stdout.is_empty());
}

/// Of the runs that are disturbed, in batches of two on two shards.
const ITEMS: usize = 64;

/// What a run is on this page: small batches, so that there are many moments between two.
struct Case {
    args: Vec<String>,
    out: PathBuf,
    shards: usize,
}

impl Case {
    fn new(dir: &Path, name: &str, items: usize, shards: usize) -> Self {
        let settings = [
            "--limit".to_owned(),
            items.to_string(),
            "--set".into(),
            "task.masking.batch=2".into(),
            "--set".into(),
            "task.masking.fractions={ from = 0.0, to = 0.9, step = 0.1 }".into(),
        ];
        // A path that somebody careless has.
        let out = dir.join(format!("it's the {name} run, 100% \"$HOME\" #1"));
        Self { args: settings.into(), out, shards }
    }

    /// Folder of an undisturbed run in one process.
    fn plain(&self) -> PathBuf {
        let out = self.out.with_extension("plain");
        let args: Vec<&str> = self.args.iter().map(String::as_str).collect();
        run(&[&["run", CONFIG, "--out", arg(&out)][..], &args].concat(), 0);
        out
    }

    /// Submits array and merge, and returns their numbers.
    fn submit(&self, cluster: &Cluster) -> (String, String) {
        let output = self.try_to_submit(cluster, &[]);
        assert!(output.status.success(), "{}", words(&output));
        submitted(&String::from_utf8(output.stdout).expect("text"))
    }

    fn try_to_submit(&self, cluster: &Cluster, more: &[&str]) -> Output {
        let mut command = cluster.command(env!("CARGO_BIN_EXE_tokenrank"));
        command.current_dir(root()).args(["slurm", CONFIG, "--submit", "--time", "10", "--cpus", "1"]);
        command
            .args(["--nodes", &self.shards.to_string(), "--out", arg(&self.out)])
            .args(&self.args)
            .args(more);
        // One core each, so that four tasks are not slower than one.
        command.env("OMP_NUM_THREADS", "1").output().expect("the binary starts")
    }

    /// The folder's own submit.sh again.
    fn submit_again(&self, cluster: &Cluster) -> (String, String) {
        let output = cluster.command("sh").arg(self.out.join("slurm/submit.sh")).output().expect("sh");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        submitted(&String::from_utf8(output.stdout).expect("text"))
    }

    fn records(&self, shard: usize) -> HashSet<String> {
        let folder = self.out.join(format!("shard-{shard}-of-{}", self.shards));
        let bytes = std::fs::read(folder.join("records.jsonl")).unwrap_or_default();
        let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
        String::from_utf8_lossy(&bytes[..whole]).lines().map(str::to_owned).collect()
    }

    /// Where a shard was started last.
    fn node(&self, shard: usize) -> &'static str {
        let log = self.log(&format!("shard-{shard}.log"));
        let place = |node: &&str| log.rfind(&format!(", on {node}, "));
        let last = NODES.into_iter().filter(|node| place(node).is_some()).max_by_key(place);
        last.unwrap_or_else(|| panic!("no node in the log of shard {shard}: {log}"))
    }

    fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.out.join("slurm/logs").join(name)).unwrap_or_default()
    }

    fn logs(&self) -> String {
        let shards = (1..=self.shards).map(|shard| self.log(&format!("shard-{shard}.log")));
        shards.chain([self.log("merge.log")]).collect::<Vec<_>>().join("\n")
    }

    /// Waits until a task has more records on disk than `before`, and stops it there: in the middle of its work, however fast
    /// this machine is.
    fn hold(&self, cluster: &Cluster, array: &str, shard: usize, before: usize) -> Held {
        let task = format!("{array}_{shard}");
        let mut pid = None;
        cluster.wait(&format!("task {task} has more than {before} lines on disk"), || {
            assert!(cluster.state(&task).is_some(), "task {task} has ended too early\n{}", self.logs());
            if self.records(shard).len() > before {
                pid = shard_process(cluster, &format!("{shard}/{}", self.shards));
            }
            pid.is_some()
        });
        let pid = pid.expect("the shard's process");
        signal("-STOP", pid);
        Held { pid, lines: self.records(shard) }
    }

    /// Waits for the merge and compares with the values of a plain run.
    fn finish(&self, cluster: &Cluster, merge: &str, plain: &Path) {
        cluster.wait("the merge has run", || cluster.state(merge).is_none());
        assert_eq!(cluster.exit_code(merge), Some(0), "{}", self.logs());
        assert_same_values(&self.out, plain);
        assert!(self.log("merge.log").contains("TokenRank"), "the table is in the merge's log");
    }
}

/// A shard that is stopped in the middle of its work.
struct Held {
    pid: u32,
    /// What was on disk then.
    lines: HashSet<String>,
}

impl Held {
    fn go_on(self) -> HashSet<String> {
        signal("-CONT", self.pid);
        self.lines
    }
}

/// Whether a SIGTERM waits for a stopped process to go on.
fn term_waits(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("ShdPnd:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask >> 14 & 1 == 1)
}

/// A signal to a process that may be gone.
fn signal(signal: &str, pid: u32) {
    let status = Command::new("kill").args([signal, &pid.to_string()]).stderr(Stdio::null()).status();
    status.expect("kill");
}

fn submitted(text: &str) -> (String, String) {
    let mut numbers = text.lines().zip(["array ", "merge "]).map(|(line, word)| {
        line.strip_prefix(word).unwrap_or_else(|| panic!("no {word}in {text}")).to_owned()
    });
    (numbers.next().expect("the array"), numbers.next().expect("the merge"))
}

fn read(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).expect("JSON")
}

#[track_caller]
fn assert_same_values(merged: &Path, plain: &Path) {
    let [merged, plain] = [merged, plain].map(|out| read(&out.join("results.json")));
    for part in ["items", "metrics", "comparisons", "curves", "data", "weights", "fingerprint"] {
        assert_eq!(merged[part], plain[part], "{part}");
    }
}

/// One cluster for all of it: it takes seconds to start.
#[test]
fn on_a_real_cluster() {
    if lacks(Requirement::Slurm) {
        return;
    }
    let mut cluster = Cluster::start();
    let dir = tempfile::tempdir().expect("a scratch folder");
    let quiet = an_array_and_its_merge_equal_a_plain_run(&cluster, dir.path());
    what_slurm_refuses_is_said_and_nothing_is_left(&cluster, dir.path());
    let sweep = a_sweep_ends_in_its_table(&cluster, dir.path());
    let long = Case::new(dir.path(), "long", ITEMS, 2);
    let plain = long.plain();
    let requeued = requeued_again_and_again(&cluster, dir.path(), &plain);
    let preempted = preempted_by_a_partition(&cluster, dir.path(), &plain);
    let lost = a_lost_node(&mut cluster, dir.path(), &plain);
    let killed = a_killed_shard_leaves_a_gap_that_the_merge_names(&cluster, dir.path(), &plain);

    let folder = cluster.path("");
    let version = cluster.ask("sinfo", &["--version"]);
    assert!(processes(&folder).len() >= 4, "the daemons are known");
    drop(cluster);
    assert_eq!(processes(&folder), Vec::<u32>::new(), "something of the cluster is left");

    if let Some(path) = std::env::var_os("TOKENRANK_REPORT") {
        let report = json!({
            "command": "TOKENRANK_REPORT=FILE cargo test --workspace --test cli slurm::on_a_real_cluster",
            "slurm": version,
            "nodes": NODES.len(),
            "experiment": CONFIG,
            "cases": [quiet, sweep, requeued, preempted, lost, killed],
        });
        let text = serde_json::to_string_pretty(&report).expect("JSON");
        std::fs::write(path, format!("{text}\n")).expect("a report");
    }
}

/// Four tasks on two nodes that take two each; submitted again, they find nothing to do.
fn an_array_and_its_merge_equal_a_plain_run(cluster: &Cluster, dir: &Path) -> Value {
    let case = Case::new(dir, "quiet", 48, 4);
    let plain = case.plain();
    let (_, merge) = case.submit(cluster);
    case.finish(cluster, &merge, &plain);
    let nodes: BTreeSet<_> = (1..=case.shards).map(|shard| case.node(shard)).collect();
    assert_eq!(nodes, BTreeSet::from(NODES), "{}", case.logs());

    let before: Vec<_> = (1..=case.shards).map(|shard| case.records(shard)).collect();
    let (_, merge) = case.submit_again(cluster);
    case.finish(cluster, &merge, &plain);
    let after: Vec<_> = (1..=case.shards).map(|shard| case.records(shard)).collect();
    assert_eq!(before, after, "{}", case.logs());
    json!({
        "case": "undisturbed, submitted again when done", "tasks": case.shards, "items": 48, "nodes_used": nodes.len(),
        "equal_to_a_plain_run": true,
    })
}

fn what_slurm_refuses_is_said_and_nothing_is_left(cluster: &Cluster, dir: &Path) {
    let case = Case::new(dir, "refused", 48, 2);
    for (option, word) in [("--sbatch", "invalid partition"), ("--merge-sbatch", "taken back")] {
        let output = case.try_to_submit(cluster, &[option, "--partition=none"]);
        assert_eq!(output.status.code(), Some(1), "{}", words(&output));
        assert!(words(&output).contains(word), "{}", words(&output));
        assert!(output.stdout.is_empty(), "numbers of jobs that are not there");
        cluster.wait("nothing is in the queue", || cluster.ask("squeue", &["--noheader"]).is_empty());
    }
}

fn a_sweep_ends_in_its_table(cluster: &Cluster, dir: &Path) -> Value {
    let mut case = Case::new(dir, "sweep", 16, 2);
    case.args.extend(["--set".into(), "sweep.alpha=[0.5, 0.99]".into()]);
    let plain = case.plain();
    let (_, merge) = case.submit(cluster);
    cluster.wait("the merge has run", || cluster.state(&merge).is_none());
    assert_eq!(cluster.exit_code(&merge), Some(0), "{}", case.logs());
    for run in ["runs/alpha-0.5", "runs/alpha-0.99"] {
        assert_same_values(&case.out.join(run), &plain.join(run));
    }
    let [table, expected] = [&case.out, &plain].map(|out| read(&out.join("sweep.json")));
    assert_eq!(table["combinations"], expected["combinations"]);
    assert!(case.log("merge.log").contains("of every combination"), "{}", case.logs());
    json!({
        "case": "sweep", "tasks": case.shards, "items": 16, "runs": 2, "equal_to_a_plain_run": true,
    })
}

/// Preemption as Slurm does it (`scontrol requeue`), and the warning before a time limit, in turns.
fn requeued_again_and_again(cluster: &Cluster, dir: &Path, plain: &Path) -> Value {
    const ROUNDS: usize = 3;
    let case = Case::new(dir, "requeued", ITEMS, 2);
    let (array, merge) = case.submit(cluster);
    let mut seen = vec![HashSet::new(); case.shards];
    for round in 0..ROUNDS {
        for (shard, seen) in (1..).zip(&mut seen) {
            let task = format!("{array}_{shard}");
            let held = case.hold(cluster, &array, shard, seen.len());
            if (round + shard) % 2 == 0 {
                let told = cluster.tell("scontrol", &["requeue", &task]);
                assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
            } else {
                // What Slurm sends before the time limit: to the batch shell alone.
                cluster.tell("scancel", &["--batch", "--signal=TERM", &task]);
            }
            *seen = held.go_on();
        }
        for shard in 1..=case.shards {
            let task = format!("{array}_{shard}");
            cluster.wait("the task was started again", || cluster.restarts(&task) > round);
        }
    }
    let restarts: Vec<usize> =
        (1..=case.shards).map(|shard| cluster.restarts(&format!("{array}_{shard}"))).collect();
    case.finish(cluster, &merge, plain);
    assert_eq!(restarts, [ROUNDS; 2], "{}", case.logs());
    let own = case.logs().matches("queues again").count();
    assert_eq!(own, ROUNDS, "{}", case.logs());
    let kept: usize = (1..).zip(&seen).map(|(shard, seen)| lost_segments(&case, shard, seen)).sum();
    assert_eq!(kept, 0, "segments that were on disk are gone");
    json!({
        "case": "requeued while running", "tasks": case.shards, "items": ITEMS,
        "preemptions": case.shards * ROUNDS - own, "time_limit_warnings": own,
        "segments_on_disk_lost": kept, "equal_to_a_plain_run": true,
    })
}

/// Segments of records that were on disk when a task was disturbed and are not there at the end.
fn lost_segments(case: &Case, shard: usize, seen: &HashSet<String>) -> usize {
    let last = case.records(shard);
    // A batch that was being written is run again, its unfinished segment cut off.
    seen.iter().filter(|line| line.contains("segment") && !last.contains(*line)).count()
}

/// A job of a higher partition takes the node away, twice from both tasks: once as Slurm does it by itself, which lets the grace
/// time pass, then continues and ends every process; once where the cluster warns at its beginning
/// (`preempt_send_user_signal`), as before a time limit.
fn preempted_by_a_partition(cluster: &Cluster, dir: &Path, plain: &Path) -> Value {
    let case = Case::new(dir, "preempted", ITEMS, 2);
    let (array, merge) = case.submit(cluster);
    let mut seen = Vec::new();
    for warned in [false, true] {
        // Records of this start: the batch in flight at the last one was finished after its shard was seen.
        let held: Vec<_> = (1..=case.shards)
            .map(|shard| case.hold(cluster, &array, shard, case.records(shard).len()))
            .collect();
        if warned {
            cluster.configure(|text| text + "SlurmctldParameters=preempt_send_user_signal\n");
            // Longer than a busy machine takes to pass the warning on.
            cluster.tell("scontrol", &["update", "PartitionName=main", "GraceTime=600"]);
        }
        let nodes: BTreeSet<_> = (1..=case.shards).map(|shard| case.node(shard)).collect();
        let above: Vec<_> = nodes.into_iter().map(|node| cluster.take_over(node)).collect();
        if warned {
            let all = || held.iter().all(|held| term_waits(held.pid));
            cluster.wait("the warning has reached the shards", all);
        }
        let go_on = |held: Held| if warned { held.go_on() } else { held.lines };
        seen = held.into_iter().map(go_on).collect();
        for job in above {
            cluster.wait("the job above has run", || cluster.state(&job).is_none());
            assert_eq!(cluster.exit_code(&job), Some(0));
        }
        for shard in 1..=case.shards {
            let task = format!("{array}_{shard}");
            cluster.wait("the task was started again", || cluster.restarts(&task) > usize::from(warned));
        }
    }
    case.finish(cluster, &merge, plain);
    let logs = case.logs();
    assert_eq!(logs.matches(": exit 5\n").count(), 2 * case.shards, "batches were finished: {logs}");
    assert_eq!(logs.matches("queues again").count(), case.shards, "{logs}");
    let lost: usize = (1..).zip(&seen).map(|(shard, seen)| lost_segments(&case, shard, seen)).sum();
    assert_eq!(lost, 0, "segments that were on disk are gone");
    json!({
        "case": "preempted by a partition of higher priority", "tasks": case.shards, "items": ITEMS,
        "preemptions_after_the_grace_time": case.shards, "preemptions_with_a_warning": case.shards,
        "segments_on_disk_lost": lost, "equal_to_a_plain_run": true,
    })
}

/// `kill -9` of a node's daemon, of its tasks' supervisors and of its tasks, which Slurm starts again on the other node.
fn a_lost_node(cluster: &mut Cluster, dir: &Path, plain: &Path) -> Value {
    let case = Case::new(dir, "lost", ITEMS, 2);
    let (array, merge) = case.submit(cluster);
    let held: Vec<_> = (1..=case.shards).map(|shard| case.hold(cluster, &array, shard, 0)).collect();
    let node = case.node(1);
    let there: Vec<_> = (1..=case.shards).filter(|&shard| case.node(shard) == node).collect();
    cluster.lose(node);
    let seen: Vec<_> = held.into_iter().map(Held::go_on).collect();
    for &shard in &there {
        let task = format!("{array}_{shard}");
        cluster.wait("the task was started again", || cluster.restarts(&task) > 0);
    }
    case.finish(cluster, &merge, plain);
    assert!((1..=case.shards).all(|shard| case.node(shard) != node), "{}", case.logs());
    cluster.boot(node);
    let lost: usize = (1..).zip(&seen).map(|(shard, seen)| lost_segments(&case, shard, seen)).sum();
    assert_eq!(lost, 0, "segments that were on disk are gone");
    json!({
        "case": "node lost, gone on on the other", "tasks": case.shards, "items": ITEMS, "nodes_lost": 1,
        "tasks_killed": there.len(), "segments_on_disk_lost": lost, "equal_to_a_plain_run": true,
    })
}

/// A process that dies by itself is not started again for ever: its task fails, the merge says which, and submitting again
/// runs what is left.
fn a_killed_shard_leaves_a_gap_that_the_merge_names(cluster: &Cluster, dir: &Path, plain: &Path) -> Value {
    let case = Case::new(dir, "killed", ITEMS, 2);
    let (array, merge) = case.submit(cluster);
    let held = case.hold(cluster, &array, 2, 0);
    signal("-KILL", held.pid);
    cluster.wait("the merge has run", || cluster.state(&merge).is_none());
    assert_eq!(cluster.exit_code(&format!("{array}_2")), Some(137), "{}", case.logs());
    assert_ne!(cluster.exit_code(&merge), Some(0), "{}", case.logs());
    assert!(case.log("merge.log").contains("2/2"), "the merge names the shard: {}", case.log("merge.log"));
    assert!(!case.out.join("results.json").exists(), "results of half a run");

    let (_, merge) = case.submit_again(cluster);
    case.finish(cluster, &merge, plain);
    assert_eq!(lost_segments(&case, 2, &held.lines), 0, "segments that were on disk are gone");
    json!({
        "case": "process killed, submitted again", "tasks": case.shards, "items": ITEMS, "tasks_killed": 1,
        "merge_refused_the_gap": true, "segments_on_disk_lost": 0, "equal_to_a_plain_run": true,
    })
}

/// The `tokenrank` that answers a shard.
fn shard_process(cluster: &Cluster, shard: &str) -> Option<u32> {
    let is_it = |pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let mut words = line.split(|&byte| byte == 0);
        words.next() == Some(env!("CARGO_BIN_EXE_tokenrank").as_bytes())
            && words.any(|word| word == shard.as_bytes())
    };
    cluster.processes().into_iter().find(is_it)
}
