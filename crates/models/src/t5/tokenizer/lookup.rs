//! Which tokens stand for a word.

use std::ops::Range;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Tokenizer;
use crate::clip;
use crate::error::{Error, Result};

/// Which tokens of a T5 sequence stand for a word; a word may be several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TokenLookup {
    /// The first token of the word.
    First,
    /// The mean over all tokens of the word.
    Mean,
    /// The last token of the word.
    Last,
    /// The position of the word in CLIP's tokens (not counting start of text), read from the T5 sequence, as in the code
    /// published with arXiv 2507.17657. The two tokenizers split text differently, so this is often the token of another word.
    ClipIndex,
}

impl TokenLookup {
    /// Indices in the T5 sequence of `text`, never none.
    ///
    /// # Errors
    /// The text has no such word ([`Tokenizer::word`]), or for [`TokenLookup::ClipIndex`] no single token for it.
    pub fn tokens(
        self,
        t5: &Tokenizer,
        clip: &clip::Tokenizer,
        text: &str,
        word: &str,
    ) -> Result<Range<usize>> {
        let one = |token: usize| token..token + 1;
        Ok(match self {
            Self::First => one(t5.word(text, word)?.start),
            Self::Mean => t5.word(text, word)?,
            Self::Last => one(t5.word(text, word)?.end - 1),
            Self::ClipIndex => {
                let token = clip.token_index(text, word)?;
                if token >= t5.length() {
                    let reason = format!("CLIP has it at {token}, T5 reads {} tokens", t5.length());
                    return Err(Error::Word { word: word.into(), text: text.into(), reason });
                }
                one(token)
            }
        })
    }
}
