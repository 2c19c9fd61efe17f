//! Finds words in a text, and their tokens.

use std::ops::Range;

use tokenizers::Encoding;

use crate::error::{Error, Result};

/// T5's mark for a space before a word. A separate token of it does not belong to the word.
pub(crate) const SPACE: &str = "▁";

/// Returns the indices of the tokens of the first occurrence of the whole word in a text and its `encoding`, found by the
/// part of the text that each token comes from.
///
/// # Errors
/// The text does not have the word, or its encoding is cut before the word's end.
pub(crate) fn tokens(encoding: &Encoding, text: &str, word: &str) -> Result<Range<usize>> {
    let refuse = |reason: String| Error::Word { word: word.into(), text: text.into(), reason };
    let place = find(text, word).ok_or_else(|| refuse(absent(text)))?;
    let cut_off = encoding.get_overflowing().iter().any(|rest| !tokens_at(rest, &place).is_empty());
    match tokens_at(encoding, &place).as_slice() {
        [first, .., last] if !cut_off => Ok(*first..last + 1),
        [only] if !cut_off => Ok(*only..only + 1),
        _ => Err(refuse(format!(
            "the text is cut after {} tokens; shorten it or allow more tokens",
            encoding.get_ids().len()
        ))),
    }
}

/// Returns the tokens that come from `place`, a range of bytes of the text.
fn tokens_at(encoding: &Encoding, place: &Range<usize>) -> Vec<usize> {
    let within = |token: &usize| {
        let (start, end) = encoding.get_offsets()[*token];
        start < place.end && end > place.start
    };
    let special = encoding.get_special_tokens_mask();
    let tokens = encoding.get_tokens();
    (0..tokens.len()).filter(|&i| special[i] == 0 && tokens[i] != SPACE).filter(within).collect()
}

/// Returns the byte range of the first occurrence of the whole word, ignoring case. A space in `word` matches any white
/// space in the text.
fn find(text: &str, word: &str) -> Option<Range<usize>> {
    let word = word.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase();
    let first = word.chars().next()?;
    let last = word.chars().next_back()?;
    let starts = text.char_indices().map(|(start, _)| start);
    starts.filter_map(|start| Some(start..start + matched(&text[start..], &word)?)).find(|place| {
        let before = text[..place.start].chars().next_back();
        let after = text[place.end..].chars().next();
        let apart = |inner: char, outer: Option<char>| !in_word(inner) || !outer.is_some_and(in_word);
        apart(first, before) && apart(last, after)
    })
}

/// Returns the number of bytes at the start of `text` that equal `word` (in lower case) apart from case.
fn matched(text: &str, word: &str) -> Option<usize> {
    let mut wanted = word.chars().peekable();
    let mut chars = text.char_indices().peekable();
    while let Some(&next) = wanted.peek() {
        let (_, found) = chars.next()?;
        if next == ' ' && found.is_whitespace() {
            wanted.next();
            while chars.next_if(|(_, c)| c.is_whitespace()).is_some() {}
            continue;
        }
        // A capital letter can have several lower-case letters.
        if !found.to_lowercase().all(|letter| wanted.next() == Some(letter)) {
            return None;
        }
    }
    Some(chars.peek().map_or(text.len(), |&(end, _)| end))
}

/// Whether a character belongs to a word: a letter, a digit, `_` or a combining accent.
fn in_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || matches!(c, '\u{300}'..='\u{36f}')
}

/// Returns the words of a text, for an error about a missing word.
fn absent(text: &str) -> String {
    let words: Vec<_> =
        text.split(|c| !in_word(c)).filter(|word| !word.is_empty()).map(|word| format!("`{word}`")).collect();
    match words.as_slice() {
        [] => "it has no words".into(),
        words => format!("its words are {}", words.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_whole_word_is_found_whatever_its_case() {
        for (text, word, place) in [
            ("a catalogue of a Cat's cat", "cat", Some(17..20)),
            ("a fire \n Engine", "FIRE engine", Some(2..15)),
            ("bow tie", "bow  tie ", Some(0..7)),
            ("snake_case snake", "snake", Some(11..16)),
            ("x2 2", "2", Some(3..4)),
            ("cafe\u{301} cafe", "cafe", Some(7..11)),
            ("STRASSE Straße", "straße", Some(8..15)),
            ("İstanbul", "i\u{307}stanbul", Some(0..9)),
            ("İstanbul", "istanbul", None),
            ("İ", "i", None),
            ("no!no", "!", Some(2..3)),
            ("猫 在", "在", Some(4..7)),
            ("catcat", "cat", None),
            ("cat", "", None),
            ("", "cat", None),
        ] {
            assert_eq!(find(text, word), place, "{word:?} in {text:?}");
        }
    }

    #[test]
    fn a_text_says_its_words() {
        assert_eq!(absent("A cat's hat!"), "its words are `A`, `cat`, `s`, `hat`");
        assert_eq!(absent(" ... "), "it has no words");
    }
}
