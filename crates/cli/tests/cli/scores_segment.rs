//! Signals and masks of `[task.segment]` that come from files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::common::{arg, run, scratch, words};
use crate::on_files::with_dataset;
use crate::scores::{Array, results, row, write_for};

const CONFIG: &str = "configs/mini/segment.toml";
/// Side of the images, and of the grid of image tokens.
const SIDE: usize = 96;
const TOKENS: usize = 12;

/// The arguments of an experiment on `scenes` images with these methods.
fn args(command: &str, config: &str, scores: &Path, methods: &str, more: &[&str]) -> Vec<String> {
    let methods = methods.replace("FILE", &format!("{scores:?}"));
    let mut args = vec![command.to_owned(), config.to_owned()];
    for set in [
        format!("task.segment.methods={methods}"),
        "task.segment.batch=4".to_owned(),
        format!("task.segment.score.side={SIDE}"),
    ] {
        args.extend(["--set".to_owned(), set]);
    }
    args.extend(more.iter().map(|&word| word.to_owned()));
    args
}

#[track_caller]
fn told(args: &[String], code: i32) -> std::process::Output {
    run(&args.iter().map(String::as_str).collect::<Vec<_>>(), code)
}

/// The records of a run, in order.
fn records(out: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(out.join("records.jsonl")).expect("records");
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let mut records: Vec<Value> = lines.filter(|line| line["methods"].is_object()).collect();
    records.sort_by_key(|record| record["id"].as_str().map(str::to_owned));
    records
}

fn numbers(list: &Value) -> Vec<f64> {
    list.as_array().expect("a list").iter().map(|value| value.as_f64().expect("a number")).collect()
}

/// Signals that a run has recorded, given to the next run as a file, have the same rows; and so have the masks that follow
/// from them, computed here, but for average precision, which ranks the signal.
#[test]
fn exported_signals_and_masks_give_the_rows_of_their_methods() {
    let dir = scratch();
    let (first, file) = (dir.path().join("first"), dir.path().join("scores.safetensors"));
    let more = ["--limit", "8", "--set", "task.segment.figures=8", "--out"];
    told(
        &args("run", CONFIG, &file, "[\"row-select\", \"bounce\"]", &[&more[..], &[arg(&first)]].concat()),
        0,
    );
    let records = records(&first);
    assert_eq!(records.len(), 8);
    let masks = dir.path().join("masks.safetensors");
    for method in ["row-select", "bounce"] {
        let (mut signals, mut cut) = (Vec::new(), Vec::new());
        for (index, record) in records.iter().enumerate() {
            let id = record["id"].as_str().expect("a name");
            let signal = numbers(&record["maps"]["maps"][method]);
            assert_eq!(signal.len(), TOKENS * TOKENS);
            let class = record["names"][0].as_str().expect("a class");
            // With and without the class in the name, as a grid and as a list.
            let name = if index % 2 == 0 { id.to_owned() } else { format!("{id}:{class}") };
            let shape: &[usize] = if index % 3 == 0 { &[TOKENS * TOKENS] } else { &[TOKENS, TOKENS] };
            // Another range: signals are scaled before they are cut. A power of two changes no digit.
            let scaled: Vec<f64> = signal.iter().map(|value| 4.0 * value).collect();
            signals.push(Array::f32(&name, shape, &scaled));
            let mean = signal.iter().sum::<f64>() / signal.len() as f64;
            let token = SIDE / TOKENS;
            let pixel = |at: usize| signal[at / SIDE / token * TOKENS + at % SIDE / token];
            let mask: Vec<u8> = (0..SIDE * SIDE).map(|at| u8::from(pixel(at) > mean)).collect();
            cut.push(Array::u8(&name, &[SIDE, SIDE], &mask));
        }
        write_for(&file, "segment", &signals);
        write_for(&masks, "segment", &cut);
        let out = dir.path().join(method);
        let mine = format!(
            "[\"{method}\", {{ file = FILE, name = \"signal\" }}, {{ file = {masks:?}, name = \"mask\" }}]"
        );
        told(&args("run", CONFIG, &file, &mine, &["--limit", "8", "--out", arg(&out)]), 0);
        let found = results(&out);
        assert_eq!(row(&found, "signal"), row(&found, method));
        let unranked = |name: &str| -> Vec<(String, f64)> {
            row(&found, name).into_iter().filter(|(metric, _)| !metric.starts_with("map")).collect()
        };
        assert_eq!(unranked("mask"), unranked(method));
        assert_eq!(unranked("mask").len(), 3);
        assert!(out.join("overlays.png").is_file());

        // Files alone need no pass and give the same rows.
        let alone = dir.path().join(format!("{method}-alone"));
        let mine = mine.replace(&format!("\"{method}\", "), "");
        let output = told(&args("run", CONFIG, &file, &mine, &["--limit", "8", "--out", arg(&alone)]), 0);
        let alone = results(&alone);
        assert_eq!(row(&alone, "signal"), row(&found, method));
        assert_eq!(row(&alone, "mask"), row(&found, "mask"));
        let text = String::from_utf8(output.stdout).expect("text");
        assert!(text.contains("mask − signal"), "differences have the methods:\n{text}");
    }
}

