//! What a plan does: for each experiment, how its network and data are found, run and reported.

mod diffseg;
mod guidance;
mod masking;
mod segment;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use models::Device;
use sha2::{Digest, Sha256};

use tasks::Failure;
use tasks::dataset::unreadable;
use tasks::diffseg::DiffSeg;
use tasks::guidance::Guidance;
use tasks::masking::Masking;
use tasks::segment::Segment;

use crate::error::{Error, Result};
use crate::experiment::{Experiment, TaskConfig};
use crate::model::ModelConfig;
use crate::plan::Plan;
use crate::results::{Comparison, Curves, Judge, Memory, MetricValue, Resamples};
use crate::table::Table;
use diffseg::DiffSegWork;
use guidance::GuidanceWork;
use masking::MaskingWork;
use runs::{Compared, Inputs, RunState, RunStore, compare_records};
use segment::SegmentWork;

pub(crate) use segment::paper_column;

/// The network and the data of an experiment, known to be there whole.
#[derive(Clone)]
pub(crate) enum Work {
    Masking(MaskingWork),
    Segment(SegmentWork),
    Guidance(GuidanceWork),
    Diffseg(DiffSegWork),
}

/// What a run has to say once every item is answered.
pub(crate) struct Report {
    pub(crate) items: u64,
    pub(crate) failed: Vec<Failure>,
    pub(crate) metrics: Vec<MetricValue>,
    pub(crate) comparisons: Vec<Comparison>,
    pub(crate) resampled: Vec<Resamples>,
    pub(crate) curves: Option<Curves>,
    pub(crate) judge: Option<Judge>,
    pub(crate) memory: Option<Memory>,
    pub(crate) data_sha256: String,
    /// Keys and names of the methods in row order.
    pub(crate) methods: Vec<(String, String)>,
    /// The names of their files, and the tables.
    pub(crate) tables: Vec<(&'static str, Table)>,
    /// Why the numbers say less than they seem to, a sentence each: below the table and on stderr.
    pub(crate) warnings: Vec<String>,
    pub(crate) pictures: Vec<PathBuf>,
    /// Items answered by this process, and the time those took.
    pub(crate) fresh: usize,
    pub(crate) took: Duration,
}

impl Work {
    /// Finds what an experiment names.
    ///
    /// # Errors
    /// Everything that is missing, at once.
    pub(crate) fn find(experiment: &Experiment, device: Device) -> Result<Self> {
        Ok(match &experiment.task {
            TaskConfig::Masking(task) => Self::Masking(MaskingWork::find(experiment, task)?),
            TaskConfig::Segment(task) => Self::Segment(SegmentWork::find(experiment, task, device)?),
            TaskConfig::Guidance(task) => Self::Guidance(GuidanceWork::find(experiment, task, device)?),
            TaskConfig::Diffseg(task) => Self::Diffseg(DiffSegWork::find(experiment, task, device)?),
        })
    }

    /// Runs what is left of the plan in the folder `out`.
    ///
    /// # Errors
    /// An item cannot be answered, or a file of the run cannot be written.
    pub(crate) fn run(
        &self,
        plan: &Plan,
        store: &RunStore,
        stop: &AtomicBool,
    ) -> Result<RunState<Box<Report>>> {
        let reached = match self {
            Self::Masking(work) => work.run(plan, store, stop),
            Self::Segment(work) => work.run(plan, store, stop),
            Self::Guidance(work) => work.run(plan, store, stop),
            Self::Diffseg(work) => work.run(plan, store, stop),
        };
        Ok(match reached? {
            RunState::Complete(report) => RunState::Complete(Box::new(report)),
            RunState::Shard(part) => RunState::Shard(part),
        })
    }

    /// Reads what is there but may not be whole or enough, where a run would meet it after its last item only. Returns what a
    /// reader must know before the run starts.
    ///
    /// # Errors
    /// Something that the run will need cannot be read, or is too little.
    pub(crate) fn prove(&self) -> Result<Vec<String>> {
        match self {
            Self::Guidance(work) => work.prove(),
            // Their images are items: one that cannot be read is said with the results and tried again.
            Self::Masking(_) | Self::Segment(_) | Self::Diffseg(_) => Ok(Vec::new()),
        }
    }

    /// Items that are run together.
    pub(crate) fn batch(&self) -> usize {
        match self {
            Self::Masking(work) => work.config.batch,
            Self::Segment(work) => work.config.batch,
            Self::Guidance(work) => work.config.batch,
            Self::Diffseg(work) => work.config.batch,
        }
    }

