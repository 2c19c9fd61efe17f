//! The network that predicts noise, diffusers' `UNet2DConditionModel`.

use std::path::Path;

use tch::{Device, Kind, Tensor};

use super::config::UnetConfig;
use super::parts::{Down, Mid, Up};
use super::transformer::Pass;
use crate::attend::AttentionProbe;
use crate::error::{Error, Result};
use crate::finite::Output;
use crate::nn::{Conv, Embedder, GroupNorm};
use crate::perturbation::Perturbation;
use crate::site::UnetPart;
use crate::weights::Weights;

/// The UNet of Stable Diffusion on a device.
///
/// ```no_run
/// use models::attend::NoProbe;
/// use models::sd::Unet;
/// # fn main() -> models::Result<()> {
/// let dir = std::path::Path::new("stable-diffusion-v1-5/unet");
/// let unet = Unet::load(dir, tch::Kind::Half, tch::Device::Cuda(0))?;
/// # let random = |shape: &[i64]| tch::Tensor::randn(shape, (tch::Kind::Float, tch::Device::Cpu));
/// # let (latents, text) = (random(&[1, 4, 64, 64]), random(&[1, 77, 768]));
/// let noise = unet.forward(&latents, 981.0, &text, 0, &mut NoProbe)?;
/// # Ok(()) }
/// ```
pub struct Unet {
    config: UnetConfig,
    conv_in: Conv,
    time_embedding: Embedder,
    down_blocks: Vec<Down>,
    mid_block: Mid,
    up_blocks: Vec<Up>,
    conv_norm_out: GroupNorm,
    conv_out: Conv,
    kind: Kind,
    device: Device,
}

/// A pass between two blocks.
pub struct UnetState {
    /// `[batch, channels, h, w]`.
    pub sample: Tensor,
    /// The time embedding before its SiLU, `[1, width]`.
    pub time: Tensor,
    activated: Tensor,
    context: Tensor,
    /// Skip connections from the way down to the way up.
    skips: Vec<Tensor>,
    step: usize,
    perturbation: Option<Perturbation>,
}

impl Unet {
    /// Reads a directory in diffusers' layout (`config.json` + `diffusion_pytorch_model*.safetensors`), the folder `unet`
    /// of a pipeline, and checks that every tensor is used.
    ///
    /// # Errors
    /// A tensor is missing, superfluous or has a wrong shape, or the configuration belongs to another network.
    pub fn load(dir: &Path, kind: Kind, device: Device) -> Result<Self> {
        let config = UnetConfig::from_dir(dir)?;
        let weights = Weights::open(dir, kind, device)?;
        let network = Self::read(config, &weights)?;
        weights.finish()?;
        Ok(network)
    }

    /// Creates a network of this shape with random weights ([`Weights::drawn`]), for benchmarks.
    ///
    /// # Errors
    /// The configuration contradicts itself; libtorch fails.
    pub fn random(config: UnetConfig, kind: Kind, device: Device) -> Result<Self> {
        config.check()?;
        Self::read(config, &Weights::drawn(kind, device))
    }

    fn read(config: UnetConfig, weights: &Weights) -> Result<Self> {
        let finest = config.level(0).channels;
        let (down, up) = (weights.pp("down_blocks"), weights.pp("up_blocks"));
        // Loaded in the order of a pass, since transformer layers are numbered in this order.
        let mut blocks = 0;
        let down_blocks = (0..config.levels()).map(|i| Down::load(&down.pp(i), &config, i, &mut blocks));
        let down_blocks = down_blocks.collect::<Result<_>>()?;
        let mid_block = Mid::load(&weights.pp("mid_block"), &config, &mut blocks)?;
        let up_blocks = (0..config.levels()).map(|i| Up::load(&up.pp(i), &config, i, &mut blocks));
        let up_blocks = up_blocks.collect::<Result<_>>()?;
        Ok(Self {
            conv_in: Conv::load(&weights.pp("conv_in"), config.in_channels, finest, 3)?,
            time_embedding: Embedder::load(&weights.pp("time_embedding"), finest, config.time_width())?,
            down_blocks,
            mid_block,
            up_blocks,
            conv_norm_out: GroupNorm::load(&weights.pp("conv_norm_out"), finest, config.groups())?,
            conv_out: Conv::load(&weights.pp("conv_out"), finest, config.out_channels, 3)?,
            config,
            kind: weights.kind(),
            device: weights.device(),
        })
    }

