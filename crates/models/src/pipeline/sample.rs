//! Sampling: from noise to latents of images.

use tch::Tensor;

use super::predict::{NoiseInput, NoisePredictor};
use crate::attend::{AttentionProbe, NoProbe};
use crate::diffusion::{NoiseLevel, Sampler};
use crate::error::{Error, Result};

/// The input of sampling a batch of images.
pub struct Start<'a> {
    /// Noise `[batch, channels, h, w]`, of any float type and on any device.
    pub noise: &'a Tensor,
    /// Encoded prompts `[batch, tokens, width]`.
    pub text: &'a Tensor,
    /// Classifier-free guidance (arXiv 2207.12598), or `None` for a single pass per step.
    pub guidance: Option<ClassifierFree<'a>>,
}

/// Classifier-free guidance: `ε_uncond + scale · (ε_text − ε_uncond)`.
pub struct ClassifierFree<'a> {
    /// Encoded empty or negative prompts `[batch, tokens, width]`.
    pub unconditional: &'a Tensor,
    /// Guidance scale. diffusers' default for Stable Diffusion 1 is 7.5. At 1 or below there is a single pass with the
    /// prompt only.
    pub scale: f64,
}

/// One pass of a sampling run, as given to a [`Guide`].
pub struct Pass<'a> {
    /// The network.
    pub network: &'a dyn NoisePredictor,
    /// The noise in the latents.
    pub level: NoiseLevel,
    /// Number of the pass in the run, from 0.
    pub index: usize,
    /// The timestep of the training schedule.
    pub time: f64,
    /// The latents that the network has read, `[batch, channels, h, w]`.
    pub latents: &'a Tensor,
    /// The prediction for the prompt.
    pub prompted: Prediction<'a>,
    /// The prediction for the empty or negative prompt. Without classifier-free guidance, that for the prompt.
    pub unprompted: Prediction<'a>,
}

/// What the network predicts for latents and a text.
#[derive(Clone, Copy)]
pub struct Prediction<'a> {
    /// The predicted noise, in the shape of the latents.
    pub output: &'a Tensor,
    /// The encoded text that the network has read.
    pub text: &'a Tensor,
}

impl Pass<'_> {
    /// Returns the input of another pass at the same time.
    pub fn input<'a>(&self, latents: &'a Tensor, text: &'a Tensor) -> NoiseInput<'a> {
        NoiseInput { latents, timestep: self.time, text, step: self.index, perturbation: None }
    }
}

/// Guidance that observes a pass and changes the prediction.
pub trait Guide {
    /// Returns the probe for the pass. With classifier-free guidance the batch is twice as large, the unconditional
    /// half first.
    fn probe(&mut self) -> &mut dyn AttentionProbe;

    /// Returns the term to add to the prediction, of the same shape.
    ///
    /// # Errors
    /// The network, libtorch or the guide fails. An error ends the run.
    fn change(&mut self, pass: &Pass<'_>) -> Result<Tensor>;
}

/// Returns latents `[batch, channels, h, w]` after a whole run of `sampler`, scaled as the network reads them.
///
/// # Errors
/// Shapes that do not fit; libtorch or the guide fails.
pub fn sample(
    network: &dyn NoisePredictor,
    mut sampler: Sampler,
    start: &Start<'_>,
    mut guide: Option<&mut dyn Guide>,
) -> Result<Tensor> {
    let place = |tensor: &Tensor| -> Result<Tensor> {
        Ok(tensor.f_to_device(network.device())?.f_to_kind(network.kind())?)
    };
    let mut latents = sampler.begin(&place(start.noise)?)?;
    let text = place(start.text)?;
    // A scale of at most 1 switches guidance off, as in diffusers.
    let guidance = start.guidance.as_ref().filter(|guidance| guidance.scale > 1.0);
    let unconditional = guidance.map(|guidance| place(guidance.unconditional)).transpose()?;
    let both = match &unconditional {
        Some(unconditional) if unconditional.size() != text.size() => {
            let reason =
                format!("unconditional texts have shape {:?}, texts {:?}", unconditional.size(), text.size());
            return Err(Error::Input { input: "guidance", reason });
        }
        Some(unconditional) => Tensor::f_cat(&[unconditional, &text], 0)?,
        None => text.shallow_clone(),
    };
    let count = latents.size().first().map_or(1, |&count| count.max(1) as usize);
    while let Some((time, level)) = sampler.time().zip(sampler.level()) {
        let index = sampler.passes();
        let read = sampler.input(&latents)?;
        let shown = match guidance {
            Some(_) => Tensor::f_cat(&[&read, &read], 0)?,
            None => read.shallow_clone(),
        };
        let mut none = NoProbe;
        let probe: &mut dyn AttentionProbe = match &mut guide {
            Some(guide) => guide.probe(),
            None => &mut none,
        };
        let input =
            NoiseInput { latents: &shown, timestep: time, text: &both, step: index, perturbation: None };
        let prediction = network.predict(&input, probe).map_err(|e| e.of_items(|row| row % count))?;
        let (without, with, mut predicted) = match guidance {
            Some(ClassifierFree { scale, .. }) => {
                let halves = prediction.f_chunk(2, 0)?;
                let difference = halves[1].f_sub(&halves[0])?;
                let guided = halves[0].f_add(&difference.f_mul_scalar(*scale)?)?;
                (halves[0].shallow_clone(), halves[1].shallow_clone(), guided)
            }
            None => (prediction.shallow_clone(), prediction.shallow_clone(), prediction),
        };
        if let Some(guide) = &mut guide {
            let prompted = Prediction { output: &with, text: &text };
            let unprompted = Prediction { output: &without, text: unconditional.as_ref().unwrap_or(&text) };
            let pass = Pass { network, level, index, time, latents: &read, prompted, unprompted };
            predicted = predicted.f_add(&guide.change(&pass)?)?;
        }
        latents = sampler.step(&predicted, &latents)?;
    }
    Ok(latents)
}
