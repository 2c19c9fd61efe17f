//! Tables and file of a search.

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::{Value, json};

use super::Search;
use super::distance::{Distance, pairs};
use super::settings::Share;
use crate::error::Result;
use crate::metrics::significance::too_few;
use crate::table::{Cell, Row, Table};
use runs::files::write_json;
use runs::layout::SCHEMA;

/// Names of the tables.
const TABLES: [&str; 2] = ["search", "search-settings"];
/// The file with all numbers.
const FILE: &str = "search.json";

/// Returns the names of the files of a search.
pub(in crate::sweep) fn files() -> Vec<String> {
    TABLES.into_iter().flat_map(Table::files).chain([FILE.to_owned()]).collect()
}

/// What a search found.
pub struct SearchOutcome {
    /// A row for each combination, the nearest first.
    pub combinations: Table,
    /// A row for each setting: the share of the variance that it explains.
    pub settings: Table,
    /// The file with all numbers.
    pub file: PathBuf,
}

/// The content of `search.json`.
#[derive(Serialize)]
struct Stored<'a> {
    schema: u32,
    title: &'a str,
    items: u64,
    table: &'a str,
    column: &'a str,
    metric: &'static str,
    /// The published values by method, in the unit of results.
    published: Value,
    /// Number of pairs of methods with different published values.
    pairs: usize,
    /// The combinations, the nearest first.
    combinations: Vec<Value>,
    /// Share of the variance of the squared distance by setting.
    settings: Value,
    interactions: Value,
}

impl Search {
    /// Writes tables and numbers to the folder of the sweep.
    pub(super) fn write(&self, folder: &Path) -> Result<SearchOutcome> {
        let outcome = SearchOutcome {
            combinations: self.combinations(),
            settings: self.settings(),
            file: folder.join(FILE),
        };
        for (name, table) in TABLES.into_iter().zip([&outcome.combinations, &outcome.settings]) {
            table.export(folder, name)?;
        }
        write_json(&outcome.file, &self.stored())?;
        Ok(outcome)
    }

