//! Images whose pixels are labelled: the ground truth of segmentation, with classes to look for in each image
//! ([`SegmentedImage`]) or with a class for every pixel ([`DenseImage`]).

mod cityscapes;
mod coco_stuff;
mod dense;
mod gtsegs;
mod imagenet;
mod label_map;
mod masks;
mod voc;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use models::image::{Orientation, Rgb8};
use models::{hex, notes};
use ndarray::Array2;
use sha2::{Digest, Sha256};

use super::{InputFile, InputKind, Sourced, read};
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

/// The label of a pixel that counts for nothing: at the border of an object, or unclear.
pub const IGNORE: u8 = 255;

/// An image whose pixels are labelled.
#[derive(Debug, Clone)]
pub struct SegmentedImage {
    /// Unique within the dataset.
    pub id: String,
    /// The classes to look for, in rising order of their labels; a single one where the protocol asks for one.
    pub classes: Vec<NamedClass>,
    source: Source,
}

/// A class that occurs in an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedClass {
    /// Its label in the pixel map, from 1.
    pub label: u8,
    /// What a prompt calls it.
    pub name: String,
}

/// A decoded image with the labels of its pixels.
#[derive(Debug, Clone)]
pub struct Segmented {
    /// 8-bit RGB.
    pub rgb: Rgb8,
    /// `[height, width]` of the picture: 0 for the background, the label of a class, or [`IGNORE`]. Of a
    /// [`DenseImage`], the position of a class or [`IGNORE`].
    pub labels: Array2<u8>,
    /// SHA-256, as hexadecimal digits, of what both were decoded from: the bytes of the image file followed by those
    /// of the mask file; of a MATLAB file or a drawn scene, the stored samples of both in that order.
    pub sha256: String,
}

#[derive(Debug, Clone)]
pub(super) enum Source {
    /// Entry `index` of gtsegs_ijcv.mat.
    Archive { archive: Arc<Archive>, index: usize },
    /// An image file and a PNG of labels.
    Files { image: PathBuf, mask: PathBuf, reading: Reading },
    /// An image file and the PNGs of objects in it, each with the label it gets; later ones hide earlier ones.
    Objects { image: PathBuf, objects: Vec<(PathBuf, Object, u8)> },
    /// A drawn scene.
    Scene { spec: SceneSpec, seed: u64, split: Split, index: u64, labels: SceneLabels },
}

/// Which objects of a scene are labelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::dataset) enum SceneLabels {
    /// That of the leading class, as 1.
    Leading,
    /// All, each as the label of its class plus 1.
    All,
}

/// What the samples of a mask file mean.
#[derive(Debug, Clone)]
pub(super) enum Reading {
    /// Indices of the classes of PASCAL VOC.
    Voc,
    /// Numbers that a table turns into classes.
    Classes(Arc<ClassTable>),
    /// One object and its surroundings.
    Object(Object),
}

impl SegmentedImage {
    pub(super) fn new(id: String, classes: Vec<NamedClass>, source: Source) -> Self {
        Self { id, classes, source }
    }

    /// Reads or draws the image and the labels of its pixels.
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
            Self::Scene { spec, seed, split, index, labels } => scene(spec, *seed, *split, *index, *labels),
        }
    }

    fn path(&self) -> Option<&Path> {
        match self {
            Self::Files { image, .. } | Self::Objects { image, .. } => Some(image),
            Self::Archive { .. } | Self::Scene { .. } => None,
        }
    }

    fn files(&self) -> Vec<InputFile> {
        match self {
            Self::Archive { archive, .. } => {
                vec![InputFile { path: archive.path().into(), kind: InputKind::Archive }]
            }
            Self::Files { image, mask, .. } => vec![InputFile::image(image), InputFile::labels(mask)],
            Self::Objects { image, objects } => {
                let masks = objects.iter().map(|(mask, ..)| InputFile::labels(mask));
                std::iter::once(InputFile::image(image)).chain(masks).collect()
            }
            Self::Scene { .. } => Vec::new(),
        }
    }

    /// What [`Segmented::sha256`] would be now. Files are not decoded for it.
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
            Self::Files { reading: Reading::Voc | Reading::Classes(_), .. }
            | Self::Archive { .. }
            | Self::Scene { .. } => String::new(),
        }
    }
}

