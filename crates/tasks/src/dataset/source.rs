//! What items are made from, so that data which change under a run are noticed.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use models::image::{FORMAT_BYTES, format_of};
use rayon::prelude::*;

use crate::error::Result;

/// An item that may be made from files.
pub trait Sourced {
    /// The files that it is read from, the image first; none where the program draws it.
    fn files(&self) -> Vec<InputFile>;

    /// SHA-256, as hexadecimal digits, of what it would be made from now: what its record has, if nothing has changed.
    ///
    /// # Errors
    /// A file cannot be read.
    fn sha256(&self) -> Result<String>;
}

/// A file that an item is read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputFile {
    /// Where it is.
    pub path: PathBuf,
    /// What it holds.
    pub kind: InputKind,
}

/// What a file holds for an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InputKind {
    /// The image.
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

    /// What is wrong with the file by its first bytes; none where they are those of a format that is read.
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

/// The format of a picture by the first bytes of its file; none where they are no picture's.
///
/// # Errors
/// The file cannot be read.
pub fn format_of_file(path: &Path) -> std::io::Result<Option<&'static str>> {
    if !std::fs::metadata(path)?.is_file() {
        return Ok(None);
    }
    let mut first = Vec::with_capacity(FORMAT_BYTES);
    File::open(path)?.take(FORMAT_BYTES as u64).read_to_end(&mut first)?;
    Ok(format_of(&first))
}

/// Items with a file that, by its first bytes, cannot be read, each with the reason; in the order of the items.
pub fn unreadable<I: Sourced + Sync>(items: &[I]) -> Vec<String> {
    let problem = |item: &I| {
        let problem = |file: &InputFile| Some(format!("{} {}", file.path.display(), file.problem()?));
        item.files().iter().find_map(problem)
    };
    items.par_iter().filter_map(problem).collect()
}
