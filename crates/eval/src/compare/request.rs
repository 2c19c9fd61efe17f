//! The whole of `tokenrank compare`: what is read, compared and written.

use std::path::PathBuf;

use super::baseline::{Baseline, metrics, suite};
use super::report::Report;
use super::runs::compare;
use super::snapshot::{Runs, read_runs};
use super::tolerance::{Tolerance, Tolerances};
use crate::error::{Error, Result};
use crate::files::write_whole;

/// What is to be compared, and how.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// Folder of a run, or one that holds several.
    pub result: PathBuf,
    /// A file of `eval/baselines`, or another such folder.
    pub baseline: PathBuf,
    /// What goes before the baseline's own.
    pub tolerances: Vec<Tolerance>,
    /// Only these runs; all where there are none.
    pub only: Vec<String>,
    /// Whether what is systematic is a failure.
    pub strict: bool,
    /// Whether the result becomes the baseline.
    pub update: bool,
    /// Where JUnit XML goes.
    pub junit: Option<PathBuf>,
    /// Where Markdown goes.
    pub markdown: Option<PathBuf>,
}

/// What came of it.
pub struct Answer {
    /// The comparison; none where there was nothing to compare with and the baseline is new.
    pub report: Option<Report>,
    /// What the baseline is to be made of, with the one there is.
    wanted: Option<(Runs, Tolerances, Option<Baseline>)>,
}

/// What became of a baseline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Update {
    /// There was none.
    Created,
    /// It says something else now.
    Changed,
    /// It said the same before, and was left alone.
    Unchanged,
}

impl Request {
    /// Reads both sides and compares them.
    ///
    /// # Errors
    /// A side cannot be read or has nothing that was asked for; two files to be written are one.
    pub fn answer(&self) -> Result<Answer> {
        if let (Some(junit), Some(markdown)) = (&self.junit, &self.markdown)
            && junit == markdown
        {
            return refuse(format!("--junit and --markdown are both {}; name two files", junit.display()));
        }
        let ours = self.chosen(read_runs(&self.result)?)?;
        let folder = self.baseline.is_dir();
        if self.update && folder {
            return refuse(format!(
                "--update writes a file of eval/baselines, and {} is a folder; name a .json file",
                self.baseline.display()
            ));
        }
        let known = if folder { None } else { Baseline::read(&self.baseline)? };
        let baseline = match (&known, folder) {
            (_, true) => Some(read_runs(&self.baseline)?),
            (Some(known), false) => Some(known.runs.clone()),
            (None, false) if self.update => None,
            (None, false) => {
                let reason = "there is no such baseline; --update makes it of this result".into();
                return Err(Error::Unreadable { path: self.baseline.clone(), reason });
            }
        };
        let mut tolerances =
            known.as_ref().map_or_else(Tolerances::default, |known| known.tolerances.clone());
        self.tolerances.iter().for_each(|one| tolerances.set(one));
        let nothing = Runs::new();
        let both = [&ours, baseline.as_ref().unwrap_or(&nothing)];
        if !self.tolerances.is_empty() {
            let known = both.into_iter().flat_map(metrics).collect::<Vec<_>>();
            tolerances.check(known.into_iter()).or_else(refuse)?;
        }
        let report = match &baseline {
            Some(runs) => {
                let runs = self.chosen(runs.clone())?;
                let name = known.as_ref().map_or_else(|| suite(&self.baseline), |known| known.suite.clone());
                Some(compare(&name, &ours, &runs, &tolerances, self.strict))
            }
            None => None,
        };
        let wanted = self.update.then_some((ours, tolerances, known));
        Ok(Answer { report, wanted })
    }

    /// Writes what is to be written of an answer. Returns what became of the baseline; none where nothing was to.
    ///
    /// # Errors
    /// A file cannot be written, or the result is no baseline.
    pub fn write(&self, answer: Answer) -> Result<Option<Update>> {
        if let Some(report) = &answer.report {
            self.export(report)?;
        }
        answer.wanted.map(|(ours, tolerances, known)| self.update(ours, tolerances, known)).transpose()
    }

    /// Those of the runs that were asked for.
    fn chosen(&self, mut runs: Runs) -> Result<Runs> {
        if let Some(name) = self.only.iter().find(|name| !runs.contains_key(*name)) {
            let known: Vec<&str> = runs.keys().map(String::as_str).collect();
            return refuse(format!("--only {name}: there is no such run; there are {}", known.join(", ")));
        }
        runs.retain(|name, _| self.only.is_empty() || self.only.contains(name));
        Ok(runs)
    }

    fn export(&self, report: &Report) -> Result<()> {
        if let Some(path) = &self.junit {
            let xml = report.to_junit().map_err(|reason| Error::Export { path: path.clone(), reason })?;
            write_whole(path, xml.as_bytes())?;
        }
        if let Some(path) = &self.markdown {
            write_whole(path, report.to_markdown(false).as_bytes())?;
        }
        Ok(())
    }

    /// Makes the result the baseline.
    fn update(&self, ours: Runs, tolerances: Tolerances, known: Option<Baseline>) -> Result<Update> {
        if let Some((name, run)) = ours.iter().find(|(_, run)| !run.failed.is_empty()) {
            let reason = format!(
                "{} items of the run {name} could not be read, so it is no baseline; mend them and run it again",
                run.failed.len()
            );
            return Err(Error::Unreadable { path: self.result.clone(), reason });
        }
        let mut baseline = Baseline::new(&self.baseline, ours, tolerances);
        // A metric that has gone takes its tolerance along.
        let names: Vec<(String, String)> =
            metrics(&baseline.runs).map(|(run, metric)| (run.to_owned(), metric.to_owned())).collect();
        baseline.tolerances.keep_only(names.iter().map(|(run, metric)| (&**run, &**metric)));
        let Some(known) = known else {
            baseline.write(&self.baseline)?;
            return Ok(Update::Created);
        };
        baseline.suite = known.suite.clone();
        baseline.command = baseline.command.or_else(|| known.command.clone());
        if baseline.agrees(&known) {
            return Ok(Update::Unchanged);
        }
        baseline.write(&self.baseline)?;
        Ok(Update::Changed)
    }
}

fn refuse<T>(reason: String) -> Result<T> {
    Err(Error::Compare { reason })
}
