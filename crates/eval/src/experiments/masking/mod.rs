//! Masking: accuracy of a classifier while the most important tokens are removed.

mod items;
pub mod metrics;
mod tables;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use models::{Device, HeadSource, LoadOptions, VisionConfig, VisionModel};
use runs::{Compared, Inputs, RunState, RunStore, answers, compare_records};
use tasks::dataset::{LabelledImage, unreadable};
use tasks::masking::{Masking, MaskingConfig, MaskingRecord, Method, Ranking, Score};
use tasks::score_file::ScoreFiles;

use super::kind::{Kind, Prepared, Report, RunInputs};
use super::measure::{comparisons, values};
use super::setup::{data_sha256, no_metrics, once};
use super::spec::{Facts, FigureFile, Filling, Goal, MethodInfo};
use super::tables::difference_table;
use super::view::{ItemSums, ItemView};
use crate::error::{Error, Result};
use crate::experiment::{Experiment, TaskConfig};
use crate::folder::RunFolder;
use crate::metrics::clusters::Clusters;
use crate::model::ClassSource;
use crate::results::{Curves, Results};
use metrics::{MaskingCurves, MaskingMetric, measures};

/// Description of the experiment.
pub const FACTS: Facts = Facts {
    name: "masking",
    metrics: || MaskingMetric::all().into_iter().map(MaskingMetric::spec).collect(),
    rows: "tokens masked by",
    figures: &[
        FigureFile { file: "curves.png", title: "curves" },
        FigureFile { file: "overlays.png", title: "What the methods see" },
    ],
    paper_table: Some(include_str!("../../../../../eval/tables/masking.toml")),
    filling: Filling::Column,
    goal: Goal {
        metric: "auc",
        head: "AUC ↓",
        plain: "tokenrank",
        note: "AUC: accuracy ÷ unmasked accuracy, mean over the fractions removed; lower is better.",
    },
    source_note: tables::source_note,
};

impl Kind for MaskingConfig {
    fn facts(&self) -> &'static Facts {
        &FACTS
    }

    fn validate(&self, experiment: &Experiment) -> Result<()> {
        self.check()?;
        no_metrics(experiment)
    }

    fn methods(&self) -> Vec<MethodInfo> {
        let info = |method: Method| MethodInfo {
            family: method.ranking.score.to_string(),
            family_label: method.ranking.score.label().to_owned(),
            ours: method.ranking.score.is_steady_state(),
            seeded: method.ranking.score == Score::Random,
            ..MethodInfo::new(&method.to_string(), &method.label())
        };
        self.methods().into_iter().map(info).collect()
    }

    fn alone(&self) -> Vec<TaskConfig> {
        let alone = |method| TaskConfig::Masking(self.of_method(method));
        self.methods().iter().map(alone).collect()
    }

    fn only(&self, families: &[String]) -> TaskConfig {
        let mut config = self.clone();
        config.methods.retain(|score| families.contains(&score.to_string()));
        TaskConfig::Masking(config)
    }

    fn own_files(&self) -> Vec<&Path> {
        self.score_paths()
    }

    fn open(&self, experiment: &Experiment, _: Device) -> Result<Box<dyn Prepared>> {
        Ok(Box::new(PreparedMasking::find(experiment, self)?))
    }

    fn meaning(&self, _: &Results) -> String {
        tables::meaning(self)
    }

    fn sums(&self, run: &RunFolder) -> Result<ItemSums> {
        let records = run.records::<MaskingRecord>()?;
        ItemSums::of(&measures(self), &records, &Kind::methods(self), |record| &record.id)
    }

    fn items(&self, run: &RunFolder) -> Result<ItemView> {
        items::view(self, run)
    }
}

/// A classifier and labelled images.
struct PreparedMasking {
    /// Folder of the network.
    folder: PathBuf,
    /// Classes for a network that has none of its own.
    head: Option<HeadSource>,
    items: Vec<LabelledImage>,
    config: MaskingConfig,
    /// Rows and columns of the grid of patches, if it is the same for every image.
    grid: Option<(usize, usize)>,
    /// Files of the scores that come from files.
    files: ScoreFiles,
}

/// A network whose files exist and are complete.
struct Network {
    folder: PathBuf,
    config: VisionConfig,
    grid: Option<(usize, usize)>,
}

