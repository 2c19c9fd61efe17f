//! `tokenrank run` and `validate` on the miniature FLUX pipeline: the segmentation table, resuming, other data, refusals.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::common::{arg, root, run, says_nothing, scratch, verdicts, words};
use crate::on_files::scenes;

const CONFIG: &str = "configs/mini/segment.toml";

fn results(out: &Path) -> Value {
    let text = std::fs::read_to_string(out.join("results.json")).expect("results");
    serde_json::from_str(&text).expect("JSON")
}

/// A metric of a method.
fn value(results: &Value, name: &str, method: &str) -> f64 {
    let metrics = results["metrics"].as_array().expect("metrics");
    let found = metrics.iter().find(|metric| metric["name"] == name && metric["method"] == method);
    found.unwrap_or_else(|| panic!("no {name} of {method}"))["value"].as_f64().expect("a number")
}

/// The miniature's experiment on a few scenes, with changes.
fn small(out: &Path, limit: usize, changes: &[&str]) -> (Vec<u8>, String) {
    let limit = limit.to_string();
    let mut args = vec!["run", CONFIG, "--out", arg(out), "--limit", &limit, "--set", "task.segment.batch=4"];
    for change in changes {
        args.extend(["--set", change]);
    }
    let output = run(&args, 0);
    (output.stdout, String::from_utf8(output.stderr).expect("text"))
}

#[test]
fn masks_that_are_empty_everywhere_are_said() {
    let dir = scratch();
    let methods = "task.segment.methods=[\"row-select\", \"bounce\"]";
    // No signal lies above its own largest value.
    for (threshold, warned) in [("fixed:1", true), ("mean", false)] {
        let set = format!("task.segment.score.threshold={threshold}");
        let (table, told) = small(&dir.path().join(threshold.replace(':', "-")), 4, &[methods, &set]);
        let table = String::from_utf8(table).expect("text");
        let warning = "arning: Row select, Multi-bounce: every mask is empty";
        assert_eq!((table.contains(warning), told.contains(warning)), (warned, warned), "{table}\n{told}");
    }
}

#[test]
fn one_command_fills_the_table() {
    let dir = scratch();
    let out = dir.path().join("run");
    let (table, _) = small(&out, 30, &[]);
    let text = String::from_utf8(table.clone()).expect("text");
    for word in [
        "Row select",
        "ConceptAttention",
        "Multi-bounce, λ₂",
        "paper, mIoU",
        "acc/(2−acc)",
        "30 images",
        "Paired bootstrap",
        "Multi-bounce, λ₂ − Multi-bounce",
    ] {
        assert!(text.contains(word), "{word} is not in\n{text}");
    }

    let results = results(&out);
    assert_eq!(results["items"], 30);
    // Most of a picture is background: a method is worth something only if it finds the object, too.
    for (method, least) in [("row-select", 0.5), ("bounce", 0.5), ("bounce-lambda2", 0.5)] {
        assert!(value(&results, "miou", method) > least, "{method} does not find the objects");
    }
    let word = value(&results, "map-foreground", "bounce");
    assert!(word > value(&results, "map-foreground", "tokenrank") + 0.2, "the word adds nothing: {word}");
    let accuracy = value(&results, "accuracy", "bounce");
    assert!((value(&results, "miou-identity", "bounce") - accuracy / (2.0 - accuracy)).abs() < 1e-12);
    let published = results["metrics"].as_array().expect("metrics").iter();
    let published: Vec<f64> = published.filter_map(|metric| metric["published"].as_f64()).collect();
    assert_eq!(published.len(), 15, "five rows, three columns");
    assert!(published.iter().all(|&share| share < 1.0), "shares, not percent");

    let comparisons = results["comparisons"].as_array().expect("comparisons");
    let of_lambda = |one: &&Value| one["method"] == "bounce-lambda2" && one["minus"] == "bounce";
    assert_eq!(comparisons.iter().filter(of_lambda).count(), 3);
    for comparison in comparisons {
        let end = |name: &str| comparison["interval"][name].as_f64().expect("a number");
        assert!(end("low") <= end("difference") && end("difference") <= end("high"), "{comparison}");
    }
    let weights = results["memory"]["weights"].as_object().expect("weights of the networks");
    assert!(weights["transformer"].as_u64() > weights["text_encoder_2"].as_u64());
    for file in ["table.md", "table.csv", "table.tex", "table.parquet", "comparisons.md", "comparisons.csv"] {
        assert!(out.join(file).metadata().expect(file).len() > 0);
    }
    assert!(std::fs::read(out.join("overlays.png")).expect("a picture").starts_with(b"\x89PNG"));

    // Everything is there: the second run computes nothing and says the same.
    let (again, told) = small(&out, 30, &[]);
    assert!(again == table && told.contains("all items were already done"), "{told}");
}

