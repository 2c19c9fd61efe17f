//! Tokenizes text as transformers' `T5Tokenizer` does, and finds the tokens of a word.
//!
//! As described in `tokenizer.json`, characters are replaced by a table (in published files NFKC, with all white space
//! replaced by a space), the text is split into words at spaces, each word gets a `▁` before it, and a unigram model
//! finds the most likely pieces. `</s>` ends the text, and `<pad>` fills it up.

mod charsmap;
mod description;
mod files;
mod lookup;

use std::ops::Range;
use std::path::Path;

use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{Encoding, PaddingParams, PaddingStrategy, TruncationParams};

use crate::error::{Error, Result};
use crate::limits;
use crate::words;
use description::Description;
use files::Settings;
pub use lookup::TokenLookup;

/// The tokenizer of a T5 encoder.
///
/// ```no_run
/// # fn main() -> models::Result<()> {
/// let dir = std::path::Path::new("FLUX.1-schnell/tokenizer_2");
/// let tokenizer = models::t5::Tokenizer::from_dir(dir, Some(256))?;
/// let ids = tokenizer.encode("a photo of a cat")?;
/// let cat = tokenizer.word("a photo of a cat", "cat")?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Tokenizer {
    pipeline: tokenizers::Tokenizer,
    length: usize,
}

impl Tokenizer {
    /// Reads `tokenizer.json` and, for the names of the special tokens and the maximum length, `tokenizer_config.json`
    /// of a directory. `length` is the number of tokens of every text (FLUX schnell 256, dev 512); by default the
    /// maximum length, `model_max_length`, or 512 if that is missing.
    ///
    /// # Errors
    /// A file is missing, cannot be read or is not T5's; `length` exceeds the maximum.
    pub fn from_dir(dir: &Path, length: Option<usize>) -> Result<Self> {
        let path = dir.join("tokenizer.json");
        let settings = Settings::read(dir, length)?;
        let bytes = limits::read_bytes(&path, limits::TOKENIZER_BYTES)
            .map_err(|source| Error::Read { path: path.clone(), source })?;
        let refuse = |reason: String| Error::Directory {
            path: path.clone(),
            reason: format!("not the tokenizer of T5: {reason}; download the file again"),
        };
        let file: Description = serde_json::from_slice(&bytes).map_err(|error| refuse(error.to_string()))?;
        drop(bytes);
        let mut pipeline = file.build().map_err(refuse)?;
        let id = |token: &str| {
            pipeline.token_to_id(token).ok_or_else(|| refuse(format!("the vocabulary has no `{token}`")))
        };
        let (end_id, pad_id) = (id(&settings.end)?, id(&settings.pad)?);
        configure(&mut pipeline, &settings, end_id, pad_id).map_err(|error| refuse(error.to_string()))?;
        Ok(Self { pipeline, length: settings.length })
    }

    /// Returns the token ids `[length]` of a text: the text, end of text, padding. A text that is too long is cut.
    ///
    /// Special tokens that are spelled out in the text become these tokens.
    ///
    /// # Errors
    /// The tokenizer library refuses the text.
    pub fn encode(&self, text: &str) -> Result<Vec<i64>> {
        Ok(self.encoding(text)?.get_ids().iter().map(|&id| id.into()).collect())
    }

    /// Returns 1 for each token of [`Tokenizer::encode`], or 0 if it is padding. FLUX attends to padding and uses no
    /// mask.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn mask(&self, text: &str) -> Result<Vec<i64>> {
        Ok(self.encoding(text)?.get_attention_mask().iter().map(|&kept| kept.into()).collect())
    }

    /// Returns the pieces of [`Tokenizer::encode`] as the vocabulary spells them, with `▁` for a space before them,
    /// without padding.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn pieces(&self, text: &str) -> Result<Vec<String>> {
        let encoding = self.encoding(text)?;
        let kept =
            encoding.get_tokens().iter().zip(encoding.get_attention_mask()).filter(|(_, kept)| **kept == 1);
        Ok(kept.map(|(piece, _)| piece.clone()).collect())
    }

    /// Whether [`Tokenizer::encode`] cuts a text because it has more tokens than fit.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn truncates(&self, text: &str) -> Result<bool> {
        Ok(!self.encoding(text)?.get_overflowing().is_empty())
    }

    /// Number of ids that [`Tokenizer::encode`] returns.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Returns the indices of the tokens of `word` in [`Tokenizer::encode`], found by the part of the text that each
    /// token comes from.
    ///
    /// Finds the first occurrence of the whole word, ignoring case: there must be no letter, digit or `_` directly
    /// before or after it, so `cat` is found in `Cat's` but not in `catalogue`. Several words separated by spaces are
    /// searched for as one. A separate `▁` before the word is not included; one between two words is, and so is a piece
    /// that extends beyond the word.
    ///
    /// # Errors
    /// The text does not have the word, or is cut before the word's end.
    pub fn word(&self, text: &str, word: &str) -> Result<Range<usize>> {
        words::tokens(&self.encoding(text)?, text, word)
    }

    fn encoding(&self, text: &str) -> Result<Encoding> {
        self.pipeline
            .encode(text, true)
            .map_err(|error| Error::Text { text: text.into(), reason: error.to_string() })
    }
}

fn configure(
    pipeline: &mut tokenizers::Tokenizer,
    settings: &Settings,
    end_id: u32,
    pad_id: u32,
) -> tokenizers::Result<()> {
    let end = settings.end.clone();
    let ended = TemplateProcessing::builder()
        .try_single(vec!["$A".to_owned(), end.clone()])?
        .special_tokens(vec![(end, end_id)])
        .build()?;
    pipeline.with_post_processor(Some(ended));
    pipeline.with_truncation(Some(TruncationParams {
        max_length: settings.length,
        ..TruncationParams::default()
    }))?;
    pipeline.with_padding(Some(PaddingParams {
        strategy: PaddingStrategy::Fixed(settings.length),
        pad_id,
        pad_token: settings.pad.clone(),
        ..PaddingParams::default()
    }));
    Ok(())
}
