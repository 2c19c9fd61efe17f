//! A whole pipeline of Stable Diffusion 1 or 2 as diffusers stores it: `model_index.json` and a folder for each component.
//!
//! [`SdPipeline`] keeps no network in memory: texts are encoded first by a text tower that is then unloaded, and
//! callers own the UNet and the halves of the autoencoder that they load.

mod component;
mod predict;

use std::path::{Path, PathBuf};

use tch::{Device, Kind, Tensor};

use super::{Unet, UnetConfig};
use crate::attend::NoProbe;
use crate::clip::{self, ClipTextEncoder};
use crate::error::Result;
pub use crate::pipeline::{Draw, ImageEncoder, Phase};
use crate::pipeline::{Granularity, Parts, one_by_one};
use crate::vae::{Autoencoder, AutoencoderConfig, Decoder};
use crate::weights::headers_only;
pub use component::Component;

/// Default size of the latents if the UNet's configuration has none: Stable Diffusion 1's.
const USUAL_LATENTS: (i64, i64) = (64, 64);

/// An open pipeline directory. Its networks are loaded when they are needed.
///
/// ```no_run
/// use models::attend::NoProbe;
/// use models::sd::pipeline::SdPipeline;
/// use models::{Device, Kind, noise};
/// # fn main() -> models::Result<()> {
/// let dir = std::path::Path::new("stable-diffusion-v1-5");
/// let pipeline = SdPipeline::open(dir, Kind::Half, Device::Cuda(0))?;
/// let texts = pipeline.encode_texts(&["a cat".into()])?;
/// let [channels, height, width] = pipeline.latent_shape(pipeline.default_size())?;
/// let latents = noise::normal(&[1, channels, height, width], 0)?;
/// let unet = pipeline.unet()?;
/// let predicted = unet.forward(&latents, 981.0, &texts[0].unsqueeze(0), 0, &mut NoProbe)?;
/// # Ok(()) }
/// ```
pub struct SdPipeline {
    parts: Parts<Component>,
    unet: UnetConfig,
    vae: AutoencoderConfig,
    tokenizer: clip::Tokenizer,
}

impl SdPipeline {
    /// Opens a directory whose `model_index.json` names the components of a `StableDiffusionPipeline`, whatever its
    /// class: reads every configuration except the scheduler's, and the tokenizer, and checks that no weight file is
    /// missing and that the networks fit together. No weights are read. Networks will compute in `kind` on `device`.
    ///
    /// # Errors
    /// The directory is another pipeline, files are missing (the error names all of them), or a configuration is not
    /// Stable Diffusion's or does not fit the others.
    pub fn open(dir: &Path, kind: Kind, device: Device) -> Result<Self> {
        let parts = Parts::open(dir, kind, device)?;
        let folder = |component| parts.folder(component);
        let pipeline = Self {
            unet: UnetConfig::from_dir(&folder(Component::Unet))?,
            vae: AutoencoderConfig::from_dir(&folder(Component::Vae))?,
            tokenizer: clip::Tokenizer::from_dir(&folder(Component::ClipTokenizer))?,
            parts,
        };
        pipeline.check_fit()?;
        Ok(pipeline)
    }

    /// Calls `watch` whenever a component is loaded or unloaded, for progress, logs and memory readings.
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

    /// The device that networks compute on.
    pub fn device(&self) -> Device {
        self.parts.device
    }

    /// Configuration of the UNet.
    pub fn unet_config(&self) -> &UnetConfig {
        &self.unet
    }

    /// Configuration of the autoencoder.
    pub fn vae_config(&self) -> &AutoencoderConfig {
        &self.vae
    }

    /// CLIP's tokenizer.
    pub fn tokenizer(&self) -> &clip::Tokenizer {
        &self.tokenizer
    }

    /// The folder with `scheduler_config.json`.
    pub fn scheduler_dir(&self) -> PathBuf {
        self.parts.folder(Component::Scheduler)
    }

    /// Height and width in pixels of the images that the network was trained on.
    pub fn default_size(&self) -> (i64, i64) {
        let (height, width) = self.unet.sample_size().unwrap_or(USUAL_LATENTS);
        let pixels = self.vae.pixels_per_latent();
        (height * pixels, width * pixels)
    }

