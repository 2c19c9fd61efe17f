//! The tables and curves of a sweep, from its folder.

use std::path::{Path, PathBuf};

use eval::experiments::spec::{Better, MethodInfo, MetricSpec};
use eval::experiments::{Head, head};
use eval::{Cell, Result, Row, RunFolder, StoredCombination, StoredSweep, Table};
use runs::layout::SWEEP;

use super::budget::Budget;
use super::images::Images;
use super::links::Links;

pub(super) struct SweepView {
    pub table: Table,
    /// How often the paper's plain method is better than each other method, tied, or worse.
    pub differences: Option<Table>,
    /// The curves over settings that are numbers.
    pub images: Images,
    /// Names and links of the sweep's files.
    pub files: Vec<(String, String)>,
}

impl SweepView {
    /// Finds the sweeps that the runs belong to.
    ///
    /// # Errors
    /// Fails if the file of a sweep is damaged.
    pub(super) fn find(
        dir: &Path,
        folders: &[RunFolder],
        links: &Links,
        budget: &mut Budget,
    ) -> Result<Vec<Self>> {
        let mut seen: Vec<PathBuf> = Vec::new();
        for folder in folders {
            let Some(above) = folder.path.parent().and_then(Path::parent) else { continue };
            if above.starts_with(dir)
                && above.join(SWEEP).is_file()
                && !seen.iter().any(|known| known == above)
            {
                seen.push(above.to_path_buf());
            }
        }
        seen.iter().map(|folder| Self::read(folder, folders, links, budget)).collect()
    }

    fn read(folder: &Path, runs: &[RunFolder], links: &Links, budget: &mut Budget) -> Result<Self> {
        let stored = StoredSweep::read(folder)?;
        let of_sweep = |run: &&RunFolder| run.path.starts_with(folder);
        // The results of a run know the direction and the name of the metric.
        let metric = runs.iter().filter(of_sweep).find_map(|run| {
            run.results.metrics.iter().find(|value| value.name == stored.metric)?;
            Some(head(&run.results, &stored.metric))
        });
        let labels: Vec<MethodInfo> =
            runs.iter().filter(of_sweep).flat_map(|run| run.results.experiment.methods()).collect();
        let kinds = ["md", "csv", "tex", "parquet"];
        let names = ["table", "summary", "differences", "search", "search-settings"];
        let names = names.into_iter().flat_map(|name| kinds.map(|kind| format!("{name}.{kind}")));
        let files = names.filter(|name| folder.join(name).is_file());
        let files = files.map(|name| (name.clone(), links.to(&folder.join(&name)))).collect();
        let unknown = MetricSpec::plain("", "", Better::Neither);
        Ok(Self {
            table: table(&stored, metric.as_ref(), &labels),
            differences: stored.differences_table(&metric.map_or(unknown, |head| head.spec)),
            images: Images::find(folder, links, budget),
            files,
        })
    }
}

fn table(stored: &StoredSweep, head: Option<&Head>, labels: &[MethodInfo]) -> Table {
    let scale = head.map_or(1.0, |head| head.spec.unit.scale());
    let higher = head.and_then(|head| head.spec.better.higher_is_better());
    let row = |row: &StoredCombination| {
        let value = |method: &str| Some(scale * stored.value(row, method)?);
        let values: Vec<Option<f64>> = stored.columns.iter().map(|column| value(&column.key)).collect();
        let best = values.iter().flatten().copied().reduce(|a, b| match higher {
            Some(false) => a.min(b),
            _ => a.max(b),
        });
        let cell = |value: &Option<f64>| match *value {
            Some(value) if best == Some(value) && higher.is_some() => Cell::Best(value),
            other => other.into(),
        };
        Row { labels: stored.values(row), cells: values.iter().map(cell).collect() }
    };
    // Earlier versions wrote only the keys of the methods.
    let label = |key: &str| labels.iter().find(|method| method.key == key).map(|method| method.label.clone());
    let columns = stored.columns.iter().map(|column| match column.label == column.key {
        true => label(&column.key).unwrap_or_else(|| column.key.clone()),
        false => column.label.clone(),
    });
    let metric = head.map_or_else(|| stored.metric.clone(), Head::with_arrow);
    Table {
        title: format!("{}: {metric} of every combination", stored.title),
        columns: columns.collect(),
        rows: stored.combinations.iter().map(row).collect(),
        labels: stored.axes.clone(),
        notes: vec![format!(
            "{} items{}. The best of a combination is bold.",
            stored.items,
            if scale == 100.0 { ", in percent" } else { "" }
        )],
    }
}
