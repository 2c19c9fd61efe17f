//! Figures of a run as files.

use std::path::PathBuf;

use plot::PlotError;
use runs::files::write_whole;

use crate::error::{Error, Result};

/// Writes a figure, whole or not at all, and returns its path.
///
/// # Errors
/// It could not be drawn, or cannot be written.
pub(crate) fn write_figure(path: PathBuf, png: Result<Vec<u8>, PlotError>) -> Result<PathBuf> {
    match png {
        Ok(png) => write_whole(&path, &png)?,
        Err(error) => return Err(Error::Export { path, reason: error.to_string() }),
    }
    Ok(path)
}
