//! `tokenrank run` on the miniature: tables, results, resuming, refusals.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::Value;

use crate::common::{arg, root, run, tokenrank, words};

const CONFIG: &str = "configs/mini/masking-vit.toml";
/// Small enough for a test, with several batches to interrupt.
const SMALL: [&str; 6] = [
    "--set",
    "task.masking.batch=5",
    "--set",
    "task.masking.fractions={ from = 0.0, to = 0.9, step = 0.15 }",
    "--limit",
    "42",
];

fn results(out: &Path) -> Value {
    let text = std::fs::read_to_string(out.join("results.json")).expect("results");
    serde_json::from_str(&text).expect("JSON")
}

#[test]
fn a_run_leaves_table_results_and_pictures() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let out = dir.path().join("run");
    let args = [&["run", CONFIG, "--out", arg(&out)], &SMALL[..]].concat();
    let output = run(&args, 0);
    let table = String::from_utf8(output.stdout).expect("text");
    for word in ["TokenRank", "CLS token", "paper, ViT", "42 images", "compare orderings"] {
        assert!(table.contains(word), "{word} is not in\n{table}");
    }
    let results = results(&out);
    assert_eq!(results["schema"], 1);
    assert_eq!(results["items"], 42);
    let metrics = results["metrics"].as_array().expect("metrics");
    let value = |name: &str, method: Value| {
        let found = metrics.iter().find(|metric| metric["name"] == name && metric["method"] == method);
        found.unwrap_or_else(|| panic!("no {name} of {method}"))["value"].as_f64().expect("a number")
    };
    assert!(value("unmasked-accuracy", Value::Null) >= 0.9);
    assert!(value("auc", "random".into()) > value("auc", "tokenrank".into()), "a random order harms least");
    for method in ["center", "column-sum-no-cls", "cls", "tokenrank-no-cls", "tokenrank-lambda2"] {
        let auc = value("auc", method.into());
        assert!((0.0..=1.2).contains(&auc), "{method}: {auc}");
    }
    for file in ["records.jsonl", "table.md", "table.csv", "table.tex", "table.parquet"] {
        assert!(out.join(file).metadata().expect(file).len() > 0);
    }
    for picture in ["curves.png", "overlays.png"] {
        let bytes = std::fs::read(out.join(picture)).expect(picture);
        assert!(bytes.starts_with(b"\x89PNG"), "{picture}");
    }
    // Everything is there: the second run computes nothing and says the same.
    let again = run(&args, 0);
    assert_eq!(String::from_utf8(again.stdout).expect("text"), table);
    assert!(words_of(&again.stderr).contains("all items were already done"));
}

fn words_of(stderr: &[u8]) -> String {
    String::from_utf8_lossy(stderr).into_owned()
}

/// Kills a run again and again, at moments that differ, and compares with a run that nobody disturbed.
#[test]
fn killed_at_any_moment_a_run_resumes_to_the_same_values() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let (whole, killed) = (dir.path().join("whole"), dir.path().join("killed"));
    let command = |out: &Path| {
        [&["run", CONFIG, "--out", arg(out)], &SMALL[..]]
            .concat()
            .iter()
            .map(|s| s.to_string())
            .collect::<Vec<_>>()
    };
    let start = Instant::now();
    run(&command(&whole).iter().map(String::as_str).collect::<Vec<_>>(), 0);
    let whole_time = start.elapsed();
    for attempt in 1..=10 {
        let mut child = Command::new(env!("CARGO_BIN_EXE_tokenrank"))
            .args(command(&killed))
            .current_dir(root())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the binary starts");
        // Spread over start-up, batches and the writing of results.
        let moment = whole_time.mul_f64(f64::from(attempt * 37 % 100) / 100.0);
        let until = Instant::now() + moment;
        while Instant::now() < until && child.try_wait().expect("a child").is_none() {
            std::thread::sleep(Duration::from_millis(2));
        }
        child.kill().expect("killed or gone");
        child.wait().expect("a child");
    }
    run(&command(&killed).iter().map(String::as_str).collect::<Vec<_>>(), 0);
    let (whole, killed) = (results(&whole), results(&killed));
    for part in ["metrics", "curves", "data", "items", "fingerprint"] {
        assert_eq!(whole[part], killed[part], "{part}");
    }
}

