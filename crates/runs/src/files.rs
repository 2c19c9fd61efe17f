//! Writes files of a run.

use std::io::Write;
use std::path::Path;

use models::{escape, files};
use serde::Serialize;

use crate::error::{Error, FileAction, Result};

/// Writes a file completely or not at all.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    files::write_whole(path, |out| out.write_all(bytes)).map_err(Error::file(FileAction::Write, path))
}

/// Writes a value as indented JSON, completely or not at all.
pub fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let json =
        serde_json::to_string_pretty(value).map_err(|e| Error::file(FileAction::Write, path)(e.into()))?;
    write_whole(path, escape::json(format!("{json}\n")).as_bytes())
}
