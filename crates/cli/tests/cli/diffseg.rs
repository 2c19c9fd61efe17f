//! `tokenrank run` and `validate` on the miniature Stable Diffusion pipeline: the DiffSeg table, resuming, other batches, a
//! tree of COCO-Stuff, refusals.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::common::{arg, root, run, says_nothing, scratch, verdicts, words};
use crate::paper::put;

const CONFIG: &str = "configs/mini/diffseg.toml";
const METHODS: [&str; 6] =
    ["uniform", "tokenrank", "tokenrank-sampled", "column-sum", "random", "tokenrank-lambda2"];

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

fn records(out: &Path) -> String {
    std::fs::read_to_string(out.join("records.jsonl")).expect("records")
}

/// The miniature's experiment on a few scenes, with changes: the tables, and what else was said.
fn small(out: &Path, limit: usize, changes: &[&str]) -> (String, String) {
    let limit = limit.to_string();
    let mut args = vec!["run", CONFIG, "--out", arg(out), "--limit", &limit, "--set", "task.diffseg.batch=4"];
    for change in changes {
        args.extend(["--set", change]);
    }
    let output = run(&args, 0);
    (String::from_utf8(output.stdout).expect("text"), String::from_utf8(output.stderr).expect("text"))
}

#[test]
fn one_command_fills_the_table() {
    let dir = scratch();
    let out = dir.path().join("run");
    let (table, _) = small(&out, 20, &[]);
    for word in [
        "uniform grid",
        "TokenRank, drawn",
        "pixel acc ↑",
        "class acc ↑",
        "mIoU, order-free ↑",
        "boundary recall ↑",
        "segments",
        "paper, mACC",
        "84.970",
        "20 images",
        "11 classes",
        "implausible under one metric",
        "TokenRank − uniform grid",
        "Paired bootstrap",
    ] {
        assert!(table.contains(word), "{word} is not in\n{table}");
    }
    assert!(!table.contains('Δ'), "a miniature has no difference to the paper:\n{table}");

    let results = results(&out);
    assert_eq!(results["items"], 20);
    for method in METHODS {
        for metric in
            ["accuracy", "class-accuracy", "image-accuracy", "miou", "miou-order-free", "boundary-recall"]
        {
            assert!((0.0..=1.0).contains(&value(&results, metric, method)), "{metric} of {method}");
        }
        // Segments follow the objects: neither is everything one segment nor is each anchor one.
        let segments = value(&results, "proposals", method);
        assert!((2.0..32.0).contains(&segments), "{method}: {segments} segments");
        assert!(value(&results, "adjusted-rand-index", method) > 0.1, "{method} does not find the objects");
        assert!(value(&results, "miou-order-free", method) >= value(&results, "miou", method));
    }
    let metrics = results["metrics"].as_array().expect("metrics");
    let published = metrics.iter().filter_map(|metric| metric["published"].as_f64());
    assert_eq!(
        published.collect::<Vec<_>>(),
        [0.8497, 0.4487, 0.725, 0.436],
        "two rows of two columns, as shares"
    );
    let proposals = metrics.iter().find(|metric| metric["name"] == "proposals").expect("their number");
    assert!(proposals["higher_is_better"].is_null(), "many segments are neither good nor bad");

    let comparisons = results["comparisons"].as_array().expect("comparisons");
    assert_eq!(comparisons.len(), 5 * 5, "every method beside the grid, in five metrics");
    for comparison in comparisons {
        let end = |name: &str| comparison["interval"][name].as_f64().expect("a number");
        assert_eq!(comparison["minus"], "uniform");
        assert!(end("low") <= end("difference") && end("difference") <= end("high"), "{comparison}");
    }
    let weights = results["memory"]["weights"].as_object().expect("weights of the networks");
    assert!(weights["unet"].as_u64() > weights["vae"].as_u64());
    for file in ["table.md", "table.csv", "table.tex", "table.parquet", "comparisons.md", "comparisons.csv"] {
        assert!(out.join(file).metadata().expect(file).len() > 0);
    }
    assert!(std::fs::read(out.join("pictures.png")).expect("a picture").starts_with(b"\x89PNG"));

    // Everything is there: the second run computes nothing and says the same.
    let (again, told) = small(&out, 20, &[]);
    assert!(again == table && told.contains("all items were already done"), "{told}");
}

#[test]
fn one_image_gives_no_verdict() {
    let dir = scratch();
    let out = dir.path().join("run");
    small(&out, 1, &[]);
    says_nothing(&out, 1);
    run(&["report", arg(&out)], 0);
    let (significant, p) = verdicts(&out.join("report.html"));
    assert!(!significant.is_empty());
    assert!(significant.iter().all(|said| said == "too few items") && p.iter().all(|p| p == "–"));
}

