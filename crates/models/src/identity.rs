//! Which model it is: hashes of its files.

use std::fs::File;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::weights::weight_files;

/// SHA-256 over `config.json`, the weight files of a directory, in order, and a head published apart: the identity of a
/// model.
///
/// # Errors
/// A file cannot be read.
pub fn model_sha256(dir: &Path, head: Option<&Path>) -> Result<String> {
    let config = std::iter::once(dir.join("config.json"));
    files_sha256(config.chain(weight_files(dir)?).chain(head.map(PathBuf::from)))
}

/// SHA-256 over files, one after another, in hexadecimal.
pub(crate) fn files_sha256(files: impl IntoIterator<Item = PathBuf>) -> Result<String> {
    let mut hasher = Sha256::new();
    for path in files {
        let read_error = |source| Error::Read { path: path.clone(), source };
        let mut file = File::open(&path).map_err(read_error)?;
        std::io::copy(&mut file, &mut hasher).map_err(read_error)?;
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}
