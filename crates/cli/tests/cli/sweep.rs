//! `[sweep]`: several settings in one file, one table.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::common::{arg, run, words};

const SWEEP: &str = r#"
title = "Open choices"

[model]
path = "datasets/mini/models/vit"

[dataset.mini]
count = 8
seed = 0

[task.masking]
methods = ["random", "cls", "tokenrank", "tokenrank-lambda2"]
fractions = { from = 0.0, to = 0.8, step = 0.4 }
figures = 0

[sweep]
layers = ["last:1", "all"]
alpha = [0.5, 0.99]
"#;

fn config(dir: &Path, text: &str) -> PathBuf {
    let path = dir.join("choices.toml");
    std::fs::write(&path, text).expect("writable");
    path
}

#[test]
fn a_sweep_ends_in_one_table_and_resumes() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let (config, out) = (config(dir.path(), SWEEP), dir.path().join("out"));
    let args = ["run", arg(&config), "--out", arg(&out)];
    let first = run(&args, 0);
    let text = String::from_utf8(first.stdout).expect("text");
    let told = String::from_utf8(first.stderr).expect("text");
    for line in ["run 1 of 4: layers last:1, alpha 0.5", "run 4 of 4: layers all, alpha 0.99"] {
        assert!(told.contains(line), "{line} is not in\n{told}");
    }
    for word in ["AUC ↓ of every combination", "TokenRank against each other method, AUC ↓", "8 images"] {
        assert!(text.contains(word), "{word} is not in\n{text}");
    }
    assert!(!text.contains('\u{1b}'), "colours in a file:\n{text}");

    let stored: Value =
        serde_json::from_slice(&std::fs::read(out.join("sweep.json")).expect("sweep.json")).expect("JSON");
    let combinations = stored["combinations"].as_array().expect("combinations");
    assert_eq!(combinations.len(), 4);
    let auc = |index: usize, method: &str| combinations[index]["auc"][method].as_f64().expect("an area");
    // One random order for all; one CLS row for each choice of layers.
    assert!((1..4).all(|index| auc(index, "random") == auc(0, "random")));
    assert_eq!((auc(0, "cls"), auc(2, "cls")), (auc(1, "cls"), auc(3, "cls")));
    let folder = |index: usize| {
        let setting =
            |name: &str| combinations[index]["settings"][name].as_str().expect("a value").to_owned();
        format!("runs/layers-{}_alpha-{}", setting("layers").replace(':', "-"), setting("alpha"))
    };
    let scores = |index: usize| -> Value {
        let path = out.join(folder(index)).join("results.json");
        let results: Value = serde_json::from_slice(&std::fs::read(path).expect("results")).expect("JSON");
        results["experiment"]["task"]["masking"]["methods"].clone()
    };
    let (steady, all) =
        (["tokenrank", "tokenrank-lambda2"], ["random", "cls", "tokenrank", "tokenrank-lambda2"]);
    assert_eq!(scores(0), serde_json::json!(all));
    assert_eq!(scores(1), serde_json::json!(steady));
    assert_eq!(scores(2), serde_json::json!(all[1..]));
    for file in ["table.md", "table.csv", "table.tex", "table.parquet", "differences.md", "curve-alpha.png"] {
        assert!(out.join(file).metadata().expect(file).len() > 0);
    }

    // A run that lacks a part is completed, the others are read.
    std::fs::remove_dir_all(out.join(folder(3))).expect("removed");
    std::fs::remove_file(out.join("sweep.json")).expect("removed");
    let again = run(&args, 0);
    assert_eq!(String::from_utf8(again.stdout).expect("text"), text);
    let other: Value =
        serde_json::from_slice(&std::fs::read(out.join("sweep.json")).expect("sweep.json")).expect("JSON");
    assert_eq!(other, stored);

    // Runs of values that are no longer asked for.
    let fewer = run(&[&args[..], &["--set", "sweep.alpha=[0.5]"]].concat(), 0);
    let told = words(&fewer);
    assert!(told.contains("other settings have left runs here (2, such as"), "{told}");
}

