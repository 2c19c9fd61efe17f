//! Guidance: a Stable Diffusion pipeline generates images, and a feature network scores them.

mod items;
pub mod metrics;
mod tables;

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::atomic::AtomicBool;

use models::features::{FeatureNetwork, FeatureSource};
use models::sd::pipeline::SdPipeline;
use models::{Device, memory};
use runs::layout::PICTURES;
use runs::{Compared, Inputs, RunState, RunStore, answers, compare_records};
use tasks::guidance::{
    Generated, Guidance, GuidanceConfig, GuidanceRecord, Importance, Method, PictureNumber, read_picture,
};

use super::kind::{JudgedBy, Kind, Prepared, Report, RunInputs};
use super::setup::{data_sha256, fitting, once, refuse_vision_settings};
use super::spec::{Facts, FigureFile, Filling, Goal, MethodInfo, MetricSpec};
use super::view::{ItemSums, ItemView};
use crate::error::{Error, Result};
use crate::experiment::{Experiment, TaskConfig};
use crate::folder::RunFolder;
use crate::image_metrics::{ReferenceSource, Titles, extract_each};
use crate::judge::MetricsConfig;
use crate::metrics::fidelity::{FeatureSet, evaluate};
use crate::results::{Judge, Memory, Results};
use metrics::{GuidanceMetric, Judged};

/// Minimum number of images of a set: fewer have no covariance, and so no distance to another set.
const FEWEST: usize = 2;
/// Number of images that a feature network processes at once.
const JUDGED_AT_ONCE: usize = 32;
/// Digits of an image's hash that are kept for comparisons.
const DIGITS: usize = 16;
/// The name of the features of the published Inception.
const INCEPTION: &str = "Inception-v3";

/// Description of the experiment.
pub const FACTS: Facts = Facts {
    name: "guidance",
    metrics: || GuidanceMetric::ALL.map(GuidanceMetric::spec).into(),
    rows: "method",
    figures: &[
        FigureFile { file: "pictures.png", title: "Images" },
        FigureFile { file: "masks.png", title: "What was degraded, pass by pass" },
    ],
    paper_table: Some(include_str!("../../../../../eval/tables/guidance.toml")),
    filling: Filling::Table,
    goal: Goal {
        metric: "frechet",
        head: "Fréchet distance ↓",
        plain: "sag-tokenrank",
        note: "Fréchet distance between features of the generated and of the reference images; lower is better. Its value \
               depends on the features and on the number of images.",
    },
    source_note: tables::source_note,
};

impl Kind for GuidanceConfig {
    fn facts(&self) -> &'static Facts {
        &FACTS
    }

    fn validate(&self, experiment: &Experiment) -> Result<()> {
        self.check()?;
        match &experiment.metrics {
            Some(metrics) => metrics.check(),
            None => {
                let reason =
                    "is missing: name the network that scores the images, as in `features = \"mini\"`".into();
                Err(tasks::Error::Setting { setting: "metrics", reason }.into())
            }
        }
    }

    fn methods(&self) -> Vec<MethodInfo> {
        let info = |method: &Method| MethodInfo {
            ours: matches!(method, Method::Sag(sag) if sag.mask != Importance::ColumnSum),
            ..MethodInfo::new(method.key(), method.label())
        };
        self.methods.iter().map(info).collect()
    }

    fn alone(&self) -> Vec<TaskConfig> {
        self.methods.iter().map(|method| TaskConfig::Guidance(self.of_method(method))).collect()
    }

    fn only(&self, families: &[String]) -> TaskConfig {
        let mut config = self.clone();
        config.methods.retain(|method| families.iter().any(|family| family == method.key()));
        TaskConfig::Guidance(config)
    }

    fn own_files(&self) -> Vec<&Path> {
        self.prompts.as_deref().into_iter().collect()
    }

    fn contradiction(&self, setting: &str) -> Option<String> {
        (setting == "negative_prompt").then(|| {
            format!(
                "guidance_scale is {}, and classifier-free guidance, which leads away from that prompt, begins above 1; set \
                 task.guidance.guidance_scale, such as 7.5, or leave negative_prompt out",
                self.guidance_scale
            )
        })
    }

    fn open(&self, experiment: &Experiment, device: Device) -> Result<Box<dyn Prepared>> {
        Ok(Box::new(PreparedGuidance::find(experiment, self, device)?))
    }

    fn title(&self, metric: &MetricSpec, results: &Results) -> String {
        let metric_titles = titles(results);
        match GuidanceMetric::ALL.into_iter().find(|known| known.spec().key == metric.key) {
            Some(known) => known.title(&metric_titles).to_owned(),
            None => metric.title.to_owned(),
        }
    }

    fn meaning(&self, results: &Results) -> String {
        format!("{} depends on the number of images. {}", titles(results).frechet, tables::FRACTIONS)
    }

    fn judged_as_published(&self, results: &Results) -> bool {
        results.judge.as_ref().is_none_or(|judge| judge.features == INCEPTION)
    }

    fn sums(&self, run: &RunFolder) -> Result<ItemSums> {
        let mut sums = ItemSums::default();
        for record in run.records::<GuidanceRecord>()? {
            for (method, generated) in record.methods {
                let hash = generated.sha256.chars().take(DIGITS).collect();
                sums.generated.entry(method).or_default().push(hash);
            }
            sums.ids.push(record.id);
        }
        Ok(sums)
    }

    fn items(&self, run: &RunFolder) -> Result<ItemView> {
        items::view(self, run)
    }
}

