//! Segmentation: a FLUX pipeline segments images with labelled pixels.

mod items;
pub mod metrics;
mod tables;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use models::flux::pipeline::FluxPipeline;
use models::{Device, memory};
use runs::{Compared, Inputs, RunState, RunStore, answers, compare_records};
use tasks::dataset::{SegmentedImage, unreadable};
use tasks::score_file::ScoreFiles;
use tasks::segment::{Method, Segment, SegmentConfig, SegmentRecord};

use super::kind::{Kind, Prepared, Report, RunInputs};
use super::measure::{comparisons, values};
use super::setup::{both, data_sha256, no_metrics, once, refuse_vision_settings};
use super::spec::{Facts, FigureFile, Filling, Goal, MethodInfo};
use super::tables::difference_table;
use super::view::{ItemSums, ItemView};
use crate::error::{Error, Result};
use crate::experiment::{Experiment, TaskConfig};
use crate::folder::RunFolder;
use crate::results::{Memory, Results};
use metrics::{SegmentMetric, images, measures};

/// Description of the experiment.
pub const FACTS: Facts = Facts {
    name: "segment",
    metrics: || SegmentMetric::ALL.map(SegmentMetric::spec).into(),
    rows: "method",
    figures: &[FigureFile { file: "overlays.png", title: "What the methods see" }],
    paper_table: Some(include_str!("../../../../../eval/tables/segment.toml")),
    filling: Filling::Table,
    goal: Goal {
        metric: "miou",
        head: "mIoU ↑",
        plain: "bounce",
        note: "mIoU in percent, intersections and unions summed over the images first; higher is better.",
    },
    source_note: tables::source_note,
};

impl Kind for SegmentConfig {
    fn facts(&self) -> &'static Facts {
        &FACTS
    }

    fn validate(&self, experiment: &Experiment) -> Result<()> {
        self.check()?;
        no_metrics(experiment)
    }

    fn methods(&self) -> Vec<MethodInfo> {
        let info = |method: &Method| MethodInfo {
            ours: matches!(method, Method::Bounce(_)),
            seeded: method.reads_passes(),
            ..MethodInfo::new(method.key(), method.label())
        };
        self.methods.iter().map(info).collect()
    }

    fn alone(&self) -> Vec<TaskConfig> {
        self.methods.iter().map(|method| TaskConfig::Segment(self.of_method(method))).collect()
    }

    fn only(&self, families: &[String]) -> TaskConfig {
        let mut config = self.clone();
        config.methods.retain(|method| families.iter().any(|family| family == method.key()));
        TaskConfig::Segment(config)
    }

    fn own_files(&self) -> Vec<&Path> {
        self.score_paths()
    }

    fn open(&self, experiment: &Experiment, device: Device) -> Result<Box<dyn Prepared>> {
        Ok(Box::new(PreparedSegment::find(experiment, self, device)?))
    }

    fn meaning(&self, _: &Results) -> String {
        tables::meaning()
    }

    fn sums(&self, run: &RunFolder) -> Result<ItemSums> {
        let records = run.records::<SegmentRecord>()?;
        ItemSums::of(&measures(), &records, &Kind::methods(self), |record| &record.id)
    }

    fn items(&self, run: &RunFolder) -> Result<ItemView> {
        items::view(self, run)
    }
}

/// A FLUX pipeline and images with labelled pixels.
struct PreparedSegment {
    folder: PathBuf,
    items: Vec<SegmentedImage>,
    config: SegmentConfig,
    /// Rows and columns of the grid of image tokens.
    grid: (usize, usize),
    /// Files of the methods that come from files.
    files: ScoreFiles,
}

impl PreparedSegment {
    fn find(experiment: &Experiment, task: &SegmentConfig, device: Device) -> Result<Self> {
        let model = &experiment.model;
        refuse_vision_settings(model, "task.segment.image_size")?;
        let pipeline = model.source.folder().and_then(|folder| {
            let pipeline = FluxPipeline::open(&folder, model.dtype.kind(), device)?;
            Ok((folder, pipeline))
        });
        let weights = pipeline.as_ref().map_or(Ok(()), |(_, pipeline)| pipeline.check_weights());
        // Everything that is missing is reported in one error, since each item may take hours to download.
        match (pipeline, experiment.dataset.segmented(), task.score_files()) {
            (Ok((folder, pipeline)), Ok(items), Ok(files)) => {
                let fits =
                    Segment::new(task.clone(), pipeline, items.clone(), experiment.seed, files.clone());
                let (segment, ()) = both(fits, weights)?;
                Ok(Self { folder, items, config: task.clone(), grid: segment.grid(), files })
            }
            (pipeline, items, files) => {
                let pipeline = pipeline.err().or(weights.err()).map(Error::from);
                let (items, files) = (items.err().map(Error::from), files.err().map(Error::from));
                Err(Error::all([pipeline, items, files].into_iter().flatten().collect()))
            }
        }
    }
}

