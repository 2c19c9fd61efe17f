//! Kept tokens: how many image tokens a threshold on their score keeps.

pub mod metrics;

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use models::{Device, LoadOptions, VisionConfig, VisionModel};
use runs::{Compared, Inputs, RunState, RunStore, answers, compare_records};
use tasks::dataset::{LabelledImage, unreadable};
use tasks::kept::{Kept, KeptConfig, KeptMethod, KeptRecord};

use super::kind::{Kind, Prepared, Report, RunInputs};
use super::measure::{comparisons, values};
use super::setup::{both, data_sha256, no_metrics, once};
use super::spec::{Facts, Filling, Goal, MethodInfo};
use super::tables::{Comparable, difference_table, metric_table};
use super::view::{ImageSource, ItemSums, ItemView, Score, Spreads, records, values as by_item};
use crate::error::Result;
use crate::experiment::{Experiment, TaskConfig};
use crate::folder::RunFolder;
use crate::metrics::clusters::Clusters;
use crate::results::Results;
use metrics::{KeptFraction, measures};

/// Description of the experiment.
pub const FACTS: Facts = Facts {
    name: "kept",
    metrics: || vec![KeptFraction.spec()],
    rows: "tokens scored by",
    figures: &[],
    paper_table: None,
    filling: Filling::Table,
    goal: Goal { metric: "kept", head: "tokens kept", plain: "tokenrank", note: MEANING },
    source_note: |_| "The paper has no such experiment.".to_owned(),
};

const MEANING: &str = "Tokens kept: fraction of the image tokens whose score reaches the threshold.";

impl Kind for KeptConfig {
    fn facts(&self) -> &'static Facts {
        &FACTS
    }

    fn validate(&self, experiment: &Experiment) -> Result<()> {
        self.check()?;
        no_metrics(experiment)
    }

    fn methods(&self) -> Vec<MethodInfo> {
        let info = |method: &KeptMethod| MethodInfo {
            ours: *method == KeptMethod::Tokenrank,
            seeded: false,
            ..MethodInfo::new(method.key(), method.label())
        };
        self.methods.iter().map(info).collect()
    }

    fn alone(&self) -> Vec<TaskConfig> {
        self.methods.iter().map(|method| TaskConfig::Kept(self.of_method(*method))).collect()
    }

    fn only(&self, families: &[String]) -> TaskConfig {
        let mut config = self.clone();
        config.methods.retain(|method| families.iter().any(|family| family == method.key()));
        TaskConfig::Kept(config)
    }

    fn open(&self, experiment: &Experiment, _: Device) -> Result<Box<dyn Prepared>> {
        let folder = experiment.model.source.folder().and_then(|folder| {
            let config = VisionConfig::from_dir(&folder)?;
            self.layers.resolve(config.depth())?;
            models::headers_only(|| VisionModel::load(&folder, &LoadOptions::default()))?;
            Ok(folder)
        });
        let (folder, items) = both(folder, experiment.dataset.items(usize::MAX))?;
        Ok(Box::new(PreparedKept { folder, items, config: self.clone() }))
    }

    fn meaning(&self, _: &Results) -> String {
        format!("{MEANING} Threshold: {} × an even share.", self.threshold)
    }

    fn sums(&self, run: &RunFolder) -> Result<ItemSums> {
        let records = run.records::<KeptRecord>()?;
        ItemSums::of(&measures(), &records, &Kind::methods(self), |record| &record.id)
    }

    fn items(&self, run: &RunFolder) -> Result<ItemView> {
        let (answers, methods) = (run.answers::<KeptRecord>()?, Kind::methods(self));
        let mut items = ItemView::of(methods.clone(), &answers, Vec::new(), |one| &one.id, |_| Vec::new());
        items.score(Score {
            title: "Kept, %",
            meaning: "Fraction of the image's tokens whose score reaches the threshold.",
            higher_is_better: None,
            digits: 1,
            values: by_item(&methods, &answers, |record: &KeptRecord, key| {
                Some(100.0 * *record.kept.get(key)? as f64 / record.tokens as f64)
            }),
        });
        let experiment = &run.results.experiment;
        let found = experiment.dataset.items(usize::MAX);
        items.compare_data::<Kept>(run, &found, &answers);
        items.images = ImageSource::items(
            found,
            |item| &item.id,
            |item| item.load().ok().map(|image| (image.rgb, Some(image.sha256))),
        );
        items.spreads = Spreads::of(&measures(), &records(&answers), &methods, experiment.seed);
        Ok(items)
    }
}

/// A network and images.
struct PreparedKept {
    folder: PathBuf,
    items: Vec<LabelledImage>,
    config: KeptConfig,
}

impl Prepared for PreparedKept {
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
        self.items.iter().map(|item| item.id.clone()).collect()
    }

    fn unreadable(&self) -> Vec<String> {
        unreadable(&self.items)
    }

    fn weights_sha256(&self) -> Result<String> {
        once(vec![self.folder.clone()], || Ok(models::model_sha256(&self.folder, None)?))
    }

    fn compare_data(&self, inputs: &mut Inputs, records: (&[u8], &str)) -> Compared {
        compare_records::<Kept>(inputs, &self.items, records)
    }

    fn run(&self, inputs: &RunInputs<'_>, store: &RunStore, stop: &AtomicBool) -> Result<RunState<Report>> {
        let Experiment { title, model, seed, .. } = inputs.experiment;
        let options =
            LoadOptions { kind: model.dtype.kind(), device: inputs.device, ..LoadOptions::default() };
        let model = VisionModel::load(&self.folder, &options)?;
        let mut task = Kept::new(self.config.clone(), model, self.items.clone())?;
        let answers = match answers(&mut task, store, stop)? {
            RunState::Complete(answers) => answers,
            RunState::Shard(shard) => return Ok(RunState::Shard(shard)),
        };
        let (records, methods, measures) = (&answers.records, Kind::methods(&self.config), measures());
        let metrics = values(&measures, records, &methods, None);
        let keys: Vec<&str> = self.config.methods.iter().map(|method| method.key()).collect();
        let pairs: Vec<(&str, &str)> = keys.windows(2).map(|pair| (pair[1], pair[0])).collect();
        let comparisons = comparisons(&measures, records, &pairs, *seed);
        let images = Clusters::singles(records.len());
        let notes = vec![format!("{images}, in percent. {MEANING}")];
        let mut tables =
            vec![("table", metric_table(&FACTS, (title, notes), &metrics, &methods, None, Comparable::No))];
        if !comparisons.is_empty() {
            let title = "Differences of scores on the same images";
            tables.push(("comparisons", difference_table(&FACTS, title, &comparisons, &methods, &images)));
        }
        let data_sha256 = data_sha256(records.iter().map(|record| record.sha256.as_str()));
        Ok(RunState::Complete(Report { metrics, comparisons, tables, ..Report::of(answers, data_sha256) }))
    }
}
