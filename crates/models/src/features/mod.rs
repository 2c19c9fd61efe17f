//! Features of images, for metrics that compare sets of images.

mod file;

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use rayon::prelude::*;
use tch::{Device, Kind, Tensor};

use crate::attend::{KeyBias, NoProbe};
use crate::error::{Error, Result};
use crate::finite::Output;
use crate::identity::{files_sha256, model_sha256};
use crate::image::Rgb8;
use crate::inception::{self, Inception};
use crate::vision::{LoadOptions, VisionConfig, VisionModel};
use crate::weights::headers_only;
pub use file::FeatureFile;

/// Path of the miniature ViT in the repository.
const MINI: &str = "datasets/mini/models/vit";

/// The choice of features: `inception:FILE`, `clip:DIR`, `mini` or `mini:DIR`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FeatureSource {
    /// Inception-v3 of the FID literature: the published file, or its tensors as safetensors.
    Inception(PathBuf),
    /// The projected image embedding of a CLIP directory.
    Clip(PathBuf),
    /// The miniature ViT: CLS after the last layer norm, and its classes.
    Mini(PathBuf),
}

impl FromStr for FeatureSource {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let refuse = |reason: &str| Error::Input { input: "features", reason: format!("`{text}` {reason}") };
        match text.split_once(':') {
            None if text == "mini" => Ok(Self::Mini(MINI.into())),
            None if matches!(text, "inception" | "clip") => {
                Err(refuse("needs a path: inception:FILE, clip:DIR"))
            }
            Some((_, "")) => Err(refuse("names no file or folder")),
            Some(("inception", path)) => Ok(Self::Inception(path.into())),
            Some(("clip", path)) => Ok(Self::Clip(path.into())),
            Some(("mini", path)) => Ok(Self::Mini(path.into())),
            _ => Err(refuse("is unknown; give inception:FILE, clip:DIR or mini")),
        }
    }
}

impl FeatureSource {
    /// Returns the identity of the weights: the SHA-256 of the file, or [`model_sha256`] of the directory.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn sha256(&self) -> Result<String> {
        match self {
            Self::Inception(path) if path.is_file() => files_sha256([path.clone()]),
            Self::Inception(path) => files_sha256(crate::weights::weight_files(path)?),
            Self::Clip(path) | Self::Mini(path) => model_sha256(path, None),
        }
    }

    /// Checks that the file or folder exists, without reading it.
    ///
    /// # Errors
    /// It does not exist; the message says how to get it.
    pub fn present(&self) -> Result<()> {
        let (Self::Inception(path) | Self::Clip(path) | Self::Mini(path)) = self;
        let how = match self {
            _ if path.exists() => return Ok(()),
            Self::Inception(_) => {
                "no such file; `tokenrank fetch inception-2015-12-05` downloads Inception-v3 of the FID \
                                   literature, pt_inception-2015-12-05-6726825d.pth"
                    .to_owned()
            }
            Self::Clip(_) => return Err(Error::NoClipFolder { path: path.clone() }),
            Self::Mini(_) => {
                "no such folder; run in the root of the repository, or name the folder: mini:DIR".to_owned()
            }
        };
        Err(Error::Directory { path: path.clone(), reason: how })
    }

    /// Checks what [`FeatureSource::load`] would load; reads only the headers of the weights.
    ///
    /// # Errors
    /// As [`FeatureSource::load`].
    pub fn check(&self) -> Result<()> {
        headers_only(|| self.load(Device::Cpu))
    }

    /// Returns the number of features of an image.
    ///
    /// # Errors
    /// The configuration of a directory cannot be read.
    pub fn width(&self) -> Result<usize> {
        let width = match self {
            Self::Inception(_) => inception::WIDTH,
            Self::Clip(path) | Self::Mini(path) => {
                let config = VisionConfig::from_dir(path)?;
                config.projection().unwrap_or_else(|| config.width())
            }
        };
        Ok(width.max(0) as usize)
    }

    /// Loads the network in float32.
    ///
    /// # Errors
    /// The file or folder is incomplete, or is not the network that the source names.
    pub fn load(&self, device: Device) -> Result<FeatureNetwork> {
        let vision = |path: &Path| VisionModel::load(path, &LoadOptions { device, ..LoadOptions::default() });
        Ok(match self {
            Self::Inception(path) => FeatureNetwork::Inception(Inception::load(path, Kind::Float, device)?),
            Self::Clip(path) => {
                if VisionConfig::from_dir(path)?.projection().is_none() {
                    let reason = "not a CLIP with a projection (`visual_projection`), whose projected image embedding is wanted as \
                                  feature"
                        .to_owned();
                    return Err(Error::Directory { path: path.clone(), reason });
                }
                FeatureNetwork::Clip(vision(path)?)
            }
            Self::Mini(path) => {
                let model = vision(path)?;
                if model.network.classes().is_none() {
                    return Err(Error::NoClassifier { path: path.clone() });
                }
                FeatureNetwork::Mini(model)
            }
        })
    }
}

