//! `tokenrank compare`: a TokenRank that is broken on purpose is caught, files are written and refused.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::common::{arg, root, run, scratch, tokenrank, words};
use crate::on_files::{scenes, with_dataset};

/// The baseline of the quick suite, as `.ci/run` uses it.
const QUICK: &str = "eval/baselines/mini-quick.json";
/// Items of each of its runs.
const LIMIT: &str = "24";

/// A run of the quick suite with a change, below `out` as several runs of one command are.
fn quick(out: &Path, name: &str, change: Option<&str>) {
    let (config, out) = (format!("configs/mini/{name}.toml"), out.join(name));
    let mut args = vec!["run", &config, "--limit", LIMIT, "--out", arg(&out)];
    args.extend(change.into_iter().flat_map(|change| ["--set", change]));
    run(&args, 0);
}

/// A few items with two methods: enough where values do not matter.
fn tiny(out: &Path, more: &[&str]) {
    let scores = "task.masking.methods=[\"random\", \"cls\"]";
    let args = ["run", "configs/mini/masking-vit.toml", "--set", scores, "--out", arg(out)];
    let limit: &[&str] = if more.contains(&"--limit") { &[] } else { &["--limit", "4"] };
    run(&[&args[..], limit, more].concat(), 0);
}

fn stdout(args: &[&str], code: i32) -> String {
    String::from_utf8(run(args, code).stdout).expect("text")
}

/// The test cases of a JUnit file: run, name, what is said, and whether it failed.
fn cases(path: &Path) -> Vec<(String, String, String, bool)> {
    let text = std::fs::read_to_string(path).expect("a report");
    let document = roxmltree::Document::parse(&text).expect("XML");
    let attribute =
        |node: &roxmltree::Node, name: &str| node.attribute(name).expect("an attribute").to_owned();
    let case = |node: roxmltree::Node| {
        let failure = node.children().find(|child| child.has_tag_name("failure"));
        let said = node.children().find(roxmltree::Node::is_element).and_then(|child| child.text());
        let said = said.unwrap_or_default().to_owned();
        (attribute(&node, "classname"), attribute(&node, "name"), said, failure.is_some())
    };
    document.descendants().filter(|node| node.has_tag_name("testcase")).map(case).collect()
}

/// Edits a baseline as a person would.
fn edited(path: &Path, to: &Path, edit: impl FnOnce(&mut Value)) {
    let mut value: Value = serde_json::from_slice(&std::fs::read(path).expect("a baseline")).expect("JSON");
    edit(&mut value);
    std::fs::write(to, value.to_string()).expect("written");
}

/// TokenRank with another teleport is another TokenRank. It is caught in the runs of CI, against their baseline; and not
/// for its setting alone: a baseline that claims that setting is not met either, in the values of TokenRank and no others.
#[test]
fn a_broken_tokenrank_is_caught() {
    let dir = scratch();
    let (whole, broken) = (dir.path().join("whole"), dir.path().join("broken"));
    let suite = [("masking-vit", "task.masking.alpha"), ("diffseg", "task.diffseg.alpha")];
    for (name, setting) in suite {
        quick(&whole, name, None);
        quick(&broken, name, Some(&format!("{setting}=0.5")));
    }
    let only = ["--only", "masking-vit", "--only", "diffseg"];
    let sound = stdout(&[&["compare", arg(&whole), QUICK], &only[..]].concat(), 0);
    assert!(sound.contains("none of"), "{sound}");

    // On the machine of the test, so that what is not TokenRank is the same to the last bit.
    let (base, junit) = (dir.path().join("base.json"), dir.path().join("junit.xml"));
    run(&["compare", arg(&whole), arg(&base), "--update", "--tolerance", "default=0.005"], 0);
    for baseline in [Path::new(QUICK), &base] {
        let args = ["compare", arg(&broken), arg(baseline), "--junit", arg(&junit)];
        let text = stdout(&[&args[..], &only].concat(), 4);
        for (name, setting) in suite {
            assert!(text.contains(&format!("{name}: another experiment: {setting}: 0.99 → 0.5")), "{text}");
        }
        caught(&junit, baseline == base);
    }

    edited(&base, &base, |value| {
        for (name, _) in suite {
            let task = value["runs"][name]["experiment"]["task"].as_object_mut().expect("a task");
            task.values_mut().for_each(|settings| settings["alpha"] = 0.5.into());
        }
    });
    let output = run(&["compare", arg(&broken), arg(&base), "--junit", arg(&junit)], 4);
    let text = String::from_utf8(output.stdout.clone()).expect("text");
    assert!(!text.contains("another experiment") && text.contains("moved"), "{text}");
    assert!(words(&output).contains("--update makes it the baseline"), "{}", words(&output));
    caught(&junit, true);
    assert!(cases(&junit).iter().all(|(_, name, _, failed)| !failed || name.contains("tokenrank")));
}

