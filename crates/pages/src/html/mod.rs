//! What the pages that the program writes have in common: one HTML file each that loads nothing.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

/// Colours, type and controls.
pub(crate) const STYLE: &str = include_str!("base.css");

/// A page may use what it holds and nothing else, not even by mistake.
pub(crate) const POLICY: &str =
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'";

/// Content of a file as a URI that holds it.
pub(crate) fn data_uri(kind: &str, content: &[u8]) -> String {
    format!("data:{kind};base64,{}", STANDARD.encode(content))
}

/// The content of a PNG file as a URI that holds it.
pub(crate) fn png_uri(png: &[u8]) -> String {
    data_uri("image/png", png)
}

/// A name in which what would steer the reader's eye unseen, controls and marks of direction, stands as its code point.
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

/// A value as JSON that no name in it can end the script element of.
pub(crate) fn json(value: &impl Serialize) -> String {
    serde_json::json!(value).to_string().replace('<', "\\u003c")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_of_direction_and_controls_are_seen() {
        assert_eq!(plain("λ₂ <b>\n日"), "λ₂ <b>\n日");
        assert_eq!(plain("a\u{202e}gnp.exe\u{7}"), "a[U+202E]gnp.exe[U+0007]");
    }

    #[test]
    fn json_does_not_end_its_element() {
        let names = ["</script><b>", "<!--<script>"];
        let text = json(&names);
        assert!(!text.contains('<'), "{text}");
        assert_eq!(serde_json::from_str::<Vec<String>>(&text).expect("JSON"), names);
    }
}
