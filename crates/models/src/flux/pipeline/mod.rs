//! A whole FLUX pipeline as diffusers stores it: `model_index.json` and a folder for each component.
//!
//! The components are too large to stand side by side on most devices, so [`FluxPipeline`] holds none of the networks. It
//! loads one when it is needed and lets it go when its work is done: first all texts through CLIP, then all through T5,
//! then all images through the autoencoder, then the transformer. [`FluxPipeline::watch`] tells when.

mod capture;
mod index;
mod joint;
mod pass;
mod pictures;
mod texts;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tch::{Device, Kind};

use super::{FluxConfig, FluxTransformer};
use crate::error::Result;
use crate::flow_match::{FlowMatchConfig, Schedule};
pub use crate::pipeline::{Draw, EncodedText, ImageEncoder, Phase};
use crate::pipeline::{Granularity, Parts, is_pipeline};
use crate::t5::T5Config;
use crate::vae::{Autoencoder, AutoencoderConfig};
use crate::weights::headers_only;
use crate::{clip, t5};
pub use capture::{CaptureOptions, CapturePlan, PreparedCapture};
pub use index::Component;
pub use pass::{Denoising, Generation};

/// Pixels of a latent's side that the transformer reads as one token.
const LATENTS_PER_TOKEN: i64 = 2;

/// A FLUX pipeline's directory, opened; its networks are loaded when they are needed.
///
/// ```no_run
/// use models::attend::NoProbe;
/// use models::flux::pipeline::{Denoising, Draw, FluxPipeline};
/// use models::{Device, Kind, noise};
/// # fn main() -> models::Result<()> {
/// let dir = std::path::Path::new("FLUX.1-schnell");
/// let pipeline = FluxPipeline::open(dir, Kind::BFloat16, Device::Cuda(0))?;
/// let texts = pipeline.encode_texts(&["a cat".into()], 256)?;
/// # let pixels = tch::Tensor::zeros([1, 3, 512, 512], (Kind::Float, Device::Cpu));
/// let latents = pipeline.encode_images([Ok::<_, models::Error>(pixels)], Draw::Mode)?;
/// let transformer = pipeline.transformer()?;
/// let schedule = pipeline.schedule(4, (512, 512))?;
/// let noise = noise::normal(&latents[0].size(), 0)?;
/// let run = Denoising { transformer: &transformer, schedule: &schedule, text: &texts[0], guidance: None };
/// let velocity = run.noised_pass(2, &latents[0], &noise, &mut NoProbe)?;
/// # Ok(()) }
/// ```
pub struct FluxPipeline {
    parts: Parts<Component>,
    scheduler: FlowMatchConfig,
    transformer: FluxConfig,
    t5: T5Config,
    vae: AutoencoderConfig,
    clip_tokenizer: Arc<clip::Tokenizer>,
    most_text_tokens: usize,
}

impl FluxPipeline {
    /// Opens a directory whose `model_index.json` names the components of a `FluxPipeline`, whatever its class: reads every
    /// configuration and both tokenizers, and checks that all weight files are there and that the networks fit together. Nothing large is read. Networks
    /// will compute in `kind` on `device`.
    ///
    /// # Errors
    /// Another pipeline, missing files (all are named), or a configuration that is not FLUX's or fits no other.
    pub fn open(dir: &Path, kind: Kind, device: Device) -> Result<Self> {
        let parts = Parts::open(dir, kind, device)?;
        let folder = |component| parts.folder(component);
        let most_text_tokens = t5::Tokenizer::from_dir(&folder(Component::T5Tokenizer), None)?.length();
        let pipeline = Self {
            scheduler: FlowMatchConfig::from_dir(&folder(Component::Scheduler))?,
            transformer: FluxConfig::from_dir(&folder(Component::Transformer))?,
            t5: T5Config::from_dir(&folder(Component::T5))?,
            vae: AutoencoderConfig::from_dir(&folder(Component::Vae))?,
            clip_tokenizer: Arc::new(clip::Tokenizer::from_dir(&folder(Component::ClipTokenizer))?),
            most_text_tokens,
            parts,
        };
        pipeline.check_fit()?;
        Ok(pipeline)
    }

    /// Whether a directory says that it is a pipeline, of whichever kind, and no single network.
    pub fn is_pipeline(dir: &Path) -> bool {
        is_pipeline(dir)
    }

    /// Calls `watch` whenever a component is loaded or leaves, for progress, logs and memory readings.
    #[must_use]
    pub fn watch(mut self, watch: impl Fn(Component, Phase) + Send + Sync + 'static) -> Self {
        self.parts.watch(watch);
        self
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.parts.dir
    }