/// A combination that changes neither of two methods is not counted again.
#[test]
fn combinations_with_the_same_runs_are_counted_once() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let text = SWEEP.replace("layers = [", "lambda_weight = [\"proportional\", \"squared\"]\n# layers = [");
    let (path, out) = (config(dir.path(), &text), dir.path().join("out"));
    run(&["run", arg(&path), "--out", arg(&out)], 0);
    let table = std::fs::read_to_string(out.join("differences.csv")).expect("a table");
    let row = |beginning: &str| -> Vec<String> {
        let row = table.lines().find(|line| line.starts_with(beginning));
        row.unwrap_or_else(|| panic!("{beginning} is not in\n{table}"))
            .split(',')
            .map(str::to_owned)
            .collect()
    };
    // TokenRank knows α but not the weights; λ₂ knows both.
    let counts = |row: &[String]| row.last().expect("a count").parse::<f64>().expect("a number");
    assert_eq!(counts(&row("(all),\"\",CLS token")), 2.0);
    assert_eq!(counts(&row("(all),\"\",\"TokenRank, λ₂\"")), 4.0);
    assert_eq!(counts(&row("alpha,0.5,CLS token")), 1.0);
    assert_eq!(counts(&row("lambda_weight,squared,Random")), 2.0);

    let stored: Value =
        serde_json::from_slice(&std::fs::read(out.join("sweep.json")).expect("sweep.json")).expect("JSON");
    let verdicts = |minus: &str| {
        let mut seen = std::collections::BTreeMap::new();
        for one in stored["combinations"].as_array().expect("combinations") {
            let found = one["differences"].as_array().expect("differences");
            let found = found.iter().find(|found| found["minus"] == minus).expect(minus);
            let difference = found["interval"]["difference"].as_f64().expect("a difference");
            let value = |method: &str| one["auc"][method].as_f64().expect("an area");
            assert!((difference - (value("tokenrank") - value(minus))).abs() < 1e-9, "{found}");
            let (low, high) = (&found["interval"]["low"], &found["interval"]["high"]);
            assert!(low.as_f64() <= Some(difference) && high.as_f64() >= Some(difference), "{found}");
            let better = high.as_f64() < Some(0.0);
            seen.insert((one["methods"]["tokenrank"].to_string(), one["methods"][minus].to_string()), better);
        }
        seen.values().filter(|better| **better).count() as f64
    };
    let random = row("(all),\"\",Random");
    assert_eq!(random[random.len() - 4].parse::<f64>().expect("a number"), verdicts("random"), "{table}");
}

/// Five images give no verdict; the values are there all the same.
#[test]
fn few_images_have_no_verdict() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let path = config(dir.path(), &SWEEP.replace("count = 8", "count = 5"));
    let out = dir.path().join("sweep");
    let text = String::from_utf8(run(&["run", arg(&path), "--out", arg(&out)], 0).stdout).expect("text");
    assert!(
        text.contains("5 images") && text.contains("Fewer than 6 items have no interval and no verdict"),
        "{text}"
    );
    let stored: Value =
        serde_json::from_slice(&std::fs::read(out.join("sweep.json")).expect("sweep.json")).expect("JSON");
    for combination in stored["combinations"].as_array().expect("combinations") {
        let found = combination["differences"].as_array().expect("differences");
        assert!(found.len() == 3 && found.iter().all(|one| one["interval"]["low"].is_null()), "{found:?}");
        assert!(combination["auc"]["tokenrank"].is_number());
    }
}

/// What one combination says is what the same settings say alone.
#[test]
fn a_combination_is_the_experiment_that_it_describes() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let path = config(dir.path(), SWEEP);
    let out = dir.path().join("sweep");
    run(&["run", arg(&path), "--out", arg(&out), "--set", "sweep.layers=[\"all\"]"], 0);
    let (alone, plain) = (dir.path().join("alone"), dir.path().join("plain.toml"));
    let (experiment, _) = SWEEP.split_once("[sweep]").expect("a sweep");
    std::fs::write(&plain, experiment).expect("writable");
    run(&["run", arg(&plain), "--out", arg(&alone), "--set", "task.masking.alpha=0.5"], 0);
    let read = |path: &Path| -> Value {
        serde_json::from_slice(&std::fs::read(path).expect("a file")).expect("JSON")
    };
    let (sweep, alone) = (read(&out.join("sweep.json")), read(&alone.join("results.json")));
    let metrics = alone["metrics"].as_array().expect("metrics");
    let combination = &sweep["combinations"][0];
    assert_eq!(combination["settings"], serde_json::json!({ "layers": "all", "alpha": "0.5" }));
    for method in ["random", "cls", "tokenrank", "tokenrank-lambda2"] {
        let found = metrics.iter().find(|metric| metric["name"] == "auc" && metric["method"] == method);
        assert_eq!(combination["auc"][method], found.expect(method)["value"], "{method}");
    }
}

#[test]
fn seeds_and_data_are_swept_like_settings_of_the_task() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let (experiment, _) = SWEEP.split_once("[sweep]").expect("a sweep");
    let path =
        config(dir.path(), &format!("{experiment}[sweep]\nseed = [0, 1]\ndataset.mini.seed = [0, 5]\n"));
    let out = dir.path().join("out");
    let args = ["run", arg(&path), "--out", arg(&out), "--set", "task.masking.methods=[\"random\", \"cls\"]"];
    let table = String::from_utf8(run(&args, 0).stdout).expect("text");
    assert!(table.contains("seed") && table.contains("dataset.mini.seed"), "{table}");
    let read = |path: &Path| -> Value {
        serde_json::from_slice(&std::fs::read(path).expect("a file")).expect("JSON")
    };
    let sweep = read(&out.join("sweep.json"));
    let combinations = sweep["combinations"].as_array().expect("combinations");
    let settings: Vec<&Value> = combinations.iter().map(|one| &one["settings"]).collect();
    let wanted = [("0", "0"), ("0", "5"), ("1", "0"), ("1", "5")]
        .map(|(seed, data)| serde_json::json!({ "seed": seed, "dataset.mini.seed": data }));
    assert_eq!(settings, wanted.iter().collect::<Vec<_>>());
    // The CLS row of an image knows no seed, but the images do.
    let cls = |index: usize| &combinations[index]["auc"]["cls"];
    assert_eq!((cls(0), cls(1)), (cls(2), cls(3)));
    let run_of = |name: &str| read(&out.join("runs").join(name).join("results.json"));
    for (name, seed, data) in [("seed-0_dataset.mini.seed-5", 0, 5), ("seed-1_dataset.mini.seed-5", 1, 5)] {
        let experiment = &run_of(name)["experiment"];
        assert_eq!(
            (&experiment["seed"], &experiment["dataset"]["mini"]["seed"]),
            (&seed.into(), &data.into())
        );
    }
    assert_ne!(run_of("seed-0_dataset.mini.seed-0")["data"], run_of("seed-0_dataset.mini.seed-5")["data"]);
}