/// TokenRank's values have moved in both runs, and those without TokenRank have not.
fn caught(junit: &Path, to_the_bit: bool) {
    let cases = cases(junit);
    for run in ["masking-vit", "diffseg"] {
        let of_tokenrank = |(of, name, _, failed): &&(String, String, String, bool)| {
            of == run && name.contains("of tokenrank") && *failed
        };
        assert!(cases.iter().any(|case| of_tokenrank(&case)), "{run}: {cases:#?}");
    }
    for (run, name, said, failed) in &cases {
        let unaffected = ["random", "center", "cls", "column-sum", "column-sum-no-cls", "uniform"]
            .iter()
            .any(|method| name.ends_with(&format!(" of {method}")));
        if unaffected {
            assert!(!failed, "{run}: {name}: {said}");
            assert!(!to_the_bit || said.contains(", same"), "{run}: {name}: {said}");
        }
    }
}

#[test]
fn a_baseline_is_made_kept_and_updated() {
    let dir = scratch();
    let (out, other) = (dir.path().join("run"), dir.path().join("other"));
    let path = dir.path().join("below/tiny.json");
    tiny(&out, &[]);
    let message = words(&run(&["compare", arg(&out), arg(&path)], 3));
    assert!(message.contains("no such baseline") && message.contains("--update"), "{message}");

    let output = run(&["compare", arg(&out), arg(&path), "--update", "--tolerance", "auc=0.25"], 0);
    let told = words(&output);
    assert!(told.contains("created from this result") && told.contains("added: masking-vit"), "{told}");
    let value: Value = serde_json::from_slice(&std::fs::read(&path).expect("a baseline")).expect("JSON");
    let command = value["command"].as_str().expect("a command");
    assert!(command.starts_with("tokenrank run configs/mini/masking-vit.toml --set "), "{command}");
    assert!(command.ends_with("--limit 4 --out DIR"), "{command}");
    assert!(!command.contains(arg(dir.path())), "{command}");
    assert_eq!(value["suite"], "tiny");

    // Nothing to say, nothing to write.
    assert!(
        stdout(&["compare", arg(&out), arg(&path)], 0).ends_with("none of 5 values moved; 5 the same.\n")
    );
    let before = std::fs::read(&path).expect("a baseline");
    let output = run(&["compare", arg(&out), arg(&path), "--update"], 0);
    assert!(words(&output).contains("left alone"), "{}", words(&output));
    assert_eq!(std::fs::read(&path).expect("a baseline"), before);

    // Another number of items and other data, which --update takes in; the tolerances stay.
    tiny(&other, &["--limit", "5"]);
    let text = stdout(&["compare", arg(&other), arg(&path)], 4);
    for word in ["limit: 4 → 5", "another number of items: 4 → 5", "other data: "] {
        assert!(text.contains(word), "{word}: {text}");
    }
    let told = words(&run(&["compare", arg(&other), arg(&path), "--update"], 0));
    assert!(told.contains("tiny.json updated") && told.contains("updated: masking-vit"), "{told}");
    let value: Value = serde_json::from_slice(&std::fs::read(&path).expect("a baseline")).expect("JSON");
    assert_eq!(value["tolerances"]["metrics"]["auc"], 0.25);
    run(&["compare", arg(&other), arg(&path)], 0);
}