impl Prepared for PreparedSegment {
    fn items(&self) -> usize {
        self.items.len()
    }

    fn truncate(&mut self, limit: usize) {
        self.items.truncate(limit);
    }

    fn batch(&self) -> usize {
        self.config.batch
    }

    fn manifest(&self) -> Vec<String> {
        let line = |item: &SegmentedImage| {
            let classes = item.classes.iter().map(|class| format!("\t{} {}", class.label, class.name));
            // A table outside the experiment says which values of a mask are the object.
            format!("{}{}\t{}", item.id, classes.collect::<String>(), item.values())
        };
        self.items.iter().map(line).collect()
    }

    fn unreadable(&self) -> Vec<String> {
        unreadable(&self.items)
    }

    fn weights_sha256(&self) -> Result<String> {
        once(vec![self.folder.clone()], || {
            Ok(FluxPipeline::open(&self.folder, models::Kind::Float, Device::Cpu)?.sha256()?)
        })
    }

    fn scores_sha256(&self) -> BTreeMap<String, String> {
        self.files.sha256()
    }

    fn prove(&self) -> Result<Vec<String>> {
        Ok(self.config.check_scores(&self.files, &self.items, self.grid)?)
    }

    fn compare_data(&self, inputs: &mut Inputs, records: (&[u8], &str)) -> Compared {
        compare_records::<Segment>(inputs, &self.items, records)
    }

    fn run(&self, inputs: &RunInputs<'_>, store: &RunStore, stop: &AtomicBool) -> Result<RunState<Report>> {
        let (Experiment { model, seed, .. }, config) = (inputs.experiment, &self.config);
        let pipeline = FluxPipeline::open(&self.folder, model.dtype.kind(), inputs.device)?;
        let weights = pipeline.weight_bytes()?;
        memory::reset_peak_host();
        let (items, files) = (self.items.clone(), self.files.clone());
        let mut task = Segment::new(config.clone(), pipeline, items, *seed, files)?;
        let answers = match answers(&mut task, store, stop)? {
            RunState::Complete(answers) => answers,
            RunState::Shard(shard) => return Ok(RunState::Shard(shard)),
        };
        let (items, records) = (answers.of(&self.items), &answers.records);
        let memory = (answers.fresh > 0).then(|| Memory::measured(weights));

        let (methods, measures) = (Kind::methods(config), measures());
        let metrics = values(&measures, records, &methods, inputs.paper);
        let comparisons = comparisons(&measures, records, &pairs(&config.methods), *seed);
        let images = images(records);
        let mut tables = vec![("table", tables::table(inputs, &images, &metrics, &methods))];
        if !comparisons.is_empty() {
            let title = "Differences of methods on the same images";
            tables.push(("comparisons", difference_table(&FACTS, title, &comparisons, &methods, &images)));
        }
        let data_sha256 = data_sha256(records.iter().map(|record| record.sha256.as_str()));
        Ok(RunState::Complete(Report {
            metrics,
            comparisons,
            images: images.are_shared().then(|| images.count() as u64),
            memory,
            tables,
            warnings: warnings(&methods, records),
            figures: tables::figures(&store.out, config, &items, &methods, records)?,
            ..Report::of(answers, data_sha256)
        }))
    }
}

/// Returns pairs of methods: every method minus the one listed before it, and λ₂-weighted bounces minus the unweighted ones.
fn pairs(methods: &[Method]) -> Vec<(&str, &str)> {
    let mut pairs: Vec<_> = methods.windows(2).map(|pair| (pair[1].key(), pair[0].key())).collect();
    for weighted in methods {
        let unweighted = methods.iter().find(|plain| weighted.is_weighted_form_of(plain));
        let pair = unweighted.map(|plain| (weighted.key(), plain.key()));
        pairs.extend(pair.filter(|pair| !pairs.contains(pair)));
    }
    pairs
}

/// Returns warnings for methods whose masks are empty, or full, in every image.
fn warnings(methods: &[MethodInfo], records: &[SegmentRecord]) -> Vec<String> {
    let all = |key: &str, is: fn(u64, u64) -> bool| {
        let counts = records.iter().filter_map(|record| record.methods.get(key)).map(|score| {
            let of = |background: bool| {
                let classes = score.classes.iter().filter(|(class, _)| (**class == 0) == background);
                classes.map(|(_, counts)| counts.predicted).sum::<u64>()
            };
            (of(true), of(false))
        });
        // An image whose pixels are all ignored counts as neither.
        let mut counts = counts.filter(|(background, foreground)| background + foreground > 0).peekable();
        counts.peek().is_some() && counts.all(|(background, foreground)| is(background, foreground))
    };
    let named = |is: fn(u64, u64) -> bool| -> Option<String> {
        let labels = methods.iter().filter(|method| all(&method.key, is)).map(|method| method.label.as_str());
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
