//! Segmentation: a FLUX pipeline and images whose pixels are labelled.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use models::flux::pipeline::FluxPipeline;
use models::{Device, memory};
use tasks::dataset::SegmentedImage;
use tasks::segment::{Method, Segment, SegmentConfig, SegmentRecord};

use super::{Report, data_sha256};
use crate::error::{Error, Result};
use crate::experiment::Experiment;
use crate::metrics::bootstrap::{RESAMPLES, paired};
use crate::metrics::{Metric, SegmentMetric, SegmentMetrics};
use crate::paper::PaperTable;
use crate::plan::Plan;
use crate::results::{Comparison, Memory, MetricValue};
use crate::segment_report::{comparison_table, pictures, table};
use runs::{RunState, RunStore, answers};

/// A FLUX pipeline and images whose pixels are labelled.
#[derive(Clone)]
pub(crate) struct SegmentWork {
    folder: PathBuf,
    pub(super) items: Vec<SegmentedImage>,
    pub(super) config: SegmentConfig,
}

impl SegmentWork {
    pub(super) fn find(experiment: &Experiment, task: &SegmentConfig, device: Device) -> Result<Self> {
        let model = &experiment.model;
        super::no_classes(model, "task.segment.image_size")?;
        let pipeline = model.source.folder().and_then(|folder| {
            let pipeline = FluxPipeline::open(&folder, model.dtype.kind(), device)?;
            Ok((folder, pipeline))
        });
        let weights = pipeline.as_ref().map_or(Ok(()), |(_, pipeline)| pipeline.check_weights());
        // What is missing is said all at once: it takes its time to get.
        match (pipeline, experiment.dataset.segmented()) {
            (Ok((folder, pipeline)), Ok(items)) => {
                let fits = Segment::new(task.clone(), pipeline, items.clone(), experiment.seed);
                super::fitting(fits, weights)?;
                Ok(Self { folder, items, config: task.clone() })
            }
            (pipeline, items) => {
                let pipeline = pipeline.err().or(weights.err()).map(Error::from);
                Err(Error::all(pipeline.into_iter().chain(items.err().map(Error::from)).collect()))
            }
        }
    }

    pub(super) fn manifest(&self) -> Vec<String> {
        let line = |item: &SegmentedImage| {
            let classes = item.classes.iter().map(|class| format!("\t{} {}", class.label, class.name));
            // Which samples of a mask are the object is said by a table that is no part of the experiment.
            format!("{}{}\t{}", item.id, classes.collect::<String>(), item.values())
        };
        self.items.iter().map(line).collect()
    }

    /// Where the weights are.
    pub(super) fn weights(&self) -> Vec<PathBuf> {
        vec![self.folder.clone()]
    }

    pub(super) fn weights_sha256(&self) -> Result<String> {
        Ok(FluxPipeline::open(&self.folder, models::Kind::Float, Device::Cpu)?.sha256()?)
    }

