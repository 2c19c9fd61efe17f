//! What the shared code asks of an experiment: checking, running and reading back go through these traits, and nothing outside
//! the folder of an experiment knows which one it is.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use models::Device;
use runs::{Compared, Inputs, RunState, RunStore};
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
    /// The experiment as data.
    fn facts(&self) -> &'static Facts;

    /// Checks the settings against each other; `experiment` is the file that holds them.
    ///
    /// # Errors
    /// A setting is out of range or contradicts another one.
    fn validate(&self, experiment: &Experiment) -> Result<()>;

    /// The methods, in the order of the rows.
    fn methods(&self) -> Vec<MethodInfo>;

    /// For each of [`methods`](Kind::methods) the same settings with that method alone, in which every setting that the method
    /// does not read has its default.
    fn alone(&self) -> Vec<TaskConfig>;

    /// The same settings with the methods of these families only.
    fn only(&self, families: &[String]) -> TaskConfig;

    /// Why a setting without effect contradicts the settings beside it; `None` where it is only not read by the methods listed.
    fn contradiction(&self, setting: &str) -> Option<String> {
        let _ = setting;
        None
    }

    /// Finds the network and the data that `experiment` names.
    ///
    /// # Errors
    /// Everything that is missing, in one error.
    fn open(&self, experiment: &Experiment, device: Device) -> Result<Box<dyn Prepared>>;

    /// The title of a metric of finished results, where it depends on them.
    fn title(&self, metric: &MetricSpec, results: &Results) -> String {
        let _ = results;
        metric.title.to_owned()
    }

    /// What the metrics of finished results are, for a reader of the table.
    fn meaning(&self, results: &Results) -> String;

    /// Whether the difference from published values is meaningful, as far as the judge of the results goes.
    fn judged_as_published(&self, results: &Results) -> bool {
        let _ = results;
        true
    }

    /// What each item of a finished run adds to its metrics.
    ///
    /// # Errors
    /// Records are missing or damaged.
    fn sums(&self, run: &RunFolder) -> Result<ItemSums>;

    /// The items of a finished run, one by one.
    ///
    /// # Errors
    /// Records are missing or damaged.
    fn items(&self, run: &RunFolder) -> Result<ItemView>;
}

/// An experiment whose network and data are known to be there.
pub trait Prepared: Send + Sync {
    /// Number of items of the manifest.
    fn items(&self) -> usize;

    /// Keeps the first items of the manifest.
    fn truncate(&mut self, limit: usize);

    /// Number of items that are run together.
    fn batch(&self) -> usize;

    /// A line for each item: what is asked about it.
    fn manifest(&self) -> Vec<String>;

    /// Items with a file that cannot be read, by its first bytes, each with the reason.
    fn unreadable(&self) -> Vec<String> {
        Vec::new()
    }

    /// Where the classes come from, for the fingerprint of the run.
    fn classes(&self) -> String {
        String::new()
    }

    /// Hash of the network's files.
    ///
    /// # Errors
    /// A file cannot be read.
    fn weights_sha256(&self) -> Result<String>;

    /// Reads what the run would need only after its last item. Returns notes for the user, a sentence each.
    ///
    /// # Errors
    /// Something cannot be read, or is too little.
    fn prove(&self) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    /// Compares the bytes of a file of records, of the run with this fingerprint, with the data that is there now.
    fn compare_data(&self, inputs: &mut Inputs, records: (&[u8], &str)) -> Compared;

    /// Runs what is left of the items and reports on all of them.
    ///
    /// # Errors
    /// An item cannot be answered, or a file of the run cannot be written.
    fn run(&self, inputs: &RunInputs<'_>, store: &RunStore, stop: &AtomicBool) -> Result<RunState<Report>>;
}

/// What a run takes from its plan.
#[derive(Clone, Copy)]
pub struct RunInputs<'a> {
    /// The experiment.
    pub experiment: &'a Experiment,
    /// Where the network runs.
    pub device: Device,
    /// The table of the paper beside which the run stands.
    pub paper: Option<&'a PaperTarget>,
}

/// What a run reports once every item is answered.
pub struct Report {
    /// Number of items with a record.
    pub items: u64,
    /// Items whose data cannot be read.
    pub failed: Vec<Failure>,
    /// The values of all metrics.
    pub metrics: Vec<MetricValue>,
    /// Differences between methods.
    pub comparisons: Vec<Comparison>,
    /// Metrics over resamples of the items.
    pub resampled: Vec<Resamples>,
    /// Curves behind the values.
    pub curves: Option<Curves>,
    /// What judged generated images.
    pub judge: Option<Judge>,
    /// Memory of the run, where it was measured.
    pub memory: Option<Memory>,
    /// Hash over the hashes of the data.
    pub data_sha256: String,
    /// The tables with the names of their files.
    pub tables: Vec<(&'static str, Table)>,
    /// Why the numbers say less than they seem to, a sentence each: shown below the table and on stderr.
    pub warnings: Vec<String>,
    /// The figures that were drawn.
    pub figures: Vec<PathBuf>,
    /// Number of items that this process answered.
    pub fresh: usize,
    /// The time those took.
    pub took: Duration,
}