#[test]
fn one_segment_everywhere_is_said() {
    let dir = scratch();
    let out = dir.path().join("run");
    // DiffSeg's own threshold, which is wider than all distances of so small a network.
    let (table, told) = small(&out, 6, &["task.diffseg.threshold=1.1"]);
    for word in ["every image is one segment", "task.diffseg.threshold = 1.1", "uniform grid, TokenRank"] {
        assert!(table.contains(word) && told.contains(word), "{word} is not in\n{table}\n{told}");
    }
    let warning = |text: &str| text.matches("arning: ").count();
    assert_eq!((warning(&table), warning(&told)), (1, 1));
    assert!(
        std::fs::read_to_string(out.join("table.md")).expect("a table").contains("Warning: uniform grid")
    );
    // Of a run that is read again it is said again.
    let (again, told) = small(&out, 6, &["task.diffseg.threshold=1.1"]);
    assert!(again == table && told.contains("warning: uniform grid"), "{told}");

    // One anchor makes one segment whatever the threshold, and no other run has a word of it.
    let one = "task.diffseg.methods=[{ uniform = { side = 1 } }]";
    for (name, change) in [("one", one), ("ours", "task.diffseg.threshold=0.1")] {
        let (table, told) = small(&dir.path().join(name), 6, &[change]);
        assert_eq!((warning(&table), warning(&told)), (0, 0), "{table}\n{told}");
    }
}

#[test]
fn a_run_cut_short_resumes_to_the_same_records() {
    let dir = scratch();
    let (whole, cut) = (dir.path().join("whole"), dir.path().join("cut"));
    let (table, _) = small(&whole, 12, &[]);
    small(&cut, 12, &[]);
    let before = records(&cut);
    // The first batch, and half a line of the second: what a killed process leaves.
    let kept: String = before.split_inclusive('\n').take(5).collect();
    std::fs::write(cut.join("records.jsonl"), format!("{kept}{}", &before[kept.len()..kept.len() + 40]))
        .expect("writable");
    let (resumed, told) = small(&cut, 12, &[]);
    assert!(told.contains("8 items in"), "{told}");
    assert_eq!(records(&cut), records(&whole));
    assert_eq!(resumed, table);
}

#[test]
fn a_method_does_not_depend_on_those_beside_it_nor_on_the_batch() {
    let dir = scratch();
    let (all, one) = (dir.path().join("all"), dir.path().join("one"));
    small(&all, 8, &[]);
    let methods =
        "task.diffseg.methods=[{ tokenrank = { number = 36, radius = 1 } }, { random = { number = 36 } }]";
    small(&one, 8, &[methods, "task.diffseg.batch=1"]);
    let (all, one) = (results(&all), results(&one));
    for method in ["tokenrank", "random"] {
        for metric in ["accuracy", "miou", "adjusted-rand-index", "boundary-recall"] {
            // Sums of floats in another order move a distance across the threshold now and then.
            let (a, b) = (value(&all, metric, method), value(&one, metric, method));
            assert!((a - b).abs() < 0.02, "{metric} of {method}: {a} and {b}");
        }
    }
    // Without a grid the first method is what others are compared with.
    let comparisons = one["comparisons"].as_array().expect("comparisons");
    assert!(comparisons.iter().all(|pair| pair["method"] == "random" && pair["minus"] == "tokenrank"));
}

/// The experiment file of the miniature with other data.
fn with_dataset(dir: &Path, dataset: &str) -> PathBuf {
    let text = std::fs::read_to_string(root().join(CONFIG)).expect("the miniature's experiment");
    let (head, rest) = text.split_once("[dataset.mini]").expect("a dataset");
    let (_, task) = rest.split_once("[task.diffseg]").expect("a task");
    let path = dir.join("other.toml");
    std::fs::write(&path, format!("{head}{dataset}\n[task.diffseg]{task}")).expect("writable");
    path
}

fn png(color: png::ColorType, (width, height): (usize, usize), samples: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width as u32, height as u32);
    encoder.set_color(color);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.write_header().expect("a header").write_image_data(samples).expect("samples");
    bytes
}

/// Three images of COCO's sizes in COCO-Stuff's layout (PNG data under the name of a JPEG decodes all the same), light on the
/// left and dark on the right, where other classes are, with nothing labelled in the topmost row.
fn coco_tree(dir: &Path) {
    for (name, (width, height), classes) in [
        ("000000000139", (640, 426), [0u8, 156]),
        ("000000000724", (375, 500), [168, 16]),
        ("000000000785", (640, 425), [16, 170]),
    ] {
        let halves = |[left, right]: [u8; 2]| {
            (0..width * height).map(move |pixel| if pixel % width < width / 2 { left } else { right })
        };
        let samples: Vec<u8> = halves([230, 20]).flat_map(|level| [level, level / 2, 90]).collect();
        let mut labels: Vec<u8> = halves(classes).collect();
        labels[..width].fill(255);
        put(dir, &format!("val2017/{name}.jpg"), png(png::ColorType::Rgb, (width, height), &samples));
        let map = png(png::ColorType::Grayscale, (width, height), &labels);
        put(dir, &format!("stuffthingmaps/val2017/{name}.png"), map);
    }
    put(dir, "three.txt", "000000000139\n000000000724\n000000000785\n");
}

