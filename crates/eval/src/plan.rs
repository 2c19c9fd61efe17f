//! From an experiment file to a checked plan: everything that can be refused is refused here, before any work.

use std::path::{Path, PathBuf};

use models::{Device, HeadSource, LoadOptions, VisionConfig};
use sha2::{Digest, Sha256};
use tasks::dataset::LabelledImage;

use crate::environment::Code;
use crate::error::{Error, Result};
use crate::experiment::{Experiment, TaskConfig};
use crate::model::ClassSource;
use crate::paper::PaperTable;

/// How to run an experiment.
#[derive(Debug, Clone, Default)]
pub struct RunOptions {
    /// `--set` assignments.
    pub assignments: Vec<String>,
    /// Only the first items of the manifest.
    pub limit: Option<usize>,
    /// Folder of the run instead of the default below `results/runs`.
    pub out: Option<PathBuf>,
    /// `cpu` or `cuda:N`.
    pub device: String,
}

/// An experiment whose settings, network, weights and data are known to be there.
#[derive(Clone)]
pub struct Plan {
    /// The experiment with all assignments applied.
    pub experiment: Experiment,
    /// Where the network is.
    pub folder: PathBuf,
    /// Classes for a network that has none of its own.
    pub head: Option<HeadSource>,
    /// Where the network runs.
    pub device: Device,
    /// The images.
    pub items: Vec<LabelledImage>,
    /// The paper's table that the run stands beside, and its column.
    pub paper: Option<(PaperTable, String)>,
    /// Name of the experiment file without extension.
    pub name: String,
    limit: Option<usize>,
    out: Option<PathBuf>,
}

/// A network that is known to be there whole.
struct Network {
    folder: PathBuf,
    head: Option<HeadSource>,
    classes: usize,
}

impl Network {
    fn find(experiment: &Experiment) -> Result<Self> {
        let folder = experiment.model.source.folder()?;
        let network = VisionConfig::from_dir(&folder)?;
        models::weight_files(&folder)?;
        models::image::Preprocessor::from_dir(&folder).map_err(models::Error::from)?;
        let TaskConfig::Masking(task) = &experiment.task;
        task.layers.resolve(network.depth())?;
        let classes = experiment.model.classes.as_ref();
        classes.map_or(Ok(()), ClassSource::present)?;
        let head = classes.map(ClassSource::head).transpose()?;
        let classes = match &head {
            Some(head) => head.check(&folder, &network)?,
            None => network.classes().ok_or_else(|| models::Error::NoClassifier { path: folder.clone() })?,
        };
        Ok(Self { folder, head, classes: classes as usize })
    }
}

impl Plan {
    /// Checks an experiment file against the files it names.
    ///
    /// # Errors
    /// The first thing that is wrong or missing.
    pub fn new(path: &Path, options: &RunOptions) -> Result<Self> {
        Self::of(path, Experiment::read(path, &options.assignments)?, options)
    }

    /// Checks an experiment that was read from `path`.
    pub(crate) fn of(path: &Path, experiment: Experiment, options: &RunOptions) -> Result<Self> {
        let refuse = |reason: String| Error::Config { path: path.into(), reason };
        let TaskConfig::Masking(task) = &experiment.task;
        task.check()?;
        let paper = match &experiment.fills {
            None => None,
            Some(fills) => {
                let table = PaperTable::named(&fills.table)?;
                if !table.columns.contains(&fills.column) {
                    let known = table.columns.join(", ");
                    return Err(refuse(format!("fills.column `{}` is none of {known}", fills.column)));
                }
                Some((table, fills.column.clone()))
            }
        };
        let device = models::device::parse(&options.device)?;
        let network = Network::find(&experiment);
        let classes = network.as_ref().map_or(usize::MAX, |network| network.classes);
        let items = experiment.dataset.items(classes);
        // What is missing is said all at once: it takes its time to get.
        let (Network { folder, head, .. }, mut items) = match (network, items) {
            (Ok(network), Ok(items)) => (network, items),
            (network, items) => {
                let mut errors: Vec<Error> = network.err().into_iter().collect();
                if !errors.is_empty() {
                    let head = experiment.model.classes.as_ref().and_then(|classes| classes.present().err());
                    errors.extend(head);
                }
                errors.extend(items.err().map(Error::Task));
                return Err(Error::all(errors));
            }
        };
        match options.limit {
            Some(0) => return Err(refuse("--limit must be at least 1".into())),
            Some(limit) => items.truncate(limit),
            None => {}
        }
        let name = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or("run").to_owned();
        let (limit, out) = (options.limit, options.out.clone());
        Ok(Self { experiment, folder, head, device, items, paper, name, limit, out })
    }

    /// The same run in another folder.
    pub(crate) fn in_folder(&self, out: PathBuf) -> Self {
        Self { out: Some(out), ..self.clone() }
    }

    /// Hash of the network's files.
    pub(crate) fn weights_sha256(&self) -> Result<String> {
        Ok(models::model_sha256(&self.folder, self.head.as_ref().and_then(HeadSource::file))?)
    }

    /// How the network is to be loaded.
    pub fn load_options(&self) -> LoadOptions {
        let model = &self.experiment.model;
        LoadOptions {
            kind: model.dtype.kind(),
            device: self.device,
            image_size: model.image_size.map(|side| (side, side)),
            head: self.head.clone(),
        }
    }

    /// What decides the numbers of the run: settings, weights, images and code. Records of one fingerprint belong
    /// together.
    pub(crate) fn fingerprint(&self, weights_sha256: &str) -> String {
        let mut hasher = Sha256::new();
        let settings = serde_json::json!({
            "experiment": self.experiment,
            "limit": self.limit,
            "device": models::device::name(self.device),
            "weights": weights_sha256,
            "classes": format!("{:?}", self.head),
            "code": Code::current().sources_sha256,
        });
        hasher.update(settings.to_string());
        for item in &self.items {
            hasher.update(format!("\n{}\t{}", item.id, item.label));
        }
        hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The folder of the run.
    pub(crate) fn out(&self, fingerprint: &str) -> PathBuf {
        let default = || Path::new("results/runs").join(format!("{}-{}", self.name, &fingerprint[..8]));
        self.out.clone().unwrap_or_else(default)
    }
}
