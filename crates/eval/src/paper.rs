//! The paper's tables: rows, columns and published values, as data.

use serde::Deserialize;

use crate::error::{Error, Result};
use crate::experiments::spec::MetricSpec;
use crate::table::Cell;

const TABLES: [(&str, &str); 4] = [
    ("diffseg", include_str!("../../../eval/tables/diffseg.toml")),
    ("guidance", include_str!("../../../eval/tables/guidance.toml")),
    ("masking", include_str!("../../../eval/tables/masking.toml")),
    ("segment", include_str!("../../../eval/tables/segment.toml")),
];

/// The table of the paper beside which a run stands.
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

/// A table of the paper.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PaperTable {
    /// Its heading.
    pub title: String,
    /// The `[task.*]` whose runs stand beside it.
    pub task: String,
    /// Where the values were published.
    pub source: String,
    /// What its values are.
    pub metric: String,
    /// Column heads.
    pub columns: Vec<String>,
    /// Whether a larger value is a better one, by column.
    higher_is_better: Vec<bool>,
    /// Digits after the point that were published, by column.
    digits: Vec<i32>,
    rows: Vec<PaperRow>,
}

/// A row of the paper.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PaperRow {
    /// Key of the method of a run that stands beside the row.
    pub method: String,
    /// The paper's name for it.
    pub label: String,
    published: Vec<f64>,
}

impl PaperTable {
    /// The table of that name.
    ///
    /// # Errors
    /// There is none; the message lists those that exist.
    pub fn named(name: &str) -> Result<Self> {
        let path = || format!("eval/tables/{name}.toml").into();
        let Some((_, text)) = TABLES.iter().find(|(known, _)| *known == name) else {
            let known: Vec<_> = TABLES.iter().map(|(known, _)| *known).collect();
            let reason = format!("no such table; there is {}", known.join(", "));
            return Err(Error::Config { path: path(), reason });
        };
        toml::from_str(text).map_err(|e| Error::Config { path: path(), reason: e.to_string() })
    }

    /// Every table, by name.
    pub fn all() -> Vec<(String, Self)> {
        TABLES.iter().filter_map(|(name, _)| Some(((*name).to_owned(), Self::named(name).ok()?))).collect()
    }

    /// The row beside a method.
    pub fn row(&self, method: &str) -> Option<&PaperRow> {
        self.rows.iter().find(|row| row.method == method)
    }

    /// Ours minus the paper's in a column, from a pair of the two.
    pub fn difference(&self, column: &str, (ours, published): (f64, f64)) -> Cell {
        let value = ours - published;
        let index = self.index(column);
        // Half of the last published digit.
        let rounding = index.and_then(|i| self.digits.get(i)).map_or(0.0, |digits| 0.5 * 10f64.powi(-digits));
        let higher = index.and_then(|i| self.higher_is_better.get(i)).filter(|_| value.abs() > rounding);
        Cell::Difference { value, better: higher.map(|&higher| (value > 0.0) == higher) }
    }

    /// A value as the paper prints it: with as many digits as its column has.
    pub fn text(&self, column: &str, value: f64) -> String {
        let digits = self.index(column).and_then(|i| self.digits.get(i)).map_or(0, |&digits| digits.max(0));
        format!("{value:.*}", digits as usize)
    }

    /// The published value of a row in a column.
    pub fn published(&self, method: &str, column: &str) -> Option<f64> {
        self.row(method)?.published.get(self.index(column)?).copied()
    }

    fn index(&self, column: &str) -> Option<usize> {
        self.columns.iter().position(|known| known == column)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_is_whole() -> Result<()> {
        for (name, _) in TABLES {
            let table = PaperTable::named(name)?;
            let columns = table.columns.len();
            assert_eq!((table.higher_is_better.len(), table.digits.len()), (columns, columns), "{name}");
            for row in &table.rows {
                assert_eq!(row.published.len(), columns, "{name}, row {}", row.label);
            }
        }
        let masking = PaperTable::named("masking")?;
        assert_eq!(masking.published("tokenrank", "DINOv2"), Some(0.64));
        assert_eq!(masking.published("tokenrank", "none"), None);
        let better = |ours| masking.difference("DINOv2", (ours, 0.64)).better();
        assert_eq!([0.6, 0.644, 0.7].map(better), [Some(true), None, Some(false)]);
        let guidance = PaperTable::named("guidance")?;
        let better = |column, pair| guidance.difference(column, pair).better();
        let found =
            [better("IS", (17.0, 16.32)), better("FID", (50.0, 45.77)), better("KID", (0.0183, 0.018))];
        assert_eq!(found, [Some(true), Some(false), None]);
        Ok(())
    }

    #[test]
    fn the_segmentation_table_is_whole_and_its_odd_row_is_odd() -> Result<()> {
        let table = PaperTable::named("segment")?;
        assert_eq!(table.rows.len(), 5);
        // ConceptAttention's mIoU follows from its accuracy; that of no other row does.
        let follows = |row: &&PaperRow| {
            let accuracy = row.published[0] / 100.0;
            (100.0 * accuracy / (2.0 - accuracy) - row.published[1]).abs() <= 0.005
        };
        let odd: Vec<&str> = table.rows.iter().filter(follows).map(|row| row.method.as_str()).collect();
        assert_eq!(odd, ["concept-attention"]);
        Ok(())
    }
}
