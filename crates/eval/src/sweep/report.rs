//! The tables of a sweep: every combination, and what each value of a setting does on average.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;
use tasks::masking::Method;

use super::{Sweep, Variant};
use crate::error::{Error, Result};
use crate::record_log::write_whole;
use crate::results::{Code, Environment, SCHEMA};
use crate::run::Outcome;
use crate::table::{Cell, Row, Table};

/// What a finished sweep leaves behind.
pub struct SweepOutcome {
    /// A row for each combination.
    pub table: Table,
    /// A row for each value of each setting: means over all combinations that have it.
    pub summary: Table,
    /// Folder of the sweep.
    pub out: PathBuf,
}

/// `sweep.json`.
#[derive(Serialize)]
struct Stored<'a> {
    schema: u32,
    title: &'a str,
    items: u64,
    metric: &'static str,
    combinations: Vec<StoredCombination<'a>>,
    code: Code,
    environment: Environment,
}

#[derive(Serialize)]
struct StoredCombination<'a> {
    settings: BTreeMap<&'a str, &'a str>,
    /// By method.
    auc: BTreeMap<String, Option<f64>>,
    /// Whether TokenRank, in some form, is below all others.
    tokenrank_wins: Option<bool>,
}

/// AUC of every method of a combination, in the order of the columns; none where a combination lacks the method.
struct Scored<'a> {
    variant: &'a Variant,
    auc: Vec<Option<f64>>,
    wins: Option<bool>,
}

/// Writes tables and numbers of a finished sweep to its folder.
pub(super) fn write(sweep: &Sweep, out: PathBuf, outcomes: &[Option<Outcome>]) -> Result<SweepOutcome> {
    let columns = Columns::of(sweep);
    let scored: Vec<Scored> = sweep.variants.iter().map(|variant| columns.score(variant, outcomes)).collect();
    let results = outcomes.iter().flatten().map(|outcome| &outcome.results);
    let (items, first) = (results.clone().map(|one| one.items).max().unwrap_or(0), results.clone().next());
    let notes = vec![format!(
        "{items} images. AUC: accuracy ÷ unmasked accuracy, mean over the shares removed; lower is better. What does not \
         depend on a setting was run once."
    )];
    let table = table(sweep, &columns, &scored, &notes);
    let summary = summary(sweep, &columns, &scored);

    if let Some(first) = first {
        let stored = Stored {
            schema: SCHEMA,
            title: &sweep.title,
            items,
            metric: "auc",
            combinations: scored.iter().map(|row| columns.store(sweep, row)).collect(),
            code: first.code.clone(),
            environment: first.environment.clone(),
        };
        let path = out.join("sweep.json");
        let json = serde_json::to_string_pretty(&stored)
            .map_err(|e| Error::Export { path: path.clone(), reason: e.to_string() })?;
        write_whole(&path, format!("{json}\n").as_bytes())?;
    }
    table.export(&out, "table")?;
    summary.export(&out, "summary")?;
    Ok(SweepOutcome { table, summary, out })
}

/// The methods of all combinations. Where no combination reads CLS both ways, a method's name leaves that to the axis.
struct Columns {
    methods: Vec<Method>,
    merged: bool,
}

impl Columns {
    fn of(sweep: &Sweep) -> Self {
        let alone = |variant: &Variant| {
            let methods = &variant.methods;
            (1..methods.len())
                .all(|i| methods[..i].iter().all(|one| one.method.score != methods[i].method.score))
        };
        let merged = sweep.variants.iter().all(alone);
        let mut columns = Self { methods: Vec::new(), merged };
        for shared in sweep.variants.iter().flat_map(|variant| &variant.methods) {
            if !columns.methods.iter().any(|&known| columns.same(known, shared.method)) {
                columns.methods.push(shared.method);
            }
        }
        columns
    }

    fn same(&self, a: Method, b: Method) -> bool {
        a.score == b.score && (self.merged || a.cls == b.cls)
    }

    fn heads(&self) -> impl Iterator<Item = String> {
        self.methods
            .iter()
            .map(|method| if self.merged { method.score.label().into() } else { method.label() })
    }

    fn score<'a>(&self, variant: &'a Variant, outcomes: &[Option<Outcome>]) -> Scored<'a> {
        let value = |method: &Method| {
            let shared = variant.methods.iter().find(|shared| self.same(*method, shared.method))?;
            outcomes.get(shared.variant)?.as_ref()?.results.value("auc", &shared.method.to_string())
        };
        let auc: Vec<Option<f64>> = self.methods.iter().map(value).collect();
        let least = |ours: bool| {
            let of_kind =
                self.methods.iter().zip(&auc).filter(|(method, _)| method.score.is_steady_state() == ours);
            of_kind.filter_map(|(_, auc)| *auc).reduce(f64::min)
        };
        let wins = least(true).zip(least(false)).map(|(ours, others)| ours < others);
        Scored { variant, auc, wins }
    }

    fn store<'a>(&self, sweep: &'a Sweep, row: &Scored<'a>) -> StoredCombination<'a> {
        let key = |method: &Method| if self.merged { method.score.to_string() } else { method.to_string() };
        StoredCombination {
            settings: sweep
                .axes
                .iter()
                .zip(&row.variant.values)
                .map(|(axis, value)| (&**axis, &**value))
                .collect(),
            auc: self.methods.iter().map(key).zip(row.auc.iter().copied()).collect(),
            tokenrank_wins: row.wins,
        }
    }
}

fn table(sweep: &Sweep, columns: &Columns, scored: &[Scored], notes: &[String]) -> Table {
    let row = |row: &Scored| {
        let best = row.auc.iter().flatten().copied().reduce(f64::min);
        let cell = |auc: &Option<f64>| match *auc {
            Some(value) if best == Some(value) => Cell::Best(value),
            other => other.into(),
        };
        Row { labels: row.variant.values.clone(), cells: row.auc.iter().map(cell).collect() }
    };
    Table {
        title: format!("{}: AUC ↓ of every combination", sweep.title),
        labels: sweep.axes.clone(),
        columns: columns.heads().collect(),
        rows: scored.iter().map(row).collect(),
        notes: notes.to_vec(),
    }
}

/// Means over the combinations that share a value, and in how many of them TokenRank wins.
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
                let auc: Vec<f64> = having.iter().filter_map(|row| row.auc[column]).collect();
                Cell::from((!auc.is_empty()).then(|| auc.iter().sum::<f64>() / auc.len() as f64))
            };
            let mut cells: Vec<Cell> = (0..columns.methods.len()).map(mean).collect();
            cells.push(Cell::Count(having.iter().filter(|row| row.wins == Some(true)).count()));
            cells.push(Cell::Count(having.len()));
            rows.push(Row { labels: vec![axis.clone(), value.clone()], cells });
        }
    }
    Table {
        title: format!("{}: mean AUC ↓ over all combinations with a value", sweep.title),
        labels: vec!["setting".into(), "value".into()],
        columns: columns.heads().chain(["TokenRank wins".into(), "of".into()]).collect(),
        rows,
        notes: vec![
            "TokenRank wins: plain or weighted by λ₂, it is below every other score of the combination."
                .into(),
        ],
    }
}
