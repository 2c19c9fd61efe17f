//! The report of a comparison: for the terminal and as Markdown.

use models::escape;

use super::difference::Difference;
use super::verdict::{Compared, Verdict};
use crate::metrics::bootstrap::RESAMPLES;
use crate::metrics::significance::{Interval, without_interval};
use crate::table::{Cell, Row, Table};

/// The result of comparing runs.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Name of the suite.
    pub suite: String,
    /// Number of runs of the baseline.
    pub runs: usize,
    /// Differences that make runs incomparable with the baseline's.
    pub differences: Vec<Difference>,
    /// Every value, the worst verdict first.
    pub values: Vec<Compared>,
    /// Remarks that may explain differences but do not fail the comparison.
    pub notes: Vec<String>,
    /// Whether systematic differences fail.
    pub strict: bool,
}

impl Report {
    /// Returns whether the result agrees with the baseline.
    pub fn passes(&self) -> bool {
        self.differences.is_empty() && self.values.iter().all(|value| !value.verdict.fails(self.strict))
    }

    /// Returns the number of values with a wanted verdict.
    fn count(&self, wanted: impl Fn(Verdict) -> bool) -> usize {
        self.values.iter().filter(|value| wanted(value.verdict)).count()
    }

    /// Returns the last line: the number of values by verdict.
    pub fn closing(&self) -> String {
        let all = self.values.len();
        let moved = self.count(|verdict| matches!(verdict, Verdict::Moved { .. }));
        let side = |side| self.count(move |verdict| verdict == Verdict::Moved { better: side });
        let mut parts = Vec::new();
        let sides: Vec<String> = [("worse", Some(false)), ("better", Some(true)), ("neither", None)]
            .into_iter()
            .map(|(word, better)| (side(better), word))
            .filter(|(count, _)| *count > 0)
            .map(|(count, word)| format!("{count} {word}"))
            .collect();
        parts.push(match moved {
            0 => format!("none of {all} values moved"),
            _ => format!("{moved} of {all} values moved ({})", sides.join(", ")),
        });
        for (verdict, words) in [
            (Verdict::Missing, "missing"),
            (Verdict::New, "new"),
            (Verdict::Undefined, "defined on one side only"),
            (Verdict::UndefinedBoth, "undefined on both sides"),
            (Verdict::Systematic, "within tolerance but systematic"),
            (Verdict::Within, "within tolerance"),
            (Verdict::Same, "the same"),
        ] {
            let count = self.count(|other| other == verdict);
            parts.extend((count > 0).then(|| format!("{count} {words}")));
        }
        let mut others: Vec<&str> = self.differences.iter().map(|difference| &*difference.run).collect();
        others.dedup();
        if !others.is_empty() {
            parts.push(format!("not the baseline's runs: {}", others.join(", ")));
        }
        format!("{}.", parts.join("; "))
    }

    /// Formats the report for the terminal; with `all`, unchanged values are listed too.
    pub fn to_text(&self, all: bool, color: bool) -> String {
        let mut text: String = self
            .differences
            .iter()
            .map(|difference| format!("{}\n", escape::line(&difference.to_string())))
            .collect();
        if let Some(table) = self.table(all) {
            if !text.is_empty() {
                text.push('\n');
            }
            text.push_str(&table.to_text(color));
        }
        for note in &self.notes {
            text.push_str(&format!("{}\n", escape::line(note)));
        }
        text.push_str(&escape::line(&format!("{}: {}", self.suite, self.closing())));
        text.push('\n');
        text
    }

    /// Formats the report as Markdown, for instance for the summary of a CI job.
    pub fn to_markdown(&self, all: bool) -> String {
        let verdict = if self.passes() { "as the baseline" } else { "not as the baseline" };
        let mut text = format!("### {}: {verdict}\n\n", escape::markdown(&self.suite));
        for Difference { run, what, .. } in &self.differences {
            text.push_str(&format!("- **{}**: {}\n", escape::markdown(run), escape::markdown(what)));
        }
        if !self.differences.is_empty() {
            text.push('\n');
        }
        if let Some(table) = self.table(all) {
            text.push_str(&table.to_markdown());
        }
        for note in &self.notes {
            text.push_str(&format!("{}\n\n", escape::markdown(note)));
        }
        text.push_str(&format!("**{}**\n", escape::markdown(&self.closing())));
        text
    }

    /// Returns the table of the values that differ, or of all; `None` if it would be empty.
    fn table(&self, all: bool) -> Option<Table> {
        let shown = |value: &&Compared| all || value.verdict != Verdict::Same || value.changed > Some(0);
        let rows: Vec<Row> = self.values.iter().filter(shown).map(row).collect();
        let heads = ["run", "metric", "method", "verdict"].map(str::to_owned).to_vec();
        let columns =
            ["baseline", "ours", "difference", "tolerance", "from", "to", "p", "items changed", "of"];
        let without =
            without_interval(self.values.iter().filter(shown).filter_map(|value| value.paired.as_ref()));
        (!rows.is_empty()).then(|| Table {
            title: format!("Values compared with the baseline {}", self.suite),
            labels: heads,
            columns: columns.map(str::to_owned).to_vec(),
            rows,
            notes: std::iter::once(format!(
                "From, to, p: paired bootstrap of the difference over the items, {RESAMPLES} resamples (generated images: as \
                 many as `metrics.resamples`), 95 % percentile interval, two-sided p. Systematic: the interval leaves out 0 and \
                 p is at most 0.05."
            ))
            .chain(without)
            .collect(),
        })
    }
}

fn row(value: &Compared) -> Row {
    let fine = |number: Option<f64>| number.map_or(Cell::Empty, Cell::Fine);
    let difference = |number: Option<f64>, better| {
        number.map_or(Cell::Empty, |value| Cell::FineDifference { value, better })
    };
    let better = match value.verdict {
        Verdict::Moved { better } => better,
        Verdict::Same
        | Verdict::Within
        | Verdict::Systematic
        | Verdict::Undefined
        | Verdict::UndefinedBoth
        | Verdict::Missing
        | Verdict::New => None,
    };
    let interval = value.interval();
    Row {
        labels: vec![
            value.run.clone(),
            value.metric.clone(),
            value.method.clone().unwrap_or_else(|| "–".into()),
            value.verdict.to_string(),
        ],
        cells: vec![
            fine(value.baseline),
            fine(value.ours),
            difference(value.difference(), better),
            Cell::Fine(value.tolerance),
            difference(interval.map(Interval::low), None),
            difference(interval.map(Interval::high), None),
            interval.map_or(Cell::Empty, |interval| Cell::P(interval.p_value())),
            value.changed.map_or(Cell::Empty, Cell::Count),
            value.items.map_or(Cell::Empty, Cell::Count),
        ],
    }
}
