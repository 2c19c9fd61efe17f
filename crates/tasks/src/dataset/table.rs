//! A CSV file with named columns.

use std::io::Cursor;
use std::path::Path;

use models::limits::{TABLE_BYTES, read_bytes};

use crate::error::{Error, Result, missing};

/// A table with a header line. Its errors name the file and the line.
pub(super) struct Table<'a> {
    path: &'a Path,
    reader: csv::Reader<Cursor<Vec<u8>>>,
    headers: csv::StringRecord,
}

/// One line of a [`Table`].
pub(super) struct Row {
    /// Number of the line in the file, from 1.
    pub line: u64,
    cells: csv::StringRecord,
}

impl<'a> Table<'a> {
    /// Opens a table. `holds` describes its content for the error about a missing file; it continues the words "it
    /// lists".
    pub(super) fn open(path: &'a Path, holds: &str) -> Result<Self> {
        let refuse = |reason: String| Error::Dataset { path: path.into(), reason };
        if !path.is_file() {
            return Err(missing(path, &format!("no such file; it lists {holds}")));
        }
        let unreadable = |e: csv::Error| refuse(format!("cannot be read: {e}"));
        let bytes =
            read_bytes(path, TABLE_BYTES).map_err(|error| refuse(format!("cannot be read: {error}")))?;
        let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(Cursor::new(bytes));
        let headers = reader.headers().map_err(unreadable)?.clone();
        Ok(Self { path, reader, headers })
    }

    /// Returns the position of a required column.
    pub(super) fn column(&self, name: &str) -> Result<usize> {
        self.optional(name).ok_or_else(|| {
            let headers: Vec<_> = self.headers.iter().collect();
            self.refuse(format!("has no column `{name}`; its columns are `{}`", headers.join("`, `")))
        })
    }

    /// Returns the position of an optional column.
    pub(super) fn optional(&self, name: &str) -> Option<usize> {
        self.headers.iter().position(|header| header == name)
    }

    /// Reads all lines after the header.
    pub(super) fn rows(&mut self) -> Result<Vec<Row>> {
        let row = |cells: csv::Result<csv::StringRecord>| match cells {
            Ok(cells) => Ok(Row { line: cells.position().map_or(0, csv::Position::line), cells }),
            Err(e) => Err(Error::Dataset { path: self.path.into(), reason: format!("cannot be read: {e}") }),
        };
        self.reader.records().map(row).collect()
    }

    /// Returns an error about the table.
    pub(super) fn refuse(&self, reason: String) -> Error {
        Error::Dataset { path: self.path.into(), reason }
    }
}

impl Row {
    /// Returns the text of a cell, which may be empty.
    pub(super) fn cell(&self, column: usize) -> &str {
        self.cells.get(column).unwrap_or_default()
    }

    /// Returns the text of a cell that may be empty, in a column that may be missing.
    pub(super) fn optional(&self, column: Option<usize>) -> Option<&str> {
        column.map(|column| self.cell(column)).filter(|text| !text.is_empty())
    }
}
