//! The published values next to which a run stands.

use super::spec::MetricSpec;
use crate::paper::PaperTable;

/// The table of the paper next to which a run stands.
#[derive(Debug, Clone)]
pub struct PaperTarget {
    /// The table.
    pub table: PaperTable,
    /// The column that the run fills; `None` where it fills the table.
    pub column: Option<String>,
}

impl PaperTarget {
    /// The column of a metric.
    pub fn column_of<'a>(&'a self, metric: &MetricSpec) -> Option<&'a str> {
        metric.paper_column(self.column.as_deref())
    }

    /// The published value of a metric for a method, in the unit of results.
    pub fn published(&self, metric: &MetricSpec, method: &str) -> Option<f64> {
        Some(self.table.published(method, self.column_of(metric)?)? / metric.unit.scale())
    }
}
