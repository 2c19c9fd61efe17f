//! The prompts of images.

use std::path::Path;

use models::limits::{self, TABLE_BYTES};

use super::config::GuidanceConfig;
use crate::error::{Error, Result};

/// Returns the prompt of each image of a run, if each has one of its own.
///
/// # Errors
/// The file of prompts cannot be read, or has fewer lines than the run needs.
pub(super) fn of_images(config: &GuidanceConfig) -> Result<Option<Vec<String>>> {
    let Some(path) = &config.prompts else { return Ok(None) };
    let lines = read(path)?;
    let (first, count) = (config.first as usize, config.count as usize);
    match lines.get(first..first.saturating_add(count)) {
        Some(lines) => Ok(Some(lines.to_vec())),
        None => {
            let needed = first.saturating_add(count);
            let found = if lines.len() == 1 { "1 line".into() } else { format!("{} lines", lines.len()) };
            let reason = format!(
                "has {found}, and the run needs a prompt on each of {needed}; lower task.guidance.count, or add prompts"
            );
            Err(Error::Prompts { path: path.into(), reason })
        }
    }
}

/// Reads the lines of a text file. A byte order mark, and carriage returns before the ends of lines, do not belong to a prompt.
fn read(path: &Path) -> Result<Vec<String>> {
    let text = limits::read_text(path, TABLE_BYTES)
        .map_err(|error| Error::Prompts { path: path.into(), reason: format!("cannot be read: {error}") })?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(&text).lines().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_image_has_the_prompt_of_its_line() -> Result<()> {
        let folder = tempfile::tempdir().expect("a scratch folder");
        let path = folder.path().join("prompts.txt");
        std::fs::write(&path, "\u{feff}a cat\r\n\na dog, \u{201c}sitting\u{201d}\n").expect("writable");
        let of = |first: u64, count: u64| {
            let mut config: GuidanceConfig =
                serde_json::from_value(serde_json::json!({ "methods": ["none"], "count": count }))
                    .expect("a table");
            (config.first, config.prompts) = (first, Some(path.clone()));
            of_images(&config)
        };
        assert_eq!(
            of(0, 3)?,
            Some(vec!["a cat".into(), String::new(), "a dog, \u{201c}sitting\u{201d}".into()])
        );
        assert_eq!(of(2, 1)?, Some(vec!["a dog, \u{201c}sitting\u{201d}".into()]));
        for (first, count) in [(0, 4), (3, 1), (99_999_999, 1)] {
            let message = of(first, count).expect_err("accepted").to_string();
            assert!(
                message.contains("has 3 lines") && message.contains(&(first + count).to_string()),
                "{message}"
            );
        }
        std::fs::write(&path, [b'a', 0xff]).expect("writable");
        let message = of(0, 1).expect_err("accepted").to_string();
        assert!(message.contains("prompts.txt") && message.contains("not valid UTF-8"), "{message}");
        Ok(())
    }
}
