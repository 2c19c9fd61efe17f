//! Images whose pixels are labelled: the ground truth of segmentation, with classes to search for in each image
//! ([`SegmentedImage`]) or with a class for every pixel ([`DenseImage`]).

mod cityscapes;
mod coco_stuff;
mod dense;
mod gtsegs;
mod imagenet;
mod label_map;
mod masks;
mod rows;
mod voc;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use models::image::{Orientation, Rgb8};
use models::{hex, notes};
use ndarray::Array2;
use sha2::{Digest, Sha256};

use super::parquet::shards::Row;
use super::{InputFile, Sourced, read};
use crate::error::{Error, Result};
use crate::mini::{self, SceneSpec, Split};
use dense::ClassTable;
use gtsegs::Archive;
use masks::Object;

pub use cityscapes::CityscapesConfig;
pub use coco_stuff::CocoStuffConfig;
pub use dense::{DenseImage, LabelledPixels};
pub use imagenet::ImageNetSegmentationConfig;
pub use masks::MasksConfig;
pub use voc::{PascalVocConfig, VocProtocol};

/// The label of ignored pixels: those at the border of an object, or unclear ones.
pub const IGNORE: u8 = 255;

/// An image whose pixels are labelled.
#[derive(Debug, Clone)]
pub struct SegmentedImage {
    /// Name of the image, unique within the dataset.
    pub id: String,
    /// The classes to search for, in rising order of their labels; a single one if the protocol requires one.
    pub classes: Vec<NamedClass>,
    source: Source,
}

/// A class that occurs in an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedClass {
    /// Its label in the pixel map, from 1.
    pub label: u8,
    /// Its name in prompts.
    pub name: String,
}

/// A decoded image with the labels of its pixels.
#[derive(Debug, Clone)]
pub struct Segmented {
    /// 8-bit RGB.
    pub rgb: Rgb8,
    /// Labels `[height, width]` of the image: 0 for the background, the label of a class, or [`IGNORE`]. For a
    /// [`DenseImage`], the position of a class or [`IGNORE`].
    pub labels: Array2<u8>,
    /// SHA-256, as hexadecimal digits, of the data from which both were decoded: the bytes of the image file followed
    /// by those of the mask file. For a MATLAB file or a drawn scene, the stored samples of both in that order.
    pub sha256: String,
    /// SHA-256 of the image's data alone, if items are objects, several of which may be in one image; otherwise `None`.
    pub image_sha256: Option<String>,
}

#[derive(Debug, Clone)]
pub(super) enum Source {
    /// Entry `index` of gtsegs_ijcv.mat.
    Archive { archive: Arc<Archive>, index: usize },
    /// An image file and a PNG of labels.
    Files { image: PathBuf, mask: PathBuf, reading: Reading },
    /// An image file, and the PNG masks of objects in it with the label of each; later objects hide earlier ones.
    Objects { image: PathBuf, objects: Vec<(PathBuf, Object, u8)> },
    /// A row of a Parquet file. Pixels with the label 1 of one object have this label instead.
    Row { row: Row, reading: Reading, label: u8 },
    /// A drawn scene.
    Scene { spec: SceneSpec, seed: u64, split: Split, index: u64, labels: SceneLabels },
}

/// The objects of a scene that are labelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::dataset) enum SceneLabels {
    /// The object of the leading class, with label 1.
    Leading,
    /// All objects, each with the label of its class plus 1.
    All,
}

/// The meaning of the samples in a mask file.
#[derive(Debug, Clone)]
pub(super) enum Reading {
    /// Class indices of PASCAL VOC.
    Voc,
    /// Numbers that a table maps to classes.
    Classes(Arc<ClassTable>),
    /// One object and the background.
    Object(Object),
}

impl Reading {
    /// Returns the SHA-256 of an image's bytes if a mask is one object, since an image may then be in several items.
    fn shared_image(&self, image: &[u8]) -> Option<String> {
        match self {
            Self::Object(_) => Some(hex(Sha256::digest(image))),
            Self::Voc | Self::Classes(_) => None,
        }
    }
}

impl SegmentedImage {
    pub(super) fn new(id: String, classes: Vec<NamedClass>, source: Source) -> Self {
        Self { id, classes, source }
    }

    /// Reads or draws the image and the labels of its pixels.
    ///
    /// # Errors
    /// Fails if a file is missing or damaged, if image and labels differ in size, or if the dataset does not know a
    /// label.
    pub fn load(&self) -> Result<Segmented> {
        self.source.load()
    }

