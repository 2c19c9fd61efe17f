//! Images with pixel labels, in the layouts in which people have them, and what is refused of them.

mod dense;
mod gtsegs;
mod masks;
mod mini;
mod orientation;
mod voc;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tasks::Error;
use tasks::dataset::DatasetConfig;
use tasks::dataset::segmentation::{Segmented, SegmentedImage};
use tempfile::TempDir;

fn dataset(name: &str, settings: Value) -> DatasetConfig {
    serde_json::from_value(json!({ name: settings })).expect("a dataset table")
}

fn listed(dataset: &DatasetConfig) -> Vec<SegmentedImage> {
    dataset.segmented().expect("a dataset")
}

fn refusal(dataset: &DatasetConfig) -> String {
    dataset.segmented().expect_err("accepted").to_string()
}

fn load(item: &SegmentedImage) -> Segmented {
    item.load().expect("an image with its labels")
}

fn load_refusal(item: &SegmentedImage) -> String {
    item.load().expect_err("accepted").to_string()
}

/// The label and the name of every class of an image.
fn classes(item: &SegmentedImage) -> Vec<(u8, &str)> {
    item.classes.iter().map(|class| (class.label, class.name.as_str())).collect()
}

/// A folder with the given files.
fn folder(files: &[(&str, Vec<u8>)]) -> TempDir {
    let dir = tempfile::tempdir().expect("a scratch folder");
    for (name, content) in files {
        put(dir.path(), name, content);
    }
    dir
}

fn put(dir: &Path, name: &str, content: &[u8]) -> PathBuf {
    let path = dir.join(name);
    fs::create_dir_all(path.parent().expect("a parent")).expect("writable");
    fs::write(&path, content).expect("writable");
    path
}

/// A PNG of one byte a sample. A palette file's colours say nothing of its indices.
fn png(width: usize, color: png::ColorType, samples: &[u8]) -> Vec<u8> {
    let height = samples.len() / width / color.samples();
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width as u32, height as u32);
    encoder.set_color(color);
    encoder.set_depth(png::BitDepth::Eight);
    if color == png::ColorType::Indexed {
        encoder.set_palette((0..256).flat_map(|i| [255 - i as u8, 9, 9]).collect::<Vec<u8>>());
    }
    let mut writer = encoder.write_header().expect("a header");
    writer.write_image_data(samples).expect("samples");
    writer.finish().expect("a picture");
    bytes
}

fn rgb(width: usize, height: usize) -> Vec<u8> {
    let samples: Vec<u8> = (0..width * height * 3).map(|i| (i * 7 % 251) as u8).collect();
    png(width, png::ColorType::Rgb, &samples)
}

#[test]
fn each_kind_says_which_labels_it_has() {
    for (name, settings) in
        [("folder", json!({ "root": "nowhere" })), ("imagenet", json!({ "root": "nowhere" }))]
    {
        let message = refusal(&dataset(name, settings));
        assert!(message.contains(&format!("`{name}`")) && message.contains("masks"), "{message}");
    }
    for (name, settings) in [
        ("imagenet-segmentation", json!({ "path": "nowhere" })),
        ("masks", json!({ "root": "nowhere" })),
        ("pascal-voc", json!({ "root": "nowhere" })),
    ] {
        let dataset = dataset(name, settings);
        assert_eq!(dataset.name(), name);
        let message = dataset.items(1000).expect_err("accepted").to_string();
        assert!(message.contains(&format!("`{name}`")) && message.contains("folder"), "{message}");
        let missing = dataset.segmented().expect_err("accepted");
        let mut words = missing.to_string();
        if let Error::NoData { setting, .. } = missing {
            words.push_str(setting);
        }
        assert!(words.contains("nowhere") && words.contains(&format!("dataset.{name}.")), "{words}");
    }
}

#[test]
fn misspelt_settings_are_refused() {
    for (name, settings, word) in [
        ("imagenet-segmentation", json!({ "path": "x", "name": "y" }), "`name`"),
        ("masks", json!({ "root": "x", "mask": "y" }), "`mask`"),
        ("pascal-voc", json!({ "root": "x", "protocol": "single" }), "`single-class`"),
        ("mini", json!({ "count": 1, "objects": { "from": 1 } }), "`to`"),
    ] {
        let message =
            serde_json::from_value::<DatasetConfig>(json!({ name: settings })).expect_err("accepted");
        assert!(message.to_string().contains(word), "{message}");
    }
}
