//! `results.json`: what came out of a run, and everything that decided it.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;

use models::memory;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tasks::Failure;

use crate::experiment::Experiment;
use crate::metrics::significance::PairedDifference;
use runs::{Code, Environment};

/// The content of `results.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Results {
    /// [`SCHEMA`](runs::layout::SCHEMA) of the program that wrote it.
    pub schema: u32,
    /// Hash of everything that decides the numbers: settings, weights, images, code.
    pub fingerprint: String,
    /// The experiment with defaults filled in and `--set` applied.
    pub experiment: Experiment,
    /// Number of items answered.
    pub items: u64,
    /// Items whose data cannot be read; they count for nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<Failure>,
    /// Values with their meaning.
    pub metrics: Vec<MetricValue>,
    /// How sure differences between methods are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub comparisons: Vec<Comparison>,
    /// Curves behind the values, where there are some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub curves: Option<Curves>,
    /// What judged generated pictures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judge: Option<Judge>,
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
    /// Metrics over resamples of the items, where they are no sums over these: two runs are compared by them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resampled: Vec<Resamples>,
}

impl Results {
    /// Reads the content of `results.json`.
    ///
    /// # Errors
    /// The content is not that of this [`SCHEMA`](runs::layout::SCHEMA).
    pub fn read(mut content: Value) -> serde_json::Result<Self> {
        // Earlier versions did not repeat the number of items with each difference.
        let items = content["items"].clone();
        let comparisons = content.get_mut("comparisons").and_then(Value::as_array_mut);
        for comparison in comparisons.into_iter().flatten() {
            if let Some(difference) = comparison.get_mut("interval").and_then(Value::as_object_mut) {
                difference.entry("items").or_insert_with(|| items.clone());
            }
        }
        serde_json::from_value(content)
    }

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
    /// Whether a larger value is a better one; none where it is neither.
    pub higher_is_better: Option<bool>,
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
    /// The difference, and what the items say of it.
    #[serde(rename = "interval")]
    pub difference: PairedDifference,
}

/// A metric over resamples of the items.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Resamples {
    /// Name of the metric.
    pub metric: String,
    /// The method.
    pub method: String,
    /// In order: resample `r` of `n` items draws the same items in every run of the same seed.
    pub values: Vec<f64>,
}

/// What judged generated pictures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judge {
    /// What the features are called.
    pub features: String,
    /// Hash of the network's weights.
    pub weights_sha256: String,
    /// Hash over the pictures of the reference, or of its file.
    pub reference_sha256: String,
}

/// Memory of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// The most that the process had in the host's RAM at once, in bytes, where the system tells.
    pub peak_host: Option<u64>,
    /// Bytes of the weights of each network; one is on the device at a time.
    pub weights: BTreeMap<String, u64>,
}

impl Memory {
    /// Of the process so far, with networks of these weights.
    pub(crate) fn measured<N: ToString>(weights: impl IntoIterator<Item = (N, u64)>) -> Self {
        let weights = weights.into_iter().map(|(network, bytes)| (network.to_string(), bytes));
        Self { peak_host: memory::peak_host(), weights: weights.collect() }
    }
}

impl fmt::Display for Memory {
    /// Such as `peak 1.2 GiB on the host; weights transformer 22.1 GiB, vae 0.2 GiB`, the largest first.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.peak_host {
            Some(peak) => write!(f, "peak {} on the host", Amount(peak))?,
            None => f.write_str("peak on the host unknown")?,
        }
        let mut weights: Vec<(&String, u64)> =
            self.weights.iter().map(|(name, &bytes)| (name, bytes)).collect();
        weights.sort_by_key(|&(_, bytes)| Reverse(bytes));
        for (place, (name, bytes)) in weights.into_iter().enumerate() {
            let before = if place == 0 { "; weights" } else { "," };
            write!(f, "{before} {name} {}", Amount(bytes))?;
        }
        Ok(())
    }
}

/// Bytes for people, in the largest unit of which there is one.
struct Amount(u64);

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [("GiB", 1_u64 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
        match units.into_iter().find(|(_, unit)| self.0 >= *unit) {
            Some((name, unit)) => write!(f, "{:.1} {name}", self.0 as f64 / unit as f64),
            None => write!(f, "{} bytes", self.0),
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_one_line_the_largest_first() {
        let weights = [("vae", 700), ("transformer", 23_782_357_120), ("text_encoder", 246_000_000)];
        let weights = weights.map(|(name, bytes)| (name.to_owned(), bytes)).into();
        let memory = Memory { peak_host: Some(1_300_000), weights };
        assert_eq!(
            memory.to_string(),
            "peak 1.2 MiB on the host; weights transformer 22.1 GiB, text_encoder 234.6 MiB, vae 700 bytes"
        );
        let nothing = Memory { peak_host: None, weights: BTreeMap::new() };
        assert_eq!(nothing.to_string(), "peak on the host unknown");
    }
}
