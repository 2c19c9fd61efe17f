//! Vision transformers with their published preprocessing.

mod embedded;
mod embeddings;
mod encoded;
mod facts;
mod head;
mod network;
mod pooling;
mod registry;
mod source;
mod stored;

use std::path::Path;

use ndarray::Array3;
use tch::{Device, Kind, Tensor};

use crate::error::{Error, Result};
use crate::image::Preprocessor;
pub use embedded::{Blank, Embedded};
pub(crate) use embeddings::{embeddings, mask_token};
pub use encoded::Encoded;
pub(crate) use facts::Facts;
pub(crate) use head::Head;
pub use network::VisionTransformer;
pub(crate) use pooling::{AttentionPool, Pooling};
pub use registry::{VisionConfig, VisionFamily};
pub use source::HeadSource;
pub(crate) use stored::{DeclaredHead, Names, Stored, class_count, labels};

/// Options for loading a network.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// Type of weights and activations.
    pub kind: Kind,
    /// The device.
    pub device: Device,
    /// An image size (height, width) that replaces the one of `preprocessor_config.json`: a plain resize without crop.
    pub image_size: Option<(usize, usize)>,
    /// A classifier for a network without one.
    pub head: Option<HeadSource>,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self { kind: Kind::Float, device: Device::Cpu, image_size: None, head: None }
    }
}

/// A network and its image preprocessing, read from one model directory.
pub struct VisionModel {
    /// The network.
    pub network: VisionTransformer,
    /// Converts 8-bit RGB images to the network's input.
    pub preprocessor: Preprocessor,
}

impl VisionTransformer {
    /// Reads a Hugging Face directory (`config.json` + safetensors) and checks that every tensor is used. `head` adds a
    /// classifier to a network without one.
    ///
    /// # Errors
    /// A tensor is missing, superfluous or has a wrong shape; the network is not supported; the head does not fit it.
    pub fn load(dir: &Path, kind: Kind, device: Device, head: Option<&HeadSource>) -> Result<Self> {
        let config = VisionConfig::from_dir(dir)?;
        let mut network = config.load(dir, kind, device)?;
        if let Some(source) = head {
            source.check(dir, &config)?;
            network.head = source.add_to(network.head, dir, config.width(), kind, device)?;
        }
        Ok(network)
    }
}

impl VisionModel {
    /// Reads `config.json`, the weights and `preprocessor_config.json` of a model directory.
    ///
    /// # Errors
    /// A file of the directory is missing, unreadable or contradicts another.
    pub fn load(dir: &Path, options: &LoadOptions) -> Result<Self> {
        let network = VisionTransformer::load(dir, options.kind, options.device, options.head.as_ref())?;
        let mut preprocessor = Preprocessor::from_dir(dir)?;
        if let Some((height, width)) = options.image_size {
            let (patch_h, patch_w) = network.embeddings.patch;
            if (height as i64) < patch_h || (width as i64) < patch_w {
                return Err(Error::ImageSize { size: (height, width), patch: (patch_h, patch_w) });
            }
            preprocessor = preprocessor.with_size(height, width)?;
        }
        Ok(Self { network, preprocessor })
    }

    /// Returns rows and columns of the grid of patches if they are the same for every image. A remainder at the edge of an
    /// image is cut.
    pub fn grid(&self) -> Option<(usize, usize)> {
        let (height, width) = self.preprocessor.output_size()?;
        let (patch_h, patch_w) = self.network.embeddings.patch;
        let patches = |side: usize, patch: i64| side / usize::try_from(patch).unwrap_or(1).max(1);
        Some((patches(height, patch_h), patches(width, patch_w)))
    }

    /// Stacks preprocessed images `[3, h, w]` into one batch `[images, 3, h, w]` on the host, float32.
    ///
    /// # Errors
    /// The images differ in size.
    pub fn batch<'a>(images: impl IntoIterator<Item = &'a Array3<f32>>) -> Result<Tensor> {
        let images: Vec<&Array3<f32>> = images.into_iter().collect();
        if let Some(pair) = images.windows(2).find(|pair| pair[0].dim() != pair[1].dim()) {
            return Err(Error::MixedSizes { first: pair[0].dim(), second: pair[1].dim() });
        }
        let tensors = images
            .iter()
            .map(|image| {
                let (channels, height, width) = image.dim();
                let contiguous = image.as_standard_layout();
                let flat = Tensor::f_from_slice(contiguous.as_slice().unwrap_or_default())?;
                flat.f_reshape([channels as i64, height as i64, width as i64])
            })
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Tensor::f_stack(&tensors, 0)?)
    }
}
