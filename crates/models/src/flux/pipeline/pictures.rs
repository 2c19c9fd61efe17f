//! Images to latents and back.

use std::path::Path;

use tch::{Device, Kind, Tensor};

use super::{Component, FluxPipeline};
use crate::error::{Error, Result};
use crate::pipeline::{Draw, ImageEncoder};
use crate::vae::Decoder;

impl FluxPipeline {
    /// Loads the encoder half of the autoencoder. It leaves when the caller drops it.
    ///
    /// # Errors
    /// As [`crate::vae::Encoder::load`].
    pub fn image_encoder(&self) -> Result<ImageEncoder> {
        self.parts.load(Component::Vae, |dir, kind, device| self.encoder(dir, kind, device))
    }

    /// Scaled latents `[channels, h, w]` of every image, on the CPU in the pipeline's type. `pixels` are batches `[batch,
    /// 3, height, width]` from -1 to 1, of one image or more; sizes may change from batch to batch. They are asked for
    /// one after another, so a long row of images need not be in memory; the encoder is loaded once.
    ///
    /// # Errors
    /// The first error of `pixels`; as [`ImageEncoder::encode`].
    pub fn encode_images<E: From<Error>>(
        &self,
        pixels: impl IntoIterator<Item = Result<Tensor, E>>,
        draw: Draw,
    ) -> Result<Vec<Tensor>, E> {
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
                    latents.push(encoder.encode(&one, draw.of_image(number))?.f_squeeze_dim(0)?);
                }
            }
            Ok(latents)
        })?;
        failed.map_or(Ok(encoded), Err)
    }

    /// Pixels `[batch, 3, height, width]` from -1 to 1 but for overshoots, on the CPU in the pipeline's type, of scaled
    /// latents `[batch, channels, h, w]`. Loads the decoder half of the autoencoder and lets it go.
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
