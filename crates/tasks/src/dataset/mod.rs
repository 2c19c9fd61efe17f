//! Labelled images: where they lie, which there are, and reading one.

mod folder;
mod imagenet;

use std::collections::BTreeSet;
use std::path::PathBuf;

use models::image::Rgb8;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::mini::{self, SceneSpec, Split};

pub use folder::FolderConfig;
pub use imagenet::ImageNetConfig;

/// The kinds of datasets, and what each is.
pub const KINDS: [(&str, &str); 3] = [
    ("folder", "a folder of images with a table of labels (labels.csv)"),
    ("imagenet", "the validation set of ImageNet-1k, in synset folders or flat with a ground-truth file"),
    ("mini", "procedural scenes of ten classes of shapes, drawn in memory"),
];

/// The `[dataset.*]` table of an experiment.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DatasetConfig {
    /// A folder of images with a `labels.csv`.
    Folder(FolderConfig),
    /// The validation set of ImageNet-1k.
    Imagenet(ImageNetConfig),
    /// Procedural scenes, drawn in memory.
    Mini(MiniConfig),
}

/// `[dataset.mini]`: scenes with one object each, labelled with its class.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MiniConfig {
    /// Number of scenes.
    pub count: u64,
    /// Seed of the data set.
    #[serde(default)]
    pub seed: u64,
    /// Side length in pixels.
    #[serde(default = "MiniConfig::default_size")]
    pub size: usize,
    /// `val` (default) or `train`.
    #[serde(default = "MiniConfig::default_split")]
    pub split: Split,
}

impl MiniConfig {
    fn default_size() -> usize {
        64
    }

    fn default_split() -> Split {
        Split::Val
    }

    fn items(&self) -> Result<Vec<LabelledImage>> {
        let Self { count, seed, size, split } = *self;
        if count == 0 {
            return Err(Error::Setting {
                setting: "dataset.mini.count",
                reason: "must be at least 1".into(),
            });
        }
        let spec = SceneSpec::new(size, 1..=1)?;
        let item = |index| {
            let label = mini::leading_class(seed, split, index).label();
            let source = Source::Scene { spec: spec.clone(), seed, split, index };
            LabelledImage { id: format!("{}-{index:06}", split.name()), label, source }
        };
        Ok((0..count).map(item).collect())
    }
}

/// A random part of a dataset, the same for the same seed.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subset {
    /// Number of images.
    pub count: usize,
    /// Seed of the draw.
    #[serde(default)]
    pub seed: u64,
}

impl Subset {
    /// Draws without replacement and keeps the dataset's order. Each image's chance depends on the seed and its id only.
    fn draw(self, items: Vec<LabelledImage>, root: &std::path::Path) -> Result<Vec<LabelledImage>> {
        if self.count == 0 || self.count > items.len() {
            let reason = format!("subset.count is {}, the dataset has {} images", self.count, items.len());
            return Err(Error::Dataset { path: root.into(), reason });
        }
        let ticket = |item: &LabelledImage| Sha256::digest(format!("{}/{}", self.seed, item.id));
        let mut tickets: Vec<_> = items.iter().map(ticket).zip(0..).collect();
        tickets.sort();
        let drawn: BTreeSet<usize> = tickets.into_iter().take(self.count).map(|(_, i)| i).collect();
        Ok(items.into_iter().enumerate().filter(|(i, _)| drawn.contains(i)).map(|(_, item)| item).collect())
    }
}

/// One image of a dataset and its class.
#[derive(Debug, Clone)]
pub struct LabelledImage {
    /// Unique within the dataset.
    pub id: String,
    /// Class index, from 0.
    pub label: usize,
    source: Source,
}

#[derive(Debug, Clone)]
enum Source {
    File(PathBuf),
    Scene { spec: SceneSpec, seed: u64, split: Split, index: u64 },
}

/// A decoded image and the identity of what it was decoded from.
pub struct Picture {
    /// 8-bit RGB.
    pub rgb: Rgb8,
    /// SHA-256 of the file, or of the pixels of a drawn scene, as hexadecimal digits.
    pub sha256: String,
}

impl LabelledImage {
    /// Reads or draws the image.
    ///
    /// # Errors
    /// The file is missing or no image that we read.
    pub fn load(&self) -> Result<Picture> {
        let hex = |bytes: &[u8]| Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        match &self.source {
            Source::File(path) => {
                let bytes = std::fs::read(path)
                    .map_err(|source| models::Error::Read { path: path.clone(), source })?;
                let rgb = Rgb8::decode(&bytes).map_err(|e| models::Error::from(e.in_file(path)))?;
                Ok(Picture { rgb, sha256: hex(&bytes) })
            }
            Source::Scene { spec, seed, split, index } => {
                let scene = mini::scene(spec, *seed, *split, *index);
                let sha256 = hex(&scene.rgb);
                let rgb = Rgb8 { width: scene.size, height: scene.size, data: scene.rgb };
                Ok(Picture { rgb, sha256 })
            }
        }
    }

    /// The file, where there is one.
    pub fn path(&self) -> Option<&std::path::Path> {
        match &self.source {
            Source::File(path) => Some(path),
            Source::Scene { .. } => None,
        }
    }
}

impl DatasetConfig {
    /// The name of the variant, as in the experiment file.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Folder(_) => "folder",
            Self::Imagenet(_) => "imagenet",
            Self::Mini(_) => "mini",
        }
    }

    /// Lists the images. `classes` is the number of classes of the network that will look at them.
    ///
    /// # Errors
    /// The dataset is missing or contradictory, an image file is missing, or a label is none of the classes.
    pub fn items(&self, classes: usize) -> Result<Vec<LabelledImage>> {
        let items = match self {
            Self::Folder(config) => config.items()?,
            Self::Imagenet(config) => config.items()?,
            Self::Mini(config) => config.items()?,
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
}
