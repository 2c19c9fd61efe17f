//! Fuzz targets that need the crate `eval`: experiments, and the files that runs write. `crates/pages/tests/hostile.rs`
//! includes this file.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::str::FromStr;
use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;

use eval::compare::{Baseline, Tolerance, compare, read_runs};
use eval::metrics::fidelity::{Gaussian, frechet_distance};
use eval::{ClassSource, MergeOptions, ModelConfig};
use ndarray::{Ix1, Ix2};
use runs::Shard;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tasks::dataset::DatasetConfig;

/// The byte at which an input of several files is split, as in `targets.rs`.
const BETWEEN_FILES: u8 = 0xff;
/// Datasets with more scenes are not listed, so that an input is read in milliseconds.
const MOST_SCENES: u64 = 1000;

/// Returns the target with this name.
pub fn eval_target(name: &str) -> Option<fn(&[u8])> {
    Some(match name {
        "arguments" => arguments,
        "baseline" => baseline,
        "experiment" => experiment,
        "inputs" => inputs,
        "run_folder" => run_folder,
        "statistics" => statistics,
        _ => return None,
    })
}

/// Creates a folder for one input, in memory if the system has a folder for that.
fn scratch() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let dir = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    dir.expect("a scratch folder")
}

/// Reads an experiment file, and the descriptor of a dataset that it may name.
pub fn experiment(data: &[u8]) {
    let dir = scratch();
    let path = dir.path().join("experiment.toml");
    fs::write(&path, data).expect("writable");
    let zero_shot = json!({ "path": "", "zero_shot": { "descriptor": path, "templates": "descriptor" } });
    let model: ModelConfig = serde_json::from_value(zero_shot).expect("a model");
    let _ = model.classes.as_ref().map(ClassSource::head);
    let _ = eval::title(&path);
    let Ok(experiment) = eval::Experiment::read(&path, &["seed=1".to_owned()]) else { return };
    let _ = experiment.task.kind().validate(&experiment);
    if let DatasetConfig::Mini(mini) = &experiment.dataset
        && mini.count <= MOST_SCENES
    {
        let _ = experiment.dataset.items(10);
        let _ = experiment.dataset.segmented();
    }
}

/// Reads `run.json`, `results.json`, `records.jsonl` of a run, the `sweep.json` above it, and the run's `inputs.jsonl` and
/// `run.lock`, as comparisons, reports and merges do.
pub fn run_folder(data: &[u8]) {
    let Some(dir) = run_laid_out(data) else { return };
    if let Ok(runs) = read_runs(dir.path()) {
        let _ = compare("suite", &runs, &runs, &Default::default(), true).to_junit();
    }
    let _ = pages::report(dir.path(), None);
    let options = MergeOptions {
        dirs: vec![dir.path().into()],
        out: Some(dir.path().join("merged")),
        device: "cpu".into(),
    };
    let _ = eval::merge(&options, &AtomicBool::new(true));
}

/// Writes the files of a run to a folder, with correct hashes. Returns `None` if there are too many scenes to list.
pub fn run_laid_out(data: &[u8]) -> Option<tempfile::TempDir> {
    let dir = scratch();
    let run = dir.path().join("runs/one");
    fs::create_dir_all(&run).expect("writable");
    let mut parts = data.split(|&byte| byte == BETWEEN_FILES);
    let mut next = || parts.next().unwrap_or_default();
    let (header, fingerprint) = signed_header(next());
    let results = with_fingerprint(next(), fingerprint.clone());
    if too_many_scenes(&header) || too_many_scenes(&results) {
        return None;
    }
    let records = signed(next(), &fingerprint.unwrap_or_default());
    for (name, bytes) in [("run.json", header), ("results.json", results), ("records.jsonl", records)] {
        fs::write(run.join(name), bytes).expect("writable");
    }
    for (name, bytes) in
        [("sweep.json", next()), ("runs/one/inputs.jsonl", next()), ("runs/one/run.lock", next())]
    {
        if !bytes.is_empty() {
            fs::write(dir.path().join(name), bytes).expect("writable");
        }
    }
    Some(dir)
}

/// Returns a header with the correct fingerprint of its identity, and the fingerprint. A fuzzer cannot guess a SHA-256,
/// but an attacker can compute it.
fn signed_header(bytes: &[u8]) -> (Vec<u8>, Option<String>) {
    let header = serde_json::from_slice::<Value>(bytes).ok();
    let identity = header.as_ref().and_then(|header| header.get("identity"));
    let fingerprint = identity.map(|identity| hex(identity.to_string().as_bytes()));
    (with_fingerprint(bytes, fingerprint.clone()), fingerprint)
}

