//! Errors of reading and preprocessing images.

use std::path::{Path, PathBuf};

/// The reason why an image could not be read, resized or normalised, or why a preprocessing configuration was refused.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// Any of the errors below, with the file it happened in.
    #[error("{}: {problem}", path.display())]
    InFile {
        /// The image or configuration file.
        path: PathBuf,
        /// The problem.
        problem: Box<ImageError>,
    },
    /// The file could not be read at all.
    #[error("the file cannot be read ({0}); check the path and its permissions")]
    Io(std::io::Error),
    /// The file has a format that this program does not decode.
    #[error(
        "this is a {format} file; only JPEG and PNG are read, because only those are decoded exactly as Pillow does. \
         Convert it, for example with `python -c \"from PIL import Image; \
         Image.open('in').convert('RGB').save('out.png')\"`"
    )]
    UnsupportedFormat {
        /// The format's usual name.
        format: &'static str,
    },
    /// The format of the file is not recognised.
    #[error("this is not an image in a known format; give a JPEG or PNG file")]
    UnknownFormat,
    /// The file has the right format, but its content is damaged, incomplete or of an unsupported kind.
    #[error("the {format} data cannot be decoded: {reason}. Replace the file, or leave it out")]
    Corrupt {
        /// `"JPEG"` or `"PNG"`.
        format: &'static str,
        /// The problem that the decoder found.
        reason: String,
    },
    /// More pixels than the limit, checked before memory is taken.
    #[error(
        "an image of {width}×{height} pixels is over the limit of {limit} pixels, which guards against files that \
         claim absurd sizes; make it smaller first"
    )]
    TooLarge {
        /// Claimed or requested width in pixels.
        width: u64,
        /// Claimed or requested height in pixels.
        height: u64,
        /// The limit in force, in pixels.
        limit: u64,
    },
    /// A width or height of zero.
    #[error("an image of {width}×{height} pixels has no area; both sides must be at least one pixel")]
    Empty {
        /// Requested width in pixels.
        width: usize,
        /// Requested height in pixels.
        height: usize,
    },
    /// An [`Rgb8`](super::Rgb8) whose buffer does not hold `width × height × 3` bytes.
    #[error("the pixel buffer holds {found} bytes, but {width}×{height} RGB pixels need {expected}")]
    Buffer {
        /// Width in pixels.
        width: usize,
        /// Height in pixels.
        height: usize,
        /// `width × height × 3`.
        expected: usize,
        /// The buffer's length in bytes.
        found: usize,
    },
    /// A preprocessing configuration is invalid or not supported.
    #[error("{0}")]
    Config(String),
}

impl ImageError {
    /// Adds the file's name unless the error already has one.
    pub fn in_file(self, path: &Path) -> Self {
        if let Self::InFile { .. } = self {
            return self;
        }
        Self::InFile { path: path.to_owned(), problem: Box::new(self) }
    }

    pub(super) fn config(message: impl Into<String>) -> Self {
        Self::Config(message.into())
    }

    pub(super) fn jpeg(reason: impl Into<String>) -> Self {
        Self::Corrupt { format: "JPEG", reason: reason.into() }
    }

    pub(super) fn png(reason: impl Into<String>) -> Self {
        Self::Corrupt { format: "PNG", reason: reason.into() }
    }
}
