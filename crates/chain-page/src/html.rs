//! Parts common to all pages of this project. Each page is one HTML file that loads nothing.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

/// Style sheet of colours, fonts and controls.
pub const STYLE: &str = include_str!("base.css");

/// Content security policy: a page may use only its own content.
pub const POLICY: &str =
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'";

/// Returns the content of a file as a data URI.
pub fn data_uri(kind: &str, content: &[u8]) -> String {
    format!("data:{kind};base64,{}", STANDARD.encode(content))
}

/// Returns the content of a PNG file as a data URI.
pub fn png_uri(png: &[u8]) -> String {
    data_uri("image/png", png)
}

/// Returns a value as JSON without `<`, so that no text in it can end the script element.
pub fn json(value: &impl Serialize) -> String {
    escape::script(serde_json::json!(value).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_cannot_end_its_script_element() {
        let names = ["</script><b>", "<!--<script>"];
        let text = json(&names);
        assert!(!text.contains('<'), "{text}");
        assert_eq!(serde_json::from_str::<Vec<String>>(&text).expect("JSON"), names);
    }
}
