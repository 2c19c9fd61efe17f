//! Decoding against Pillow and preprocessing against `transformers`, to the bit.
//!
//! The expected hashes are written by `tools/golden_image.py`.
#![allow(clippy::unwrap_used)]

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use models::image::{ImageError, Orientation, Preprocessor, Resample, ResizeRule, Rgb8, center_crop, resize};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use sha2::{Digest, Sha256};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/image")
}

fn golden<T: DeserializeOwned>(file: &str) -> T {
    serde_json::from_str(&fs::read_to_string(fixtures().join(file)).unwrap()).unwrap()
}

fn picture(file: &str) -> Vec<u8> {
    fs::read(fixtures().join("pictures").join(file)).unwrap()
}

fn sha(bytes: &[u8]) -> String {
    models::hex(Sha256::digest(bytes))
}

fn sha_of_values(values: impl IntoIterator<Item = f32>) -> String {
    sha(&values.into_iter().flat_map(f32::to_le_bytes).collect::<Vec<_>>())
}

#[derive(Deserialize)]
struct Golden {
    pictures: Vec<Picture>,
    truncated: Vec<Truncated>,
    targets: Vec<Target>,
}

#[derive(Deserialize)]
struct Picture {
    file: String,
    #[serde(flatten)]
    read: Read,
    resized: Vec<Sized>,
    cropped: Vec<Sized>,
}

#[derive(Deserialize)]
struct Truncated {
    file: String,
    length: usize,
    #[serde(flatten)]
    read: Read,
}

/// The result of Pillow for a file.
#[derive(Deserialize)]
struct Read {
    #[serde(default)]
    refused: bool,
    width: Option<usize>,
    height: Option<usize>,
    sha256: Option<String>,
}

#[derive(Deserialize)]
struct Sized {
    width: usize,
    height: usize,
    filter: Option<Resample>,
    sha256: String,
}

#[derive(Deserialize)]
struct Target {
    size: Value,
    from: (usize, usize),
    to: (usize, usize),
}

impl Read {
    /// Returns `None` if `got` equals the result of Pillow, else the difference.
    fn differs(&self, got: &Result<Rgb8, ImageError>) -> Option<String> {
        match got {
            Err(_) if self.refused => None,
            Err(error) => Some(format!("Pillow reads it, but: {error}")),
            Ok(_) if self.refused => Some("Pillow refuses it".to_owned()),
            Ok(got) if (Some(got.width), Some(got.height)) != (self.width, self.height) => Some(format!(
                "{}×{} pixels instead of {:?}×{:?}",
                got.width, got.height, self.width, self.height
            )),
            Ok(got) => (Some(sha(&got.data)) != self.sha256).then(|| "other pixels".to_owned()),
        }
    }
}

#[track_caller]
fn assert_none(checked: usize, differences: &[String]) {
    assert!(checked > 0, "the golden file holds nothing to compare");
    assert!(differences.is_empty(), "{} of {checked} differ:\n{}", differences.len(), differences.join("\n"));
}

#[test]
fn every_kind_of_file_decodes_to_pillows_pixels() {
    let golden: Golden = golden("golden.json");
    let differences: Vec<_> = golden
        .pictures
        .iter()
        .filter_map(|entry| {
            let found = entry.read.differs(&Rgb8::decode(&picture(&entry.file)));
            found.map(|found| format!("{}: {found}", entry.file))
        })
        .collect();
    assert_none(golden.pictures.len(), &differences);
}

#[test]
fn truncated_files_are_refused_where_pillow_refuses_them() {
    let golden: Golden = golden("golden.json");
    let differences: Vec<_> = golden
        .truncated
        .iter()
        .filter_map(|entry| {
            let whole = picture(&entry.file);
            let got = Rgb8::decode(&whole[..entry.length]);
            // Pillow accepts a missing checksum after the last pixels of a PNG; here only the end chunk may be missing.
            let in_data = entry.file.ends_with(".png") && entry.length < whole.len() - 12;
            let found = match (in_data, &got) {
                (true, Ok(_)) => Some("it was read".to_owned()),
                (true, Err(_)) => None,
                (false, got) => entry.read.differs(got),
            };
            found.map(|found| format!("first {} bytes of {}: {found}", entry.length, entry.file))
        })
        .collect();
    assert_none(golden.truncated.len(), &differences);
}

