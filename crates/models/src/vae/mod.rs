//! The autoencoder of latent diffusion (arXiv 2112.10752) as diffusers' `AutoencoderKL` stores it: FLUX's and Stable
//! Diffusion's.
//!
//! The halves load separately, since a program that only encodes images does not need the decoder.

mod attention;
mod blocks;
mod config;
mod halves;
mod posterior;

use std::path::Path;

use tch::{Device, Kind, Tensor};

use crate::error::Result;
use crate::weights::Weights;
pub use config::AutoencoderConfig;
pub use halves::{Decoder, Encoder};
pub use posterior::Posterior;

/// Encoder and decoder on a device.
///
/// ```no_run
/// # fn main() -> models::Result<()> {
/// let dir = std::path::Path::new("FLUX.1-schnell/vae");
/// let vae = models::vae::Autoencoder::load(dir, tch::Kind::Float, tch::Device::Cpu)?;
/// # let pixels = tch::Tensor::zeros([1, 3, 512, 512], (tch::Kind::Float, tch::Device::Cpu));
/// let latents = vae.scale(&vae.encode(&pixels)?.mode())?;
/// let again = vae.decode(&vae.unscale(&latents)?)?;
/// # Ok(()) }
/// ```
pub struct Autoencoder {
    encoder: Encoder,
    decoder: Decoder,
}

impl Autoencoder {
    /// Reads a directory in diffusers' layout (`config.json` + `diffusion_pytorch_model*.safetensors`), the folder
    /// `vae` of a pipeline, and checks that every tensor is used.
    ///
    /// # Errors
    /// A tensor is missing, superfluous or has a wrong shape, or the configuration belongs to another network.
    pub fn load(dir: &Path, kind: Kind, device: Device) -> Result<Self> {
        let config = AutoencoderConfig::from_dir(dir)?;
        let weights = Weights::open(dir, config.computes_in(kind), device)?;
        let vae = Self {
            encoder: Encoder::read(&weights, config.clone())?,
            decoder: Decoder::read(&weights, config)?,
        };
        weights.finish()?;
        Ok(vae)
    }

    /// The configuration.
    pub fn config(&self) -> &AutoencoderConfig {
        self.encoder.config()
    }

    /// As [`Encoder::encode`].
    ///
    /// # Errors
    /// As there.
    pub fn encode(&self, pixels: &Tensor) -> Result<Posterior> {
        self.encoder.encode(pixels)
    }

    /// As [`Decoder::decode`].
    ///
    /// # Errors
    /// As there.
    pub fn decode(&self, latents: &Tensor) -> Result<Tensor> {
        self.decoder.decode(latents)
    }

    /// As [`AutoencoderConfig::scale`].
    ///
    /// # Errors
    /// libtorch fails.
    pub fn scale(&self, latents: &Tensor) -> Result<Tensor> {
        self.config().scale(latents)
    }

    /// As [`AutoencoderConfig::unscale`].
    ///
    /// # Errors
    /// libtorch fails.
    pub fn unscale(&self, latents: &Tensor) -> Result<Tensor> {
        self.config().unscale(latents)
    }
}
