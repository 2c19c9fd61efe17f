//! Parts common to all pages. Each page is one HTML file that loads nothing.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

/// Style sheet of colours, fonts and controls.
pub(crate) const STYLE: &str = include_str!("base.css");

/// Content security policy: a page may use only its own content.
pub(crate) const POLICY: &str =
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'";

/// Returns the content of a file as a data URI.
pub(crate) fn data_uri(kind: &str, content: &[u8]) -> String {
    format!("data:{kind};base64,{}", STANDARD.encode(content))
}

/// Returns the content of a PNG file as a data URI.
pub(crate) fn png_uri(png: &[u8]) -> String {
    data_uri("image/png", png)
}

/// Replaces control characters and direction marks, which could disguise a name, by their code points.
pub(crate) fn plain(text: &str) -> Cow<'_, str> {
    let unseen = |c: char| {
        let direction = matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        direction || (c.is_control() && c != '\n')
    };
    if !text.contains(unseen) {
        return text.into();
    }
    let shown = |c: char| if unseen(c) { format!("[U+{:04X}]", u32::from(c)) } else { c.to_string() };
    text.chars().map(shown).collect()
}

/// Returns a value as JSON without `<`, so that no text in it can end the script element.
pub(crate) fn json(value: &impl Serialize) -> String {
    serde_json::json!(value).to_string().replace('<', "\\u003c")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn direction_marks_and_control_characters_are_shown() {
        assert_eq!(plain("λ₂ <b>\n日"), "λ₂ <b>\n日");
        assert_eq!(plain("a\u{202e}gnp.exe\u{7}"), "a[U+202E]gnp.exe[U+0007]");
    }

    #[test]
    fn json_cannot_end_its_script_element() {
        let names = ["</script><b>", "<!--<script>"];
        let text = json(&names);
        assert!(!text.contains('<'), "{text}");
        assert_eq!(serde_json::from_str::<Vec<String>>(&text).expect("JSON"), names);
    }
}
