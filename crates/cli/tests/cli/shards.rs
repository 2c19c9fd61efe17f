//! `--shard` and `merge`: any sharding gives what one run gives, and what is no whole run is refused.

use std::path::Path;

use crate::common::{arg, run, words};
use crate::experiments::{ALL, Small, assert_same, results};

#[track_caller]
fn shards(small: &Small, out: &Path, numbers: impl IntoIterator<Item = usize>, of: usize) {
    for number in numbers {
        let output = small.run(out, &["--shard", &format!("{number}/{of}")], 0);
        assert!(output.stdout.is_empty(), "a shard has no table");
        let told = words(&output);
        assert!(
            told.contains(&format!("shard {number}/{of}:")) && told.contains("tokenrank merge"),
            "{told}"
        );
    }
}

#[track_caller]
fn refusal(dirs: &[&Path], more: &[&str]) -> String {
    let dirs: Vec<&str> = dirs.iter().map(|dir| arg(dir)).collect();
    words(&run(&[&["merge"], &dirs[..], more].concat(), 3))
}

#[test]
fn any_sharding_gives_the_files_of_one_run() {
    for (small, of) in ALL.iter().zip([4, 2, 3, 7]) {
        let dir = tempfile::tempdir().expect("a scratch folder");
        let (whole, apart) = (dir.path().join("whole"), dir.path().join("apart"));
        let table = small.run(&whole, &[], 0).stdout;
        // Whoever is first.
        shards(small, &apart, (1..=of).rev(), of);
        let merged = run(&["merge", arg(&apart)], 0);
        assert!(merged.stdout == table, "{}", small.task);
        assert_same(&whole, &apart);
        // Merged again, and run as a whole: there is nothing left to do.
        run(&["merge", arg(&apart)], 0);
        let told = words(&small.run(&apart, &[], 0));
        assert!(told.contains("all items were already done"), "{told}");
        assert_same(&whole, &apart);
    }
}

#[test]
fn shards_of_several_machines_are_merged_elsewhere() {
    let small = &ALL[2];
    let dir = tempfile::tempdir().expect("a scratch folder");
    let [whole, here, there, merged] = ["whole", "here", "there", "merged"].map(|name| dir.path().join(name));
    small.run(&whole, &[], 0);
    shards(small, &here, [1, 3], 3);
    shards(small, &there, [2], 3);
    let message = refusal(&[&here.join("shard-1-of-3"), &there.join("shard-2-of-3")], &[]);
    assert!(message.contains("--out"), "{message}");
    run(&["merge", arg(&here), arg(&there), "--out", arg(&merged)], 0);
    assert_same(&whole, &merged);
}

#[test]
fn what_is_no_whole_run_is_refused_and_nothing_is_written() {
    let small = &ALL[0];
    let dir = tempfile::tempdir().expect("a scratch folder");
    let (out, other) = (dir.path().join("run"), dir.path().join("other"));
    let message = refusal(&[dir.path()], &[]);
    assert!(message.contains("no shards here") && message.contains("--shard 1/4"), "{message}");

    shards(small, &out, [1, 3], 3);
    let message = refusal(&[&out], &[]);
    assert!(message.contains("shard 2/3 is not there") && message.contains("goes on"), "{message}");
    shards(small, &out, [2], 3);

    // An unfinished one, a damaged one.
    let records = out.join("shard-2-of-3/records.jsonl");
    let whole = std::fs::read(&records).expect("records");
    for damage in [&whole[..whole.len() - 40], &[&whole[..50], b"!", &whole[51..]].concat()] {
        std::fs::write(&records, damage).expect("writable");
        let message = refusal(&[&out], &[]);
        assert!(message.contains("shard 2/3 lacks 5 of its 10 items"), "{message}");
        assert_eq!(std::fs::read(&records).expect("records"), damage, "a shard is only read");
    }
    std::fs::write(&records, &whole).expect("writable");

    // One twice, one of another number of shards, one of another experiment.
    let copy = dir.path().join("copy/shard-2-of-3");
    std::fs::create_dir_all(&copy).expect("writable");
    for file in ["run.json", "records.jsonl"] {
        std::fs::copy(out.join("shard-2-of-3").join(file), copy.join(file)).expect("copied");
    }
    let merged = dir.path().join("merged");
    let message = refusal(&[&out, &copy], &["--out", arg(&merged)]);
    assert!(message.contains("shard 2/3 was given twice"), "{message}");
    shards(small, &other, [4], 4);
    let message = refusal(&[&out, &other], &["--out", arg(&merged)]);
    assert!(message.contains("different runs") && message.contains("4/4"), "{message}");
    small.run(&other, &["--shard", "1/3", "--set", "task.masking.alpha=0.9"], 0);
    std::fs::remove_dir_all(other.join("shard-4-of-4")).expect("removable");
    let message = refusal(&[&out, &other], &["--out", arg(&merged)]);
    assert!(message.contains("task.masking.alpha: 0.99 → 0.9"), "{message}");
    assert!(!merged.exists() && !out.join("results.json").exists());

    run(&["merge", arg(&out), "--out", arg(&merged)], 0);
    assert_eq!(results(&merged)["items"], 27);
}

