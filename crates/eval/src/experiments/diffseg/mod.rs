//! DiffSeg: a Stable Diffusion pipeline and images with a class for every pixel.

mod classes;
mod items;
mod matched;
mod matching;
pub mod metrics;
mod rand_index;
mod tables;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use models::sd::pipeline::SdPipeline;
use models::{Device, memory};
use runs::{Compared, Inputs, RunState, RunStore, answers, compare_records};
use tasks::dataset::{DenseImage, LabelledPixels, unreadable};
use tasks::diffseg::{DiffSeg, DiffSegConfig, DiffSegRecord, Method, Segments, Sizes};
use tasks::score_file::ScoreFiles;

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
pub use classes::Classes;
pub use matched::{Matched, Tally};
pub use matching::assign;
use metrics::{DiffSegMetric, images, measures};
pub use rand_index::adjusted_rand_index;

/// Description of the experiment.
pub const FACTS: Facts = Facts {
    name: "diffseg",
    metrics: || DiffSegMetric::ALL.map(DiffSegMetric::spec).into(),
    rows: "anchors",
    figures: &[FigureFile { file: "pictures.png", title: "Images" }],
    paper_table: Some(include_str!("../../../../../eval/tables/diffseg.toml")),
    filling: Filling::Table,
    goal: Goal {
        metric: "miou",
        head: "mIoU ↑",
        plain: "tokenrank",
        note: "mIoU in percent, each image's segments are matched to its classes, pixels are summed over the images; \
               higher is better.",
    },
    source_note: tables::source_note,
};

impl Kind for DiffSegConfig {
    fn facts(&self) -> &'static Facts {
        &FACTS
    }

    fn validate(&self, experiment: &Experiment) -> Result<()> {
        self.check()?;
        no_metrics(experiment)
    }

    fn methods(&self) -> Vec<MethodInfo> {
        let info = |method: &Method| MethodInfo {
            ours: method.ranks(),
            seeded: matches!(method, Method::TokenrankSampled(_) | Method::Random(_)),
            ..MethodInfo::new(method.key(), method.label())
        };
        self.methods.iter().map(info).collect()
    }

    fn alone(&self) -> Vec<TaskConfig> {
        self.methods.iter().map(|method| TaskConfig::Diffseg(self.of_method(method))).collect()
    }

    fn only(&self, families: &[String]) -> TaskConfig {
        let mut config = self.clone();
        config.methods.retain(|method| families.iter().any(|family| family == method.key()));
        TaskConfig::Diffseg(config)
    }

    fn own_files(&self) -> Vec<&Path> {
        self.score_paths()
    }

    fn open(&self, experiment: &Experiment, device: Device) -> Result<Box<dyn Prepared>> {
        Ok(Box::new(PreparedDiffSeg::find(experiment, self, device)?))
    }

    fn meaning(&self, _: &Results) -> String {
        tables::MEANING.to_owned()
    }

    fn sums(&self, run: &RunFolder) -> Result<ItemSums> {
        let records = run.records::<DiffSegRecord>()?;
        let names: Vec<String> = serde_json::from_str(&run.header().identity.classes).map_err(|e| {
            runs::Error::damaged(&run.path, format!("run.json does not name the classes ({e})"))
        })?;
        let classes = Classes::of(&run.results.experiment.dataset, names.len(), &records);
        ItemSums::of(&measures(&classes), &records, &Kind::methods(self), |record| &record.id)
    }

    fn items(&self, run: &RunFolder) -> Result<ItemView> {
        items::view(self, run)
    }
}

/// A Stable Diffusion pipeline and images with a class for every pixel.
struct PreparedDiffSeg {
    folder: PathBuf,
    items: Vec<DenseImage>,
    /// The names of the classes.
    classes: Vec<String>,
    config: DiffSegConfig,
    sizes: Sizes,
    /// Files of the methods that come from files.
    files: ScoreFiles,
}

impl PreparedDiffSeg {
    fn find(experiment: &Experiment, task: &DiffSegConfig, device: Device) -> Result<Self> {
        let model = &experiment.model;
        refuse_vision_settings(model, "task.diffseg.image_size")?;
        let (files, unopened) = match task.score_files() {
            Ok(files) => (files, None),
            Err(error) => (ScoreFiles::default(), Some(Error::from(error))),
        };
        let pipeline = || -> Result<(PathBuf, Option<Sizes>)> {
            let folder = model.source.folder()?;
            let pipeline = SdPipeline::open(&folder, model.dtype.kind(), device)?;
            pipeline.tokenizer().encode(&task.prompt)?;
            let weights = pipeline.check_weights();
            if unopened.is_some() {
                // The settings of its method cannot be checked.
                return Ok((folder, weights.map(|()| None)?));
            }
            let fits = DiffSeg::new(task.clone(), pipeline, Vec::new(), experiment.seed, files.clone());
            let (diffseg, ()) = both(fits, weights)?;
            Ok((folder, Some(diffseg.sizes())))
        };
        let found = both(pipeline(), experiment.dataset.labelled_pixels());
        match (found, unopened) {
            (Ok(((folder, Some(sizes)), LabelledPixels { classes, items })), None) => {
                Ok(Self { folder, items, classes, config: task.clone(), sizes, files })
            }
            (found, unopened) => Err(Error::all(found.err().into_iter().chain(unopened).collect())),
        }
    }
}

