//! The tables of a sweep: every combination, the mean for each value of a setting, and the paper's method against each other one.

use std::collections::{BTreeMap, HashMap};
use std::path::{Component, Path, PathBuf};

use serde_json::json;
use tasks::Failure;

use super::stored::{StoredColumn, StoredCombination, StoredMethod, StoredSweep, unique};
use super::{Shared, Sweep, Variant};
use crate::error::Result;
use crate::evidence::Evidence;
use crate::execute::Outcome;
use crate::experiments::spec::{Better, MethodInfo, MetricSpec};
use crate::folder::RunFolder;
use crate::metrics::significance::PairedDifference;
use crate::metrics::significance::{LEAST_ITEMS, too_few};
use crate::results::Comparison;
use crate::table::{Cell, Row, Table};
use runs::files::write_json;
use runs::layout::{SCHEMA, SWEEP};

/// Names of the tables.
const TABLES: [&str; 3] = ["table", "summary", "differences"];

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
    /// How often the paper's plain method is better than each other method, tied, or worse; `None` if no combination has it.
    pub differences: Option<Table>,
    /// Folder of the sweep.
    pub out: PathBuf,
    /// Figures in that folder: the metric against each setting that is a number.
    pub figures: Vec<PathBuf>,
}

/// A combination with the methods that it has.
struct Scored<'a> {
    variant: &'a Variant,
    /// The goal's metric of every column; `None` if the combination lacks the method.
    values: Vec<Option<f64>>,
    /// The paper's plain method minus each other one.
    differences: Vec<Comparison>,
}

/// The evidence of every run of the sweep, by method; `None` for combinations without a run of their own.
type Evidences = Vec<Option<BTreeMap<String, Evidence>>>;

/// Writes tables and numbers of a finished sweep to its folder.
pub(super) fn write(
    sweep: &Sweep,
    out: PathBuf,
    outcomes: &[Option<Outcome>],
    failed: &[Failure],
) -> Result<SweepOutcome> {
    let columns = Columns::of(sweep);
    let evidences = evidences(sweep, outcomes)?;
    let scored = columns.score(sweep, outcomes, &evidences);
    let results = outcomes.iter().flatten().map(|outcome| &outcome.results);
    let (items, first) = (results.clone().map(|one| one.items).max().unwrap_or(0), results.clone().next());
    let stored = StoredSweep {
        schema: SCHEMA,
        title: sweep.title.clone(),
        items,
        failed: failed.to_vec(),
        metric: sweep.facts.goal.metric.to_owned(),
        axes: sweep.axes.clone(),
        columns: columns.stored(),
        combinations: scored.iter().map(|row| columns.store(sweep, row)).collect(),
        code: first.map(|one| one.code.clone()),
        environment: first.map(|one| one.environment.clone()),
    };
    let notes = vec![format!(
        "{items} images. {} Methods that do not depend on a setting were run once.",
        sweep.facts.goal.note
    )];
    let mut table = table(sweep, &columns, &scored, &notes);
    let mut summary = summary(sweep, &columns, &scored);
    let mut differences = metric(sweep).and_then(|metric| stored.differences_table(&metric));
    if differences.is_none() {
        let reason = format!(
            "Methods are not compared, because no combination has `{}` and another method whose items give intervals.",
            sweep.facts.goal.plain
        );
        summary.notes.push(reason);
    }
    if results.clone().any(|one| one.items < LEAST_ITEMS as u64) {
        differences.as_mut().unwrap_or(&mut summary).notes.push(too_few());
    }
    let unread = unread(failed, items + failed.len() as u64);
    table.notes.extend(unread.clone());
    summary.notes.extend(unread);
    for (name, table) in TABLES.into_iter().zip([Some(&table), Some(&summary), differences.as_ref()]) {
        if let Some(table) = table {
            table.export(&out, name)?;
        }
    }

    let evidence = |combination: &StoredCombination, key: &str| {
        let StoredMethod { run, method } = combination.methods.get(key)?;
        let source = sweep.variants.iter().position(|variant| text(&variant.folder) == *run)?;
        evidences.get(source)?.as_ref()?.get(method)
    };
    let figures = match metric(sweep) {
        Some(metric) => stored.draw_curves(&out, &metric, &evidence)?,
        None => Vec::new(),
    };

    // Written last: if it exists, all other files exist too.
    if first.is_some() {
        write_json(&out.join(SWEEP), &stored)?;
    }
    Ok(SweepOutcome { table, summary, differences, out, figures })
}

