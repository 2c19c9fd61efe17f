//! The encoder and the decoder.

use std::path::Path;

use tch::{Device, Kind, Tensor};

use super::attention::MidBlock;
use super::blocks::{Level, Resample};
use super::config::AutoencoderConfig;
use super::posterior::Posterior;
use crate::error::{Error, Result};
use crate::finite::Output;
use crate::nn::{Conv, GroupNorm};
use crate::weights::Weights;

const ENCODER: [&str; 2] = ["encoder", "quant_conv"];
const DECODER: [&str; 2] = ["decoder", "post_quant_conv"];

/// The encoder: from images to latents.
pub struct Encoder {
    config: AutoencoderConfig,
    conv_in: Conv,
    down_blocks: Vec<Level>,
    mid_block: MidBlock,
    conv_norm_out: GroupNorm,
    conv_out: Conv,
    quant_conv: Option<Conv>,
    kind: Kind,
    device: Device,
}

/// The decoder: from latents to images.
pub struct Decoder {
    config: AutoencoderConfig,
    post_quant_conv: Option<Conv>,
    conv_in: Conv,
    mid_block: MidBlock,
    up_blocks: Vec<Level>,
    conv_norm_out: GroupNorm,
    conv_out: Conv,
    kind: Kind,
    device: Device,
}

impl Encoder {
    /// Reads only the encoder of an autoencoder's directory.
    ///
    /// # Errors
    /// As [`super::Autoencoder::load`].
    pub fn load(dir: &Path, kind: Kind, device: Device) -> Result<Self> {
        let config = AutoencoderConfig::from_dir(dir)?;
        let weights = Weights::open(dir, config.computes_in(kind), device)?;
        let encoder = Self::read(&weights, config)?;
        DECODER.iter().for_each(|name| weights.skip(name));
        weights.finish()?;
        Ok(encoder)
    }

    pub(super) fn read(all: &Weights, config: AutoencoderConfig) -> Result<Self> {
        let weights = all.pp(ENCODER[0]);
        let (levels, groups) = (&config.block_out_channels, config.groups());
        let (finest, coarsest) = config.outer_levels();
        let answer = 2 * config.latent_channels;
        let level = |i: usize| {
            let weights = weights.pp("down_blocks").pp(i);
            let channels = (levels[i.saturating_sub(1)], levels[i]);
            let resample =
                (i + 1 < levels.len()).then(|| Resample::halve(&weights, channels.1)).transpose()?;
            Level::load(&weights, channels, config.layers_per_block, groups, resample)
        };
        let quant_conv = || Conv::load(&all.pp(ENCODER[1]), answer, answer, 1);
        Ok(Self {
            conv_in: Conv::load(&weights.pp("conv_in"), config.in_channels, finest, 3)?,
            down_blocks: (0..levels.len()).map(level).collect::<Result<_>>()?,
            mid_block: MidBlock::load(&weights.pp("mid_block"), &config)?,
            conv_norm_out: GroupNorm::load(&weights.pp("conv_norm_out"), coarsest, groups)?,
            conv_out: Conv::load(&weights.pp("conv_out"), coarsest, answer, 3)?,
            quant_conv: config.use_quant_conv.then(quant_conv).transpose()?,
            kind: all.kind(),
            device: all.device(),
            config,
        })
    }

    /// The configuration.
    pub fn config(&self) -> &AutoencoderConfig {
        &self.config
    }

    /// Returns the distribution of latents, `[batch, latent_channels, h/f, w/f]` with `f` =
    /// [`AutoencoderConfig::pixels_per_latent`], for `pixels` `[batch, 3, h, w]` from -1 to 1 of any float type and on
    /// any device.
    ///
    /// # Errors
    /// The number of channels differs, or a side is not a multiple of `f`; libtorch fails; the latents are not finite.
    pub fn encode(&self, pixels: &Tensor) -> Result<Posterior> {
        let config = &self.config;
        let factor = config.pixels_per_latent();
        let refuse = |reason| Err(Error::Input { input: "pixels", reason });
        let &[_, channels, height, width] = pixels.size().as_slice() else {
            let wanted = format!("[batch, {}, height, width]", config.in_channels);
            return refuse(format!("shape {:?} where {wanted} is needed", pixels.size()));
        };
        if channels != config.in_channels {
            return refuse(format!("{channels} channels where {} are needed", config.in_channels));
        }
        if height == 0 || width == 0 || height % factor != 0 || width % factor != 0 {
            return refuse(format!(
                "{height} by {width} pixels; both sides must be multiples of {factor}, since a latent stands for \
                 {factor} by {factor} pixels: resize or crop the image"
            ));
        }
        let x = self.conv_in.forward(&pixels.f_to_device(self.device)?.f_to_kind(self.kind)?)?;
        let x = self.down_blocks.iter().try_fold(x, |x, level| level.forward(x))?;
        let x = self.mid_block.forward(&x, 0)?;
        let x = self.conv_out.forward(&self.conv_norm_out.activated(&x)?)?;
        let parameters = match &self.quant_conv {
            Some(quant_conv) => quant_conv.forward(&x)?,
            None => x,
        };
        Posterior::of(&Output { name: "latents of the autoencoder", kind: self.kind }.check(parameters)?)
    }
}

