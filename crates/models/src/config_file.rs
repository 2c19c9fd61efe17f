//! JSON configuration files of networks and pipelines.

use std::path::Path;

use crate::error::{Error, Result};
use crate::limits::{CONFIG_BYTES, read_text};

/// Reads the text of a configuration file.
///
/// # Errors
/// The file cannot be read, or it exceeds [`CONFIG_BYTES`](crate::limits::CONFIG_BYTES).
pub(crate) fn read(path: &Path) -> Result<String> {
    read_text(path, CONFIG_BYTES).map_err(|source| Error::Read { path: path.into(), source })
}