/// A network that computes features of images.
pub enum FeatureNetwork {
    /// Inception-v3 of the FID literature: pooled features and logits without bias.
    Inception(Inception),
    /// CLIP: projected image embeddings, no classes.
    Clip(VisionModel),
    /// The miniature ViT: CLS after the last layer norm, and class logits.
    Mini(VisionModel),
}

/// Features and logits of one image, in float32.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageFeatures {
    /// `[d]`.
    pub features: Vec<f32>,
    /// `[classes]`; `None` for a network without classes.
    pub logits: Option<Vec<f32>>,
}

impl fmt::Display for FeatureNetwork {
    /// Writes the name of the features, as shown next to every number that depends on them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Inception(network) if network.is_published() => "Inception-v3",
            Self::Inception(_) => "Inception-v3, not the published weights",
            Self::Clip(_) => "CLIP",
            Self::Mini(_) => "miniature ViT",
        })
    }
}

impl FeatureNetwork {
    /// Whether distances between these features are comparable with published FID and KID values.
    #[must_use]
    pub fn is_published_inception(&self) -> bool {
        matches!(self, Self::Inception(network) if network.is_published())
    }

    /// Returns the features of images of any sizes, in order. Each image is resized to the network's input size.
    ///
    /// # Errors
    /// An image cannot be resized; libtorch fails; features or logits are not finite.
    pub fn of(&self, images: &[Rgb8]) -> Result<Vec<ImageFeatures>> {
        if images.is_empty() {
            return Ok(Vec::new());
        }
        let (features, logits) = match self {
            Self::Inception(network) => {
                let pixels = |image| network.pixels(&Inception::rgb(image)?);
                let pixels = images.iter().map(pixels).collect::<Result<Vec<_>>>()?;
                let found = network.forward(&Tensor::f_cat(&pixels, 0)?, &mut |_, _| {})?;
                let features = Output { name: "features of Inception", kind: Kind::Float };
                let logits = Output { name: "class logits of Inception", kind: Kind::Float };
                (features.check(found.pool)?, Some(logits.check(found.logits_unbiased)?))
            }
            Self::Clip(model) | Self::Mini(model) => {
                let VisionModel { network, preprocessor } = model;
                let pixels = images.par_iter().map(|image| preprocessor.apply(image));
                let pixels = pixels.collect::<Result<Vec<_>, _>>()?;
                let embedded = network.embed(&VisionModel::batch(&pixels)?)?;
                let encoded = network.encode(&embedded, &KeyBias::none(), &mut NoProbe)?;
                (network.embedding(&encoded)?, network.logits(&encoded)?)
            }
        };
        let features = rows(&features)?;
        let logits = match logits {
            Some(logits) => rows(&logits)?.into_iter().map(Some).collect(),
            None => vec![None; features.len()],
        };
        Ok(features
            .into_iter()
            .zip(logits)
            .map(|(features, logits)| ImageFeatures { features, logits })
            .collect())
    }
}

/// Returns the rows of `[batch, d]`.
fn rows(table: &Tensor) -> Result<Vec<Vec<f32>>> {
    let (_, width) = table.size2()?;
    let flat = table.f_to_device(Device::Cpu)?.f_to_kind(Kind::Float)?.f_contiguous()?.f_reshape([-1])?;
    let flat = Vec::<f32>::try_from(&flat)?;
    Ok(flat.chunks_exact(width.max(1) as usize).map(<[f32]>::to_vec).collect())
}
