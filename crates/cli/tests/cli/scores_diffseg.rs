//! Anchors and label maps of `[task.diffseg]` that come from files.

use std::path::Path;

use safetensors::Dtype;
use serde_json::Value;

use crate::common::{arg, run, scratch, words};
use crate::scores::{Array, results, row, write_for};

const CONFIG: &str = "configs/mini/diffseg.toml";
/// Side of the images, and of the finest grid of tokens.
const SIDE: usize = 64;
const TOKENS: usize = 16;

#[track_caller]
fn told(command: &str, scores: &Path, methods: &str, more: &[&str], code: i32) -> std::process::Output {
    let methods = format!("task.diffseg.methods={}", methods.replace("FILE", &format!("{scores:?}")));
    let args = [command, CONFIG, "--limit", "6", "--set", &methods, "--set", "task.diffseg.batch=4"];
    run(&[&args[..], more].concat(), code)
}

fn records(out: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(out.join("records.jsonl")).expect("records");
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    lines.filter(|line| line["methods"].is_object()).collect()
}

/// The segment of each pixel of an image, as a record keeps it in runs.
fn labels(picture: &Value) -> Vec<i64> {
    let runs = picture["labels"].as_array().expect("runs").iter();
    let one = |run: &Value| {
        let (label, count) = (run[0].as_i64().expect("a label"), run[1].as_u64().expect("a number"));
        std::iter::repeat_n(label, count as usize)
    };
    runs.flat_map(one).collect()
}

fn whole(name: &str, values: &[i64]) -> Array {
    let bytes = values.iter().flat_map(|&value| (value as i32).to_le_bytes()).collect();
    Array { name: name.to_owned(), dtype: Dtype::I32, shape: vec![SIDE, SIDE], bytes }
}

/// Anchors and segments that a run has recorded, given to the next run as files, have the same rows.
#[test]
fn exported_anchors_and_segments_give_the_row_of_their_method() {
    let dir = scratch();
    let at = |name: &str| dir.path().join(name);
    let (anchors, segments) = (at("anchors.safetensors"), at("segments.safetensors"));
    let method = "{ tokenrank = { number = 36, radius = 1 } }";
    let figures = ["--set", "task.diffseg.figures=6", "--out"];
    told("run", &anchors, &format!("[{method}]"), &[&figures[..], &[arg(&at("first"))]].concat(), 0);
    let records = records(&at("first"));
    assert_eq!(records.len(), 6);
    let (mut scores, mut maps) = (Vec::new(), Vec::new());
    for record in &records {
        let id = record["id"].as_str().expect("a name");
        let picture = &record["pictures"]["methods"]["tokenrank"];
        let chosen = picture["anchors"].as_array().expect("anchors");
        assert_eq!(chosen.len(), 36);
        // The first anchor has the largest score.
        let mut of_tokens = vec![0.0; TOKENS * TOKENS];
        for (place, anchor) in chosen.iter().enumerate() {
            let (row, column) = (anchor[0].as_u64().expect("a row"), anchor[1].as_u64().expect("a column"));
            of_tokens[row as usize * TOKENS + column as usize] = 100.0 - place as f64;
        }
        scores.push(Array::f32(id, &[TOKENS, TOKENS], &of_tokens));
        let labels = labels(picture);
        assert_eq!(labels.len(), SIDE * SIDE);
        // Other labels in the same order.
        maps.push(whole(id, &labels.iter().map(|label| 1000 + 70_000 * label).collect::<Vec<_>>()));
    }
    write_for(&anchors, "diffseg", &scores);
    write_for(&segments, "diffseg", &maps);
    let given = "{ file = FILE, name = \"given anchors\", number = 36, radius = 0 }";
    let drawn = format!("{{ file = {segments:?}, name = \"given segments\" }}");
    let out = at("both");
    told("run", &anchors, &format!("[{method}, {given}, {drawn}]"), &["--out", arg(&out)], 0);
    let found = results(&out);
    assert_eq!(row(&found, "given anchors"), row(&found, "tokenrank"));
    // Segments without a pixel are in no label map; they count in the number of segments, and ties among them decide which
    // classes without pixels they are matched to.
    let of_pixels = |method: &str| -> Vec<(String, f64)> {
        let row = row(&found, method).into_iter();
        row.filter(|(metric, _)| !["proposals", "miou"].contains(&&**metric)).collect()
    };
    assert_eq!(of_pixels("given segments"), of_pixels("tokenrank"));
    assert!(of_pixels("given segments").len() >= 5);
    let counts = |record: &Value| {
        let mut found = labels(&record["pictures"]["methods"]["tokenrank"]);
        found.sort_unstable();
        found.dedup();
        found.len() as f64
    };
    let mean = records.iter().map(counts).sum::<f64>() / 6.0;
    let segments_of = row(&found, "given segments");
    let proposals = segments_of.iter().find(|(metric, _)| metric == "proposals").expect("a number");
    assert!((proposals.1 - mean).abs() < 1e-12);
    assert!(out.join("pictures.png").is_file());

    // Label maps alone need no network and give the same row.
    let alone = at("alone");
    told("run", &anchors, &format!("[{drawn}]"), &["--out", arg(&alone)], 0);
    assert_eq!(row(&results(&alone), "given segments"), segments_of);
    let page = run(&["report", arg(&alone)], 0);
    assert!(page.status.success());
}

