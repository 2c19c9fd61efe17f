//! Attacks: references and settings of `[metrics]` that change or are damaged. They never cost an image that was generated.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde_json::Value;
use tempfile::TempDir;

use crate::common::{arg, run, scratch, words};
use crate::experiments::ALL;
use crate::on_files::with_dataset;

/// What makes a run different from the first one.
#[derive(Clone, Copy)]
enum Change {
    /// A setting.
    Set(&'static str),
    /// A reference of so many scenes of the miniature.
    Folder(u64),
}
use Change::{Folder, Set};

/// Changes after which what was generated is judged anew, and the words that name them.
const JUDGED_ANEW: &[(Change, &str)] = &[
    (Set("metrics.kernel={ subsets = 4, subset_size = 6 }"), "metrics.kernel.subsets: 5 → 4"),
    (Set("metrics.splits=3"), "metrics.splits: 2 → 3"),
    (Set("metrics.resamples=9"), "metrics.resamples: 8 → 9"),
    (Set("dataset.mini.count=30"), "dataset.mini.count: 24 → 30"),
    (Set("dataset.mini.seed=5"), "dataset.mini.seed: 0 → 5"),
    (Folder(9), "dataset.reference"),
];

/// What is done to a reference of nine images before the first image is generated.
type Damage = fn(&Path);

/// References that are refused before the first image is generated, with the exit code and the words.
const REFUSED: &[(&str, Damage, i32, &str)] = &[
    ("cut in half", cut, 3, "000003.png"),
    (
        "not an image",
        |folder| fs::write(folder.join("000003.png"), "text").expect("writable"),
        3,
        "000003.png",
    ),
    ("one image", one, 2, "the reference has 1 image"),
    (
        "empty",
        |folder| fs::remove_dir_all(folder).and_then(|()| fs::create_dir(folder)).expect("empty"),
        3,
        "no PNG",
    ),
    ("missing", |folder| fs::remove_dir_all(folder).expect("removed"), 3, "no such folder or file"),
];

fn cut(folder: &Path) {
    let path = folder.join("000003.png");
    let bytes = fs::read(&path).expect("an image");
    fs::write(path, &bytes[..bytes.len() / 2]).expect("writable");
}

fn one(folder: &Path) {
    for number in 1..9 {
        fs::remove_file(folder.join(format!("{number:06}.png"))).expect("an image");
    }
}

/// A folder of scenes.
fn folder(scenes: u64) -> TempDir {
    let dir = scratch();
    let spec = tasks::mini::SceneSpec::new(64, 1..=1).expect("a spec");
    tasks::mini::export(dir.path(), &spec, 0, tasks::mini::Split::Val, scenes).expect("written");
    dir
}

/// The miniature's experiment with a folder of images as its reference.
fn with_folder(dir: &Path, images: &Path) -> PathBuf {
    with_dataset(dir, ALL[2].config, &format!("[reference]\npath = {images:?}"))
}

/// The arguments of a run with another experiment file.
fn arguments(out: &Path, config: &Path, more: &[&str]) -> Vec<String> {
    let mut args = ALL[2].args(out, more);
    // The settings of the miniature's own reference do not fit another one.
    while let Some(place) = args.iter().position(|word| word.starts_with("dataset.mini.")) {
        args.drain(place - 1..=place);
    }
    args.into_iter().map(|word| if word == ALL[2].config { arg(config).to_owned() } else { word }).collect()
}

fn go(args: &[String], code: i32) -> String {
    words(&run(&args.iter().map(String::as_str).collect::<Vec<_>>(), code))
}

/// The generated images with their times.
fn images(out: &Path) -> BTreeMap<PathBuf, SystemTime> {
    let mut found = BTreeMap::new();
    for method in fs::read_dir(out.join("pictures")).expect("images") {
        for file in fs::read_dir(method.expect("a folder").path()).expect("a folder") {
            let path = file.expect("a file").path();
            let time = path.metadata().and_then(|data| data.modified()).expect("a time");
            found.insert(path, time);
        }
    }
    found
}

fn metrics(out: &Path) -> Value {
    let results: Value =
        serde_json::from_slice(&fs::read(out.join("results.json")).expect("results")).expect("JSON");
    results["metrics"].clone()
}

#[test]
fn another_reference_or_other_metrics_judge_anew_and_draw_nothing() {
    let dir = scratch();
    let out = dir.path().join("run");
    ALL[2].run(&out, &[], 0);
    let (drawn, records) = (images(&out), fs::read(out.join("records.jsonl")).expect("records"));
    let first = metrics(&out);
    for (place, &(change, named)) in JUDGED_ANEW.iter().enumerate() {
        let other = dir.path().join(format!("anew-{place}"));
        let (told, reference) = match change {
            Set(set) => {
                let told = words(&ALL[2].run(&out, &["--set", set], 0));
                ALL[2].run(&other, &["--set", set], 0);
                (told, None)
            }
            Folder(scenes) => {
                let reference = folder(scenes);
                let config = with_folder(dir.path(), &reference.path().join("images"));
                let told = go(&arguments(&out, &config, &[]), 0);
                go(&arguments(&other, &config, &[]), 0);
                (told, Some(reference))
            }
        };
        drop(reference);
        assert!(told.contains("is kept, and judged anew") && told.contains(named), "{named}: {told}");
        assert_eq!(images(&out), drawn, "{named}: an image was written again");
        assert_eq!(fs::read(out.join("records.jsonl")).expect("records"), records, "{named}");
        assert_eq!(metrics(&out), metrics(&other), "{named}: differs from a run of its own");
        // Back to the first experiment, for the next change.
        let told = words(&ALL[2].run(&out, &[], 0));
        assert!(told.contains("judged anew"), "{told}");
        assert_eq!(metrics(&out), first, "{named}");
    }
}

#[test]
fn a_bad_reference_is_refused_before_the_first_image() {
    for &(name, damage, code, expected) in REFUSED {
        let dir = scratch();
        let reference = folder(9);
        let images = reference.path().join("images");
        let config = with_folder(dir.path(), &images);
        damage(&images);
        let out = dir.path().join("run");
        let told = go(&arguments(&out, &config, &[]), code);
        assert!(told.contains(expected), "{name}: {told}");
        assert!(!out.exists(), "{name}: something was written");
    }
}

#[test]
fn a_reference_that_is_damaged_later_costs_no_image() {
    let dir = scratch();
    let reference = folder(9);
    let folder = reference.path().join("images");
    let config = with_folder(dir.path(), &folder);
    let out = dir.path().join("run");
    let args = arguments(&out, &config, &[]);
    go(&args, 0);
    let (drawn, first) = (images(&out), metrics(&out));
    let whole = fs::read(folder.join("000003.png")).expect("an image");
    cut(&folder);
    go(&args, 3);
    assert_eq!(images(&out), drawn);
    // The image is left out, which is what the message advises.
    fs::remove_file(folder.join("000003.png")).expect("removed");
    let told = go(&args, 0);
    assert!(told.contains("judged anew (reference: "), "{told}");
    assert_eq!(images(&out), drawn);
    fs::write(folder.join("000003.png"), whole).expect("writable");
    go(&args, 0);
    assert_eq!((images(&out), metrics(&out)), (drawn, first));
}

#[test]
fn shards_that_are_judged_differently_are_not_merged() {
    let dir = scratch();
    let out = dir.path().join("run");
    ALL[2].run(&out, &["--shard", "1/2"], 0);
    ALL[2].run(&out, &["--shard", "2/2", "--set", "metrics.splits=3"], 0);
    let told = words(&run(&["merge", arg(&out)], 3));
    assert!(told.contains("are judged differently (metrics.splits: 2 → 3)"), "{told}");
    let told = words(&ALL[2].run(&out, &["--shard", "2/2"], 0));
    assert!(told.contains("judged anew"), "{told}");
    run(&["merge", arg(&out)], 0);
}
