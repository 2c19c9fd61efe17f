//! Reads `tokenizer.json`, and accepts only the steps that tokenizers of T5 have.
//!
//! The library builds any step that a file describes, also those that make a text thousands of times longer. So every
//! step is read here and built from constants: of the file's own texts only the table of characters, the tokens and
//! their scores reach the library. A text becomes at most [`charsmap::MOST_BYTES`] times longer by the table, and three
//! times longer by a replaced space.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use tokenizers::models::unigram::Unigram;
use tokenizers::normalizers::replace::ReplacePattern;
use tokenizers::normalizers::{self, Prepend, Replace, Strip};
use tokenizers::pre_tokenizers::metaspace::{Metaspace, PrependScheme};
use tokenizers::pre_tokenizers::{self, whitespace::WhitespaceSplit};
use tokenizers::{AddedToken, NormalizerWrapper, PreTokenizerWrapper};

use super::charsmap;
use crate::limits::{ADDED_TOKENS, TOKEN_BYTES, VOCABULARY_BYTES};
use crate::words::SPACE;

/// Maximum number of steps in a sequence. Published files have up to four.
const MOST_STEPS: usize = 8;

/// A `tokenizer.json` without the parts that are not used: post-processor, decoder, truncation and padding.
#[derive(Deserialize)]
pub(super) struct Description {
    #[serde(default)]
    added_tokens: Vec<Added>,
    #[serde(default, deserialize_with = "normalizer")]
    normalizer: Option<Normalizer>,
    #[serde(default, deserialize_with = "pre_tokenizer")]
    pre_tokenizer: Option<PreTokenizer>,
    #[serde(deserialize_with = "model")]
    model: Model,
}

#[derive(Deserialize)]
struct Added {
    content: String,
    #[serde(default)]
    single_word: bool,
    #[serde(default)]
    lstrip: bool,
    #[serde(default)]
    rstrip: bool,
    #[serde(default)]
    normalized: bool,
    #[serde(default)]
    special: bool,
}

#[derive(Deserialize)]
struct Model {
    /// Missing in the oldest files.
    #[serde(rename = "type", default)]
    _kind: Option<IsUnigram>,
    vocab: Vec<(String, f64)>,
    unk_id: Option<usize>,
    #[serde(default)]
    byte_fallback: bool,
}

/// The type of the model; other types have other fields.
struct IsUnigram;

impl<'de> Deserialize<'de> for IsUnigram {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let found = String::deserialize(deserializer)?;
        match &*found {
            "Unigram" => Ok(Self),
            _ => Err(D::Error::custom(format!("type is `{found:.100}`, but must be `Unigram`"))),
        }
    }
}

#[derive(Deserialize)]
#[serde(tag = "type", deny_unknown_fields)]
enum Normalizer {
    Sequence {
        normalizers: Vec<Normalizer>,
    },
    Precompiled {
        precompiled_charsmap: String,
    },
    Nmt {},
    #[serde(rename = "NFKC")]
    Nfkc {},
    Strip {
        strip_left: bool,
        strip_right: bool,
    },
    Replace {
        pattern: Pattern,
        content: String,
    },
    Prepend {
        prepend: String,
    },
}

#[derive(Deserialize)]
enum Pattern {
    String(String),
    Regex(String),
}

#[derive(Deserialize)]
#[serde(tag = "type", deny_unknown_fields)]
enum PreTokenizer {
    Sequence {
        pretokenizers: Vec<PreTokenizer>,
    },
    WhitespaceSplit {},
    Metaspace {
        replacement: String,
        prepend_scheme: Option<PrependScheme>,
        /// The older name of `prepend_scheme`.
        add_prefix_space: Option<bool>,
        split: Option<bool>,
        #[serde(rename = "str_rep")]
        _str_rep: Option<String>,
    },
}

/// Adds the field's name to an error.
fn named<'de, D, T>(field: &str, deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    T::deserialize(deserializer).map_err(|error| D::Error::custom(format!("{field}: {error}")))
}

fn normalizer<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Normalizer>, D::Error> {
    named("normalizer", deserializer)
}

