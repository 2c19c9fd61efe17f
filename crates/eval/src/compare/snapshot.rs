//! The data of a run that a comparison uses: its settings, its numbers, and the contribution of each item to them.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::experiments::view::ItemSums;
use crate::folder::RunFolder;
use crate::metrics::clusters::Clusters;
use crate::metrics::per_item::PerItem;
use crate::results::MetricValue;
use runs::{Code, Environment};

/// How far a value may lie from the sum over its items. Only the order of summation may differ.
const EXACT: f64 = 1e-9;

/// Runs by their names.
pub type Runs = BTreeMap<String, Snapshot>;

/// A run as it is compared.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    /// The experiment with defaults filled in.
    pub experiment: Value,
    /// `--limit`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// Number of items answered.
    pub items: u64,
    /// Items that could not be answered.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<String>,
    /// Hash over the images; for a run that generates images, over the reference images.
    pub data_sha256: String,
    /// Hash of the network's files.
    pub weights_sha256: String,
    /// Hash of the network that scores generated images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judge_sha256: Option<String>,
    /// Hash of the file of each method whose scores come from a file, by the name of the method.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub scores_sha256: BTreeMap<String, String>,
    /// The program that made the run. Another program does not fail a comparison.
    pub code: Code,
    /// The machine. Another machine does not fail a comparison.
    pub environment: Environment,
    /// The command that made it.
    #[serde(skip)]
    pub command: Option<String>,
    /// Names of the items, in the order of all per-item values.
    pub ids: Vec<String>,
    /// The number of each item's image, if items share images; empty if every item has its own, and in baselines of earlier versions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<usize>,
    /// The numbers.
    pub values: Vec<Measured>,
    /// The first digits of the hashes of generated images, by method.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pictures: BTreeMap<String, Vec<String>>,
}

/// A metric of a method.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measured {
    /// Name of the metric.
    pub metric: String,
    /// Key of the method; `None` for values of the whole run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// The value; `None` if it is not defined.
    pub value: Option<f64>,
    /// Whether larger values are better; `None` if neither larger nor smaller is better.
    pub higher_is_better: Option<bool>,
    /// What each item adds, if the metric depends on the items only through sums.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_item: Option<PerItem>,
    /// For other metrics: the values over resamples of the items, which are the same in every run with the same seed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resampled: Vec<f64>,
}

impl Measured {
    /// Returns metric and method as text: `auc of tokenrank`.
    pub(super) fn name(&self) -> String {
        format!("{} of {}", self.metric, self.method.as_deref().unwrap_or("the run"))
    }
}

/// Reads the runs of a folder, keyed by the names of their experiment files or, if several share a name (a sweep), by their
/// folders inside it.
///
/// # Errors
/// Fails if there are none, or if one of them is unfinished or damaged.
pub fn read_runs(dir: &Path) -> Result<Runs> {
    let found = RunFolder::find(dir)?;
    let mut names: Vec<&str> = found.iter().map(RunFolder::name).collect();
    names.sort_unstable();
    let unique = names.windows(2).all(|pair| pair[0] != pair[1]);
    let name = |run: &RunFolder| match run.path.strip_prefix(dir) {
        Ok(below) if !unique => below.display().to_string(),
        _ => run.name().to_owned(),
    };
    found.iter().map(|run| Ok((name(run), Snapshot::of(run)?))).collect()
}

impl Snapshot {
    /// Makes a snapshot of a finished run and its records.
    ///
    /// # Errors
    /// Fails if records are missing or damaged.
    pub fn of(run: &RunFolder) -> Result<Self> {
        let (results, header) = (&run.results, run.header());
        let judge = results.judge.as_ref();
        let resampled = |value: &MetricValue| {
            let found = results.resampled.iter().find(|resamples| {
                resamples.metric == value.name && Some(&resamples.method) == value.method.as_ref()
            });
            found.map_or_else(Vec::new, |resamples| resamples.values.clone())
        };
        let measured = results.metrics.iter().map(|value| Measured {
            metric: value.name.clone(),
            method: value.method.clone(),
            value: value.value,
            higher_is_better: value.higher_is_better,
            per_item: None,
            resampled: resampled(value),
        });
        let mut snapshot = Self {
            experiment: header.experiment(),
            limit: header.identity.limit,
            items: results.items,
            failed: results.failed.iter().map(|failure| failure.id.clone()).collect(),
            // The data hash of a guidance run also covers the images that it generated.
            data_sha256: judge.map_or(&results.data.sha256, |judge| &judge.reference_sha256).clone(),
            weights_sha256: results.weights.sha256.clone(),
            judge_sha256: judge.map(|judge| judge.weights_sha256.clone()),
            scores_sha256: results.scores.clone(),
            code: results.code.clone(),
            environment: results.environment.clone(),
            command: header.command.clone(),
            ids: Vec::new(),
            images: Vec::new(),
            values: measured.collect(),
            pictures: BTreeMap::new(),
        };
        snapshot.read_items(run)?;
        snapshot.adds_up().map_err(|reason| Error::unreadable(&run.path, format!("results.json and records.jsonl do not belong together: {reason}; the command that made the run \
                             makes its results again")))?;
        Ok(snapshot)
    }

    /// Checks every value against the sum over the items.
    pub(super) fn adds_up(&self) -> std::result::Result<(), String> {
        for value in &self.values {
            let Some(per_item) = &value.per_item else { continue };
            let (found, items) = (per_item.sums.nrows(), self.ids.len());
            if found != items {
                return Err(format!("{} has sums of {found} items, the run {items}", value.name()));
            }
            let agrees = match (per_item.value(), value.value) {
                (Some(a), Some(b)) => (a - b).abs() <= EXACT * b.abs().max(1.0),
                (None, None) => true,
                _ => false,
            };
            if !agrees {
                return Err(format!("the value of {} is not what its items add up to", value.name()));
            }
        }
        Ok(())
    }

    /// Returns whether two runs have the same content, whatever program, machine and command made them.
    pub(super) fn agrees(&self, other: &Self) -> bool {
        let Self { code, environment, command, .. } = other.clone();
        Self { code, environment, command, ..self.clone() } == *other
    }

    /// Returns which items share an image, as far as this snapshot knows.
    pub(super) fn clusters(&self) -> Clusters {
        match self.images.as_slice() {
            [] => Clusters::singles(self.ids.len()),
            images => Clusters::of(images),
        }
    }

    /// Returns the seed, which decides the resamples.
    pub(super) fn seed(&self) -> &Value {
        &self.experiment["seed"]
    }

    /// Reads the contribution of each item.
    fn read_items(&mut self, run: &RunFolder) -> Result<()> {
        let ItemSums { ids, clusters, mut sums, generated } = run.results.experiment.task.kind().sums(run)?;
        (self.ids, self.pictures) = (ids, generated);
        self.images = clusters
            .filter(Clusters::are_shared)
            .map_or_else(Vec::new, |clusters| clusters.of_items().to_vec());
        for measured in &mut self.values {
            let method = measured.method.clone().unwrap_or_default();
            let metric =
                sums.keys().find(|(metric, _)| *metric == measured.metric).map(|(metric, _)| *metric);
            measured.per_item = metric.and_then(|metric| sums.remove(&(metric, method)));
        }
        Ok(())
    }
}
