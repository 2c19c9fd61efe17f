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

use models::image::Rgb8;
use models::limits;
use ndarray::Array2;
use sha2::{Digest, Sha256};

use super::hex;
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
}

fn files(image: &Path, mask: &Path, reading: &Reading) -> Result<Segmented> {
    let (bytes, rgb) = picture(image)?;
    let stored = read(mask)?;
    let labels = labels(&stored, mask, reading, (image, &rgb))?;
    Ok(Segmented { rgb, labels, sha256: digest(&bytes, &stored) })
}

/// One map of all objects. What an object's mask ignores is ignored where no object is.
fn merged(image: &Path, objects: &[(PathBuf, Object, u8)]) -> Result<Segmented> {
    let (bytes, rgb) = picture(image)?;
    let mut merged = Array2::zeros((rgb.height, rgb.width));
    let mut read_so_far = Vec::new();
    for (mask, object, label) in objects {
        let stored = read(mask)?;
        let found = labels(&stored, mask, &Reading::Object(*object), (image, &rgb))?;
        merged.zip_mut_with(&found, |pixel, &found| match found {
            1 => *pixel = *label,
            IGNORE if *pixel == 0 => *pixel = IGNORE,
            _ => {}
        });
        read_so_far.extend(stored);
    }
    Ok(Segmented { rgb, labels: merged, sha256: digest(&bytes, &read_so_far) })
}

/// The bytes of an image file, and what they decode to.
fn picture(image: &Path) -> Result<(Vec<u8>, Rgb8)> {
    let bytes = read(image)?;
    let rgb = Rgb8::decode(&bytes).map_err(|e| models::Error::from(e.in_file(image)))?;
    Ok((bytes, rgb))
}

/// The labels that a mask file stores for an image.
fn labels(stored: &[u8], mask: &Path, reading: &Reading, (image, rgb): (&Path, &Rgb8)) -> Result<Array2<u8>> {
    let refuse = |reason: String| Error::Dataset { path: mask.into(), reason };
    let labels = label_map::decode(stored).map_err(refuse)?;
    let (height, width) = labels.dim();
    if (height, width) != (rgb.height, rgb.width) {
        return Err(refuse(format!(
            "the mask has {width}×{height} pixels, its image {} has {}×{}; they must be of one size",
            image.display(),
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

fn read(path: &Path) -> Result<Vec<u8>> {
    Ok(limits::read_bytes(path, limits::PICTURE_BYTES)
        .map_err(|source| models::Error::Read { path: path.into(), source })?)
}

/// SHA-256 of the image's bytes followed by the mask's.
fn digest(image: &[u8], mask: &[u8]) -> String {
    hex(&Sha256::new().chain_update(image).chain_update(mask).finalize())
}