/// Differences of one image are chance, on the terminal and on the page; those of six may be more.
#[test]
fn few_images_give_no_verdict() {
    let dir = scratch();
    let (one, six) = (dir.path().join("one"), dir.path().join("six"));
    let (table, _) = small(&one, 1, &[]);
    says_nothing(&one, 1);
    let table = String::from_utf8(table).expect("text");
    assert!(table.contains("too few items") && !table.contains("0.000 "), "{table}");
    run(&["report", arg(&one)], 0);
    let (significant, p) = verdicts(&one.join("report.html"));
    assert_eq!(significant.len(), results(&one)["comparisons"].as_array().expect("comparisons").len());
    assert!(significant.iter().all(|said| said == "too few items") && p.iter().all(|p| p == "–"));

    small(&six, 6, &[]);
    run(&["report", arg(&six)], 0);
    let results = results(&six);
    let (significant, p) = verdicts(&six.join("report.html"));
    let markdown = std::fs::read_to_string(six.join("comparisons.md")).expect("a table");
    let markdown = markdown.split_whitespace().collect::<Vec<_>>().join(" ");
    for said in significant.iter().chain(&p) {
        assert!(markdown.contains(&format!(" {said} |")), "{said} is on the page and not in\n{markdown}");
    }
    assert!(markdown.contains("| yes, ") && markdown.contains("| < 0.001 |"), "{markdown}");
    for comparison in results["comparisons"].as_array().expect("comparisons") {
        let interval = &comparison["interval"];
        let (p, resamples) = (interval["p_value"].as_f64(), interval["resamples"].as_f64());
        assert!(p >= resamples.map(|resamples| 1.0 / (resamples + 1.0)) && p <= Some(1.0), "{comparison}");
    }
}

