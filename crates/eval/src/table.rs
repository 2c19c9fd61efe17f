//! The table of a run: on the terminal, as Markdown, CSV, LaTeX and Parquet. The only module that uses polars.

mod latex;

use std::path::Path;

use comfy_table::{CellAlignment, Color, TableComponent, presets};
use models::escape;
use polars::prelude::{Column, CsvWriter, DataFrame, ParquetWriter, PolarsError, SerWriter};

use crate::error::{Error, Result};
use crate::metrics::significance::PValue;
use runs::files::write_whole;

/// A table with columns of labels and columns of numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    /// Heading.
    pub title: String,
    /// Heads of the label columns.
    pub labels: Vec<String>,
    /// Heads of the number columns.
    pub columns: Vec<String>,
    /// The rows, each with as many labels and cells as there are heads.
    pub rows: Vec<Row>,
    /// Notes below the table.
    pub notes: Vec<String>,
}

/// Labels and numbers of a row.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Labels of the row.
    pub labels: Vec<String>,
    /// Numbers of the row.
    pub cells: Vec<Cell>,
}

/// A number and how it is shown.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Cell {
    /// No number.
    Empty,
    /// A number with three digits after the decimal point.
    Value(f64),
    /// A number with five digits after the decimal point.
    Fine(f64),
    /// Like [`Cell::Value`], and the best of its row or column.
    Best(f64),
    /// Like [`Cell::Fine`], and the best of its row or column.
    FineBest(f64),
    /// A whole number.
    Count(usize),
    /// Our value minus the paper's, with its sign.
    Difference {
        /// The difference.
        value: f64,
        /// Whether ours is better; `None` if the two agree to the published digits.
        better: Option<bool>,
    },
    /// A p value.
    P(PValue),
    /// Like [`Cell::Difference`], with five digits.
    FineDifference {
        /// The difference.
        value: f64,
        /// Whether the first is better; `None` if neither is.
        better: Option<bool>,
    },
}

impl From<Option<f64>> for Cell {
    fn from(value: Option<f64>) -> Self {
        value.map_or(Self::Empty, Self::Value)
    }
}

impl Cell {
    /// Returns the number.
    pub fn value(self) -> Option<f64> {
        match self {
            Self::Empty => None,
            Self::Value(value)
            | Self::Fine(value)
            | Self::Best(value)
            | Self::FineBest(value)
            | Self::Difference { value, .. }
            | Self::FineDifference { value, .. } => Some(value),
            Self::Count(count) => Some(count as f64),
            Self::P(p) => Some(p.value()),
        }
    }

    /// Formats the number as tables show it.
    pub fn text(self) -> String {
        match self {
            Self::Empty => "–".into(),
            Self::Value(value) | Self::Best(value) => format!("{value:.3}"),
            Self::Fine(value) | Self::FineBest(value) => format!("{value:.5}"),
            Self::Count(count) => count.to_string(),
            Self::P(p) => p.to_string(),
            Self::Difference { value, .. } => format!("{value:+.3}"),
            Self::FineDifference { value, .. } => format!("{value:+.5}"),
        }
    }

    /// Returns whether the first of two methods is better; `None` if neither is, or if the cell is not a difference.
    pub fn better(self) -> Option<bool> {
        match self {
            Self::Difference { better, .. } | Self::FineDifference { better, .. } => better,
            Self::Empty
            | Self::Value(_)
            | Self::Fine(_)
            | Self::Count(_)
            | Self::P(_)
            | Self::Best(_)
            | Self::FineBest(_) => None,
        }
    }

    /// Returns whether the number is the best of its row.
    pub fn is_best(self) -> bool {
        match self {
            Self::Best(_) | Self::FineBest(_) => true,
            Self::Empty
            | Self::Value(_)
            | Self::Fine(_)
            | Self::Count(_)
            | Self::P(_)
            | Self::Difference { .. }
            | Self::FineDifference { .. } => false,
        }
    }

    fn color(self) -> Option<Color> {
        match self.better() {
            Some(true) => Some(Color::Green),
            Some(false) => Some(Color::Red),
            None => self.is_best().then_some(Color::Green),
        }
    }
}

impl Table {
    /// Formats of [`Table::export`], as the extensions of its files.
    const FORMATS: [&str; 4] = ["md", "csv", "tex", "parquet"];

    /// Formats the table for the terminal; with `color`, differences and the best of a row are highlighted.
    pub fn to_text(&self, color: bool) -> String {
        let escaped = self.escaped(|text| escape::line(text).into_owned());
        escaped.render(presets::UTF8_NO_BORDERS, "", |cell| {
            let text = comfy_table::Cell::new(cell.text());
            match cell.color() {
                Some(shade) if color => text.fg(shade),
                _ => text,
            }
        })
    }

