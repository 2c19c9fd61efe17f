//! Guidance: a Stable Diffusion pipeline, and what its pictures are compared with.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::atomic::AtomicBool;

use models::features::{FeatureNetwork, FeatureSource};
use models::sd::pipeline::SdPipeline;
use models::{Device, memory};
use tasks::guidance::{Generated, Guidance, GuidanceConfig, GuidanceRecord, PictureNumber, read_picture};

use super::{Report, data_sha256};
use crate::error::{Error, Result};
use crate::experiment::Experiment;
use crate::guidance_report::{
    Judged, comparison_table, comparisons, metric_values, pictures, resamples, table,
};
use crate::judge::MetricsConfig;
use crate::metrics::fidelity::{FeatureSet, evaluate};
use crate::picture_metrics::{ReferenceSource, Titles, extract_each};
use crate::plan::Plan;
use crate::results::{Judge, Memory};
use runs::{RunState, RunStore, answers};

/// Fewest pictures of a set that has a covariance, and so a distance to another.
const FEWEST: usize = 2;
/// Pictures that a feature network looks at together.
const JUDGED_AT_ONCE: usize = 32;

/// A Stable Diffusion pipeline, and what its pictures are compared with.
#[derive(Clone)]
pub(crate) struct GuidanceWork {
    folder: PathBuf,
    pub(super) items: Vec<PictureNumber>,
    pub(super) config: GuidanceConfig,
    metrics: MetricsConfig,
    features: FeatureSource,
    reference: ReferenceSource,
}

