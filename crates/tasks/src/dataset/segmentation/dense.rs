//! Images in which every pixel has one of a fixed list of classes, or counts for nothing.

use std::fmt;
use std::path::Path;

use ndarray::Array2;

use super::{IGNORE, Segmented, SegmentedImage, Source};
use crate::dataset::{InputFile, Sourced, Subset};
use crate::error::{Error, Result};

/// A dataset that gives a class to every pixel.
#[derive(Debug, Clone)]
pub struct LabelledPixels {
    /// What the classes are called; the label of a pixel is a position in this list.
    pub classes: Vec<String>,
    /// The images.
    pub items: Vec<DenseImage>,
}

/// An image in which every pixel has a class or counts for nothing.
#[derive(Debug, Clone)]
pub struct DenseImage {
    /// Unique within the dataset.
    pub id: String,
    source: Source,
}

impl DenseImage {
    pub(in crate::dataset) fn new(id: String, source: Source) -> Self {
        Self { id, source }
    }

    /// Reads or draws the image and the classes of its pixels: positions in [`LabelledPixels::classes`], or
    /// [`IGNORE`].
    ///
    /// # Errors
    /// A file is missing or damaged, image and labels differ in size, or a label is none that the dataset knows.
    pub fn load(&self) -> Result<Segmented> {
        self.source.load()
    }

    /// The image file, where there is one.
    pub fn path(&self) -> Option<&Path> {
        self.source.path()
    }

    /// Which samples of the masks are the objects, where a table says so; empty otherwise.
    pub fn values(&self) -> String {
        self.source.values()
    }
}

impl Sourced for DenseImage {
    fn files(&self) -> Vec<InputFile> {
        self.source.files()
    }

    fn sha256(&self) -> Result<String> {
        self.source.sha256()
    }
}

impl From<SegmentedImage> for DenseImage {
    fn from(image: SegmentedImage) -> Self {
        Self { id: image.id, source: image.source }
    }
}

impl LabelledPixels {
    /// The classes and images of a dataset, or the part of it that is wanted.
    pub(super) fn of(
        classes: Vec<String>,
        items: Vec<DenseImage>,
        subset: Option<Subset>,
        root: &Path,
    ) -> Result<Self> {
        let items = match subset {
            Some(subset) => subset.draw(items, |item| &item.id, root)?,
            None => items,
        };
        Ok(Self { classes, items })
    }
}

/// Which class each sample of a pixel map stands for.
pub(in crate::dataset) struct ClassTable {
    classes: [Option<u8>; 256],
    /// What a map should hold, for whoever has another.
    holds: &'static str,
}

impl ClassTable {
    /// A table from pairs of sample and class, with 255 left out. `holds` ends the sentence "…, but".
    pub fn new(pairs: impl IntoIterator<Item = (u8, u8)>, holds: &'static str) -> Self {
        let mut classes = [None; 256];
        classes[usize::from(IGNORE)] = Some(IGNORE);
        pairs.into_iter().for_each(|(sample, class)| classes[usize::from(sample)] = Some(class));
        Self { classes, holds }
    }

    /// The classes of a map's samples; an error without the file's name where one is unknown.
    pub fn labels(&self, samples: Array2<u8>) -> Result<Array2<u8>, String> {
        let class = |sample: u8| self.classes[usize::from(sample)];
        match samples.iter().find(|&&sample| class(sample).is_none()) {
            None => Ok(samples.mapv_into(|sample| class(sample).unwrap_or(IGNORE))),
            Some(sample) => Err(format!("holds the label {sample}, but {}", self.holds)),
        }
    }
}

impl fmt::Debug for ClassTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = self.classes.iter().flatten().count();
        f.debug_struct("ClassTable").field("known", &known).finish()
    }
}

/// What is missing of a folder, and where each part comes from, in one sentence. Parts are `(what, how many there should
/// be, the missing ones, where to get it)`; none where nothing is missing.
pub(super) fn missing(parts: &[Part<'_>]) -> Option<String> {
    let lacking = |part: &Part<'_>| {
        let first = part.missing.first()?;
        let count = match (part.missing.len(), part.of) {
            (1, 1) => format!("has no {}", part.what),
            (lost, of) if lost == of => format!("has none of the {of} {}", part.what),
            (lost, of) => format!("lacks {lost} of the {of} {}", part.what),
        };
        Some(format!("{count} (`{}`; {})", first.display(), part.source))
    };
    let sentences: Vec<String> = parts.iter().filter_map(lacking).collect();
    (!sentences.is_empty()).then(|| sentences.join(" and "))
}

/// Files of one kind that a dataset needs.
pub(super) struct Part<'a> {
    /// What they are.
    pub what: &'a str,
    /// How many there should be.
    pub of: usize,
    /// Those that are not there.
    pub missing: Vec<std::path::PathBuf>,
    /// Where they come from.
    pub source: &'a str,
}

impl Error {
    /// A folder from which parts are missing, and the setting that says where it is.
    pub(super) fn incomplete(root: &Path, parts: String, setting: &'static str) -> Self {
        Error::NoData { path: root.into(), reason: parts, setting, value: "DIR" }
    }
}