#[test]
fn every_filter_and_pass_order_resizes_to_pillows_pixels() {
    let golden: Golden = golden("golden.json");
    let mut checked = 0;
    let mut differences = Vec::new();
    for entry in &golden.pictures {
        let source = Rgb8::decode(&picture(&entry.file)).unwrap();
        for expected in &entry.resized {
            let Sized { width, height, filter, .. } = *expected;
            let filter = filter.unwrap();
            let got = resize(&source, (width, height), filter).unwrap();
            assert_eq!((got.width, got.height), (width, height));
            checked += 1;
            if sha(&got.data) != expected.sha256 {
                differences.push(format!("{} to {width}×{height}, {}", entry.file, filter.name()));
            }
        }
    }
    assert_none(checked, &differences);
}

#[test]
fn crops_and_pads_at_the_offsets_of_transformers() {
    let golden: Golden = golden("golden.json");
    let mut checked = 0;
    let mut differences = Vec::new();
    for entry in &golden.pictures {
        let source = Rgb8::decode(&picture(&entry.file)).unwrap();
        for &Sized { width, height, ref sha256, .. } in &entry.cropped {
            checked += 1;
            let got = center_crop(&source, (width, height)).unwrap();
            if sha(&got.data) != *sha256 {
                differences
                    .push(format!("{} ({}×{}) to {width}×{height}", entry.file, source.width, source.height));
            }
        }
    }
    assert_none(checked, &differences);
}

#[test]
fn new_sizes_are_truncated_and_rounded_as_in_transformers() {
    let golden: Golden = golden("golden.json");
    let side =
        |target: &Target, name| target.size.get(name).and_then(Value::as_u64).map(|side| side as usize);
    let differences: Vec<_> = golden
        .targets
        .iter()
        .filter_map(|target| {
            let rule = match (
                side(target, "shortest_edge"),
                side(target, "max_height"),
                side(target, "max_width"),
            ) {
                (Some(shortest), None, None) => {
                    ResizeRule::ShortestEdge { shortest, longest: side(target, "longest_edge") }
                }
                (None, Some(max_height), Some(max_width)) => ResizeRule::Within { max_height, max_width },
                other => panic!("unknown size in the golden file: {other:?}"),
            };
            let got = rule.target(target.from);
            (got != target.to)
                .then(|| format!("{:?} by {rule:?}: {got:?}, expected {:?}", target.from, target.to))
        })
        .collect();
    assert_none(golden.targets.len(), &differences);
}

#[derive(Deserialize)]
struct Preprocessing {
    cases: Vec<Case>,
    /// Configurations that transformers refuses.
    refused: Vec<Value>,
}

#[derive(Deserialize)]
struct Case {
    config: Value,
    model_type: Option<String>,
    picture: String,
    shape: [usize; 3],
    sha256: String,
}

#[test]
fn pixel_values_equal_those_of_transformers() {
    let golden: Preprocessing = golden("preprocess.json");
    let differences: Vec<_> = golden
        .cases
        .iter()
        .filter_map(|case| {
            let preprocessor =
                Preprocessor::from_json(&case.config.to_string(), case.model_type.as_deref()).unwrap();
            let values = preprocessor.apply(&Rgb8::decode(&picture(&case.picture)).unwrap()).unwrap();
            let what = format!("{} with {}", case.picture, case.config);
            if values.shape() != case.shape {
                Some(format!("{what}: {:?}, expected {:?}", values.shape(), case.shape))
            } else {
                (sha_of_values(values) != case.sha256).then_some(what)
            }
        })
        .collect();
    assert_none(golden.cases.len(), &differences);
}

#[test]
fn configurations_that_transformers_refuses_are_refused() {
    let golden: Preprocessing = golden("preprocess.json");
    let accepted: Vec<_> = golden
        .refused
        .iter()
        .filter(|config| Preprocessor::from_json(&config.to_string(), None).is_ok())
        .map(Value::to_string)
        .collect();
    assert_none(golden.refused.len(), &accepted);
}

