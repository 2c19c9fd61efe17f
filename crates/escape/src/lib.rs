//! Escapes for text from files, such as names of images, classes and tensors: one function for each kind of output.
//! Without them a name could move the cursor of a terminal, add a tag to a page, a row to a table or a formula to a
//! spreadsheet, or hide what it is.

mod latex;

use std::borrow::Cow;
use std::ffi::OsStr;

pub use latex::latex;

/// Whether a character is a control character, or changes how others are shown without being visible itself:
/// direction marks, zero-width characters, line separators and tags.
pub fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180e}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}'
            | '\u{ffa0}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

/// Whether a character is hidden in a text of several lines.
pub fn is_hidden_in_lines(c: char) -> bool {
    is_hidden(c) && c != '\n'
}

/// Escapes text of several lines for a terminal, XML or HTML: hidden characters other than line breaks become `\u{1b}`
/// and the like. Markup is the business of the library that writes it.
pub fn text(text: &str) -> Cow<'_, str> {
    spelled_out(text, is_hidden_in_lines)
}

/// Like [`text`], for text that must stay on one line.
pub fn line(text: &str) -> Cow<'_, str> {
    spelled_out(text, is_hidden)
}

fn spelled_out(text: &str, is_spelled: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&is_spelled) {
        return text.into();
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if is_spelled(c) { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out.into()
}

/// Escapes one line for Markdown as GitHub reads it, also in the cell of a table.
pub fn markdown(text: &str) -> String {
    let text = line(text);
    let mut out = String::with_capacity(text.len());
    let mut before = None;
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        let in_word = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
        let marks_block = match before {
            // A line that begins with one of these may be a list, a rule or a heading.
            None => matches!(c, '-' | '+' | '=') && matches!(rest.peek(), None | Some(' ' | '-' | '+' | '=')),
            Some(_) => false,
        };
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '\\' | '`' | '*' | '[' | ']' | '|' | '#' | '~' | '$' => out.extend(['\\', c]),
            // Within a word, `_` is no emphasis.
            '_' if !(in_word(before) && in_word(rest.peek().copied())) => out.push_str("\\_"),
            '.' | ')' if rest.peek() == Some(&' ') && out.bytes().all(|byte| byte.is_ascii_digit()) => {
                out.extend(['\\', c]);
            }
            c if marks_block => out.extend(['\\', c]),
            c => out.push(c),
        }
        before = Some(c);
    }
    out
}

/// Escapes a text cell of a CSV file, which the writer of the file then quotes where needed: spreadsheets take a cell
/// that begins with `=`, `+`, `-` or `@` for a formula, unless an apostrophe comes first. A number stays a number.
pub fn csv(text: &str) -> Cow<'_, str> {
    let text = line(text);
    let begins = ['=', '+', '-', '@', '＝', '＋', '－', '＠'];
    if text.trim_start().starts_with(begins) && text.parse::<f64>().is_err() {
        return format!("'{text}").into();
    }
    text
}

/// Escapes hidden characters in JSON, so that it has the same value and can be shown on a terminal.
pub fn json(json: String) -> String {
    if !json.contains(is_hidden_in_lines) {
        return json;
    }
    // Outside of its texts JSON has no hidden characters but line breaks.
    let mut out = String::with_capacity(json.len() + 8);
    for c in json.chars() {
        if is_hidden_in_lines(c) {
            let units =
                c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")).collect::<String>();
            out.push_str(&units);
        } else {
            out.push(c);
        }
    }
    out
}

/// Like [`json`], for bytes.
pub fn json_bytes(bytes: Vec<u8>) -> Vec<u8> {
    let is_plain = |byte: &u8| matches!(byte, b' '..=b'~' | b'\n');
    if bytes.iter().all(is_plain) {
        return bytes;
    }
    match String::from_utf8(bytes) {
        Ok(text) => json(text).into_bytes(),
        Err(error) => error.into_bytes(),
    }
}

/// Escapes JSON for a script element of a page, which no text in it can end.
pub fn script(text: String) -> String {
    json(text).replace('<', "\\u003c")
}

/// Quotes the words of a command for a shell. A word with hidden characters is written as `$'\033[2J'`, which shells
/// other than the plain `sh` read.
pub fn shell<W: AsRef<OsStr>>(words: impl IntoIterator<Item = W>) -> String {
    let words = words.into_iter().map(|word| shell_word(word.as_ref()));
    words.collect::<Vec<_>>().join(" ")
}

