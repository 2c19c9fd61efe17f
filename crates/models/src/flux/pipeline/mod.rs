//! A whole FLUX pipeline as diffusers stores it: `model_index.json` and a folder for each component.
//!
//! The components are too large to be on most devices at the same time. So [`FluxPipeline`] loads each network when it
//! is needed and unloads it afterwards: first all texts pass through CLIP, then all through T5, then all images through
//! the autoencoder, then the transformer runs. [`FluxPipeline::watch`] reports each loading and unloading.

mod capture;
mod index;
mod joint;
mod pass;
mod pictures;
mod reference;
mod texts;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tch::{Device, Kind};

use super::{FluxConfig, FluxTransformer};
use crate::error::Result;
use crate::flow_match::{FlowMatchConfig, Schedule};
pub use crate::pipeline::{Draw, EncodedText, ImageEncoder, Phase};
use crate::pipeline::{Granularity, Parts, PipelineKind, is_pipeline};
use crate::t5::T5Config;
use crate::vae::{Autoencoder, AutoencoderConfig};
use crate::weights::headers_only;
use crate::{clip, t5};
pub use capture::{CaptureOptions, CapturePlan, PreparedCapture};
pub use index::Component;
pub use pass::{Denoising, Generation};
pub use reference::{PreparedReference, ReferenceSize};

/// Latent pixels along one side of a token.
const LATENTS_PER_TOKEN: i64 = 2;

