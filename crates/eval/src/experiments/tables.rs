//! Tables of a run: our values next to the paper's, and the differences of methods.

use super::spec::{Facts, MethodInfo, MetricSpec, PaperColumn, Unit};
use crate::experiments::target::PaperTarget;
use crate::metrics::clusters::Clusters;
use crate::metrics::significance::{Interval, PairedDifference, without_interval};
use crate::results::{Comparison, MetricValue};
use crate::table::{Cell, Row, Table};

/// Whether a table shows the difference from the published values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Comparable {
    /// It shows the difference.
    Yes,
    /// It does not: our run is a miniature, or was scored by another network.
    No,
}

/// Returns a table with methods in rows and, in columns, the metrics that some method has; then, for each of these with a column
/// in the paper's table, the published value and, if the two are comparable, the difference.
pub(crate) fn metric_table(
    facts: &Facts,
    (title, notes): (&str, Vec<String>),
    values: &[MetricValue],
    methods: &[MethodInfo],
    paper: Option<&PaperTarget>,
    comparable: Comparable,
) -> Table {
    let ours = |metric: &MetricSpec, key: &str| {
        let named = |value: &&MetricValue| value.name == metric.key && value.method.as_deref() == Some(key);
        Some(metric.unit.scale() * values.iter().find(named)?.value?)
    };
    let has_values = |metric: &MetricSpec| methods.iter().any(|method| ours(metric, &method.key).is_some());
    let shown: Vec<MetricSpec> =
        (facts.metrics)().into_iter().filter(|metric| metric.in_table && has_values(metric)).collect();
    let in_paper: Vec<(&MetricSpec, &str)> = paper.map_or_else(Vec::new, |paper| {
        shown.iter().filter_map(|metric| Some((metric, paper.column_of(metric)?))).collect()
    });
    let mut columns: Vec<String> = shown.iter().map(MetricSpec::head).collect();
    for (_, column) in &in_paper {
        columns.push(format!("paper, {column}"));
        columns.extend((comparable == Comparable::Yes).then(|| format!("Δ {column}")));
    }
    let row = |method: &MethodInfo| {
        let mut cells: Vec<Cell> = shown.iter().map(|metric| ours(metric, &method.key).into()).collect();
        for ((metric, column), paper) in in_paper.iter().zip(paper.into_iter().cycle()) {
            let published = paper.table.published(&method.key, column);
            cells.push(published.into());
            if comparable == Comparable::Yes {
                let pair = ours(metric, &method.key).zip(published);
                cells.push(pair.map_or(Cell::Empty, |pair| paper.table.difference(column, pair)));
            }
        }
        Row { labels: vec![method.label.clone()], cells }
    };
    Table {
        title: title.to_owned(),
        labels: vec![facts.rows.to_owned()],
        columns,
        rows: methods.iter().map(row).collect(),
        notes,
    }
}

/// How differences of methods are shown.
pub(crate) struct Differences<'a> {
    pub(crate) title: &'static str,
    pub(crate) methods: &'a [MethodInfo],
    pub(crate) over: Resampled<'a>,
    /// The unit of all metrics; differences of percentages are percentage points.
    pub(crate) unit: Unit,
}

/// The items over which methods are compared.
pub(crate) enum Resampled<'a> {
    /// Images, some of which may have several items.
    Images(&'a Clusters),
    /// Numbers of generated images.
    Numbers,
}

impl Resampled<'_> {
    /// Returns the words that follow "Paired bootstrap over".
    fn words(&self) -> String {
        match self {
            Self::Images(images) => images.to_string(),
            Self::Numbers => "the image numbers".to_owned(),
        }
    }

    /// Returns whether several items of an image are drawn together.
    fn are_shared(&self) -> bool {
        match self {
            Self::Images(images) => images.are_shared(),
            Self::Numbers => false,
        }
    }
}

