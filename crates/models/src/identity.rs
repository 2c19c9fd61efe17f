//! The identity of a model: SHA-256 hashes over its files.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::hex::hex;
use crate::weights::weight_files;

/// Files other than `config.json` that decide how an image is preprocessed.
const PREPROCESSING: [&str; 1] = ["preprocessor_config.json"];
/// Files of the tokenizer of CLIP's text tower.
const TOKENIZER: [&str; 6] = [
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "tokenizer.json",
    "vocab.json",
    "merges.txt",
];

/// Returns the identity of a model: the SHA-256 over `config.json`, the weight files of the directory in order, the
/// separate classifier `head` if given, the preprocessing configuration and, without `head`, the tokenizer that reads
/// class names. Files that do not exist are left out.
///
/// # Errors
/// A file cannot be read.
pub fn model_sha256(dir: &Path, head: Option<&Path>) -> Result<String> {
    let config = std::iter::once(dir.join("config.json"));
    let tokenizer: &[&str] = if head.is_none() { &TOKENIZER } else { &[] };
    let others =
        PREPROCESSING.iter().chain(tokenizer).map(|name| dir.join(name)).filter(|path| path.is_file());
    files_sha256(config.chain(weight_files(dir)?).chain(head.map(PathBuf::from)).chain(others))
}

/// Bytes read and hashed at a time.
const CHUNK: usize = 1 << 20;

/// Returns the SHA-256 over the concatenation of files, in hexadecimal. Checks files in the hub's cache against the
/// hash in their name.
pub(crate) fn files_sha256(files: impl IntoIterator<Item = PathBuf>) -> Result<String> {
    let mut all = Sha256::new();
    let mut chunk = vec![0; CHUNK];
    for path in files {
        let read_error = |source| Error::Read { path: path.clone(), source };
        let downloaded = downloaded(&path);
        let mut alone = downloaded.as_ref().map(|_| Sha256::new());
        let mut file = File::open(&path).map_err(read_error)?;
        loop {
            let read = file.read(&mut chunk).map_err(read_error)?;
            if read == 0 {
                break;
            }
            all.update(&chunk[..read]);
            if let Some(alone) = &mut alone {
                alone.update(&chunk[..read]);
            }
        }
        if let (Some((path, expected)), Some(alone)) = (downloaded, alone) {
            let found = hex(alone.finalize());
            if found != expected {
                return Err(Error::Damaged { path, expected, found });
            }
        }
    }
    Ok(hex(all.finalize()))
}

/// Returns the blob behind a file of the hub's cache and its expected SHA-256, which is the file name of large blobs.
fn downloaded(path: &Path) -> Option<(PathBuf, String)> {
    let data = path.canonicalize().ok()?;
    let name = data.file_name()?.to_str()?;
    let in_cache = data.parent()?.file_name()? == "blobs";
    let hash = name.len() == 64 && name.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'));
    (in_cache && hash).then(|| (data.clone(), name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_that_changes_results_changes_the_identity() -> std::io::Result<()> {
        let dir = tempfile::tempdir()?;
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text);
        write("config.json", "{}")?;
        write("model.safetensors", "weights")?;
        write("head.safetensors", "classes")?;
        let head = dir.path().join("head.safetensors");
        let hashes =
            || [None, Some(&*head)].map(|head| model_sha256(dir.path(), head).expect("files that are there"));
        assert_eq!(hashes()[0], hex(Sha256::digest(b"{}weights")));
        assert_eq!(hashes()[1], hex(Sha256::digest(b"{}weightsclasses")));
        for name in PREPROCESSING.into_iter().chain(TOKENIZER) {
            for text in ["one", "another"] {
                let before = hashes();
                write(name, text)?;
                let after = hashes();
                assert_ne!(before[0], after[0], "{name}");
                assert_eq!(before[1] == after[1], TOKENIZER.contains(&name), "{name}");
            }
        }
        Ok(())
    }

    #[cfg(unix)]
    #[test]
    fn cached_files_must_match_the_hash_in_their_name() -> std::io::Result<()> {
        let dir = tempfile::tempdir()?;
        let (blobs, snapshot) = (dir.path().join("blobs"), dir.path().join("snapshots/0123"));
        std::fs::create_dir_all(&blobs)?;
        std::fs::create_dir_all(&snapshot)?;
        let expected = hex(Sha256::digest(b"weights"));
        let (blob, link) = (blobs.join(&expected), snapshot.join("model.safetensors"));
        std::fs::write(&blob, b"weights")?;
        std::os::unix::fs::symlink(&blob, &link)?;
        assert_eq!(files_sha256([link.clone()]).ok(), Some(expected.clone()));
        std::fs::write(&blob, b"wfights")?;
        let message = files_sha256([link]).map_err(|e| e.to_string()).expect_err("damaged");
        assert!(message.contains(&expected), "{message}");
        // A file of one's own has no hash to keep.
        let own = dir.path().join("model.safetensors");
        std::fs::write(&own, b"wfights")?;
        assert!(files_sha256([own]).is_ok());
        Ok(())
    }
}