fn shell_word(word: &OsStr) -> String {
    if let Some(text) = word.to_str()
        && !text.contains(is_hidden)
        // Quoting fails only for a zero byte, which is hidden.
        && let Ok(quoted) = shlex::try_quote(text)
    {
        return quoted.into_owned();
    }
    let mut out = String::from("$'");
    let octal = |out: &mut String, bytes: &[u8]| {
        bytes.iter().for_each(|byte| out.push_str(&format!("\\{byte:03o}")));
    };
    for chunk in word.as_encoded_bytes().utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\'' | '\\' => out.extend(['\\', c]),
                c if is_hidden(c) => octal(&mut out, c.encode_utf8(&mut [0; 4]).as_bytes()),
                c => out.push(c),
            }
        }
        octal(&mut out, chunk.invalid());
    }
    out + "'"
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Texts that would act somewhere, each with its escape for one line of a terminal, Markdown and CSV.
    const TEXTS: [(&str, &str, &str, &str); 17] = [
        ("plain, λ₂ 猫", "plain, λ₂ 猫", "plain, λ₂ 猫", "plain, λ₂ 猫"),
        ("\u{1b}[2J", "\\u{1b}[2J", "\\\\u{1b}\\[2J", "\\u{1b}[2J"),
        ("\u{1b}]0;t\u{7}", "\\u{1b}]0;t\\u{7}", "\\\\u{1b}\\]0;t\\\\u{7}", "\\u{1b}]0;t\\u{7}"),
        ("a\u{9b}2Jb\u{7f}", "a\\u{9b}2Jb\\u{7f}", "a\\\\u{9b}2Jb\\\\u{7f}", "a\\u{9b}2Jb\\u{7f}"),
        ("a\nb\rc\td", "a\\nb\\rc\\td", "a\\\\nb\\\\rc\\\\td", "a\\nb\\rc\\td"),
        ("gnp.\u{202e}exe", "gnp.\\u{202e}exe", "gnp.\\\\u{202e}exe", "gnp.\\u{202e}exe"),
        (
            "c\u{200b}at\u{feff}",
            "c\\u{200b}at\\u{feff}",
            "c\\\\u{200b}at\\\\u{feff}",
            "c\\u{200b}at\\u{feff}",
        ),
        ("<script>&amp;", "<script>&amp;", "&lt;script&gt;&amp;amp;", "<script>&amp;"),
        ("a|b`c`*d*", "a|b`c`*d*", "a\\|b\\`c\\`\\*d\\*", "a|b`c`*d*"),
        ("[x](y)", "[x](y)", "\\[x\\](y)", "[x](y)"),
        ("snake_case _x_", "snake_case _x_", "snake_case \\_x\\_", "snake_case _x_"),
        ("# head", "# head", "\\# head", "# head"),
        ("- list", "- list", "\\- list", "'- list"),
        ("12. list", "12. list", "12\\. list", "12. list"),
        ("=1+1", "=1+1", "=1+1", "'=1+1"),
        ("@SUM(A1)", "@SUM(A1)", "@SUM(A1)", "'@SUM(A1)"),
        ("-0.5", "-0.5", "-0.5", "-0.5"),
    ];

    #[test]
    fn text_does_not_act() {
        for (text, on_line, in_markdown, in_csv) in TEXTS {
            assert_eq!(
                (&*line(text), &*markdown(text), &*csv(text)),
                (on_line, in_markdown, in_csv),
                "{text:?}"
            );
        }
        assert_eq!(super::text("two\nlines\u{1b}"), "two\nlines\\u{1b}");
    }

    #[test]
    fn json_keeps_its_value() {
        for (text, ..) in TEXTS.into_iter().chain([("\u{e0041}", "", "", ""), ("</script>", "", "", "")]) {
            let value = serde_json::json!({ "a": text });
            let pretty = serde_json::to_string_pretty(&value).expect("JSON");
            for safe in [json(pretty.clone()), script(pretty)] {
                assert!(!safe.contains(|c| is_hidden(c) && c != '\n'), "{safe}");
                assert_eq!(serde_json::from_str::<serde_json::Value>(&safe).expect("JSON"), value);
            }
            assert!(!script(value.to_string()).contains('<'));
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_shell_reads_the_same_words() {
        use std::os::unix::ffi::OsStrExt;

        let mut words: Vec<&OsStr> = TEXTS.iter().map(|(text, ..)| OsStr::new(*text)).collect();
        words.extend(["", "it's $HOME \"`x`\"", "\u{1b}'\\n\u{1b}1"].map(OsStr::new));
        words.push(OsStr::from_bytes(b"\xff\x1b2"));
        let quoted = shell(&words);
        assert!(!quoted.contains(is_hidden), "{quoted}");
        let script = format!("printf '%s\\0' {quoted}");
        let output = std::process::Command::new("bash").args(["-c", &script]).output().expect("a shell");
        let expected: Vec<u8> = words.iter().flat_map(|word| [word.as_bytes(), b"\0"].concat()).collect();
        assert_eq!(output.stdout, expected, "{quoted}");
    }
}