/// A result with one of three runs touches that one; the others go only if that is asked for.
#[test]
fn an_update_with_a_part_keeps_the_rest() {
    let dir = scratch();
    let (all, part) = (dir.path().join("all"), dir.path().join("part"));
    let path = dir.path().join("suite.json");
    for seed in ["0", "1", "2"] {
        let config = dir.path().join(format!("seed-{seed}.toml"));
        std::fs::copy(root().join("configs/mini/masking-vit.toml"), &config).expect("copied");
        let set = format!("seed={seed}");
        let tiny = ["--set", "task.masking.methods=[\"random\", \"cls\"]", "--limit", "4", "--set", &set];
        run(&[&["run", arg(&config), "--out", arg(&all.join(seed))], &tiny[..]].concat(), 0);
        if seed == "1" {
            let less = ["--set", "task.masking.methods=[\"cls\"]"];
            run(&[&["run", arg(&config), "--out", arg(&part.join(seed))], &tiny[..], &less].concat(), 0);
        }
    }
    run(&["compare", arg(&all), arg(&path), "--update"], 0);
    let read =
        || -> Value { serde_json::from_slice(&std::fs::read(&path).expect("a baseline")).expect("JSON") };
    let before = read();

    // A comparison with a part fails, since runs are missing; an update does not lose them.
    run(&["compare", arg(&part), arg(&path)], 4);
    let told = words(&run(&["compare", arg(&part), arg(&path), "--update"], 0));
    for said in [
        "suite.json updated",
        "updated: seed-1",
        "kept: seed-0, seed-2; this result does not have them",
        "--prune removes the runs that were kept",
        "seed-1 no longer has: auc of random, auc-still-right of random",
    ] {
        assert!(told.contains(said), "{said}: {told}");
    }
    let after = read();
    for name in ["seed-0", "seed-2"] {
        assert_eq!(before["runs"][name], after["runs"][name]);
    }
    assert_ne!(before["runs"]["seed-1"], after["runs"]["seed-1"]);
    let command = after["command"].as_str().expect("a command");
    assert!(command.starts_with(before["command"].as_str().expect("a command")), "{command}");

    // The same once more changes nothing; of a whole result, one run can be chosen.
    let told = words(&run(&["compare", arg(&part), arg(&path), "--update"], 0));
    assert!(told.contains("left alone") && told.contains("unchanged: seed-1"), "{told}");
    let told = words(&run(&["compare", arg(&all), arg(&path), "--update", "--only", "seed-1"], 0));
    assert!(told.contains("updated: seed-1") && told.contains("kept: seed-0, seed-2"), "{told}");
    assert_eq!(read()["runs"], before["runs"]);

    let told = words(&run(&["compare", arg(&part), arg(&path), "--update", "--prune"], 0));
    assert!(told.contains("removed: seed-0, seed-2"), "{told}");
    assert_eq!(read()["runs"].as_object().expect("runs").keys().collect::<Vec<_>>(), ["seed-1"]);
}

