//! DiffSeg: a Stable Diffusion pipeline and images with a class for every pixel.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use models::sd::pipeline::SdPipeline;
use models::{Device, memory};
use tasks::dataset::{DenseImage, LabelledPixels};
use tasks::diffseg::{DiffSeg, DiffSegConfig, DiffSegRecord, Method, Segments};

use super::{Report, data_sha256};
use crate::diffseg_report::{Labelled, comparison_table, comparisons, metric_values, pictures, table};
use crate::error::{Error, Result};
use crate::experiment::Experiment;
use crate::metrics::diffseg::Classes;
use crate::metrics::{DiffSegMetrics, Metric};
use crate::plan::Plan;
use crate::results::Memory;
use runs::{RunState, RunStore, answers};

/// A Stable Diffusion pipeline and images with a class for every pixel.
#[derive(Clone)]
pub(crate) struct DiffSegWork {
    folder: PathBuf,
    pub(super) items: Vec<DenseImage>,
    /// What the classes are called.
    pub(super) classes: Vec<String>,
    pub(super) config: DiffSegConfig,
}

impl DiffSegWork {
    pub(super) fn find(experiment: &Experiment, task: &DiffSegConfig, device: Device) -> Result<Self> {
        let model = &experiment.model;
        super::no_classes(model, "task.diffseg.image_size")?;
        let pipeline = || -> Result<PathBuf> {
            let folder = model.source.folder()?;
            let pipeline = SdPipeline::open(&folder, model.dtype.kind(), device)?;
            pipeline.tokenizer().encode(&task.prompt)?;
            let weights = pipeline.check_weights();
            super::fitting(DiffSeg::new(task.clone(), pipeline, Vec::new(), experiment.seed), weights)?;
            Ok(folder)
        };
        // What is missing is said all at once: it takes its time to get.
        match (pipeline(), experiment.dataset.labelled_pixels()) {
            (Ok(folder), Ok(LabelledPixels { classes, items })) => {
                Ok(Self { folder, items, classes, config: task.clone() })
            }
            (pipeline, labelled) => {
                let mut errors: Vec<Error> = pipeline.err().into_iter().collect();
                errors.extend(labelled.err().map(Error::from));
                Err(Error::all(errors))
            }
        }
    }

    pub(super) fn manifest(&self) -> Vec<String> {
        // Which samples of a mask are the object is said by a table that is no part of the experiment.
        self.items.iter().map(|item| format!("{}\t{}", item.id, item.values())).collect()
    }

    /// Where the weights are.
    pub(super) fn weights(&self) -> Vec<PathBuf> {
        vec![self.folder.clone()]
    }

    pub(super) fn weights_sha256(&self) -> Result<String> {
        Ok(SdPipeline::open(&self.folder, models::Kind::Float, Device::Cpu)?.sha256()?)
    }

    pub(super) fn run(&self, plan: &Plan, store: &RunStore, stop: &AtomicBool) -> Result<RunState<Report>> {
        let (Experiment { model, seed, .. }, config) = (&plan.experiment, &self.config);
        let pipeline = SdPipeline::open(&self.folder, model.dtype.kind(), plan.device)?;
        let weights = pipeline.weight_bytes()?;
        memory::reset_peak_host();
        let mut task = DiffSeg::new(config.clone(), pipeline, self.items.clone(), *seed)?;
        let answered = match answers(&mut task, store, stop)? {
            RunState::Complete(answered) => answered,
            RunState::Shard(part) => return Ok(RunState::Shard(part)),
        };
        let items = answered.of(&self.items);
        let (records, out) = (&answered.records, &*store.out);
        let memory = (answered.fresh > 0).then(|| Memory::measured(weights));

        let matched = Classes::of(&plan.experiment.dataset, self.classes.len(), records);
        let mut metrics = DiffSegMetrics::new(matched.clone());
        records.iter().for_each(|record| metrics.add(record));
        let methods: Vec<_> = config
            .methods
            .iter()
            .map(|method| (method.key().to_owned(), method.label().to_owned()))
            .collect();
        let comparisons = comparisons(&config.methods, &matched, records, *seed);
        let paper = plan.paper.as_ref().map(|beside| &beside.table);
        let mut tables = vec![("table", table(&plan.experiment, &metrics, &methods, paper))];
        if !comparisons.is_empty() {
            tables.push(("comparisons", comparison_table(&comparisons, &methods, metrics.items())));
        }
        let labelled = Labelled { items: &items, classes: &self.classes, matched: &matched };
        let warnings = warning(config, records).into_iter().collect();
        let pictures = pictures(out, labelled, &methods, records)?;
        Ok(RunState::Complete(Report {
            items: metrics.items(),
            metrics: metric_values(&metrics, paper),
            comparisons,
            resampled: Vec::new(),
            curves: None,
            judge: None,
            memory,
            data_sha256: data_sha256(records.iter().map(|record| record.sha256.as_str())),
            methods,
            tables,
            warnings,
            pictures,
            failed: answered.failed,
            fresh: answered.fresh,
            took: answered.took,
        }))
    }
}

/// One segment in every image is what a threshold makes that is wider than all distances.
fn warning(config: &DiffSegConfig, records: &[DiffSegRecord]) -> Option<String> {
    let one = |segments: &Segments| {
        let mut winners = segments.overlap.iter().map(|(_, segment, _)| segment);
        let first = winners.next();
        winners.all(|segment| Some(segment) == first)
    };
    let everywhere = |method: &&Method| {
        let mut found = records.iter().filter_map(|record| record.methods.get(method.key())).peekable();
        found.peek().is_some() && found.all(one)
    };
    let labels: Vec<&str> = config.methods.iter().filter(everywhere).map(Method::label).collect();
    let several = config.methods.iter().any(|method| method.anchors() > 1);
    (!labels.is_empty() && several).then(|| {
        format!(
            "{}: every image is one segment, whatever the anchors; task.diffseg.threshold = {} is wider than the distances \
             between this network's maps, and rows that are equal for that reason compare nothing. Set it lower",
            labels.join(", "),
            config.threshold
        )
    })
}
