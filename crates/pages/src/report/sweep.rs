//! The table of a sweep, from its `sweep.json`.

use std::path::{Path, PathBuf};

use eval::experiments::spec::MethodInfo;
use eval::experiments::{Head, head};
use models::limits;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::links::Links;
use eval::RunFolder;
use eval::{Cell, Row, Table};
use eval::{Error, Result};
use runs::FileAction;
use runs::layout::SCHEMA;

/// Name of the file, in the folder two levels above each run of the sweep.
use runs::layout::SWEEP as FILE;

pub(super) struct SweepView {
    pub table: Table,
    /// Names and links of the sweep's files.
    pub files: Vec<(String, String)>,
}

#[derive(Deserialize)]
struct Stored {
    schema: u32,
    title: String,
    items: u64,
    metric: String,
    combinations: Vec<Map<String, Value>>,
}

impl SweepView {
    /// Finds the sweeps that the runs belong to.
    ///
    /// # Errors
    /// Fails if the file of a sweep is damaged.
    pub(super) fn find(dir: &Path, folders: &[RunFolder], links: &Links) -> Result<Vec<Self>> {
        let mut seen: Vec<PathBuf> = Vec::new();
        for folder in folders {
            let Some(above) = folder.path.parent().and_then(Path::parent) else { continue };
            if above.starts_with(dir)
                && above.join(FILE).is_file()
                && !seen.iter().any(|known| known == above)
            {
                seen.push(above.to_path_buf());
            }
        }
        seen.iter().map(|folder| Self::read(folder, folders, links)).collect()
    }

    fn read(folder: &Path, runs: &[RunFolder], links: &Links) -> Result<Self> {
        let path = folder.join(FILE);
        let bytes =
            limits::read_bytes(&path, limits::RESULTS_BYTES).map_err(Error::file(FileAction::Read, &path))?;
        let damaged = |reason: String| {
            Error::unreadable(&path, format!("{reason}; the command that made the sweep writes it again"))
        };
        let stored: Stored = serde_json::from_slice(&bytes).map_err(|e| damaged(e.to_string()))?;
        if stored.schema != SCHEMA {
            return Err(damaged(format!("has schema {}, this program reads {SCHEMA}", stored.schema)));
        }
        let of_sweep = |run: &&RunFolder| run.path.starts_with(folder);
        // The results of a run know the direction and the name of the metric.
        let metric = runs.iter().filter(of_sweep).find_map(|run| {
            run.results.metrics.iter().find(|value| value.name == stored.metric)?;
            Some(head(&run.results, &stored.metric))
        });
        let labels: Vec<MethodInfo> =
            runs.iter().filter(of_sweep).flat_map(|run| run.results.experiment.methods()).collect();
        let kinds = ["md", "csv", "tex", "parquet"];
        let names =
            ["table", "summary"].into_iter().flat_map(|name| kinds.map(|kind| format!("{name}.{kind}")));
        let files = names.filter(|name| folder.join(name).is_file());
        let files = files.map(|name| (name.clone(), links.to(&folder.join(&name)))).collect();
        Ok(Self { table: table(&stored, metric.as_ref(), &labels), files })
    }
}

fn table(stored: &Stored, head: Option<&Head>, labels: &[MethodInfo]) -> Table {
    let object = |row: &Map<String, Value>, key: &str| {
        row.get(key).and_then(Value::as_object).cloned().unwrap_or_default()
    };
    let mut axes: Vec<String> = Vec::new();
    let mut methods: Vec<String> = Vec::new();
    for row in &stored.combinations {
        let new = |known: &mut Vec<String>, keys: Map<String, Value>| {
            for (key, _) in keys {
                if !known.contains(&key) {
                    known.push(key);
                }
            }
        };
        new(&mut axes, object(row, "settings"));
        new(&mut methods, object(row, &stored.metric));
    }
    let scale = head.map_or(1.0, |head| head.spec.unit.scale());
    let higher = head.and_then(|head| head.spec.better.higher_is_better());
    let row = |row: &Map<String, Value>| {
        let (settings, values) = (object(row, "settings"), object(row, &stored.metric));
        let text = |axis: &String| match settings.get(axis) {
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
            None => String::new(),
        };
        let values: Vec<Option<f64>> =
            methods.iter().map(|method| Some(scale * values.get(method)?.as_f64()?)).collect();
        let best = values.iter().flatten().copied().reduce(|a, b| match higher {
            Some(false) => a.min(b),
            _ => a.max(b),
        });
        let cell = |value: &Option<f64>| match *value {
            Some(value) if best == Some(value) && higher.is_some() => Cell::Best(value),
            other => other.into(),
        };
        Row { labels: axes.iter().map(text).collect(), cells: values.iter().map(cell).collect() }
    };
    let label = |key: &String| {
        labels.iter().find(|method| method.key == *key).map_or(key, |method| &method.label).clone()
    };
    let metric = head.map_or_else(|| stored.metric.clone(), Head::with_arrow);
    Table {
        title: format!("{}: {metric} of every combination", stored.title),
        columns: methods.iter().map(label).collect(),
        rows: stored.combinations.iter().map(row).collect(),
        labels: axes,
        notes: vec![format!(
            "{} items{}. The best of a combination is bold.",
            stored.items,
            if scale == 100.0 { ", in percent" } else { "" }
        )],
    }
}
