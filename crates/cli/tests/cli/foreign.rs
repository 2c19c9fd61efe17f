//! Files that the program has not made, and its inputs, are never written over. Each line is a writer with files that are in
//! its way.

use std::path::{Path, PathBuf};

use crate::common::{arg, root, run, scratch, words};
use crate::on_files::scenes;

const MASKING: &str = "configs/mini/masking-vit.toml";
const OTHER: &str = "configs/mini/masking-clip.toml";
const FEW: [&str; 8] = [
    "--limit",
    "2",
    "--set",
    "task.masking.fractions={ from = 0.0, to = 0.8, step = 0.4 }",
    "--set",
    "task.masking.methods=[\"random\", \"cls\"]",
    "--set",
    "task.masking.figures=0",
];
const THEIRS: &str = "of the user";

fn put(path: &Path) {
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
    std::fs::write(path, THEIRS).expect("writable");
}

#[track_caller]
fn assert_untouched(paths: &[PathBuf], what: &str) {
    for path in paths {
        assert_eq!(std::fs::read_to_string(path).expect(what), THEIRS, "{what}: {}", path.display());
    }
}

/// Commands that write to `OUT`, each with the user's files in it.
#[test]
fn folders_of_others_are_refused() {
    let sweep = "[sweep]\nalpha = [0.5, 0.9]\n";
    #[rustfmt::skip]
    let attacks: Vec<(&str, Vec<&str>, &[&str])> = vec![
        ("a table", vec!["run", MASKING, "--out", "OUT"], &["table.csv"]),
        ("results", vec!["run", MASKING, "--out", "OUT"], &["results.json"]),
        ("records", vec!["run", MASKING, "--out", "OUT"], &["records.jsonl"]),
        ("a header", vec!["run", MASKING, "--out", "OUT"], &["run.json"]),
        ("a figure", vec!["run", MASKING, "--out", "OUT"], &["curves.png", "table.md"]),
        ("--fresh", vec!["run", MASKING, "--out", "OUT", "--fresh"], &["table.csv", "run.json", "records.jsonl"]),
        ("--fresh over records", vec!["run", MASKING, "--out", "OUT", "--fresh"], &["records.jsonl"]),
        ("a shard", vec!["run", MASKING, "--out", "OUT", "--shard", "1/2"], &["shard-1-of-2/records.jsonl"]),
        ("validate", vec!["validate", MASKING, "--out", "OUT"], &["comparisons.tex"]),
        ("the second of two", vec!["run", MASKING, OTHER, "--out", "OUT"], &["masking-clip/table.csv"]),
        ("the table of two", vec!["run", MASKING, OTHER, "--out", "OUT"], &["masking.md"]),
        ("a sweep's table", vec!["run", "SWEEP", "--out", "OUT"], &["table.csv"]),
        ("a sweep's file", vec!["run", "SWEEP", "--out", "OUT"], &["sweep.json"]),
        ("a sweep's run", vec!["run", "SWEEP", "--out", "OUT"], &["runs/alpha-0.5/results.json"]),
        ("show", vec!["show", "--model", "datasets/mini/models/vit", "--image", "IMAGE", "--out", "OUT"], &["index.html"]),
        ("show's numbers", vec!["show", "--model", "datasets/mini/models/vit", "--image", "IMAGE", "--out", "OUT"], &["show.json"]),
        ("show's figure", vec!["show", "--model", "datasets/mini/models/vit", "--image", "IMAGE", "--out", "OUT"], &["lambda2.png"]),
        ("slurm", vec!["slurm", MASKING, "--nodes", "1", "--out", "OUT"], &["slurm/submit.sh"]),
    ];
    let dir = scratch();
    scenes(&dir.path().join("scenes"), 1..=1);
    let image = dir.path().join("scenes/images/000000.png");
    let config = dir.path().join("sweep.toml");
    let text = std::fs::read_to_string(root().join(MASKING)).expect("an experiment");
    std::fs::write(&config, format!("{text}\n{sweep}")).expect("writable");
    for (index, (what, args, files)) in attacks.iter().enumerate() {
        let out = dir.path().join(format!("out-{index}"));
        let files: Vec<PathBuf> = files.iter().map(|name| out.join(name)).collect();
        files.iter().for_each(|path| put(path));
        let few: &[&str] = match args[0] {
            "run" | "validate" => &FEW,
            "slurm" => &["--limit", "20"],
            _ => &[],
        };
        let given = args.iter().map(|word| match *word {
            "OUT" => arg(&out),
            "IMAGE" => arg(&image),
            "SWEEP" => arg(&config),
            word => word,
        });
        let given: Vec<&str> = given.chain(few.iter().copied()).collect();
        let message = words(&run(&given, 2));
        for path in &files {
            let name = path.file_name().expect("a name").to_string_lossy();
            assert!(message.contains(&*name), "{what}: {name} is not in {message}");
        }
        assert!(message.contains("no run has made"), "{what}: {message}");
        assert_untouched(&files, what);
    }
}

