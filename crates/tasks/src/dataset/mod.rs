//! Labelled images: listing and loading them. A dataset labels whole images with a class ([`DatasetConfig::items`]), or
//! the pixels of classes to search for ([`DatasetConfig::segmented`]), or all pixels
//! ([`DatasetConfig::labelled_pixels`]), or several of these.

mod folder;
mod imagenet;
mod listing;
mod mini;
mod parquet;
mod published;
mod reference;
pub mod segmentation;
mod source;
mod subset;
mod table;

use std::path::{Component, Path, PathBuf};

use models::image::Rgb8;
use models::{hex, limits, notes};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::mini::{SceneSpec, Split};

pub use folder::FolderConfig;
pub use imagenet::ImageNetConfig;
pub use listing::{note_left_out, python_order};
pub use mini::{MiniConfig, MiniProtocol, Objects};
pub use parquet::{MaskValues, ParquetConfig, ParquetFiles};
pub use published::{MissingPart, Place};
pub use reference::ReferenceConfig;
pub use segmentation::{
    CityscapesConfig, CocoStuffConfig, DenseImage, ImageNetSegmentationConfig, LabelledPixels, MasksConfig,
    PascalVocConfig, SegmentedImage, VocProtocol,
};
pub use source::{InputFile, InputKind, Sourced, format_of_file, unreadable};
pub use subset::Subset;

/// The kinds of datasets with a description of each.
pub const KINDS: [(&str, &str); 10] = [
    ("cityscapes", "streets seen from a car with the class of every pixel, 27 classes"),
    ("coco-stuff", "2,175 images of COCO's val2017 with the class of every pixel, 27 coarse classes"),
    ("folder", "a folder of images with a table of labels (labels.csv)"),
    ("imagenet", "the validation set of ImageNet-1k, in synset folders or flat with a ground-truth file"),
    ("imagenet-segmentation", "4,276 images of ImageNet with a mask of the object (gtsegs_ijcv.mat)"),
    ("masks", "a folder of images and PNG masks with a table of the objects (labels.csv)"),
    ("mini", "procedural scenes of ten classes of shapes, drawn in memory; labels and exact masks"),
    ("parquet", "Parquet files of the hub with images and labels or masks, read without unpacking"),
    ("pascal-voc", "PASCAL VOC 2012 with the class of every pixel; images with one class, or all images"),
    ("reference", "a folder of images, or its statistics, with which generated images are compared"),
];

/// The `[dataset.*]` table of an experiment.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DatasetConfig {
    /// Cityscapes with the class of every pixel.
    Cityscapes(CityscapesConfig),
    /// COCO-Stuff with the coarse class of every pixel.
    CocoStuff(CocoStuffConfig),
    /// A folder of images with a `labels.csv`.
    Folder(FolderConfig),
    /// The validation set of ImageNet-1k.
    Imagenet(ImageNetConfig),
    /// Images of ImageNet with a mask of the object.
    ImagenetSegmentation(ImageNetSegmentationConfig),
    /// A folder of images and masks.
    Masks(MasksConfig),
    /// Procedural scenes, drawn in memory.
    Mini(MiniConfig),
    /// Parquet files of the hub.
    Parquet(ParquetConfig),
    /// PASCAL VOC with the class of every pixel.
    PascalVoc(PascalVocConfig),
    /// Images with which generated images are compared.
    Reference(ReferenceConfig),
}

/// One image of a dataset and its class.
#[derive(Debug, Clone)]
pub struct LabelledImage {
    /// Name of the image, unique within the dataset.
    pub id: String,
    /// Class index, from 0.
    pub label: usize,
    source: Source,
}

#[derive(Debug, Clone)]
enum Source {
    File(PathBuf),
    Row(parquet::shards::Row),
    Scene { spec: SceneSpec, seed: u64, split: Split, index: u64 },
}

/// A decoded image and the hash of its source.
pub struct Picture {
    /// 8-bit RGB.
    pub rgb: Rgb8,
    /// SHA-256 of the file, or of the pixels of a drawn scene, as hexadecimal digits.
    pub sha256: String,
}