impl Differences<'_> {
    /// Returns a table with a row for each comparison; `metric` gives the title of a metric and whether larger is better.
    pub(crate) fn table(
        &self,
        comparisons: &[Comparison],
        metric: impl Fn(&str) -> (String, Option<bool>),
    ) -> Table {
        let (unit, of_intervals) = match self.unit {
            Unit::Percent => ("points", " in percentage points"),
            Unit::Plain => ("", ""),
        };
        let shared = self.over.are_shared();
        let counted = if shared { "images" } else { "items" };
        let mut notes = difference_notes(comparisons, &self.over.words(), of_intervals);
        let drawn = comparisons.iter().any(|comparison| comparison.difference.interval().is_some());
        notes.extend((shared && drawn).then(|| TOGETHER.to_owned()));
        Table {
            title: self.title.into(),
            labels: ["difference", "metric", "significant"].map(str::to_owned).to_vec(),
            columns: [unit, "from", "to", "p", counted].map(str::to_owned).to_vec(),
            rows: comparisons.iter().map(|comparison| self.row(comparison, &metric)).collect(),
            notes,
        }
    }

    fn row(&self, comparison: &Comparison, metric: &impl Fn(&str) -> (String, Option<bool>)) -> Row {
        let Comparison { method, minus, difference: found, .. } = comparison;
        let (head, higher_is_better) = metric(&comparison.metric);
        let scale = self.unit.scale();
        let difference = |value: f64, better| Cell::Difference { value: scale * value, better };
        let end = |end: fn(&Interval) -> f64| {
            found.interval().map_or(Cell::Empty, |interval| difference(end(interval), None))
        };
        Row {
            labels: vec![
                format!("{} − {}", self.name(method), self.name(minus)),
                head,
                found.significance(higher_is_better).to_string(),
            ],
            cells: vec![
                difference(found.value(), found.better(higher_is_better)),
                end(Interval::low),
                end(Interval::high),
                found.interval().map_or(Cell::Empty, |interval| Cell::P(interval.p_value())),
                Cell::Count(found.items()),
            ],
        }
    }

    fn name<'a>(&'a self, key: &'a str) -> &'a str {
        self.methods.iter().find(|method| method.key == key).map_or(key, |method| &method.label)
    }
}

/// Returns the table of comparisons in the metrics of `facts`, all of which have the same unit.
pub(crate) fn difference_table(
    facts: &Facts,
    title: &'static str,
    comparisons: &[Comparison],
    methods: &[MethodInfo],
    images: &Clusters,
) -> Table {
    let first = comparisons.first().and_then(|comparison| facts.metric(&comparison.metric));
    let unit = first.map_or(Unit::Plain, |metric| metric.unit);
    let shown = Differences { title, methods, over: Resampled::Images(images), unit };
    shown.table(comparisons, |key| {
        let metric = facts.metric(key);
        let title = metric.map_or_else(String::new, |metric| metric.title.to_owned());
        (title, metric.and_then(|metric| metric.better.higher_is_better()))
    })
}

/// Note for tables in which several items share an image.
const TOGETHER: &str =
    "Images are drawn, each with all its objects: objects of one image are not independent.";

/// Returns notes on the intervals, p values and verdicts of a table of differences; `unit` follows "intervals".
pub fn difference_notes<'a>(
    comparisons: impl IntoIterator<Item = &'a Comparison>,
    over: &str,
    unit: &str,
) -> Vec<String> {
    let differences: Vec<&PairedDifference> =
        comparisons.into_iter().map(|comparison| &comparison.difference).collect();
    let intervals = differences.iter().filter_map(|difference| difference.interval());
    let resamples = intervals.map(Interval::resamples).min();
    let known = resamples.map(|resamples| {
        format!(
            "Paired bootstrap over {over}, {resamples} resamples; 95 % percentile intervals{unit}; p is two-sided and at least \
             2 / (resamples + 1). Significant: the interval leaves out 0 and p is at most 0.05; better or worse refers to the \
             first method."
        )
    });
    known.into_iter().chain(without_interval(differences)).collect()
}

/// Returns whether a metric is compared with the column that the experiment file names.
pub(crate) fn fills_a_column(metric: &MetricSpec) -> bool {
    metric.column == PaperColumn::Filled
}
