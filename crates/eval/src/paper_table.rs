//! Tables that show several runs side by side, each next to its column of a table of the paper.

use crate::experiments::spec::{MethodInfo, Unit};
use crate::experiments::tables::fills_a_column;
use crate::experiments::{KINDS, head, paper_tables as paper_tables_by_name};
use crate::paper::PaperTable;
use crate::results::{MetricValue, Results};
use crate::table::{Cell, Row, Table};

/// A finished run: the name of its experiment file and its results.
pub type Named<'a> = (&'a str, &'a Results);

/// Returns, for each table of the paper that several runs fill, its name and a table of all these runs.
pub fn paper_tables(runs: &[Named<'_>]) -> Vec<(String, Table)> {
    let tables = paper_tables_by_name().into_iter().filter_map(|(name, paper)| {
        let sides = Side::all(name, &paper, runs);
        // Combinations of a sweep share one name; the sweep has its own table.
        let twins = |side: &Side| sides.iter().filter(|other| other.head == side.head).count() > 1;
        (sides.len() > 1 && !sides.iter().any(twins)).then(|| (name.to_owned(), table(&paper, &sides)))
    });
    tables.collect()
}

/// One run and its column of the paper.
struct Side<'a> {
    results: &'a Results,
    column: &'a str,
    /// The paper's name of the column, followed by the experiment's name if several runs fill it.
    head: String,
}

impl<'a> Side<'a> {
    /// Returns the runs that fill a table, in the order of its columns.
    fn all(table: &str, paper: &PaperTable, runs: &[Named<'a>]) -> Vec<Self> {
        let column = |&(name, results): &Named<'a>| {
            let fills = results.experiment.fills.as_ref()?;
            (fills.table == table).then_some((name, results, fills.column.as_deref()?))
        };
        let mut runs: Vec<_> = runs.iter().filter_map(column).collect();
        runs.sort_by_key(|(_, _, column)| paper.columns.iter().position(|known| known == column));
        let head =
            |column: &str, name: &str| match runs.iter().filter(|(_, _, other)| *other == column).count() {
                1 => column.to_owned(),
                _ => format!("{column}, {name}"),
            };
        runs.iter()
            .map(|&(name, results, column)| Self { results, column, head: head(column, name) })
            .collect()
    }

    fn is_comparable(&self) -> bool {
        self.results.experiment.is_comparable()
    }

    fn heads(&self) -> Vec<String> {
        let mut heads = vec![self.head.clone(), "paper".to_owned()];
        heads.extend(self.is_comparable().then(|| "Δ".to_owned()));
        heads
    }

    fn cells(&self, paper: &PaperTable, method: &str) -> Vec<Cell> {
        let metric = (self.results.experiment.task.kind().facts().metrics)().into_iter().find(fills_a_column);
        let ours = metric.and_then(|metric| self.results.value(metric.key, method));
        let published = paper.published(method, self.column);
        let mut cells = vec![Cell::from(ours), Cell::from(published)];
        if self.is_comparable() {
            cells.push(ours.zip(published).map_or(Cell::Empty, |pair| paper.difference(self.column, pair)));
        }
        cells
    }

    /// Returns the note below the column. The column shows the experiment's network, which need not be the paper's.
    fn note(&self) -> String {
        let results = self.results;
        let of_run = results.metrics.iter().filter(|value| value.method.is_none());
        let of_run: String =
            of_run.filter_map(|value| whole(results, value)).map(|text| format!(", {text}")).collect();
        format!("{}: {}; {} images{of_run}.", self.head, results.experiment.title, results.items)
    }
}

/// Formats a value of the whole run with its name: `97.5 % right before masking`.
pub fn whole(results: &Results, value: &MetricValue) -> Option<String> {
    let head = head(results, &value.name);
    let text = head.text(head.spec.unit.scale() * value.value?);
    let unit = match head.spec.unit {
        Unit::Percent => " %",
        Unit::Plain => "",
    };
    Some(format!("{text}{unit} {}", head.title))
}

fn table(paper: &PaperTable, sides: &[Side]) -> Table {
    let mut methods: Vec<MethodInfo> = Vec::new();
    for method in sides.iter().flat_map(|side| side.results.experiment.methods()) {
        if !methods.iter().any(|known| known.key == method.key) {
            methods.push(method);
        }
    }
    let row = |method: MethodInfo| Row {
        cells: sides.iter().flat_map(|side| side.cells(paper, &method.key)).collect(),
        labels: vec![method.label],
    };
    let mut notes: Vec<String> = sides.iter().map(Side::note).collect();
    if sides.iter().any(Side::is_comparable) {
        notes.push("Δ: ours − paper's.".into());
    }
    let facts = KINDS.iter().find(|facts| facts.name == paper.task);
    notes.extend(facts.map(|facts| (facts.source_note)(paper)));
    Table {
        title: format!("{}: {}", paper.title, paper.metric),
        labels: vec![facts.map_or("method", |facts| facts.rows).to_owned()],
        columns: sides.iter().flat_map(Side::heads).collect(),
        rows: methods.into_iter().map(row).collect(),
        notes,
    }
}