impl LabelledImage {
    /// Reads or draws the image. An EXIF orientation is ignored, as by torchvision, and noted in [`models::notes`]; images
    /// in Parquet files are rotated upright, as by the hub's library.
    ///
    /// # Errors
    /// Fails if the file is missing, or is not an image in a supported format.
    pub fn load(&self) -> Result<Picture> {
        let hex = |bytes: &[u8]| hex(Sha256::digest(bytes));
        match &self.source {
            Source::File(path) => {
                let bytes = read(path)?;
                notes::orientation_ignored(path, &bytes);
                let rgb = Rgb8::decode(&bytes).map_err(|e| models::Error::from(e.in_file(path)))?;
                Ok(Picture { rgb, sha256: hex(&bytes) })
            }
            Source::Row(row) => {
                let bytes = row.image()?;
                let (rgb, _) =
                    Rgb8::decode_upright(&bytes).map_err(|e| models::Error::from(e.in_file(row.place())))?;
                Ok(Picture { rgb, sha256: hex(&bytes) })
            }
            Source::Scene { spec, seed, split, index } => {
                let scene = crate::mini::scene(spec, *seed, *split, *index);
                let sha256 = hex(&scene.rgb);
                let rgb = Rgb8 { width: scene.size, height: scene.size, data: scene.rgb };
                Ok(Picture { rgb, sha256 })
            }
        }
    }

    /// The image file, or a Parquet file followed by the number of a row; `None` if the image is drawn.
    pub fn path(&self) -> Option<&std::path::Path> {
        match &self.source {
            Source::File(path) => Some(path),
            Source::Row(row) => Some(row.place()),
            Source::Scene { .. } => None,
        }
    }
}

impl Sourced for LabelledImage {
    fn files(&self) -> Vec<InputFile> {
        match &self.source {
            Source::File(path) => vec![InputFile::image(path)],
            Source::Row(row) => vec![InputFile::archive(row.file())],
            Source::Scene { .. } => Vec::new(),
        }
    }

    fn sha256(&self) -> Result<String> {
        match &self.source {
            Source::File(path) => Ok(hex(Sha256::digest(read(path)?))),
            Source::Row(row) => Ok(hex(Sha256::digest(row.image()?))),
            Source::Scene { .. } => Ok(self.load()?.sha256),
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    Ok(limits::read_bytes(path, limits::PICTURE_BYTES)
        .map_err(|source| models::Error::Read { path: path.into(), source })?)
}

impl DatasetConfig {
    /// Name of the variant, as in the experiment file.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Cityscapes(_) => "cityscapes",
            Self::CocoStuff(_) => "coco-stuff",
            Self::Folder(_) => "folder",
            Self::Imagenet(_) => "imagenet",
            Self::ImagenetSegmentation(_) => "imagenet-segmentation",
            Self::Masks(_) => "masks",
            Self::Mini(_) => "mini",
            Self::Parquet(_) => "parquet",
            Self::PascalVoc(_) => "pascal-voc",
            Self::Reference(_) => "reference",
        }
    }

    /// Whether the data set has a fixed list of classes, as published protocols do. A class of such a list counts even
    /// if it occurs in no image. Otherwise only the classes that occur in some pixel exist.
    pub fn has_fixed_classes(&self) -> bool {
        match self {
            Self::Cityscapes(_)
            | Self::CocoStuff(_)
            | Self::Folder(_)
            | Self::Imagenet(_)
            | Self::ImagenetSegmentation(_)
            | Self::Mini(_)
            | Self::PascalVoc(_)
            | Self::Reference(_) => true,
            Self::Masks(_) | Self::Parquet(_) => false,
        }
    }

