//! Pipelines whose network predicts the noise in latents, as Stable Diffusion's does: the interface that experiments
//! use.

use std::collections::BTreeMap;

use tch::{Device, Kind, Tensor};

use super::pictures::{ImageDecoder, ImageEncoder};
use crate::attend::AttentionProbe;
use crate::diffusion::{SamplerConfig, SamplerKind};
use crate::error::Result;
use crate::perturbation::Perturbation;
use crate::site::{Stream, UnetLayer};

/// The input of one pass. Tensors may have any float type and be on any device.
pub struct NoiseInput<'a> {
    /// Latents with noise in them, `[batch, channels, h, w]`.
    pub latents: &'a Tensor,
    /// Timestep of the training schedule, the same for the whole batch. Larger is noisier.
    pub timestep: f64,
    /// Encoded prompts, `[batch, tokens, width]`.
    pub text: &'a Tensor,
    /// The sampling step. A probe sees it as the step of each site.
    pub step: usize,
    /// A change of self-attention, for guidance.
    pub perturbation: Option<&'a Perturbation>,
}

/// A network that predicts the noise in latents.
pub trait NoisePredictor {
    /// The type that the network computes in.
    fn kind(&self) -> Kind;

    /// The device of the network.
    fn device(&self) -> Device;

    /// Returns the predicted noise, in the shape of the latents.
    ///
    /// # Errors
    /// An input of another shape; libtorch or the probe fails.
    fn predict(&self, input: &NoiseInput<'_>, probe: &mut dyn AttentionProbe) -> Result<Tensor>;

    /// Runs the pass only for the probe: it ends after the last block, without a prediction.
    ///
    /// # Errors
    /// As [`NoisePredictor::predict`].
    fn watch(&self, input: &NoiseInput<'_>, probe: &mut dyn AttentionProbe) -> Result<()>;
}

/// A pipeline around a [`NoisePredictor`]. Its networks are loaded on request and unloaded when the caller drops them.
pub trait NoisePipeline {
    /// Height and width in pixels of the images that the network was trained on.
    fn default_size(&self) -> (i64, i64);

    /// Returns the shape `[channels, h, w]` of the latents, and of the noise, for an image of `(height, width)` pixels.
    ///
    /// # Errors
    /// The network does not support one of the sides.
    fn latent_shape(&self, size: (i64, i64)) -> Result<[i64; 3]>;

    /// The streams of attention that a pass shows to a probe, each with its number of blocks.
    fn streams(&self) -> BTreeMap<Stream, usize>;

    /// Returns rows and columns of the image tokens of a layer, for latents of (rows, columns).
    fn grid(&self, layer: UnetLayer, latents: (i64, i64)) -> (i64, i64);

    /// Returns the settings of a sampler: of `kind`, or by default of the pipeline's own sampler.
    ///
    /// # Errors
    /// The pipeline's settings cannot be read, or name an unsupported sampler.
    fn sampler(&self, kind: Option<SamplerKind>) -> Result<SamplerConfig>;

    /// Encodes texts, each to `[tokens, width]` on the CPU. The text encoder is loaded and unloaded.
    ///
    /// # Errors
    /// The encoder cannot be loaded, or a text cannot be tokenized; libtorch fails.
    fn encode_texts(&self, texts: &[String]) -> Result<Vec<Tensor>>;

    /// Loads the network.
    ///
    /// # Errors
    /// Its weights cannot be read.
    fn network(&self) -> Result<Box<dyn NoisePredictor>>;

    /// Loads the encoder half of the autoencoder.
    ///
    /// # Errors
    /// Its weights cannot be read.
    fn image_encoder(&self) -> Result<ImageEncoder>;

    /// Loads the decoder half of the autoencoder.
    ///
    /// # Errors
    /// Its weights cannot be read.
    fn image_decoder(&self) -> Result<ImageDecoder>;
}
