//! Writes the figures of a run, and loads the items that they show.

use std::path::PathBuf;

use plot::PlotError;
use runs::files::write_whole;
use runs::progress::say;

use crate::error::{Error, Result};

/// Writes a figure, completely or not at all, and returns its path.
///
/// # Errors
/// Fails if the figure cannot be drawn or written.
pub(crate) fn write_figure(path: PathBuf, png: Result<Vec<u8>, PlotError>) -> Result<PathBuf> {
    match png {
        Ok(png) => write_whole(&path, &png)?,
        Err(error) => return Err(Error::Export { path, reason: error.to_string() }),
    }
    Ok(path)
}

/// Returns the item that a record refers to. Prints a note and returns `None` if it is unreadable or its hash has changed: a
/// missing image must not fail a finished run.
pub(crate) fn as_answered<T>(
    id: &str,
    sha256: &str,
    loaded: tasks::Result<T>,
    hash: impl Fn(&T) -> &str,
) -> Option<T> {
    let why = match loaded {
        Ok(item) if hash(&item) == sha256 => return Some(item),
        Ok(_) => "it has changed since it was answered".to_owned(),
        Err(error) => error.to_string(),
    };
    say(&format!("{id} is not shown in the figures: {why}"));
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changed_and_missing_items_are_not_shown() {
        let shown = |loaded: tasks::Result<String>| as_answered("one", "12ab", loaded, |hash: &String| hash);
        assert_eq!(shown(Ok("12ab".into())).as_deref(), Some("12ab"));
        assert_eq!(shown(Ok("34cd".into())), None);
        let gone = tasks::Error::Dataset { path: "one.png".into(), reason: "no such file".into() };
        assert_eq!(shown(Err(gone)), None);
    }
}
