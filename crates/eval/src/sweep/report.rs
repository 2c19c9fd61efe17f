//! The tables of a sweep: every combination, and the mean for each value of a setting.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;
use serde_json::{Map, Value, json};
use tasks::Failure;

use super::{Sweep, Variant};
use crate::error::Result;
use crate::execute::Outcome;
use crate::experiments::spec::{Better, MethodInfo, MetricSpec};
use crate::metrics::significance::{LEAST_ITEMS, too_few};
use crate::table::{Cell, Row, Table};
use runs::files::write_json;
use runs::layout::{SCHEMA, SWEEP};
use runs::{Code, Environment};

/// Names of the tables.
const TABLES: [&str; 2] = ["table", "summary"];

/// Returns the names of the files of the tables.
pub(super) fn tables() -> Vec<String> {
    TABLES.into_iter().flat_map(Table::files).collect()
}

/// The outcome of a finished sweep.
pub struct SweepOutcome {
    /// A row for each combination.
    pub table: Table,
    /// A row for each value of each setting: means over all combinations that have it.
    pub summary: Table,
    /// Folder of the sweep.
    pub out: PathBuf,
}

/// The content of `sweep.json`.
#[derive(Serialize)]
struct Stored<'a> {
    schema: u32,
    title: &'a str,
    items: u64,
    /// Items that some run could not read; its metrics exclude them.
    #[serde(skip_serializing_if = "<[Failure]>::is_empty")]
    failed: &'a [Failure],
    metric: &'static str,
    /// For each combination: `settings`, the metric by method, and whether the paper's methods are ahead of all others.
    combinations: Vec<Map<String, Value>>,
    code: Code,
    environment: Environment,
}

/// The goal's metric of every method of a combination, in the order of the columns; `None` if the combination lacks the method.
/// Whether the paper's methods win is `None` if the combination lacks them or all others, or has too few items.
struct Scored<'a> {
    variant: &'a Variant,
    values: Vec<Option<f64>>,
    wins: Option<bool>,
}

/// Writes tables and numbers of a finished sweep to its folder.
pub(super) fn write(
    sweep: &Sweep,
    out: PathBuf,
    outcomes: &[Option<Outcome>],
    failed: &[Failure],
) -> Result<SweepOutcome> {
    let columns = Columns::of(sweep);
    let scored: Vec<Scored> =
        sweep.variants.iter().map(|variant| columns.score(sweep, variant, outcomes)).collect();
    let results = outcomes.iter().flatten().map(|outcome| &outcome.results);
    let (items, first) = (results.clone().map(|one| one.items).max().unwrap_or(0), results.clone().next());
    let notes = vec![format!(
        "{items} images. {} Methods that do not depend on a setting were run once.",
        sweep.facts.goal.note
    )];
    let mut table = table(sweep, &columns, &scored, &notes);
    let mut summary = summary(sweep, &columns, &scored);
    if results.clone().any(|one| one.items < LEAST_ITEMS as u64) {
        summary.notes.push(too_few());
    }
    let unread = unread(failed, items + failed.len() as u64);
    table.notes.extend(unread.clone());
    summary.notes.extend(unread);
    for (name, table) in TABLES.into_iter().zip([&table, &summary]) {
        table.export(&out, name)?;
    }

    // Written last: if it exists, all other files exist too.
    if let Some(first) = first {
        let stored = Stored {
            schema: SCHEMA,
            title: &sweep.title,
            items,
            failed,
            metric: sweep.facts.goal.metric,
            combinations: scored.iter().map(|row| columns.store(sweep, row)).collect(),
            code: first.code.clone(),
            environment: first.environment.clone(),
        };
        write_json(&out.join(SWEEP), &stored)?;
    }
    Ok(SweepOutcome { table, summary, out })
}

/// Returns the note below the tables if items could not be answered.
fn unread(failed: &[Failure], total: u64) -> Option<String> {
    let names: Vec<&str> = failed.iter().take(5).map(|failure| &*failure.id).collect();
    let (count, more) = (failed.len(), if failed.len() > names.len() { ", …" } else { "" });
    (count > 0).then(|| {
        let names = names.join(", ");
        format!("{count} of {total} items could not be answered and are excluded here: {names}{more}.")
    })
}

/// The methods of all combinations. If no combination has two methods of one family (with and without CLS), a column has the name
/// of the family, and the axis distinguishes its methods.
struct Columns {
    methods: Vec<MethodInfo>,
    merged: bool,
}

impl Columns {
    fn of(sweep: &Sweep) -> Self {
        let alone = |variant: &Variant| {
            let methods = &variant.methods;
            (1..methods.len())
                .all(|i| methods[..i].iter().all(|one| one.method.family != methods[i].method.family))
        };
        let merged = sweep.variants.iter().all(alone);
        let mut columns = Self { methods: Vec::new(), merged };
        for shared in sweep.variants.iter().flat_map(|variant| &variant.methods) {
            if !columns.methods.iter().any(|known| columns.same(known, &shared.method)) {
                columns.methods.push(shared.method.clone());
            }
        }
        columns
    }

    fn same(&self, a: &MethodInfo, b: &MethodInfo) -> bool {
        a.family == b.family && (self.merged || a.key == b.key)
    }

    fn heads(&self) -> impl Iterator<Item = String> {
        let head =
            |method: &MethodInfo| if self.merged { &method.family_label } else { &method.label }.clone();
        self.methods.iter().map(head)
    }

