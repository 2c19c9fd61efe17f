//! Tables as files that the page itself holds.

use crate::html::data_uri;
use eval::Table;

/// A file that the browser can save or the reader can copy.
pub(super) struct Download {
    pub label: &'static str,
    pub file: String,
    pub uri: String,
    /// Where it is text.
    pub text: Option<String>,
}

/// A table in every form. One that cannot be made is left out.
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
