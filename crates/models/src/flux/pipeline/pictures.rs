//! Pictures to latents and back.

use std::path::Path;

use tch::{Device, Kind, Tensor};

use super::{Component, FluxPipeline};
use crate::error::{Error, Result};
use crate::noise;
use crate::vae::{Decoder, Encoder};

/// Which latents of the encoder's distribution are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Draw {
    /// The means.
    Mode,
    /// Drawn with noise that this seed and the number of the picture (counted from 0) determine; diffusers'
    /// `FluxImg2ImgPipeline` draws.
    Sample {
        /// The first picture's seed; each next one's is greater by 1.
        seed: u64,
    },
}

impl Draw {
    fn of_picture(self, number: u64) -> Self {
        match self {
            Self::Mode => Self::Mode,
            Self::Sample { seed } => Self::Sample { seed: seed.wrapping_add(number) },
        }
    }
}

/// The encoder half of the autoencoder, for pictures that come one by one.
pub struct PictureEncoder {
    encoder: Encoder,
    pixels_per_token: i64,
}

impl PictureEncoder {
    /// Latents `[batch, channels, h, w]`, scaled for the transformer, on the CPU in the pipeline's type; `pixels` `[batch,
    /// 3, height, width]` go from -1 to 1. A sample's noise is drawn for the whole batch with its seed.
    ///
    /// # Errors
    /// A side that is no multiple of [`FluxPipeline::pixels_per_token`]; as [`Encoder::encode`].
    pub fn encode(&self, pixels: &Tensor, draw: Draw) -> Result<Tensor> {
        if let [_, _, height, width] = pixels.size()[..] {
            grid((height, width), self.pixels_per_token)?;
        }
        let posterior = self.encoder.encode(pixels)?;
        let latents = match draw {
            Draw::Mode => posterior.mode(),
            Draw::Sample { seed } => posterior.sample(&noise::normal(&posterior.mean.size(), seed)?)?,
        };
        Ok(self.encoder.config().scale(&latents)?.f_to_device(Device::Cpu)?)
    }
}

impl FluxPipeline {
    /// Loads the encoder half of the autoencoder. It leaves when the caller drops it.
    ///
    /// # Errors
    /// As [`Encoder::load`].
    pub fn picture_encoder(&self) -> Result<PictureEncoder> {
        self.load(Component::Vae, |dir, kind, device| self.encoder(dir, kind, device))
    }

    /// Scaled latents `[channels, h, w]` of every picture, on the CPU in the pipeline's type. `pixels` are batches `[batch,
    /// 3, height, width]` from -1 to 1, of one picture or more; sizes may change from batch to batch. They are asked for
    /// one after another, so a long row of pictures need not be in memory; the encoder is loaded once.
    ///
    /// # Errors
    /// The first error of `pixels`; as [`PictureEncoder::encode`].
    pub fn encode_pictures<E: From<Error>>(
        &self,
        pixels: impl IntoIterator<Item = Result<Tensor, E>>,
        draw: Draw,
    ) -> Result<Vec<Tensor>, E> {
        let load = |dir: &Path, kind, device| self.encoder(dir, kind, device);
        let mut failed = None;
        let encoded = self.with(Component::Vae, load, |encoder| {
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
                    latents.push(encoder.encode(&one, draw.of_picture(number))?.f_squeeze_dim(0)?);
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
        self.with(Component::Vae, Decoder::load, |decoder| {
            let pictures = (0..latents.size().first().copied().unwrap_or(0))
                .map(|i| Ok(decoder.decode(&unscaled.f_narrow(0, i, 1)?)?.f_to_device(Device::Cpu)?))
                .collect::<Result<Vec<_>>>()?;
            if pictures.is_empty() {
                return Err(Error::Input { input: "latents", reason: "there are none to decode".into() });
            }
            Ok(Tensor::f_cat(&pictures, 0)?)
        })
    }

    fn encoder(&self, dir: &Path, kind: Kind, device: Device) -> Result<PictureEncoder> {
        let encoder = Encoder::load(dir, kind, device)?;
        Ok(PictureEncoder { encoder, pixels_per_token: self.pixels_per_token() })
    }
}

/// Rows and columns of image tokens.
pub(super) fn grid((height, width): (i64, i64), pixels: i64) -> Result<(i64, i64)> {
    if height <= 0 || width <= 0 || height % pixels != 0 || width % pixels != 0 {
        let reason = format!(
            "{height} by {width} pixels; both sides must be multiples of {pixels}, since an image token stands for \
             {pixels} by {pixels} pixels: resize or crop the picture"
        );
        return Err(Error::Input { input: "size", reason });
    }
    Ok((height / pixels, width / pixels))
}
