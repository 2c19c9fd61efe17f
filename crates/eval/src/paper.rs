//! The paper's tables: rows, columns and published values, as data.

use serde::Deserialize;

use crate::error::{Error, Result};
use crate::table::Cell;

const TABLES: [(&str, &str); 2] = [
    ("masking", include_str!("../../../eval/tables/masking.toml")),
    ("segment", include_str!("../../../eval/tables/segment.toml")),
];

/// Half of the last published digit.
const ROUNDING: f64 = 0.005;

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
    /// The metric of all its values.
    pub metric: String,
    /// Whether a larger value is a better one.
    pub higher_is_better: bool,
    /// Column heads.
    pub columns: Vec<String>,
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

    /// Ours minus the paper's, from a pair of the two.
    pub fn difference(&self, (ours, published): (f64, f64)) -> Cell {
        let value = ours - published;
        let differs = value.abs() > ROUNDING;
        Cell::Difference { value, better: differs.then_some((value > 0.0) == self.higher_is_better) }
    }

    /// The published value of a row in a column.
    pub fn published(&self, method: &str, column: &str) -> Option<f64> {
        let index = self.columns.iter().position(|known| known == column)?;
        self.row(method)?.published.get(index).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_is_whole() -> Result<()> {
        for (name, _) in TABLES {
            let table = PaperTable::named(name)?;
            for row in &table.rows {
                assert_eq!(row.published.len(), table.columns.len(), "{name}, row {}", row.label);
            }
        }
        let masking = PaperTable::named("masking")?;
        assert_eq!(masking.published("tokenrank", "DINOv2"), Some(0.64));
        assert_eq!(masking.published("tokenrank", "none"), None);
        let better = |ours| match masking.difference((ours, 0.64)) {
            Cell::Difference { better, .. } => better,
            _ => None,
        };
        assert_eq!([0.6, 0.644, 0.7].map(better), [Some(true), None, Some(false)]);
        Ok(())
    }

    #[test]
    fn the_segmentation_table_is_whole_and_its_odd_row_is_odd() -> Result<()> {
        let table = PaperTable::named("segment")?;
        assert_eq!((table.rows.len(), table.higher_is_better), (5, true));
        // ConceptAttention's mIoU follows from its accuracy; that of no other row does.
        let follows = |row: &&PaperRow| {
            let accuracy = row.published[0] / 100.0;
            (100.0 * accuracy / (2.0 - accuracy) - row.published[1]).abs() <= ROUNDING
        };
        let odd: Vec<&str> = table.rows.iter().filter(follows).map(|row| row.method.as_str()).collect();
        assert_eq!(odd, ["concept-attention"]);
        assert!(table.rows.iter().all(|row| row.published.len() == table.columns.len()));
        Ok(())
    }
}
