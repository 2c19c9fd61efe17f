//! Images in which every pixel has one of a fixed list of classes, or is ignored.

use std::fmt;
use std::path::Path;

use ndarray::Array2;

use super::{IGNORE, Segmented, SegmentedImage, Source};
use crate::dataset::{InputFile, Sourced, Subset};
use crate::error::{Error, Result};

/// A dataset that gives a class to every pixel.
#[derive(Debug, Clone)]
pub struct LabelledPixels {
    /// Names of the classes; the label of a pixel is a position in this list.
    pub classes: Vec<String>,
    /// The images.
    pub items: Vec<DenseImage>,
}

/// An image in which every pixel has a class or is ignored.
#[derive(Debug, Clone)]
pub struct DenseImage {
    /// Name of the image, unique within the dataset.
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
    /// Fails if a file is missing or damaged, if image and labels differ in size, or if the dataset does not know a
    /// label.
    pub fn load(&self) -> Result<Segmented> {
        self.source.load()
    }

    /// The image file, or a Parquet file followed by the number of a row; `None` for drawn images.
    pub fn path(&self) -> Option<&Path> {
        self.source.path()
    }

    /// The mask values that stand for objects, if a table gives them; otherwise empty.
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
    /// Returns the classes and images, reduced to the subset if one is given.
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

/// The class for each sample value of a pixel map.
pub(in crate::dataset) struct ClassTable {
    classes: [Option<u8>; 256],
    /// The expected content of a map, for the error about another one.
    holds: &'static str,
}

impl ClassTable {
    /// Creates a table from pairs of sample and class; 255 is ignored. `holds` continues the sentence "holds the label
    /// …, but".
    pub(crate) fn new(pairs: impl IntoIterator<Item = (u8, u8)>, holds: &'static str) -> Self {
        let mut classes = [None; 256];
        classes[usize::from(IGNORE)] = Some(IGNORE);
        pairs.into_iter().for_each(|(sample, class)| classes[usize::from(sample)] = Some(class));
        Self { classes, holds }
    }

    /// Converts the samples of a map to classes. The error for an unknown sample does not name the file.
    pub(crate) fn labels(&self, samples: Array2<u8>) -> Result<Array2<u8>, String> {
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

/// Describes in one sentence which files a folder lacks and where to get them; `None` if nothing is missing.
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

/// Files of one kind that a dataset needs, and which of them are missing.
pub(super) struct Part<'a> {
    /// Name of the kind, such as `images`.
    pub what: &'a str,
    /// Number of files that there should be.
    pub of: usize,
    /// The missing files.
    pub missing: Vec<std::path::PathBuf>,
    /// Where to get them.
    pub source: &'a str,
}

impl Error {
    /// The error about a folder from which parts are missing; `setting` is the setting that names the folder.
    pub(super) fn incomplete(root: &Path, parts: String, setting: &'static str) -> Self {
        Error::NoData { path: root.into(), reason: parts, setting, value: "DIR" }
    }
}