    /// Formats the table as Markdown; the best of a row is bold.
    pub fn to_markdown(&self) -> String {
        self.escaped(escape::markdown).render(presets::ASCII_MARKDOWN, "\n", |cell| {
            let text = cell.text();
            comfy_table::Cell::new(if cell.is_best() { format!("**{text}**") } else { text })
        })
    }

    /// Returns the table with all texts escaped.
    fn escaped(&self, escape: impl Fn(&str) -> String) -> Self {
        let all = |texts: &[String]| texts.iter().map(|text| escape(text)).collect();
        let row = |row: &Row| Row { labels: all(&row.labels), cells: row.cells.clone() };
        Self {
            title: escape(&self.title),
            labels: all(&self.labels),
            columns: all(&self.columns),
            rows: self.rows.iter().map(row).collect(),
            notes: all(&self.notes),
        }
    }

    fn render(&self, preset: &str, gap: &str, cell: impl Fn(Cell) -> comfy_table::Cell) -> String {
        let mut table = comfy_table::Table::new();
        // The caller decides about colours, not the environment of the process.
        table.load_preset(preset).enforce_styling();
        table.set_header(self.labels.iter().chain(&self.columns));
        for Row { labels, cells } in &self.rows {
            let labels = labels.iter().map(comfy_table::Cell::new);
            table.add_row(labels.chain(cells.iter().map(|&number| cell(number))));
        }
        table.remove_style(TableComponent::HorizontalLines);
        table.remove_style(TableComponent::MiddleIntersections);
        for column in table.column_iter_mut().skip(self.labels.len()) {
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

    /// Formats the table as LaTeX in the style of booktabs, never wider than the text; the best is bold. It needs
    /// `\\usepackage{booktabs,graphicx}` and compiles with pdfLaTeX: characters that it cannot set appear as code points.
    pub fn to_latex(&self) -> String {
        latex::table(self)
    }

    /// Formats the table as CSV, with all digits of the numbers.
    ///
    /// # Errors
    /// Fails if two columns have the same name.
    pub fn to_csv(&self) -> Result<Vec<u8>> {
        let failed = |e: PolarsError| Error::Export { path: "table.csv".into(), reason: e.to_string() };
        let mut bytes = Vec::new();
        let mut frame = self.escaped(|text| escape::csv(text).into_owned()).frame().map_err(failed)?;
        CsvWriter::new(&mut bytes).finish(&mut frame).map_err(failed)?;
        Ok(bytes)
    }

    /// Encodes the table as Parquet, with all digits of the numbers.
    ///
    /// # Errors
    /// Fails if two columns have the same name.
    pub fn to_parquet(&self) -> Result<Vec<u8>> {
        let failed = |e: PolarsError| Error::Export { path: "table.parquet".into(), reason: e.to_string() };
        let mut bytes = Vec::new();
        ParquetWriter::new(&mut bytes).finish(&mut self.frame().map_err(failed)?).map_err(failed)?;
        Ok(bytes)
    }

    /// Returns the names of the files of a table, see [`Table::export`].
    pub(crate) fn files(name: &str) -> [String; 4] {
        Self::FORMATS.map(|format| format!("{name}.{format}"))
    }

    /// Writes `{name}.md`, `{name}.csv`, `{name}.tex` and `{name}.parquet` to a folder.
    ///
    /// # Errors
    /// Fails if a file cannot be written.
    pub fn export(&self, folder: &Path, name: &str) -> Result<()> {
        let write = |kind: &str, bytes: &[u8]| write_whole(&folder.join(format!("{name}.{kind}")), bytes);
        write("md", self.to_markdown().as_bytes())?;
        write("csv", &self.to_csv()?)?;
        write("tex", self.to_latex().as_bytes())?;
        Ok(write("parquet", &self.to_parquet()?)?)
    }

    fn frame(&self) -> Result<DataFrame, PolarsError> {
        let mut columns = Vec::new();
        for (i, head) in self.labels.iter().enumerate() {
            let labels: Vec<Option<&str>> =
                self.rows.iter().map(|row| row.labels.get(i).map(String::as_str)).collect();
            columns.push(Column::new(head.as_str().into(), labels));
        }
        for (i, head) in self.unique_columns().into_iter().enumerate() {
            let values: Vec<Option<f64>> =
                self.rows.iter().map(|row| row.cells.get(i).and_then(|cell| cell.value())).collect();
            columns.push(Column::new(head.as_str().into(), values));
        }
        DataFrame::new(self.rows.len(), columns)
    }

    /// Returns unique heads of the number columns: a repeated head (`paper`, next to each of ours) is prefixed with the last
    /// head that is not repeated (`ViT, paper`).
    fn unique_columns(&self) -> Vec<String> {
        let mut names = Vec::new();
        let mut group = "";
        for head in &self.columns {
            if self.columns.iter().filter(|other| *other == head).count() > 1 {
                names.push(format!("{group}, {head}"));
            } else {
                group = head;
                names.push(head.clone());
            }
        }
        names
    }
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::{Cell, Row, Table};

    fn row(label: &str, cells: [Cell; 3]) -> Row {
        Row { labels: vec![label.into()], cells: cells.to_vec() }
    }

    fn difference(value: f64, better: Option<bool>) -> Cell {
        Cell::Difference { value, better }
    }

    fn table() -> Table {
        Table {
            title: "Masking".into(),
            labels: vec!["tokens masked by".into()],
            columns: vec!["AUC ↓".into(), "paper, ViT".into(), "Δ".into()],
            rows: vec![
                row("Random", [Cell::Value(0.8376), Cell::Value(0.79), difference(0.0476, Some(false))]),
                row("Center", [Cell::Value(0.3321), Cell::Value(0.33), difference(0.0021, None)]),
                row("TokenRank, λ₂", [Cell::Best(0.2), Cell::Empty, difference(-0.06, Some(true))]),
            ],
            notes: vec!["500 images.".into(), "Paper: compare orderings.".into()],
        }
    }

    #[test]
    fn on_the_terminal() {
        assert_snapshot!(table().to_text(false), @r"
Masking
 tokens masked by ┆ AUC ↓ ┆ paper, ViT ┆      Δ 
══════════════════╪═══════╪════════════╪════════
 Random           ┆ 0.838 ┆      0.790 ┆ +0.048 
 Center           ┆ 0.332 ┆      0.330 ┆ +0.002 
 TokenRank, λ₂    ┆ 0.200 ┆          – ┆ -0.060 
500 images.
Paper: compare orderings.
");
    }

    #[test]
    fn colours_are_only_used_if_requested() {
        let (plain, colored) = (table().to_text(false), table().to_text(true));
        assert!(!plain.contains('\u{1b}'));
        let lines: Vec<&str> = colored.lines().filter(|line| line.contains('\u{1b}')).collect();
        assert!(
            lines[0].contains("Random") && lines[1].contains("TokenRank") && lines.len() == 2,
            "{colored}"
        );
    }

    #[test]
    fn as_markdown() {
        assert_snapshot!(table().to_markdown(), @r"
Masking

| tokens masked by |     AUC ↓ | paper, ViT |      Δ |
|------------------|-----------|------------|--------|
| Random           |     0.838 |      0.790 | +0.048 |
| Center           |     0.332 |      0.330 | +0.002 |
| TokenRank, λ₂    | **0.200** |          – | -0.060 |

500 images.

Paper: compare orderings.
");
    }

    #[test]
    fn special_characters_do_not_break_a_row_of_markdown() {
        let mut table = table();
        table.title = "a\nb".into();
        table.rows.truncate(1);
        table.rows[0].labels[0] = "x|y\nz".into();
        assert_snapshot!(table.to_markdown(), @r"
a\\nb

| tokens masked by | AUC ↓ | paper, ViT |      Δ |
|------------------|-------|------------|--------|
| x\|y\\nz         | 0.838 |      0.790 | +0.048 |

500 images.

Paper: compare orderings.
");
    }

    #[test]
    fn columns_of_a_file_have_unique_names() {
        let heads = ["ViT", "paper", "Δ", "CLIP", "paper", "Δ"].map(String::from).to_vec();
        let table = Table { columns: heads, ..table() };
        assert_eq!(table.unique_columns(), ["ViT", "ViT, paper", "ViT, Δ", "CLIP", "CLIP, paper", "CLIP, Δ"]);
    }

    #[test]
    fn as_csv() {
        let folder = tempfile::tempdir().unwrap();
        table().export(folder.path(), "table").unwrap();
        assert_snapshot!(std::fs::read_to_string(folder.path().join("table.csv")).unwrap(), @r#"
tokens masked by,AUC ↓,"paper, ViT",Δ
Random,0.8376,0.79,0.0476
Center,0.3321,0.33,0.0021
"TokenRank, λ₂",0.2,,-0.06
"#);
    }
}
