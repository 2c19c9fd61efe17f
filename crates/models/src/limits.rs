//! Upper limits for untrusted input files, and functions that read files within these limits.
//!
//! Each limit is far above the size of any published file, so only files that claim absurd sizes exceed it.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::ops::RangeInclusive;
use std::path::Path;

/// Maximum number of files in an archive of a data set. ImageNet's training images are 1,281,167.
pub(crate) const ARCHIVE_FILES: usize = 2_000_000;
/// Maximum size of a JSON configuration, in bytes. The largest published ones list 21,841 class names in 1.3 MB.
pub(crate) const CONFIG_BYTES: u64 = 4 << 20;
/// Maximum size of an index of weight files, in bytes. The index of a network with 91,991 tensors has 8.9 MB.
pub(crate) const INDEX_BYTES: u64 = 64 << 20;
/// Maximum size of the pickle that describes the tensors of a PyTorch file, in bytes. A tensor takes about 200.
pub(crate) const PICKLE_BYTES: u64 = 64 << 20;
/// Maximum number of values in such a pickle. A tensor takes about 30; each value may need 100 bytes of memory.
pub(crate) const PICKLE_VALUES: usize = 8 << 20;
/// Maximum depth of nested mappings in such a pickle. Checkpoints of training have up to about 5.
pub(crate) const PICKLE_DEPTH: usize = 32;
/// Maximum number of tensors in a PyTorch file. The largest published networks have 91,991 in many files.
pub(crate) const TENSORS: usize = 1 << 20;
/// Maximum number of elements of a tensor that repeats its numbers, as `torch.Tensor.expand` makes them.
pub(crate) const EXPANDED_NUMBERS: i64 = 1 << 24;
/// Maximum size of a tokenizer file, in bytes. T5's has 2.4 MB; files with 256,000 tokens have up to 35 MB.
pub(crate) const TOKENIZER_BYTES: u64 = 64 << 20;
/// Maximum length of a token, in bytes. Sentencepiece's have up to 64; some added tokens are a little longer.
pub(crate) const TOKEN_BYTES: usize = 512;
/// Maximum number of special or added tokens in one file. Published files have up to a few hundred.
pub(crate) const ADDED_TOKENS: usize = 10_000;
/// Maximum length of all tokens of a unigram model together, in bytes. T5's 32,100 tokens have about 0.3 MB; the library
/// may need 350 bytes of memory for each byte.
pub(crate) const VOCABULARY_BYTES: usize = 1 << 20;
/// Maximum size of a table or list of images, in bytes. ImageNet's 1,281,167 training images are listed in 60 MB.
pub const TABLE_BYTES: u64 = 256 << 20;
/// Maximum size of an experiment file or another TOML file, in bytes. Those that come with the program have less than
/// 50 kB.
pub const EXPERIMENT_BYTES: u64 = 1 << 20;
/// Maximum size of a run's result files other than its records, and of a baseline, in bytes. The baseline of the quick
/// suite, with the contributions of 24 items to 174 values, has 136 kB; 100,000 items would take 570 MB.
pub const RESULTS_BYTES: u64 = 1 << 30;
/// Maximum number of pixels of an image that is decoded or generated: 178,956,970, the number above which Pillow raises
/// `DecompressionBombError`.
pub const MAX_PIXELS: u64 = 2 * (1024 * 1024 * 1024 / 4 / 3);
/// Maximum size of an image file, in bytes. [`MAX_PIXELS`] pixels of 16-bit RGBA take 1.4 GB before they are
/// compressed.
pub const PICTURE_BYTES: u64 = 2 << 30;
/// Maximum size of an array in a compressed archive, in bytes. The covariance of Inception's 2,048 features has 34 MB.
pub(crate) const ARCHIVED_BYTES: u64 = 1 << 30;
/// Maximum size of a run's records, or of a baseline made from them, in bytes. A million images take up to 3.8 GB.
pub const RECORD_BYTES: u64 = 64 << 30;
/// Maximum size of a reference's statistics or features, in bytes. Inception's features of a million images have 8 GB.
pub const FEATURE_BYTES: u64 = 16 << 30;
/// Maximum compression ratio of deflate, a little above the 1,032 that its format allows.
pub const DEFLATE_RATIO: u64 = 1040;
/// Maximum length of a tensor's name, in bytes. Names in published networks have about 100.
pub(crate) const NAME_BYTES: usize = 512;
/// Maximum number of pixels per byte of a JPEG file: Huffman coding needs at least one bit for 8×8 pixels. Arithmetic
/// coding, which needs less, is not supported.
pub(crate) const JPEG_PIXELS_PER_BYTE: u64 = 512;
/// Maximum number of scans of a JPEG file. Each costs a pass over the image; encoders write about ten.
pub(crate) const JPEG_SCANS: usize = 256;

/// Number of blocks of a network or of one of its parts. The deepest published networks have about 200.
pub(crate) const BLOCKS: RangeInclusive<i64> = 1..=1024;
/// Number of blocks in one level of a UNet or an autoencoder.
pub(crate) const LEVEL_BLOCKS: RangeInclusive<i64> = 1..=64;
/// Widths, heads, vocabulary sizes and image sides in a configuration. The product of two of them fits into 64 bits.
pub(crate) const SIZES: RangeInclusive<i64> = 1..=1 << 24;
/// Number of timesteps of a training schedule. Published ones have 1,000.
pub(crate) const TIMES: RangeInclusive<i64> = 1..=1 << 20;

/// Checks that named numbers of a configuration lie in `range`.
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

/// Converts a number of blocks for [`check`]; numbers that are too large saturate.
pub(crate) fn count(blocks: usize) -> i64 {
    i64::try_from(blocks).unwrap_or(i64::MAX)
}

/// Reads a whole file of at most `most` bytes.
///
/// # Errors
/// As [`std::fs::read`]; also if the file is larger than `most` or is not a regular file (a pipe or device may never
/// end).
pub fn read_bytes(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let (file, length) = open(path)?;
    if length > most {
        return Err(too_large(length, most));
    }
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(length as usize).map_err(|_| io::Error::from(ErrorKind::OutOfMemory))?;
    // A file may grow while it is read, and some files in /proc claim to be empty.
    file.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(too_large(bytes.len() as u64, most));
    }
    Ok(bytes)
}

/// Reads a whole text file of at most `most` bytes.
///
/// # Errors
/// As [`read_bytes`]; also if the text is not valid UTF-8.
pub fn read_text(path: &Path, most: u64) -> io::Result<String> {
    String::from_utf8(read_bytes(path, most)?)
        .map_err(|_| io::Error::new(ErrorKind::InvalidData, "it is not valid UTF-8 text"))
}

/// Opens a regular file and returns it with its length in bytes.
pub(crate) fn open(path: &Path) -> io::Result<(File, u64)> {
    // Checked before opening, since opening a pipe may block for ever.
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    Ok((file, length))
}

fn too_large(length: u64, most: u64) -> io::Error {
    let reason = format!("it has {length} bytes; the maximum for such a file is {most}");
    io::Error::new(ErrorKind::FileTooLarge, reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_within_the_limit_are_read() {
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
    fn numbers_out_of_range_are_named() {
        assert_eq!(check(&SIZES, [("width", 768), ("heads", 12)]), Ok(()));
        for (number, shown) in [(0, "0"), (-1, "-1"), (1 << 60, "1152921504606846976")] {
            let message = check(&SIZES, [("width", 768), ("heads", number)]).unwrap_err();
            assert!(message.contains(&format!("heads is {shown};")), "{message}");
        }
        assert_eq!(count(usize::MAX), i64::MAX);
    }
}