impl Network {
    fn find(experiment: &Experiment, task: &MaskingConfig) -> Result<Self> {
        let model = &experiment.model;
        let folder = model.source.folder()?;
        let config = VisionConfig::from_dir(&folder)?;
        let options = LoadOptions {
            kind: model.dtype.kind(),
            image_size: task.image_size.map(|side| (side, side)),
            ..LoadOptions::default()
        };
        let mut grid = None;
        let mut fits = Ok(());
        models::headers_only(|| {
            VisionModel::load(&folder, &options).map(|model| {
                grid = model.grid();
                fits = task.check_network(&model.network);
            })
        })?;
        task.layers.resolve(config.depth())?;
        fits?;
        Ok(Self { folder, config, grid })
    }
}

/// Returns the number of classes of a network, and the source of the classes if the network has none itself.
fn classes(classes: Option<&ClassSource>, network: &Network) -> Result<(usize, Option<HeadSource>)> {
    let Network { folder, config, .. } = network;
    let head = classes.map(ClassSource::head).transpose()?;
    let count = match &head {
        Some(head) => head.check(folder, config)?,
        None => config.classes().ok_or_else(|| models::Error::NoClassifier { path: folder.clone() })?,
    };
    Ok((count as usize, head))
}

impl PreparedMasking {
    fn find(experiment: &Experiment, task: &MaskingConfig) -> Result<Self> {
        let source = experiment.model.classes.as_ref();
        let network = Network::find(experiment, task);
        let config = network.as_ref().ok().map(|network| &network.config);
        // Everything that is missing is reported in one error, since each item may take hours to download.
        let there = source.map_or(Ok(()), |source| source.present(config));
        let classes = match (&network, there) {
            (Ok(network), Ok(())) => classes(source, network).map(Some),
            (_, there) => there.map(|()| None),
        };
        let count = classes
            .as_ref()
            .ok()
            .and_then(|classes| classes.as_ref())
            .map_or(usize::MAX, |(count, _)| *count);
        match (network, classes, experiment.dataset.items(count), task.score_files()) {
            (Ok(Network { folder, grid, .. }), Ok(Some((_, head))), Ok(items), Ok(files)) => {
                Ok(Self { folder, head, items, config: task.clone(), grid, files })
            }
            (network, classes, items, files) => {
                let (items, files) = (items.err().map(Error::Task), files.err().map(Error::Task));
                let errors = [network.err(), classes.err(), items, files];
                Err(Error::all(errors.into_iter().flatten().collect()))
            }
        }
    }
}

impl Prepared for PreparedMasking {
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
        self.items.iter().map(|item| format!("{}\t{}", item.id, item.label)).collect()
    }

    fn unreadable(&self) -> Vec<String> {
        unreadable(&self.items)
    }

    fn classes(&self) -> String {
        format!("{:?}", self.head)
    }

    fn weights_sha256(&self) -> Result<String> {
        let head = self.head.as_ref().and_then(HeadSource::file);
        let files = std::iter::once(self.folder.clone()).chain(head.map(Path::to_path_buf)).collect();
        once(files, || Ok(models::model_sha256(&self.folder, head)?))
    }

    fn scores_sha256(&self) -> BTreeMap<String, String> {
        self.files.sha256()
    }

    fn prove(&self) -> Result<Vec<String>> {
        Ok(self.config.check_scores(&self.files, &self.items, self.grid)?)
    }

    fn compare_data(&self, inputs: &mut Inputs, records: (&[u8], &str)) -> Compared {
        compare_records::<Masking>(inputs, &self.items, records)
    }

    fn run(&self, inputs: &RunInputs<'_>, store: &RunStore, stop: &AtomicBool) -> Result<RunState<Report>> {
        let (Experiment { title, model, seed, .. }, config) = (inputs.experiment, &self.config);
        let options = LoadOptions {
            kind: model.dtype.kind(),
            device: inputs.device,
            image_size: config.image_size.map(|side| (side, side)),
            head: self.head.clone(),
        };
        let model = VisionModel::load(&self.folder, &options)?;
        let preprocessor = model.preprocessor.clone();
        let (items, files) = (self.items.clone(), self.files.clone());
        let mut task = Masking::new(config.clone(), model, items, *seed, files)?;
        let answers = match answers(&mut task, store, stop)? {
            RunState::Complete(answers) => answers,
            RunState::Shard(shard) => return Ok(RunState::Shard(shard)),
        };
        let (items, records) = (answers.of(&self.items), &answers.records);
        let fractions = config.fractions.values();
        let (methods, curves) = (Kind::methods(config), MaskingCurves::of(&fractions, records));
        let drawn = tables::Drawn { items: &items, preprocessor: &preprocessor, records };
        let figures = tables::figures(&store.out, (title, config), &drawn, &curves, &methods)?;
        let data_sha256 = data_sha256(records.iter().map(|record| record.sha256.as_str()));
        let (measures, keys) = (measures(config), pairs(&config.methods()));
        let keys: Vec<(&str, &str)> = keys.iter().map(|(method, minus)| (&**method, &**minus)).collect();
        let comparisons = comparisons(&measures, records, &keys, *seed);
        let metrics = values(&measures, records, &methods, inputs.paper);
        let table = tables::table((title, config), (&curves, &metrics), &methods, inputs.paper);
        let mut tables = vec![("table", table)];
        if !comparisons.is_empty() {
            let (title, images) =
                ("Differences of scores on the same images", Clusters::singles(records.len()));
            tables.push(("comparisons", difference_table(&FACTS, title, &comparisons, &methods, &images)));
        }
        Ok(RunState::Complete(Report {
            metrics,
            comparisons,
            curves: Some(curves_of(&curves)),
            tables,
            warnings: warning(&curves).into_iter().collect(),
            figures,
            ..Report::of(answers, data_sha256)
        }))
    }
}

