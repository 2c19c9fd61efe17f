//! The choice of tokens for a word.

use std::ops::Range;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Tokenizer;
use crate::clip;
use crate::error::{Error, Result};

/// The tokens of a sequence that represent a word, which may have several tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TokenLookup {
    /// The first token of the word.
    First,
    /// The mean over all tokens of the word.
    Mean,
    /// The last token of the word.
    Last,
    /// The T5 token at the position that the word has in CLIP's tokens (not counting start of text), as in the code
    /// published with arXiv 2507.17657. The two tokenizers split text differently, so this is often the token of
    /// another word.
    ClipIndex,
}

impl TokenLookup {
    /// Returns the chosen ones of a word's tokens; `None` for [`TokenLookup::ClipIndex`], which needs two tokenizers.
    fn of_word(self, word: impl FnOnce() -> Result<Range<usize>>) -> Result<Option<Range<usize>>> {
        Ok(match self {
            Self::First => Some(word()?).map(|word| word.start..word.start + 1),
            Self::Mean => Some(word()?),
            Self::Last => Some(word()?).map(|word| word.end - 1..word.end),
            Self::ClipIndex => None,
        })
    }

    /// Returns indices in CLIP's sequence of `text`; the range is never empty.
    ///
    /// # Errors
    /// The text does not have the word ([`clip::Tokenizer::word`]), or the lookup is [`TokenLookup::ClipIndex`].
    pub fn clip_tokens(self, clip: &clip::Tokenizer, text: &str, word: &str) -> Result<Range<usize>> {
        self.of_word(|| clip.word(text, word))?.ok_or_else(|| Error::Word {
            word: word.into(),
            text: text.into(),
            reason: "`clip-index` chooses a token of T5, and this network reads CLIP's tokens; use `first`, `mean` or `last`"
                .into(),
        })
    }

    /// Returns indices in the T5 sequence of `text`; the range is never empty.
    ///
    /// # Errors
    /// The text does not have the word ([`Tokenizer::word`]), or for [`TokenLookup::ClipIndex`] the word is not a
    /// single token.
    pub fn tokens(
        self,
        t5: &Tokenizer,
        clip: &clip::Tokenizer,
        text: &str,
        word: &str,
    ) -> Result<Range<usize>> {
        if let Some(tokens) = self.of_word(|| t5.word(text, word))? {
            return Ok(tokens);
        }
        let token = clip.token_index(text, word)?;
        if token >= t5.length() {
            let reason = format!(
                "its index in CLIP's tokens is {token}, but the T5 sequence has {} tokens",
                t5.length()
            );
            return Err(Error::Word { word: word.into(), text: text.into(), reason });
        }
        Ok(token..token + 1)
    }
}