impl GuidanceWork {
    pub(super) fn find(experiment: &Experiment, task: &GuidanceConfig, device: Device) -> Result<Self> {
        let model = &experiment.model;
        super::no_classes(model, "task.guidance.image_size")?;
        let Some(metrics) = &experiment.metrics else {
            let reason = "is missing".into();
            return Err(tasks::Error::Setting { setting: "metrics", reason }.into());
        };
        let items = Guidance::items(task, experiment.seed);
        let pipeline = || -> Result<PathBuf> {
            let folder = model.source.folder()?;
            let pipeline = SdPipeline::open(&folder, model.dtype.kind(), device)?;
            for text in [&task.prompt, &task.negative_prompt] {
                pipeline.tokenizer().encode(text)?;
            }
            let weights = pipeline.check_weights();
            super::fitting(Guidance::new(task.clone(), pipeline, items.clone(), Path::new("")), weights)?;
            Ok(folder)
        };
        let features = || -> Result<FeatureSource> {
            let source = FeatureSource::from_str(&metrics.features)?;
            source.present()?;
            source.check()?;
            Ok(source)
        };
        let reference = || ReferenceSource::of(&experiment.dataset);
        // What is missing is said all at once: it takes its time to get.
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

    /// Reads the reference, and checks that there are pictures enough, before the first one is drawn.
    pub(super) fn prove(&self) -> Result<Vec<String>> {
        let drawn = self.items.len();
        if drawn < FEWEST {
            let reason = format!(
                "{drawn} picture under each method is drawn, and the distances of [metrics] are between sets of at least \
                 {FEWEST}; draw more, and allow more where the number of items is limited"
            );
            return Err(tasks::Error::Setting { setting: "task.guidance.count", reason }.into());
        }
        let reference = self.reference.prove(&self.features)?;
        if let Some(found) = reference.filter(|found| *found < FEWEST) {
            let reason = format!(
                "the reference has {found} picture, and the distances of [metrics] are between sets of at least {FEWEST}; \
                 add pictures"
            );
            return Err(tasks::Error::Setting { setting: "dataset", reason }.into());
        }
        let mut notes = Vec::new();
        let MetricsConfig { splits, kernel, .. } = &self.metrics;
        if drawn < *splits {
            notes.push(format!(
                "no Inception Score: metrics.splits is {splits}, and {drawn} pictures are drawn under each method"
            ));
        }
        let fewest = reference.map(|found| found.min(drawn));
        if let Some(fewest) = fewest.filter(|fewest| *fewest < kernel.subset_size) {
            notes.push(format!(
                "the kernel distance will have subsets of {fewest} instead of metrics.kernel.subset_size = {}: {drawn} \
                 pictures are drawn under each method, the reference has {}",
                kernel.subset_size,
                reference.unwrap_or_default()
            ));
        }
        Ok(notes)
    }

    pub(super) fn manifest(&self) -> Vec<String> {
        let pictures = self.items.iter().map(|item| format!("{}\t{}", item.id, item.seed));
        pictures.chain(self.reference.manifest()).collect()
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
        let folder = store.out.join("pictures");
        let mut task = Guidance::new(config.clone(), pipeline, self.items.clone(), &folder)?;
        let answered = match answers(&mut task, store, stop)? {
            RunState::Complete(answered) => answered,
            RunState::Shard(part) => return Ok(RunState::Shard(part)),
        };
        let (records, out) = (&answered.records, &*store.out);
        let memory = (answered.fresh > 0).then(|| Memory::measured(weights));
        // The networks that draw leave before the one that judges comes.
        drop(task);

        let network = self.features.load(plan.device)?;
        let weights_sha256 = self.features.sha256()?;
        let (reference, reference_sha256) = self.reference.read(&network, &weights_sha256, JUDGED_AT_ONCE)?;
        let settings = self.metrics.settings(*seed);
        let judge = |method: &tasks::guidance::Method| -> Result<Judged> {
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
        let paper = plan.paper.as_ref().map(|beside| &beside.table);
        let comparisons = comparisons(&judged);
        let methods =
            judged.iter().map(|judged| (judged.key.clone(), judged.label.clone())).collect::<Vec<_>>();
        let comparable = plan.experiment.is_comparable() && network.is_published_inception();
        let mut tables = vec![("table", table(&plan.experiment.title, &judged, &titles, paper, comparable))];
        if !comparisons.is_empty() {
            tables.push(("comparisons", comparison_table(&comparisons, &methods, &titles)));
        }
        let hashes = records.iter().flat_map(|record| record.methods.values().map(|drawn| &drawn.sha256));
        let data_sha256 = data_sha256(hashes.map(String::as_str).chain([reference_sha256.as_str()]));
        let warnings = judged.iter().filter_map(|method| warning(&method.label, method.mask_area?)).collect();
        Ok(RunState::Complete(Report {
            items: records.len() as u64,
            metrics: metric_values(&judged, paper),
            comparisons,
            resampled: resamples(&judged),
            curves: None,
            memory,
            judge: Some(Judge { features: network.to_string(), weights_sha256, reference_sha256 }),
            data_sha256,
            methods,
            tables,
            warnings,
            pictures: pictures(out, &folder, config, records)?,
            failed: answered.failed,
            fresh: answered.fresh,
            took: answered.took,
        }))
    }
}

/// Masks that are the same everywhere guide by nothing that attention says.
fn warning(label: &str, mask_area: f64) -> Option<String> {
    let what = match mask_area {
        area if area <= 0.0 => {
            "no token is degraded in any picture, so guidance has nothing to lead away from"
        }
        area if area >= 1.0 => "every token is degraded in every picture, wherever attention is",
        _ => return None,
    };
    Some(format!(
        "{label}: {what}; task.guidance.threshold and the mask of the method decide which tokens are"
    ))
}

/// Features of the pictures of a method, under their numbers.
fn features(
    network: &FeatureNetwork,
    folder: &Path,
    method: &str,
    records: &[GuidanceRecord],
) -> Result<FeatureSet> {
    let drawn: Vec<(&GuidanceRecord, &Generated)> =
        records.iter().filter_map(|record| Some((record, record.methods.get(method)?))).collect();
    extract_each(network, &drawn, JUDGED_AT_ONCE, "judged", |_, (record, generated)| {
        let rgb = read_picture(&Guidance::file(folder, method, &record.id), generated)?;
        Ok((record.seed, rgb))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_of_nothing_and_of_everything_are_said() {
        let said = |area| warning("SAG", area).unwrap_or_default();
        assert!(said(0.0).starts_with("SAG: no token is degraded in any picture"));
        assert!(said(1.0).starts_with("SAG: every token is degraded in every picture"));
        assert_eq!([said(0.01), said(0.99)], ["", ""]);
    }
}