/// Objects of one image are drawn together: tables, results, page and baseline say how many images there are.
#[test]
fn objects_that_share_images_are_counted_as_images() {
    let dir = scratch();
    let (folder, out) = (dir.path().join("scenes"), dir.path().join("run"));
    scenes(&folder, 2..=3);
    let dataset = format!("[dataset.masks]\nroot = {folder:?}\ntable = \"masks.csv\"\n");
    let config = with_dataset(dir.path(), &dataset);
    let methods = "task.segment.methods=[\"row-select\", \"bounce\"]";
    let args = |out: &'_ Path, more: &[&str]| {
        let args =
            ["run", arg(&config), "--out", arg(out), "--set", methods, "--set", "task.segment.batch=4"];
        args.iter().chain(more).map(|&word| word.to_owned()).collect::<Vec<_>>()
    };
    let call =
        |out: &Path, more: &[&str]| run(&args(out, more).iter().map(String::as_str).collect::<Vec<_>>(), 0);
    call(&out, &[]);
    let found = results(&out);
    let objects = found["items"].as_u64().expect("a number");
    assert!(objects > 18 && found["images"] == 9, "{objects} objects, images: {}", found["images"]);
    let comparisons = found["comparisons"].as_array().expect("comparisons");
    assert_eq!(comparisons.len(), 3);
    for comparison in comparisons {
        let interval = &comparison["interval"];
        assert!(
            interval["items"] == 9 && interval["low"].as_f64() < interval["high"].as_f64(),
            "{comparison}"
        );
    }
    let read = |name: &str| std::fs::read_to_string(out.join(name)).expect(name);
    let said = format!("{objects} objects in 9 images");
    assert!(read("table.md").contains(&format!("{said}, in percent")), "{}", read("table.md"));
    let table = read("comparisons.md");
    let heads = table.lines().find(|line| line.starts_with("| difference")).expect("heads");
    assert!(heads.contains("| images |") && !heads.contains("items"), "{heads}");
    assert!(
        table.contains(&format!("Paired bootstrap over {said}")) && table.contains("Images are drawn"),
        "{table}"
    );
    run(&["report", arg(&out)], 0);
    let page = read("report.html");
    assert!(page.contains(&format!("{objects} items in 9 images")), "the page counts both");

    // A baseline keeps the images; one of an earlier version does without them.
    let (base, moved) = (dir.path().join("base.json"), dir.path().join("moved"));
    run(&["compare", arg(&out), arg(&base), "--update", "--tolerance", "default=0.9"], 0);
    let mut known: Value = serde_json::from_slice(&std::fs::read(&base).expect("a baseline")).expect("JSON");
    let snapshot = known["runs"]["other"].as_object_mut().expect("the run");
    let images = snapshot.remove("images").expect("images");
    assert_eq!(images.as_array().map(Vec::len), Some(objects as usize));
    std::fs::write(&base, known.to_string()).expect("writable");
    run(&["compare", arg(&out), arg(&base)], 0);
    // Another place to read from moves every item; nine images move, however many objects they have.
    call(&moved, &["--set", "task.segment.score.threshold=fixed:0.7"]);
    let output = run(&["compare", arg(&moved), arg(&base)], 4);
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(text.contains("another experiment") && text.contains(&objects.to_string()), "{text}");

    // Two images are too few, however many objects they have.
    let few = dir.path().join("few");
    call(&few, &["--limit", "5"]);
    assert_eq!((results(&few)["items"].as_u64(), results(&few)["images"].as_u64()), (Some(5), Some(2)));
    says_nothing(&few, 2);
}

#[test]
fn a_run_cut_short_resumes_to_the_same_records() {
    let dir = scratch();
    let (whole, cut) = (dir.path().join("whole"), dir.path().join("cut"));
    small(&whole, 12, &[]);
    small(&cut, 12, &[]);
    let path = cut.join("records.jsonl");
    let records = std::fs::read_to_string(&path).expect("records");
    // The first batch, and half a line of the second: what a killed process leaves.
    let kept: String = records.split_inclusive('\n').take(5).collect();
    let torn = &records[kept.len()..kept.len() + 40];
    std::fs::write(&path, format!("{kept}{torn}")).expect("writable");
    let (_, told) = small(&cut, 12, &[]);
    assert!(told.contains("8 items in"), "{told}");
    let read = |out: &Path| std::fs::read_to_string(out.join("records.jsonl")).expect("records");
    assert_eq!(read(&cut), read(&whole));
}

#[test]
fn a_method_does_not_depend_on_those_beside_it_nor_on_the_batch() {
    let dir = scratch();
    let (all, one) = (dir.path().join("all"), dir.path().join("one"));
    small(&all, 8, &[]);
    small(
        &one,
        8,
        &[
            "task.segment.methods=[\"bounce-lambda2\"]",
            "task.segment.batch=1",
            "task.segment.heads_at_once=1",
        ],
    );
    let (all, one) = (results(&all), results(&one));
    for metric in ["accuracy", "miou", "map"] {
        let (a, b) = (value(&all, metric, "bounce-lambda2"), value(&one, metric, "bounce-lambda2"));
        assert!((a - b).abs() < 1e-3, "{metric}: {a} and {b}");
    }
    assert!(one.get("comparisons").is_none(), "one method has nothing to be compared with");
}

