//! The text of tokens, from the entries of a tokenizer's vocabulary.

/// Returns the text of each token, with its white space, from its entry in the vocabulary of a tokenizer. Three ways of
/// writing them are recognised by their marks: byte-level BPE (`Ġthe`, `Ċ`), SentencePiece (`▁the`, `<0x0A>`) and WordPiece
/// (`##ing`). Texts without such marks stay as they are.
///
/// A token may hold a part of a character; it becomes `�`.
pub fn spelling<T: AsRef<str>>(tokens: &[T]) -> Vec<String> {
    let any = |mark: fn(&str) -> bool| tokens.iter().any(|token| mark(token.as_ref()));
    let spell: fn(&str) -> String = if any(|token| token.contains(['Ġ', 'Ċ'])) {
        byte_level
    } else if any(|token| token.contains('▁')) {
        sentence_piece
    } else if any(|token| token.len() > 2 && token.starts_with("##")) {
        return tokens.iter().enumerate().map(|(i, token)| word_piece(token.as_ref(), i == 0)).collect();
    } else {
        str::to_owned
    };
    tokens.iter().map(|token| spell(token.as_ref())).collect()
}

/// Byte-level BPE writes each byte as a character: printable ones of Latin-1 stand for themselves, the others, in order, for
/// U+0100 and what follows (`bytes_to_unicode` of GPT-2). Special tokens such as `<|endoftext|>` are plain ASCII and stay;
/// added tokens in other scripts are not bytes and stay too.
fn byte_level(token: &str) -> String {
    let bytes: Option<Vec<u8>> = token.chars().map(byte_of).collect();
    bytes.map_or_else(|| token.to_owned(), |bytes| String::from_utf8_lossy(&bytes).into_owned())
}

fn byte_of(c: char) -> Option<u8> {
    let printable = |byte: &u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    match u32::from(c) {
        code @ 0..=0xff => u8::try_from(code).ok().filter(printable),
        code => (0..=u8::MAX).filter(|byte| !printable(byte)).nth((code - 0x100) as usize),
    }
}

/// SentencePiece writes a space as `▁`, and bytes outside of its vocabulary as `<0xE2>`.
fn sentence_piece(token: &str) -> String {
    let byte = token.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
    match byte.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
        Some(byte) => String::from_utf8_lossy(&[byte]).into_owned(),
        None => token.replace('▁', " "),
    }
}

/// WordPiece marks pieces inside of a word with `##`; others begin a word.
fn word_piece(token: &str, first: bool) -> String {
    match token.strip_prefix("##").filter(|rest| !rest.is_empty()) {
        Some(rest) => rest.to_owned(),
        None if first => token.to_owned(),
        None => format!(" {token}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_of_tokenizers_become_white_space() {
        for (tokens, texts) in [
            // GPT-2: `Café d'été\n  naïve 猫`.
            (
                vec![
                    "C",
                    "af",
                    "Ã©",
                    "Ġd",
                    "'",
                    "Ã©t",
                    "Ã©",
                    "Ċ",
                    "Ġ",
                    "ĠnaÃ¯ve",
                    "ĠçĮ",
                    "«",
                    "<|endoftext|>",
                ],
                vec!["C", "af", "é", " d", "'", "ét", "é", "\n", " ", " naïve", " �", "�", "<|endoftext|>"],
            ),
            // Llama: a byte that is not in the vocabulary.
            (
                vec!["<s>", "▁The", "▁", "<0x0A>", "cat", "</s>"],
                vec!["<s>", " The", " ", "\n", "cat", "</s>"],
            ),
            (
                vec!["[CLS]", "token", "##ization", "is", "[SEP]"],
                vec!["[CLS]", " token", "ization", " is", " [SEP]"],
            ),
            (vec!["plain", " text", "#", "##"], vec!["plain", " text", "#", "##"]),
            (vec![], vec![]),
        ] {
            assert_eq!(spelling(&tokens), texts, "{tokens:?}");
        }
    }

    #[test]
    fn every_byte_has_one_character() {
        let mut found: Vec<u8> = (0..0x200).filter_map(char::from_u32).filter_map(byte_of).collect();
        found.sort_unstable();
        assert_eq!(found, (0..=255).collect::<Vec<u8>>());
        // From `bytes_to_unicode`.
        for (c, byte) in
            [('Ġ', b' '), ('Ċ', b'\n'), ('ĉ', b'\t'), ('Ā', 0), ('ł', 0xa0), ('Ń', 0xad), ('ġ', 0x7f)]
        {
            assert_eq!(byte_of(c), Some(byte), "{c}");
        }
        assert_eq!([' ', '猫', '\u{144}'].map(byte_of), [None; 3]);
    }
}
