//! The noise schedule of the training.

use super::config::{BetaSchedule, PredictionType, SamplerConfig};
use super::level::NoiseLevel;
use crate::error::{Error, Result};

/// The noise schedule of the training: at timestep `t` an image `x₀` and noise `ε` are `√ᾱₜ x₀ + √(1−ᾱₜ) ε`.
#[derive(Debug, Clone)]
pub struct NoiseSchedule {
    /// `ᾱ` of every timestep, in float32 as diffusers computes them.
    alphas: Vec<f32>,
    /// `ᾱ` before timestep 0.
    last: f32,
    prediction: PredictionType,
}

impl NoiseSchedule {
    /// Computes the schedule of a configuration in float32 as diffusers does. It uses only additions, products and
    /// square roots, so that it is the same to the bit on every machine. diffusers' own result differs between
    /// processors in the last digit, since `torch.linspace` adds as many steps at once as their registers hold.
    pub fn new(config: &SamplerConfig) -> Self {
        let times = config.num_train_timesteps;
        let even = |from: f64, to: f64| evenly(from as f32, to as f32, times);
        let betas = match (&config.trained_betas, config.beta_schedule) {
            (Some(betas), _) => betas.clone(),
            (None, BetaSchedule::Linear) => even(config.beta_start, config.beta_end),
            (None, BetaSchedule::ScaledLinear) => {
                let roots = even(config.beta_start.sqrt(), config.beta_end.sqrt());
                roots.into_iter().map(|root| root * root).collect()
            }
        };
        // libtorch's `cumprod` keeps the product in double precision and rounds what it stores.
        let product = |product: &mut f64, beta: f32| {
            *product *= f64::from(1.0 - beta);
            Some(*product as f32)
        };
        let alphas: Vec<f32> = betas.into_iter().scan(1.0, product).collect();
        let last = if config.ends_without_noise() { 1.0 } else { alphas[0] };
        Self { alphas, last, prediction: config.prediction_type }
    }

    /// Returns `ᾱ` of a timestep. A timestep below 0 is the end of a run.
    pub(super) fn alpha(&self, time: i64) -> f32 {
        usize::try_from(time).map_or(self.last, |time| self.alphas[time.min(self.alphas.len() - 1)])
    }

    /// Returns `√((1−ᾱ)/ᾱ)` of every timestep in float32, rising.
    pub(super) fn sigmas(&self) -> Vec<f32> {
        self.alphas.iter().map(|alpha| ((1.0 - alpha) / alpha).sqrt()).collect()
    }

    /// Number of timesteps, counted from 0.
    pub fn times(&self) -> i64 {
        self.alphas.len() as i64
    }

    /// Returns the noise at a timestep.
    ///
    /// # Errors
    /// There is no such timestep.
    pub fn at(&self, time: i64) -> Result<NoiseLevel> {
        if (0..self.times()).contains(&time) {
            return Ok(NoiseLevel::of_alpha(self.alpha(time), self.prediction));
        }
        let reason = format!("{time} of a schedule of {} times, counted from 0", self.times());
        Err(Error::Input { input: "time", reason })
    }
}

/// Returns `count` numbers from `from` to `to`, each computed from the nearer end as in `torch.linspace`; only `from`
/// if `count` is 1.
fn evenly(from: f32, to: f32, count: i64) -> Vec<f32> {
    if count == 1 {
        return vec![from];
    }
    let step = (to - from) / (count - 1) as f32;
    (0..count)
        .map(|index| match index < count / 2 {
            true => from + step * index as f32,
            false => to - step * (count - 1 - index) as f32,
        })
        .collect()
}
