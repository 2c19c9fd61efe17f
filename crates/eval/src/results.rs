//! `results.json`: the results of a run, and everything that decided them.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
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
    /// Number of answered items.
    pub items: u64,
    /// Number of images of these items, if some share one: then intervals are over images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images: Option<u64>,
    /// Items whose data cannot be read; no metric counts them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<Failure>,
    /// Values of the metrics.
    pub metrics: Vec<MetricValue>,
    /// Differences between methods, with their intervals.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub comparisons: Vec<Comparison>,
    /// Curves from which values were computed, if there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub curves: Option<Curves>,
    /// The network that scored generated images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judge: Option<Judge>,
    /// Memory that the run used, if it was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Memory>,
    /// The network.
    pub weights: WeightsId,
    /// The images.
    pub data: DataId,
    /// SHA-256 of the file of each method whose scores come from a file, by the name of the method.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub scores: BTreeMap<String, String>,
    /// The program.
    pub code: Code,
    /// The machine.
    pub environment: Environment,
    /// Metrics over resamples of the items, for metrics that are not sums over items; used to compare two runs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resampled: Vec<Resamples>,
}

impl Results {
    /// Reads the content of `results.json`.
    ///
    /// # Errors
    /// Fails if the content does not have this [`SCHEMA`](runs::layout::SCHEMA), or repeats a value.
    pub fn read(mut content: Value) -> serde_json::Result<Self> {
        // Earlier versions did not repeat the number of items with each difference.
        let items = content["items"].clone();
        let comparisons = content.get_mut("comparisons").and_then(Value::as_array_mut);
        for comparison in comparisons.into_iter().flatten() {
            if let Some(difference) = comparison.get_mut("interval").and_then(Value::as_object_mut) {
                difference.entry("items").or_insert_with(|| items.clone());
            }
        }
        let results: Self = serde_json::from_value(content)?;
        let mut seen = BTreeSet::new();
        let twice = results.metrics.iter().find(|value| !seen.insert((&value.name, &value.method)));
        match twice {
            Some(value) => Err(<serde_json::Error as serde::de::Error>::custom(format!(
                "the value of {} is repeated",
                value.name
            ))),
            None => Ok(results),
        }
    }

    /// Returns the number of items that a bootstrap draws: images if some items share one.
    pub fn independent_items(&self) -> u64 {
        self.images.unwrap_or(self.items)
    }

    /// Returns the value of a metric for a method.
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
    /// Key of the method; `None` for values of the whole run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// The value; `None` if it is not defined.
    pub value: Option<f64>,
    /// Whether larger values are better; `None` if neither larger nor smaller is better.
    pub higher_is_better: Option<bool>,
    /// The paper's published value for the same cell.
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
    /// The difference with its interval.
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
    /// The values in order: resample `r` of `n` items draws the same items in every run with the same seed.
    pub values: Vec<f64>,
}

/// The network and the reference that generated images were scored with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judge {
    /// Name of the features.
    pub features: String,
    /// Hash of the network's weights.
    pub weights_sha256: String,
    /// Hash over the images of the reference, or of its file.
    pub reference_sha256: String,
}

/// Memory of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// Peak memory of the process in the host's RAM, in bytes, if the system reports it.
    pub peak_host: Option<u64>,
    /// Bytes of the weights of each network; one is on the device at a time.
    pub weights: BTreeMap<String, u64>,
}

impl Memory {
    /// Returns the memory of the process so far, with the sizes of the networks' weights in bytes.
    pub(crate) fn measured<N: ToString>(weights: impl IntoIterator<Item = (N, u64)>) -> Self {
        let weights = weights.into_iter().map(|(network, bytes)| (network.to_string(), bytes));
        Self { peak_host: memory::peak_host(), weights: weights.collect() }
    }
}

impl fmt::Display for Memory {
    /// Formats as `peak 1.2 GiB on the host; weights transformer 22.1 GiB, vae 0.2 GiB`, the largest network first.
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

/// Formats a byte count in the largest unit that gives at least 1.
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

/// Accuracy over fractions of removed tokens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Curves {
    /// Fractions of patch tokens removed.
    pub fractions: Vec<f64>,
    /// Top-1 accuracy at each fraction, by method.
    pub accuracy: BTreeMap<String, Vec<f64>>,
    /// Of the images classified correctly before masking, the fraction still classified correctly, by method.
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
