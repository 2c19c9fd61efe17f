//! Vision transformers with the preprocessing they were published with.

mod embeddings;
mod encoded;
mod facts;
mod head;
mod network;
mod registry;
mod source;
mod stored;

use std::path::Path;

use ndarray::Array3;
use tch::{Device, Kind, Tensor};

use crate::error::{Error, Result};
use crate::image::Preprocessor;
pub(crate) use embeddings::embeddings;
pub use encoded::Encoded;
pub(crate) use facts::Facts;
pub(crate) use head::Head;
pub use network::VisionTransformer;
pub use registry::{VisionConfig, VisionFamily};
pub use source::HeadSource;
pub(crate) use stored::{DeclaredHead, Names, Stored, class_count, labels};

/// How to load a network.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// Type of weights and activations.
    pub kind: Kind,
    /// Where it runs.
    pub device: Device,
    /// Another image size (height, width) than `preprocessor_config.json` gives: a plain resize without crop.
    pub image_size: Option<(usize, usize)>,
    /// Classes for a network that has none of its own.
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
    /// From 8-bit RGB to the network's pixels.
    pub preprocessor: Preprocessor,
}

impl VisionTransformer {
    /// Reads a Hugging Face directory (`config.json` + safetensors) and checks that every tensor is used. `head` gives
    /// classes to a network that has none of its own.
    ///
    /// # Errors
    /// A missing, misshapen or superfluous tensor, a network that is not known, a head that does not fit it.
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
    /// Anything missing, unreadable or contradictory in the directory.
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

    /// Stacks preprocessed images `[3, h, w]` to one batch `[images, 3, h, w]` on the host, float32.
    ///
    /// # Errors
    /// The images differ in size.
    pub fn batch(images: &[Array3<f32>]) -> Result<Tensor> {
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
