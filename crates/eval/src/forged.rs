//! Writes finished runs for tests, without networks. Only tests use it; it panics if a file cannot be written.
#![doc(hidden)]

use std::path::Path;

use models::Device;
use serde::Serialize;
use tasks::Answer;

use crate::experiment::Experiment;
use crate::results::{DataId, Results, WeightsId};
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
