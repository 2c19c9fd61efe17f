//! `tokenrank run` and `validate` on the miniature Stable Diffusion pipeline: the guidance table, resuming, other batches and
//! parts, other references, refusals.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use models::image::Rgb8;
use serde_json::Value;

use crate::common::{arg, root, run, says_nothing, scratch, verdicts, words};

const CONFIG: &str = "configs/mini/guidance.toml";
const METHODS: [&str; 3] = ["none", "sag", "sag-tokenrank"];

/// Few pictures, few steps, few to compare with.
const SMALL: [&str; 8] = [
    "task.guidance.count=8",
    "task.guidance.steps=3",
    "task.guidance.batch=4",
    "task.guidance.figures=2",
    "dataset.mini.count=24",
    "metrics.splits=2",
    "metrics.kernel={ subsets = 5, subset_size = 6 }",
    "metrics.resamples=8",
];

/// Arguments of the miniature's experiment, made small and then changed.
fn arguments<'a>(verb: &'a str, config: &'a str, changes: &[&'a str]) -> Vec<&'a str> {
    let sets = SMALL.into_iter().chain(changes.iter().copied());
    [verb, config].into_iter().chain(sets.flat_map(|set| ["--set", set])).collect()
}

/// Runs it and returns the tables and what else was said.
fn small(out: &Path, changes: &[&str]) -> (String, String) {
    let output = run(&[&arguments("run", CONFIG, changes)[..], &["--out", arg(out)]].concat(), 0);
    (String::from_utf8(output.stdout).expect("text"), String::from_utf8(output.stderr).expect("text"))
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).expect("written")).expect("JSON")
}

/// The value of a metric of a method.
fn value(results: &Value, name: &str, method: &str) -> f64 {
    let metrics = results["metrics"].as_array().expect("metrics");
    let found = metrics.iter().find(|metric| metric["name"] == name && metric["method"] == method);
    found.unwrap_or_else(|| panic!("no {name} of {method}"))["value"].as_f64().expect("a number")
}

/// Every file of a run's pictures by its path below `pictures`.
fn files(out: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for method in METHODS {
        for entry in std::fs::read_dir(out.join("pictures").join(method)).expect("a folder for each method") {
            let path = entry.expect("readable").path();
            let name = path.file_name().expect("a file").to_string_lossy().into_owned();
            found.insert(format!("{method}/{name}"), std::fs::read(&path).expect("readable"));
        }
    }
    found
}

/// The largest difference between two pictures, in levels of 255.
fn apart(a: &[u8], b: &[u8]) -> u8 {
    let [a, b] = [a, b].map(|png| Rgb8::decode(png).expect("a picture"));
    assert_eq!((a.width, a.height), (b.width, b.height));
    a.data.iter().zip(&b.data).map(|(a, b)| a.abs_diff(*b)).max().unwrap_or(0)
}

#[test]
fn one_command_fills_the_table() {
    let dir = scratch();
    let out = dir.path().join("run");
    let (table, _) = small(&out, &[]);
    for word in [
        "no guidance",
        "SAG + TokenRank",
        "Fréchet distance (miniature ViT) ↓",
        "paper, FID",
        "45.770",
        "masked, %",
        "8 images per method, from the same noise; 24 reference images",
        "SAG + TokenRank − SAG",
        "Paired bootstrap over the image numbers, 8 resamples",
    ] {
        assert!(table.contains(word), "{word} is not in\n{table}");
    }
    // The literature's names are for the literature's features.
    assert!(!table.contains(" FID ↓") && !table.contains("Δ FID"), "{table}");

    let results = json(&out.join("results.json"));
    assert_eq!(results["items"], 8);
    assert_eq!(results["judge"]["features"], "miniature ViT");
    for method in METHODS {
        assert!(value(&results, "frechet", method) > 0.0);
        assert!(value(&results, "inception-score", method) >= 1.0);
        assert!((0.0..=1.0).contains(&value(&results, "precision", method)));
    }
    let published = results["metrics"].as_array().expect("metrics").iter();
    assert_eq!(published.filter(|metric| metric["published"].is_number()).count(), 9);
    // Three pairs of methods, two metrics that are resampled.
    assert_eq!(results["comparisons"].as_array().expect("comparisons").len(), 6);
    for file in ["table.md", "table.csv", "table.tex", "table.parquet", "comparisons.md", "comparisons.csv"] {
        assert!(out.join(file).metadata().expect(file).len() > 0);
    }
    for file in ["pictures.png", "masks.png"] {
        assert!(std::fs::read(out.join(file)).expect(file).starts_with(b"\x89PNG"));
    }

    // Guidance changes pictures, and where it looks makes a difference.
    let files = files(&out);
    assert_eq!(files.len(), 24);
    let unlike = |a: &str, b: &str| {
        let of = |method: &str, k: u64| &files[&format!("{method}/{k:08}.png")];
        (0..8).filter(|&k| apart(of(a, k), of(b, k)) > 0).count()
    };
    assert_eq!(unlike("none", "sag"), 8);
    assert!(unlike("sag", "sag-tokenrank") > 0);

    // Everything is there: the second run draws nothing and says the same.
    let (again, told) = small(&out, &[]);
    assert!(again == table && told.contains("all items were already done"), "{told}");
}