    /// The configuration.
    pub fn config(&self) -> &UnetConfig {
        &self.config
    }

    /// The type that the network computes in.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The device of the network.
    pub fn device(&self) -> Device {
        self.device
    }

    /// Returns the prediction `[batch, out_channels, h, w]`. In Stable Diffusion 1 it is the noise in `sample`.
    ///
    /// `sample` `[batch, in_channels, h, w]` and `context` `[batch, text tokens, cross_attention_dim]` may have any
    /// float type and be on any device; the network converts them. `timestep` is that of the training schedule, 0 to
    /// 999 in Stable Diffusion 1, the same for the whole batch. The sites that the probe sees have this `step`.
    ///
    /// # Errors
    /// An input of another shape; libtorch or the probe fails; the prediction is not finite.
    pub fn forward(
        &self,
        sample: &Tensor,
        timestep: f64,
        context: &Tensor,
        step: usize,
        probe: &mut dyn AttentionProbe,
    ) -> Result<Tensor> {
        self.predicted(|| self.embed(sample, timestep, context, step), probe)
    }

    /// [`Unet::forward`] with another self-attention in some parts.
    ///
    /// # Errors
    /// As [`Unet::forward`].
    pub fn perturbed(
        &self,
        sample: &Tensor,
        timestep: f64,
        context: &Tensor,
        step: usize,
        perturbation: &Perturbation,
        probe: &mut dyn AttentionProbe,
    ) -> Result<Tensor> {
        let start = || {
            let state = self.embed(sample, timestep, context, step)?;
            Ok(UnetState { perturbation: Some(perturbation.clone()), ..state })
        };
        self.predicted(start, probe)
    }

    fn predicted(
        &self,
        start: impl Fn() -> Result<UnetState>,
        probe: &mut dyn AttentionProbe,
    ) -> Result<Tensor> {
        let pass = |probe: &mut dyn AttentionProbe| self.answer(&self.run_blocks(start()?, probe)?);
        self.output("predictions of the UNet").of_pass(probe, pass, |prediction| prediction)
    }

    /// Runs all blocks for the probe, without a prediction.
    ///
    /// # Errors
    /// As [`Unet::forward`]; the features after the last block are not finite.
    pub(crate) fn watch(
        &self,
        sample: &Tensor,
        timestep: f64,
        context: &Tensor,
        step: usize,
        probe: &mut dyn AttentionProbe,
    ) -> Result<()> {
        let pass = |probe: &mut dyn AttentionProbe| {
            self.run_blocks(self.embed(sample, timestep, context, step)?, probe)
        };
        self.output("features of the UNet").of_pass(probe, pass, |state| &state.sample).map(|_| ())
    }

    fn run_blocks(&self, mut state: UnetState, probe: &mut dyn AttentionProbe) -> Result<UnetState> {
        self.blocks().try_for_each(|block| block.forward(&mut state, probe))?;
        Ok(state)
    }

    fn output(&self, name: &'static str) -> Output {
        Output { name, kind: self.kind }
    }

