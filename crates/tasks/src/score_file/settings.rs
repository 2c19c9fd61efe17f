//! The settings of a method whose scores come from a file.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::method::{FileKind, FileMethod, own_name};

/// A method whose scores come from a file: `{ file = "scores.safetensors", name = "my score" }`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FromFile {
    /// Safetensors file with a tensor for each image; `docs/scores.md` describes the format.
    pub file: PathBuf,
    /// Name of the method in records, tables and figures; no name of another method.
    #[serde(deserialize_with = "own_name")]
    pub name: String,
}

impl FromFile {
    /// How the method is written in experiment files.
    pub(crate) const KIND: FileKind = FileKind::new(&["file", "name"]);

    /// The method's file and name.
    pub(crate) fn method(&self) -> FileMethod<'_> {
        FileMethod { file: &self.file, name: &self.name }
    }
}
