//! The blocks on the way down, at the coarsest level, and on the way up.

use tch::Tensor;

use super::config::UnetConfig;
use super::transformer::{Pass, Transformer};
use crate::attend::AttentionProbe;
use crate::error::{Error, Result};
use crate::nn::{Double, Halve, Residual};
use crate::site::UnetPart;
use crate::weights::Weights;

/// `DownBlock2D`, or with transformers `CrossAttnDownBlock2D`.
pub(super) struct Down {
    resnets: Vec<Residual>,
    /// Empty, or one after each residual block.
    attentions: Vec<Transformer>,
    downsampler: Option<Halve>,
}

/// `UNetMidBlock2DCrossAttn`.
pub(super) struct Mid {
    first: Residual,
    attention: Transformer,
    second: Residual,
}

/// `UpBlock2D`, or with transformers `CrossAttnUpBlock2D`.
pub(super) struct Up {
    resnets: Vec<Residual>,
    /// Empty, or one after each residual block.
    attentions: Vec<Transformer>,
    upsampler: Option<Double>,
}

fn transformers(
    weights: &Weights,
    config: &UnetConfig,
    (part, level): (UnetPart, usize),
    count: usize,
    blocks: &mut usize,
) -> Result<Vec<Transformer>> {
    let weights = weights.pp("attentions");
    let level = config.level(level);
    (0..count).map(|i| Transformer::load(&weights.pp(i), config, level, (part, i), blocks)).collect()
}

impl Down {
    /// Reads block `number`, which is also the number of its level. `blocks` counts the transformer layers of the whole
    /// network.
    pub(super) fn load(
        weights: &Weights,
        config: &UnetConfig,
        number: usize,
        blocks: &mut usize,
    ) -> Result<Self> {
        let level = config.level(number);
        let before = config.level(number.saturating_sub(1)).channels;
        let resnets = (0..level.resnets).map(|i| {
            let input = if i == 0 { before } else { level.channels };
            let weights = weights.pp("resnets").pp(i);
            Residual::load(&weights, (input, level.channels), config.groups(), Some(config.time_width()))
        });
        let count = if config.down_crosses(number) { level.resnets } else { 0 };
        let downsampler = || Halve::load(weights, level.channels, config.downsample_padding());
        Ok(Self {
            resnets: resnets.collect::<Result<_>>()?,
            attentions: transformers(weights, config, (UnetPart::Down(number), number), count, blocks)?,
            downsampler: (number + 1 < config.levels()).then(downsampler).transpose()?,
        })
    }

    /// `x` `[batch, channels, h, w]`; pushes the skip connections for the way up to `skips`.
    pub(super) fn forward(
        &self,
        x: &Tensor,
        skips: &mut Vec<Tensor>,
        pass: &Pass<'_>,
        probe: &mut dyn AttentionProbe,
    ) -> Result<Tensor> {
        let mut x = x.shallow_clone();
        for (i, resnet) in self.resnets.iter().enumerate() {
            x = resnet.forward(&x, Some(pass.time))?;
            if let Some(attention) = self.attentions.get(i) {
                x = attention.forward(&x, pass, probe)?;
            }
            skips.push(x.shallow_clone());
        }
        if let Some(downsampler) = &self.downsampler {
            x = downsampler.forward(&x)?;
            skips.push(x.shallow_clone());
        }
        Ok(x)
    }
}

impl Mid {
    pub(super) fn load(weights: &Weights, config: &UnetConfig, blocks: &mut usize) -> Result<Self> {
        let level = config.level(config.levels() - 1);
        let resnet = |i: usize| {
            let channels = (level.channels, level.channels);
            let weights = weights.pp("resnets").pp(i);
            Residual::load(&weights, channels, config.groups(), Some(config.time_width()))
        };
        let attention = weights.pp("attentions.0");
        Ok(Self {
            first: resnet(0)?,
            attention: Transformer::load(&attention, config, level, (UnetPart::Mid, 0), blocks)?,
            second: resnet(1)?,
        })
    }

    /// `x` `[batch, channels, h, w]` → the same shape.
    pub(super) fn forward(
        &self,
        x: &Tensor,
        pass: &Pass<'_>,
        probe: &mut dyn AttentionProbe,
    ) -> Result<Tensor> {
        let x = self.first.forward(x, Some(pass.time))?;
        self.second.forward(&self.attention.forward(&x, pass, probe)?, Some(pass.time))
    }
}

impl Up {
    /// Reads block `number`; 0 is the coarsest level. `blocks` counts the transformer layers of the whole network.
    pub(super) fn load(
        weights: &Weights,
        config: &UnetConfig,
        number: usize,
        blocks: &mut usize,
    ) -> Result<Self> {
        let last = config.levels() - 1;
        let at = last - number;
        let (level, count) = (config.level(at), config.level(at).resnets + 1);
        let below = config.level((at + 1).min(last)).channels;
        let above = config.level(at.saturating_sub(1)).channels;
        let resnets = (0..count).map(|i| {
            let input = if i == 0 { below } else { level.channels };
            // The first skip connection of this level has the channels of the finer level.
            let skip = if i + 1 == count { above } else { level.channels };
            let weights = weights.pp("resnets").pp(i);
            Residual::load(
                &weights,
                (input + skip, level.channels),
                config.groups(),
                Some(config.time_width()),
            )
        });
        let crossing = if config.up_crosses(number) { count } else { 0 };
        let upsampler = || Double::load(weights, level.channels);
        Ok(Self {
            resnets: resnets.collect::<Result<_>>()?,
            attentions: transformers(weights, config, (UnetPart::Up(number), at), crossing, blocks)?,
            upsampler: (number < last).then(upsampler).transpose()?,
        })
    }

    /// `x` `[batch, channels of the coarser level, h, w]`; takes the skip connections of this level from `skips`.
    pub(super) fn forward(
        &self,
        x: &Tensor,
        skips: &mut Vec<Tensor>,
        pass: &Pass<'_>,
        probe: &mut dyn AttentionProbe,
    ) -> Result<Tensor> {
        let mut x = x.shallow_clone();
        for (i, resnet) in self.resnets.iter().enumerate() {
            let skip = skips.pop().ok_or_else(out_of_order)?;
            x = resnet.forward(&Tensor::f_cat(&[x, skip], 1)?, Some(pass.time))?;
            if let Some(attention) = self.attentions.get(i) {
                x = attention.forward(&x, pass, probe)?;
            }
        }
        match &self.upsampler {
            None => Ok(x),
            Some(upsampler) => {
                // An odd side was rounded up when it was halved.
                let (.., height, width) = skips.last().ok_or_else(out_of_order)?.size4()?;
                upsampler.forward(&x, Some((height, width)))
            }
        }
    }
}

fn out_of_order() -> Error {
    let reason = "there are no skip connections for this block; run the blocks of a UNet in order, each once";
    Error::Input { input: "state", reason: reason.into() }
}
