//! Reads vocabulary, merges and added tokens of a tokenizer directory.

use std::collections::{BTreeMap, HashMap};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokenizers::AddedToken;

use crate::error::{Error, Result};
use crate::limits::{TOKENIZER_BYTES, read_text as read_limited};

/// Vocabulary and merges of the BPE.
pub(super) struct ModelFiles {
    /// The file with the vocabulary.
    pub vocabulary_file: PathBuf,
    pub vocabulary: HashMap<String, u32>,
    /// In order of rank.
    pub merges: Vec<(String, String)>,
    /// Added tokens by id, if `tokenizer.json` was read.
    pub added: BTreeMap<u32, TokenEntry>,
}

/// A token with its settings.
#[derive(Clone, Deserialize)]
pub(super) struct TokenEntry {
    content: String,
    #[serde(default)]
    single_word: bool,
    #[serde(default)]
    lstrip: bool,
    #[serde(default)]
    rstrip: bool,
    normalized: Option<bool>,
    #[serde(default)]
    special: bool,
}

impl From<TokenEntry> for AddedToken {
    fn from(entry: TokenEntry) -> Self {
        Self {
            normalized: entry.normalized.unwrap_or(!entry.special),
            content: entry.content,
            single_word: entry.single_word,
            lstrip: entry.lstrip,
            rstrip: entry.rstrip,
            special: entry.special,
        }
    }
}

impl ModelFiles {
    pub(super) fn read(dir: &Path) -> Result<Self> {
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

/// Checks that the parts and results of merges (place in the file, left, right) are tokens, since the BPE builder of
/// the library does not.
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

pub(super) fn refuse<T>(path: &Path, reason: impl Into<String>) -> Result<T> {
    Err(Error::Directory { path: path.into(), reason: reason.into() })
}

fn read_text(path: &Path) -> Result<String> {
    read_limited(path, TOKENIZER_BYTES).map_err(|source| Error::Read { path: path.into(), source })
}

fn parse_json<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T> {
    serde_json::from_str(text).or_else(|e| refuse(path, unreadable(&e)))
}

/// The reason for refusing a file that is not JSON or not a file of CLIP's tokenizer.
pub(super) fn unreadable(error: &serde_json::Error) -> String {
    format!("not a valid file of a CLIP tokenizer: {error}; download the file again")
}

/// Reads an optional file.
pub(super) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    match read_text(path) {
        Ok(text) => parse_json(path, &text).map(Some),
        Err(Error::Read { source, .. }) if source.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
