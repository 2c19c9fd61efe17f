//! Images whose pixels are labelled: the ground truth of zero-shot segmentation.

mod gtsegs;
mod imagenet;
mod label_map;
mod masks;
mod voc;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use models::image::Rgb8;
use ndarray::Array2;
use sha2::{Digest, Sha256};

use super::hex;
use crate::error::{Error, Result};
use crate::mini::{self, SceneSpec, Split};
use gtsegs::Archive;
use masks::Object;

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
    /// `[height, width]` of the picture: 0 for the background, the label of a class, or [`IGNORE`].
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
    /// A drawn scene, with the object of its leading class as label 1.
    Scene { spec: SceneSpec, seed: u64, split: Split, index: u64 },
}

/// What the samples of a mask file mean.
#[derive(Debug, Clone, Copy)]
pub(super) enum Reading {
    /// Indices of the classes of PASCAL VOC.
    Voc,
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
        match &self.source {
            Source::Archive { archive, index } => archive.load(*index),
            Source::Files { image, mask, reading } => files(image, mask, *reading),
            Source::Scene { spec, seed, split, index } => scene(spec, *seed, *split, *index),
        }
    }

    /// The image file, where there is one.
    pub fn path(&self) -> Option<&Path> {
        match &self.source {
            Source::Files { image, .. } => Some(image),
            Source::Archive { .. } | Source::Scene { .. } => None,
        }
    }
}

fn files(image: &Path, mask: &Path, reading: Reading) -> Result<Segmented> {
    let bytes = read(image)?;
    let rgb = Rgb8::decode(&bytes).map_err(|e| models::Error::from(e.in_file(image)))?;
    let refuse = |reason: String| Error::Dataset { path: mask.into(), reason };
    let stored = read(mask)?;
    let labels = label_map::decode(&stored).map_err(refuse)?;
    let (height, width) = labels.dim();
    if (height, width) != (rgb.height, rgb.width) {
        return Err(refuse(format!(
            "the mask has {width}×{height} pixels, its image {} has {}×{}; they must be of one size",
            image.display(),
            rgb.width,
            rgb.height
        )));
    }
    let labels = match reading {
        Reading::Voc => voc::checked(labels).map_err(refuse)?,
        Reading::Object(object) => object.labels(labels).map_err(refuse)?,
    };
    Ok(Segmented { rgb, labels, sha256: digest(&bytes, &stored) })
}

fn scene(spec: &SceneSpec, seed: u64, split: Split, index: u64) -> Result<Segmented> {
    let scene = mini::scene(spec, seed, split, index);
    let leading = mini::leading_class(seed, split, index);
    let mask = scene.objects.iter().find(|object| object.class == leading).map(|object| &object.mask);
    let labels: Vec<u8> = mask.into_iter().flatten().map(|&inside| u8::from(inside)).collect();
    let sha256 = digest(&scene.rgb, &labels);
    let labels = Array2::from_shape_vec((scene.size, scene.size), labels).map_err(|e| Error::Setting {
        setting: "dataset.mini",
        reason: format!("scene {index} has no mask of its leading class ({e})"),
    })?;
    Ok(Segmented { rgb: Rgb8 { width: scene.size, height: scene.size, data: scene.rgb }, labels, sha256 })
}

fn read(path: &Path) -> Result<Vec<u8>> {
    Ok(std::fs::read(path).map_err(|source| models::Error::Read { path: path.into(), source })?)
}

/// SHA-256 of the image's bytes followed by the mask's.
fn digest(image: &[u8], mask: &[u8]) -> String {
    hex(&Sha256::new().chain_update(image).chain_update(mask).finalize())
}
