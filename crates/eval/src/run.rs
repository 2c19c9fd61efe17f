//! Running a plan: records as they come, then results, table and pictures.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tasks::Task;

use crate::environment::{Code, Environment};
use crate::error::{Error, Result};
use crate::experiment::Experiment;
use crate::plan::{Beside, Plan};
use crate::progress;
use crate::record_log::{RecordLog, write_whole};
use crate::results::{DataId, Results, SCHEMA, WeightsId};
use crate::table::Table;

/// What a finished run leaves behind.
pub struct Outcome {
    /// The content of `results.json`.
    pub results: Results,
    /// The tables, as printed.
    pub tables: Vec<Table>,
    /// Name of the experiment file without extension.
    pub name: String,
    /// The paper's table that the run stands beside.
    pub paper: Option<Beside>,
    /// Keys and names of the methods in row order.
    pub methods: Vec<(String, String)>,
    /// Folder of the run.
    pub out: PathBuf,
    /// Pictures in that folder.
    pub pictures: Vec<PathBuf>,
    /// Items answered by this process; the others were on disk.
    pub fresh: usize,
    /// The time those took.
    pub took: Duration,
}

/// `run.json`: what a folder of records belongs to.
#[derive(Serialize, Deserialize)]
struct RunHeader {
    schema: u32,
    fingerprint: String,
    experiment: serde_json::Value,
}

/// Runs a plan, or what is left of it, to its results. When `stop` becomes true the batch in flight is finished and
/// the run ends with [`Error::Interrupted`].
///
/// # Errors
/// An item cannot be answered, or a file of the run cannot be written.
pub fn execute(plan: &Plan, stop: &AtomicBool) -> Result<Outcome> {
    let weights_sha256 = plan.weights_sha256()?;
    let fingerprint = plan.fingerprint(&weights_sha256);
    let out = plan.out(&fingerprint);
    claim(&out, &fingerprint, &plan.experiment)?;

    let report = plan.work.run(plan, &out, stop)?;
    let results = Results {
        schema: SCHEMA,
        fingerprint,
        experiment: plan.experiment.clone(),
        items: report.items,
        metrics: report.metrics,
        comparisons: report.comparisons,
        curves: report.curves,
        judge: report.judge,
        memory: report.memory,
        weights: WeightsId { sha256: weights_sha256 },
        data: DataId { dataset: plan.experiment.dataset.name().into(), sha256: report.data_sha256 },
        code: Code::current(),
        environment: Environment::current(plan.device),
    };
    let json = serde_json::to_string_pretty(&results)
        .map_err(|e| Error::Export { path: out.join("results.json"), reason: e.to_string() })?;
    write_whole(&out.join("results.json"), format!("{json}\n").as_bytes())?;
    for (name, table) in &report.tables {
        table.export(&out, name)?;
    }
    Ok(Outcome {
        results,
        tables: report.tables.into_iter().map(|(_, table)| table).collect(),
        name: plan.name.clone(),
        paper: plan.paper.clone(),
        methods: report.methods,
        out,
        pictures: report.pictures,
        fresh: report.fresh,
        took: report.took,
    })
}

/// Makes `out` the folder of this run, or checks that it is.
fn claim(out: &Path, fingerprint: &str, experiment: &Experiment) -> Result<()> {
    let header_path = out.join("run.json");
    let experiment = serde_json::json!(experiment);
    match std::fs::read(&header_path) {
        Ok(bytes) => {
            let other = |reason: String| Error::OtherRun { path: out.into(), reason };
            let header: RunHeader =
                serde_json::from_slice(&bytes).map_err(|e| other(format!("run.json is damaged: {e}")))?;
            if header.fingerprint == fingerprint {
                return Ok(());
            }
            let mut changes = Vec::new();
            differences("", &header.experiment, &experiment, &mut changes);
            Err(other(if changes.is_empty() {
                "the settings agree; weights, images, --limit, device or program differ".into()
            } else {
                changes.join("; ")
            }))
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            std::fs::create_dir_all(out).map_err(Error::file("create", out))?;
            let header = RunHeader { schema: SCHEMA, fingerprint: fingerprint.into(), experiment };
            let json = serde_json::to_string_pretty(&header)
                .map_err(|e| Error::Export { path: header_path.clone(), reason: e.to_string() })?;
            write_whole(&header_path, json.as_bytes())
        }
        Err(e) => Err(Error::file("read", &header_path)(e)),
    }
}

/// Settings that differ, as `key: old → new`.
fn differences(key: &str, old: &serde_json::Value, new: &serde_json::Value, changes: &mut Vec<String>) {
    use serde_json::Value::{Null, Object};
    match (old, new) {
        (Object(a), Object(b)) => {
            let keys: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for name in keys {
                let path = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
                differences(&path, a.get(name).unwrap_or(&Null), b.get(name).unwrap_or(&Null), changes);
            }
        }
        _ if old != new => changes.push(format!("{key}: {old} → {new}")),
        _ => {}
    }
}

/// The records of a run, and how many of them this process made in which time.
pub(crate) struct Answered<R> {
    pub(crate) records: Vec<R>,
    pub(crate) fresh: usize,
    pub(crate) took: Duration,
}

/// Every record of the run, those on disk first.
pub(crate) fn records<T: Task>(task: &mut T, out: &Path, stop: &AtomicBool) -> Result<Answered<T::Record>>
where
    T::Record: Clone,
{
    let (total, batch) = (task.manifest().len(), task.batch_size());
    let path = out.join("records.jsonl");
    let mut log = RecordLog::open(&path, total, batch, |i, record| {
        task.manifest().get(i).is_some_and(|item| T::id(item) == T::answered(record))
    })?;
    let before = log.records().len();
    let start = Instant::now();
    let bar = progress::bar(total, before);
    while log.records().len() < total {
        let done = log.records().len();
        if stop.load(Ordering::Relaxed) {
            bar.abandon();
            return Err(Error::Interrupted { done, total, out: out.into() });
        }
        let range = done..(done + batch).min(total);
        bar.inc(range.len() as u64);
        log.append(task.run(range)?)?;
    }
    bar.finish_and_clear();
    Ok(Answered { records: log.records().to_vec(), fresh: total - before, took: start.elapsed() })
}
