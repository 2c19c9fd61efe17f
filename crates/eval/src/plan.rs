//! Turns an experiment file into a checked plan: everything that can be refused is refused here, before any work.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use models::Device;
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::experiment::{Experiment, Fills, TaskConfig};
use crate::experiments::kind::{JudgedBy, Prepared};
use crate::experiments::spec::Filling;
use crate::experiments::{PaperTarget, paper_table};
use crate::idle::{self, Idle};
use crate::source::Source;
use runs::layout::SCHEMA;
use runs::progress;
use runs::{Code, FolderLocks, Identity, Judging, RunHeader, Shard};

/// How to run an experiment.
#[derive(Debug, Clone, Default)]
pub struct RunOptions {
    /// `--set` assignments.
    pub assignments: Vec<String>,
    /// Maximum number of items, taken from the start of the manifest.
    pub limit: Option<usize>,
    /// Folder of the run instead of the default below `results/runs`.
    pub out: Option<PathBuf>,
    /// `cpu` or `cuda:N`.
    pub device: String,
    /// Run only this part of the batches.
    pub shard: Option<Shard>,
    /// Whether the files of an earlier run are removed from the folder.
    pub fresh: bool,
    /// The command line, recorded in the run.
    pub command: Option<String>,
}

/// Returns the paper's table that `fills` names.
fn target(path: &Path, fills: &Fills, task: &TaskConfig) -> Result<PaperTarget> {
    let table = paper_table(&fills.table)?;
    let refuse = |reason: String| Err(Error::Config { path: path.into(), reason });
    if table.task != task.name() {
        return refuse(format!("fills.table `{}` is a table of [task.{}]", fills.table, table.task));
    }
    match (&fills.column, task.kind().facts().filling) {
        (None, Filling::Column) => {
            refuse(format!("fills.column is missing; it is one of {}", table.columns.join(", ")))
        }
        (Some(column), Filling::Column) if !table.columns.contains(column) => {
            refuse(format!("fills.column `{column}` is not one of {}", table.columns.join(", ")))
        }
        (Some(_), Filling::Table) => {
            refuse("fills.column has no meaning here: one run fills every column; leave it out".into())
        }
        (column, Filling::Column | Filling::Table) => Ok(PaperTarget { table, column: column.clone() }),
    }
}

/// An experiment whose settings are checked and whose network, weights and data are known to exist.
#[derive(Clone)]
pub struct Plan {
    /// The experiment with all assignments applied.
    pub experiment: Experiment,
    /// Where the network runs.
    pub device: Device,
    /// The paper's table that the run is compared with.
    pub paper: Option<PaperTarget>,
    /// Name of the experiment file without extension.
    pub name: String,
    /// Notes for the user before the run starts, a sentence each: settings without effect, metrics that need more items.
    pub notes: Vec<String>,
    /// The network and the data.
    pub(crate) prepared: Arc<dyn Prepared>,
    pub(crate) shard: Option<Shard>,
    pub(crate) fresh: bool,
    /// The locks of the command, which include that of the plan's folder; without them, the run locks its folder itself.
    pub(crate) locks: Option<Arc<FolderLocks>>,
    /// Whether the records come from shards, so that no item has to be run.
    pub(crate) merged: bool,
    /// Type of device that made the records, `cpu` or `cuda`.
    arithmetic: String,
    limit: Option<usize>,
    out: Option<PathBuf>,
    command: Option<String>,
}

impl Plan {
    /// Checks an experiment, a file or one that the program carries, against the files it names.
    ///
    /// # Errors
    /// Fails with the first problem found.
    pub fn new(path: &Path, options: &RunOptions) -> Result<Self> {
        let experiment = Experiment::read(path, &options.assignments)?;
        experiment.check()?;
        let idle = Idle::notes(&idle::idle(&experiment.task))
            .map_err(|reason| Error::Config { path: path.into(), reason })?;
        let mut plan = Self::of(path, experiment, options)?;
        plan.notes.splice(0..0, Source::note(path).into_iter().chain(idle));
        Ok(plan)
    }

    /// Checks an experiment that was read from `path`, and reads the files whose integrity no cheaper check can show.
    ///
    /// # Errors
    /// Fails with the first problem found.
    pub(crate) fn of(path: &Path, experiment: Experiment, options: &RunOptions) -> Result<Self> {
        let mut plan = Self::found(path, experiment, options)?;
        plan.notes = plan.prepared.prove()?;
        Ok(plan)
    }

    /// Checks an experiment and finds the files that it names.
    fn found(path: &Path, experiment: Experiment, options: &RunOptions) -> Result<Self> {
        experiment.check()?;
        let paper = experiment.fills.as_ref().map(|fills| target(path, fills, &experiment.task));
        let paper = paper.transpose()?;
        let device = models::device::parse(&options.device)?;
        let prepared = experiment.task.kind().open(&experiment, device);
        progress::say_notes();
        let mut prepared = prepared?;
        match options.limit {
            Some(0) => {
                return Err(Error::Option { option: "limit", reason: "must be at least 1".into() });
            }
            Some(limit) => prepared.truncate(limit),
            None => {}
        }
        let name = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or("run").to_owned();
        let arithmetic = if device == Device::Cpu { "cpu".to_owned() } else { "cuda".to_owned() };
        let RunOptions { limit, shard, fresh, .. } = *options;
        let (out, command) = (options.out.clone(), options.command.clone());
        Ok(Self {
            experiment,
            device,
            prepared: prepared.into(),
            paper,
            name,
            notes: Vec::new(),
            shard,
            fresh,
            locks: None,
            merged: false,
            arithmetic,
            limit,
            out,
            command,
        })
    }