fn with_fingerprint(bytes: &[u8], fingerprint: Option<String>) -> Vec<u8> {
    match (serde_json::from_slice::<Value>(bytes), fingerprint) {
        (Ok(Value::Object(mut object)), Some(fingerprint)) => {
            object.insert("fingerprint".into(), fingerprint.into());
            Value::Object(object).to_string().into_bytes()
        }
        _ => bytes.to_vec(),
    }
}

/// Returns the records with correct checksums in their closing lines.
fn signed(bytes: &[u8], fingerprint: &str) -> Vec<u8> {
    let (mut all, mut segment) = (Vec::new(), Vec::new());
    for line in bytes.split_inclusive(|&byte| byte == b'\n') {
        match serde_json::from_slice::<Value>(line) {
            Ok(mut closing) if closing["segment"].is_object() => {
                closing["segment"]["sha256"] =
                    hex(&[fingerprint.as_bytes(), b"\n", &segment].concat()).into();
                all.append(&mut segment);
                all.extend(format!("{closing}\n").bytes());
            }
            _ => segment.extend_from_slice(line),
        }
    }
    all.append(&mut segment);
    all
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether an experiment in the file has too many scenes to be listed here.
fn too_many_scenes(bytes: &[u8]) -> bool {
    let Ok(file) = serde_json::from_slice::<Value>(bytes) else { return false };
    let count = |experiment: &Value| experiment["dataset"]["mini"]["count"].as_u64();
    [count(&file["experiment"]), count(&file["identity"]["experiment"])]
        .iter()
        .flatten()
        .any(|&count| count > MOST_SCENES)
}

/// Reads `inputs.jsonl`.
pub fn inputs(data: &[u8]) {
    static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();
    let folder = FOLDER.get_or_init(scratch).path();
    fs::write(folder.join("inputs.jsonl"), data).expect("writable");
    let _ = runs::Inputs::open([folder]);
}

/// Reads the mean and the covariance of a set of images, and computes their distance to themselves.
pub fn statistics(data: &[u8]) {
    const MOST_WIDTH: usize = 16;
    static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();
    let path = FOLDER.get_or_init(scratch).path().join("statistics.npz");
    fs::write(&path, data).expect("writable");
    let Ok([mean, covariance]) = models::matrix_file::read_npz(&path, ["mu", "sigma"]) else { return };
    let (Ok(mean), Ok(covariance)) =
        (mean.into_dimensionality::<Ix1>(), covariance.into_dimensionality::<Ix2>())
    else {
        return;
    };
    if let Ok(gaussian) = Gaussian::new(mean, covariance, None)
        && gaussian.width() <= MOST_WIDTH
        && let Ok(distance) = frechet_distance(&gaussian, &gaussian)
    {
        assert!(distance.is_finite(), "{distance}");
    }
}

/// Reads two baselines and compares them.
pub fn baseline(data: &[u8]) {
    let dir = scratch();
    let mut parts = data.split(|&byte| byte == BETWEEN_FILES);
    let mut read = |name: &str| {
        let path = dir.path().join(name);
        fs::write(&path, parts.next().unwrap_or_default()).expect("writable");
        Baseline::read(&path).ok().flatten()
    };
    let Some(baseline) = read("baseline.json") else { return };
    let other = read("other.json");
    let again = dir.path().join("again.json");
    baseline.write(&again, None).expect("writable");
    let again = Baseline::read(&again).expect("what was written can be read");
    assert_eq!(again.as_ref(), Some(&baseline));
    let ours = other.map_or_else(BTreeMap::new, |other| other.runs);
    for ours in [&ours, &baseline.runs] {
        let report = compare(&baseline.suite, ours, &baseline.runs, &baseline.tolerances, true);
        let _ = (report.to_text(true, true), report.to_markdown(true), report.to_junit());
    }
}

/// Parses the values of command-line options; each text is tried as every kind of value.
pub fn arguments(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(shard) = text.parse::<Shard>() {
        assert!(1 <= shard.index && shard.index <= shard.of);
        assert_eq!(shard.to_string().parse(), Ok(shard));
    }
    if let Ok(tolerance) = text.parse::<Tolerance>() {
        assert!(tolerance.value >= 0.0);
    }
    if let Ok(layers) = text.parse::<models::LayerSelection>() {
        assert_eq!(layers.to_string().parse::<models::LayerSelection>().ok(), Some(layers.clone()));
        let _ = (layers.resolve(12), layers.resolve(0));
    }
    let _ = runs::slurm::Gpu::from_str(&text);
    let _ = models::flux::FluxLayers::from_str(&text).map(|layers| layers.resolve(2, 0));
    let _ = models::sd::UnetLayers::from_str(&text);
    let _ = models::device::parse(&text);
    let _ = models::features::FeatureSource::from_str(&text);
}