/// A baseline that was made a minute ago on one thread is met on two, and with the plainest instructions, in all four tasks.
#[test]
fn a_fresh_baseline_holds_on_other_threads_and_instructions() {
    let dir = scratch();
    let path = dir.path().join("fresh.json");
    let suite = |name: &str, threads: &str, instructions: Option<&str>| {
        let out = dir.path().join(name);
        for config in ["masking-vit", "segment", "diffseg", "guidance"] {
            let file = format!("configs/mini/{config}.toml");
            let mut command = tokenrank();
            command.env("OMP_NUM_THREADS", threads).env_remove("ATEN_CPU_CAPABILITY");
            command.envs(instructions.map(|value| ("ATEN_CPU_CAPABILITY", value)));
            command.args(["run", &file, "--limit", "6", "--out", arg(&out.join(config))]);
            if config == "guidance" {
                // Few passes and few pictures to compare with, so that it takes seconds.
                let less = [
                    "task.guidance.steps=4",
                    "dataset.mini.count=60",
                    "metrics.splits=2",
                    "metrics.resamples=20",
                ];
                command.args(less.iter().flat_map(|set| ["--set", set]));
            }
            let output = command.output().expect("the binary starts");
            assert!(output.status.success(), "{config}: {}", words(&output));
        }
        out
    };
    let one = suite("one", "1", None);
    run(&["compare", arg(&one), arg(&path), "--update"], 0);
    let value: Value = serde_json::from_slice(&std::fs::read(&path).expect("a baseline")).expect("JSON");
    let tolerances = &value["tolerances"];
    let frechet = tolerances["metrics"]["frechet"].as_f64().expect("a tolerance");
    let values = value["runs"]["guidance"]["values"].as_array().expect("values");
    let largest = values.iter().filter(|value| value["metric"] == "frechet");
    let largest = largest.filter_map(|value| value["value"].as_f64()).fold(0.0, f64::max);
    assert!((0.004..0.007).contains(&(frechet / largest)), "{frechet} of {largest}");

    for (name, threads, instructions) in [("two", "2", None), ("plain", "2", Some("default"))] {
        let other = suite(name, threads, instructions);
        let text = stdout(&["compare", arg(&other), arg(&path)], 0);
        assert!(text.contains("none of"), "{name}: {text}");
        // Nor do two folders need a file between them.
        stdout(&["compare", arg(&other), arg(&one)], 0);
    }
}

#[test]
fn two_folders_are_compared_as_well() {
    let dir = scratch();
    let [out, other] = ["run", "other"].map(|name| dir.path().join(name));
    tiny(&out, &[]);
    tiny(&other, &["--set", "seed=1"]);
    assert!(stdout(&["compare", arg(&out), arg(&out)], 0).contains("5 the same"));
    let markdown = dir.path().join("compare.md");
    let text = stdout(&["compare", arg(&other), arg(&out), "--all", "--markdown", arg(&markdown)], 4);
    assert!(text.contains("another experiment: seed: 0 → 1") && text.contains("unmasked-accuracy"), "{text}");
    let markdown = std::fs::read_to_string(&markdown).expect("a report");
    assert!(markdown.starts_with("### run: not as the baseline\n\n- **masking-vit**: "), "{markdown}");
    let message = words(&run(&["compare", arg(&out), arg(&other), "--update"], 2));
    assert!(message.contains("is a folder"), "{message}");
}

#[test]
fn what_cannot_be_compared_is_refused() {
    let dir = scratch();
    let (out, path) = (dir.path().join("run"), dir.path().join("tiny.json"));
    tiny(&out, &[]);
    run(&["compare", arg(&out), arg(&path), "--update"], 0);
    for (more, words_) in [
        (vec!["--tolerance", "acu=0.1"], "not a metric of these runs"),
        (vec!["--tolerance", "auc=-1"], "must be a finite number ≥ 0"),
        (vec!["--only", "nobody"], "there are masking-vit"),
        (vec!["--only", "masking-vit", "--update", "--prune"], "cannot be used with"),
        (vec!["--prune"], "--update"),
    ] {
        let message = words(&run(&[&["compare", arg(&out), arg(&path)], &more[..]].concat(), 2));
        assert!(message.contains(words_), "{more:?}: {message}");
    }
    let message = words(&run(&["compare", arg(dir.path()).trim_end_matches("run"), "nobody.json"], 3));
    assert!(message.contains("nobody.json"), "{message}");
    let empty: PathBuf = dir.path().join("empty");
    std::fs::create_dir(&empty).expect("a folder");
    assert!(words(&run(&["compare", arg(&empty), arg(&path)], 3)).contains("no finished run here"));

    let text = std::fs::read_to_string(&path).expect("a baseline");
    std::fs::write(&path, &text[..text.len() / 2]).expect("written");
    let message = words(&run(&["compare", arg(&out), arg(&path)], 3));
    assert!(message.contains("damaged") && message.contains("tiny.json"), "{message}");
    // A damaged one may hold tolerances of somebody: it is not written over.
    run(&["compare", arg(&out), arg(&path), "--update"], 3);
}