/// Returns the titles of the metrics of finished results.
fn titles(results: &Results) -> Titles {
    let features = results.judge.as_ref().map_or("", |judge| judge.features.as_str());
    Titles::new(features, features == INCEPTION)
}

/// A Stable Diffusion pipeline and the reference that its images are compared with.
struct PreparedGuidance {
    folder: PathBuf,
    items: Vec<PictureNumber>,
    config: GuidanceConfig,
    metrics: MetricsConfig,
    features: FeatureSource,
    reference: ReferenceSource,
}

impl PreparedGuidance {
    fn find(experiment: &Experiment, task: &GuidanceConfig, device: Device) -> Result<Self> {
        let model = &experiment.model;
        refuse_vision_settings(model, "task.guidance.image_size")?;
        let Some(metrics) = &experiment.metrics else {
            let reason = "is missing".into();
            return Err(tasks::Error::Setting { setting: "metrics", reason }.into());
        };
        let items = Guidance::items(task, experiment.seed)?;
        let pipeline = || -> Result<PathBuf> {
            let folder = model.source.folder()?;
            let pipeline = SdPipeline::open(&folder, model.dtype.kind(), device)?;
            let own = items.iter().filter_map(|item| item.prompt.as_ref());
            for text in own.chain([&task.prompt, &task.negative_prompt]) {
                pipeline.tokenizer().encode(text)?;
            }
            let weights = pipeline.check_weights();
            fitting(Guidance::new(task.clone(), pipeline, items.clone(), Path::new("")), weights)?;
            Ok(folder)
        };
        let features = || -> Result<FeatureSource> {
            let source = FeatureSource::from_str(&metrics.features)?;
            source.present()?;
            source.check()?;
            Ok(source)
        };
        let reference = || ReferenceSource::of(&experiment.dataset);
        // Everything that is missing is reported in one error, since each item may take hours to download.
        match (pipeline(), features(), reference()) {
            (Ok(folder), Ok(features), Ok(reference)) => {
                let (config, metrics) = (task.clone(), metrics.clone());
                Ok(Self { folder, items, config, metrics, features, reference })
            }
            (pipeline, features, reference) => {
                let errors = [pipeline.err(), features.err(), reference.err()];
                Err(Error::all(errors.into_iter().flatten().collect()))
            }
        }
    }
}