/// The experiment file of the miniature with other data.
fn with_dataset(dir: &Path, dataset: &str) -> PathBuf {
    let text = std::fs::read_to_string(root().join(CONFIG)).expect("the miniature's experiment");
    let (head, rest) = text.split_once("[dataset.mini]").expect("a dataset");
    let (_, task) = rest.split_once("[task.segment]").expect("a task");
    let path = dir.join("other.toml");
    std::fs::write(&path, format!("{head}{dataset}\n[task.segment]{task}")).expect("writable");
    path
}

#[test]
fn imagenet_segmentation_runs_end_to_end() {
    let dir = scratch();
    let file = root().join("crates/tasks/tests/fixtures/gtsegs/gtsegs.mat");
    let config = with_dataset(dir.path(), &format!("[dataset.imagenet-segmentation]\npath = {file:?}\n"));
    let out = dir.path().join("run");
    let output = run(&["run", arg(&config), "--out", arg(&out), "--set", "task.segment.batch=2"], 0);
    let table = String::from_utf8(output.stdout).expect("text");
    // No miniature data: differences to the paper are shown.
    assert!(table.contains("3 images") && table.contains("Δ mIoU"), "{table}");
    let records = std::fs::read_to_string(out.join("records.jsonl")).expect("records");
    let ids: Vec<String> = records
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("a record"))
        .filter(|line| line.get("segment").is_none())
        .map(|record| record["id"].to_string())
        .collect();
    assert_eq!(ids, ["\"n02123045-00000\"", "\"n02442172-00001\"", "\"n02690373-00002\""]);
}

#[test]
fn several_classes_are_told_apart() {
    let dir = scratch();
    let voc = dir.path().join("VOC2012");
    for folder in ["ImageSets/Segmentation", "JPEGImages", "SegmentationClass"] {
        std::fs::create_dir_all(voc.join(folder)).expect("writable");
    }
    std::fs::write(voc.join("ImageSets/Segmentation/val.txt"), "a\nb\n").expect("writable");
    for (name, classes) in [("a", &[0u8, 8, 12][..]), ("b", &[0, 15][..])] {
        let photograph = root().join("crates/models/tests/fixtures/image/pictures/420.jpg");
        let (width, height) = jpeg(&photograph, &voc.join(format!("JPEGImages/{name}.jpg")));
        let labels: Vec<u8> =
            (0..height).flat_map(|_| (0..width).map(|x| classes[x * classes.len() / width])).collect();
        palette_png(&voc.join(format!("SegmentationClass/{name}.png")), width, height, &labels);
    }
    let dataset = format!("[dataset.pascal-voc]\nroot = {voc:?}\nprotocol = \"multi-class\"\n");
    let config = with_dataset(dir.path(), &dataset);
    let out = dir.path().join("run");
    run(&["run", arg(&config), "--out", arg(&out)], 0);
    let results = results(&out);
    assert!((0.0..=1.0).contains(&value(&results, "miou", "bounce")));
    let metrics = results["metrics"].as_array().expect("metrics");
    assert!(metrics.iter().all(|metric| metric["name"] != "map" && metric["name"] != "miou-identity"));
}

#[test]
fn every_class_of_a_miniature_scene_is_searched() {
    let dir = scratch();
    let out = dir.path().join("run");
    let config = root().join("configs/mini/ablations/segment-multi-class.toml");
    let few = ["--limit", "6", "--set", "task.segment.methods=[\"row-select\", \"bounce\"]"];
    run(&[&["run", arg(&config), "--out", arg(&out)], &few[..]].concat(), 0);
    let records = std::fs::read_to_string(out.join("records.jsonl")).expect("records");
    let numbers: Vec<usize> = records
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("a record"))
        .filter_map(|record| Some(record["names"].as_array()?.len()))
        .collect();
    assert_eq!(numbers.len(), 6);
    assert!(numbers.iter().all(|number| (2..=3).contains(number)), "{numbers:?}");
    let results = results(&out);
    assert!((0.0..=1.0).contains(&value(&results, "miou", "bounce")));
    let metrics = results["metrics"].as_array().expect("metrics");
    assert!(metrics.iter().all(|metric| metric["name"] != "map" && metric["name"] != "miou-identity"));
}