fn pre_tokenizer<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<PreTokenizer>, D::Error> {
    named("pre_tokenizer", deserializer)
}

fn model<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Model, D::Error> {
    named("model", deserializer)
}

impl Description {
    /// Builds the tokenizer, which does not end, cut or pad texts yet.
    pub(super) fn build(self) -> Result<tokenizers::Tokenizer, String> {
        let Self { added_tokens, normalizer, pre_tokenizer, model } = self;
        check_added(&added_tokens)?;
        let model = model.build()?;
        let normalizer = normalizer.map(Normalizer::build).transpose()?;
        let pre_tokenizer = pre_tokenizer.map(PreTokenizer::build).transpose()?;
        let refused = |error: tokenizers::Error| error.to_string();
        let mut pipeline = tokenizers::Tokenizer::new(model);
        // Registering added tokens normalises them, so the normaliser must be set first.
        pipeline.with_normalizer(normalizer).map_err(refused)?;
        pipeline.with_pre_tokenizer(pre_tokenizer);
        pipeline.add_tokens(added_tokens.into_iter().map(Into::<AddedToken>::into)).map_err(refused)?;
        Ok(pipeline)
    }
}

impl From<Added> for AddedToken {
    fn from(token: Added) -> Self {
        let Added { content, single_word, lstrip, rstrip, normalized, special } = token;
        Self { content, single_word, lstrip, rstrip, normalized, special }
    }
}

fn check_added(tokens: &[Added]) -> Result<(), String> {
    if tokens.len() > ADDED_TOKENS {
        return Err(format!("added_tokens has {} tokens; the maximum is {ADDED_TOKENS}", tokens.len()));
    }
    match tokens.iter().find(|token| token.content.len() > TOKEN_BYTES) {
        Some(token) => Err(format!(
            "added_tokens has a token of {} bytes; the maximum is {TOKEN_BYTES}",
            token.content.len()
        )),
        None => Ok(()),
    }
}

impl Model {
    fn build(self) -> Result<Unigram, String> {
        let Self { vocab, unk_id, byte_fallback, .. } = self;
        // The library needs memory for each byte, and calls itself for each byte of the longest token.
        if let Some((token, _)) = vocab.iter().find(|(token, _)| token.len() > TOKEN_BYTES) {
            return Err(format!(
                "model.vocab has a token of {} bytes; the maximum is {TOKEN_BYTES}",
                token.len()
            ));
        }
        let bytes: usize = vocab.iter().map(|(token, _)| token.len()).sum();
        if bytes > VOCABULARY_BYTES {
            return Err(format!(
                "model.vocab has {bytes} bytes of tokens; the maximum is {VOCABULARY_BYTES}"
            ));
        }
        Unigram::from(vocab, unk_id, byte_fallback).map_err(|error| format!("model: {error}"))
    }
}

impl Normalizer {
    fn build(self) -> Result<NormalizerWrapper, String> {
        let Self::Sequence { normalizers: steps } = self else { return self.step("normalizer") };
        check_steps("normalizer.normalizers", steps.len())?;
        let mut seen = Vec::new();
        let mut built = Vec::new();
        for (index, step) in steps.into_iter().enumerate() {
            let field = format!("normalizer.normalizers[{index}]");
            // Steps that lengthen a text must not multiply.
            let lengthens = step.lengthens();
            if lengthens.is_some_and(|kind| seen.contains(&kind)) {
                return Err(format!("{field} is the second step of its kind; each may occur once"));
            }
            seen.extend(lengthens);
            built.push(step.step(&field)?);
        }
        Ok(normalizers::Sequence::new(built).into())
    }