/// A tree of PASCAL VOC with scenes of several objects, and the label map of each image.
fn voc(dir: &Path) -> (PathBuf, BTreeMap<String, Vec<u8>>) {
    let (scenes, root) = (dir.join("scenes"), dir.join("VOC"));
    let spec = tasks::mini::SceneSpec::new(SIDE, 2..=3).expect("a spec");
    tasks::mini::export(&scenes, &spec, 0, tasks::mini::Split::Val, 7).expect("written");
    for folder in ["ImageSets/Segmentation", "JPEGImages", "SegmentationClass"] {
        std::fs::create_dir_all(root.join(folder)).expect("a folder");
    }
    let (mut list, mut maps) = (String::new(), BTreeMap::new());
    for index in 0..7 {
        let id = format!("{index:06}");
        // The format of an image is known by its content.
        let image = scenes.join(format!("images/{id}.png"));
        std::fs::copy(image, root.join(format!("JPEGImages/{id}.jpg"))).expect("copied");
        let mask = scenes.join(format!("masks/{id}.png"));
        std::fs::copy(&mask, root.join(format!("SegmentationClass/{id}.png"))).expect("copied");
        let decoder = png::Decoder::new(std::io::BufReader::new(std::fs::File::open(mask).expect("a mask")));
        let mut reader = decoder.read_info().expect("a mask");
        let mut labels = vec![0; reader.output_buffer_size().expect("a size")];
        reader.next_frame(&mut labels).expect("a mask");
        assert_eq!(labels.len(), SIDE * SIDE);
        list += &format!("{id}\n");
        maps.insert(id, labels);
    }
    std::fs::write(root.join("ImageSets/Segmentation/val.txt"), list).expect("writable");
    (root, maps)
}

