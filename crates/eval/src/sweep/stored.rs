//! `sweep.json`: every combination of a sweep with its values, the runs that have them, and the differences of methods.

use std::collections::BTreeMap;
use std::path::Path;

use models::limits;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tasks::Failure;

use crate::error::{Error, Result};
use crate::results::Comparison;
use runs::layout::{SCHEMA, SWEEP};
use runs::{Code, Environment, FileAction};

/// The content of `sweep.json`.
#[derive(Debug, Serialize, Deserialize)]
pub struct StoredSweep {
    /// [`SCHEMA`] of the program that wrote it.
    pub schema: u32,
    /// The experiment's title.
    pub title: String,
    /// Number of items of the largest run.
    pub items: u64,
    /// Items that some run could not read; its metrics exclude them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<Failure>,
    /// Key of the metric of the tables.
    pub metric: String,
    /// The settings that are varied, in the order of the file. Earlier versions did not write them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub axes: Vec<String>,
    /// The methods in the order of the tables' columns. Earlier versions did not write them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<StoredColumn>,
    /// Every combination; the last setting changes fastest.
    pub combinations: Vec<StoredCombination>,
    /// The program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Code>,
    /// The machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<Environment>,
}

/// A method of a sweep.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredColumn {
    /// Key of the method in `sweep.json`.
    pub key: String,
    /// Name in tables.
    pub label: String,
}

/// A combination of a sweep.
#[derive(Debug, Serialize, Deserialize)]
pub struct StoredCombination {
    /// The value of each setting, as in the file but without quotes.
    pub settings: BTreeMap<String, String>,
    /// The run that has the numbers of each method.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub methods: BTreeMap<String, StoredMethod>,
    /// The plain method of the paper minus each other method, over the same items.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub differences: Vec<Comparison>,
    /// The values by method, under the key of the metric, and what earlier versions wrote.
    #[serde(flatten)]
    pub metrics: BTreeMap<String, Value>,
}

/// The run that has the numbers of a method of a combination. Several combinations may share it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct StoredMethod {
    /// Folder of the run inside the folder of the sweep, with `/` between its parts.
    pub run: String,
    /// Key of the method in that run.
    pub method: String,
}

impl StoredSweep {
    /// Reads the file in the folder of a sweep.
    ///
    /// # Errors
    /// Fails if the file does not exist, is damaged, or is of another version.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(SWEEP);
        let bytes =
            limits::read_bytes(&path, limits::RESULTS_BYTES).map_err(Error::file(FileAction::Read, &path))?;
        let damaged = |reason: String| {
            Error::unreadable(&path, format!("{reason}; the command that made the sweep writes it again"))
        };
        let mut stored: Self = serde_json::from_slice(&bytes).map_err(|e| damaged(e.to_string()))?;
        if stored.schema != SCHEMA {
            return Err(damaged(format!("has schema {}, this program reads {SCHEMA}", stored.schema)));
        }
        if stored.axes.is_empty() {
            let settings = stored.combinations.iter().flat_map(|one| one.settings.keys());
            stored.axes = unique(settings);
        }
        if stored.columns.is_empty() {
            let of_metric =
                |one: &StoredCombination| Some(one.metrics.get(&stored.metric)?.as_object()?.clone());
            let keys: Vec<String> =
                stored.combinations.iter().filter_map(of_metric).flatten().map(|(key, _)| key).collect();
            let column = |key: String| StoredColumn { label: key.clone(), key };
            stored.columns = unique(keys.iter()).into_iter().map(column).collect();
        }
        Ok(stored)
    }

    /// Returns the metric of a method in a combination, in the unit of results.
    pub fn value(&self, combination: &StoredCombination, method: &str) -> Option<f64> {
        combination.metrics.get(&self.metric)?.get(method)?.as_f64()
    }

    /// Returns the value of each setting in a combination, in the order of the axes; empty if it lacks one.
    pub fn values(&self, combination: &StoredCombination) -> Vec<String> {
        let value = |axis: &String| combination.settings.get(axis).cloned().unwrap_or_default();
        self.axes.iter().map(value).collect()
    }

    /// Returns the name of a method in tables.
    pub fn label<'a>(&'a self, method: &'a str) -> &'a str {
        self.columns.iter().find(|column| column.key == method).map_or(method, |column| &column.label)
    }
}

/// Returns each text once, in the order of the first occurrences.
pub(super) fn unique<'a>(texts: impl IntoIterator<Item = &'a String>) -> Vec<String> {
    let mut known: Vec<String> = Vec::new();
    for text in texts {
        if !known.contains(text) {
            known.push(text.clone());
        }
    }
    known
}
