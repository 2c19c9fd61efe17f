//! The kinds of files in a repository: how large each may be, and which entity tag proves its content.

use std::io::{self, Read};

use sha1::Sha1;
use sha2::{Digest, Sha256};

use super::registry::{is_commit, is_plain_name, is_sha256};
use crate::hex::hex;
use crate::limits::{CONFIG_BYTES, INDEX_BYTES, TOKENIZER_BYTES};

/// Kind of a file, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Weights, and everything of an unknown kind.
    Weights,
    /// Index of weight files.
    Index,
    /// Vocabulary and merges of a tokenizer.
    Tokenizer,
    /// Any other JSON or text file.
    Config,
}

impl Kind {
    pub(super) fn of(file: &str) -> Self {
        let name = file.rsplit('/').next().unwrap_or(file);
        let text = name.ends_with(".json") || name.ends_with(".txt");
        match name {
            "tokenizer.json" | "vocab.json" | "merges.txt" | "spiece.model" => Self::Tokenizer,
            _ if text && name.contains(".index.") => Self::Index,
            _ if text => Self::Config,
            _ => Self::Weights,
        }
    }

    /// Returns the maximum size in bytes; weights have none but the free space of the disk.
    pub(super) fn most_bytes(self) -> Option<u64> {
        match self {
            Self::Weights => None,
            Self::Index => Some(INDEX_BYTES),
            Self::Tokenizer => Some(TOKENIZER_BYTES),
            Self::Config => Some(CONFIG_BYTES),
        }
    }
}

/// Entity tag of a file on the hub, which is the name of the blob in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Tag {
    /// 64 hexadecimal digits: the SHA-256 of the file, as the hub sends it for large files.
    Sha256(String),
    /// 40 hexadecimal digits: the SHA-1 of the file as a blob of git, as the hub sends it for small files.
    Git(String),
    /// Anything else, such as the MD5 of a caching mirror. It says nothing about the content.
    Other(String),
}

impl Tag {
    /// Reads the header of a response; `None` if the tag cannot be a file name.
    pub(super) fn of_header(header: &str) -> Option<Self> {
        let tag = header.trim().trim_start_matches("W/").trim_matches('"');
        let lower = tag.to_ascii_lowercase();
        match tag {
            _ if is_sha256(&lower) => Some(Self::Sha256(lower)),
            _ if is_commit(&lower) => Some(Self::Git(lower)),
            tag if is_plain_name(tag) => Some(Self::Other(tag.into())),
            _ => None,
        }
    }

    /// The tag itself.
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Sha256(name) | Self::Git(name) | Self::Other(name) => name,
        }
    }

    /// Whether a file of this kind is right if its content fits this tag. Of weights only a SHA-256 proves that.
    pub(super) fn proves(&self, kind: Kind) -> bool {
        match self {
            Self::Sha256(_) => true,
            Self::Git(_) => kind != Kind::Weights,
            Self::Other(_) => false,
        }
    }
}

/// Size and hash of a file that has arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) size: u64,
    pub(super) sha256: String,
    /// Whether an entity tag or a pinned hash proves it.
    pub(super) verified: bool,
}

/// Returns the SHA-256 of a file.
pub(super) fn sha256_of(file: impl Read) -> io::Result<String> {
    digest(Sha256::new(), file)
}

/// Returns the SHA-1 that git gives a file of this size.
pub(super) fn git_hash_of(file: impl Read, size: u64) -> io::Result<String> {
    digest(Sha1::new_with_prefix(format!("blob {size}\0")), file)
}

pub(super) fn digest(mut hasher: impl Digest, mut file: impl Read) -> io::Result<String> {
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hex(hasher.finalize())),
            Ok(count) => hasher.update(&buffer[..count]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_published_file_has_its_kind() {
        for (file, kind) in [
            ("model.safetensors", Kind::Weights),
            ("transformer/diffusion_pytorch_model-00001-of-00003.safetensors", Kind::Weights),
            ("pytorch_model.bin", Kind::Weights),
            ("json", Kind::Weights),
            ("text_encoder_2/model.safetensors.index.json", Kind::Index),
            ("unet/diffusion_pytorch_model.safetensors.index.fp16.json", Kind::Index),
            ("tokenizer_2/tokenizer.json", Kind::Tokenizer),
            ("tokenizer/merges.txt", Kind::Tokenizer),
            ("tokenizer/tokenizer_config.json", Kind::Config),
            ("model_index.json", Kind::Config),
        ] {
            assert_eq!(Kind::of(file), kind, "{file}");
        }
    }

    #[test]
    fn tags_are_read_from_headers() {
        let (sha256, git) = ("0a".repeat(32), "0a".repeat(20));
        for (header, tag) in [
            (format!("\"{sha256}\""), Some(Tag::Sha256(sha256.clone()))),
            (format!("W/\"{}\"", git.to_uppercase()), Some(Tag::Git(git.clone()))),
            (sha256.to_uppercase(), Some(Tag::Sha256(sha256))),
            ("\"abc-md5\"".into(), Some(Tag::Other("abc-md5".into()))),
            ("\"../evil\"".into(), None),
            ("\"\"".into(), None),
            ("x".repeat(10_000), None),
        ] {
            assert_eq!(Tag::of_header(&header), tag, "{header}");
        }
    }

    /// The values of `git hash-object` and `sha256sum`.
    #[test]
    fn hashes_are_those_of_git_and_of_sha256sum() -> io::Result<()> {
        let text = b"what is up, doc?";
        assert_eq!(git_hash_of(&text[..], 16)?, "bd9dbf5aae1a3862dd1526723246b20206e5fc37");
        assert_eq!(git_hash_of(&b""[..], 0)?, "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391");
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(sha256_of(&b""[..])?, empty);
        Ok(())
    }
}