/// Returns pairs of methods with the same mechanism: every form of TokenRank minus each score that is none, over the same tokens if both
/// read the chain; and TokenRank with heads weighted by λ₂ minus that with equal heads.
fn pairs(methods: &[Method]) -> Vec<(String, String)> {
    let is_plain = |ours: &Ranking, other: &Ranking| {
        (&ours.score, &other.score) == (&Score::TokenrankLambda2, &Score::Tokenrank)
    };
    let fits = |ours: &Method, other: &Method| {
        let same_mechanism = ours.mechanism == other.mechanism;
        let (ours, other) = (&ours.ranking, &other.ranking);
        same_mechanism
            && (!other.score.is_steady_state() || is_plain(ours, other))
            && (other.cls == ours.cls || !other.score.is_of_chain())
    };
    let of = |ours: &Method| {
        let others = methods.iter().filter(|other| fits(ours, other));
        others.map(|other| (ours.to_string(), other.to_string())).collect::<Vec<_>>()
    };
    methods.iter().filter(|method| method.ranking.score.is_steady_state()).flat_map(of).collect()
}

/// Returns a warning if no image is right before masking, since then there is no AUC.
fn warning(curves: &MaskingCurves) -> Option<String> {
    (curves.items() > 0 && curves.right_unmasked() == 0).then(|| {
        "no image is classified right before masking, so there is no AUC; check that the dataset numbers its classes like the \
         network, and that the preprocessing is the network's own"
            .to_owned()
    })
}

fn curves_of(curves: &MaskingCurves) -> Curves {
    let (mut accuracy, mut still_right) = (BTreeMap::new(), BTreeMap::new());
    for (method, curve) in curves.finish() {
        accuracy.insert(method.clone(), curve.accuracy);
        still_right.insert(method, curve.still_right);
    }
    Curves { fractions: curves.fractions().to_vec(), accuracy, still_right }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokenrank_is_compared_with_every_other_score_of_its_chain() {
        let config: MaskingConfig = toml::from_str(
            "fractions = [0.0, 0.5]\ncls = [\"kept\", \"dropped\"]\n\
             methods = [\"random\", \"cls\", \"column-sum\", \"tokenrank\", \"tokenrank-lambda2\"]",
        )
        .expect("a table");
        let found: Vec<String> =
            pairs(&config.methods()).iter().map(|(method, minus)| format!("{method} − {minus}")).collect();
        assert_eq!(
            found,
            [
                "tokenrank − random",
                "tokenrank − cls",
                "tokenrank − column-sum",
                "tokenrank-no-cls − random",
                "tokenrank-no-cls − cls",
                "tokenrank-no-cls − column-sum-no-cls",
                "tokenrank-lambda2 − random",
                "tokenrank-lambda2 − cls",
                "tokenrank-lambda2 − column-sum",
                "tokenrank-lambda2 − tokenrank",
                "tokenrank-lambda2-no-cls − random",
                "tokenrank-lambda2-no-cls − cls",
                "tokenrank-lambda2-no-cls − column-sum-no-cls",
                "tokenrank-lambda2-no-cls − tokenrank-no-cls",
            ]
        );
    }

    #[test]
    fn a_run_without_right_images_gives_a_warning() {
        let mut curves = MaskingCurves::new(vec![0.0, 0.5]);
        assert_eq!(warning(&curves), None);
        let mut record = MaskingRecord {
            id: "a".into(),
            sha256: String::new(),
            label: 3,
            unmasked: 2,
            predicted: BTreeMap::new(),
            confidence: None,
            scores: None,
        };
        curves.add(&record);
        assert!(warning(&curves).is_some_and(|warning| warning.contains("no image is classified right")));
        record.unmasked = 3;
        curves.add(&record);
        assert_eq!(warning(&curves), None);
    }
}