    fn score<'a>(&self, sweep: &Sweep, variant: &'a Variant, outcomes: &[Option<Outcome>]) -> Scored<'a> {
        let value = |method: &MethodInfo| {
            let shared = variant.methods.iter().find(|shared| self.same(method, &shared.method))?;
            outcomes.get(shared.variant)?.as_ref()?.results.value(sweep.facts.goal.metric, &shared.method.key)
        };
        let values: Vec<Option<f64>> = self.methods.iter().map(value).collect();
        let sources = variant.methods.iter().filter_map(|shared| outcomes.get(shared.variant)?.as_ref());
        let items = sources.map(|outcome| outcome.results.items).min().unwrap_or(0);
        let best = |ours: bool| {
            let of_kind = self.methods.iter().zip(&values).filter(|(method, _)| method.ours == ours);
            best_of(sweep, of_kind.filter_map(|(_, value)| *value))
        };
        let enough = items >= LEAST_ITEMS as u64;
        let wins = best(true)
            .zip(best(false))
            .filter(|_| enough)
            .map(|(ours, others)| ours != others && at_least_as_good(sweep, ours, others));
        Scored { variant, values, wins }
    }

    fn store(&self, sweep: &Sweep, row: &Scored<'_>) -> Map<String, Value> {
        let settings: BTreeMap<&str, &str> =
            sweep.axes.iter().zip(&row.variant.values).map(|(axis, value)| (&**axis, &**value)).collect();
        let key = |method: &MethodInfo| if self.merged { &method.family } else { &method.key }.clone();
        let values: BTreeMap<String, Option<f64>> =
            self.methods.iter().map(key).zip(row.values.iter().copied()).collect();
        Map::from_iter([
            ("settings".to_owned(), json!(settings)),
            (sweep.facts.goal.metric.to_owned(), json!(values)),
            (sweep.facts.goal.wins_key.to_owned(), json!(row.wins)),
        ])
    }
}

/// Returns the metric of the tables.
fn metric(sweep: &Sweep) -> Option<MetricSpec> {
    sweep.facts.metric(sweep.facts.goal.metric)
}

/// Returns the factor by which shown numbers are multiplied.
fn scale(sweep: &Sweep) -> f64 {
    metric(sweep).map_or(1.0, |metric| metric.unit.scale())
}

/// Returns whether `a` is at least as good as `b`.
fn at_least_as_good(sweep: &Sweep, a: f64, b: f64) -> bool {
    if metric(sweep).is_some_and(|metric| metric.better == Better::Lower) { a <= b } else { a >= b }
}

/// Returns the best of some values.
fn best_of(sweep: &Sweep, values: impl Iterator<Item = f64>) -> Option<f64> {
    values.reduce(|a, b| if at_least_as_good(sweep, a, b) { a } else { b })
}

fn table(sweep: &Sweep, columns: &Columns, scored: &[Scored], notes: &[String]) -> Table {
    let row = |row: &Scored| {
        let best = best_of(sweep, row.values.iter().flatten().copied());
        let cell = |value: &Option<f64>| match *value {
            Some(value) if best == Some(value) => Cell::Best(value * scale(sweep)),
            other => other.map(|value| value * scale(sweep)).into(),
        };
        Row { labels: row.variant.values.clone(), cells: row.values.iter().map(cell).collect() }
    };
    Table {
        title: format!("{}: {} of every combination", sweep.title, sweep.facts.goal.head),
        labels: sweep.axes.clone(),
        columns: columns.heads().collect(),
        rows: scored.iter().map(row).collect(),
        notes: notes.to_vec(),
    }
}

/// Returns the table of means over the combinations with the same value, and of how often the paper's methods win in them.
fn summary(sweep: &Sweep, columns: &Columns, scored: &[Scored]) -> Table {
    let mut rows = Vec::new();
    for (index, axis) in sweep.axes.iter().enumerate() {
        let mut values: Vec<&String> = Vec::new();
        for row in scored {
            let value = &row.variant.values[index];
            if !values.contains(&value) {
                values.push(value);
            }
        }
        for value in values {
            let having: Vec<&Scored> =
                scored.iter().filter(|row| row.variant.values[index] == *value).collect();
            let mean = |column: usize| {
                let values: Vec<f64> = having.iter().filter_map(|row| row.values[column]).collect();
                let mean = || scale(sweep) * values.iter().sum::<f64>() / values.len() as f64;
                Cell::from((!values.is_empty()).then(mean))
            };
            let mut cells: Vec<Cell> = (0..columns.methods.len()).map(mean).collect();
            let known: Vec<bool> = having.iter().filter_map(|row| row.wins).collect();
            let wins = known.iter().filter(|wins| **wins).count();
            cells.push(if known.is_empty() { Cell::Empty } else { Cell::Count(wins) });
            cells.push(Cell::Count(known.len()));
            rows.push(Row { labels: vec![axis.clone(), value.clone()], cells });
        }
    }
    Table {
        title: format!("{}: mean {} over all combinations with a value", sweep.title, sweep.facts.goal.head),
        labels: vec!["setting".into(), "value".into()],
        columns: columns.heads().chain([format!("{} wins", sweep.facts.goal.ours), "of".into()]).collect(),
        rows,
        notes: vec![sweep.facts.goal.wins_note.into()],
    }
}