/// Pictures of five seeds say nothing of a method, whatever their resamples are.
#[test]
fn few_pictures_give_no_verdict() {
    let dir = scratch();
    let out = dir.path().join("run");
    small(&out, &["task.guidance.count=5", "metrics.resamples=100"]);
    says_nothing(&out, 5);
    run(&["report", arg(&out)], 0);
    let (significant, _) = verdicts(&out.join("report.html"));
    assert!(significant.len() == 6 && significant.iter().all(|said| said == "too few items"));
}

#[test]
fn a_run_cut_short_resumes_to_the_same_pictures() {
    let dir = scratch();
    let (whole, cut) = (dir.path().join("whole"), dir.path().join("cut"));
    let (table, _) = small(&whole, &[]);
    small(&cut, &[]);
    let path = cut.join("records.jsonl");
    let records = std::fs::read_to_string(&path).expect("records");
    // The first batch and half a line of the second; a picture of the second, and a piece of another: what a killed process
    // leaves.
    let kept: String = records.split_inclusive('\n').take(5).collect();
    std::fs::write(&path, format!("{kept}{}", &records[kept.len()..kept.len() + 40])).expect("writable");
    let drawn = cut.join("pictures");
    std::fs::remove_file(drawn.join("sag/00000006.png")).expect("drawn");
    std::fs::write(drawn.join("sag/.00000006.png.partial"), b"\x89PNG").expect("writable");
    let (resumed, told) = small(&cut, &[]);
    assert!(told.contains("4 items in"), "{told}");
    assert_eq!(resumed, table);
    assert_eq!(std::fs::read_to_string(&path).expect("records"), records);
    assert!(files(&cut) == files(&whole), "other pictures, or pieces of one");
}

#[test]
fn a_picture_does_not_depend_on_the_batch_nor_on_the_part() {
    let dir = scratch();
    let out = |name: &str| dir.path().join(name);
    small(&out("all"), &[]);
    small(&out("one"), &["task.guidance.batch=1"]);
    small(&out("part"), &["task.guidance.first=4", "task.guidance.count=4", "task.guidance.batch=3"]);
    let (all, one, part) = (files(&out("all")), files(&out("one")), files(&out("part")));
    assert!(all.keys().eq(one.keys()));
    assert_eq!(part.len(), 12);
    for (name, picture) in one.iter().chain(&part) {
        // Sums of floats in another order end one level away where a value lies between two.
        assert!(apart(picture, &all[name]) <= 1, "{name}");
    }
}

#[test]
fn a_picture_that_was_changed_is_not_judged() {
    let dir = scratch();
    let out = dir.path().join("run");
    small(&out, &[]);
    let folder = out.join("pictures/none");
    std::fs::copy(folder.join("00000001.png"), folder.join("00000002.png")).expect("copied");
    let output = run(&[&arguments("run", CONFIG, &[])[..], &["--out", arg(&out)]].concat(), 3);
    let message = words(&output);
    assert!(message.contains("00000002.png") && message.contains("not the image that the run wrote"));
}

/// The experiment file of the miniature with other tables.
fn edited(dir: &Path, edit: impl Fn(&str) -> String) -> PathBuf {
    let text = std::fs::read_to_string(root().join(CONFIG)).expect("the miniature's experiment");
    let path = dir.join("edited.toml");
    std::fs::write(&path, edit(&text)).expect("writable");
    path
}

#[test]
fn pictures_are_compared_with_a_folder() {
    let dir = scratch();
    let (first, second) = (dir.path().join("first"), dir.path().join("second"));
    small(&first, &[]);
    // A run's own pictures as the reference of another.
    let folder = first.join("pictures/none");
    let config = edited(dir.path(), |text| {
        text.replace(
            "[dataset.mini]\ncount = 2000\nseed = 0",
            &format!("[dataset.reference]\npath = {folder:?}"),
        )
    });
    let sets: Vec<&str> = SMALL.iter().filter(|set| !set.starts_with("dataset")).copied().collect();
    let args = [arg(&config), "--out", arg(&second)].into_iter();
    let args: Vec<&str> =
        std::iter::once("run").chain(args).chain(sets.iter().flat_map(|set| ["--set", set])).collect();
    run(&args, 0);
    let results = json(&second.join("results.json"));
    assert!(value(&results, "frechet", "none").abs() < 1e-3);
    assert!(value(&results, "frechet", "sag") > value(&results, "frechet", "none"));
    assert_eq!(value(&results, "recall", "none"), 1.0);
}

