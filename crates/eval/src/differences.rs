//! The table of differences between methods.

use crate::metrics::significance::{Interval, too_few};
use crate::results::Comparison;
use crate::table::{Cell, Row, Table};

/// How differences of methods are shown.
pub(crate) struct Differences<'a> {
    pub(crate) title: &'static str,
    /// Keys and names of the methods.
    pub(crate) methods: &'a [(String, String)],
    /// What was drawn again and again, such as `200 images`.
    pub(crate) over: String,
    /// Whether the metrics are fractions, of which differences are percentage points.
    pub(crate) shares: bool,
}

impl Differences<'_> {
    /// A row for each comparison; `metric` gives the heading of a metric and whether larger is better.
    pub(crate) fn table(&self, comparisons: &[Comparison], metric: impl Fn(&str) -> (String, bool)) -> Table {
        let unit = if self.shares { "points" } else { "" };
        Table {
            title: self.title.into(),
            labels: ["difference", "metric", "significant"].map(str::to_owned).to_vec(),
            columns: [unit, "from", "to", "p", "items"].map(str::to_owned).to_vec(),
            rows: comparisons.iter().map(|comparison| self.row(comparison, &metric)).collect(),
            notes: notes(comparisons, &self.over, if self.shares { " in percentage points" } else { "" }),
        }
    }

    fn row(&self, comparison: &Comparison, metric: &impl Fn(&str) -> (String, bool)) -> Row {
        let Comparison { method, minus, difference: found, .. } = comparison;
        let (head, higher_is_better) = metric(&comparison.metric);
        let scale = if self.shares { 100.0 } else { 1.0 };
        let difference = |value: f64, better| Cell::Difference { value: scale * value, better };
        let end = |end: fn(&Interval) -> f64| {
            found.interval().map_or(Cell::Empty, |interval| difference(end(interval), None))
        };
        Row {
            labels: vec![
                format!("{} − {}", self.name(method), self.name(minus)),
                head,
                found.significance(Some(higher_is_better)).to_string(),
            ],
            cells: vec![
                difference(found.value(), found.better(Some(higher_is_better))),
                end(Interval::low),
                end(Interval::high),
                found.interval().map_or(Cell::Empty, |interval| Cell::P(interval.p_value())),
                Cell::Count(found.items()),
            ],
        }
    }

    fn name<'a>(&'a self, key: &'a str) -> &'a str {
        self.methods.iter().find(|(known, _)| known == key).map_or(key, |(_, label)| label)
    }
}

/// What intervals, p values and verdicts below a table of differences are; `unit` follows "intervals".
pub(crate) fn notes<'a>(
    comparisons: impl IntoIterator<Item = &'a Comparison>,
    over: &str,
    unit: &str,
) -> Vec<String> {
    let (known, few): (Vec<_>, Vec<_>) =
        comparisons.into_iter().map(|comparison| comparison.difference.interval()).partition(Option::is_some);
    let resamples = known.iter().flatten().map(|interval| interval.resamples()).min();
    let known = resamples.map(|resamples| {
        format!(
            "Paired bootstrap over {over}, {resamples} resamples; 95 % percentile intervals{unit}; p is two-sided and at least \
             2 / (resamples + 1). Significant: the interval leaves out 0 and p is at most 0.05; better or worse says it of the \
             first method."
        )
    });
    known.into_iter().chain((!few.is_empty()).then(too_few)).collect()
}