/// Copies a photograph of the fixtures and returns its size.
fn jpeg(from: &Path, to: &Path) -> (usize, usize) {
    std::fs::copy(from, to).expect("a fixture");
    let picture = models::image::Rgb8::open(from).expect("a photograph");
    (picture.width, picture.height)
}

fn palette_png(path: &Path, width: usize, height: usize, indices: &[u8]) {
    let file = std::fs::File::create(path).expect("writable");
    let mut encoder = png::Encoder::new(file, width as u32, height as u32);
    encoder.set_color(png::ColorType::Indexed);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_palette((0..=255u8).flat_map(|i| [i, i, i]).collect::<Vec<u8>>());
    encoder.write_header().expect("a header").write_image_data(indices).expect("samples");
}

#[test]
fn what_cannot_run_is_refused_before_anything_is_loaded() {
    for (change, code, expected) in [
        ("task.segment.image_size=100", 2, "must be a multiple of 8"),
        ("task.segment.layers={ dual = \"last:9\" }", 2, "3 blocks"),
        ("task.segment.noise={ steps = 4, at = [4] }", 2, "there is no step 4"),
        ("task.segment.prompt=a star", 2, "must contain the placeholder"),
        ("task.segment.methods=[]", 2, "lists no methods"),
        ("task.segment.methods=[\"bounce\", \"bounce\"]", 2, "two methods are called `bounce`"),
        ("task.segment.methods=[\"bounces\"]", 2, "bounces"),
        (
            "task.segment.methods=[{ concept-attention = { layers = \"0\" } }, { concept-attention = { name = \"b\", \
             background = [\"grass\"], layers = \"0\" } }]",
            2,
            "the same background concepts",
        ),
        ("task.segment.text_tokens=2", 2, "allow more tokens"),
        ("task.segment.text_tokens=25", 3, "25"),
        ("task.segment.guidance=3.5", 2, "takes none"),
        ("task.segment.score.threshold=otsi", 2, "otsi"),
        ("model.image_size=64", 2, "task.segment.image_size"),
        ("fills.column=Acc", 2, "leave it out"),
        ("fills.table=masking", 2, "[task.masking]"),
        ("model.path=datasets/mini/models/vit", 3, "model_index.json"),
        ("model.id=black-forest-labs/FLUX.1-schnel", 2, "FLUX.1-schnel"),
    ] {
        let output = run(&["validate", CONFIG, "--set", change], code);
        assert!(words(&output).contains(expected), "{change}: {}", words(&output));
    }
    let output = run(&["validate", CONFIG], 0);
    assert!(String::from_utf8_lossy(&output.stdout).contains("ready, 200 items"));
}

#[test]
fn a_sweep_runs_once_what_a_setting_does_not_touch() {
    let dir = scratch();
    let text = std::fs::read_to_string(root().join(CONFIG)).expect("the miniature's experiment");
    let config = dir.path().join("sweep.toml");
    std::fs::write(&config, format!("{text}\n[sweep]\nalpha = [0.9, 0.99]\n")).expect("writable");
    let output = run(&["validate", arg(&config)], 0);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("2 combinations in 2 runs of 200 items"), "{said}");
    let out = dir.path().join("out");
    let output = run(&["run", arg(&config), "--limit", "4", "--out", arg(&out)], 0);
    let table = String::from_utf8(output.stdout).expect("text");
    assert!(
        table.contains("mIoU ↑ of every combination")
            && table.contains("Multi-bounce against each other method"),
        "{table}"
    );
    // Only bounces and TokenRank know α.
    let second = results(&out.join("runs/alpha-0.99"));
    let metrics = second["metrics"].as_array().expect("metrics");
    assert!(metrics.iter().all(|metric| metric["method"] != "row-select"));
    assert!(metrics.iter().any(|metric| metric["method"] == "bounce"));
}