    /// Returns the plan of the run with this header, without running any item again; `device` does the remaining work.
    pub(crate) fn of_header(header: &RunHeader, device: &str, out: PathBuf) -> Result<Self> {
        let path = PathBuf::from(format!("{}.toml", header.name));
        let other = |reason: String| Error::from(runs::Error::OtherRun { path: out.clone(), reason });
        let experiment = serde_json::from_value(header.experiment())
            .map_err(|e| other(format!("its experiment cannot be read: {e}")))?;
        let options = RunOptions {
            limit: header.identity.limit,
            out: Some(out.clone()),
            device: device.into(),
            ..RunOptions::default()
        };
        // All items are answered; their data is read again together with the answers.
        let mut plan = Self::found(&path, experiment, &options)?;
        plan.merged = true;
        plan.command.clone_from(&header.command);
        plan.arithmetic.clone_from(&header.identity.device);
        let here = plan.header()?;
        if here.fingerprint != header.fingerprint {
            return Err(other(header.identity.differences(&here.identity).join("; ")));
        }
        Ok(plan)
    }

    /// Returns this plan with another folder for the run.
    pub(crate) fn in_folder(&self, out: PathBuf) -> Self {
        Self { out: Some(out), ..self.clone() }
    }

    /// Returns the number of items of the manifest.
    pub fn items(&self) -> usize {
        self.prepared.items()
    }

    /// Checks the first bytes of every file that items are read from.
    ///
    /// # Errors
    /// Fails if files are not images or label maps in a supported format; the message names the first.
    pub fn check_files(&self) -> Result<()> {
        let unreadable = self.prepared.unreadable();
        let Some(first) = unreadable.first() else { return Ok(()) };
        let (items, count) = (self.items(), unreadable.len());
        let reason = format!(
            "{count} of {items} items cannot be read (first: {first}); a run records them as failed and leaves them \
             out of its table. Convert the files to JPEG or PNG, or take them out of the data set"
        );
        Err(Error::unreadable(Path::new(&self.name), reason))
    }

    /// Returns the number of batches, which are distributed over the shards.
    pub fn batches(&self) -> usize {
        self.prepared.items().div_ceil(self.prepared.batch().max(1))
    }

    /// Returns the header of the run: settings, weights, images and code.
    pub(crate) fn header(&self) -> Result<RunHeader> {
        let mut manifest = Sha256::new();
        for line in self.prepared.manifest() {
            manifest.update(format!("{line}\n"));
        }
        let mut experiment = serde_json::json!(self.experiment);
        let judging = self.prepared.judging().map(|JudgedBy { keys, reference }| {
            let taken = keys.iter().filter_map(|key| {
                let table = experiment.as_object_mut()?.remove(*key)?;
                Some(((*key).to_owned(), table))
            });
            let experiment = taken.collect();
            let mut hash = Sha256::new();
            reference.iter().for_each(|line| hash.update(format!("{line}\n")));
            Judging { experiment, reference_sha256: models::hex(hash.finalize()) }
        });
        let identity = Identity {
            experiment,
            limit: self.limit,
            device: self.arithmetic.clone(),
            weights_sha256: self.prepared.weights_sha256()?,
            classes: self.prepared.classes(),
            manifest_sha256: models::hex(manifest.finalize()),
            sources_sha256: Code::current().sources_sha256,
            scores: self.prepared.scores_sha256(),
        };
        Ok(RunHeader {
            schema: SCHEMA,
            name: self.name.clone(),
            fingerprint: identity.fingerprint(),
            identity,
            judging,
            threads: (self.arithmetic == "cpu").then(models::device::threads),
            command: self.command.clone(),
            items: self.prepared.items(),
            batch: self.prepared.batch(),
            shard: self.shard,
        })
    }

    /// Checks that this run can be split into this number of shards in a folder, so that everything already there belongs to
    /// it. `cuda` is whether the shards compute on a GPU, which this machine need not have.
    ///
    /// # Errors
    /// Fails if the folder has another number of shards, or shards or a run of another experiment; the message says what differs.
    pub fn spreads_in(&self, folder: &Path, shards: usize, cuda: bool) -> Result<()> {
        let known = RunHeader::of_folder(folder)?;
        if known.is_empty() {
            return Ok(());
        }
        let mut plan = self.clone();
        plan.arithmetic = if cuda { "cuda" } else { "cpu" }.to_owned();
        let header = plan.header()?;
        Ok(known.iter().try_for_each(|(path, known)| header.allows(path, known, shards))?)
    }

    /// Returns the folder in which the plan is executed: that of the run, or of its shard.
    ///
    /// # Errors
    /// Fails if a file that decides the default folder cannot be read.
    pub fn folder(&self) -> Result<PathBuf> {
        let run = match &self.out {
            Some(out) => out.clone(),
            None => self.out(&self.header()?.fingerprint),
        };
        Ok(self.inside(run))
    }

    /// Returns the folder of the plan's shard inside the folder of the run, or that folder if the plan is for the whole run.
    pub(crate) fn inside(&self, run: PathBuf) -> PathBuf {
        match self.shard {
            Some(shard) => run.join(shard.folder()),
            None => run,
        }
    }

    /// Returns the folder that was requested for the run.
    pub(crate) fn requested_out(&self) -> Option<&Path> {
        self.out.as_deref()
    }

    /// Returns the folder of the run.
    pub(crate) fn out(&self, fingerprint: &str) -> PathBuf {
        let default = || Path::new("results/runs").join(format!("{}-{}", self.name, &fingerprint[..8]));
        self.out.clone().unwrap_or_else(default)
    }
}