    /// The image file, or a Parquet file followed by the number of a row; `None` for archives and drawn images.
    pub fn path(&self) -> Option<&Path> {
        self.source.path()
    }

    /// The mask values that stand for objects, if a table gives them; otherwise empty.
    pub fn values(&self) -> String {
        self.source.values()
    }
}

impl Sourced for SegmentedImage {
    fn files(&self) -> Vec<InputFile> {
        self.source.files()
    }

    fn sha256(&self) -> Result<String> {
        self.source.sha256()
    }
}

impl Source {
    fn load(&self) -> Result<Segmented> {
        match self {
            Self::Archive { archive, index } => archive.load(*index),
            Self::Files { image, mask, reading } => files(image, mask, reading),
            Self::Objects { image, objects } => merged(image, objects),
            Self::Row { row, reading, label } => in_row(row, reading, *label),
            Self::Scene { spec, seed, split, index, labels } => scene(spec, *seed, *split, *index, *labels),
        }
    }

    fn path(&self) -> Option<&Path> {
        match self {
            Self::Files { image, .. } | Self::Objects { image, .. } => Some(image),
            Self::Row { row, .. } => Some(row.place()),
            Self::Archive { .. } | Self::Scene { .. } => None,
        }
    }

    fn files(&self) -> Vec<InputFile> {
        match self {
            Self::Archive { archive, .. } => {
                vec![InputFile::archive(archive.path())]
            }
            Self::Row { row, .. } => vec![InputFile::archive(row.file())],
            Self::Files { image, mask, .. } => vec![InputFile::image(image), InputFile::labels(mask)],
            Self::Objects { image, objects } => {
                let masks = objects.iter().map(|(mask, ..)| InputFile::labels(mask));
                std::iter::once(InputFile::image(image)).chain(masks).collect()
            }
            Self::Scene { .. } => Vec::new(),
        }
    }

    /// Returns the current value of [`Segmented::sha256`], without decoding files if possible.
    fn sha256(&self) -> Result<String> {
        match self {
            Self::Files { image, mask, .. } => Ok(digest(&read(image)?, &read(mask)?)),
            Self::Objects { image, objects } => {
                let mut hasher = Sha256::new().chain_update(read(image)?);
                for (mask, ..) in objects {
                    hasher.update(read(mask)?);
                }
                Ok(hex(hasher.finalize()))
            }
            Self::Row { row, .. } => Ok(digest(&row.image()?, &row.mask()?)),
            Self::Archive { .. } | Self::Scene { .. } => Ok(self.load()?.sha256),
        }
    }

    fn values(&self) -> String {
        let value = |object: &Object| {
            object.value().map_or_else(|| "all but 0".to_owned(), |value| value.to_string())
        };
        match self {
            Self::Files { reading: Reading::Object(object), .. } => value(object),
            Self::Objects { objects, .. } => {
                let each = objects.iter().map(|(_, object, label)| format!("{label}: {}", value(object)));
                each.collect::<Vec<_>>().join(", ")
            }
            Self::Row { reading: Reading::Object(object), label, .. } => {
                format!("{label}: {}", value(object))
            }
            Self::Files { reading: Reading::Voc | Reading::Classes(_), .. }
            | Self::Row { reading: Reading::Voc | Reading::Classes(_), .. }
            | Self::Archive { .. }
            | Self::Scene { .. } => String::new(),
        }
    }
}

fn files(image: &Path, mask: &Path, reading: &Reading) -> Result<Segmented> {
    let image = decoded(image, reading)?;
    let stored = read(mask)?;
    let labels = labels(&stored, mask, reading, &image)?;
    let image_sha256 = reading.shared_image(&image.bytes);
    Ok(Segmented { rgb: image.rgb, labels, sha256: digest(&image.bytes, &stored), image_sha256 })
}

/// Combines the masks of all objects into one map. Pixels that an object's mask ignores are ignored unless they belong
/// to another object.
fn merged(image: &Path, objects: &[(PathBuf, Object, u8)]) -> Result<Segmented> {
    let image = Decoded::upright(image)?;
    let mut merged = Array2::zeros((image.rgb.height, image.rgb.width));
    let mut read_so_far = Vec::new();
    for (mask, object, label) in objects {
        let stored = read(mask)?;
        let found = labels(&stored, mask, &Reading::Object(*object), &image)?;
        merged.zip_mut_with(&found, |pixel, &found| match found {
            1 => *pixel = *label,
            IGNORE if *pixel == 0 => *pixel = IGNORE,
            _ => {}
        });
        read_so_far.extend(stored);
    }
    let sha256 = digest(&image.bytes, &read_so_far);
    Ok(Segmented { rgb: image.rgb, labels: merged, sha256, image_sha256: None })
}

