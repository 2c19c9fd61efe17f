//! Pipelines whose network predicts the noise in latents, as Stable Diffusion's does: what experiments ask of them.

use std::collections::BTreeMap;

use tch::{Device, Kind, Tensor};

use super::pictures::{ImageDecoder, ImageEncoder};
use crate::attend::AttentionProbe;
use crate::diffusion::{SamplerConfig, SamplerKind};
use crate::error::Result;
use crate::site::Stream;

/// What one pass reads. Tensors may have any float type and live anywhere.
pub struct NoiseInput<'a> {
    /// Latents with noise in them, `[batch, channels, h, w]`.
    pub latents: &'a Tensor,
    /// How noisy they are, counted as in training; all of a batch share it.
    pub timestep: f64,
    /// Encoded prompts, `[batch, tokens, width]`.
    pub text: &'a Tensor,
    /// The step that the sites have which a probe sees.
    pub step: usize,
}

/// A network that predicts the noise in latents.
pub trait NoisePredictor {
    /// The type that the network computes in.
    fn kind(&self) -> Kind;

    /// Where the network lives.
    fn device(&self) -> Device;

    /// The predicted noise, of the shape of the latents.
    ///
    /// # Errors
    /// An input of another shape; libtorch or the probe fails.
    fn predict(&self, input: &NoiseInput<'_>, probe: &mut dyn AttentionProbe) -> Result<Tensor>;

    /// The same pass for the probe's sake: it ends behind the last block, without a prediction.
    ///
    /// # Errors
    /// As [`NoisePredictor::predict`].
    fn watch(&self, input: &NoiseInput<'_>, probe: &mut dyn AttentionProbe) -> Result<()>;
}

/// A pipeline around a [`NoisePredictor`]. Its networks are loaded when they are asked for and leave when they are dropped.
pub trait NoisePipeline {
    /// Height and width in pixels of the images that the network was trained on.
    fn default_size(&self) -> (i64, i64);

    /// Shape `[channels, h, w]` of the latents of an image of `(height, width)` pixels, and of their noise.
    ///
    /// # Errors
    /// A side that the network cannot have.
    fn latent_shape(&self, size: (i64, i64)) -> Result<[i64; 3]>;

    /// The streams of attention that a pass shows to a probe, each with its number of blocks.
    fn streams(&self) -> BTreeMap<Stream, usize>;

    /// Settings of a sampler: of `kind`, or of the one that the pipeline comes with.
    ///
    /// # Errors
    /// The pipeline's settings cannot be read, or are those of a sampler that is not known.
    fn sampler(&self, kind: Option<SamplerKind>) -> Result<SamplerConfig>;

    /// What the network reads of each text, `[tokens, width]`, on the CPU. The encoder of texts is loaded and let go.
    ///
    /// # Errors
    /// The encoder cannot be loaded, a text not be tokenized; libtorch fails.
    fn encode_texts(&self, texts: &[String]) -> Result<Vec<Tensor>>;

    /// Loads the network.
    ///
    /// # Errors
    /// Its weights cannot be read.
    fn network(&self) -> Result<Box<dyn NoisePredictor>>;

    /// Loads the half of the autoencoder that makes latents of images.
    ///
    /// # Errors
    /// Its weights cannot be read.
    fn image_encoder(&self) -> Result<ImageEncoder>;

    /// Loads the half of the autoencoder that makes images of latents.
    ///
    /// # Errors
    /// Its weights cannot be read.
    fn image_decoder(&self) -> Result<ImageDecoder>;
}