#[test]
fn anchors_and_label_maps_that_do_not_fit_are_refused() {
    let dir = scratch();
    let file = dir.path().join("scores.safetensors");
    let mine = "[{ file = FILE, name = \"mine\" }]";
    let id = |index: usize| format!("val-{index:06}");
    let map = |index: usize| whole(&id(index), &[0; SIDE * SIDE]);
    let score = |index: usize| Array::f32(&id(index), &[TOKENS, TOKENS], &[0.5; TOKENS * TOKENS]);
    let refused = |arrays: Vec<Array>, methods: &str, code: i32, parts: &[&str]| {
        write_for(&file, "diffseg", &arrays);
        for command in ["validate", "run"] {
            let out = dir.path().join("never");
            let message = words(&told(command, &file, methods, &["--out", arg(&out)], code));
            for part in parts {
                assert!(message.contains(part), "{part} is not in {message}");
            }
            assert!(!out.exists(), "nothing is written");
        }
    };
    let maps = |more: Array| -> Vec<Array> { (0..5).map(map).chain([more]).collect() };
    let scores = |more: Array| -> Vec<Array> { (0..5).map(score).chain([more]).collect() };
    refused((0..5).map(map).collect(), mine, 3, &["scores.safetensors", "1 of 6 images: `val-000005`"]);
    let fifth = id(5);
    let small = Array { shape: vec![32, 32], ..whole(&fifth, &[0; 32 * 32]) };
    refused(maps(small), mine, 3, &["`val-000005` has shape [32, 32]", "[64, 64]", "central square"]);
    let mut labels = vec![3; SIDE * SIDE];
    labels[SIDE + 2] = -1;
    refused(maps(whole(&fifth, &labels)), mine, 3, &["`val-000005` has the label -1 at row 1, column 2"]);
    // The library orders tensors by their types.
    refused(maps(score(5)), mine, 3, &["`val-000000` holds I32, unlike tensor `val-000005`"]);
    refused(scores(map(5)), mine, 3, &["`val-000005` holds I32, unlike tensor `val-000000`"]);
    let wrong = Array::f32(&fifth, &[8, 8], &[0.5; 64]);
    refused(scores(wrong), mine, 3, &["16 16 tokens with self-attention", "[16, 16]"]);
    let infinite = Array::f32(&fifth, &[TOKENS * TOKENS], &[f64::INFINITY; TOKENS * TOKENS]);
    refused(scores(infinite), mine, 3, &["`val-000005` is inf at token 0"]);
    let settings = "[{ file = FILE, name = \"mine\", radius = 2 }]";
    refused(
        (0..6).map(map).collect(),
        settings,
        2,
        &["task.diffseg.methods", "`radius` of `mine` has no effect"],
    );
    let settings = "[{ file = FILE, name = \"mine\", number = 0 }]";
    refused((0..6).map(score).collect(), settings, 2, &["`mine` asks for 0 anchors"]);
}
