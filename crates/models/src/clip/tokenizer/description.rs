//! The settings in a tokenizer directory, with transformers' precedence of files.

use std::ops::RangeInclusive;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::files::{ModelFiles, read_json, refuse, unreadable};
use super::special::SpecialTokens;
use crate::error::Result;

/// Default context length.
const CONTEXT_LENGTH: usize = 77;

/// Valid context lengths: at least start, end and one token, and no length that exhausts memory.
const CONTEXT_LENGTHS: RangeInclusive<f64> = 3.0..=65536.0;

/// transformers writes 1e30 for an unknown `model_max_length`, and treats values above this one as unknown.
const NO_LENGTH: f64 = 1e20;

/// All inputs for building a tokenizer.
pub(super) struct Description {
    pub files: ModelFiles,
    pub special: SpecialTokens,
    pub settings: Settings,
}

/// Settings for sequences of ids.
pub(super) struct Settings {
    pub context_length: usize,
    pub truncation_side: Side,
    pub padding_side: Side,
    /// Whether special tokens inside the text are encoded as ordinary words.
    pub split_special_tokens: bool,
}

/// The side at which a sequence is cut or padded.
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Side {
    Left,
    #[default]
    Right,
}

/// `tokenizer_config.json` without the special tokens.
#[derive(Default, Deserialize)]
#[serde(default)]
struct TokenizerConfig {
    model_max_length: Option<f64>,
    truncation_side: Side,
    padding_side: Side,
    split_special_tokens: bool,
}

impl Description {
    pub(super) fn read(dir: &Path) -> Result<Self> {
        let files = ModelFiles::read(dir)?;
        let path = dir.join("tokenizer_config.json");
        let entries: Map<String, Value> = read_json(&path)?.unwrap_or_default();
        let config = TokenizerConfig::deserialize(&entries).or_else(|e| refuse(&path, unreadable(&e)))?;
        let settings = Settings {
            context_length: context_length(dir, config.model_max_length)?,
            truncation_side: config.truncation_side,
            padding_side: config.padding_side,
            split_special_tokens: config.split_special_tokens,
        };
        let special = SpecialTokens::read(dir, &entries, &files)?;
        Ok(Self { files, special, settings })
    }
}

/// Returns the smaller of the lengths that the tokenizer and the text encoder allow.
fn context_length(dir: &Path, model_max_length: Option<f64>) -> Result<usize> {
    #[derive(Deserialize)]
    struct ModelConfig {
        text_config: Option<TextConfig>,
        max_position_embeddings: Option<f64>,
    }
    #[derive(Deserialize)]
    struct TextConfig {
        max_position_embeddings: Option<f64>,
    }
    let [tokenizer, model] = ["tokenizer_config.json", "config.json"].map(|name| dir.join(name));
    let positions = read_json::<ModelConfig>(&model)?.and_then(|config| match config.text_config {
        Some(text) => text.max_position_embeddings,
        None => config.max_position_embeddings,
    });
    let mut shortest = None;
    let declared = model_max_length.filter(|&length| length <= NO_LENGTH);
    for (path, key, length) in
        [(&tokenizer, "model_max_length", declared), (&model, "max_position_embeddings", positions)]
    {
        let Some(length) = length else { continue };
        if !CONTEXT_LENGTHS.contains(&length) || length.fract() != 0.0 {
            let (least, most) = (CONTEXT_LENGTHS.start(), CONTEXT_LENGTHS.end());
            return refuse(
                path,
                format!(
                    "{key} is {length}; a context is {least} to {most} tokens long, in CLIP {CONTEXT_LENGTH}"
                ),
            );
        }
        shortest = Some(shortest.map_or(length, |other: f64| other.min(length)));
    }
    Ok(shortest.map_or(CONTEXT_LENGTH, |length| length as usize))
}