/// The first names of PASCAL VOC, by label.
const VOC: [&str; 11] = ["", "plane", "bike", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"];

fn classes(labels: &[u8]) -> Vec<u8> {
    let mut found: Vec<u8> = labels.iter().copied().filter(|&label| label != 0).collect();
    found.sort_unstable();
    found.dedup();
    found
}

#[test]
fn several_classes_of_an_image_have_a_tensor_each() {
    let dir = scratch();
    let (root, maps) = voc(dir.path());
    let dataset = format!("[pascal-voc]\nroot = {root:?}\nprotocol = \"multi-class\"");
    let config = with_dataset(dir.path(), CONFIG, &dataset);
    let (masks, signals) = (dir.path().join("masks.safetensors"), dir.path().join("signals.safetensors"));
    let token = SIDE / TOKENS;
    let (mut mask_arrays, mut signal_arrays, mut right) = (Vec::new(), Vec::new(), 0);
    for (id, labels) in &maps {
        let found = classes(labels);
        assert!(found.len() > 1, "several classes");
        // The background competes with 0, first among equals.
        let mut best = vec![(0.0, 0u8); TOKENS * TOKENS];
        for &class in &found {
            let name = format!("{id}:{}", VOC[usize::from(class)]);
            let mask: Vec<u8> = labels.iter().map(|&label| u8::from(label == class)).collect();
            // The number of pixels of the class in each token, which differs by class so that there are no ties.
            let mut signal = vec![0.0f64; TOKENS * TOKENS];
            for (at, &inside) in mask.iter().enumerate() {
                let place = at / SIDE / token * TOKENS + at % SIDE / token;
                signal[place] += f64::from(inside) * (1.0 + f64::from(class) / 100.0);
            }
            let most = signal.iter().copied().fold(0.0, f64::max);
            let mean = signal.iter().sum::<f64>() / most / signal.len() as f64;
            for (best, value) in best.iter_mut().zip(&signal) {
                if value / most - mean > best.0 {
                    *best = (value / most - mean, class);
                }
            }
            mask_arrays.push(Array::u8(&name, &[SIDE, SIDE], &mask));
            signal_arrays.push(Array::f64(&name, &[TOKENS, TOKENS], &signal));
        }
        let predicted = |at: usize| best[at / SIDE / token * TOKENS + at % SIDE / token].1;
        right += labels.iter().enumerate().filter(|&(at, &label)| predicted(at) == label).count();
    }
    write_for(&masks, "segment", &mask_arrays);
    write_for(&signals, "segment", &signal_arrays);
    let out = dir.path().join("out");
    let methods =
        format!("[{{ file = FILE, name = \"true masks\" }}, {{ file = {signals:?}, name = \"signals\" }}]");
    let voc = [arg(&config).to_owned()];
    told(&args("run", &voc[0], &masks, &methods, &["--out", arg(&out)]), 0);
    let found = results(&out);
    let value = |method: &str, name: &str| {
        row(&found, method).into_iter().find(|(metric, _)| metric == name).expect("a metric").1
    };
    assert_eq!((value("true masks", "accuracy"), value("true masks", "miou")), (1.0, 1.0));
    let wanted = right as f64 / (maps.len() * SIDE * SIDE) as f64;
    assert!(
        (value("signals", "accuracy") - wanted).abs() < 1e-12,
        "{} {wanted}",
        value("signals", "accuracy")
    );

    // A class that lacks its tensor, and one that has two.
    let all = mask_arrays.len();
    let lost = mask_arrays.remove(1);
    write_for(&masks, "segment", &mask_arrays);
    let told_of = |code: i32| {
        words(&told(&args("validate", &voc[0], &masks, "[{ file = FILE, name = \"mine\" }]", &[]), code))
    };
    let message = told_of(3);
    assert!(message.contains(&format!("has no tensor for 1 of {all} images: `{}`", lost.name)), "{message}");
    mask_arrays.push(Array {
        name: lost.name.clone(),
        ..Array::f64(&lost.name, &[TOKENS, TOKENS], &[0.5; TOKENS * TOKENS])
    });
    write_for(&masks, "segment", &mask_arrays);
    told_of(0);
    let mixed = args(
        "run",
        &voc[0],
        &masks,
        "[{ file = FILE, name = \"mine\" }]",
        &["--out", arg(&dir.path().join("mixed"))],
    );
    let message = words(&told(&mixed, 3));
    assert!(message.contains("signals for some of its classes and masks for others"), "{message}");
}

#[test]
fn signals_and_masks_that_do_not_fit_are_refused() {
    let dir = scratch();
    let file = dir.path().join("scores.safetensors");
    let mine = "[{ file = FILE, name = \"mine\" }]";
    let with = |command: &str, array: Array, code: i32| {
        let signal =
            |index: usize| Array::f32(&format!("val-{index:06}"), &[TOKENS, TOKENS], &[0.5; TOKENS * TOKENS]);
        let mut arrays: Vec<Array> = (0..3).map(signal).collect();
        arrays.push(array);
        write_for(&file, "segment", &arrays);
        let out = dir.path().join("never");
        words(&told(&args(command, CONFIG, &file, mine, &["--limit", "4", "--out", arg(&out)]), code))
    };
    let fourth = "val-000003";
    for (array, parts) in [
        (Array::f32(fourth, &[6, 6], &[0.5; 36]), vec!["shape [6, 6]", "12 12 image tokens", "[12, 12]"]),
        (Array::f32(fourth, &[TOKENS, TOKENS], &[f64::NAN; 144]), vec!["NaN", "row 0, column 0"]),
        (Array::u8(fourth, &[SIDE, SIDE], &[2; SIDE * SIDE]), vec!["the value 2", "1 inside the object"]),
        (Array::u8(fourth, &[SIDE * SIDE], &[1; SIDE * SIDE]), vec!["[height, width]"]),
        (
            Array { dtype: safetensors::Dtype::I8, ..Array::u8(fourth, &[SIDE, SIDE], &[1; SIDE * SIDE]) },
            vec!["holds I8", "BOOL or U8"],
        ),
        (Array::f32("val-000004", &[TOKENS, TOKENS], &[0.5; 144]), vec!["1 of 4 images", "`val-000004`"]),
    ] {
        for command in ["validate", "run"] {
            let message = with(command, array.clone(), 3);
            for part in [&["scores.safetensors", fourth], &parts[..]].concat() {
                assert!(message.contains(part), "{part} is not in {message}");
            }
        }
    }
    // The size of an image is known when it is read.
    let message = with("run", Array::u8(fourth, &[64, 64], &[1; 64 * 64]), 3);
    for part in [fourth, "shape [64, 64]", "96 rows and 96 columns", "[96, 96]"] {
        assert!(message.contains(part), "{part} is not in {message}");
    }
    let twice = vec![
        Array::f32("val-000000", &[TOKENS, TOKENS], &[0.5; 144]),
        Array::f32("val-000000:heart", &[TOKENS, TOKENS], &[0.5; 144]),
    ];
    write_for(&file, "segment", &twice);
    let message = words(&told(&args("validate", CONFIG, &file, mine, &["--limit", "1"]), 3));
    assert!(message.contains("are for the same class of the same image"), "{message}");
}
