//! Running a plan: records as they come, then results, table and pictures.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use models::VisionModel;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tasks::Task;
use tasks::masking::{Masking, MaskingRecord};

use crate::environment::{Code, Environment};
use crate::error::{Error, Result};
use crate::experiment::{Experiment, TaskConfig};
use crate::metrics::{MaskingCurves, Metric};
use crate::paper::PaperTable;
use crate::plan::Plan;
use crate::progress;
use crate::record_log::{RecordLog, write_whole};
use crate::report;
use crate::results::{Curves, DataId, MetricValue, Results, SCHEMA, WeightsId};
use crate::table::Table;

/// What a finished run leaves behind.
pub struct Outcome {
    /// The content of `results.json`.
    pub results: Results,
    /// The table, as printed.
    pub table: Table,
    /// Name of the experiment file without extension.
    pub name: String,
    /// The paper's table that the run stands beside, and its column.
    pub paper: Option<(PaperTable, String)>,
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

    let model = VisionModel::load(&plan.folder, &plan.load_options())?;
    let preprocessor = model.preprocessor.clone();
    let TaskConfig::Masking(config) = &plan.experiment.task;
    let mut task = Masking::new(config.clone(), model, plan.items.clone(), plan.experiment.seed)?;
    let Answered { records, fresh, took } = records(&mut task, &out, stop)?;

    let mut curves = MaskingCurves::new(config.fractions.values());
    records.iter().for_each(|record| curves.add(record));
    let labels: Vec<_> = config.methods().iter().map(|method| (method.to_string(), method.label())).collect();
    let table = report::masking_table(&plan.experiment.title, &curves, &labels, plan.paper.as_ref());
    let results = Results {
        schema: SCHEMA,
        fingerprint,
        experiment: plan.experiment.clone(),
        items: curves.items(),
        metrics: metric_values(&curves, plan),
        curves: curves_of(&curves),
        weights: WeightsId { sha256: weights_sha256 },
        data: DataId { dataset: plan.experiment.dataset.name().into(), sha256: data_sha256(&records) },
        code: Code::current(),
        environment: Environment::current(plan.device),
    };
    let json = serde_json::to_string_pretty(&results)
        .map_err(|e| Error::Export { path: out.join("results.json"), reason: e.to_string() })?;
    write_whole(&out.join("results.json"), format!("{json}\n").as_bytes())?;
    table.export(&out, "table")?;
    let pictures = report::masking_pictures(&out, plan, &preprocessor, &curves, &labels, &records)?;
    let (name, paper) = (plan.name.clone(), plan.paper.clone());
    Ok(Outcome { results, table, name, paper, methods: labels, out, pictures, fresh, took })
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
struct Answered<R> {
    records: Vec<R>,
    fresh: usize,
    took: Duration,
}

/// Every record of the run, those on disk first.
fn records<T: Task>(task: &mut T, out: &Path, stop: &AtomicBool) -> Result<Answered<T::Record>>
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

fn metric_values(curves: &MaskingCurves, plan: &Plan) -> Vec<MetricValue> {
    let mut values = vec![MetricValue {
        name: "unmasked-accuracy".into(),
        method: None,
        value: (curves.items() > 0).then(|| curves.unmasked_accuracy()),
        higher_is_better: true,
        published: None,
    }];
    for (method, curve) in curves.finish() {
        let published = plan.paper.as_ref().and_then(|(table, column)| table.published(&method, column));
        let mut push = |name: &str, value, published| {
            let (name, method) = (name.to_owned(), Some(method.clone()));
            values.push(MetricValue { name, method, value, higher_is_better: false, published });
        };
        push("auc", curve.auc, published);
        push("auc-still-right", curve.auc_still_right, None);
    }
    values
}

fn curves_of(curves: &MaskingCurves) -> Curves {
    let (mut accuracy, mut still_right) = (BTreeMap::new(), BTreeMap::new());
    for (method, curve) in curves.finish() {
        accuracy.insert(method.clone(), curve.accuracy);
        still_right.insert(method, curve.still_right);
    }
    Curves { fractions: curves.fractions().to_vec(), accuracy, still_right }
}

fn data_sha256(records: &[MaskingRecord]) -> String {
    let mut hasher = Sha256::new();
    records.iter().for_each(|record| hasher.update(&record.sha256));
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