impl Prepared for PreparedDiffSeg {
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
        // A table outside the experiment says which values of a mask are the object.
        self.items.iter().map(|item| format!("{}\t{}", item.id, item.values())).collect()
    }

    fn unreadable(&self) -> Vec<String> {
        unreadable(&self.items)
    }

    /// Returns the names of the classes as a JSON list.
    fn classes(&self) -> String {
        serde_json::json!(self.classes).to_string()
    }

    fn weights_sha256(&self) -> Result<String> {
        once(vec![self.folder.clone()], || {
            Ok(SdPipeline::open(&self.folder, models::Kind::Float, Device::Cpu)?.sha256()?)
        })
    }

    fn scores_sha256(&self) -> BTreeMap<String, String> {
        self.files.sha256()
    }

    fn prove(&self) -> Result<Vec<String>> {
        Ok(self.config.check_scores(&self.files, &self.items, self.sizes)?)
    }

    fn compare_data(&self, inputs: &mut Inputs, records: (&[u8], &str)) -> Compared {
        compare_records::<DiffSeg>(inputs, &self.items, records)
    }

    fn run(&self, inputs: &RunInputs<'_>, store: &RunStore, stop: &AtomicBool) -> Result<RunState<Report>> {
        let (Experiment { model, dataset, seed, .. }, config) = (inputs.experiment, &self.config);
        let pipeline = SdPipeline::open(&self.folder, model.dtype.kind(), inputs.device)?;
        let weights = pipeline.weight_bytes()?;
        memory::reset_peak_host();
        let (items, files) = (self.items.clone(), self.files.clone());
        let mut task = DiffSeg::new(config.clone(), pipeline, items, *seed, files)?;
        let answers = match answers(&mut task, store, stop)? {
            RunState::Complete(answers) => answers,
            RunState::Shard(shard) => return Ok(RunState::Shard(shard)),
        };
        let (items, records) = (answers.of(&self.items), &answers.records);
        let memory = (answers.fresh > 0).then(|| Memory::measured(weights));

        let matched = Classes::of(dataset, self.classes.len(), records);
        let (methods, measures) = (Kind::methods(config), measures(&matched));
        let metrics = values(&measures, records, &methods, inputs.paper);
        let comparisons = comparisons(&measures, records, &pairs(&config.methods), *seed);
        let images = images(records);
        let mut tables = vec![("table", tables::table(inputs, (&images, &matched), &metrics, &methods))];
        if !comparisons.is_empty() {
            let title = "Differences of anchors on the same images";
            tables.push(("comparisons", difference_table(&FACTS, title, &comparisons, &methods, &images)));
        }
        let labelled = tables::Labelled { items: &items, classes: &self.classes, matched: &matched };
        let data_sha256 = data_sha256(records.iter().map(|record| record.sha256.as_str()));
        Ok(RunState::Complete(Report {
            metrics,
            comparisons,
            images: images.are_shared().then(|| images.count() as u64),
            memory,
            tables,
            warnings: warning(config, records).into_iter().collect(),
            figures: tables::figures(&store.out, labelled, &methods, records)?,
            ..Report::of(answers, data_sha256)
        }))
    }
}

/// Returns pairs of methods: every method minus anchors on a grid, or minus the first method if there is no grid.
fn pairs(methods: &[Method]) -> Vec<(&str, &str)> {
    let grid = methods.iter().find(|method| matches!(method, Method::Uniform(_)));
    let Some(minus) = grid.or(methods.first()) else { return Vec::new() };
    let others = methods.iter().filter(|method| method.key() != minus.key());
    others.map(|method| (method.key(), minus.key())).collect()
}

/// Returns a warning if every image is one segment, which happens if the threshold is larger than all distances.
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
    // The threshold does not decide segments from a file.
    let merged = config.methods.iter().filter(|method| !matches!(method, Method::File(_)));
    let labels: Vec<&str> = merged.filter(everywhere).map(Method::label).collect();
    let several = config.methods.iter().any(|method| method.anchors() > 1);
    (!labels.is_empty() && several).then(|| {
        format!(
            "{}: every image is one segment, whatever the anchors; task.diffseg.threshold = {} is larger than the distances \
             between this network's maps, so these rows do not compare the anchors. Set it lower",
            labels.join(", "),
            config.threshold
        )
    })
}