/// An open FLUX pipeline directory. Its networks are loaded when they are needed.
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
/// let latents = pipeline.encode_images([Ok::<_, models::Error>(pixels)], Draw::Mode)?.remove(0)?;
/// let transformer = pipeline.transformer()?;
/// let schedule = pipeline.schedule(4, (512, 512))?;
/// let noise = noise::normal(&latents.size(), 0)?;
/// let (transformer, schedule, text) = (&transformer, &schedule, &texts[0]);
/// let run = Denoising { transformer, schedule, text, reference: None, guidance: None };
/// let velocity = run.noised_pass(2, &latents, &noise, &mut NoProbe)?;
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
    /// Opens a directory whose `model_index.json` names the components of a `FluxPipeline`, whatever its class, except
    /// those of FLUX.1 Kontext: reads every configuration and both tokenizers, and checks that no weight file is missing
    /// and that the networks fit together. No weights are read. Networks will compute in `kind` on `device`.
    ///
    /// # Errors
    /// The directory is another pipeline, files are missing (the error names all of them), or a configuration is not
    /// FLUX's or does not fit the others.
    pub fn open(dir: &Path, kind: Kind, device: Device) -> Result<Self> {
        Self::of_parts(Parts::open(dir, kind, device)?)
    }

    /// Opens a directory as [`FluxPipeline::open`] does, also one of FLUX.1 Kontext. Experiments do not use it, since they
    /// have no reference images.
    ///
    /// # Errors
    /// As [`FluxPipeline::open`].
    pub fn open_any(dir: &Path, kind: Kind, device: Device) -> Result<Self> {
        let kinds = [PipelineKind::Flux, PipelineKind::FluxKontext];
        Self::of_parts(Parts::open_any(dir, &kinds, kind, device)?)
    }

    fn of_parts(parts: Parts<Component>) -> Result<Self> {
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

    /// Whether a directory is a pipeline of any kind rather than a single network.
    pub fn is_pipeline(dir: &Path) -> bool {
        is_pipeline(dir)
    }

    /// Calls `watch` whenever a component is loaded or unloaded, for progress, logs and memory readings.
    #[must_use]
    pub fn watch(mut self, watch: impl Fn(Component, Phase) + Send + Sync + 'static) -> Self {
        self.parts.watch(watch);
        self
    }

    /// Whether the pipeline is FLUX.1 Kontext, which reads a reference image.
    pub fn is_kontext(&self) -> bool {
        self.parts.pipeline == PipelineKind::FluxKontext
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.parts.dir
    }

    /// The type that networks compute in.
    pub fn kind(&self) -> Kind {
        self.parts.kind
    }

    /// The device that networks compute on.
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

    /// Maximum number of tokens of T5's tokenizer: its `model_max_length`, or 512 if that is missing.
    pub(crate) fn most_text_tokens(&self) -> usize {
        self.most_text_tokens
    }

    /// Reads T5's tokenizer for texts of `length` tokens (FLUX schnell 256, dev 512).
    ///
    /// # Errors
    /// The tokenizer does not support this length.
    pub fn t5_tokenizer(&self, length: usize) -> Result<t5::Tokenizer> {
        t5::Tokenizer::from_dir(&self.parts.folder(Component::T5Tokenizer), Some(length))
    }

    /// Side of the square of pixels that one image token stands for: 16 in FLUX.1.
    pub fn pixels_per_token(&self) -> i64 {
        LATENTS_PER_TOKEN * self.vae.pixels_per_latent()
    }

    /// Returns rows and columns of the image tokens of an image of `(height, width)` pixels.
    ///
    /// # Errors
    /// A side is not a multiple of [`FluxPipeline::pixels_per_token`].
    pub fn grid(&self, size: (i64, i64)) -> Result<(i64, i64)> {
        self.granularity().count(size)
    }

    /// Returns the shape `[channels, h, w]` of the latents, and of the noise, for an image of `(height, width)` pixels.
    ///
    /// # Errors
    /// As [`FluxPipeline::grid`].
    pub fn latent_shape(&self, size: (i64, i64)) -> Result<[i64; 3]> {
        let (rows, columns) = self.grid(size)?;
        Ok([self.vae.latent_channels, LATENTS_PER_TOKEN * rows, LATENTS_PER_TOKEN * columns])
    }

    /// Returns the noise levels of a run of `steps` steps for an image of `(height, width)` pixels.
    ///
    /// # Errors
    /// `steps` is 0; the errors of [`FluxPipeline::grid`].
    pub fn schedule(&self, steps: usize, size: (i64, i64)) -> Result<Schedule> {
        let (rows, columns) = self.grid(size)?;
        Schedule::new(&self.scheduler, steps, rows * columns)
    }

    /// Loads the transformer. It is unloaded when the caller drops it.
    ///
    /// # Errors
    /// As [`FluxTransformer::load`].
    pub fn transformer(&self) -> Result<FluxTransformer> {
        self.parts.load(Component::Transformer, FluxTransformer::load)
    }

    /// Checks names, shapes and types of the tensors of all networks; only headers are read.
    ///
    /// # Errors
    /// The error of the first network that cannot be loaded.
    pub fn check_weights(&self) -> Result<()> {
        headers_only(|| {
            self.parts.load(Component::ClipText, clip::ClipTextEncoder::load)?;
            self.parts.load(Component::T5, t5::T5Encoder::load)?;
            self.parts.load(Component::Vae, Autoencoder::load)?;
            self.transformer()
        })
    }

    /// Returns every file that decides what the pipeline computes, in a fixed order: configurations, tokenizers and
    /// weights.
    ///
    /// # Errors
    /// Files of a component have been removed.
    pub fn files(&self) -> Result<Vec<PathBuf>> {
        self.parts.files()
    }

    /// Returns the SHA-256 over [`FluxPipeline::files`] in hexadecimal: the identity of the pipeline, like
    /// [`crate::model_sha256`] for one network. Reads all files, which takes a minute for 30 gigabytes.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn sha256(&self) -> Result<String> {
        self.parts.sha256()
    }

    /// Returns the size in bytes of each network's weights when loaded. A device needs at least as much memory as the
    /// largest of them.
    ///
    /// # Errors
    /// A weight file is not safetensors; only headers are read.
    pub fn weight_bytes(&self) -> Result<Vec<(Component, u64)>> {
        self.parts.weight_bytes()
    }

    /// Returns the granularity of image sizes: one image token.
    fn granularity(&self) -> Granularity {
        let pixels = self.pixels_per_token();
        Granularity { pixels, since: format!("an image token stands for {pixels} by {pixels} pixels") }
    }
}
