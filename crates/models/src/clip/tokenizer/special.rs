//! Special and added tokens and the order of their registration.
//!
//! The order matters: of two entries with the same text, the later one decides whether the token is searched for before
//! or after the text is lower-cased.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use tokenizers::AddedToken;

use super::files::{ModelFiles, TokenEntry, read_json, refuse, unreadable};
use crate::error::Result;
use crate::limits::{ADDED_TOKENS, TOKEN_BYTES};

const START_OF_TEXT: &str = "<|startoftext|>";
const END_OF_TEXT: &str = "<|endoftext|>";

/// Roles of tokens, in the order of registration.
const ROLES: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// Keys of special tokens without a role: the newer key, then the older one.
const EXTRA: [&str; 2] = ["extra_special_tokens", "additional_special_tokens"];

/// The special tokens of a tokenizer.
pub(super) struct SpecialTokens {
    /// The token before the text, and its id.
    pub start: (String, u32),
    /// The token after the text, and its id; CLIP pools there.
    pub end: (String, u32),
    /// The token that fills the context, and its id.
    pub pad: (String, u32),
    /// The token for text that the vocabulary lacks.
    pub unknown: String,
    /// In the order of [`ROLES`].
    with_role: Vec<SpecialToken>,
    extra: Vec<SpecialToken>,
    declared: Declared,
}

/// Added tokens with their declared ids.
struct Declared {
    tokens: BTreeMap<u32, AddedToken>,
    file: PathBuf,
}

impl SpecialTokens {
    /// Reads `special_tokens_map.json` and `added_tokens.json`, unless `added_tokens_decoder` in the tokenizer's
    /// configuration replaces them.
    pub(super) fn read(dir: &Path, config: &Map<String, Value>, files: &ModelFiles) -> Result<Self> {
        let [config_file, map_file] =
            ["tokenizer_config.json", "special_tokens_map.json"].map(|name| dir.join(name));
        let decoder = config.get("added_tokens_decoder").filter(|decoder| !decoder.is_null());
        let map = match decoder {
            Some(_) => Map::new(),
            None => read_json(&map_file)?.map(all_special).unwrap_or_default(),
        };
        let listed = ROLES.map(|role| -> Result<Option<SpecialToken>> {
            let (file, entries) =
                if map.contains_key(role) { (&map_file, &map) } else { (&config_file, config) };
            let entry = entries.get(role).filter(|entry| !entry.is_null());
            entry.map(|entry| parse(file, role, entry)).transpose()
        });
        for (file, table) in [(&config_file, config), (&map_file, &map)] {
            EXTRA.iter().try_for_each(|key| check_count(file, entries(table, key).len()))?;
        }
        let [start, end, unknown, sep, pad, cls, mask] = listed;
        let listed = [start?, end?, unknown?, sep?, pad?, cls?, mask?];
        let [extra, late_extra] = extra_entries(config, &map).map(|entries| {
            let tokens = entries.into_iter().map(|entry| parse(&config_file, "extra_special_tokens", entry));
            tokens.collect::<Result<Vec<SpecialToken>>>()
        });
        let (extra, late_extra) = (extra?, late_extra?);

        let declared = match decoder {
            Some(decoder) => {
                let tokens: BTreeMap<u32, TokenEntry> = parse(&config_file, "added_tokens_decoder", decoder)?;
                Declared { tokens: into_added(tokens), file: config_file.clone() }
            }
            None => {
                let special = listed.iter().flatten().chain(&extra).map(SpecialToken::content).collect();
                Declared::by_older_files(dir, &special, files)?
            }
        };
        check_count(&declared.file, declared.tokens.len())?;
        let contents = declared.tokens.values().map(|token| &*token.content);
        check_lengths(&declared.file, contents)?;
        // If a text is declared twice, the lowest id counts.
        let ids: HashMap<&str, u32> =
            declared.tokens.iter().rev().map(|(&id, token)| (token.content.as_str(), id)).collect();

        let with_id = |role: &str, token: &SpecialToken| {
            let content = token.content();
            match files.vocabulary.get(content).or_else(|| ids.get(content)).copied() {
                Some(id) => Ok((content.to_owned(), id)),
                None => refuse(
                    &files.vocabulary_file,
                    format!(
                        "has no token `{content}`, which is the {role}; take the vocabulary and the configuration of \
                         the tokenizer from the same CLIP model"
                    ),
                ),
            }
        };
        let or = |token: Option<SpecialToken>, content: &str| {
            token.unwrap_or_else(|| SpecialToken::Plain(content.into()))
        };
        let [start, end, unknown, sep, pad, cls, mask] = listed;
        let (start, end) = (or(start, START_OF_TEXT), or(end, END_OF_TEXT));
        let (unknown, pad) = (or(unknown, END_OF_TEXT), or(pad, END_OF_TEXT));
        let contents = [&start, &end, &unknown, &pad].into_iter().chain(&extra).chain(&late_extra);
        check_lengths(&config_file, contents.map(SpecialToken::content))?;
        for token in [&sep, &cls, &mask].into_iter().flatten().chain(&extra).chain(&late_extra) {
            with_id("further special token", token)?;
        }
        Ok(Self {
            start: with_id("bos_token", &start)?,
            end: with_id("eos_token", &end)?,
            pad: with_id("pad_token", &pad)?,
            unknown: with_id("unk_token", &unknown)?.0,
            with_role: [Some(start), Some(end), Some(unknown), sep, Some(pad), cls, mask]
                .into_iter()
                .flatten()
                .collect(),
            extra: if extra.is_empty() { late_extra } else { extra },
            declared,
        })
    }