/// What CI compares with is what the configs of the repository say, all of them.
#[test]
fn the_quick_suite_has_every_miniature() {
    let bytes = std::fs::read(root().join(QUICK)).expect("the baseline");
    assert!(bytes.len() < 300_000, "{} bytes", bytes.len());
    let value: Value = serde_json::from_slice(&bytes).expect("JSON");
    let mut configs: Vec<String> = std::fs::read_dir(root().join("configs/mini"))
        .expect("configs")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.is_file())
        .map(|path| path.file_stem().expect("a name").to_string_lossy().into_owned())
        .collect();
    configs.sort();
    let runs: Vec<&String> = value["runs"].as_object().expect("runs").keys().collect();
    assert_eq!(runs, configs.iter().collect::<Vec<_>>());
    assert!(value["command"].as_str().expect("a command").contains(&format!("--limit {LIMIT}")));
}

/// An edit of the metrics of `results.json`.
type Edit = fn(&mut Vec<Value>);

/// Attacks: results that are other than they seem. Name, what is done to the metrics of a finished run that equals its
/// baseline, the exit code of `compare`, and its words.
const RESULTS: [(&str, Edit, i32, &str); 6] = [
    ("as it is", |_| {}, 0, "none of 5 values moved; 5 the same"),
    ("a value is undefined", |metrics| metrics[1]["value"] = Value::Null, 3, "do not belong together"),
    ("a value is another", |metrics| metrics[1]["value"] = 0.123.into(), 3, "do not belong together"),
    ("a value is a text", |metrics| metrics[1]["value"] = "0.5".into(), 3, "results.json"),
    ("a value is gone", |metrics| drop(metrics.remove(1)), 4, "1 missing"),
    ("a value is repeated", |metrics| metrics.push(metrics[1].clone()), 3, "results.json"),
];

#[test]
fn results_that_are_other_than_they_seem_are_refused() {
    let dir = scratch();
    let (out, path) = (dir.path().join("run"), dir.path().join("tiny.json"));
    tiny(&out, &[]);
    run(&["compare", arg(&out), arg(&path), "--update"], 0);
    let file = out.join("results.json");
    let whole = std::fs::read(&file).expect("results");
    for (name, edit, code, expected) in RESULTS {
        std::fs::write(&file, &whole).expect("writable");
        edited(&file, &file, |value| edit(value["metrics"].as_array_mut().expect("metrics")));
        let output = run(&["compare", arg(&out), arg(&path)], code);
        let told = String::from_utf8_lossy(&output.stdout).into_owned() + &words(&output);
        assert!(told.contains(expected), "{name}: {told}");
    }
}

/// Where no image is classified correctly, no area under a curve is defined.
#[test]
fn values_undefined_on_both_sides_are_said_and_are_no_baseline() {
    let dir = scratch();
    let (folder, out) = (dir.path().join("scenes"), dir.path().join("run"));
    scenes(&folder, 1..=1);
    let table = std::fs::read_to_string(folder.join("labels.csv")).expect("a table");
    let wrong = table.lines().map(|line| match line.rsplit_once(',') {
        Some((file, label)) => match label.parse::<u64>() {
            Ok(label) => format!("{file},{}\n", (label + 1) % 10),
            Err(_) => format!("{line}\n"),
        },
        None => panic!("{line}"),
    });
    std::fs::write(folder.join("labels.csv"), wrong.collect::<String>()).expect("writable");
    let dataset = format!("[folder]\nroot = {folder:?}");
    let config = with_dataset(dir.path(), "configs/mini/masking-vit.toml", &dataset);
    run(&["run", arg(&config), "--out", arg(&out)], 0);
    let text = stdout(&["compare", arg(&out), arg(&out)], 0);
    assert!(text.contains("undefined on both sides; 1 the same"), "{text}");
    let message = words(&run(&["compare", arg(&out), arg(&dir.path().join("new.json")), "--update"], 3));
    assert!(message.contains("cannot be a baseline: undefined values (auc of"), "{message}");
    assert!(!dir.path().join("new.json").exists());
}