#[test]
fn a_sweep_and_several_experiments_are_sharded_as_one_run_is() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let sets = ["--set", "task.masking.methods=[\"cls\", \"tokenrank\"]", "--set", "task.masking.batch=3"];
    let configs = ["configs/mini/masking-vit.toml", "configs/mini/masking-dinov1.toml"];
    let (whole, apart) = (dir.path().join("whole"), dir.path().join("apart"));
    let args = [&["run"], &configs[..], &["--limit", "9"], &sets].concat();
    let table = run(&[&args[..], &["--out", arg(&whole)]].concat(), 0).stdout;
    for shard in ["1/2", "2/2"] {
        run(&[&args[..], &["--out", arg(&apart), "--shard", shard]].concat(), 0);
    }
    // The runs stand in the order of their names.
    let merged = run(&["merge", arg(&apart)], 0).stdout;
    let last = |text: &[u8]| {
        let text = String::from_utf8(text.to_vec()).expect("text");
        let (_, table) =
            text.rsplit_once("Masking the most influential tokens: AUC\n").expect("the table of both");
        table.to_owned()
    };
    assert_eq!(last(&merged), last(&table));
    assert_same(&whole.join("masking-vit"), &apart.join("masking-vit"));

    let sweep = dir.path().join("sweep");
    let args = ["run", configs[0], "--limit", "6", "--set", "sweep.alpha=[0.5, 0.9]", "--out", arg(&sweep)];
    let args = [&args[..], &sets].concat();
    for shard in ["1/2", "2/2"] {
        let output = run(&[&args[..], &["--shard", shard]].concat(), 0);
        assert!(output.stdout.is_empty());
    }
    run(&["merge", arg(&sweep)], 0);
    let output = run(&args, 0);
    assert!(sweep.join("sweep.json").exists() && !output.stdout.is_empty());
    assert_eq!(results(&sweep.join("runs/alpha-0.5"))["items"], 6);
}

#[test]
fn a_shard_is_told_by_the_environment_of_its_job() {
    let small = &ALL[0];
    let dir = tempfile::tempdir().expect("a scratch folder");
    let mut command = small.command(dir.path());
    command.args(["--shard", "auto"]);
    let slurm = [("ID", "12"), ("MIN", "10"), ("STEP", "2"), ("COUNT", "6")];
    command.envs(slurm.map(|(name, value)| (format!("SLURM_ARRAY_TASK_{name}"), value)));
    assert!(command.output().expect("starts").status.success());
    assert!(dir.path().join("shard-2-of-6/records.jsonl").exists());
    for (shard, word) in [("auto", "SLURM_ARRAY_TASK_COUNT"), ("7/6", "1 to 6"), ("6", "2/4")] {
        let message = words(&small.run(dir.path(), &["--shard", shard], 2));
        assert!(message.contains(word), "{message}");
    }
}

#[test]
fn a_header_that_claims_too_much_is_refused_at_once() {
    let small = &ALL[0];
    let dir = tempfile::tempdir().expect("a scratch folder");
    let out = dir.path().join("run");
    shards(small, &out, [1, 2], 2);
    let header = out.join("shard-1-of-2/run.json");
    let text = std::fs::read_to_string(&header).expect("a header");
    for (old, claim, word) in [
        ("\"of\": 2", "\"of\": 9223372036854775807", "are of different runs"),
        ("\"of\": 2", "\"of\": 0", "at least one shard"),
        ("\"index\": 1", "\"index\": 3", "no shard 3 of 2"),
        ("\"items\": 27", "\"items\": 9223372036854775807", "lacks"),
        ("\"items\": 27", "\"items\": 5", "run.json is damaged"),
    ] {
        let forged = text.replace(old, claim);
        assert_ne!(forged, text, "{old}");
        std::fs::write(&header, forged).expect("writable");
        let message = refusal(&[&out], &[]);
        assert!(message.contains(word), "{claim}: {message}");
        assert!(!out.join("results.json").exists());
    }
    // So many shards that nobody counts to them.
    let many = dir.path().join("many");
    let of = usize::MAX;
    shards(small, &many, [1], of);
    let message = refusal(&[&many], &[]);
    assert!(message.contains(&format!("shard 2/{of} is not there")), "{message}");
    assert!(message.contains("shard 6/"), "{message}");
}

#[test]
fn a_merge_runs_nothing() {
    let small = &ALL[2];
    let dir = tempfile::tempdir().expect("a scratch folder");
    let out = dir.path().join("run");
    shards(small, &out, [1, 2], 2);
    let picture = out.join("shard-2-of-2/pictures/none/00000002.png");
    std::fs::remove_file(&picture).expect("a picture");
    let message = refusal(&[&out], &[]);
    assert!(message.contains("lack 2 of 9 items, or pictures of these"), "{message}");
    assert!(!out.join("results.json").exists());
    // As it says.
    shards(small, &out, [2], 2);
    run(&["merge", arg(&out)], 0);
    let whole = dir.path().join("whole");
    small.run(&whole, &[], 0);
    assert_same(&whole, &out);
}