impl Decoder {
    /// Reads only the decoder of an autoencoder's directory.
    ///
    /// # Errors
    /// As [`super::Autoencoder::load`].
    pub fn load(dir: &Path, kind: Kind, device: Device) -> Result<Self> {
        let config = AutoencoderConfig::from_dir(dir)?;
        let weights = Weights::open(dir, config.computes_in(kind), device)?;
        let decoder = Self::read(&weights, config)?;
        ENCODER.iter().for_each(|name| weights.skip(name));
        weights.finish()?;
        Ok(decoder)
    }

    pub(super) fn read(all: &Weights, config: AutoencoderConfig) -> Result<Self> {
        let weights = all.pp(DECODER[0]);
        let groups = config.groups();
        let levels: Vec<i64> = config.block_out_channels.iter().rev().copied().collect();
        let (finest, coarsest) = config.outer_levels();
        let latent = config.latent_channels;
        let level = |i: usize| {
            let weights = weights.pp("up_blocks").pp(i);
            let channels = (levels[i.saturating_sub(1)], levels[i]);
            let resample =
                (i + 1 < levels.len()).then(|| Resample::double(&weights, channels.1)).transpose()?;
            Level::load(&weights, channels, config.layers_per_block + 1, groups, resample)
        };
        let post_quant_conv = || Conv::load(&all.pp(DECODER[1]), latent, latent, 1);
        Ok(Self {
            post_quant_conv: config.use_post_quant_conv.then(post_quant_conv).transpose()?,
            conv_in: Conv::load(&weights.pp("conv_in"), latent, coarsest, 3)?,
            mid_block: MidBlock::load(&weights.pp("mid_block"), &config)?,
            up_blocks: (0..levels.len()).map(level).collect::<Result<_>>()?,
            conv_norm_out: GroupNorm::load(&weights.pp("conv_norm_out"), finest, groups)?,
            conv_out: Conv::load(&weights.pp("conv_out"), finest, config.out_channels, 3)?,
            kind: all.kind(),
            device: all.device(),
            config,
        })
    }

    /// The configuration.
    pub fn config(&self) -> &AutoencoderConfig {
        &self.config
    }

    /// Decodes unscaled latents `[batch, latent_channels, h, w]`, of any float type and on any device, to pixels
    /// `[batch, 3, f·h, f·w]` from -1 to 1 (with overshoots); `f` is [`AutoencoderConfig::pixels_per_latent`].
    ///
    /// # Errors
    /// The latents have another shape; libtorch fails; the images are not finite.
    pub fn decode(&self, latents: &Tensor) -> Result<Tensor> {
        let wanted = self.config.latent_channels;
        if latents.dim() != 4 || latents.size()[1] != wanted {
            let shape = latents.size();
            let reason = format!("shape {shape:?} where [batch, {wanted}, height, width] is needed");
            return Err(Error::Input { input: "latents", reason });
        }
        let latents = latents.f_to_device(self.device)?.f_to_kind(self.kind)?;
        let latents = match &self.post_quant_conv {
            Some(post_quant_conv) => post_quant_conv.forward(&latents)?,
            None => latents,
        };
        let x = self.mid_block.forward(&self.conv_in.forward(&latents)?, 1)?;
        let x = self.up_blocks.iter().try_fold(x, |x, level| level.forward(x))?;
        let decoded = self.conv_out.forward(&self.conv_norm_out.activated(&x)?)?;
        Output { name: "decoded images of the autoencoder", kind: self.kind }.check(decoded)
    }
}