/// Damage at the end of the records costs a batch, never a number.
#[test]
fn a_torn_tail_is_run_again() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let out = dir.path().join("run");
    let args = [&["run", CONFIG, "--out", arg(&out)], &SMALL[..]].concat();
    run(&args, 0);
    let before = results(&out);
    let records = out.join("records.jsonl");
    let bytes = std::fs::read(&records).expect("records");
    std::fs::write(&records, &bytes[..bytes.len() / 2 + 3]).expect("writable");
    run(&args, 0);
    assert_eq!(before["metrics"], results(&out)["metrics"]);
    assert_eq!(std::fs::read(&records).expect("records"), bytes);
}

#[test]
fn a_folder_of_another_run_is_not_touched() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let out = dir.path().join("run");
    let args = [&["run", CONFIG, "--out", arg(&out)], &SMALL[..]].concat();
    run(&args, 0);
    let before = std::fs::read(out.join("records.jsonl")).expect("records");
    let changed = [&args[..], &["--set", "task.masking.alpha=0.9"]].concat();
    let message = words(&run(&changed, 2));
    assert!(message.contains("task.masking.alpha: 0.99 → 0.9"), "{message}");
    assert_eq!(before, std::fs::read(out.join("records.jsonl")).expect("records"));
}

#[test]
fn the_table_goes_to_stdout_and_nothing_else_does() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let out = dir.path().join("run");
    let output = run(&["run", CONFIG, "--limit", "3", "--out", arg(&out)], 0);
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(text.starts_with("Masking the most influential tokens"), "{text}");
    assert!(!text.contains("results.json"));
}

/// A DINO backbone with a linear head of its own, as published.
#[test]
fn a_backbone_runs_with_a_head_published_apart() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let (out, head) = (dir.path().join("run"), dir.path().join("head.safetensors"));
    let values: Vec<u8> =
        (0..10 * 4 * 16).flat_map(|i| ((i * 37 % 101) as f32 / 50.0 - 1.0).to_le_bytes()).collect();
    let view = |shape: &[usize], data| TensorView::new(Dtype::F32, shape.to_vec(), data).expect("a tensor");
    let tensors = [("weight", view(&[10, 64], &values)), ("bias", view(&[10], &values[..40]))];
    std::fs::write(&head, safetensors::serialize(tensors, None).expect("serialises")).expect("written");
    let model = "model.path=crates/models/tests/fixtures/dino-small";
    let args = ["run", CONFIG, "--limit", "6", "--out", arg(&out), "--set", model];
    let message = words(&run(&args, 3));
    assert!(message.contains("model.head"), "{message}");
    let with_head = format!("model.head={}", arg(&head));
    run(&[&args[..], &["--set", &with_head]].concat(), 0);
    assert_eq!(results(&out)["items"], 6);
    // Another head is another run.
    let mut changed = values.clone();
    changed[0] ^= 1;
    let tensors = [("weight", view(&[10, 64], &changed)), ("bias", view(&[10], &changed[..40]))];
    std::fs::write(&head, safetensors::serialize(tensors, None).expect("serialises")).expect("written");
    run(&[&args[..], &["--set", &with_head]].concat(), 2);
}

/// The demo's four networks, in another order than the table's.
#[test]
fn runs_that_fill_columns_of_one_table_end_in_it() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let out = dir.path().join("all");
    let configs = ["dinov2", "clip", "vit", "dinov1"].map(|name| format!("configs/mini/masking-{name}.toml"));
    let mut args = vec![
        "run",
        "--limit",
        "3",
        "--out",
        arg(&out),
        "--set",
        "task.masking.methods=[\"random\", \"cls\"]",
    ];
    args.extend(configs.iter().map(String::as_str));
    let (table, words) = table_of_all(&args);
    assert_eq!(
        words[3..11],
        ["ViT", "paper", "CLIP", "paper", "DINOv1", "paper", "DINOv2", "paper"],
        "{table}"
    );
    let row = 2 + words.iter().position(|word| word == "CLS").expect("a row");
    let published: Vec<&str> = (0..4).map(|column| &*words[row + 2 * column + 1]).collect();
    assert_eq!(published, ["0.330", "0.530", "0.560", "0.700"], "{table}");
    for who in ["CLIP: Masking the most influential tokens: miniature CLIP", "3 images"] {
        assert!(table.contains(who), "{who} is not in\n{table}");
    }
    assert!(out.join("masking-dinov1/results.json").exists());
    let csv = std::fs::read_to_string(out.join("masking.csv")).expect("the table as a file");
    assert!(csv.starts_with("tokens masked by,ViT,\"ViT, paper\",CLIP,\"CLIP, paper\","), "{csv}");
}