#[derive(Deserialize)]
struct Scenes {
    /// Configurations of preprocessors.
    networks: Vec<Value>,
    images: Vec<Scene>,
}

#[derive(Deserialize)]
struct Scene {
    file: String,
    #[serde(flatten)]
    read: Read,
    /// Pixels after the image was turned as its EXIF data say.
    upright: String,
    /// A result for each configuration.
    networks: Vec<Preprocessed>,
}

#[derive(Deserialize)]
struct Preprocessed {
    resized: String,
    values: String,
}

/// Compares the images of a folder with its `golden.json`. Returns how many differences were possible.
fn compare_scenes(folder: &Path) -> usize {
    let text = fs::read_to_string(folder.join("golden.json")).unwrap();
    let golden: Scenes = serde_json::from_str(&text).unwrap();
    let preprocessors: Vec<_> = golden
        .networks
        .iter()
        .map(|config| Preprocessor::from_json(&config.to_string(), None).unwrap())
        .collect();
    let (mut checked, mut differences) = (0, Vec::new());
    for Scene { file, read, upright, networks } in &golden.images {
        let bytes = fs::read(folder.join(file)).unwrap();
        let image = Rgb8::decode(&bytes);
        let mut compare = |what: &str, difference: Option<String>| {
            checked += 1;
            differences.extend(difference.map(|difference| format!("{file}, {what}: {difference}")));
        };
        let hashes = |got: String, expected: &String| (got != *expected).then(|| "other values".to_owned());
        compare("decoded", read.differs(&image));
        let Ok(image) = image else { continue };
        compare("upright", hashes(sha(&Rgb8::decode_upright(&bytes).unwrap().0.data), upright));
        assert_eq!(networks.len(), preprocessors.len(), "{file}");
        for (expected, preprocessor) in networks.iter().zip(&preprocessors) {
            let resized = preprocessor.apply_geometry(&image).unwrap();
            compare("resized and cropped", hashes(sha(&resized.data), &expected.resized));
            let values = sha_of_values(preprocessor.apply(&image).unwrap());
            compare("normalised", hashes(values, &expected.values));
        }
    }
    assert_none(checked, &differences);
    checked
}

/// The images of the repository, and with `TOKENRANK_PHOTOGRAPHS=FOLDER` photographs that `tools/golden_image.py` has read.
#[test]
fn scenes_equal_pillow_and_transformers() {
    let checked = compare_scenes(&fixtures().join("scenes"));
    println!("{checked} comparisons without a difference");
    assert_eq!(checked, 26 * (2 + 2 * 4));
    if let Some(folder) = env::var_os("TOKENRANK_PHOTOGRAPHS") {
        compare_scenes(Path::new(&folder));
    }
}

#[derive(Deserialize)]
struct Orientations {
    pictures: Vec<Noted>,
}

#[derive(Deserialize)]
struct Noted {
    name: String,
    file: String,
    number: u8,
    width: usize,
    height: usize,
    pixels: String,
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<char> = hex.chars().collect();
    let byte = |pair: &[char]| u8::from_str_radix(&pair.iter().collect::<String>(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

#[test]
fn images_are_turned_as_in_pillow() {
    let golden: Orientations = golden("orientation.json");
    assert_eq!(golden.pictures.len(), 28);
    for Noted { name, file, number, width, height, pixels } in golden.pictures {
        let file = bytes(&file);
        let (upright, turned) = Rgb8::decode_upright(&file).unwrap();
        assert_eq!(turned.number(), number, "{name}");
        assert_eq!((upright.width, upright.height), (width, height), "{name}");
        assert_eq!(upright.data, bytes(&pixels), "{name}");
        // All other code reads the stored pixels.
        let stored = Rgb8::decode(&file).unwrap();
        assert_eq!((stored.width, stored.height), (5, 3), "{name}");
        assert_eq!(Orientation::of(&file), turned, "{name}");
    }
}