    /// Returns the kind of a step that lengthens a text; `None` if it does not. A sequence may have one step of each
    /// kind, and one table of characters, its own or Unicode's.
    fn lengthens(&self) -> Option<&'static str> {
        match self {
            Self::Precompiled { .. } | Self::Nfkc {} => Some("characters"),
            Self::Replace { pattern: Pattern::Regex(_), .. } => Some("several spaces"),
            Self::Replace { pattern: Pattern::String(_), .. } => Some("space"),
            Self::Prepend { .. } => Some("prepend"),
            Self::Sequence { .. } | Self::Nmt {} | Self::Strip { .. } => None,
        }
    }

    fn step(self, field: &str) -> Result<NormalizerWrapper, String> {
        Ok(match self {
            Self::Sequence { .. } => {
                return Err(format!("{field} is a sequence in a sequence; leave one out"));
            }
            Self::Precompiled { precompiled_charsmap } => charsmap::read(&precompiled_charsmap)
                .map_err(|reason| format!("{field}.precompiled_charsmap {reason}"))?
                .into(),
            Self::Nmt {} => normalizers::Nmt.into(),
            Self::Nfkc {} => normalizers::NFKC.into(),
            Self::Strip { strip_left, strip_right } => Strip::new(strip_left, strip_right).into(),
            Self::Replace { pattern, content } => {
                let content = match &*content {
                    SPACE => SPACE,
                    " " => " ",
                    other => {
                        let (field, accepted) = (format!("{field}.content"), "a space or `▁`");
                        return Err(not(&field, other, accepted));
                    }
                };
                let pattern = match pattern {
                    Pattern::Regex(text) if text == " {2,}" => ReplacePattern::Regex(text),
                    Pattern::String(text) if text == " " => ReplacePattern::String(text),
                    Pattern::Regex(other) => {
                        return Err(not(&format!("{field}.pattern.Regex"), &other, "` {2,}`"));
                    }
                    Pattern::String(other) => {
                        return Err(not(&format!("{field}.pattern.String"), &other, "a space"));
                    }
                };
                Replace::new(pattern, content).map_err(|error| format!("{field}: {error}"))?.into()
            }
            Self::Prepend { prepend } if prepend == SPACE => Prepend::new(prepend).into(),
            Self::Prepend { prepend } => return Err(not(&format!("{field}.prepend"), &prepend, "`▁`")),
        })
    }
}

impl PreTokenizer {
    fn build(self) -> Result<PreTokenizerWrapper, String> {
        let Self::Sequence { pretokenizers: steps } = self else { return self.step("pre_tokenizer") };
        check_steps("pre_tokenizer.pretokenizers", steps.len())?;
        let steps = steps.into_iter().enumerate();
        let steps = steps.map(|(index, step)| step.step(&format!("pre_tokenizer.pretokenizers[{index}]")));
        Ok(pre_tokenizers::sequence::Sequence::new(steps.collect::<Result<_, _>>()?).into())
    }

    fn step(self, field: &str) -> Result<PreTokenizerWrapper, String> {
        match self {
            Self::Sequence { .. } => Err(format!("{field} is a sequence in a sequence; leave one out")),
            Self::WhitespaceSplit {} => Ok(WhitespaceSplit.into()),
            Self::Metaspace { replacement, prepend_scheme, add_prefix_space, split, _str_rep } => {
                if replacement != SPACE {
                    return Err(not(&format!("{field}.replacement"), &replacement, "`▁`"));
                }
                let scheme = match (add_prefix_space, prepend_scheme) {
                    (Some(false), None | Some(PrependScheme::Never)) => PrependScheme::Never,
                    (Some(false), Some(PrependScheme::First | PrependScheme::Always)) => {
                        return Err(format!("{field}.add_prefix_space contradicts its prepend_scheme"));
                    }
                    (Some(true) | None, scheme) => scheme.unwrap_or(PrependScheme::Always),
                };
                Ok(Metaspace::new('▁', scheme, split.unwrap_or(true)).into())
            }
        }
    }
}

/// The reason for refusing a text of the file.
fn not(field: &str, found: &str, accepted: &str) -> String {
    format!("{field} is `{found:.100}`; T5's is {accepted}")
}

fn check_steps(field: &str, steps: usize) -> Result<(), String> {
    match steps {
        0..=MOST_STEPS => Ok(()),
        _ => Err(format!("{field} has {steps} steps; the maximum is {MOST_STEPS}")),
    }
}
