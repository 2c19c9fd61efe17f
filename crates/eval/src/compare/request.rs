//! `tokenrank compare`: reads both sides, compares them and writes the outputs.

use std::path::{Path, PathBuf};

use models::files;

use super::baseline::{Baseline, metrics, suite};
use super::comparison::compare;
use super::report::Report;
use super::snapshot::{Measured, Runs, Snapshot, read_runs};
use super::tolerance::{DEFAULT, Tolerance, Tolerances};
use super::update::{Update, merged};
use crate::error::{Error, Result};
use crate::execute::is_file_of_run;
use runs::files::write_whole;

/// Maximum number of undefined values that a message names.
const MOST_NAMED: usize = 4;

/// What to compare, and how.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// Folder of a run, or a folder that contains several.
    pub result: PathBuf,
    /// A file of `eval/baselines`, or another folder of runs.
    pub baseline: PathBuf,
    /// Tolerances that replace those of the baseline.
    pub tolerances: Vec<Tolerance>,
    /// Compare only these runs; all if empty.
    pub only: Vec<String>,
    /// Whether systematic differences fail.
    pub strict: bool,
    /// Whether the result is written to the baseline.
    pub update: bool,
    /// Whether an update removes runs from the baseline that the result does not have.
    pub prune: bool,
    /// File to write JUnit XML to.
    pub junit: Option<PathBuf>,
    /// File to write Markdown to.
    pub markdown: Option<PathBuf>,
}

/// The outcome of a request.
pub struct Answer {
    /// The comparison; `None` if the baseline is new, so that there is nothing to compare with.
    pub report: Option<Report>,
    /// The new baseline, if one is to be written.
    wanted: Option<Wanted>,
}

/// What to make a baseline of.
struct Wanted {
    ours: Runs,
    tolerances: Tolerances,
    known: Option<Baseline>,
}

impl Request {
    /// Reads both sides and compares them.
    ///
    /// # Errors
    /// Fails if a side cannot be read or has none of the requested runs, or if an output is another one or an input.
    pub fn answer(&self) -> Result<Answer> {
        self.check_outputs()?;
        let ours = self.chosen(read_runs(&self.result)?)?;
        let folder = self.baseline.is_dir();
        if self.update && folder {
            let baseline = self.baseline.display();
            let reason = format!("a baseline is a file, and {baseline} is a folder; name a .json file");
            return Err(Error::Option { option: "update", reason });
        }
        let known = if folder { None } else { Baseline::read(&self.baseline)? };
        let baseline = match (&known, folder) {
            (_, true) => Some(read_runs(&self.baseline)?),
            (Some(known), false) => Some(known.runs.clone()),
            (None, false) if self.update => None,
            (None, false) => {
                let reason = "there is no such baseline".into();
                return Err(Error::Baseline { path: self.baseline.clone(), reason });
            }
        };
        let mut tolerances = match &known {
            Some(known) => known.tolerances.clone(),
            // A default from the command line holds for every metric.
            None if self.tolerances.iter().any(|one| one.metric == DEFAULT) => Tolerances::default(),
            None => Tolerances::for_runs(baseline.as_ref().unwrap_or(&ours)),
        };
        self.tolerances.iter().for_each(|one| tolerances.set(one));
        let nothing = Runs::new();
        let both = [&ours, baseline.as_ref().unwrap_or(&nothing)];
        if !self.tolerances.is_empty() {
            let known = both.into_iter().flat_map(metrics).collect::<Vec<_>>();
            tolerances.check(known.into_iter()).or_else(refuse)?;
        }
        let report = match &baseline {
            Some(runs) => {
                // A requested run may be new to the baseline that is updated.
                let runs = if self.update { self.only_of(runs.clone()) } else { self.chosen(runs.clone())? };
                let name = known.as_ref().map_or_else(|| suite(&self.baseline), |known| known.suite.clone());
                Some(compare(&name, &ours, &runs, &tolerances, self.strict))
            }
            None => None,
        };
        let wanted = self.update.then_some(Wanted { ours, tolerances, known });
        Ok(Answer { report, wanted })
    }