fn in_row(row: &Row, reading: &Reading, label: u8) -> Result<Segmented> {
    let image = Decoded::turned(row.place(), row.image()?)?;
    let stored = row.mask()?;
    let mut labels = labels(&stored, row.place(), reading, &image)?;
    if matches!(reading, Reading::Object(_)) {
        labels.mapv_inplace(|found| if found == 1 { label } else { found });
    }
    let image_sha256 = reading.shared_image(&image.bytes);
    Ok(Segmented { rgb: image.rgb, labels, sha256: digest(&image.bytes, &stored), image_sha256 })
}

/// A decoded image file.
struct Decoded<'a> {
    path: &'a Path,
    bytes: Vec<u8>,
    rgb: Rgb8,
    /// How the image was rotated.
    turned: Orientation,
}

impl<'a> Decoded<'a> {
    /// Reads an image and rotates it as its EXIF data say, as tools do in which masks are drawn.
    fn upright(path: &'a Path) -> Result<Self> {
        Self::turned(path, read(path)?)
    }

    /// Decodes the bytes of an image as [`Decoded::upright`] does.
    fn turned(path: &'a Path, bytes: Vec<u8>) -> Result<Self> {
        let (rgb, turned) = Rgb8::decode_upright(&bytes).map_err(|e| models::Error::from(e.in_file(path)))?;
        Ok(Self { path, bytes, rgb, turned })
    }

    /// Reads an image as it is stored, which is how published data sets are labelled and read.
    fn stored(path: &'a Path) -> Result<Self> {
        let bytes = read(path)?;
        notes::orientation_ignored(path, &bytes);
        let rgb = Rgb8::decode(&bytes).map_err(|e| models::Error::from(e.in_file(path)))?;
        Ok(Self { path, bytes, rgb, turned: Orientation::Upright })
    }
}

fn decoded<'a>(image: &'a Path, reading: &Reading) -> Result<Decoded<'a>> {
    match reading {
        Reading::Object(_) => Decoded::upright(image),
        Reading::Voc | Reading::Classes(_) => Decoded::stored(image),
    }
}

/// Decodes the labels that a mask file stores for an image.
fn labels(stored: &[u8], mask: &Path, reading: &Reading, image: &Decoded<'_>) -> Result<Array2<u8>> {
    let refuse = |reason: String| Error::Dataset { path: mask.into(), reason };
    let labels = label_map::decode(stored).map_err(refuse)?;
    let (height, width) = labels.dim();
    let Decoded { path, rgb, turned, .. } = image;
    if (height, width) != (rgb.height, rgb.width) {
        let how = if *turned == Orientation::Upright {
            String::new()
        } else {
            format!(
                " after it was rotated by its EXIF orientation {}; draw the mask on the upright image, or remove the \
                 orientation from the file",
                turned.number()
            )
        };
        return Err(refuse(format!(
            "the mask has {width}×{height} pixels, its image {} has {}×{}{how}; both must have the same size",
            path.display(),
            rgb.width,
            rgb.height
        )));
    }
    match reading {
        Reading::Voc => voc::checked(labels),
        Reading::Classes(table) => table.labels(labels),
        Reading::Object(object) => object.labels(labels),
    }
    .map_err(refuse)
}

fn scene(spec: &SceneSpec, seed: u64, split: Split, index: u64, which: SceneLabels) -> Result<Segmented> {
    let scene = mini::scene(spec, seed, split, index);
    let labels: Vec<u8> = match which {
        SceneLabels::All => scene.labels(),
        SceneLabels::Leading => {
            let leading = mini::leading_class(seed, split, index);
            let mask = scene.objects.iter().find(|object| object.class == leading).map(|object| &object.mask);
            mask.into_iter().flatten().map(|&inside| u8::from(inside)).collect()
        }
    };
    let sha256 = digest(&scene.rgb, &labels);
    let labels = Array2::from_shape_vec((scene.size, scene.size), labels).map_err(|e| Error::Setting {
        setting: "dataset.mini",
        reason: format!("scene {index} has no mask of its leading class ({e})"),
    })?;
    let rgb = Rgb8 { width: scene.size, height: scene.size, data: scene.rgb };
    Ok(Segmented { rgb, labels, sha256, image_sha256: None })
}

/// SHA-256 of the image's bytes followed by the mask's.
fn digest(image: &[u8], mask: &[u8]) -> String {
    hex(Sha256::new().chain_update(image).chain_update(mask).finalize())
}
