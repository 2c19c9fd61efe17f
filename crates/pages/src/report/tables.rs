//! Tables as files that are embedded in the page.

use chain_page::html::data_uri;
use eval::Table;

/// An embedded file that the reader can save or copy.
pub(super) struct Download {
    pub label: &'static str,
    pub file: String,
    pub uri: String,
    /// Content of a text file; `None` for a binary file.
    pub text: Option<String>,
}

/// Returns a table in every file format, without formats that fail.
pub(super) fn downloads(table: &Table, name: &str) -> Vec<Download> {
    let mut all = Vec::new();
    let mut push = |label, kind: &str, mime: &str, bytes: Vec<u8>| {
        let uri = data_uri(mime, &bytes);
        let text = String::from_utf8(bytes).ok().filter(|_| kind != "parquet");
        all.push(Download { label, file: format!("{name}.{kind}"), uri, text });
    };
    push("Markdown", "md", "text/markdown;charset=utf-8", table.to_markdown().into_bytes());
    push("LaTeX", "tex", "text/x-tex;charset=utf-8", table.to_latex().into_bytes());
    if let Ok(bytes) = table.to_csv() {
        push("CSV", "csv", "text/csv;charset=utf-8", bytes);
    }
    if let Ok(bytes) = table.to_parquet() {
        push("Parquet", "parquet", "application/vnd.apache.parquet", bytes);
    }
    all
}
