//! How much is believed of a file that may be damaged or hostile: every limit in one place, and the reading that keeps it.
//!
//! Each limit is far above anything that is published, so that it only meets files that claim absurd sizes; nobody has to
//! raise one to read a real checkpoint or data set.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::ops::RangeInclusive;
use std::path::Path;

/// Most bytes of a JSON configuration. The largest that are published list 21,841 class names in 1.3 MB.
pub(crate) const CONFIG_BYTES: u64 = 4 << 20;
/// Most bytes of an index of weight files. That of a network with 91,991 tensors has 8.9 MB.
pub(crate) const INDEX_BYTES: u64 = 64 << 20;
/// Most bytes of a tokenizer's file. T5's has 2.4 MB, those of 256,000 tokens have up to 35 MB.
pub(crate) const TOKENIZER_BYTES: u64 = 64 << 20;
/// Most bytes of a table or list of images. ImageNet's 1,281,167 training images are listed in 60 MB.
pub const TABLE_BYTES: u64 = 256 << 20;
/// Most bytes of an experiment file or another TOML file. Those that come with the program have less than 50 kB.
pub const EXPERIMENT_BYTES: u64 = 1 << 20;
/// Most bytes of what a run says of itself besides its records, and of a baseline. The baseline of the quick suite, with what
/// each of 24 items adds to 174 values, has 136 kB; 100,000 items would take 570 MB.
pub const RESULTS_BYTES: u64 = 1 << 30;
/// The largest image that is decoded or made: 178,956,970 pixels, where Pillow raises `DecompressionBombError`.
pub const MAX_PIXELS: u64 = 2 * (1024 * 1024 * 1024 / 4 / 3);
/// Most bytes of an image's file. [`MAX_PIXELS`] pixels of 16-bit RGBA take 1.4 GB before they are compressed.
pub const PICTURE_BYTES: u64 = 2 << 30;
/// Most bytes of an array in a compressed archive. The covariance of Inception's 2,048 features has 34 MB.
pub(crate) const ARCHIVED_BYTES: u64 = 1 << 30;
/// Most bytes of a run's records, or of a baseline made of them. A million images take up to 3.8 GB.
pub const RECORD_BYTES: u64 = 64 << 30;
/// Most bytes of a reference's statistics or features. A million images have 8 GB of Inception's.
pub const FEATURE_BYTES: u64 = 16 << 30;
/// Most bytes of data that deflate can have made one byte of, a little above the 1,032 of its format.
pub const DEFLATE_RATIO: u64 = 1040;
/// Longest name of a tensor, in bytes. Names of published networks have about 100.
pub(crate) const NAME_BYTES: usize = 512;
/// Most pixels of a JPEG per byte of its file: Huffman coding takes at least a bit for 8×8 of them. Arithmetic coding, which
/// takes less, is not decoded.
pub(crate) const JPEG_PIXELS_PER_BYTE: u64 = 512;
/// Most scans of a JPEG, each of which costs a pass over the image; encoders write about ten.
pub(crate) const JPEG_SCANS: usize = 256;

/// Blocks of a network, or of a part of one; the deepest that are published have about 200.
pub(crate) const BLOCKS: RangeInclusive<i64> = 1..=1024;
/// Blocks within one level of a network with levels.
pub(crate) const LEVEL_BLOCKS: RangeInclusive<i64> = 1..=64;
/// Widths, heads, vocabularies, sides of an image: whatever is counted in a configuration. The product of two fits 64 bits.
pub(crate) const SIZES: RangeInclusive<i64> = 1..=1 << 24;
/// Times of a training schedule; published ones have 1,000.
pub(crate) const TIMES: RangeInclusive<i64> = 1..=1 << 20;

/// Checks numbers of a configuration, each with its name.
pub(crate) fn check<'a>(
    range: &RangeInclusive<i64>,
    numbers: impl IntoIterator<Item = (&'a str, i64)>,
) -> Result<(), String> {
    match numbers.into_iter().find(|(_, number)| !range.contains(number)) {
        None => Ok(()),
        Some((name, number)) => {
            let (least, most) = (range.start(), range.end());
            Err(format!(
                "{name} is {number}; it must lie between {least} and {most}: download the file again"
            ))
        }
    }
}

/// A number of blocks, however large, as [`check`] takes it.
pub(crate) fn count(blocks: usize) -> i64 {
    i64::try_from(blocks).unwrap_or(i64::MAX)
}

/// Reads a whole file of at most `most` bytes.
///
/// # Errors
/// As [`std::fs::read`]; besides, a file that is larger, or no regular file (a pipe or device may never end).
pub fn read_bytes(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let (file, length) = open(path)?;
    if length > most {
        return Err(too_large(length, most));
    }
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(length as usize).map_err(|_| io::Error::from(ErrorKind::OutOfMemory))?;
    // A file may grow while it is read, and some of /proc's say that they are empty.
    file.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(too_large(bytes.len() as u64, most));
    }
    Ok(bytes)
}

/// Reads a whole file of text, as [`read_bytes`].
///
/// # Errors
/// As [`read_bytes`]; besides, text that is no UTF-8.
pub fn read_text(path: &Path, most: u64) -> io::Result<String> {
    String::from_utf8(read_bytes(path, most)?)
        .map_err(|_| io::Error::new(ErrorKind::InvalidData, "it is no text in UTF-8"))
}

/// A regular file and its length in bytes.
pub(crate) fn open(path: &Path) -> io::Result<(File, u64)> {
    // Looked at first: to open a pipe can take for ever.
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    Ok((file, length))
}

fn too_large(length: u64, most: u64) -> io::Error {
    let reason = format!("it has {length} bytes, and a file of its kind is believed up to {most}");
    io::Error::new(ErrorKind::FileTooLarge, reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_of_a_fit_size_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, b"12345").unwrap();
        assert_eq!(read_bytes(&path, 5).unwrap(), b"12345");
        assert_eq!(read_bytes(&path, 4).unwrap_err().kind(), ErrorKind::FileTooLarge);
        assert_eq!(read_bytes(&dir.path().join("none"), 4).unwrap_err().kind(), ErrorKind::NotFound);
        for endless in ["/dev/zero", "/dev/stdin"].map(Path::new).into_iter().filter(|path| path.exists()) {
            if !std::fs::metadata(endless).unwrap().is_file() {
                assert!(read_bytes(endless, 4).unwrap_err().to_string().contains("regular"));
            }
        }
        assert!(read_bytes(dir.path(), 4).unwrap_err().to_string().contains("regular"));
        std::fs::write(&path, b"\xff").unwrap();
        assert_eq!(read_text(&path, 5).unwrap_err().kind(), ErrorKind::InvalidData);
    }

    #[test]
    fn numbers_are_named_when_they_are_absurd() {
        assert_eq!(check(&SIZES, [("width", 768), ("heads", 12)]), Ok(()));
        for (number, shown) in [(0, "0"), (-1, "-1"), (1 << 60, "1152921504606846976")] {
            let message = check(&SIZES, [("width", 768), ("heads", number)]).unwrap_err();
            assert!(message.contains(&format!("heads is {shown};")), "{message}");
        }
        assert_eq!(count(usize::MAX), i64::MAX);
    }
}