    pub(super) fn run(&self, plan: &Plan, store: &RunStore, stop: &AtomicBool) -> Result<RunState<Report>> {
        let (Experiment { model, seed, .. }, config) = (&plan.experiment, &self.config);
        let pipeline = FluxPipeline::open(&self.folder, model.dtype.kind(), plan.device)?;
        let weights = pipeline.weight_bytes()?;
        memory::reset_peak_host();
        let mut task = Segment::new(config.clone(), pipeline, self.items.clone(), *seed)?;
        let answered = match answers(&mut task, store, stop)? {
            RunState::Complete(answered) => answered,
            RunState::Shard(part) => return Ok(RunState::Shard(part)),
        };
        let items = answered.of(&self.items);
        let (records, out) = (&answered.records, &*store.out);
        let memory = (answered.fresh > 0).then(|| Memory::measured(weights));

        let mut metrics = SegmentMetrics::new();
        records.iter().for_each(|record| metrics.add(record));
        let methods: Vec<_> = config
            .methods
            .iter()
            .map(|method| (method.key().to_owned(), method.label().to_owned()))
            .collect();
        let comparisons = comparisons(config, records, *seed);
        let paper = plan.paper.as_ref().map(|beside| &beside.table);
        let mut tables = vec![("table", table(&plan.experiment, &metrics, &methods, paper))];
        if !comparisons.is_empty() {
            tables.push(("comparisons", comparison_table(&comparisons, &methods, metrics.items())));
        }
        let warnings = warnings(&methods, records);
        let pictures = pictures(out, config, &items, &methods, records)?;
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

/// Masks of one kind in every image say nothing of the images.
fn warnings(methods: &[(String, String)], records: &[SegmentRecord]) -> Vec<String> {
    let all = |key: &str, is: fn(u64, u64) -> bool| {
        let counts = records.iter().filter_map(|record| record.methods.get(key)).map(|score| {
            let of = |background: bool| {
                let classes = score.classes.iter().filter(|(class, _)| (**class == 0) == background);
                classes.map(|(_, counts)| counts.predicted).sum::<u64>()
            };
            (of(true), of(false))
        });
        // An image whose pixels are all ignored says neither.
        let mut counts = counts.filter(|(background, foreground)| background + foreground > 0).peekable();
        counts.peek().is_some() && counts.all(|(background, foreground)| is(background, foreground))
    };
    let named = |is: fn(u64, u64) -> bool| -> Option<String> {
        let labels = methods.iter().filter(|(key, _)| all(key, is)).map(|(_, label)| label.as_str());
        let labels: Vec<&str> = labels.collect();
        (!labels.is_empty()).then(|| labels.join(", "))
    };
    let empty = named(|_, foreground| foreground == 0).map(|labels| {
        format!("{labels}: every mask is empty; the signal is constant, or task.segment.score.threshold lies above it")
    });
    let full = named(|background, _| background == 0).map(|labels| {
        format!("{labels}: every mask covers its whole image; task.segment.score.threshold lies below the signal everywhere")
    });
    empty.into_iter().chain(full).collect()
}

/// The column of the paper's table that a metric stands in.
pub(crate) fn paper_column(metric: SegmentMetric) -> Option<&'static str> {
    match metric {
        SegmentMetric::Accuracy => Some("Acc"),
        SegmentMetric::Miou => Some("mIoU"),
        SegmentMetric::Map => Some("mAP"),
        SegmentMetric::MiouIdentity | SegmentMetric::MapForeground => None,
    }
}

fn metric_values(metrics: &SegmentMetrics, paper: Option<&PaperTable>) -> Vec<MetricValue> {
    let mut values = Vec::new();
    for (method, scores) in metrics.finish() {
        for metric in SegmentMetric::ALL {
            let Some(value) = metric.of(&scores) else { continue };
            let published = paper.and_then(|table| table.published(&method, paper_column(metric)?));
            values.push(MetricValue {
                name: metric.to_string(),
                method: Some(method.clone()),
                value: Some(value),
                higher_is_better: Some(true),
                // The paper's are in percent.
                published: published.map(|percent| percent / 100.0),
            });
        }
    }
    values
}

/// Every method minus the one listed before it, and λ₂-weighted bounces minus the same unweighted.
fn comparisons(config: &SegmentConfig, records: &[SegmentRecord], seed: u64) -> Vec<Comparison> {
    let methods = &config.methods;
    let mut pairs: Vec<(&Method, &Method)> = methods.windows(2).map(|pair| (&pair[1], &pair[0])).collect();
    for weighted in methods {
        let unweighted = methods.iter().find(|plain| weighted.is_weighted_form_of(plain));
        if let Some(plain) = unweighted
            && !pairs.contains(&(weighted, plain))
        {
            pairs.push((weighted, plain));
        }
    }
    let mut comparisons = Vec::new();
    for (method, minus) in pairs {
        for metric in [SegmentMetric::Accuracy, SegmentMetric::Miou, SegmentMetric::Map] {
            // Several classes have no average precision: nothing to compare.
            let Ok(difference) = paired(records, method.key(), minus.key(), &metric, RESAMPLES, seed) else {
                continue;
            };
            comparisons.push(Comparison {
                metric: metric.to_string(),
                method: method.key().to_owned(),
                minus: minus.key().to_owned(),
                difference,
            });
        }
    }
    comparisons
}
