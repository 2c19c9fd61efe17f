//! Relative links from the page to files, so that a folder can be moved together with its page.

use std::path::{Component, Path, PathBuf};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

use eval::{Error, Result};
use runs::FileAction;

/// Characters to escape: all that have a meaning in a URL, including the colon, which would end a scheme.
const NAME: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Makes links relative to the folder of the page.
pub(super) struct Links {
    folder: PathBuf,
}

impl Links {
    /// # Errors
    /// Fails if there is no such folder.
    pub(super) fn from(folder: &Path) -> Result<Self> {
        let folder = std::fs::canonicalize(folder).map_err(Error::file(FileAction::Read, folder))?;
        Ok(Self { folder })
    }

    /// Returns the relative URL of a file or folder.
    pub(super) fn to(&self, target: &Path) -> String {
        let target = std::fs::canonicalize(target).unwrap_or_else(|_| target.to_path_buf());
        let (from, to): (Vec<_>, Vec<_>) =
            (self.folder.components().collect(), target.components().collect());
        let shared = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
        let up = from[shared..].iter().map(|_| "..".to_owned());
        let down = to[shared..]
            .iter()
            .filter(|part| matches!(part, Component::Normal(_)))
            .map(|part| percent_encode(part.as_os_str().as_encoded_bytes(), NAME).to_string());
        let parts: Vec<String> = up.chain(down).collect();
        if parts.is_empty() { ".".to_owned() } else { parts.join("/") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_relative_and_escaped() {
        let dir = tempfile::tempdir().expect("a scratch folder");
        let file = dir.path().join("runs/java:script/a b#c?.png");
        std::fs::create_dir_all(file.parent().expect("a folder")).expect("made");
        std::fs::create_dir(dir.path().join("pages")).expect("made");
        std::fs::write(&file, "").expect("written");
        let to = |from: &str| Links::from(&dir.path().join(from)).expect("there").to(&file);
        assert_eq!(to(""), "runs/java%3Ascript/a%20b%23c%3F.png");
        assert_eq!(to("pages"), "../runs/java%3Ascript/a%20b%23c%3F.png");
        assert_eq!(to("runs/java:script"), "a%20b%23c%3F.png");
        assert_eq!(Links::from(dir.path()).expect("there").to(dir.path()), ".");
    }
}
