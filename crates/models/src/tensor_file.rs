//! Memory-mapped safetensors files, and checks of their headers beyond those of the `safetensors` crate.

use std::collections::HashSet;
use std::fmt;
use std::io;
use std::path::Path;

use memmap2::Mmap;
use safetensors::tensor::{Metadata, SafeTensors};
use serde::Deserializer;
use serde::de::{Error as _, IgnoredAny, MapAccess, Visitor};

use crate::limits::{NAME_BYTES, open};

/// Maps a regular file into memory.
pub(crate) fn map(path: &Path) -> io::Result<Mmap> {
    let (file, _) = open(path)?;
    // SAFETY: the map is read-only, and its owners return no reference that outlives it. If another process truncates
    // the file meanwhile, the access faults, as with every memory-mapped checkpoint reader; checkpoints and feature
    // files are replaced, never changed in place.
    unsafe { Mmap::map(&file) }
}

/// Parses the header of a file and returns it with the offset at which the tensors' data begin. Checks that lengths,
/// offsets and shapes fit the file and each other, and that no name occurs twice.
pub(crate) fn header(bytes: &[u8]) -> Result<(usize, Metadata), String> {
    let (length, metadata) = SafeTensors::read_metadata(bytes).map_err(|error| error.to_string())?;
    let start = length + size_of::<u64>();
    check_names(bytes.get(size_of::<u64>()..start).unwrap_or_default())?;
    Ok((start, metadata))
}

/// Checks the names in a header. The parser would keep only the last of two equal names; long names are refused because
/// messages quote them.
pub(crate) fn check_names(json: &[u8]) -> Result<(), String> {
    struct Names;

    impl<'de> Visitor<'de> for Names {
        type Value = ();

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object of tensors")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut tensors: A) -> Result<(), A::Error> {
            let mut seen = HashSet::new();
            while let Some((name, IgnoredAny)) = tensors.next_entry::<String, IgnoredAny>()? {
                if name.len() > NAME_BYTES {
                    let start: String = name.chars().take(20).collect();
                    return Err(A::Error::custom(format!(
                        "the name `{start}…` has {} bytes; the maximum is {NAME_BYTES}",
                        name.len()
                    )));
                }
                if seen.contains(&name) {
                    return Err(A::Error::custom(format!("`{name}` occurs twice")));
                }
                seen.insert(name);
            }
            Ok(())
        }
    }

    let mut reader = serde_json::Deserializer::from_slice(json);
    reader.deserialize_map(Names).map_err(|error| error.to_string())
}
