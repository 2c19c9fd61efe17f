//! Experiment files.

use std::path::Path;

use models::limits;
use serde::{Deserialize, Serialize};
use tasks::dataset::DatasetConfig;
use tasks::diffseg::DiffSegConfig;
use tasks::guidance::GuidanceConfig;
use tasks::masking::MaskingConfig;
use tasks::segment::SegmentConfig;
use toml_edit::{DocumentMut, Item, Value};

use crate::by_name;
use crate::error::{Error, Result};
use crate::judge::MetricsConfig;
use crate::model::ModelConfig;

/// An experiment: which network looks at which data, and what is measured.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Experiment {
    /// One line for people.
    pub title: String,
    /// Seed of everything random in the experiment, together with the item's name.
    #[serde(default)]
    pub seed: u64,
    /// The cells of a table of the paper that the run stands beside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fills: Option<Fills>,
    /// The network.
    pub model: ModelConfig,
    /// The data.
    pub dataset: DatasetConfig,
    /// What is done with them.
    pub task: TaskConfig,
    /// How generated pictures are judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<MetricsConfig>,
}

/// Where the result stands in a table of the paper.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fills {
    /// Name of a file in `eval/tables`.
    pub table: String,
    /// Column of that table, where a run fills one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<String>,
}

/// `[task.*]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TaskConfig {
    /// Accuracy while the most important tokens are removed.
    Masking(MaskingConfig),
    /// Zero-shot segmentation by a word of the prompt.
    Segment(SegmentConfig),
    /// Pictures that are drawn with self-attention guidance.
    Guidance(GuidanceConfig),
    /// Segments without prompts, by merging self-attention around anchors.
    Diffseg(DiffSegConfig),
}

