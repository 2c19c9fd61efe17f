//! Conversion of images to samples and to latents.

use std::path::Path;

use markov_core::torch::to_vec;
use tch::{Device, Kind, Tensor};

use crate::error::{Error, Result};
use crate::image::Rgb8;
use crate::noise;
use crate::vae::{Decoder, Encoder};

/// The choice of latents from the encoder's distribution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Draw {
    /// The means.
    Mode,
    /// A random sample, as in diffusers' image-to-image pipelines. The seed and the number of the image (counted from
    /// 0) determine the noise.
    Sample {
        /// Seed of the first image. Each next image has the next seed.
        seed: u64,
    },
}

impl Draw {
    pub(crate) fn of_image(self, number: u64) -> Self {
        match self {
            Self::Mode => Self::Mode,
            Self::Sample { seed } => Self::Sample { seed: seed.wrapping_add(number) },
        }
    }
}

/// The number of pixels that both sides of an image must be multiples of, and the reason.
#[derive(Debug, Clone)]
pub(crate) struct Granularity {
    /// In pixels.
    pub(crate) pixels: i64,
    /// Continues "both sides must be multiples of 16, since ...".
    pub(crate) since: String,
}

impl Granularity {
    /// Returns height and width of an image in units of `pixels`.
    pub(crate) fn count(&self, (height, width): (i64, i64)) -> Result<(i64, i64)> {
        let &Self { pixels, ref since } = self;
        if height <= 0 || width <= 0 || height % pixels != 0 || width % pixels != 0 {
            let reason = format!(
                "{height} by {width} pixels; both sides must be multiples of {pixels}, since {since}: resize or crop \
                 the image"
            );
            return Err(Error::Input { input: "size", reason });
        }
        Ok((height / pixels, width / pixels))
    }
}

/// The encoder half of a pipeline's autoencoder, for encoding images one by one.
pub struct ImageEncoder {
    encoder: Encoder,
    granularity: Granularity,
    /// The pipeline's type.
    kind: Kind,
}

impl ImageEncoder {
    pub(crate) fn load(dir: &Path, granularity: Granularity, kind: Kind, device: Device) -> Result<Self> {
        Ok(Self { encoder: Encoder::load(dir, kind, device)?, granularity, kind })
    }

    /// Returns latents `[batch, channels, h, w]`, scaled for the denoising network, on the CPU in the pipeline's type.
    /// `pixels` `[batch, 3, height, width]` range from -1 to 1. For [`Draw::Sample`], the noise of the whole batch is
    /// drawn with the seed.
    ///
    /// # Errors
    /// An unsupported size; the errors of [`Encoder::encode`].
    pub fn encode(&self, pixels: &Tensor, draw: Draw) -> Result<Tensor> {
        if let [_, _, height, width] = pixels.size()[..] {
            self.granularity.count((height, width))?;
        }
        let posterior = self.encoder.encode(pixels)?;
        let latents = match draw {
            Draw::Mode => posterior.mode(),
            Draw::Sample { seed } => posterior.sample(&noise::normal(&posterior.mean.size(), seed)?)?,
        };
        Ok(self.encoder.config().scale(&latents)?.f_to_device(Device::Cpu)?.f_to_kind(self.kind)?)
    }
}

/// The decoder half of a pipeline's autoencoder.
pub struct ImageDecoder(Decoder);

impl ImageDecoder {
    pub(crate) fn load(dir: &Path, kind: Kind, device: Device) -> Result<Self> {
        Decoder::load(dir, kind, device).map(Self)
    }

    /// Returns pixels `[batch, 3, height, width]` from -1 to 1 (with overshoots) of latents `[batch, channels, h, w]`
    /// scaled for the denoising network. They are on the pipeline's device in the autoencoder's type
    /// ([`AutoencoderConfig::computes_in`](crate::vae::AutoencoderConfig::computes_in)).
    ///
    /// # Errors
    /// As [`Decoder::decode`].
    pub fn decode(&self, latents: &Tensor) -> Result<Tensor> {
        self.0.decode(&self.0.config().unscale(latents)?)
    }
}

/// Returns the samples `[3, height, width]` of an image from -1 to 1, float32 on the CPU, as pipelines read them.
///
/// # Errors
/// libtorch fails.
pub fn pixels(image: &Rgb8) -> Result<Tensor> {
    let shape = [3, image.height as i64, image.width as i64];
    Ok(Tensor::f_from_slice(&image.signed_planes())?.f_reshape(shape)?)
}

/// Converts samples `[3, height, width]` from -1 to 1 to an image. Overshoots are clipped; rounding is that of
/// diffusers.
///
/// # Errors
/// libtorch fails.
pub fn rgb(pixels: &Tensor) -> Result<Rgb8> {
    let (_, height, width) = pixels.size3()?;
    let levels =
        pixels.f_to_device(Device::Cpu)?.f_to_kind(Kind::Float)?.f_div_scalar(2.0)?.f_add_scalar(0.5)?;
    let levels = levels.f_clamp(0.0, 1.0)?.f_mul_scalar(255.0)?.f_round()?.f_to_kind(Kind::Uint8)?;
    Ok(Rgb8::new(width as usize, height as usize, to_vec(&levels.f_permute([1, 2, 0])?)?)?)
}

/// Converts decoded images `[batch, 3, height, width]` from -1 to 1 to 8-bit pixels `[batch, height, width, 3]` on the
/// host, rounded as in diffusers.
///
/// # Errors
/// libtorch fails.
pub fn to_pixels(decoded: &Tensor) -> Result<Tensor> {
    let unit = decoded.f_to_kind(Kind::Float)?.f_div_scalar(2.0)?.f_add_scalar(0.5)?.f_clamp(0.0, 1.0)?;
    let levels = unit.f_mul_scalar(255.0)?.f_round()?.f_to_kind(Kind::Uint8)?;
    Ok(levels.f_permute([0, 2, 3, 1])?.f_contiguous()?.f_to_device(Device::Cpu)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_round_trip_through_samples() -> Result<()> {
        let data: Vec<u8> = (0..=255).flat_map(|level| [level, 255 - level, level / 2]).collect();
        let image = Rgb8::new(32, 8, data)?;
        let samples = pixels(&image)?;
        assert_eq!(samples.size(), [3, 8, 32]);
        assert_eq!((samples.double_value(&[0, 0, 0]), samples.double_value(&[0, 7, 31])), (-1.0, 1.0));
        assert_eq!(rgb(&samples)?, image);
        // Overshoots are cut off.
        assert_eq!(rgb(&(samples * 3.0))?.data[..3], [0, 255, 0]);
        Ok(())
    }
}
