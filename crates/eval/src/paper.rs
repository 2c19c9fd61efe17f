//! The paper's tables: rows, columns and published values, as data.

use serde::Deserialize;

use crate::error::{Error, Result};
use crate::table::Cell;

/// A table of the paper.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PaperTable {
    /// Heading of the table.
    pub title: String,
    /// The `[task.*]` whose runs are compared with the table.
    pub task: String,
    /// Where the values were published.
    pub source: String,
    /// What the values measure.
    pub metric: String,
    /// Column heads.
    pub columns: Vec<String>,
    /// Whether larger values are better, by column.
    higher_is_better: Vec<bool>,
    /// Number of published digits after the decimal point, by column.
    digits: Vec<i32>,
    rows: Vec<PaperRow>,
}

/// A row of the paper.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PaperRow {
    /// Key of the method of a run that is compared with the row.
    pub method: String,
    /// The paper's name for the method.
    pub label: String,
    published: Vec<f64>,
}

impl PaperTable {
    /// Reads a file of `eval/tables`.
    ///
    /// # Errors
    /// Fails if the text is not a valid table.
    pub fn read(name: &str, text: &str) -> Result<Self> {
        let path = || format!("eval/tables/{name}.toml").into();
        toml::from_str(text).map_err(|e| Error::Config { path: path(), reason: e.to_string() })
    }

    /// Checks that every row and column has a value.
    #[cfg(test)]
    pub(crate) fn check(&self) -> std::result::Result<(), String> {
        let columns = self.columns.len();
        if (self.higher_is_better.len(), self.digits.len()) != (columns, columns) {
            return Err("every column has a direction and a number of digits".into());
        }
        match self.rows.iter().find(|row| row.published.len() != columns) {
            Some(row) => {
                Err(format!("row {} has {} values for {columns} columns", row.label, row.published.len()))
            }
            None => Ok(()),
        }
    }

    /// Returns the row for a method.
    pub fn row(&self, method: &str) -> Option<&PaperRow> {
        self.rows.iter().find(|row| row.method == method)
    }

    /// Returns all rows, in the order of the paper.
    pub fn rows(&self) -> &[PaperRow] {
        &self.rows
    }

    /// Returns half of the last published digit of a column.
    pub(crate) fn rounding(&self, column: &str) -> f64 {
        let digits = self.index(column).and_then(|index| self.digits.get(index));
        digits.map_or(0.0, |digits| 0.5 * 10f64.powi(-digits))
    }

    /// Returns our value minus the paper's in a column, from the pair (ours, published).
    pub fn difference(&self, column: &str, (ours, published): (f64, f64)) -> Cell {
        let value = ours - published;
        let index = self.index(column);
        let rounding = self.rounding(column);
        let higher = index.and_then(|i| self.higher_is_better.get(i)).filter(|_| value.abs() > rounding);
        Cell::Difference { value, better: higher.map(|&higher| (value > 0.0) == higher) }
    }

    /// Formats a value with as many digits as the paper prints in this column.
    pub fn text(&self, column: &str, value: f64) -> String {
        let digits = self.index(column).and_then(|i| self.digits.get(i)).map_or(0, |&digits| digits.max(0));
        format!("{value:.*}", digits as usize)
    }

    /// Returns the published value of a row in a column.
    pub fn published(&self, method: &str, column: &str) -> Option<f64> {
        self.row(method)?.published.get(self.index(column)?).copied()
    }

    fn index(&self, column: &str) -> Option<usize> {
        self.columns.iter().position(|known| known == column)
    }
}
