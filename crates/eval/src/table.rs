//! The table of a run: on the terminal, as Markdown, CSV and Parquet. The only module that knows polars.

use std::fs::File;
use std::path::Path;

use comfy_table::{CellAlignment, TableComponent, presets};
use polars::prelude::{Column, CsvWriter, DataFrame, ParquetWriter, SerWriter};

use crate::error::{Error, Result};

/// A table with a column of labels and columns of numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    /// Heading.
    pub title: String,
    /// Head of the labels.
    pub label: String,
    /// Heads of the numbers.
    pub columns: Vec<String>,
    /// Label and numbers of each row; none is an empty cell.
    pub rows: Vec<(String, Vec<Option<f64>>)>,
    /// What a reader must know, below the table.
    pub notes: Vec<String>,
}

impl Table {
    /// For the terminal.
    pub fn to_text(&self) -> String {
        self.render(presets::UTF8_NO_BORDERS, "")
    }

    /// As Markdown.
    pub fn to_markdown(&self) -> String {
        self.render(presets::ASCII_MARKDOWN, "\n")
    }

    fn render(&self, preset: &str, gap: &str) -> String {
        let mut table = comfy_table::Table::new();
        table.load_preset(preset);
        table.set_header(std::iter::once(&self.label).chain(&self.columns));
        for (label, values) in &self.rows {
            let number =
                |value: &Option<f64>| value.map_or_else(|| "–".into(), |value| format!("{value:.3}"));
            table.add_row(std::iter::once(label.clone()).chain(values.iter().map(number)));
        }
        table.remove_style(TableComponent::HorizontalLines);
        table.remove_style(TableComponent::MiddleIntersections);
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        let mut text = format!("{}\n{gap}{table}\n{gap}", self.title);
        for note in &self.notes {
            text.push_str(note);
            text.push('\n');
            text.push_str(gap);
        }
        text
    }

    /// Writes `table.csv` and `table.parquet` to a folder.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn export(&self, folder: &Path) -> Result<()> {
        let labels: Vec<&str> = self.rows.iter().map(|(label, _)| label.as_str()).collect();
        let mut columns = vec![Column::new(self.label.as_str().into(), labels)];
        for (i, head) in self.columns.iter().enumerate() {
            let values: Vec<Option<f64>> =
                self.rows.iter().map(|(_, values)| values.get(i).copied().flatten()).collect();
            columns.push(Column::new(head.as_str().into(), values));
        }
        let csv = folder.join("table.csv");
        let parquet = folder.join("table.parquet");
        let failed = |path: &Path, e: &dyn std::fmt::Display| Error::Export {
            path: path.into(),
            reason: e.to_string(),
        };
        let mut frame = DataFrame::new(self.rows.len(), columns).map_err(|e| failed(&csv, &e))?;
        let mut file = File::create(&csv).map_err(Error::file("write", &csv))?;
        CsvWriter::new(&mut file).finish(&mut frame).map_err(|e| failed(&csv, &e))?;
        let file = File::create(&parquet).map_err(Error::file("write", &parquet))?;
        ParquetWriter::new(file).finish(&mut frame).map_err(|e| failed(&parquet, &e))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::Table;

    fn table() -> Table {
        Table {
            title: "Masking".into(),
            label: "tokens masked by".into(),
            columns: vec!["AUC ↓".into(), "paper, ViT".into()],
            rows: vec![
                ("Random".into(), vec![Some(0.8376), Some(0.79)]),
                ("TokenRank, λ₂".into(), vec![Some(1.0), None]),
            ],
            notes: vec!["500 images.".into(), "Paper: compare orderings.".into()],
        }
    }

    #[test]
    fn on_the_terminal() {
        assert_snapshot!(table().to_text(), @r"
Masking
 tokens masked by ┆ AUC ↓ ┆ paper, ViT 
══════════════════╪═══════╪════════════
 Random           ┆ 0.838 ┆      0.790 
 TokenRank, λ₂    ┆ 1.000 ┆          – 
500 images.
Paper: compare orderings.
");
    }

    #[test]
    fn as_markdown() {
        assert_snapshot!(table().to_markdown(), @r"
Masking

| tokens masked by | AUC ↓ | paper, ViT |
|------------------|-------|------------|
| Random           | 0.838 |      0.790 |
| TokenRank, λ₂    | 1.000 |          – |

500 images.

Paper: compare orderings.
");
    }

    #[test]
    fn as_csv() {
        let folder = tempfile::tempdir().unwrap();
        table().export(folder.path()).unwrap();
        assert_snapshot!(std::fs::read_to_string(folder.path().join("table.csv")).unwrap(), @r#"
tokens masked by,AUC ↓,"paper, ViT"
Random,0.8376,0.79
"TokenRank, λ₂",1.0,
"#);
    }
}