/// Reads the evidence of every run.
fn evidences(sweep: &Sweep, outcomes: &[Option<Outcome>]) -> Result<Evidences> {
    let read = |outcome: &Outcome| Evidence::read(&RunFolder::open(&outcome.out)?, sweep.facts.goal.metric);
    outcomes.iter().map(|outcome| outcome.as_ref().map(read).transpose()).collect()
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

    /// Returns the key of a method in `sweep.json`.
    fn key<'a>(&self, method: &'a MethodInfo) -> &'a str {
        if self.merged { &method.family } else { &method.key }
    }

    fn stored(&self) -> Vec<StoredColumn> {
        let keys = self.methods.iter().map(|method| self.key(method).to_owned());
        keys.zip(self.heads()).map(|(key, label)| StoredColumn { key, label }).collect()
    }

    fn score<'a>(
        &self,
        sweep: &'a Sweep,
        outcomes: &[Option<Outcome>],
        evidences: &Evidences,
    ) -> Vec<Scored<'a>> {
        let value = |variant: &Variant, method: &MethodInfo| {
            let shared = variant.methods.iter().find(|shared| self.same(method, &shared.method))?;
            outcomes.get(shared.variant)?.as_ref()?.results.value(sweep.facts.goal.metric, &shared.method.key)
        };
        // Combinations that share the runs of both methods share their difference.
        let mut known: HashMap<[(usize, &str); 2], Option<PairedDifference>> = HashMap::new();
        let mut scored = Vec::new();
        for variant in &sweep.variants {
            let mut differences = Vec::new();
            let plain = plain(sweep, variant);
            for (ours, other) in variant.methods.iter().filter_map(|other| Some((plain?, other))) {
                if ours.method.key == other.method.key {
                    continue;
                }
                let pair = [ours, other].map(|one| (one.variant, one.method.key.as_str()));
                let of = |(variant, key): (usize, &str)| evidences.get(variant)?.as_ref()?.get(key);
                let found = known.entry(pair).or_insert_with(|| of(pair[0])?.minus(of(pair[1])?));
                if let Some(difference) = *found {
                    differences.push(Comparison {
                        metric: sweep.facts.goal.metric.to_owned(),
                        method: self.key(&ours.method).to_owned(),
                        minus: self.key(&other.method).to_owned(),
                        difference,
                    });
                }
            }
            let values = self.methods.iter().map(|method| value(variant, method)).collect();
            scored.push(Scored { variant, values, differences });
        }
        scored
    }

    fn store(&self, sweep: &Sweep, row: &Scored<'_>) -> StoredCombination {
        let settings = sweep.axes.iter().cloned().zip(row.variant.values.iter().cloned()).collect();
        let keys = self.methods.iter().map(|method| self.key(method).to_owned());
        let values: BTreeMap<String, Option<f64>> = keys.zip(row.values.iter().copied()).collect();
        let method = |shared: &Shared| {
            let run = text(&sweep.variants.get(shared.variant)?.folder);
            Some((
                self.key(&shared.method).to_owned(),
                StoredMethod { run, method: shared.method.key.clone() },
            ))
        };
        StoredCombination {
            settings,
            methods: row.variant.methods.iter().filter_map(method).collect(),
            differences: row.differences.clone(),
            metrics: BTreeMap::from([(sweep.facts.goal.metric.to_owned(), json!(values))]),
        }
    }
}

/// Returns the paper's plain method of a combination. Of several variants of it, the one with the name of the family comes first.
fn plain<'a>(sweep: &Sweep, variant: &'a Variant) -> Option<&'a Shared> {
    let plain = sweep.facts.goal.plain;
    let named = variant.methods.iter().find(|shared| shared.method.key == plain);
    named.or_else(|| variant.methods.iter().find(|shared| shared.method.family == plain))
}

/// Returns a relative path with `/` between its parts, on any system.
fn text(path: &Path) -> String {
    let parts = path.components().map(Component::as_os_str).map(|part| part.to_string_lossy().into_owned());
    parts.collect::<Vec<_>>().join("/")
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

/// Returns the table of means over the combinations with the same value.
fn summary(sweep: &Sweep, columns: &Columns, scored: &[Scored]) -> Table {
    let mut rows = Vec::new();
    for (index, axis) in sweep.axes.iter().enumerate() {
        for value in unique(scored.iter().map(|row| &row.variant.values[index])) {
            let having: Vec<&Scored> =
                scored.iter().filter(|row| row.variant.values[index] == value).collect();
            let mean = |column: usize| {
                let values: Vec<f64> = having.iter().filter_map(|row| row.values[column]).collect();
                let mean = || scale(sweep) * values.iter().sum::<f64>() / values.len() as f64;
                Cell::from((!values.is_empty()).then(mean))
            };
            let cells = (0..columns.methods.len()).map(mean).collect();
            rows.push(Row { labels: vec![axis.clone(), value], cells });
        }
    }
    Table {
        title: format!("{}: mean {} over all combinations with a value", sweep.title, sweep.facts.goal.head),
        labels: vec!["setting".into(), "value".into()],
        columns: columns.heads().collect(),
        rows,
        notes: Vec::new(),
    }
}