/// Files of a finished run and shards, with what writes to them by another name, and files that stay where they are allowed.
#[test]
fn outputs_that_are_inputs_are_refused() {
    let dir = scratch();
    let at = |name: &str| dir.path().join(name);
    scenes(&at("scenes"), 1..=1);
    let (out, image) = (at("run"), at("scenes/images/000000.png"));
    run(&[&["run", MASKING, "--out", arg(&out)], &FEW[..]].concat(), 0);
    let model = root().join("datasets/mini/models/vit");
    std::fs::create_dir(at("model")).expect("made");
    for entry in std::fs::read_dir(&model).expect("a model") {
        let path = entry.expect("readable").path();
        std::fs::copy(&path, at("model").join(path.file_name().expect("a name"))).expect("copied");
    }
    let matrix = at("m.safetensors");
    run(&["attend", "--model", arg(&model), "--image", arg(&image), "--out", arg(&matrix)], 0);
    // A matrix file in the other format by its name.
    std::fs::hard_link(&matrix, at("hard.safetensors")).expect("linked");
    std::os::unix::fs::symlink(&matrix, at("soft.safetensors")).expect("linked");
    std::os::unix::fs::symlink(dir.path(), at("loop")).expect("linked");
    std::os::unix::fs::symlink(out.join("results.json"), at("page.html")).expect("linked");
    std::fs::hard_link(out.join("results.json"), at("copy.md")).expect("linked");
    std::fs::hard_link(&image, at("image-by-another-name.json")).expect("linked");
    let weights = at("model/model.safetensors");
    let results = out.join("results.json");
    let baseline = at("baseline.json");
    run(&["compare", arg(&out), arg(&baseline), "--update"], 0);
    let attend = ["attend", "--model", "MODEL", "--image", "IMAGE", "--out"];
    let rank = ["rank", "m.safetensors", "--key", "block.0.probs", "--out"];
    let compare = ["compare", "run", "baseline.json"];
    let metrics = [
        "metrics",
        "--generated",
        "scenes/images",
        "--reference",
        "scenes/images",
        "--features",
        "mini:model",
    ];
    #[rustfmt::skip]
    let attacks: Vec<(&[&str], &[&str], &Path)> = vec![
        (&rank, &["m.safetensors"], &matrix),
        (&rank, &["./loop/m.safetensors"], &matrix),
        (&rank, &["hard.safetensors"], &matrix),
        (&rank, &["soft.safetensors"], &matrix),
        (&attend, &["IMAGE"], &image),
        (&attend, &["image-by-another-name.json"], &image),
        (&attend, &["model/model.safetensors"], &weights),
        (&attend, &["model/config.json"], &weights),
        (&compare, &["--markdown", "run/results.json"], &results),
        (&compare, &["--junit", "copy.md"], &results),
        (&compare, &["--markdown", "baseline.json"], &baseline),
        (&compare, &["--markdown", "run/table.md"], &results),
        (&compare, &["--markdown", "c.md", "--junit", "c.md"], &results),
        (&["report", "run", "--out"], &["run/results.json"], &results),
        (&["report", "run", "--out"], &["page.html"], &results),
        (&["report", "run", "--out"], &["run/records.jsonl"], &results),
        (&metrics, &["--out", "IMAGE"], &image),
        (&metrics, &["--out", "image-by-another-name.json"], &image),
        (&metrics, &["--save-reference", "IMAGE"], &image),
    ];
    for (args, more, kept) in attacks {
        let before = std::fs::read(kept).expect("a file");
        let given = args.iter().chain(more).map(|word| match *word {
            "IMAGE" => arg(&image),
            "MODEL" => "model",
            word => word,
        });
        let given: Vec<&str> = given.collect();
        let output =
            crate::common::tokenrank().args(&given).current_dir(dir.path()).output().expect("starts");
        let message = words(&output);
        assert_eq!(output.status.code(), Some(2), "{given:?}: {message}");
        assert!(message.contains("name another") || message.contains("name two"), "{given:?}: {message}");
        assert!(std::fs::read(kept).expect("a file") == before, "{given:?}: {} has changed", kept.display());
    }
    // A page of the user's in a folder of runs.
    put(&out.join("report.html"));
    let message = words(&run(&["report", arg(&out)], 2));
    assert!(message.contains("report.html") && message.contains("no run has made"), "{message}");
    assert_untouched(&[out.join("report.html")], "report");
    std::fs::remove_file(out.join("report.html")).expect("removed");
    // What was made before may be made again, also beside the run.
    for _ in 0..2 {
        run(&["report", arg(&out)], 0);
        run(&["compare", arg(&out), arg(&baseline), "--markdown", arg(&out.join("compared.md"))], 0);
        run(&[&["run", MASKING, "--out", arg(&out)], &FEW[..]].concat(), 0);
        run(&[&["run", MASKING, "--out", arg(&out), "--fresh"], &FEW[..]].concat(), 0);
    }
}

#[test]
fn a_merge_leaves_files_of_others() {
    let dir = scratch();
    let (out, target) = (dir.path().join("run"), dir.path().join("merged"));
    for shard in ["1/2", "2/2"] {
        let more = ["--shard", shard, "--set", "task.masking.batch=1"];
        run(&[&["run", MASKING, "--out", arg(&out)], &FEW[..], &more].concat(), 0);
    }
    let files = [target.join("table.csv"), out.join("results.json")];
    files.iter().for_each(|path| put(path));
    for args in [&["merge", arg(&out), "--out", arg(&target)][..], &["merge", arg(&out)]] {
        let message = words(&run(args, 2));
        assert!(message.contains("no run has made"), "{message}");
    }
    assert_untouched(&files, "merge");
    assert!(!target.join("run.json").exists() && !out.join("run.json").exists());
    files.iter().for_each(|path| std::fs::remove_file(path).expect("removed"));
    run(&["merge", arg(&out), "--out", arg(&target)], 0);
    run(&["merge", arg(&out), "--out", arg(&target)], 0);
}
