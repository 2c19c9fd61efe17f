//! Names of the files of a run, and how deep below a folder runs may lie.

use std::path::{Path, PathBuf};

/// Version of the layout of a run's files; it is increased when a field changes its meaning or is removed.
pub const SCHEMA: u32 = 1;

/// The header, which identifies the run.
pub const HEADER: &str = "run.json";
/// The answers to the items.
pub const RECORDS: &str = "records.jsonl";
/// Metadata of the items' files, see [`Inputs`](crate::Inputs).
pub const INPUTS: &str = "inputs.jsonl";
/// The results; a run with this file is complete.
pub const RESULTS: &str = "results.json";
/// The combinations of a sweep, in its folder.
pub const SWEEP: &str = "sweep.json";
/// The page of the run, or of the runs below a folder.
pub const PAGE: &str = "report.html";
/// Ending of the names of lists of items, see [`items_file`].
const ITEMS: &str = "-items";
/// The folder of images that a run has generated: `pictures/METHOD/NUMBER.png`.
pub const PICTURES: &str = "pictures";

/// Number of levels below a folder in which runs are searched: experiment, `runs`, combination of a sweep, shard.
pub const DEPTH: usize = 4;

/// Returns the file beside a page with the list of all items of a run, or of the run with this number on the page.
pub fn items_file(page: &Path, run: Option<usize>) -> PathBuf {
    let stem = page.file_stem().unwrap_or_default().to_string_lossy();
    let number = run.map(|run| format!("-{run}")).unwrap_or_default();
    page.with_file_name(format!("{stem}{ITEMS}{number}.csv"))
}

/// Returns whether a file has the name of such a list beside [`PAGE`].
pub fn is_items_file(name: &str) -> bool {
    let ending = name.strip_suffix(".csv").and_then(|name| name.strip_prefix("report")?.strip_prefix(ITEMS));
    let is_number = |digits: &str| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    ending.is_some_and(|rest| rest.is_empty() || rest.strip_prefix('-').is_some_and(is_number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_beside_a_page_are_recognised() {
        let page = Path::new("runs").join(PAGE);
        for run in [None, Some(1), Some(24)] {
            let file = items_file(&page, run);
            assert!(
                file.starts_with("runs")
                    && is_items_file(&file.file_name().expect("a name").to_string_lossy())
            );
        }
        for name in
            ["report-items-.csv", "report-items-mine.csv", "report.csv", "items.csv", "report-items.csv.bak"]
        {
            assert!(!is_items_file(name), "{name}");
        }
    }
}
