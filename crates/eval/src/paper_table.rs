//! Runs that fill a table of the paper, side by side, each beside the paper's column.

use crate::masking_report::source_note;
use crate::paper::PaperTable;
use crate::results::Results;
use crate::table::{Cell, Row, Table};

/// A finished run: the name of its experiment file, and what came out.
pub type Named<'a> = (&'a str, &'a Results);

/// For each of the paper's tables that several runs fill, under its name: all of them.
pub fn paper_tables(runs: &[Named<'_>]) -> Vec<(String, Table)> {
    let tables = PaperTable::all().into_iter().filter_map(|(name, paper)| {
        let sides = Side::all(&name, &paper, runs);
        (sides.len() > 1).then(|| (name, table(&paper, &sides)))
    });
    tables.collect()
}

/// One run and its column of the paper.
struct Side<'a> {
    results: &'a Results,
    column: &'a str,
    /// The paper's name of the column, and the experiment's where several runs stand beside it.
    head: String,
}

impl<'a> Side<'a> {
    /// The runs that fill a table, in the order of its columns.
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
        let (ours, published) = (self.results.value("auc", method), paper.published(method, self.column));
        let mut cells = vec![Cell::from(ours), Cell::from(published)];
        if self.is_comparable() {
            cells.push(ours.zip(published).map_or(Cell::Empty, |pair| paper.difference(self.column, pair)));
        }
        cells
    }

    /// What stands in the column is what its experiment says, which need not be the paper's network.
    fn note(&self) -> String {
        let results = self.results;
        let right = results.metrics.iter().find(|metric| metric.name == "unmasked-accuracy");
        let right = match right.and_then(|metric| metric.value) {
            Some(share) => format!(", {:.1} % right before masking", 100.0 * share),
            None => String::new(),
        };
        format!("{}: {}; {} images{right}.", self.head, results.experiment.title, results.items)
    }
}

fn table(paper: &PaperTable, sides: &[Side]) -> Table {
    let mut methods: Vec<(String, String)> = Vec::new();
    for method in sides.iter().flat_map(|side| side.results.experiment.methods()) {
        if !methods.contains(&method) {
            methods.push(method);
        }
    }
    let row = |(key, label): (String, String)| Row {
        labels: vec![label],
        cells: sides.iter().flat_map(|side| side.cells(paper, &key)).collect(),
    };
    let mut notes: Vec<String> = sides.iter().map(Side::note).collect();
    if sides.iter().any(Side::is_comparable) {
        notes.push("Δ: ours − paper's.".into());
    }
    notes.push(source_note(paper));
    Table {
        title: format!("{}: {}", paper.title, paper.metric),
        labels: vec!["tokens masked by".into()],
        columns: sides.iter().flat_map(Side::heads).collect(),
        rows: methods.into_iter().map(row).collect(),
        notes,
    }
}