    /// Writes the requested outputs. Returns what changed in the baseline; `None` if no update was requested.
    ///
    /// # Errors
    /// Fails if a file cannot be written, or if the result cannot be a baseline.
    pub fn write(&self, answer: Answer) -> Result<Option<Update>> {
        if let Some(report) = &answer.report {
            self.export(report)?;
        }
        answer.wanted.map(|wanted| self.update(wanted)).transpose()
    }

    /// Refuses an output that is another output or an input by this or another name.
    fn check_outputs(&self) -> Result<()> {
        let refuse = |option, path: &Path, what: &str| {
            let reason = format!("{} is {what}; name another file", path.display());
            Err(Error::Option { option, reason })
        };
        if let (Some(junit), Some(markdown)) = (&self.junit, &self.markdown)
            && (junit == markdown || files::input_at(junit, [&**markdown]).is_some())
        {
            return refuse("junit", junit, "where the Markdown is to go as well");
        }
        for (option, path) in [("junit", &self.junit), ("markdown", &self.markdown)] {
            let Some(path) = path else { continue };
            if *path == self.baseline
                || (self.baseline.is_file() && files::input_at(path, [&*self.baseline]).is_some())
            {
                return refuse(option, path, "the baseline");
            }
            for folder in [&self.result, &self.baseline] {
                if is_file_of_run(path, folder) {
                    return refuse(option, path, "a file of a run");
                }
            }
        }
        Ok(())
    }

    /// Returns the requested runs.
    fn chosen(&self, runs: Runs) -> Result<Runs> {
        if let Some(name) = self.only.iter().find(|name| !runs.contains_key(*name)) {
            let known: Vec<&str> = runs.keys().map(String::as_str).collect();
            let reason = format!("there is no run {name}; there are {}", known.join(", "));
            return Err(Error::Option { option: "only", reason });
        }
        Ok(self.only_of(runs))
    }

    fn only_of(&self, mut runs: Runs) -> Runs {
        runs.retain(|name, _| self.only.is_empty() || self.only.contains(name));
        runs
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

    /// Writes the result to the baseline.
    fn update(&self, wanted: Wanted) -> Result<Update> {
        let Wanted { ours, tolerances, known } = wanted;
        if let Some((name, run)) = ours.iter().find(|(_, run)| !run.failed.is_empty()) {
            let reason = format!(
                "{} items of the run {name} could not be answered, so the run cannot be a baseline; fix these items and run it again",
                run.failed.len()
            );
            return Err(Error::unreadable(&self.result, reason));
        }
        if let Some((name, undefined)) = ours.iter().find_map(|(name, run)| Some((name, undefined(run)?))) {
            let reason = format!(
                "the run {name} cannot be a baseline: undefined values ({undefined}) cannot be compared with; give the run more \
                 items, or settings for which every value is defined"
            );
            return Err(Error::unreadable(&self.result, reason));
        }
        let (baseline, update) = merged(&self.baseline, ours, tolerances, known.clone(), self.prune);
        if update.is_written() {
            baseline.write(&self.baseline, known.as_ref())?;
        }
        Ok(update)
    }
}

/// Returns the names of a run's undefined values, the first few of them; `None` if every value is defined.
fn undefined(run: &Snapshot) -> Option<String> {
    let is_undefined = |value: &&Measured| value.value.is_none_or(|value| !value.is_finite());
    let names: Vec<String> = run.values.iter().filter(is_undefined).map(Measured::name).collect();
    let more = if names.len() > MOST_NAMED { ", …" } else { "" };
    let some: Vec<&str> = names.iter().take(MOST_NAMED).map(String::as_str).collect();
    (!names.is_empty()).then(|| some.join(", ") + more)
}

fn refuse<T>(reason: String) -> Result<T> {
    Err(Error::Compare { reason })
}