/// Images that are no miniature have their difference to the paper, here scenes in a folder.
#[test]
fn ours_minus_the_papers() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let scenes = dir.path().join("scenes");
    let (spec, split) = (tasks::mini::SceneSpec::default(), tasks::mini::Split::Val);
    tasks::mini::export(&scenes, &spec, 0, split, 3).expect("written");
    let text = std::fs::read_to_string(root().join(CONFIG)).expect("an experiment");
    let folder = format!("[dataset.folder]\nroot = \"{}\"\n", scenes.display());
    let text = text.replace("[dataset.mini]\ncount = 500\nseed = 0\n", &folder);
    let configs = [("second", "DINOv1"), ("first", "ViT")].map(|(name, column)| {
        let path = dir.path().join(name).with_extension("toml");
        let text = text.replace("column = \"ViT\"", &format!("column = \"{column}\""));
        std::fs::write(&path, text).expect("written");
        path
    });
    let out = dir.path().join("out");
    let scores = "task.masking.methods=[\"cls\", \"tokenrank-lambda2\"]";
    let args = ["run", arg(&configs[0]), arg(&configs[1]), "--out", arg(&out), "--set", scores];
    let (table, words) = table_of_all(&args);
    assert_eq!(words[3..9], ["ViT", "paper", "Δ", "DINOv1", "paper", "Δ"], "{table}");
    let row = 2 + words.iter().position(|word| word == "CLS").expect("a row");
    let number =
        |at: usize| words[row + at].parse::<f64>().unwrap_or_else(|_| panic!("{}: {table}", words[row + at]));
    assert_eq!((number(1), number(4)), (0.33, 0.56), "{table}");
    assert_eq!(number(0), number(3), "the same network and scenes: {table}");
    for at in [0, 3] {
        assert!((number(at) - number(at + 1) - number(at + 2)).abs() < 2e-3, "{table}");
    }
    assert!(table.contains("ours − paper's"), "{table}");
}

/// The table of several runs, and its words without the lines between columns.
fn table_of_all(args: &[&str]) -> (String, Vec<String>) {
    let text = String::from_utf8(run(args, 0).stdout).expect("text");
    let (_, table) = text.split_once("Masking the most influential tokens: AUC\n").expect("the table of all");
    let words = table.split_whitespace().filter(|word| *word != "┆").map(str::to_owned).collect();
    (table.to_owned(), words)
}

#[test]
fn mistakes_in_an_experiment_are_refused_before_any_work() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let out = dir.path().join("run");
    for (set, code, word) in [
        ("task.masking.methods=[\"tokenrnk\"]", 2, "tokenrnk"),
        ("task.masking.methods=[]", 2, "lists no methods"),
        ("task.masking.methods=[\"cls\", \"cls\"]", 2, "twice"),
        ("task.masking.layers=last:99", 2, "blocks"),
        ("task.masking.layers=some", 2, "last:N"),
        ("task.masking.fractions.to=1.0", 2, "fractions"),
        ("task.masking.fractions.step=0", 2, "step"),
        ("task.masking.fractions.step=nan", 2, "step"),
        ("task.masking.alpha=0", 2, "alpha"),
        ("task.masking.batch=0", 2, "batch"),
        ("task.masking.speed=9", 2, "speed"),
        ("fills.column=ResNet", 2, "ResNet"),
        ("model.path=no/such/model", 3, "no/such/model"),
        ("dataset.mini.count=0", 2, "count"),
        ("seed", 2, "KEY=VALUE"),
    ] {
        let message = words(&run(&["run", CONFIG, "--out", arg(&out), "--set", set], code));
        assert!(message.contains(word) && !message.contains("panicked"), "{set}: {message}");
        assert!(!out.exists(), "{set}: a run was begun");
    }
    let message = words(&run(&["run", "no/such/config.toml"], 2));
    assert!(message.contains("no/such/config.toml"), "{message}");
    let message = words(&run(&["run", CONFIG, CONFIG, "--out", arg(&out)], 2));
    assert!(message.contains("--out") && message.contains("masking-vit"), "{message}");
}

