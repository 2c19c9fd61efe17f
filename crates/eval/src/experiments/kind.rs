//! The traits that every experiment implements: the shared code checks, runs and reads experiments through them and never asks
//! which experiment it has.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use models::Device;
use runs::{Answers, Compared, Inputs, RunState, RunStore};
use tasks::Failure;

use super::spec::{Facts, MethodInfo, MetricSpec};
use super::view::{ItemSums, ItemView};
use crate::error::Result;
use crate::experiment::{Experiment, TaskConfig};
use crate::experiments::target::PaperTarget;
use crate::folder::RunFolder;
use crate::results::{Comparison, Curves, Judge, Memory, MetricValue, Resamples, Results};
use crate::table::Table;

/// The settings of an experiment, `[task.NAME]`.
pub trait Kind {
    /// Returns the description of the experiment.
    fn facts(&self) -> &'static Facts;

    /// Checks the settings against each other; `experiment` is the file that holds them.
    ///
    /// # Errors
    /// Fails if a setting is out of range or contradicts another one.
    fn validate(&self, experiment: &Experiment) -> Result<()>;

    /// Returns the methods, in the order of the rows.
    fn methods(&self) -> Vec<MethodInfo>;

    /// Returns, for each of [`methods`](Kind::methods), the settings with only that method; every setting that the method does not
    /// read has its default.
    fn alone(&self) -> Vec<TaskConfig>;

    /// Returns the settings with only the methods of these families.
    fn only(&self, families: &[String]) -> TaskConfig;

    /// Returns the files of the user's own that the settings name: scores of methods, prompts.
    fn own_files(&self) -> Vec<&Path> {
        Vec::new()
    }

    /// Returns why a setting without effect contradicts other settings; `None` if the listed methods merely do not read it.
    fn contradiction(&self, setting: &str) -> Option<String> {
        let _ = setting;
        None
    }

    /// Finds the network and the data that `experiment` names.
    ///
    /// # Errors
    /// Fails with everything that is missing, in one error.
    fn open(&self, experiment: &Experiment, device: Device) -> Result<Box<dyn Prepared>>;

    /// Returns the title of a metric, which may depend on the results.
    fn title(&self, metric: &MetricSpec, results: &Results) -> String {
        let _ = results;
        metric.title.to_owned()
    }

    /// Returns an explanation of the metrics, for readers of the table.
    fn meaning(&self, results: &Results) -> String;

    /// Returns whether the results were scored by the published network, so that the difference from published values is
    /// meaningful.
    fn judged_as_published(&self, results: &Results) -> bool {
        let _ = results;
        true
    }

    /// Returns what each item of a finished run adds to its metrics.
    ///
    /// # Errors
    /// Fails if records are missing or damaged.
    fn sums(&self, run: &RunFolder) -> Result<ItemSums>;

    /// Returns the items of a finished run, one by one.
    ///
    /// # Errors
    /// Fails if records are missing or damaged.
    fn items(&self, run: &RunFolder) -> Result<ItemView>;
}

/// An experiment whose network and data are known to exist.
pub trait Prepared: Send + Sync {
    /// Returns the number of items of the manifest.
    fn items(&self) -> usize;

    /// Keeps only the first `limit` items of the manifest.
    fn truncate(&mut self, limit: usize);

    /// Returns the number of items that are run together.
    fn batch(&self) -> usize;

    /// Returns a line for each item with everything that defines its task.
    fn manifest(&self) -> Vec<String>;

    /// Returns the settings that decide results but not records; `None` if there is no such setting.
    fn judging(&self) -> Option<JudgedBy> {
        None
    }

    /// Returns items whose files have first bytes of no supported format, each with the reason.
    fn unreadable(&self) -> Vec<String> {
        Vec::new()
    }

    /// Returns the source of the classes, for the fingerprint of the run.
    fn classes(&self) -> String {
        String::new()
    }

    /// Returns the hash of the network's files.
    ///
    /// # Errors
    /// Fails if a file cannot be read.
    fn weights_sha256(&self) -> Result<String>;

    /// Returns the hash of the file of each method whose scores come from a file, by the name of the method.
    fn scores_sha256(&self) -> BTreeMap<String, String> {
        BTreeMap::new()
    }

    /// Reads the data that the run needs only after its last item, and checks files of scores. Returns notes for the user, a
    /// sentence each.
    ///
    /// # Errors
    /// Fails if the data cannot be read or is insufficient.
    fn prove(&self) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    /// Compares a file of records (its bytes and the fingerprint of its run) with the present data.
    fn compare_data(&self, inputs: &mut Inputs, records: (&[u8], &str)) -> Compared;

    /// Runs the remaining items and reports on all items.
    ///
    /// # Errors
    /// Fails if an item cannot be answered or a file of the run cannot be written.
    fn run(&self, inputs: &RunInputs<'_>, store: &RunStore, stop: &AtomicBool) -> Result<RunState<Report>>;
}

/// What turns the records of an experiment into results without deciding the records.
pub struct JudgedBy {
    /// Tables of the experiment file.
    pub keys: &'static [&'static str],
    /// A line for each item of the reference.
    pub reference: Vec<String>,
}

/// The part of a plan that a run needs.
#[derive(Clone, Copy)]
pub struct RunInputs<'a> {
    /// The experiment.
    pub experiment: &'a Experiment,
    /// Where the network runs.
    pub device: Device,
    /// The paper's table that the run is compared with.
    pub paper: Option<&'a PaperTarget>,
}

/// The report of a run once every item is answered.
#[derive(Default)]
pub struct Report {
    /// Number of items with a record.
    pub items: u64,
    /// Number of images of these items, if some share one.
    pub images: Option<u64>,
    /// Items whose data cannot be read.
    pub failed: Vec<Failure>,
    /// The values of all metrics.
    pub metrics: Vec<MetricValue>,
    /// Differences between methods.
    pub comparisons: Vec<Comparison>,
    /// Metrics over resamples of the items.
    pub resampled: Vec<Resamples>,
    /// Curves from which values were computed.
    pub curves: Option<Curves>,
    /// The network that scored generated images.
    pub judge: Option<Judge>,
    /// Memory of the run, if it was measured.
    pub memory: Option<Memory>,
    /// Hash over the hashes of the data.
    pub data_sha256: String,
    /// The tables with the names of their files.
    pub tables: Vec<(&'static str, Table)>,
    /// Reasons to doubt the numbers, a sentence each: shown below the table and on stderr.
    pub warnings: Vec<String>,
    /// Files of the figures.
    pub figures: Vec<PathBuf>,
    /// Number of items that this process answered.
    pub fresh: usize,
    /// Time that this process took to answer them.
    pub took: Duration,
}

impl Report {
    /// Returns the report of a run with these answers, before anything is made of their records.
    pub fn of<R>(answers: Answers<R>, data_sha256: String) -> Self {
        Self {
            items: answers.records.len() as u64,
            failed: answers.failed,
            data_sha256,
            fresh: answers.fresh,
            took: answers.took,
            ..Self::default()
        }
    }
}
