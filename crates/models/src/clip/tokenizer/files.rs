//! What the files of a tokenizer directory say, with the precedence that transformers gives them.

use std::collections::{BTreeMap, HashMap};
use std::io::ErrorKind;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::special::{SpecialTokens, TokenEntry};
use crate::error::{Error, Result};
use crate::limits::{TOKENIZER_BYTES, read_text as read_limited};

/// Context length of every CLIP that says nothing else.
const CONTEXT_LENGTH: usize = 77;

/// Context lengths that are believed: start, end and one token at least, and nothing that exhausts memory.
const CONTEXT_LENGTHS: RangeInclusive<f64> = 3.0..=65536.0;

/// transformers writes 1e30 for a `model_max_length` that is not known, and reads anything above this as not known.
const NO_LENGTH: f64 = 1e20;

/// Everything that a tokenizer is built from.
pub(super) struct Description {
    pub files: ModelFiles,
    pub special: SpecialTokens,
    pub settings: Settings,
}

/// Vocabulary and merges of the BPE.
pub(super) struct ModelFiles {
    /// The file that the vocabulary is from.
    pub vocabulary_file: PathBuf,
    pub vocabulary: HashMap<String, u32>,
    /// In order of rank.
    pub merges: Vec<(String, String)>,
    /// Added tokens by id, where `tokenizer.json` was read.
    pub added: BTreeMap<u32, TokenEntry>,
}

/// What happens to a sequence of ids.
pub(super) struct Settings {
    pub context_length: usize,
    pub truncation_side: Side,
    pub padding_side: Side,
    /// Whether special tokens inside the text are encoded as ordinary words.
    pub split_special_tokens: bool,
}

/// The end at which a sequence is cut or padded.
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Side {
    Left,
    #[default]
    Right,
}

/// `tokenizer_config.json`, less the special tokens.
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

impl ModelFiles {
    fn read(dir: &Path) -> Result<Self> {
        let path = dir.join("tokenizer.json");
        if path.is_file() { Self::from_tokenizer_json(path) } else { Self::from_vocabulary_and_merges(dir) }
    }

    fn from_tokenizer_json(path: PathBuf) -> Result<Self> {
        #[derive(Deserialize)]
        struct File {
            #[serde(default)]
            added_tokens: Vec<Added>,
            model: Model,
        }
        #[derive(Deserialize)]
        struct Added {
            id: u32,
            #[serde(flatten)]
            token: TokenEntry,
        }
        #[derive(Deserialize)]
        struct Model {
            vocab: HashMap<String, u32>,
            merges: Vec<Merge>,
        }
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Merge {
            Pair(String, String),
            Line(String),
        }
        let file: File = parse_json(&path, &read_text(&path)?)?;
        let merges = file.model.merges.into_iter().enumerate().map(|(rank, merge)| match merge {
            Merge::Pair(left, right) => (format!("merge {rank}"), left, right),
            Merge::Line(line) => {
                let (left, right) = line.split_once(' ').unwrap_or((&line, ""));
                (format!("merge {rank}"), left.into(), right.into())
            }
        });
        let merges = checked_merges(&path, &file.model.vocab, merges)?;
        let added = file.added_tokens.into_iter().map(|added| (added.id, added.token)).collect();
        Ok(Self { vocabulary_file: path, vocabulary: file.model.vocab, merges, added })
    }

    fn from_vocabulary_and_merges(dir: &Path) -> Result<Self> {
        let [vocabulary_file, merges_file] = ["vocab.json", "merges.txt"].map(|name| dir.join(name));
        for path in [&vocabulary_file, &merges_file] {
            if !path.is_file() {
                return refuse(
                    path,
                    "no such file; a CLIP tokenizer is vocab.json and merges.txt, or tokenizer.json: download them \
                     from the page of the model",
                );
            }
        }
        let vocabulary: HashMap<String, u32> = parse_json(&vocabulary_file, &read_text(&vocabulary_file)?)?;
        let text = read_text(&merges_file)?;
        let lines = text.lines().enumerate().filter(|(_, line)| !line.starts_with("#version"));
        let merges = lines.map(|(index, line)| {
            let (left, right) = line.split_once(' ').unwrap_or((line, ""));
            (format!("line {}", index + 1), left.into(), right.into())
        });
        let merges = checked_merges(&merges_file, &vocabulary, merges)?;
        Ok(Self { vocabulary_file, vocabulary, merges, added: BTreeMap::new() })
    }
}

/// Merges (place in the file, left, right) whose parts and results are tokens; the BPE builder of the library takes
/// that for granted.
fn checked_merges(
    path: &Path,
    vocabulary: &HashMap<String, u32>,
    merges: impl Iterator<Item = (String, String, String)>,
) -> Result<Vec<(String, String)>> {
    let mut checked = Vec::new();
    for (place, left, right) in merges {
        if left.is_empty() || right.is_empty() || right.contains(' ') {
            let reason = format!(
                "{place} is not two symbols with a space between them: `{left} {right}`; download the file again"
            );
            return refuse(path, reason);
        }
        let merged = format!("{left}{right}");
        if let Some(missing) =
            [&left, &right, &merged].into_iter().find(|token| !vocabulary.contains_key(*token))
        {
            let reason = format!(
                "{place} merges `{left}` and `{right}`, but the vocabulary has no `{missing}`; take vocabulary and \
                 merges from the same model"
            );
            return refuse(path, reason);
        }
        checked.push((left, right));
    }
    Ok(checked)
}

/// The smaller of what the tokenizer and the text encoder say.
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
    let said = model_max_length.filter(|&length| length <= NO_LENGTH);
    for (path, key, length) in
        [(&tokenizer, "model_max_length", said), (&model, "max_position_embeddings", positions)]
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

pub(super) fn refuse<T>(path: &Path, reason: impl Into<String>) -> Result<T> {
    Err(Error::Directory { path: path.into(), reason: reason.into() })
}

fn read_text(path: &Path) -> Result<String> {
    read_limited(path, TOKENIZER_BYTES).map_err(|source| Error::Read { path: path.into(), source })
}

fn parse_json<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T> {
    serde_json::from_str(text).or_else(|e| refuse(path, unreadable(&e)))
}

/// Why a file is refused that is no JSON or holds something else than CLIP's.
pub(super) fn unreadable(error: &serde_json::Error) -> String {
    format!("not what a CLIP tokenizer has there: {error}; download the file again")
}

/// Reads a file that need not be there.
pub(super) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    match read_text(path) {
        Ok(text) => parse_json(path, &text).map(Some),
        Err(Error::Read { source, .. }) if source.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
