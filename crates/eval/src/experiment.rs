//! Experiment files.

use std::path::{Path, PathBuf};

use models::HeadSource;
use serde::{Deserialize, Serialize};
use tasks::dataset::DatasetConfig;
use tasks::masking::MaskingConfig;
use toml_edit::{DocumentMut, Item, Value};

use crate::error::{Error, Result};

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
}

/// Where the result stands in a table of the paper.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fills {
    /// Name of a file in `eval/tables`.
    pub table: String,
    /// Column of that table.
    pub column: String,
}

/// `[model]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// A Hugging Face directory: `config.json`, safetensors, `preprocessor_config.json`.
    pub path: PathBuf,
    /// A linear classifier published apart from its backbone, in a safetensors file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<PathBuf>,
    /// Embeddings of classes `[classes, d]` for CLIP, in a `.safetensors` or `.npy` file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class_embeddings: Option<PathBuf>,
    /// Classes that CLIP's own text tower reads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zero_shot: Option<ZeroShot>,
    /// Type of weights and activations.
    #[serde(default)]
    pub dtype: Dtype,
    /// Another image size than the published preprocessing gives, in pixels: a plain resize to a square.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_size: Option<usize>,
}

/// `[model.zero_shot]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ZeroShot {
    /// A dataset's descriptor, with `classes` in order and, if it has some, `templates`.
    pub descriptor: PathBuf,
    /// Which prompts a class is read in.
    #[serde(default)]
    pub templates: Templates,
}

/// The prompts that a class is read in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Templates {
    /// `a photo of a {}` alone.
    #[default]
    Single,
    /// All of the descriptor's.
    Descriptor,
}

/// What a zero-shot classifier takes from a dataset's descriptor.
#[derive(Deserialize)]
struct Descriptor {
    classes: Vec<String>,
    #[serde(default)]
    templates: Vec<String>,
}

impl ModelConfig {
    /// Classes for a network that has none of its own; with the names and templates of a descriptor.
    ///
    /// # Errors
    /// More than one is given, or the descriptor cannot be read.
    pub fn head_source(&self) -> Result<Option<HeadSource>> {
        match (&self.head, &self.class_embeddings, &self.zero_shot) {
            (None, None, None) => Ok(None),
            (Some(path), None, None) => Ok(Some(HeadSource::Linear(path.clone()))),
            (None, Some(path), None) => Ok(Some(HeadSource::ClassEmbeddings(path.clone()))),
            (None, None, Some(zero_shot)) => zero_shot.read().map(Some),
            _ => Err(tasks::Error::Setting {
                setting: "model",
                reason: "head, class_embeddings and zero_shot are three ways to say the classes; give one"
                    .into(),
            }
            .into()),
        }
    }
}

impl ZeroShot {
    fn read(&self) -> Result<HeadSource> {
        let path = &self.descriptor;
        let refuse = |reason: String| tasks::Error::Dataset { path: path.clone(), reason };
        let text = std::fs::read_to_string(path).map_err(|e| refuse(format!("cannot be read: {e}")))?;
        let Descriptor { classes, templates } =
            toml::from_str(&text).map_err(|e| refuse(format!("not a descriptor with `classes`: {e}")))?;
        let templates = match self.templates {
            Templates::Single => vec!["a photo of a {}".to_owned()],
            Templates::Descriptor if templates.is_empty() => {
                return Err(
                    refuse("has no `templates`; set model.zero_shot.templates = \"single\"".into()).into()
                );
            }
            Templates::Descriptor => templates,
        };
        Ok(HeadSource::ZeroShot { names: classes, templates })
    }
}

/// Type of weights and activations.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// 32-bit floats.
    #[default]
    F32,
    /// 16-bit floats with 8 bits of exponent.
    Bf16,
    /// 16-bit floats with 5 bits of exponent.
    F16,
}

impl Dtype {
    /// The same for libtorch.
    pub fn kind(self) -> models::Kind {
        match self {
            Self::F32 => models::Kind::Float,
            Self::Bf16 => models::Kind::BFloat16,
            Self::F16 => models::Kind::Half,
        }
    }
}

/// `[task.*]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TaskConfig {
    /// Accuracy while the most important tokens are removed.
    Masking(MaskingConfig),
}

impl Experiment {
    /// Reads an experiment file and applies `--set` assignments (`key.path=value`; a value that is no TOML is a
    /// string).
    ///
    /// # Errors
    /// The file is unreadable or no experiment; the message carries line and column.
    pub fn read(path: &Path, assignments: &[String]) -> Result<Self> {
        let refuse = |reason: String| Error::Config { path: path.into(), reason };
        let text = std::fs::read_to_string(path).map_err(|e| refuse(format!("cannot be read: {e}")))?;
        let mut document: DocumentMut = text.parse().map_err(|e| refuse(format!("{e}")))?;
        for assignment in assignments {
            set(&mut document, assignment)
                .map_err(|reason| Error::Override { assignment: assignment.clone(), reason })?;
        }
        let changed = if assignments.is_empty() {
            String::new()
        } else {
            format!(" (with --set {})", assignments.join(" --set "))
        };
        toml::from_str(&document.to_string()).map_err(|e| refuse(format!("{e}{changed}").trim().to_owned()))
    }
}

fn set(document: &mut DocumentMut, assignment: &str) -> Result<(), String> {
    let (key, value) = assignment.split_once('=').ok_or("expected KEY=VALUE, such as seed=1")?;
    let value: Value = value.trim().parse().unwrap_or_else(|_| Value::from(value.trim()));
    let mut keys: Vec<&str> = key.split('.').map(str::trim).collect();
    let last = keys.pop().unwrap_or_default();
    if last.is_empty() || keys.iter().any(|key| key.is_empty()) {
        return Err(format!("`{key}` is no key; write it as in the file, such as model.path"));
    }
    let mut table: &mut dyn toml_edit::TableLike = document.as_table_mut();
    for key in keys {
        let entry = table.entry(key).or_insert_with(|| Item::Table(toml_edit::Table::new()));
        table = entry.as_table_like_mut().ok_or_else(|| format!("`{key}` is a value, not a table"))?;
    }
    table.insert(last, Item::Value(value));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINI: &str = include_str!("../../../configs/mini/masking.toml");

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
        assert_eq!(experiment.model.path, Path::new("/some where/else"));
        let TaskConfig::Masking(masking) = experiment.task;
        assert_eq!(masking.layers.to_string(), "last:2");
        assert_eq!(masking.fractions.to, 0.5);
        Ok(())
    }

    #[test]
    fn unknown_keys_are_refused_with_their_place() {
        let text = MINI.replace("[model]", "[model]\nweigths = 1");
        let message = read(&text, &[]).expect_err("an unknown key").to_string();
        assert!(message.contains("weigths") && message.contains("line"), "{message}");
        assert!(message.contains('^'), "{message}");
    }

    #[test]
    fn bad_assignments_are_refused() {
        for assignment in ["seed", "=1", "model..path=x", "seed.deeper=1", "no_such_key=1"] {
            assert!(read(MINI, &[assignment]).is_err(), "{assignment} was accepted");
        }
    }
}