    /// Embeds an input: returns the state before the first block.
    ///
    /// # Errors
    /// An input of another shape; libtorch fails.
    pub fn embed(&self, sample: &Tensor, timestep: f64, context: &Tensor, step: usize) -> Result<UnetState> {
        self.check(sample, timestep, context)?;
        let here = |x: &Tensor| -> Result<Tensor> { Ok(x.f_to_device(self.device)?.f_to_kind(self.kind)?) };
        let sample = match self.config.center_input_sample {
            true => here(sample)?.f_mul_scalar(2.0)?.f_sub_scalar_(1.0)?,
            false => here(sample)?,
        };
        let timestep = Tensor::f_full([1, 1], timestep, (Kind::Float, self.device))?;
        let time = self.config.sinusoids().of(&timestep)?.f_to_kind(self.kind)?;
        let time = self.time_embedding.forward(&time)?;
        let sample = self.conv_in.forward(&sample)?;
        Ok(UnetState {
            activated: time.f_silu()?,
            time,
            context: here(context)?,
            skips: vec![sample.shallow_clone()],
            sample,
            step,
            perturbation: None,
        })
    }

    /// Returns all blocks in execution order, for passes that inspect the state between them or end early. Each block
    /// must run once, in this order.
    pub fn blocks(&self) -> impl Iterator<Item = UnetBlock<'_>> {
        let down = self.down_blocks.iter().enumerate();
        let down = down.map(|(i, block)| UnetBlock { part: UnetPart::Down(i), block: Block::Down(block) });
        let mid = UnetBlock { part: UnetPart::Mid, block: Block::Mid(&self.mid_block) };
        let up = self.up_blocks.iter().enumerate();
        let up = up.map(|(i, block)| UnetBlock { part: UnetPart::Up(i), block: Block::Up(block) });
        down.chain([mid]).chain(up)
    }

    /// Returns the prediction `[batch, out_channels, h, w]` from the state after the last block.
    ///
    /// # Errors
    /// libtorch fails.
    pub fn answer(&self, state: &UnetState) -> Result<Tensor> {
        self.conv_out.forward(&self.conv_norm_out.activated(&state.sample)?)
    }

    fn check(&self, sample: &Tensor, timestep: f64, context: &Tensor) -> Result<()> {
        let refuse = |input, reason| Err(Error::Input { input, reason });
        let (channels, width) = (self.config.in_channels, self.config.cross_attention_dim);
        let shape = sample.size();
        let batch = match shape[..] {
            [batch, found, height, rows] if found == channels && batch.min(height).min(rows) > 0 => batch,
            _ => {
                let wanted = format!("[batch, {channels}, height, width]");
                return refuse("sample", format!("shape {shape:?} where {wanted} is needed"));
            }
        };
        let shape = context.size();
        if !matches!(shape[..], [found, tokens, last] if found == batch && tokens > 0 && last == width) {
            let wanted = format!("[{batch}, text tokens, {width}]");
            return refuse("context", format!("shape {shape:?} where {wanted} is needed"));
        }
        if !timestep.is_finite() {
            return refuse("timestep", format!("{timestep} is not a valid timestep"));
        }
        Ok(())
    }
}

enum Block<'a> {
    Down(&'a Down),
    Mid(&'a Mid),
    Up(&'a Up),
}

/// One block of a network.
pub struct UnetBlock<'a> {
    part: UnetPart,
    block: Block<'a>,
}

impl UnetBlock<'_> {
    /// The part of the UNet that the block is.
    pub fn part(&self) -> UnetPart {
        self.part
    }

    /// Runs the block over the state's sample.
    ///
    /// # Errors
    /// The blocks were run in another order; libtorch or the probe fails.
    pub fn forward(&self, state: &mut UnetState, probe: &mut dyn AttentionProbe) -> Result<()> {
        let UnetState { sample, activated, context, skips, step, perturbation, .. } = state;
        let pass = Pass { time: activated, context, step: *step, perturbation: perturbation.as_ref() };
        *sample = match self.block {
            Block::Down(block) => block.forward(sample, skips, &pass, probe)?,
            Block::Mid(block) => block.forward(sample, &pass, probe)?,
            Block::Up(block) => block.forward(sample, skips, &pass, probe)?,
        };
        Ok(())
    }
}
