//! Reads the settings in `tokenizer_config.json`.

use std::io::ErrorKind;
use std::path::Path;

use serde::Deserialize;

use crate::error::{Error, Result};
use crate::limits;

/// Text length that T5 was trained with, in tokens.
const TRAINED_LENGTH: usize = 512;

/// Valid lengths: at least one token and the end, and no length that exhausts memory. transformers writes 1e30 for an
/// unknown length.
const LENGTHS: std::ops::RangeInclusive<f64> = 2.0..=65536.0;

/// The end token, the padding token and the length of encoded texts.
pub(super) struct Settings {
    pub end: String,
    pub pad: String,
    pub length: usize,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct TokenizerConfig {
    model_max_length: Option<f64>,
    eos_token: Option<Token>,
    pad_token: Option<Token>,
    padding_side: Option<String>,
    truncation_side: Option<String>,
}

/// A special token, bare or with its flags.
#[derive(Deserialize)]
#[serde(untagged)]
enum Token {
    Bare(String),
    Flagged { content: String },
}

impl Settings {
    pub(super) fn read(dir: &Path, length: Option<usize>) -> Result<Self> {
        let path = dir.join("tokenizer_config.json");
        let refuse = |reason: String| Error::Directory { path: path.clone(), reason };
        let config: TokenizerConfig = match limits::read_text(&path, limits::CONFIG_BYTES) {
            Ok(text) => serde_json::from_str(&text).map_err(|e| {
                refuse(format!("not the settings of a T5 tokenizer: {e}; download the file again"))
            })?,
            Err(source) if source.kind() == ErrorKind::NotFound => TokenizerConfig::default(),
            Err(source) => return Err(Error::Read { path, source }),
        };
        for (name, side) in
            [("padding_side", &config.padding_side), ("truncation_side", &config.truncation_side)]
        {
            if side.as_ref().is_some_and(|side| side != "right") {
                return Err(refuse(format!(
                    "{name} is not `right`, but T5 encoders are trained with `right`; change it"
                )));
            }
        }
        let greatest = config
            .model_max_length
            .filter(|length| LENGTHS.contains(length))
            .map_or(TRAINED_LENGTH, |length| length as usize);
        let length = length.unwrap_or(greatest);
        if length > greatest || (length as f64) < *LENGTHS.start() {
            return Err(refuse(format!(
                "texts of {length} tokens were requested; this tokenizer supports 2 to {greatest} tokens"
            )));
        }
        let name = |token: Option<Token>, usual: &str| match token {
            Some(Token::Bare(content) | Token::Flagged { content }) => content,
            None => usual.to_owned(),
        };
        Ok(Self { end: name(config.eos_token, "</s>"), pad: name(config.pad_token, "<pad>"), length })
    }
}
