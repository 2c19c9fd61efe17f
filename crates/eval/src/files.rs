//! Files of a run.

use std::io::Write;
use std::path::Path;

use models::files;
use serde::Serialize;

use crate::error::{Error, Result};

/// Writes a file whole or not at all.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    files::write_whole(path, |out| out.write_all(bytes)).map_err(Error::file("write", path))
}

/// Writes a value as JSON for people, whole or not at all.
pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let json = serde_json::to_string_pretty(value)
        .map_err(|e| Error::Export { path: path.into(), reason: e.to_string() })?;
    write_whole(path, format!("{json}\n").as_bytes())
}
