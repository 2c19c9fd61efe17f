//! Tokenizes text as `CLIPTokenizer` of transformers 5 does.
//!
//! The text is composed (NFC), runs of white space become one space, and everything is lower-cased. Words, single
//! digits, contractions and runs of punctuation are then encoded one by one with a byte-level BPE whose last symbol
//! carries `</w>`. There is no other cleaning: HTML entities, control characters and zero-width joiners are encoded as
//! they are.

mod description;
mod files;
mod special;

use std::ops::Range;
use std::path::Path;

use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::normalizers::{self, Lowercase, NFC, Replace, replace::ReplacePattern};
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::pre_tokenizers::{self, byte_level::ByteLevel};
use tokenizers::processors::roberta::RobertaProcessing;
use tokenizers::{PaddingDirection, PaddingParams, PaddingStrategy, SplitDelimiterBehavior};
use tokenizers::{TruncationDirection, TruncationParams};

use crate::error::{Error, Result};
use crate::words;
use description::{Description, Settings, Side};
use files::ModelFiles;
use special::SpecialTokens;

type Built = tokenizers::Result<tokenizers::Tokenizer>;

/// A match is encoded as one word. Text between matches, which is only white space, is dropped.
const WORD: &str =
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";

/// The tokenizer of a CLIP text encoder.
///
/// ```no_run
/// # fn main() -> models::Result<()> {
/// let tokenizer = models::clip::Tokenizer::from_dir(std::path::Path::new("clip-vit-large-patch14"))?;
/// let ids = tokenizer.encode("a photo of a cat")?;
/// let pooled = ids.iter().position(|&id| id == tokenizer.end_of_text());
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Tokenizer {
    pipeline: tokenizers::Tokenizer,
    end_of_text: i64,
    context_length: usize,
}

impl Tokenizer {
    /// Reads the tokenizer of a model directory.
    ///
    /// As in transformers, vocabulary and merges come from `tokenizer.json` if it exists, else from `vocab.json` and
    /// `merges.txt`; the special tokens come from `tokenizer_config.json`, `special_tokens_map.json` and
    /// `added_tokens.json`. The context length is the smaller of `model_max_length` in `tokenizer_config.json` and
    /// `max_position_embeddings` of the text encoder in `config.json`, or 77 if both are missing.
    ///
    /// # Errors
    /// A file is missing, cannot be read or contradicts another one, or the vocabulary lacks a special token.
    pub fn from_dir(dir: &Path) -> Result<Self> {
        if !dir.is_dir() {
            let reason =
                "no such model directory; a CLIP tokenizer is a folder with vocab.json and merges.txt";
            return Err(Error::Directory { path: dir.into(), reason: reason.into() });
        }
        let Description { files, special, settings } = Description::read(dir)?;
        let end_of_text = special.end.1.into();
        let vocabulary_file = files.vocabulary_file.clone();
        let pipeline = build(files, &special, &settings).map_err(|e| Error::Directory {
            path: vocabulary_file,
            reason: format!(
                "not the vocabulary of a CLIP tokenizer: {e}; download the tokenizer files again"
            ),
        })?;
        special.check_ids(|token| pipeline.token_to_id(token))?;
        let context_length = settings.context_length;
        Ok(Self { pipeline, end_of_text, context_length })
    }

    /// Returns the token ids `[context_length]` of a text: start of text, the text, end of text, padding. A text that
    /// is too long is cut before the end of text.
    ///
    /// `<|startoftext|>` and `<|endoftext|>` inside the text become those tokens.
    ///
    /// # Errors
    /// The tokenizer library refuses the text.
    pub fn encode(&self, text: &str) -> Result<Vec<i64>> {
        Ok(self.encoding(text)?.get_ids().iter().map(|&id| id.into()).collect())
    }

    fn encoding(&self, text: &str) -> Result<tokenizers::Encoding> {
        self.pipeline
            .encode_fast(text, true)
            .map_err(|e| Error::Text { text: text.into(), reason: e.to_string() })
    }

