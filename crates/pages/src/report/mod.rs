//! `tokenrank report`: one HTML file from the finished runs of a folder.
//!
//! The page contains everything that it shows. Tables work without the script, which sorts, filters, pages and draws the
//! cross-hair of curves. Images are data URIs up to a budget; the page names those left out.

mod board;
mod budget;
mod images;
mod items;
mod links;
mod markup;
mod recipe;
mod run;
mod svg;
mod sweep;
mod tables;
mod thumbnails;
mod values;

use std::io::Read;
use std::path::{Path, PathBuf};

use budget::Budget;
use eval::RunFolder;
use eval::Table;
use eval::is_file_of_run;
use eval::paper_tables;
use eval::{Error, Result};
use links::Links;
use models::escape;
use models::escape::text as plain;
use run::Run;
use runs::FolderLocks;
use runs::files::write_whole;
use runs::layout::{PAGE, RESULTS, items_file};
use sweep::SweepView;

/// Maximum number of runs shown in full; further runs appear only in the overview.
const IN_FULL: usize = 24;

/// A page that was written.
#[derive(Debug)]
pub struct ReportPage {
    /// Path of the page.
    pub path: PathBuf,
    /// Size in bytes.
    pub bytes: usize,
    /// Number of runs on the page.
    pub runs: usize,
    /// Folders of unfinished runs, which are not on the page.
    pub unfinished: Vec<PathBuf>,
    /// Lists of all items of runs that have more than fit on the page, CSV files beside it.
    pub lists: Vec<PathBuf>,
}

/// Writes the page of the finished runs in `dir`, which is a run or a folder of runs, to `out`, by default `report.html` in `dir`.
/// The page names unfinished runs. If a run has more items than fit, the list of all is written beside the page (`report-items.csv`,
/// or `report-items-K.csv` for run K of several).
///
/// # Errors
/// Fails if `dir` has no finished run, a run is damaged, or the page cannot be written.
pub fn report(dir: &Path, out: Option<&Path>) -> Result<ReportPage> {
    let path = out.map_or_else(|| dir.join(PAGE), Path::to_path_buf);
    if path.is_dir() {
        let reason = "is a folder; give the name of a file, such as report.html".to_owned();
        return Err(Error::Export { path, reason });
    }
    if out.is_none() && path.exists() && !is_page(&path) {
        let files = vec![PAGE.to_owned()];
        return Err(runs::Error::Foreign { path: dir.into(), files, more: 0 }.into());
    }
    if is_file_of_run(&path, dir) {
        let reason = format!("{} is a file of a run; name another one", path.display());
        return Err(Error::Option { option: "out", reason });
    }
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // A page in the folder of a finished run is one of its files: whoever starts the run over removes it.
    let finished = folder.join(RESULTS).exists().then(|| folder.to_path_buf());
    let _locks = FolderLocks::take(finished)?;
    let (folders, unfinished) = RunFolder::find_finished(dir)?;
    let links = Links::from(folder)?;
    let page = Page::of(dir, &path, (&folders, &unfinished), &links)?;
    let html = page.to_html();
    let lists = page.runs.into_iter().filter_map(|run| run.items.list);
    let lists: Vec<(PathBuf, Vec<u8>)> = lists.map(|list| (list.path, list.bytes)).collect();
    if let Some((path, _)) = lists.iter().find(|(path, _)| path.exists() && !begins(path).starts_with(LIST)) {
        let reason =
            "exists and is not a list of items of this program; move it or choose another page".to_owned();
        return Err(Error::Export { path: path.clone(), reason });
    }
    lists.iter().try_for_each(|(path, bytes)| write_whole(path, bytes))?;
    write_whole(&path, escape::text(&html).as_bytes())?;
    let lists = lists.into_iter().map(|(path, _)| path).collect();
    Ok(ReportPage { path, bytes: html.len(), runs: folders.len(), unfinished, lists })
}

/// First names of columns of a list of items.
const LIST: &str = "item,failed,line,";

/// Whether a file is a page of this program.
fn is_page(path: &Path) -> bool {
    begins(path).contains(" · tokenrank report</title>")
}

/// Returns the beginning of a file; empty if it cannot be read.
fn begins(path: &Path) -> String {
    let beginning = || -> std::io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        std::fs::File::open(path)?.take(1 << 16).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    String::from_utf8_lossy(&beginning().unwrap_or_default()).into_owned()
}

/// Content of the page.
struct Page {
    title: String,
    /// A row for every run, shown in full or not.
    overview: Vec<Overview>,
    /// Tables of the paper that several runs fill.
    together: Vec<Table>,
    sweeps: Vec<SweepView>,
    /// Rankings of the methods of several runs.
    boards: Vec<Table>,
    runs: Vec<Run>,
    /// Names and links of runs that have not finished.
    unfinished: Vec<(String, String)>,
}

/// Row of the overview.
struct Overview {
    name: String,
    title: String,
    task: &'static str,
    items: u64,
    failed: usize,
    /// Metric, method and value of the best method.
    best: Option<(String, String, String)>,
    /// Link to its folder.
    href: String,
}

impl Page {
    /// Makes the page at `path` of finished and unfinished runs.
    fn of(
        dir: &Path,
        path: &Path,
        (folders, unfinished): (&[RunFolder], &[PathBuf]),
        links: &Links,
    ) -> Result<Self> {
        let mut budget = Budget::default();
        let below =
            |path: &Path| plain(&path.strip_prefix(dir).unwrap_or(path).display().to_string()).into_owned();
        let name = |folder: &RunFolder| {
            let below = below(&folder.path);
            if below.is_empty() { plain(folder.name()).into_owned() } else { below }
        };
        let sweeps = SweepView::find(dir, folders, links, &mut budget)?;
        let shown = folders.len().min(IN_FULL);
        let list = |index: usize| match folders {
            [_] => items_file(path, None),
            _ => items_file(path, Some(index + 1)),
        };
        let runs = folders.iter().take(shown).enumerate().map(|(index, folder)| {
            Run::of(name(folder), folder, links, &mut budget, (list(index), shown - index))
        });
        let runs = runs.collect::<Result<Vec<_>>>()?;
        let overview = folders.iter().map(|folder| Overview::of(name(folder), folder, links));
        let by_name: Vec<_> = folders.iter().map(|folder| (name(folder), folder)).collect();
        let named: Vec<_> = folders.iter().map(|folder| (folder.name(), &folder.results)).collect();
        let title = match folders {
            [only] => plain(&only.results.experiment.title).into_owned(),
            _ => {
                let full = std::fs::canonicalize(dir).unwrap_or_else(|_| dir.to_path_buf());
                plain(&full.file_name().unwrap_or(full.as_os_str()).to_string_lossy()).into_owned()
            }
        };
        Ok(Self {
            title,
            overview: overview.collect(),
            together: paper_tables(&named).into_iter().map(|(_, table)| table).collect(),
            sweeps,
            boards: board::boards(&by_name)?,
            runs,
            unfinished: unfinished.iter().map(|path| (below(path), links.to(path))).collect(),
        })
    }

    fn to_html(&self) -> String {
        markup::page(self).into_string()
    }
}

impl Overview {
    fn of(name: String, folder: &RunFolder, links: &Links) -> Self {
        let results = &folder.results;
        Self {
            name,
            title: plain(&results.experiment.title).into_owned(),
            task: results.experiment.task.name(),
            items: results.items,
            failed: results.failed.len(),
            best: values::best(results),
            href: links.to(&folder.path),
        }
    }
}

#[cfg(test)]
mod tests;