#[test]
fn a_sweep_is_checked_before_anything_runs() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let out = dir.path().join("out");
    let good = config(dir.path(), SWEEP);
    let ready = String::from_utf8(run(&["validate", arg(&good)], 0).stdout).expect("text");
    assert!(ready.contains("ready, 4 combinations in 4 runs of 8 items: Open choices"), "{ready}");
    // The last combination is the wrong one.
    let bad = config(dir.path(), &SWEEP.replace("[0.5, 0.99]", "[0.5, 2.0]"));
    let refusal = run(&["run", arg(&bad), "--out", arg(&out)], 2);
    let message = String::from_utf8(refusal.stderr).expect("text");
    assert!(message.contains("alpha") && message.contains('2'), "{message}");
    assert!(
        words(&run(&["validate", arg(&bad)], 2)).contains("in the combination layers = last:1, alpha = 2.0")
    );
    assert!(!out.exists());
}

#[test]
fn items_that_cannot_be_read_are_said_of_a_sweep_too() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let scenes = dir.path().join("scenes");
    let spec = tasks::mini::SceneSpec::new(64, 1..=1).expect("a spec");
    tasks::mini::export(&scenes, &spec, 0, tasks::mini::Split::Val, 6).expect("written");
    let folder = format!("[dataset.folder]\nroot = {scenes:?}");
    let text = SWEEP.replace("[dataset.mini]\ncount = 8\nseed = 0", &folder);
    let path = config(dir.path(), &text);
    let image = scenes.join("images/000004.png");
    let bytes = std::fs::read(&image).expect("an image");
    std::fs::write(&image, &bytes[..bytes.len() / 2]).expect("writable");

    let (out, shards) = (dir.path().join("out"), dir.path().join("shards"));
    let args = ["run", arg(&path), "--out", arg(&out)];
    let output = run(&args, 3);
    let said = "1 of 6 items could not be answered and are excluded here: ";
    let text = String::from_utf8(output.stdout.clone()).expect("text");
    assert_eq!(text.matches(said).count(), 2, "{text}");
    let message = words(&output);
    for word in ["1 item could not be answered", "000004.png", "run the same command again"] {
        assert!(message.contains(word), "{word} is not in {message}");
    }
    for file in ["table.md", "summary.md", "sweep.json"] {
        let text = std::fs::read_to_string(out.join(file)).expect(file);
        assert!(text.contains("000004.png"), "{file}: {text}");
    }
    // The shard that has it says so as well.
    let codes = ["1/2", "2/2"].map(|shard| {
        let set = ["--set", "task.masking.batch=2", "--shard", shard];
        let mut command = crate::common::tokenrank();
        command.args(["run", arg(&path), "--out", arg(&shards)]).args(set);
        command.output().expect("starts").status.code()
    });
    assert_eq!(codes, [Some(3), Some(0)]);
    std::fs::write(&image, bytes).expect("writable");
    let output = run(&args, 0);
    assert!(!String::from_utf8(output.stdout).expect("text").contains("could not be answered"));
}

#[test]
fn settings_that_look_alike_in_a_folders_name_are_runs_of_their_own() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let model = crate::common::root().join("datasets/mini/models/vit");
    let copies = ["a/b", "a-b"].map(|name| dir.path().join(name));
    for copy in &copies {
        std::fs::create_dir_all(copy).expect("writable");
        for entry in std::fs::read_dir(&model).expect("the miniature") {
            let path = entry.expect("a file").path();
            std::fs::copy(&path, copy.join(path.file_name().expect("a name"))).expect("copied");
        }
    }
    let axes = format!("[sweep]\n\"model.path\" = [{:?}, {:?}]", copies[0], copies[1]);
    let (experiment, _) = SWEEP.split_once("[sweep]").expect("a sweep");
    let path = config(dir.path(), &format!("{experiment}{axes}"));
    let out = dir.path().join("out");
    for more in [&[][..], &["--fresh"]] {
        run(&[&["run", arg(&path), "--out", arg(&out)], more].concat(), 0);
        let runs: Vec<PathBuf> = std::fs::read_dir(out.join("runs"))
            .expect("runs")
            .map(|entry| entry.expect("a run").path())
            .collect();
        assert_eq!(runs.len(), 2);
        assert!(runs.iter().all(|run| run.join("results.json").exists()), "{runs:?}");
    }
}