impl Prepared for PreparedGuidance {
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
        let line = |PictureNumber { id, seed, prompt }: &PictureNumber| match prompt {
            Some(prompt) => format!("{id}\t{seed}\t{prompt}"),
            None => format!("{id}\t{seed}"),
        };
        self.items.iter().map(line).collect()
    }

    fn judging(&self) -> Option<JudgedBy> {
        Some(JudgedBy { keys: &["dataset", "metrics"], reference: self.reference.manifest() })
    }

    fn weights_sha256(&self) -> Result<String> {
        once(vec![self.folder.clone()], || {
            Ok(SdPipeline::open(&self.folder, models::Kind::Float, Device::Cpu)?.sha256()?)
        })
    }

    fn compare_data(&self, inputs: &mut Inputs, records: (&[u8], &str)) -> Compared {
        compare_records::<Guidance>(inputs, &self.items, records)
    }

    /// Reads the reference and checks that there are enough images before the first one is generated.
    fn prove(&self) -> Result<Vec<String>> {
        let drawn = self.items.len();
        if drawn < FEWEST {
            let reason = format!(
                "only {drawn} image per method is generated, and the distances of [metrics] need sets of at least \
                 {FEWEST}; generate more images, and raise the limit on the number of items if there is one"
            );
            return Err(tasks::Error::Setting { setting: "task.guidance.count", reason }.into());
        }
        let reference = self.reference.prove(&self.features)?;
        if let Some(found) = reference.filter(|found| *found < FEWEST) {
            let reason = format!(
                "the reference has {found} image, and the distances of [metrics] need sets of at least {FEWEST}; \
                 add images"
            );
            return Err(tasks::Error::Setting { setting: "dataset", reason }.into());
        }
        let mut notes = Vec::new();
        let MetricsConfig { splits, kernel, .. } = &self.metrics;
        if drawn < *splits {
            notes.push(format!(
                "no Inception Score: metrics.splits is {splits}, and {drawn} images are generated per method"
            ));
        }
        let fewest = reference.map(|found| found.min(drawn));
        if let Some(fewest) = fewest.filter(|fewest| *fewest < kernel.subset_size) {
            notes.push(format!(
                "the kernel distance will have subsets of {fewest} instead of metrics.kernel.subset_size = {}: {drawn} \
                 images are generated per method, the reference has {}",
                kernel.subset_size,
                reference.unwrap_or_default()
            ));
        }
        Ok(notes)
    }

    fn run(&self, inputs: &RunInputs<'_>, store: &RunStore, stop: &AtomicBool) -> Result<RunState<Report>> {
        let (Experiment { title, model, seed, .. }, config) = (inputs.experiment, &self.config);
        let pipeline = SdPipeline::open(&self.folder, model.dtype.kind(), inputs.device)?;
        let weights = pipeline.weight_bytes()?;
        memory::reset_peak_host();
        let folder = store.out.join(PICTURES);
        let mut task = Guidance::new(config.clone(), pipeline, self.items.clone(), &folder)?;
        let answers = match answers(&mut task, store, stop)? {
            RunState::Complete(answers) => answers,
            RunState::Shard(shard) => return Ok(RunState::Shard(shard)),
        };
        let records = &answers.records;
        let memory = (answers.fresh > 0).then(|| Memory::measured(weights));
        // The generating networks are freed before the feature network is loaded.
        drop(task);

        let network = self.features.load(inputs.device)?;
        let weights_sha256 = self.features.sha256()?;
        let (reference, reference_sha256) = self.reference.read(&network, &weights_sha256, JUDGED_AT_ONCE)?;
        let settings = self.metrics.settings(*seed);
        let judge = |method: &Method| -> Result<Judged> {
            let features = features(&network, &folder, method.key(), records)?.finish();
            let masked = records.iter().filter_map(|record| record.methods.get(method.key())?.mask_area);
            let masked: Vec<f64> = masked.collect();
            Ok(Judged {
                key: method.key().to_owned(),
                label: method.label().to_owned(),
                summary: evaluate(&features, &reference, &settings)?,
                mask_area: (!masked.is_empty()).then(|| masked.iter().sum::<f64>() / masked.len() as f64),
            })
        };
        let judged = config.methods.iter().map(judge).collect::<Result<Vec<_>>>()?;

        let titles = Titles::new(&network.to_string(), network.is_published_inception());
        let comparisons = metrics::comparisons(&judged);
        let comparable = inputs.experiment.is_comparable() && network.is_published_inception();
        let mut tables = vec![("table", tables::table(title, &judged, &titles, inputs.paper, comparable))];
        if !comparisons.is_empty() {
            let methods = Kind::methods(config);
            tables.push(("comparisons", tables::comparison_table(&comparisons, &methods, &titles)));
        }
        let hashes = records.iter().flat_map(|record| record.methods.values().map(|drawn| &drawn.sha256));
        let data_sha256 = data_sha256(hashes.map(String::as_str).chain([reference_sha256.as_str()]));
        let warnings = judged.iter().filter_map(|method| warning(&method.label, method.mask_area?)).collect();
        Ok(RunState::Complete(Report {
            metrics: metrics::values(&judged, inputs.paper),
            comparisons,
            resampled: metrics::resamples(&judged),
            memory,
            judge: Some(Judge { features: network.to_string(), weights_sha256, reference_sha256 }),
            tables,
            warnings,
            figures: tables::figures(&store.out, &folder, config, records)?,
            ..Report::of(answers, data_sha256)
        }))
    }
}

/// Returns a warning for masks that are uniform, so that they do not depend on attention.
fn warning(label: &str, mask_area: f64) -> Option<String> {
    let what = match mask_area {
        area if area <= 0.0 => "no token is degraded in any image, so guidance has no effect",
        area if area >= 1.0 => "every token is degraded in every image, whatever the attention",
        _ => return None,
    };
    Some(format!(
        "{label}: {what}; task.guidance.threshold and the mask of the method decide which tokens are"
    ))
}

/// Returns the features of the images of a method, by their numbers.
fn features(
    network: &FeatureNetwork,
    folder: &Path,
    method: &str,
    records: &[GuidanceRecord],
) -> Result<FeatureSet> {
    let drawn: Vec<(&GuidanceRecord, &Generated)> =
        records.iter().filter_map(|record| Some((record, record.methods.get(method)?))).collect();
    let file = |record: &GuidanceRecord| Guidance::file(folder, method, &record.id);
    let read = |_, (record, generated): &(&GuidanceRecord, &Generated)| {
        Ok((record.seed, read_picture(&file(record), generated)?))
    };
    let name = |(record, _): &(&GuidanceRecord, &Generated)| file(record).display().to_string();
    extract_each(network, &drawn, JUDGED_AT_ONCE, "judged", name, read)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_and_full_masks_give_a_warning() {
        let said = |area| warning("SAG", area).unwrap_or_default();
        assert!(said(0.0).starts_with("SAG: no token is degraded in any image"));
        assert!(said(1.0).starts_with("SAG: every token is degraded in every image"));
        assert_eq!([said(0.01), said(0.99)], ["", ""]);
    }
}