    /// Whether [`Tokenizer::encode`] cuts a text because it has more tokens than the context.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn truncates(&self, text: &str) -> Result<bool> {
        Ok(!self.encoding(text)?.get_overflowing().is_empty())
    }

    /// Returns the index of the first token that spells `word`, ignoring case, counted without special tokens.
    ///
    /// # Errors
    /// No single token is the whole word: it is not in the text, was cut off, or has several tokens.
    pub fn token_index(&self, text: &str, word: &str) -> Result<usize> {
        let encoding = self.offsets(text)?;
        let special = encoding.get_special_tokens_mask();
        let mut words = encoding.get_tokens().iter().zip(special).filter(|&(_, &special)| special == 0);
        let wanted = word.to_lowercase();
        words.position(|(token, _)| token.strip_suffix("</w>").unwrap_or(token) == wanted).ok_or_else(|| {
            let reason =
                "CLIP's tokenizer has no single token for this word; look it up in T5's tokens with `first`, `mean` or `last`";
            Error::Word { word: word.into(), text: text.into(), reason: reason.into() }
        })
    }

    /// Returns the indices of the tokens of `word` in [`Tokenizer::encode`], found by the part of the text that each
    /// token comes from.
    ///
    /// Finds the first occurrence of the whole word, ignoring case: there must be no letter, digit or `_` directly
    /// before or after it, so `cat` is found in `Cat's` but not in `catalogue`. Several words separated by spaces are
    /// searched for as one.
    ///
    /// # Errors
    /// The text does not have the word, or is cut before the word's end.
    pub fn word(&self, text: &str, word: &str) -> Result<Range<usize>> {
        words::tokens(&self.offsets(text)?, text, word)
    }

    /// Returns the encoding with the tokens' spelling and places in the text, which the fast encoding does not have.
    fn offsets(&self, text: &str) -> Result<tokenizers::Encoding> {
        self.pipeline.encode(text, true).map_err(|e| Error::Text { text: text.into(), reason: e.to_string() })
    }

    /// Id of the end-of-text token. CLIP pools the text at its first occurrence.
    pub fn end_of_text(&self) -> i64 {
        self.end_of_text
    }

    /// Number of ids that [`Tokenizer::encode`] returns.
    pub fn context_length(&self) -> usize {
        self.context_length
    }
}

fn build(files: ModelFiles, special: &SpecialTokens, settings: &Settings) -> Built {
    let bpe = BPE::builder()
        .vocab_and_merges(files.vocabulary.into_iter().collect::<Vocab>(), files.merges)
        .unk_token(special.unknown.clone())
        .continuing_subword_prefix(String::new())
        .end_of_word_suffix("</w>".into())
        .build()?;
    let mut pipeline = tokenizers::Tokenizer::new(bpe);
    // Registering added tokens normalises them, so the normaliser must be set first.
    pipeline.with_normalizer(Some(normalizers::Sequence::new(vec![
        NFC.into(),
        Replace::new(ReplacePattern::Regex(r"\s+".into()), " ")?.into(),
        Lowercase.into(),
    ])))?;
    pipeline.with_pre_tokenizer(Some(pre_tokenizers::sequence::Sequence::new(vec![
        Split::new(SplitPattern::Regex(WORD.into()), SplitDelimiterBehavior::Removed, true)?.into(),
        ByteLevel::default().add_prefix_space(false).into(),
    ])));
    pipeline.add_tokens(special.registration())?;
    pipeline.set_encode_special_tokens(settings.split_special_tokens);
    pipeline.with_post_processor(Some(
        RobertaProcessing::new(special.end.clone(), special.start.clone())
            .trim_offsets(false)
            .add_prefix_space(false),
    ));
    pipeline.with_truncation(Some(TruncationParams {
        max_length: settings.context_length,
        direction: match settings.truncation_side {
            Side::Left => TruncationDirection::Left,
            Side::Right => TruncationDirection::Right,
        },
        ..TruncationParams::default()
    }))?;
    let (pad_token, pad_id) = special.pad.clone();
    pipeline.with_padding(Some(PaddingParams {
        strategy: PaddingStrategy::Fixed(settings.context_length),
        direction: match settings.padding_side {
            Side::Left => PaddingDirection::Left,
            Side::Right => PaddingDirection::Right,
        },
        pad_id,
        pad_token,
        ..PaddingParams::default()
    }));
    Ok(pipeline)
}