#[test]
fn coco_stuff_runs_end_to_end() {
    let dir = scratch();
    let coco = dir.path().join("coco");
    coco_tree(&coco);
    let dataset = format!("[dataset.coco-stuff]\nroot = {coco:?}\nlist = {:?}\n", coco.join("three.txt"));
    let config = with_dataset(dir.path(), &dataset);
    let out = dir.path().join("run");
    let output = run(&["run", arg(&config), "--out", arg(&out), "--set", "task.diffseg.batch=2"], 0);
    let table = String::from_utf8(output.stdout).expect("text");
    // No miniature data: differences to the paper are shown.
    for word in ["3 images", "27 classes", "Δ mACC", "Δ mIoU"] {
        assert!(table.contains(word), "{word} is not in\n{table}");
    }
    let lines = records(&out);
    let lines = lines.lines().map(|line| serde_json::from_str(line).expect("a record"));
    let lines: Vec<Value> = lines.filter(|line: &Value| line.get("segment").is_none()).collect();
    let ids: Vec<&str> = lines.iter().filter_map(|record| record["id"].as_str()).collect();
    assert_eq!(ids, ["000000000139", "000000000724", "000000000785"]);
    for record in &lines {
        for method in METHODS {
            let overlap = record["methods"][method]["overlap"].as_array().expect("pairs").iter();
            let pixels: u64 = overlap.map(|pair| pair[2].as_u64().expect("pixels")).sum();
            // 64 rows are those of the pixels under their centres, and the topmost is not among them.
            assert_eq!(pixels, 64 * 64, "{method}");
        }
    }
    assert!(value(&results(&out), "accuracy", "uniform") > 0.5, "two halves are told apart");

    let lost = coco.join("stuffthingmaps/val2017/000000000724.png");
    std::fs::remove_file(lost).expect("just written");
    let message = words(&run(&["validate", arg(&config), "--set", "model.path=datasets/mini/models/vit"], 3));
    for word in ["2 problems", "lacks 1 of the 3 pixel maps", "model_index.json"] {
        assert!(message.contains(word), "{word} is not in\n{message}");
    }
}

#[test]
fn what_cannot_run_is_refused_before_anything_is_loaded() {
    for (change, code, expected) in [
        ("task.diffseg.methods=[]", 2, "lists no methods"),
        (
            "task.diffseg.methods=[\"uniform\", { uniform = { side = 4 } }]",
            2,
            "two methods are called `uniform`",
        ),
        ("task.diffseg.methods=[\"kmeans\"]", 2, "kmeans"),
        ("task.diffseg.methods=[{ tokenrank = { number = 0 } }]", 2, "asks for 0 anchors"),
        ("task.diffseg.methods=[{ random = { radius = 2 } }]", 2, "radius"),
        ("task.diffseg.threshold=-1", 2, "task.diffseg.threshold"),
        ("task.diffseg.rounds=0", 2, "must be at least 1"),
        ("task.diffseg.alpha=1.5", 2, "must lie in (0, 1]"),
        ("task.diffseg.tolerance=2", 2, "task.diffseg.tolerance"),
        ("task.diffseg.image_size=66", 2, "task.diffseg.image_size"),
        ("task.diffseg.steps=3", 2, "steps"),
        ("model.image_size=64", 2, "task.diffseg.image_size"),
        ("metrics.features=mini", 2, "leave it out"),
        ("fills.column=mIoU", 2, "one run fills every column"),
        ("fills.table=segment", 2, "[task.segment]"),
        ("dataset.mini.count=0", 2, "dataset.mini.count"),
        ("model.path=datasets/mini/models/flux", 3, "FluxPipeline"),
    ] {
        let output = run(&["validate", CONFIG, "--set", change], code);
        assert!(words(&output).contains(expected), "{change}: {}", words(&output));
    }
    let dir = scratch();
    let config = with_dataset(dir.path(), "[dataset.folder]\nroot = \"nowhere\"\n");
    let message = words(&run(&["validate", arg(&config)], 2));
    assert!(
        message.contains("does not give a class to every pixel") && message.contains("coco-stuff"),
        "{message}"
    );
    let output = run(&["validate", CONFIG], 0);
    assert!(String::from_utf8_lossy(&output.stdout).contains("ready, 500 items"));
}

#[test]
fn a_sweep_runs_once_what_a_setting_does_not_touch() {
    let dir = scratch();
    let text = std::fs::read_to_string(root().join(CONFIG)).expect("the miniature's experiment");
    let config = dir.path().join("sweep.toml");
    std::fs::write(&config, format!("{text}\n[sweep]\nalpha = [0.5, 0.99]\n")).expect("writable");
    let out = dir.path().join("out");
    let output = run(&["run", arg(&config), "--limit", "4", "--out", arg(&out)], 0);
    let table = String::from_utf8(output.stdout).expect("text");
    assert!(
        table.contains("mIoU ↑ of every combination") && table.contains("against each other method"),
        "{table}"
    );
    // Only TokenRank knows α.
    let second = results(&out.join("runs/alpha-0.99"));
    let of = |method: &str| {
        second["metrics"].as_array().expect("metrics").iter().any(|metric| metric["method"] == method)
    };
    assert!(of("tokenrank") && of("tokenrank-sampled") && !of("uniform") && !of("column-sum"));
}