    /// The type that networks compute in.
    pub fn kind(&self) -> Kind {
        self.parts.kind
    }

    /// Where networks compute.
    pub fn device(&self) -> Device {
        self.parts.device
    }

    /// Configuration of the scheduler.
    pub fn scheduler_config(&self) -> &FlowMatchConfig {
        &self.scheduler
    }

    /// Configuration of the transformer.
    pub fn transformer_config(&self) -> &FluxConfig {
        &self.transformer
    }

    /// Configuration of the autoencoder.
    pub fn vae_config(&self) -> &AutoencoderConfig {
        &self.vae
    }

    /// CLIP's tokenizer.
    pub fn clip_tokenizer(&self) -> &clip::Tokenizer {
        &self.clip_tokenizer
    }

    /// The longest text that T5's tokenizer makes, in tokens: its `model_max_length`, or 512 where it says none.
    pub(crate) fn most_text_tokens(&self) -> usize {
        self.most_text_tokens
    }

    /// T5's tokenizer for texts of `length` tokens (FLUX schnell 256, dev 512). Its files are read anew.
    ///
    /// # Errors
    /// The length is none that the tokenizer knows.
    pub fn t5_tokenizer(&self, length: usize) -> Result<t5::Tokenizer> {
        t5::Tokenizer::from_dir(&self.parts.folder(Component::T5Tokenizer), Some(length))
    }

    /// Side of the square of pixels that one image token stands for: 16 in FLUX.1.
    pub fn pixels_per_token(&self) -> i64 {
        LATENTS_PER_TOKEN * self.vae.pixels_per_latent()
    }

    /// Rows and columns of image tokens of an image of `(height, width)` pixels.
    ///
    /// # Errors
    /// A side that is no multiple of [`FluxPipeline::pixels_per_token`].
    pub fn grid(&self, size: (i64, i64)) -> Result<(i64, i64)> {
        self.granularity().count(size)
    }

    /// Shape `[channels, h, w]` of the latents of an image of `(height, width)` pixels, and of their noise.
    ///
    /// # Errors
    /// As [`FluxPipeline::grid`].
    pub fn latent_shape(&self, size: (i64, i64)) -> Result<[i64; 3]> {
        let (rows, columns) = self.grid(size)?;
        Ok([self.vae.latent_channels, LATENTS_PER_TOKEN * rows, LATENTS_PER_TOKEN * columns])
    }

    /// Noise levels of a run of `steps` steps for an image of `(height, width)` pixels.
    ///
    /// # Errors
    /// No step, or as [`FluxPipeline::grid`].
    pub fn schedule(&self, steps: usize, size: (i64, i64)) -> Result<Schedule> {
        let (rows, columns) = self.grid(size)?;
        Schedule::new(&self.scheduler, steps, rows * columns)
    }

    /// Loads the transformer. It leaves when the caller drops it.
    ///
    /// # Errors
    /// As [`FluxTransformer::load`].
    pub fn transformer(&self) -> Result<FluxTransformer> {
        self.parts.load(Component::Transformer, FluxTransformer::load)
    }

    /// Checks names, shapes and types of the tensors of all networks; only headers are read.
    ///
    /// # Errors
    /// The first network that cannot be loaded.
    pub fn check_weights(&self) -> Result<()> {
        headers_only(|| {
            self.parts.load(Component::ClipText, clip::ClipTextEncoder::load)?;
            self.parts.load(Component::T5, t5::T5Encoder::load)?;
            self.parts.load(Component::Vae, Autoencoder::load)?;
            self.transformer()
        })
    }

    /// Every file that decides what the pipeline computes, in a fixed order: configurations, tokenizers and weights.
    ///
    /// # Errors
    /// A component's files are no longer there.
    pub fn files(&self) -> Result<Vec<PathBuf>> {
        self.parts.files()
    }

    /// SHA-256 over [`FluxPipeline::files`], in hexadecimal: the identity of the pipeline, as
    /// [`crate::model_sha256`] is of one network. Reads everything, which takes a minute for 30 gigabytes.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn sha256(&self) -> Result<String> {
        self.parts.sha256()
    }

    /// Bytes that the weights of each network take when loaded. The largest of them is the least that a device must have.
    ///
    /// # Errors
    /// A weight file is not safetensors; only headers are read.
    pub fn weight_bytes(&self) -> Result<Vec<(Component, u64)>> {
        self.parts.weight_bytes()
    }

    /// What an image token makes of images.
    fn granularity(&self) -> Granularity {
        let pixels = self.pixels_per_token();
        Granularity { pixels, since: format!("an image token stands for {pixels} by {pixels} pixels") }
    }
}