    /// Returns the tokens that are searched for before a text is split into words, in the order of registration.
    pub(super) fn registration(&self) -> Vec<AddedToken> {
        let with_role: HashSet<&str> = self.with_role.iter().map(SpecialToken::content).collect();
        let declared: HashSet<&str> =
            self.declared.tokens.values().map(|token| token.content.as_str()).collect();
        let mut seen = HashSet::new();
        let others = self.with_role.iter().chain(&self.extra);
        let others = others.filter(|token| !declared.contains(token.content()) && seen.insert(*token));
        let others = others.map(|token| match token {
            SpecialToken::Plain(content) => AddedToken::from(content, true),
            SpecialToken::Entry(token) => token.clone(),
        });
        let all = self.declared.tokens.values().cloned().chain(others);
        all.map(|mut token| {
            token.special |= with_role.contains(token.content.as_str());
            token
        })
        .collect()
    }

    /// Checks that every added token has its declared id.
    pub(super) fn check_ids(&self, id_of: impl Fn(&str) -> Option<u32>) -> Result<()> {
        for (&id, token) in &self.declared.tokens {
            let found = id_of(&token.content);
            if found != Some(id) {
                let found = found.map_or("none".into(), |id| id.to_string());
                let reason = format!(
                    "gives the added token `{}` the id {id}, but after this vocabulary its id is {found}; take all \
                     tokenizer files from the same model",
                    token.content
                );
                return refuse(&self.declared.file, reason);
            }
        }
        Ok(())
    }
}

impl Declared {
    /// Reads `added_tokens.json`; `tokenizer.json` takes precedence.
    fn by_older_files(dir: &Path, special: &HashSet<&str>, files: &ModelFiles) -> Result<Self> {
        let file = dir.join("added_tokens.json");
        let added: BTreeMap<String, u32> = read_json(&file)?.unwrap_or_default();
        let tokens = added.into_iter().map(|(content, id)| {
            let special = special.contains(content.as_str());
            (id, AddedToken::from(content, special))
        });
        let mut tokens: BTreeMap<u32, AddedToken> = tokens.collect();
        tokens.extend(into_added(files.added.clone()));
        let file = if files.added.is_empty() { file } else { files.vocabulary_file.clone() };
        Ok(Self { tokens, file })
    }
}

fn into_added(entries: BTreeMap<u32, TokenEntry>) -> BTreeMap<u32, AddedToken> {
    entries.into_iter().map(|(id, entry)| (id, entry.into())).collect()
}

/// A special token: only its text, or its text with search settings.
#[derive(PartialEq, Eq, Hash, Deserialize)]
#[serde(untagged)]
enum SpecialToken {
    Plain(String),
    #[serde(deserialize_with = "entry")]
    Entry(AddedToken),
}

fn entry<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<AddedToken, D::Error> {
    TokenEntry::deserialize(deserializer).map(Into::into)
}

impl SpecialToken {
    fn content(&self) -> &str {
        match self {
            Self::Plain(content) => content,
            Self::Entry(token) => &token.content,
        }
    }
}

/// Marks all entries of `special_tokens_map.json` as special, whatever their own flag.
fn all_special(mut map: Map<String, Value>) -> Map<String, Value> {
    for role in ROLES {
        if let Some(entry) = map.get_mut(role).and_then(Value::as_object_mut) {
            entry.insert("special".into(), true.into());
        }
    }
    map
}

/// Returns the special tokens without a role, and their fallback. The fallback, under the older name in
/// `special_tokens_map.json`, does not make entries of `added_tokens.json` special.
fn extra_entries<'a>(config: &'a Map<String, Value>, map: &'a Map<String, Value>) -> [Vec<&'a Value>; 2] {
    let [newer, older] = EXTRA;
    let mut extra = entries(config, newer);
    if extra.is_empty() {
        extra = entries(config, older);
    }
    extra.extend(entries(map, newer));
    [extra, entries(map, older)]
}