    /// Lists the images. `classes` is the number of classes of the network that will classify them.
    ///
    /// # Errors
    /// Fails if the dataset is missing or contradictory, if an image file is missing, if a label is not below
    /// `classes`, or if this kind of dataset has no labels for whole images.
    pub fn items(&self, classes: usize) -> Result<Vec<LabelledImage>> {
        let items = match self {
            Self::Folder(config) => config.items()?,
            Self::Imagenet(config) => config.items()?,
            Self::Mini(config) => config.items()?,
            Self::Parquet(config) => config.items()?,
            Self::Cityscapes(_)
            | Self::CocoStuff(_)
            | Self::ImagenetSegmentation(_)
            | Self::Masks(_)
            | Self::PascalVoc(_) => {
                return Err(
                    self.without("labels its pixels, not whole images", "folder, imagenet, parquet or mini")
                );
            }
            Self::Reference(_) => {
                return Err(self.without("has no labels", "folder, imagenet, parquet or mini"));
            }
        };
        match items.iter().find(|item| item.label >= classes) {
            None => Ok(items),
            Some(item) => Err(Error::Setting {
                setting: "dataset",
                reason: format!(
                    "image `{}` has label {}, but the network knows classes 0 to {}",
                    item.id,
                    item.label,
                    classes.saturating_sub(1)
                ),
            }),
        }
    }

    /// Lists the images with pixel labels and the classes to look for in each.
    ///
    /// # Errors
    /// Fails if the dataset is missing or contradictory, if a file is missing, or if this kind of dataset has no pixel
    /// labels. Errors in a single image or mask are reported by [`SegmentedImage::load`].
    pub fn segmented(&self) -> Result<Vec<SegmentedImage>> {
        match self {
            Self::ImagenetSegmentation(config) => config.segmented(),
            Self::Masks(config) => config.segmented(),
            Self::Mini(config) => config.segmented(),
            Self::Parquet(config) => config.segmented(),
            Self::PascalVoc(config) => config.segmented(),
            Self::Cityscapes(_) | Self::CocoStuff(_) => {
                let others = "imagenet-segmentation, pascal-voc, masks, parquet or mini";
                Err(self.without("labels all pixels but does not say which objects to search for", others))
            }
            Self::Folder(_) | Self::Imagenet(_) => {
                let others =
                    "imagenet-segmentation, pascal-voc, masks (a folder of your own), parquet or mini";
                Err(self.without("labels whole images, not their pixels", others))
            }
            Self::Reference(_) => {
                Err(self
                    .without("has no labels", "imagenet-segmentation, pascal-voc, masks, parquet or mini"))
            }
        }
    }

    /// Lists the images with a class for every pixel.
    ///
    /// # Errors
    /// Fails if the dataset is missing or contradictory, if a file is missing, or if this kind of dataset does not
    /// label all pixels. Errors in a single image or label map are reported by [`DenseImage::load`].
    pub fn labelled_pixels(&self) -> Result<LabelledPixels> {
        match self {
            Self::Cityscapes(config) => config.labelled_pixels(),
            Self::CocoStuff(config) => config.labelled_pixels(),
            Self::Masks(config) => config.labelled_pixels(),
            Self::Mini(config) => config.labelled_pixels(),
            Self::Parquet(config) => config.labelled_pixels(),
            Self::PascalVoc(config) => config.labelled_pixels(),
            Self::Folder(_) | Self::Imagenet(_) | Self::ImagenetSegmentation(_) | Self::Reference(_) => {
                let others =
                    "coco-stuff, cityscapes, pascal-voc, masks (a folder of your own), parquet or mini";
                Err(self.without("does not give a class to every pixel", others))
            }
        }
    }

    fn without(&self, what: &str, others: &str) -> Error {
        Error::Setting {
            setting: "dataset",
            reason: format!("`{}` {what}; this experiment needs one of {others}", self.name()),
        }
    }
}

/// Fails if a name in a list leads out of the folder to which the list belongs.
fn check_inside(name: &str) -> Result<(), String> {
    let inside = |part| matches!(part, Component::Normal(_) | Component::CurDir);
    if Path::new(name).components().all(inside) {
        return Ok(());
    }
    Err(format!("`{name}` leads out of the folder of images; name files relative to it and without `..`"))
}
