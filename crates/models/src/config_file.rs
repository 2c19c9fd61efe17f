//! Files of JSON that describe a network or a pipeline.

use std::path::Path;

use crate::error::{Error, Result};
use crate::limits::{CONFIG_BYTES, read_text};

/// The text of a configuration.
///
/// # Errors
/// It cannot be read, or is larger than any configuration.
pub(crate) fn read(path: &Path) -> Result<String> {
    read_text(path, CONFIG_BYTES).map_err(|source| Error::Read { path: path.into(), source })
}
