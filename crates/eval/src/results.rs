//! `results.json`: what came out of a run, and everything that decided it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use crate::environment::{Code, Environment};
use crate::experiment::Experiment;
use crate::metrics::bootstrap::Interval;

/// Version of the layout of `results.json`; it rises when a field changes its meaning or goes.
pub const SCHEMA: u32 = 1;

/// The content of `results.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Results {
    /// [`SCHEMA`] of the program that wrote it.
    pub schema: u32,
    /// Hash of everything that decides the numbers: settings, weights, images, code.
    pub fingerprint: String,
    /// The experiment with defaults filled in and `--set` applied.
    pub experiment: Experiment,
    /// Number of items answered.
    pub items: u64,
    /// Values with their meaning.
    pub metrics: Vec<MetricValue>,
    /// How sure differences between methods are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub comparisons: Vec<Comparison>,
    /// Curves behind the values, where there are some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub curves: Option<Curves>,
    /// What the run took of memory, where that is watched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Memory>,
    /// The network.
    pub weights: WeightsId,
    /// The images.
    pub data: DataId,
    /// The program.
    pub code: Code,
    /// The machine.
    pub environment: Environment,
}

impl Results {
    /// The value of a metric for a method.
    pub fn value(&self, metric: &str, method: &str) -> Option<f64> {
        let found = |value: &&MetricValue| value.name == metric && value.method.as_deref() == Some(method);
        self.metrics.iter().find(found)?.value
    }
}

/// One number of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MetricValue {
    /// Name of the metric.
    pub name: String,
    /// Which row of the table; none for values of the whole run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// The value; none where it is not defined.
    pub value: Option<f64>,
    /// Whether a larger value is a better one.
    pub higher_is_better: bool,
    /// The paper's value of the cell beside which this one stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published: Option<f64>,
}

/// A metric of one method minus that of another, on the same items.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// Name of the metric.
    pub metric: String,
    /// The first method.
    pub method: String,
    /// The method that is subtracted.
    pub minus: String,
    /// The difference and how far it moves with the items.
    pub interval: Interval,
}

/// Memory of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// The most that the process had in the host's RAM at once, in bytes, where the system tells.
    pub peak_host: Option<u64>,
    /// Bytes of the weights of each network; one is on the device at a time.
    pub weights: BTreeMap<String, u64>,
}

/// Accuracy over shares of removed tokens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Curves {
    /// Shares of patch tokens removed.
    pub fractions: Vec<f64>,
    /// Top-1 accuracy at each share, by method.
    pub accuracy: BTreeMap<String, Vec<f64>>,
    /// Share of the images right before masking that are still right, by method.
    pub still_right: BTreeMap<String, Vec<f64>>,
}

/// Identity of a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WeightsId {
    /// SHA-256 over `config.json` and the weight files.
    pub sha256: String,
}

/// Identity of the images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataId {
    /// Kind of dataset.
    pub dataset: String,
    /// SHA-256 over the hashes of all images in manifest order.
    pub sha256: String,
}
