//! The table of differences between methods.

use crate::results::Comparison;
use crate::table::{Cell, Row, Table};

/// How differences of methods are shown.
pub(crate) struct Differences<'a> {
    pub(crate) title: &'static str,
    /// Keys and names of the methods.
    pub(crate) methods: &'a [(String, String)],
    /// What was drawn again and again, such as `200 images`.
    pub(crate) over: String,
    /// Whether the metrics are shares, of which differences are percentage points.
    pub(crate) shares: bool,
}

impl Differences<'_> {
    /// A row for each comparison; `metric` gives the heading of a metric and whether larger is better.
    pub(crate) fn table(&self, comparisons: &[Comparison], metric: impl Fn(&str) -> (String, bool)) -> Table {
        let resamples = comparisons.iter().map(|comparison| comparison.interval.resamples).min().unwrap_or(0);
        let (unit, said) = if self.shares { ("points", " in percentage points") } else { ("", "") };
        Table {
            title: self.title.into(),
            labels: ["difference", "metric", "significant"].map(str::to_owned).to_vec(),
            columns: [unit, "from", "to", "p"].map(str::to_owned).to_vec(),
            rows: comparisons.iter().map(|comparison| self.row(comparison, &metric)).collect(),
            notes: vec![format!(
                "Paired bootstrap over {}, {resamples} resamples; 95 % percentile intervals{said}. Significant: the interval \
                 leaves out 0.",
                self.over
            )],
        }
    }

    fn row(&self, comparison: &Comparison, metric: &impl Fn(&str) -> (String, bool)) -> Row {
        let Comparison { method, minus, interval, .. } = comparison;
        let (head, higher_is_better) = metric(&comparison.metric);
        let sure = interval.excludes_zero();
        let scale = if self.shares { 100.0 } else { 1.0 };
        let difference = |value: f64, better| Cell::Difference { value: scale * value, better };
        Row {
            labels: vec![
                format!("{} − {}", self.name(method), self.name(minus)),
                head,
                if sure { "yes" } else { "no" }.to_owned(),
            ],
            cells: vec![
                difference(
                    interval.difference,
                    sure.then_some((interval.difference > 0.0) == higher_is_better),
                ),
                difference(interval.low, None),
                difference(interval.high, None),
                Cell::Value(interval.p_value),
            ],
        }
    }

    fn name<'a>(&'a self, key: &'a str) -> &'a str {
        self.methods.iter().find(|(known, _)| known == key).map_or(key, |(_, label)| label)
    }
}