fn files(image: &Path, mask: &Path, reading: &Reading) -> Result<Segmented> {
    let picture = picture(image, reading)?;
    let stored = read(mask)?;
    let labels = labels(&stored, mask, reading, &picture)?;
    Ok(Segmented { rgb: picture.rgb, labels, sha256: digest(&picture.bytes, &stored) })
}

/// One map of all objects. What an object's mask ignores is ignored where no object is.
fn merged(image: &Path, objects: &[(PathBuf, Object, u8)]) -> Result<Segmented> {
    let picture = Picture::upright(image)?;
    let mut merged = Array2::zeros((picture.rgb.height, picture.rgb.width));
    let mut read_so_far = Vec::new();
    for (mask, object, label) in objects {
        let stored = read(mask)?;
        let found = labels(&stored, mask, &Reading::Object(*object), &picture)?;
        merged.zip_mut_with(&found, |pixel, &found| match found {
            1 => *pixel = *label,
            IGNORE if *pixel == 0 => *pixel = IGNORE,
            _ => {}
        });
        read_so_far.extend(stored);
    }
    Ok(Segmented { rgb: picture.rgb, labels: merged, sha256: digest(&picture.bytes, &read_so_far) })
}

/// An image file.
struct Picture<'a> {
    path: &'a Path,
    bytes: Vec<u8>,
    rgb: Rgb8,
    /// How it was turned.
    turned: Orientation,
}

impl<'a> Picture<'a> {
    /// Turned as its EXIF says. Tools with which people draw masks show images so.
    fn upright(path: &'a Path) -> Result<Self> {
        let bytes = read(path)?;
        let (rgb, turned) = Rgb8::decode_upright(&bytes).map_err(|e| models::Error::from(e.in_file(path)))?;
        Ok(Self { path, bytes, rgb, turned })
    }

    /// As it is stored, which is how published data sets were labelled and are read.
    fn stored(path: &'a Path) -> Result<Self> {
        let bytes = read(path)?;
        notes::orientation_ignored(path, &bytes);
        let rgb = Rgb8::decode(&bytes).map_err(|e| models::Error::from(e.in_file(path)))?;
        Ok(Self { path, bytes, rgb, turned: Orientation::Upright })
    }
}

fn picture<'a>(image: &'a Path, reading: &Reading) -> Result<Picture<'a>> {
    match reading {
        Reading::Object(_) => Picture::upright(image),
        Reading::Voc | Reading::Classes(_) => Picture::stored(image),
    }
}

/// The labels that a mask file stores for an image.
fn labels(stored: &[u8], mask: &Path, reading: &Reading, picture: &Picture<'_>) -> Result<Array2<u8>> {
    let refuse = |reason: String| Error::Dataset { path: mask.into(), reason };
    let labels = label_map::decode(stored).map_err(refuse)?;
    let (height, width) = labels.dim();
    let Picture { path, rgb, turned, .. } = picture;
    if (height, width) != (rgb.height, rgb.width) {
        let how = if *turned == Orientation::Upright {
            String::new()
        } else {
            format!(
                " after it was turned as its EXIF orientation {} says; draw the mask on the upright image, or remove the \
                 orientation from the file",
                turned.number()
            )
        };
        return Err(refuse(format!(
            "the mask has {width}×{height} pixels, its image {} has {}×{}{how}; they must be of one size",
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
    Ok(Segmented { rgb: Rgb8 { width: scene.size, height: scene.size, data: scene.rgb }, labels, sha256 })
}

/// SHA-256 of the image's bytes followed by the mask's.
fn digest(image: &[u8], mask: &[u8]) -> String {
    hex(Sha256::new().chain_update(image).chain_update(mask).finalize())
}