    /// Returns the shape `[channels, h, w]` of the latents, and of the noise, for an image of `(height, width)` pixels.
    ///
    /// # Errors
    /// A side is not a multiple of the UNet's coarsest level: 64 pixels in Stable Diffusion 1.
    pub fn latent_shape(&self, size: (i64, i64)) -> Result<[i64; 3]> {
        let (rows, columns) = self.granularity().count(size)?;
        let coarsest = self.unet.coarsest();
        Ok([self.vae.latent_channels, rows * coarsest, columns * coarsest])
    }

    /// Encodes each text to `[tokens, cross_attention_dim]`: the text tower's tokens after its last layer norm, padded
    /// to the tokenizer's maximum (77), on the CPU in the pipeline's type. Padding takes part in attention, as in
    /// diffusers; a text that is too long is cut. The tower is loaded and unloaded; without texts, it is not loaded.
    ///
    /// # Errors
    /// The tower cannot be loaded, or a text cannot be tokenized; libtorch fails.
    pub fn encode_texts(&self, texts: &[String]) -> Result<Vec<Tensor>> {
        if texts.is_empty() {
            return Ok(Vec::new());
        }
        let ids = texts.iter().map(|text| self.tokenizer.encode(text)).collect::<Result<Vec<_>>>()?;
        self.parts.with(Component::ClipText, ClipTextEncoder::load, |tower| {
            one_by_one(texts, &ids, |ids| tower.hidden(ids, &mut NoProbe))
        })
    }

    /// Loads the UNet. It is unloaded when the caller drops it.
    ///
    /// # Errors
    /// As [`Unet::load`].
    pub fn unet(&self) -> Result<Unet> {
        self.parts.load(Component::Unet, Unet::load)
    }

    /// Loads the encoder half of the autoencoder. It is unloaded when the caller drops it.
    ///
    /// # Errors
    /// As [`crate::vae::Encoder::load`].
    pub fn image_encoder(&self) -> Result<ImageEncoder> {
        self.parts.load(Component::Vae, |dir, kind, device| {
            ImageEncoder::load(dir, self.granularity(), kind, device)
        })
    }

    /// Loads the decoder half of the autoencoder, which reads unscaled latents ([`AutoencoderConfig::unscale`]). It is
    /// unloaded when the caller drops it.
    ///
    /// # Errors
    /// As [`Decoder::load`].
    pub fn decoder(&self) -> Result<Decoder> {
        self.parts.load(Component::Vae, Decoder::load)
    }

    /// Checks names, shapes and types of the tensors of all networks; only headers are read.
    ///
    /// # Errors
    /// The error of the first network that cannot be loaded.
    pub fn check_weights(&self) -> Result<()> {
        headers_only(|| {
            self.parts.load(Component::ClipText, ClipTextEncoder::load)?;
            self.parts.load(Component::Vae, Autoencoder::load)?;
            self.unet()
        })
    }

    /// Returns every file that decides what the pipeline computes, in a fixed order: configurations, tokenizer and
    /// weights.
    ///
    /// # Errors
    /// Files of a component have been removed.
    pub fn files(&self) -> Result<Vec<PathBuf>> {
        self.parts.files()
    }

    /// Returns the SHA-256 over [`SdPipeline::files`] in hexadecimal: the identity of the pipeline, like
    /// [`crate::model_sha256`] for one network. Reads all files.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn sha256(&self) -> Result<String> {
        self.parts.sha256()
    }

    /// Returns the size in bytes of each network's weights when loaded.
    ///
    /// # Errors
    /// A weight file is not safetensors; only headers are read.
    pub fn weight_bytes(&self) -> Result<Vec<(Component, u64)>> {
        self.parts.weight_bytes()
    }

    /// Returns the granularity of image sizes: one pixel of the UNet's coarsest level.
    fn granularity(&self) -> Granularity {
        let (latent, coarsest) = (self.vae.pixels_per_latent(), self.unet.coarsest());
        let since = format!(
            "a latent stands for {latent} by {latent} pixels and the UNet's coarsest level for {coarsest} by \
             {coarsest} latents"
        );
        Granularity { pixels: latent * coarsest, since }
    }
}
