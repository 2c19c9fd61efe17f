//! What the pages that the program writes have in common: one HTML file each that loads nothing.

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

/// A value as JSON that no name in it can end the script element of.
pub(crate) fn json(value: &impl Serialize) -> String {
    serde_json::json!(value).to_string().replace('<', "\\u003c")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_does_not_end_its_element() {
        let names = ["</script><b>", "<!--<script>"];
        let text = json(&names);
        assert!(!text.contains('<'), "{text}");
        assert_eq!(serde_json::from_str::<Vec<String>>(&text).expect("JSON"), names);
    }
}