impl Experiment {
    /// The keys of the file itself.
    pub(crate) const KEYS: [&'static str; 7] =
        ["title", "seed", "fills", "model", "dataset", "task", "metrics"];

    /// Whether the difference from the published value is meaningful. It is not for miniature data sets.
    pub(crate) fn is_comparable(&self) -> bool {
        !matches!(self.dataset, DatasetConfig::Mini(_))
    }

    /// Reads an experiment file and applies `--set` assignments (`key.path=value`; a value that is no TOML is a
    /// string).
    ///
    /// # Errors
    /// The file is unreadable or no experiment; the message carries line and column.
    pub fn read(path: &Path, assignments: &[String]) -> Result<Self> {
        let document = document(path, assignments)?;
        parse(path, &document).map_err(|mut error| {
            if let Error::Config { reason, .. } = &mut error
                && !assignments.is_empty()
            {
                reason.push_str(&format!(" (with --set {})", assignments.join(" --set ")));
            }
            error
        })
    }
}

/// The title of an experiment file, with or without a sweep; none where the file is something else.
///
/// # Errors
/// The file is unreadable or no experiment.
pub fn title(path: &Path) -> Result<Option<String>> {
    let mut document = document(path, &[])?;
    if !document.contains_key("task") {
        return Ok(None);
    }
    document.remove("sweep");
    Ok(Some(parse(path, &document)?.title))
}

/// An experiment file with assignments applied, not yet understood.
pub(crate) fn document(path: &Path, assignments: &[String]) -> Result<DocumentMut> {
    let refuse = |reason: String| Error::Config { path: path.into(), reason };
    let text = limits::read_text(path, limits::EXPERIMENT_BYTES)
        .map_err(|e| refuse(format!("cannot be read: {e}")))?;
    let mut document: DocumentMut =
        text.parse().map_err(|e: toml_edit::TomlError| refuse(brief(&e.to_string())))?;
    for assignment in assignments {
        set(&mut document, assignment)
            .map_err(|reason| Error::Override { assignment: assignment.clone(), reason })?;
    }
    Ok(document)
}

/// The experiment that a document describes.
pub(crate) fn parse(path: &Path, document: &DocumentMut) -> Result<Experiment> {
    let refuse = |e: toml::de::Error| Error::Config { path: path.into(), reason: brief(&e.to_string()) };
    by_name::from_toml(&document.to_string()).map_err(refuse)
}

/// What a parser says; where it quotes a line that nobody could read, without the quotation.
fn brief(message: &str) -> String {
    const LONGEST_LINE: usize = 300;
    let mut lines: Vec<&str> = message.trim().lines().collect();
    if lines.iter().any(|line| line.len() > LONGEST_LINE) {
        lines.retain(|line| !line.contains(" |") && line.len() <= LONGEST_LINE);
        return lines.join(": ");
    }
    lines.join("\n")
}

fn set(document: &mut DocumentMut, assignment: &str) -> Result<(), String> {
    let (key, value) = assignment.split_once('=').ok_or("expected KEY=VALUE, such as seed=1")?;
    let value: Value = value.trim().parse().unwrap_or_else(|_| Value::from(value.trim()));
    insert(document, key.trim(), value)
}

/// Most parts of a dotted key; `task.masking.fractions.step` has four.
const DEEPEST_KEY: usize = 8;

/// Gives the setting at a dotted key a value.
pub(crate) fn insert(document: &mut DocumentMut, key: &str, value: Value) -> Result<(), String> {
    let mut keys: Vec<&str> = key.split('.').map(str::trim).collect();
    let last = keys.pop().unwrap_or_default();
    if last.is_empty() || keys.iter().any(|key| key.is_empty()) {
        return Err(format!("`{key}` is no key; write it as in the file, such as model.path"));
    }
    if keys.len() >= DEEPEST_KEY {
        let begin = keys[..4].join(".");
        return Err(format!(
            "`{begin}.…` has {} parts; no setting has more than {DEEPEST_KEY}",
            keys.len() + 1
        ));
    }
    let mut table: &mut dyn toml_edit::TableLike = document.as_table_mut();
    for key in keys {
        let entry = table.entry(key).or_insert_with(|| Item::Table(toml_edit::Table::new()));
        table = entry.as_table_like_mut().ok_or_else(|| format!("`{key}` is a value, not a table"))?;
    }
    table.insert(last, Item::Value(value));
    // One says where the network is; the other would contradict what was just said.
    match key {
        "model.path" => table.remove("id"),
        "model.id" => table.remove("path"),
        _ => None,
    };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ModelSource;

    const MINI: &str = include_str!("../../../configs/mini/masking-vit.toml");

    fn read(text: &str, assignments: &[&str]) -> Result<Experiment> {
        let dir = tempfile::tempdir().expect("a scratch folder");
        let path = dir.path().join("experiment.toml");
        std::fs::write(&path, text).expect("writable");
        Experiment::read(&path, &assignments.iter().map(|&a| a.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn assignments_reach_nested_keys() -> Result<()> {
        let experiment = read(
            MINI,
            &["model.path=/some where/else", "task.masking.layers=last:2", "task.masking.fractions.to=0.5"],
        )?;
        assert_eq!(experiment.model.source, ModelSource::Path("/some where/else".into()));
        let TaskConfig::Masking(masking) = experiment.task else { panic!("another task") };
        assert_eq!(masking.layers.to_string(), "last:2");
        assert_eq!(masking.fractions.values().last(), Some(&0.5));
        Ok(())
    }

    #[test]
    fn unknown_keys_are_refused_with_their_place() {
        let text = MINI.replace("[model]", "[model]\nweigths = 1");
        let message = read(&text, &[]).expect_err("an unknown key").to_string();
        assert!(message.contains("weigths") && message.contains("line"), "{message}");
        assert!(message.contains('^'), "{message}");
        let message = read(MINI, &["speed=1"]).expect_err("an unknown key").to_string();
        let keys = Experiment::KEYS.map(|key| format!("`{key}`")).join(", ");
        assert!(message.contains(&format!("expected one of {keys}")), "{message}");
    }

    #[test]
    fn a_model_is_a_folder_or_a_published_checkpoint() -> Result<()> {
        let (path, id) = ("path = \"datasets/mini/models/vit\"", "id = \"facebook/dino-vits16\"");
        let published = MINI.replace(path, id);
        let experiment = read(&published, &[])?;
        assert_eq!(experiment.model.source, ModelSource::Id("facebook/dino-vits16".into()));
        // What is written into results can be read again.
        let json = serde_json::json!(experiment.model);
        assert_eq!(json, serde_json::json!({ "id": "facebook/dino-vits16", "dtype": "f32" }));
        assert_eq!(
            serde_json::from_value::<ModelConfig>(json).expect("a model").source,
            experiment.model.source
        );

        let source = |assignment: &str| Ok::<_, Error>(read(&published, &[assignment])?.model.source);
        assert_eq!(source("model.path=mine")?, ModelSource::Path("mine".into()));
        assert_eq!(source("model.id=a/b")?, ModelSource::Id("a/b".into()));

        for (text, word) in [
            (MINI.replace(path, &format!("{path}\n{id}")), "not both"),
            (MINI.replace(path, ""), "needs a `path`"),
        ] {
            let message = read(&text, &[]).expect_err("no model").to_string();
            assert!(message.contains(word) && message.contains("line") && message.contains('^'), "{message}");
        }
        Ok(())
    }

    #[test]
    fn bad_assignments_are_refused() {
        for assignment in ["seed", "=1", "model..path=x", "seed.deeper=1", "no_such_key=1"] {
            assert!(read(MINI, &[assignment]).is_err(), "{assignment} was accepted");
        }
        // However deep the key is, the message is short.
        let deep = format!("{}a=1", "a.".repeat(100_000));
        let message = super::set(&mut DocumentMut::new(), &deep).expect_err("too deep");
        assert_eq!(message, "`a.a.a.a.…` has 100001 parts; no setting has more than 8");
    }
}