#[test]
fn what_cannot_run_is_refused_before_anything_is_drawn() {
    for (change, code, expected) in [
        ("task.guidance.methods=[]", 2, "lists no methods"),
        ("task.guidance.methods=[\"cfg\"]", 2, "cfg"),
        (
            "task.guidance.methods=[{ pag = { blocks = [\"middle\"] } }]",
            2,
            "`middle` is not a part of a UNet",
        ),
        ("task.guidance.methods=[{ pag = { blocks = [\"up_blocks.7\"] } }]", 2, "up_blocks.7"),
        ("task.guidance.methods=[{ seg = { sigma = -1.0 } }]", 2, "sigma = -1 of `seg` must be"),
        ("task.guidance.prompts=nowhere.txt", 3, "nowhere.txt"),
        ("task.guidance.width=100", 2, "100"),
        ("task.guidance.methods=[{ sag = { mask = \"rows\" } }]", 2, "rows"),
        (
            "task.guidance.methods=[\"none\", { sag = { mask = \"tokenrank\", name = \"../none\" } }]",
            2,
            "must begin with a letter",
        ),
        ("task.guidance.count=0", 2, "must be at least 1"),
        ("task.guidance.steps=0", 2, "must be at least 1"),
        ("task.guidance.steps=5000", 2, "5000"),
        ("task.guidance.alpha=0", 2, "must lie in (0, 1]"),
        ("task.guidance.blur={ kernel = 8 }", 2, "must be odd"),
        ("task.guidance.blur={ kernel = 99 }", 2, "too large for latents"),
        ("task.guidance.image_size=100", 2, "100"),
        ("task.guidance.sampler=heun", 2, "heun"),
        ("model.image_size=96", 2, "task.guidance.image_size"),
        ("model.path=datasets/mini/models/vit", 3, "no model_index.json"),
        ("metrics.features=vgg", 2, "`vgg` is unknown"),
        ("metrics.features=inception:nowhere.safetensors", 3, "fetch inception-2015-12-05"),
        ("metrics.splits=0", 2, "metrics.splits"),
        ("metrics.kernel={ subset_size = 1 }", 2, "metrics.kernel.subset_size"),
        ("metrics.resamples=1", 2, "metrics.resamples"),
        ("fills.column=FID", 2, "one run fills every column"),
    ] {
        for verb in ["validate", "run"] {
            let message = words(&run(&arguments(verb, CONFIG, &[change]), code));
            assert!(message.contains(expected), "{verb} {change}: {message}");
        }
    }
}

#[test]
fn pictures_have_the_prompts_of_a_file() {
    let dir = scratch();
    let (file, out) = (dir.path().join("prompts.txt"), dir.path().join("out"));
    let prompts = |text: &str| std::fs::write(&file, text).expect("writable");
    let change = [
        format!("task.guidance.prompts={}", arg(&file)),
        "task.guidance.guidance_scale=4".into(),
        "task.guidance.methods=[\"none\", \"seg\"]".into(),
        "task.guidance.sampler=dpm-solver++".into(),
        "task.guidance.width=96".into(),
    ];
    let change: Vec<&str> = change.iter().map(String::as_str).collect();
    let mut arguments = arguments("run", CONFIG, &change);
    arguments.extend(["--out", arg(&out)]);

    prompts("a red circle\n\na blue star\n");
    let message = words(&run(&arguments, 3));
    assert!(message.contains("has 3 lines, and the run needs a prompt on each of 8"), "{message}");
    prompts(&"a red circle\n\na blue star\na star\n".repeat(2));
    run(&arguments, 0);
    let records = std::fs::read_to_string(out.join("records.jsonl")).expect("records");
    let records = records.lines().filter(|line| line.starts_with("{\"id\""));
    for (line, prompt) in records.zip(["a red circle", "", "a blue star", "a star"].repeat(2)) {
        assert!(line.contains(&format!("\"prompt\":\"{prompt}\"")), "{line}");
    }
    // Other prompts are another experiment.
    prompts(&"a red circle\na ring\na blue star\na star\n".repeat(2));
    let message = words(&run(&arguments, 2));
    assert!(message.contains("holds a run of another experiment"), "{message}");
}

#[test]
fn metrics_belong_to_drawn_pictures() {
    let dir = scratch();
    let without =
        edited(dir.path(), |text| text.split_once("[metrics]").expect("a table of metrics").0.to_owned());
    let message = words(&run(&["validate", arg(&without)], 2));
    assert!(message.contains("metrics: is missing: name the network that scores"), "{message}");
    let message =
        words(&run(&["validate", "configs/mini/segment.toml", "--set", "metrics.features=mini"], 2));
    assert!(message.contains("only applies to generated images"), "{message}");
}
