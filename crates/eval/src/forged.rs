//! Writes finished runs for tests and benchmarks, without networks. It panics if a file cannot be written.
#![doc(hidden)]

use std::collections::BTreeMap;
use std::path::Path;

use models::Device;
use serde::Serialize;
use tasks::masking::MaskingRecord;
use tasks::{Answer, Rng};

use crate::experiment::{Experiment, TaskConfig};
use crate::experiments::masking::metrics::{MaskingCurves, MethodCurve, measures};
use crate::experiments::measure::comparisons;
use crate::results::{Curves, DataId, MetricValue, Results, WeightsId};
use runs::files::{write_json, write_whole};
use runs::layout::{HEADER, RECORDS, RESULTS, SCHEMA};
use runs::records::chunk;
use runs::{Code, Environment};
use runs::{Identity, RunHeader};

/// Number of items in a chunk.
const BATCH: usize = 16;

/// Writes the folder of a run with these answers; `say` fills in the results.
pub fn write<R: Serialize + Clone>(
    folder: &Path,
    name: &str,
    experiment: &Experiment,
    answers: &[Answer<R>],
    say: impl FnOnce(&mut Results),
) {
    std::fs::create_dir_all(folder).expect("a folder");
    let identity = Identity {
        experiment: serde_json::json!(experiment),
        limit: Some(answers.len()),
        device: "cpu".into(),
        weights_sha256: "0".repeat(64),
        classes: String::new(),
        manifest_sha256: "1".repeat(64),
        sources_sha256: "2".repeat(64),
        scores: Default::default(),
    };
    let fingerprint = identity.fingerprint();
    let header = RunHeader {
        schema: SCHEMA,
        name: name.into(),
        fingerprint: fingerprint.clone(),
        identity,
        items: answers.len(),
        batch: BATCH,
        shard: None,
        judging: None,
        threads: None,
        command: None,
    };
    write_json(&folder.join(HEADER), &header).expect("written");
    // Chunks may stand in any order.
    let batches: Vec<_> = answers.chunks(BATCH).enumerate().collect();
    let bytes = batches
        .into_iter()
        .rev()
        .map(|(number, batch)| chunk(&fingerprint, number * BATCH, batch).expect("JSON"));
    write_whole(&folder.join(RECORDS), &bytes.collect::<Vec<_>>().concat()).expect("written");
    let failed = answers.iter().filter_map(|answer| match answer {
        Answer::Failed(failure) => Some(failure.clone()),
        Answer::Record(_) => None,
    });
    let failed: Vec<_> = failed.collect();
    let mut results = Results {
        schema: SCHEMA,
        fingerprint,
        experiment: experiment.clone(),
        items: (answers.len() - failed.len()) as u64,
        images: None,
        failed,
        metrics: Vec::new(),
        comparisons: Vec::new(),
        curves: None,
        judge: None,
        memory: None,
        weights: WeightsId { sha256: "0".repeat(64) },
        data: DataId { dataset: experiment.dataset.name().into(), sha256: "3".repeat(64) },
        scores: Default::default(),
        code: Code::current(),
        environment: Environment::current(Device::Cpu),
        resampled: Vec::new(),
    };
    say(&mut results);
    write_json(&folder.join(RESULTS), &results).expect("written");
}

/// Invents answers of a classifier that becomes wrong as tokens are removed, sooner under some methods than under others. `items`
/// are names and hashes of images.
pub fn masking_answers(
    experiment: &Experiment,
    items: impl Iterator<Item = (String, String)>,
) -> Vec<Answer<MaskingRecord>> {
    let TaskConfig::Masking(config) = &experiment.task else { panic!("another task") };
    let methods = config.methods();
    let steps = config.fractions.values().len();
    let answer = |(item, (id, sha256)): (usize, (String, String))| {
        let mut rng = Rng::keyed(&[7, item as u64]);
        let label = rng.below(10);
        let mut predicted = BTreeMap::new();
        for (place, method) in methods.iter().enumerate() {
            let survives = 1 + rng.below(steps - place);
            let answers = (0..steps).map(|step| if step < survives { label } else { (label + 1) % 10 });
            predicted.insert(method.to_string(), answers.collect());
        }
        let unmasked = if item % 10 == 3 { (label + 1) % 10 } else { label };
        Answer::Record(MaskingRecord {
            id,
            sha256,
            label,
            unmasked,
            predicted,
            confidence: None,
            scores: None,
        })
    };
    items.enumerate().map(answer).collect()
}

/// Writes the folder of a masking run with these answers. The results compare these pairs of methods.
pub fn write_masking(
    folder: &Path,
    name: &str,
    experiment: &Experiment,
    answers: &[Answer<MaskingRecord>],
    pairs: &[(&str, &str)],
) {
    let TaskConfig::Masking(config) = &experiment.task else { panic!("another task") };
    let records = answers.iter().filter_map(|answer| answer.clone().record());
    let records: Vec<MaskingRecord> = records.collect();
    let curves = MaskingCurves::of(&config.fractions.values(), &records);
    write(folder, name, experiment, answers, |results| {
        let found = curves.finish();
        for (method, curve) in &found {
            results.metrics.push(MetricValue {
                name: "auc".into(),
                method: Some(method.clone()),
                value: curve.auc,
                higher_is_better: Some(false),
                published: (method == "tokenrank").then_some(0.26),
            });
        }
        let by = |of: fn(&MethodCurve) -> &Vec<f64>| {
            found.iter().map(|(method, curve)| (method.clone(), of(curve).clone())).collect()
        };
        results.curves = Some(Curves {
            fractions: curves.fractions().to_vec(),
            accuracy: by(|curve| &curve.accuracy),
            still_right: by(|curve| &curve.still_right),
        });
        results.comparisons = comparisons(&measures(config), &records, pairs, experiment.seed);
    });
}
