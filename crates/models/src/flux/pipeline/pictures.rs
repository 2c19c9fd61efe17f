//! Encodes images to latents and decodes latents to images.

use std::path::Path;

use tch::{Device, Kind, Tensor};

use super::{Component, FluxPipeline};
use crate::error::{Error, Result};
use crate::not_finite::NotFinite;
use crate::pipeline::{Draw, ImageEncoder};
use crate::vae::Decoder;

impl FluxPipeline {
    /// Loads the encoder half of the autoencoder. It is unloaded when the caller drops it.
    ///
    /// # Errors
    /// As [`crate::vae::Encoder::load`].
    pub fn image_encoder(&self) -> Result<ImageEncoder> {
        self.parts.load(Component::Vae, |dir, kind, device| self.encoder(dir, kind, device))
    }

    /// Returns scaled latents `[channels, h, w]` of every image, on the CPU in the pipeline's type; an image whose latents
    /// are not finite does not affect the others. `pixels` gives
    /// batches `[batch, 3, height, width]` from -1 to 1 of at least one image; sizes may differ between batches. It is
    /// read one batch at a time, so that the images need not be in memory at once. The encoder is loaded once.
    ///
    /// # Errors
    /// The first error of `pixels`; the errors of [`ImageEncoder::encode`].
    pub fn encode_images<E: From<Error>>(
        &self,
        pixels: impl IntoIterator<Item = Result<Tensor, E>>,
        draw: Draw,
    ) -> Result<Vec<Result<Tensor, NotFinite>>, E> {
        let load = |dir: &Path, kind, device| self.encoder(dir, kind, device);
        let mut failed = None;
        let encoded = self.parts.with(Component::Vae, load, |encoder| {
            let mut latents = Vec::new();
            for batch in pixels {
                let batch = match batch {
                    Ok(batch) => batch,
                    Err(error) => {
                        failed = Some(error);
                        break;
                    }
                };
                for i in 0..batch.size().first().copied().unwrap_or(0) {
                    let one = batch.f_narrow(0, i, 1)?;
                    let number = latents.len() as u64;
                    latents.push(match encoder.encode(&one, draw.of_image(number)) {
                        Ok(encoded) => Ok(encoded.f_squeeze_dim(0)?),
                        Err(error) => Err(error.into_not_finite()?),
                    });
                }
            }
            Ok(latents)
        })?;
        failed.map_or(Ok(encoded), Err)
    }

    /// Decodes scaled latents `[batch, channels, h, w]` to pixels `[batch, 3, height, width]` from -1 to 1 (with
    /// overshoots), on the CPU in the pipeline's type. Loads and unloads the decoder half of the autoencoder.
    ///
    /// # Errors
    /// As [`Decoder::load`] and [`Decoder::decode`].
    pub fn decode(&self, latents: &Tensor) -> Result<Tensor> {
        let unscaled = self.vae.unscale(latents)?;
        self.parts.with(Component::Vae, Decoder::load, |decoder| {
            let images = (0..latents.size().first().copied().unwrap_or(0))
                .map(|i| Ok(decoder.decode(&unscaled.f_narrow(0, i, 1)?)?.f_to_device(Device::Cpu)?))
                .collect::<Result<Vec<_>>>()?;
            if images.is_empty() {
                return Err(Error::Input { input: "latents", reason: "there are none to decode".into() });
            }
            Ok(Tensor::f_cat(&images, 0)?)
        })
    }

    fn encoder(&self, dir: &Path, kind: Kind, device: Device) -> Result<ImageEncoder> {
        ImageEncoder::load(dir, self.granularity(), kind, device)
    }
}
