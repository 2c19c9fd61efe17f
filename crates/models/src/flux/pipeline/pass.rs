//! Passes of the transformer: one over a noised image, or a whole run from noise to an image.

use tch::{Device, Tensor};

use super::{Component, EncodedText, FluxPipeline};
use crate::attend::AttentionProbe;
use crate::error::{Error, Result};
use crate::flow_match::{Schedule, add_noise};
use crate::flux::{FluxInput, FluxTransformer, Reference, pack_latents, unpack_latents};

/// Options for generating images.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Generation {
    /// Sampling steps (FLUX.1-schnell 4, dev 28 to 50).
    pub steps: usize,
    /// Guidance scale of networks distilled with guidance, 3.5 by default. Must be `None` for other networks.
    pub guidance: Option<f64>,
    /// Number of T5 tokens of a prompt (FLUX.1-schnell 256, dev 512).
    pub length: usize,
}

impl FluxPipeline {
    /// Generates images `[texts, 3, height, width]` of prompts, from -1 to 1 (with overshoots), on the CPU in the
    /// pipeline's type.
    ///
    /// `noise` `[texts, channels, h, w]`, standard normal numbers ([`crate::noise::normal`]) of the shape that
    /// [`FluxPipeline::latent_shape`] gives, decides the size of the images. The probe sees all passes of one text,
    /// then those of the next; steps are counted from 0 for each text.
    ///
    /// # Errors
    /// The noise has another shape; the errors of encoding, denoising and decoding.
    pub fn generate(
        &self,
        texts: &[String],
        noise: &Tensor,
        options: Generation,
        probe: &mut dyn AttentionProbe,
    ) -> Result<Tensor> {
        let channels = self.vae.latent_channels;
        let refuse = |wanted| {
            let reason = format!("shape {:?} where {wanted} is needed", noise.size());
            Err(Error::Input { input: "noise", reason })
        };
        let &[count, found, height, width] = noise.size().as_slice() else {
            return refuse(format!("[texts, {channels}, h, w]"));
        };
        if count != texts.len() as i64 || count == 0 || found != channels {
            return refuse(format!("[{}, {channels}, h, w], at least one text", texts.len()));
        }
        let pixels = self.vae.pixels_per_latent();
        let schedule = self.schedule(options.steps, (height * pixels, width * pixels))?;
        let encoded = self.encode_texts(texts, options.length)?;
        let latents = self.parts.with(Component::Transformer, FluxTransformer::load, |transformer| {
            let latents = (0..).zip(&encoded).map(|(i, text)| {
                let noise = noise.f_select(0, i)?;
                let (schedule, guidance) = (&schedule, options.guidance);
                Denoising { transformer, schedule, text, reference: None, guidance }.denoise(0, &noise, probe)
            });
            Ok(Tensor::f_stack(&latents.collect::<Result<Vec<_>>>()?, 0)?)
        })?;
        self.decode(&latents)
    }
}

/// The denoising of latents for a prompt along the noise levels of a schedule.
pub struct Denoising<'a> {
    /// The transformer.
    pub transformer: &'a FluxTransformer,
    /// The noise levels.
    pub schedule: &'a Schedule,
    /// The prompt.
    pub text: &'a EncodedText,
    /// Scaled latents of a reference image, `[channels, h, w]` of any float type on any device, for FLUX.1 Kontext. They
    /// may have another size than the denoised ones.
    pub reference: Option<&'a Tensor>,
    /// As in [`Generation`].
    pub guidance: Option<f64>,
}

impl Denoising<'_> {
    /// Runs the steps of the schedule from `first` on, over latents `[channels, h, w]` that have the noise level of
    /// that step. Returns the denoised latents of the same shape, on the CPU in the network's type.
    ///
    /// # Errors
    /// As [`Denoising::noised_pass`].
    pub fn denoise(&self, first: usize, latents: &Tensor, probe: &mut dyn AttentionProbe) -> Result<Tensor> {
        self.schedule.sigma(first)?;
        let (mut tokens, grid) = packed(&self.place(latents)?)?;
        for step in first..self.schedule.steps() {
            let velocity = self.pass(step, (&tokens, grid), probe)?;
            tokens = self.schedule.step(&tokens, &velocity, step)?;
        }
        Ok(unpack_latents(&tokens, grid)?.f_squeeze_dim(0)?.f_to_device(Device::Cpu)?)
    }

    /// Runs one pass over an image with the noise level before `step` of the schedule. Returns the velocity `[1,
    /// rows·columns, 4·channels]`, packed, on the network's device.
    ///
    /// `latents` (scaled) and `noise` are `[channels, h, w]` of any float type on any device. The sites that the probe
    /// sees have this step.
    ///
    /// # Errors
    /// There is no such step; latents, noise or text have another shape; guidance for a network that takes none;
    /// libtorch or the probe fails.
    pub fn noised_pass(
        &self,
        step: usize,
        latents: &Tensor,
        noise: &Tensor,
        probe: &mut dyn AttentionProbe,
    ) -> Result<Tensor> {
        let sigma = self.schedule.sigma(step)?;
        let (tokens, grid) = packed(&add_noise(&self.place(latents)?, noise, sigma)?)?;
        self.pass(step, (&tokens, grid), probe)
    }

    fn place(&self, latents: &Tensor) -> Result<Tensor> {
        Ok(latents.f_to_device(self.transformer.device())?.f_to_kind(self.transformer.kind())?)
    }

    fn pass(
        &self,
        step: usize,
        (tokens, grid): (&Tensor, (i64, i64)),
        probe: &mut dyn AttentionProbe,
    ) -> Result<Tensor> {
        let Self { transformer, schedule, text, reference, guidance } = *self;
        let reference = reference.map(packed).transpose()?;
        let input = FluxInput {
            latents: tokens,
            grid,
            reference: reference.as_ref().map(|(latents, grid)| Reference { latents, grid: *grid }),
            text: &text.text.f_unsqueeze(0)?,
            pooled: &text.pooled.f_unsqueeze(0)?,
            concepts: None,
            timestep: schedule.noise_level(step, transformer.kind())?,
            guidance: guidance.or(transformer.config().usual_guidance()),
            step,
        };
        transformer.forward(&input, probe)
    }
}

/// Packs latents `[channels, h, w]` to tokens `[1, rows·columns, 4·channels]`. Returns them with rows and columns.
pub(super) fn packed(latents: &Tensor) -> Result<(Tensor, (i64, i64))> {
    let &[_, height, width] = latents.size().as_slice() else {
        let reason = format!("shape {:?} where [channels, h, w] is needed", latents.size());
        return Err(Error::Input { input: "latents", reason });
    };
    let per_token = super::LATENTS_PER_TOKEN;
    Ok((pack_latents(&latents.f_unsqueeze(0)?)?, (height / per_token, width / per_token)))
}