    /// Returns the indices of the combinations, the nearest first; equal ones in the order of the file.
    fn order(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.distances.len()).collect();
        order.sort_by(|&a, &b| self.distances[a].value.total_cmp(&self.distances[b].value));
        order
    }

    fn combinations(&self) -> Table {
        let scale = self.metric.unit.scale();
        let scaled = |value: f64| Cell::Value(scale * value);
        let ends = |interval: Option<(f64, f64)>| match interval {
            Some((low, high)) => [scaled(low), scaled(high)],
            None => [Cell::Empty, Cell::Empty],
        };
        let counts = |interval: Option<(f64, f64)>| match interval {
            Some((low, high)) => [Cell::Count(low.round() as usize), Cell::Count(high.round() as usize)],
            None => [Cell::Empty, Cell::Empty],
        };
        let row = |index: usize| {
            let found: &Distance = &self.distances[index];
            let mut cells = vec![scaled(found.value)];
            cells.extend(ends(found.interval));
            cells.push(Cell::Count(found.swapped));
            cells.extend(counts(found.swapped_interval));
            cells.push(found.reached.map_or(Cell::Empty, Cell::Count));
            cells.extend(found.values.iter().map(|&value| scaled(value)));
            Row { labels: self.stored.values(&self.stored.combinations[index]), cells }
        };
        let mut labels = vec![String::new(); self.stored.axes.len()];
        if let Some(first) = labels.first_mut() {
            *first = "(the paper)".into();
        }
        let mut cells = vec![Cell::Empty; 7];
        cells.extend(self.methods.iter().map(|method| scaled(method.value)));
        let mut rows = vec![Row { labels, cells }];
        rows.extend(self.order().into_iter().map(row));
        let fixed = [
            "distance",
            "distance, from",
            "distance, to",
            "swapped",
            "swapped, from",
            "swapped, to",
            "reached",
        ];
        Table {
            title: format!("{}: distance from the column {} of the paper", self.stored.title, self.column),
            labels: self.stored.axes.clone(),
            columns: fixed
                .into_iter()
                .map(str::to_owned)
                .chain(self.methods.iter().map(|one| one.label.clone()))
                .collect(),
            rows,
            notes: self.notes(),
        }
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = vec![
            format!(
                "{} images; {} combinations, of which {} are distinct for these methods, the nearest first. Distance: root mean square \
                 of {} minus the published value over {} methods.",
                self.stored.items,
                self.stored.combinations.len(),
                self.distinct,
                self.metric.title,
                self.methods.len()
            ),
            format!(
                "Swapped: pairs of methods that are not in the published order, of {} pairs. Reached: methods whose 95 % interval \
                 reaches the published value with its rounding, of {}.",
                pairs(&self.methods),
                self.methods.len()
            ),
        ];
        if self.distances.iter().any(|one| one.interval.is_some()) {
            notes.push(
                "Intervals: 95 %, from resamples of the items that are the same for all methods; resampling adds its own noise to \
                 the squared distance, which is subtracted. They say how far other items would move the distance, not whether the \
                 paper's network and images are ours."
                    .into(),
            );
        } else if self.stored.items < crate::metrics::significance::LEAST_ITEMS as u64 {
            notes.push(too_few());
        }
        if !self.missing.is_empty() {
            notes
                .push(format!("Left out, because some combination lacks them: {}.", self.missing.join(", ")));
        }
        notes.push(format!("Paper: {}.", self.paper.source));
        notes
    }

    fn settings(&self) -> Table {
        let row = |name: &str, share: &Share| {
            let percent = |value: f64| Cell::Value(100.0 * value);
            let (low, high) = share.interval.unzip();
            let cells = [share.value, low, high].map(|value| value.map_or(Cell::Empty, percent));
            Row { labels: vec![name.to_owned()], cells: cells.to_vec() }
        };
        let axes = self.stored.axes.iter().zip(&self.decomposition.settings);
        let mut rows: Vec<Row> = axes.map(|(axis, share)| row(axis, share)).collect();
        rows.sort_by(|a, b| {
            let value = |row: &Row| row.cells.first().and_then(|cell| cell.value()).unwrap_or(0.0);
            value(b).total_cmp(&value(a))
        });
        rows.push(row("(interactions)", &self.decomposition.interactions));
        Table {
            title: format!("{}: which settings decide the distance", self.stored.title),
            labels: vec!["setting".into()],
            columns: ["explains, %", "from", "to"].map(str::to_owned).to_vec(),
            rows,
            notes: vec![
                "Share of the variance of the squared distance over all combinations: the variance of the means over the values of \
                 the setting, divided by the whole variance. What is left belongs to settings that act together."
                    .into(),
            ],
        }
    }

    fn stored(&self) -> Stored<'_> {
        let ends =
            |interval: Option<(f64, f64)>| interval.map(|(low, high)| json!({ "low": low, "high": high }));
        let share = |share: &Share| json!({ "share": share.value, "interval": ends(share.interval) });
        let by_method = |values: &[f64]| -> Value {
            let pairs = self.methods.iter().zip(values);
            pairs
                .map(|(method, value)| (method.key.clone(), json!(value)))
                .collect::<serde_json::Map<_, _>>()
                .into()
        };
        let combination = |index: usize| {
            let found = &self.distances[index];
            json!({
                "settings": self.stored.combinations[index].settings,
                "distance": found.value,
                "distance_interval": ends(found.interval),
                "swapped": found.swapped,
                "swapped_interval": ends(found.swapped_interval),
                "reached": found.reached,
                "values": by_method(&found.values),
            })
        };
        let published: Vec<f64> = self.methods.iter().map(|method| method.value).collect();
        let axes = self.stored.axes.iter().zip(&self.decomposition.settings);
        Stored {
            schema: SCHEMA,
            title: &self.stored.title,
            items: self.stored.items,
            table: &self.paper.task,
            column: &self.column,
            metric: self.metric.key,
            published: by_method(&published),
            pairs: pairs(&self.methods),
            combinations: self.order().into_iter().map(combination).collect(),
            settings: axes
                .map(|(axis, one)| (axis.clone(), share(one)))
                .collect::<serde_json::Map<_, _>>()
                .into(),
            interactions: share(&self.decomposition.interactions),
        }
    }
}
