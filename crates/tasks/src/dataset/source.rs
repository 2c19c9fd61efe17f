//! The source files of items, and their hashes, from which a run notices that its data have changed.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use models::image::{FORMAT_BYTES, format_of};
use rayon::prelude::*;

use crate::error::Result;

/// An item that may be read from files.
pub trait Sourced {
    /// The files from which the item is read, the image first; empty if the program draws the item.
    fn files(&self) -> Vec<InputFile>;

    /// Returns the SHA-256, as hexadecimal digits, of the data as they are now. It equals the hash in the record if
    /// nothing has changed.
    ///
    /// # Errors
    /// Fails if a file cannot be read.
    fn sha256(&self) -> Result<String>;
}

/// A file from which an item is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputFile {
    /// Its path.
    pub path: PathBuf,
    /// Its content.
    pub kind: InputKind,
}

/// The content of a file of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InputKind {
    /// An image.
    Image,
    /// A mask or a map of labels.
    Labels,
    /// Images and labels of many items.
    Archive,
}

impl InputFile {
    pub(super) fn image(path: &Path) -> Self {
        Self { path: path.into(), kind: InputKind::Image }
    }

    pub(super) fn labels(path: &Path) -> Self {
        Self { path: path.into(), kind: InputKind::Labels }
    }

    pub(super) fn archive(path: &Path) -> Self {
        Self { path: path.into(), kind: InputKind::Archive }
    }

    /// Returns what is wrong with the file, judged by its first bytes; `None` if they belong to a supported format.
    fn problem(&self) -> Option<String> {
        let format = match format_of_file(&self.path) {
            Ok(format) => format,
            Err(e) => return Some(format!("cannot be read: {e}")),
        };
        match (self.kind, format) {
            (InputKind::Archive, _) | (InputKind::Image, Some("JPEG" | "PNG")) => None,
            (InputKind::Labels, Some("PNG")) => None,
            (InputKind::Image, Some(format)) => {
                Some(format!("is a {format} file; only JPEG and PNG are read"))
            }
            (InputKind::Labels, Some(format)) => {
                Some(format!("is a {format} file; labels are stored as PNG"))
            }
            (InputKind::Image, None) => Some("is not an image in a known format".into()),
            (InputKind::Labels, None) => Some("is not a PNG file".into()),
        }
    }
}

/// Returns the image format that the first bytes of the file belong to, if any.
///
/// # Errors
/// Fails if the file cannot be read.
pub fn format_of_file(path: &Path) -> std::io::Result<Option<&'static str>> {
    if !std::fs::metadata(path)?.is_file() {
        return Ok(None);
    }
    let mut first = Vec::with_capacity(FORMAT_BYTES);
    File::open(path)?.take(FORMAT_BYTES as u64).read_to_end(&mut first)?;
    Ok(format_of(&first))
}

/// Returns, in the order of the items, one line for each item with a file whose first bytes show that it cannot be
/// read.
pub fn unreadable<I: Sourced + Sync>(items: &[I]) -> Vec<String> {
    let problem = |item: &I| {
        let problem = |file: &InputFile| Some(format!("{} {}", file.path.display(), file.problem()?));
        item.files().iter().find_map(problem)
    };
    items.par_iter().filter_map(problem).collect()
}
