//! The published values that a run is compared with.

use super::spec::MetricSpec;
use crate::paper::PaperTable;

/// The paper's table that a run is compared with.
#[derive(Debug, Clone)]
pub struct PaperTarget {
    /// The table.
    pub table: PaperTable,
    /// The column that the run fills; `None` if it fills every column.
    pub column: Option<String>,
}

impl PaperTarget {
    /// Returns the column of a metric.
    pub fn column_of<'a>(&'a self, metric: &MetricSpec) -> Option<&'a str> {
        metric.paper_column(self.column.as_deref())
    }

    /// Returns the published value of a metric for a method, in the unit of results.
    pub fn published(&self, metric: &MetricSpec, method: &str) -> Option<f64> {
        Some(self.table.published(method, self.column_of(metric)?)? / metric.unit.scale())
    }
}