fn entries<'a>(table: &'a Map<String, Value>, key: &str) -> Vec<&'a Value> {
    match table.get(key) {
        Some(Value::Array(list)) => list.iter().collect(),
        Some(Value::Object(named)) => named.values().collect(),
        _ => Vec::new(),
    }
}

fn check_count(file: &Path, count: usize) -> Result<()> {
    if count <= ADDED_TOKENS {
        return Ok(());
    }
    refuse(
        file,
        format!(
            "names {count} special or added tokens; the maximum is {ADDED_TOKENS}. Download the file again"
        ),
    )
}

fn check_lengths<'a>(file: &Path, mut contents: impl Iterator<Item = &'a str>) -> Result<()> {
    match contents.find(|content| content.len() > TOKEN_BYTES) {
        None => Ok(()),
        Some(content) => refuse(
            file,
            format!(
                "names a special or added token of {} bytes; the maximum is {TOKEN_BYTES}. Download the file again",
                content.len()
            ),
        ),
    }
}

fn parse<T: DeserializeOwned>(file: &Path, key: &str, entry: &Value) -> Result<T> {
    T::deserialize(entry).or_else(|e| refuse(file, format!("{key}: {}", unreadable(&e))))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(dir: &Path, config: &Value) -> Result<SpecialTokens> {
        let tokens = [START_OF_TEXT, END_OF_TEXT, "<a>", "<b>"];
        let files = ModelFiles {
            vocabulary_file: dir.join("vocab.json"),
            vocabulary: tokens.into_iter().map(str::to_owned).zip(0..).collect(),
            merges: Vec::new(),
            added: BTreeMap::new(),
        };
        SpecialTokens::read(dir, config.as_object().expect("a table"), &files)
    }

    #[test]
    fn tokens_are_registered_once_in_their_order() {
        let dir = tempfile::tempdir().expect("a folder");
        let config = json!({ "extra_special_tokens": ["<b>", "<a>", "<b>", END_OF_TEXT, "<b>"] });
        let registered = read(dir.path(), &config).expect("tokens").registration();
        let contents: Vec<&str> = registered.iter().map(|token| token.content.as_str()).collect();
        assert_eq!(contents, [START_OF_TEXT, END_OF_TEXT, "<b>", "<a>"]);
    }

    #[test]
    fn the_lower_of_two_ids_of_a_token_counts() {
        let dir = tempfile::tempdir().expect("a folder");
        let entry = json!({ "content": "<pad>" });
        let config = json!({ "added_tokens_decoder": { "9": entry, "7": entry }, "pad_token": "<pad>" });
        assert_eq!(read(dir.path(), &config).expect("tokens").pad, ("<pad>".to_owned(), 7));
    }

    #[test]
    fn too_many_added_tokens_are_refused_with_the_file_name() {
        let dir = tempfile::tempdir().expect("a folder");
        let many = |count: usize| vec!["<a>"; count];
        let refusal =
            |config: &Value| read(dir.path(), config).err().map(|e| e.to_string()).unwrap_or_default();
        assert_eq!(refusal(&json!({ "extra_special_tokens": many(ADDED_TOKENS) })), "");
        let decoder: Map<String, Value> =
            (0..=ADDED_TOKENS).map(|id| (id.to_string(), json!({ "content": format!("<{id}>") }))).collect();
        for config in [
            json!({ "extra_special_tokens": many(ADDED_TOKENS + 1) }),
            json!({ "additional_special_tokens": many(ADDED_TOKENS + 1) }),
            json!({ "added_tokens_decoder": decoder }),
        ] {
            let message = refusal(&config);
            assert!(message.contains("tokenizer_config.json") && message.contains("10001"), "{message}");
        }
        let map = json!({ "additional_special_tokens": many(ADDED_TOKENS + 1) }).to_string();
        std::fs::write(dir.path().join("special_tokens_map.json"), map).expect("writable");
        assert!(refusal(&json!({})).contains("special_tokens_map.json"));
        let added: Map<String, Value> = (0..=ADDED_TOKENS).map(|id| (format!("<{id}>"), id.into())).collect();
        std::fs::write(dir.path().join("special_tokens_map.json"), "{}").expect("writable");
        std::fs::write(dir.path().join("added_tokens.json"), Value::Object(added).to_string())
            .expect("writable");
        assert!(refusal(&json!({})).contains("added_tokens.json"));
    }
}