    /// Keeps the first items of the manifest.
    pub(crate) fn truncate(&mut self, limit: usize) {
        match self {
            Self::Masking(work) => work.items.truncate(limit),
            Self::Segment(work) => work.items.truncate(limit),
            Self::Guidance(work) => work.items.truncate(limit),
            Self::Diffseg(work) => work.items.truncate(limit),
        }
    }

    /// Number of items of the manifest.
    pub(crate) fn items(&self) -> usize {
        match self {
            Self::Masking(work) => work.items.len(),
            Self::Segment(work) => work.items.len(),
            Self::Guidance(work) => work.items.len(),
            Self::Diffseg(work) => work.items.len(),
        }
    }

    /// A line for each item: what is asked about it.
    pub(crate) fn manifest(&self) -> Vec<String> {
        match self {
            Self::Masking(work) => work.manifest(),
            Self::Segment(work) => work.manifest(),
            Self::Guidance(work) => work.manifest(),
            Self::Diffseg(work) => work.manifest(),
        }
    }

    /// Items with a file that cannot be read, by its first bytes, with the reason.
    pub(crate) fn unreadable(&self) -> Vec<String> {
        match self {
            Self::Masking(work) => unreadable(&work.items),
            Self::Segment(work) => unreadable(&work.items),
            Self::Guidance(_) => Vec::new(),
            Self::Diffseg(work) => unreadable(&work.items),
        }
    }

    /// Compares the bytes of a file of records, of the run with this fingerprint, with the data that is there now.
    pub(crate) fn compare_data(&self, inputs: &mut Inputs, records: (&[u8], &str)) -> Compared {
        match self {
            Self::Masking(work) => compare_records::<Masking>(inputs, &work.items, records),
            Self::Segment(work) => compare_records::<Segment>(inputs, &work.items, records),
            Self::Guidance(work) => compare_records::<Guidance>(inputs, &work.items, records),
            Self::Diffseg(work) => compare_records::<DiffSeg>(inputs, &work.items, records),
        }
    }

    /// Where the classes come from, for the fingerprint; of DiffSeg their names, as a JSON list.
    pub(crate) fn classes(&self) -> String {
        match self {
            Self::Masking(work) => format!("{:?}", work.head),
            Self::Diffseg(work) => serde_json::json!(work.classes).to_string(),
            Self::Segment(_) | Self::Guidance(_) => String::new(),
        }
    }

    /// Hash of the network's files.
    ///
    /// # Errors
    /// A file cannot be read.
    pub(crate) fn weights_sha256(&self) -> Result<String> {
        match self {
            Self::Masking(work) => once(work.weights(), || work.weights_sha256()),
            Self::Segment(work) => once(work.weights(), || work.weights_sha256()),
            Self::Guidance(work) => once(work.weights(), || work.weights_sha256()),
            Self::Diffseg(work) => once(work.weights(), || work.weights_sha256()),
        }
    }
}

/// Refuses what a pipeline has no use for. Its image size is the task's.
fn no_classes(model: &ModelConfig, image_size: &str) -> Result<()> {
    if model.classes.is_none() && model.image_size.is_none() {
        return Ok(());
    }
    let reason = format!(
        "a pipeline has no classes of its own and its image size is {image_size}; leave head, class_embeddings, zero_shot \
         and image_size out"
    );
    Err(tasks::Error::Setting { setting: "model", reason }.into())
}

/// Settings that fit and weights that are whole, or what is wrong with either.
fn fitting<T>(fits: tasks::Result<T>, weights: models::Result<()>) -> Result<()> {
    let errors = [fits.err().map(Error::from), weights.err().map(Error::from)];
    match errors.into_iter().flatten().collect::<Vec<_>>() {
        none if none.is_empty() => Ok(()),
        some => Err(Error::all(some)),
    }
}

/// What `hash` says of these files, asked once in the life of the process: the runs of a sweep share tens of gigabytes.
fn once(files: Vec<PathBuf>, hash: impl FnOnce() -> Result<String>) -> Result<String> {
    static KNOWN: Mutex<BTreeMap<Vec<PathBuf>, String>> = Mutex::new(BTreeMap::new());
    let known = || KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let found = known().get(&files).cloned();
    if let Some(found) = found {
        return Ok(found);
    }
    let hash = hash()?;
    known().insert(files, hash.clone());
    Ok(hash)
}

/// Hash over the hashes of all images.
fn data_sha256<'a>(images: impl Iterator<Item = &'a str>) -> String {
    let mut hasher = Sha256::new();
    images.for_each(|sha256| hasher.update(sha256));
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
