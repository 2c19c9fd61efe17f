//! Which model it is: hashes of its files.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::weights::weight_files;

/// Files besides `config.json` that decide what a network sees of a picture.
const PREPROCESSING: [&str; 1] = ["preprocessor_config.json"];
/// Files that decide what CLIP's text tower reads.
const TOKENIZER: [&str; 6] = [
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "tokenizer.json",
    "vocab.json",
    "merges.txt",
];

/// SHA-256 over `config.json`, the weight files of a directory, in order, a head published apart, the image preprocessing
/// and, unless there is such a head, the tokenizer that names of classes are read with, as far as they are there: the
/// identity of a model.
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

/// Bytes hashed at once.
const CHUNK: usize = 1 << 20;

/// SHA-256 over files, one after another, in hexadecimal. Files in the hub's cache must be what was downloaded.
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
            let found = hex(alone);
            if found != expected {
                return Err(Error::Damaged { path, expected, found });
            }
        }
    }
    Ok(hex(all))
}

fn hex(hasher: Sha256) -> String {
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The data behind a file of the hub's cache and their SHA-256, which large files have for a name there.
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
    fn whatever_decides_the_numbers_is_part_of_a_model() -> std::io::Result<()> {
        let dir = tempfile::tempdir()?;
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text);
        write("config.json", "{}")?;
        write("model.safetensors", "weights")?;
        write("head.safetensors", "classes")?;
        let head = dir.path().join("head.safetensors");
        let hashes =
            || [None, Some(&*head)].map(|head| model_sha256(dir.path(), head).expect("files that are there"));
        assert_eq!(hashes()[0], hex(Sha256::new_with_prefix(b"{}weights")));
        assert_eq!(hashes()[1], hex(Sha256::new_with_prefix(b"{}weightsclasses")));
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
    fn a_file_of_the_cache_must_have_the_hash_that_it_is_named_by() -> std::io::Result<()> {
        let dir = tempfile::tempdir()?;
        let (blobs, snapshot) = (dir.path().join("blobs"), dir.path().join("snapshots/0123"));
        std::fs::create_dir_all(&blobs)?;
        std::fs::create_dir_all(&snapshot)?;
        let expected = hex(Sha256::new_with_prefix(b"weights"));
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
