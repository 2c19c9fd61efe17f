//! Runs that fill a table of the paper, side by side, each beside the paper's column.

use crate::paper::PaperTable;
use crate::plan::Beside;
use crate::report::source_note;
use crate::run::Outcome;
use crate::table::{Cell, Row, Table};

/// For each of the paper's tables that several runs fill, under its name: all of them.
pub fn paper_tables(outcomes: &[Outcome]) -> Vec<(String, Table)> {
    let tables = PaperTable::all().into_iter().filter_map(|(name, paper)| {
        let sides = Side::all(&paper, outcomes);
        // Combinations of a sweep have one name; the sweep has a table of its own.
        let twins = |side: &Side| sides.iter().filter(|other| other.head == side.head).count() > 1;
        (sides.len() > 1 && !sides.iter().any(twins)).then(|| (name, table(&paper, &sides)))
    });
    tables.collect()
}

/// One run and its column of the paper.
struct Side<'a> {
    run: &'a Outcome,
    column: &'a str,
    /// The paper's name of the column, and the experiment's where several runs stand beside it.
    head: String,
}

impl<'a> Side<'a> {
    /// The runs that fill a table, in the order of its columns.
    fn all(paper: &PaperTable, outcomes: &'a [Outcome]) -> Vec<Self> {
        let column = |run: &'a Outcome| {
            let Beside { table, column } = run.paper.as_ref()?;
            (table.title == paper.title).then_some((run, column.as_deref()?))
        };
        let mut runs: Vec<(&Outcome, &str)> = outcomes.iter().filter_map(column).collect();
        runs.sort_by_key(|(_, column)| paper.columns.iter().position(|known| known == column));
        let head =
            |column: &str, run: &Outcome| match runs.iter().filter(|(_, other)| *other == column).count() {
                1 => column.to_owned(),
                _ => format!("{column}, {}", run.name),
            };
        runs.iter().map(|&(run, column)| Self { run, column, head: head(column, run) }).collect()
    }

    fn is_comparable(&self) -> bool {
        self.run.results.experiment.is_comparable()
    }

    fn heads(&self) -> Vec<String> {
        let mut heads = vec![self.head.clone(), "paper".to_owned()];
        heads.extend(self.is_comparable().then(|| "Δ".to_owned()));
        heads
    }

    fn cells(&self, paper: &PaperTable, method: &str) -> Vec<Cell> {
        let (ours, published) = (self.run.results.value("auc", method), paper.published(method, self.column));
        let mut cells = vec![Cell::from(ours), Cell::from(published)];
        if self.is_comparable() {
            cells.push(ours.zip(published).map_or(Cell::Empty, |pair| paper.difference(self.column, pair)));
        }
        cells
    }

    /// What stands in the column is what its experiment says, which need not be the paper's network.
    fn note(&self) -> String {
        let results = &self.run.results;
        let right = results.metrics.iter().find(|metric| metric.name == "unmasked-accuracy");
        let right = match right.and_then(|metric| metric.value) {
            Some(share) => format!(", {:.1} % right before masking", 100.0 * share),
            None => String::new(),
        };
        format!("{}: {}; {} images{right}.", self.head, results.experiment.title, results.items)
    }
}

fn table(paper: &PaperTable, sides: &[Side]) -> Table {
    let mut methods: Vec<&(String, String)> = Vec::new();
    for method in sides.iter().flat_map(|side| &side.run.methods) {
        if !methods.contains(&method) {
            methods.push(method);
        }
    }
    let row = |(key, label): &(String, String)| Row {
        labels: vec![label.clone()],
        cells: sides.iter().flat_map(|side| side.cells(paper, key)).collect(),
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