#[test]
fn validate_runs_nothing() {
    let output = run(&["validate", CONFIG], 0);
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(text.contains("ready, 500 items"), "{text}");
    // The example's folders are what a user brings.
    let example = ["validate", "configs/examples/masking-vit-tiny.toml"];
    let message = words(&run(&[&example[..], &["--set", "model.path=brought/by/nobody"]].concat(), 3));
    assert!(message.contains("brought/by/nobody"), "{message}");
}

#[test]
fn ls_and_doctor_answer() {
    let text = String::from_utf8(run(&["ls"], 0).stdout).expect("text");
    for word in ["vit", "imagenet", "configs/mini/masking-vit.toml", "open choices, ViT-Ti/16"] {
        assert!(text.contains(word), "{word} is not in\n{text}");
    }
    assert!(!text.contains("cannot be read") && !text.contains("models.toml"), "{text}");
    let text = String::from_utf8(run(&["doctor"], 0).stdout).expect("text");
    for word in ["libtorch   2.11.0", "compute    works"] {
        assert!(text.contains(word), "{word} is not in\n{text}");
    }
    run(&["--version"], 0);
}

/// Offline, with nothing fetched: what is missing and how to get it, all of it at once.
#[test]
fn validate_answers_for_every_experiment() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let nowhere = dir.path().join("nowhere");
    let validate = |config: &Path, sets: &[String], code: i32| -> String {
        let mut command = tokenrank();
        command.arg("validate").arg(config).env("HF_HOME", dir.path()).current_dir(root());
        for set in sets {
            command.args(["--set", set]);
        }
        let output = command.output().expect("the binary starts");
        assert_eq!(output.status.code(), Some(code), "{}: {}", config.display(), words(&output));
        // A message is wrapped where it is wide.
        let text =
            if code == 0 { String::from_utf8_lossy(&output.stdout).into_owned() } else { words(&output) };
        text.split_whitespace().filter(|word| *word != "│").collect::<Vec<_>>().join(" ")
    };
    let mut seen = 0;
    for folder in ["mini", "mini/ablations", "examples", "paper", "paper/ablations"] {
        for entry in std::fs::read_dir(root().join("configs").join(folder)).expect("configs") {
            let config = entry.expect("an entry").path();
            if config.is_dir() {
                continue;
            }
            let name = config.file_stem().and_then(|name| name.to_str()).expect("a name").to_owned();
            seen += 1;
            let (answer, wanted) = match folder {
                "examples" if name == "sweep-segment-mini" => {
                    (validate(&config, &[], 0), vec!["12 combinations", "of 200 items"])
                }
                "mini/ablations" => (validate(&config, &[], 0), vec!["ready, "]),
                "mini" => {
                    let masking = name.starts_with("masking");
                    (validate(&config, &[], 0), vec![if masking { "ready, 500 items" } else { "ready, " }])
                }
                "examples" if name == "kept-vit-mini" => (validate(&config, &[], 0), vec!["ready, 64 items"]),
                "examples" if name == "scores-mini" => (validate(&config, &[], 0), vec!["ready, 100 items"]),
                "examples" => {
                    let sets = ["model.path", "dataset.folder.root"]
                        .map(|key| format!("{key}={}", nowhere.join(key).display()));
                    (
                        validate(&config, &sets, 3),
                        vec!["2 problems", "nowhere/model.path", "nowhere/dataset.folder.root"],
                    )
                }
                // Tests of their own have the others.
                "paper" | "paper/ablations" if !name.starts_with("masking") => continue,
                _ => {
                    let sets = [format!("model.head={}", nowhere.join("head.safetensors").display())];
                    let head = name == "masking-dinov1";
                    let answer = validate(&config, &sets[..usize::from(head)], 3);
                    let count = if head { "3 problems" } else { "2 problems" };
                    let mut wanted = vec![
                        count,
                        " missing; get ",
                        "tokenrank fetch",
                        "ILSVRC/imagenet-1k",
                        "fetch --for FILE.toml",
                    ];
                    wanted.extend(head.then_some("dino_…_linearweights.pth"));
                    (answer, wanted)
                }
            };
            for word in wanted {
                assert!(answer.contains(word), "{name}: {word} is not in\n{answer}");
            }
        }
    }
    assert!(seen >= 10, "{seen} experiments");
}
