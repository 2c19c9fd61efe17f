//! Flow matching with Euler steps: the noise levels of a sampling run as diffusers' `FlowMatchEulerDiscreteScheduler`
//! and FLUX's pipelines compute them (arXiv 2403.03206, section 5.3.2 for the shift).
//!
//! A noise level σ mixes an image `x` and noise `ε` to `σ ε + (1 - σ) x`; the network predicts the velocity `ε - x`.

mod config;

use tch::{Kind, Tensor};

use crate::error::{Error, Result};
pub use config::FlowMatchConfig;

/// The noise levels of one run, from noise (σ = 1) to image (σ = 0).
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    sigmas: Vec<f32>,
    timesteps: Vec<f32>,
}

impl Schedule {
    /// Computes the noise levels of a run of `steps` steps. `image_tokens` is used if the shift is dynamic. All numbers
    /// are float32, computed as in diffusers.
    ///
    /// # Errors
    /// `steps` or `image_tokens` is 0.
    pub fn new(config: &FlowMatchConfig, steps: usize, image_tokens: i64) -> Result<Self> {
        if steps == 0 {
            return refuse("steps", "0 steps; at least 1 is needed, FLUX.1-schnell takes 4".into());
        }
        if image_tokens <= 0 {
            return refuse("image_tokens", format!("{image_tokens} tokens; there must be an image"));
        }
        let shifted = |sigma: f32| match config.dynamic_shift(image_tokens) {
            Some(mu) => {
                let e = mu.exp() as f32;
                e / (e + (1.0 / sigma - 1.0))
            }
            None => config.shift as f32 * sigma / (1.0 + (config.shift - 1.0) as f32 * sigma),
        };
        let mut sigmas: Vec<f32> = evenly_to_zero(steps).map(shifted).collect();
        let timesteps = sigmas.iter().map(|sigma| sigma * config.num_train_timesteps as f32).collect();
        sigmas.push(0.0);
        Ok(Self { sigmas, timesteps })
    }

    /// Number of steps.
    pub fn steps(&self) -> usize {
        self.timesteps.len()
    }

    /// Noise levels before each step and, last, 0: `steps + 1` numbers.
    pub fn sigmas(&self) -> &[f32] {
        &self.sigmas
    }

    /// Noise levels before each step as the network was trained on them, from 0 to `num_train_timesteps`.
    pub fn timesteps(&self) -> &[f32] {
        &self.timesteps
    }

    /// Returns the noise level before a step.
    ///
    /// # Errors
    /// There is no such step.
    pub fn sigma(&self, step: usize) -> Result<f32> {
        self.check(step)?;
        Ok(self.sigmas[step])
    }

    /// Returns the noise level before a step as passed to the network, from 0 to 1, rounded for `kind`: diffusers'
    /// pipelines round the timestep and then its thousandth.
    ///
    /// # Errors
    /// There is no such step; libtorch fails.
    pub fn noise_level(&self, step: usize, kind: Kind) -> Result<f64> {
        self.check(step)?;
        let timestep = Tensor::f_from_slice(&self.timesteps[step..=step])?.f_to_kind(kind)?;
        Ok(timestep.f_div_scalar(1000.0)?.f_double_value(&[0])?)
    }

    /// Returns the latents after a step from `sample` with the predicted `velocity`, both of any shape. The sum is
    /// computed in float32 and returned in the type of `velocity`.
    ///
    /// # Errors
    /// There is no such step; libtorch fails (shapes).
    pub fn step(&self, sample: &Tensor, velocity: &Tensor, step: usize) -> Result<Tensor> {
        self.check(step)?;
        // As in diffusers, the distance is rounded to the type of the velocity before the product.
        let distance = Tensor::f_from_slice(&[self.sigmas[step + 1] - self.sigmas[step]])?;
        let change = distance.f_squeeze_dim(0)?.f_mul(velocity)?;
        Ok(sample.f_to_kind(Kind::Float)?.f_add(&change)?.f_to_kind(velocity.kind())?)
    }

    /// Returns the first step of a run that begins with an image instead of noise: `steps · strength` steps are left,
    /// rounded up, as in diffusers' `FluxImg2ImgPipeline`. A strength of 1 runs all steps.
    ///
    /// # Errors
    /// The strength lies outside 0 to 1, or leaves no step.
    pub fn first_step(&self, strength: f64) -> Result<usize> {
        if !(0.0..=1.0).contains(&strength) {
            return refuse("strength", format!("{strength} is not between 0 and 1"));
        }
        let steps = self.steps() as f64;
        let first = (steps - (steps * strength).min(steps)).max(0.0) as usize;
        if first == self.steps() {
            let steps = self.steps();
            return refuse("strength", format!("{strength} leaves none of {steps} steps; raise either"));
        }
        Ok(first)
    }

    fn check(&self, step: usize) -> Result<()> {
        if step < self.steps() {
            return Ok(());
        }
        refuse("step", format!("{step} of a schedule of {} steps, counted from 0", self.steps()))
    }
}

/// `σ · noise + (1 - σ) · latents`, in the type and on the device of `latents`.
///
/// # Errors
/// The shapes differ; libtorch fails.
pub fn add_noise(latents: &Tensor, noise: &Tensor, sigma: f32) -> Result<Tensor> {
    if latents.size() != noise.size() {
        let reason = format!("shape {:?} for latents of shape {:?}", noise.size(), latents.size());
        return refuse("noise", reason);
    }
    // As in diffusers, the noise level has the type of the latents, so 1 - σ is rounded in that type.
    let options = (latents.kind(), latents.device());
    let sigma = Tensor::f_full([1], f64::from(sigma), options)?;
    let rest = Tensor::f_ones([1], options)?.f_sub(&sigma)?;
    let noise = noise.f_to_device(latents.device())?.f_to_kind(latents.kind())?;
    Ok(noise.f_mul(&sigma)?.f_add(&latents.f_mul(&rest)?)?)
}

/// Returns `steps` equally spaced numbers from 1 to `1/steps`, computed as in numpy's `linspace` in float64, then
/// converted to float32.
fn evenly_to_zero(steps: usize) -> impl Iterator<Item = f32> {
    let last = 1.0 / steps as f64;
    let distance = (last - 1.0) / (steps.max(2) - 1) as f64;
    (0..steps).map(move |i| match i {
        0 => 1.0,
        i if i + 1 == steps => last as f32,
        i => (i as f64 * distance + 1.0) as f32,
    })
}

fn refuse<T>(input: &'static str, reason: String) -> Result<T> {
    Err(Error::Input { input, reason })
}
