//! The values of a run: every method and metric with its interval, next to the paper's value.

use eval::experiments::view::Spreads;
use eval::experiments::{Head, heads, is_comparable, paper_table};
use eval::results::Results;
use eval::{Cell, PaperTable, Row, Table, whole};

/// The table of values, with methods in rows and metrics in columns.
pub(super) struct Values {
    pub heads: Vec<Head>,
    pub rows: Vec<MethodRow>,
    pub paper: Option<PaperTable>,
    /// Whether differences from the paper's values are meaningful.
    pub comparable: bool,
    /// Number of bootstrap resamples of the intervals; 0 if there are no intervals.
    pub resamples: usize,
    /// Values that belong to the whole run, each with its name.
    pub whole: Vec<String>,
}

pub(super) struct MethodRow {
    pub label: String,
    /// One cell for each head.
    pub cells: Vec<Value>,
}

/// One value, in the units of its head.
#[derive(Default)]
pub(super) struct Value {
    pub value: Option<f64>,
    pub interval: Option<(f64, f64)>,
    pub published: Option<f64>,
    /// The [`Cell::Difference`] from the paper's value, if differences are meaningful.
    pub difference: Option<Cell>,
    /// Whether the value is the best of its column.
    pub best: bool,
}

impl Values {
    pub(super) fn of(results: &Results, spreads: &Spreads) -> Self {
        let heads = heads(results);
        let (paper, comparable) = (paper_of(results), is_comparable(results));
        let value = |head: &Head, method: &str| {
            let found = results
                .metrics
                .iter()
                .find(|value| value.name == head.key && value.method.as_deref() == Some(method));
            let scaled = |value: Option<f64>| value.map(|value| head.spec.unit.scale() * value);
            let (value, published) = (
                scaled(found.and_then(|found| found.value)),
                scaled(found.and_then(|found| found.published)),
            );
            let difference = || Some(paper.as_ref()?.difference(head.column.as_ref()?, (value?, published?)));
            let spread = spreads.values.get(&(head.key.clone(), method.to_owned()));
            Value {
                value,
                interval: spread
                    .and_then(|spread| spread.interval)
                    .map(|(low, high)| (head.spec.unit.scale() * low, head.spec.unit.scale() * high)),
                published,
                difference: if comparable { difference() } else { None },
                best: false,
            }
        };
        let mut rows: Vec<MethodRow> = results
            .experiment
            .methods()
            .into_iter()
            .map(|method| MethodRow {
                cells: heads.iter().map(|head| value(head, &method.key)).collect(),
                label: method.label,
            })
            .collect();
        for (column, head) in heads.iter().enumerate() {
            let Some(higher) = head.spec.better.higher_is_better() else { continue };
            let values = rows.iter().filter_map(|row| row.cells[column].value);
            let best = values.reduce(|a, b| if higher { a.max(b) } else { a.min(b) });
            for row in &mut rows {
                let cell = &mut row.cells[column];
                cell.best = cell.value.is_some() && cell.value == best;
            }
        }
        let of_run = results.metrics.iter().filter(|value| value.method.is_none());
        let whole = of_run.filter_map(|value| whole(results, value)).collect();
        Self { heads, rows, paper, comparable, resamples: spreads.resamples, whole }
    }

    /// Writes a value of the paper, with the digits of the paper.
    pub(super) fn published(&self, column: usize, value: f64) -> String {
        let head = &self.heads[column];
        match self.paper.as_ref().zip(head.column.as_ref()) {
            Some((paper, column)) => paper.text(column, value),
            None => head.text(value),
        }
    }

    /// Whether a column has values of the paper.
    pub(super) fn has_paper(&self, column: usize) -> bool {
        self.rows.iter().any(|row| row.cells[column].published.is_some())
    }

    /// Whether a column has intervals.
    pub(super) fn has_intervals(&self, column: usize) -> bool {
        self.rows.iter().any(|row| row.cells[column].interval.is_some())
    }

    /// Returns the values as a table for files.
    pub(super) fn table(&self, title: &str, notes: Vec<String>) -> Table {
        let mut columns = Vec::new();
        for (index, head) in self.heads.iter().enumerate() {
            columns.push(head.with_arrow());
            if self.has_intervals(index) {
                columns.extend([format!("{}, from", head.title), format!("{}, to", head.title)]);
            }
            if self.has_paper(index) {
                columns.push(format!("{}, paper", head.title));
                columns.extend(self.comparable.then(|| format!("{}, Δ", head.title)));
            }
        }
        let row = |row: &MethodRow| {
            let mut cells = Vec::new();
            for (index, value) in row.cells.iter().enumerate() {
                let fine = self.heads[index].spec.digits > 3;
                cells.push(match value.value {
                    Some(best) if value.best && fine => Cell::FineBest(best),
                    Some(best) if value.best => Cell::Best(best),
                    Some(value) if fine => Cell::Fine(value),
                    other => other.into(),
                });
                if self.has_intervals(index) {
                    let (low, high) = value.interval.unzip();
                    cells.extend([Cell::from(low), Cell::from(high)]);
                }
                if self.has_paper(index) {
                    cells.push(value.published.into());
                    if self.comparable {
                        cells.push(match value.difference {
                            Some(Cell::Difference { value, better }) if fine => {
                                Cell::FineDifference { value, better }
                            }
                            other => other.unwrap_or(Cell::Empty),
                        });
                    }
                }
            }
            Row { labels: vec![row.label.clone()], cells }
        };
        Table {
            title: title.to_owned(),
            labels: vec!["method".into()],
            columns,
            rows: self.rows.iter().map(row).collect(),
            notes,
        }
    }
}

/// Returns the paper's table that a run fills, if any.
fn paper_of(results: &Results) -> Option<PaperTable> {
    paper_table(&results.experiment.fills.as_ref()?.table).ok()
}

/// Returns metric, method and value of the method that is best in the first metric of a run.
pub(super) fn best(results: &Results) -> Option<(String, String, String)> {
    let values = Values::of(results, &Spreads::default());
    let head = values.heads.first()?;
    let row = values.rows.iter().find(|row| row.cells.first().is_some_and(|cell| cell.best))?;
    Some((head.with_arrow(), row.label.clone(), head.text(row.cells[0].value?)))
}
