//! How much noise there is at which time.

use tch::{Device, Kind, Tensor};

use super::config::{BetaSchedule, PredictionType, SamplerConfig};
use crate::error::{Error, Result};

/// The noise of a training schedule: at time `t` a picture `x₀` and noise `ε` are `√ᾱₜ x₀ + √(1−ᾱₜ) ε`.
#[derive(Debug, Clone)]
pub struct NoiseSchedule {
    /// `ᾱ` of every time, in float32 as diffusers computes them.
    alphas: Vec<f32>,
    /// `ᾱ` before time 0.
    last: f32,
    prediction: PredictionType,
}

impl NoiseSchedule {
    /// The schedule that a configuration describes, bit for bit diffusers'.
    ///
    /// # Errors
    /// libtorch's.
    pub fn new(config: &SamplerConfig) -> Result<Self> {
        let times = config.num_train_timesteps;
        let even = |from: f64, to: f64| Tensor::f_linspace(from, to, times, (Kind::Float, Device::Cpu));
        let betas = match (&config.trained_betas, config.beta_schedule) {
            (Some(betas), _) => Tensor::f_from_slice(betas)?,
            (None, BetaSchedule::Linear) => even(config.beta_start, config.beta_end)?,
            (None, BetaSchedule::ScaledLinear) => {
                even(config.beta_start.sqrt(), config.beta_end.sqrt())?.f_square()?
            }
        };
        let alphas = betas.f_neg()?.f_add_scalar(1.0)?.f_cumprod(0, Kind::Float)?;
        let mut numbers = vec![0f32; times as usize];
        alphas.f_copy_data(&mut numbers, times as usize)?;
        let last = if config.ends_without_noise() { 1.0 } else { numbers[0] };
        Ok(Self { alphas: numbers, last, prediction: config.prediction_type })
    }

    /// `ᾱ` of a time; a time before 0 is the end of a run.
    pub(super) fn alpha(&self, time: i64) -> f32 {
        usize::try_from(time).map_or(self.last, |time| self.alphas[time.min(self.alphas.len() - 1)])
    }

    /// Number of times, counted from 0.
    pub fn times(&self) -> i64 {
        self.alphas.len() as i64
    }

    /// The picture without noise that a network's `output` means for `sample` at `time`; all of one shape.
    ///
    /// # Errors
    /// There is no such time; libtorch's.
    pub fn clean(&self, sample: &Tensor, output: &Tensor, time: i64) -> Result<Tensor> {
        let (signal, noise) = self.shares(time)?;
        Ok(match self.prediction {
            PredictionType::Epsilon => sample.f_sub(&output.f_mul_scalar(noise)?)?.f_div_scalar(signal)?,
            PredictionType::VPrediction => {
                sample.f_mul_scalar(signal)?.f_sub(&output.f_mul_scalar(noise)?)?
            }
        })
    }

    /// The noise that a network's `output` means for `sample` at `time`; all of one shape.
    ///
    /// # Errors
    /// As [`NoiseSchedule::clean`].
    pub fn noise(&self, sample: &Tensor, output: &Tensor, time: i64) -> Result<Tensor> {
        let (signal, noise) = self.shares(time)?;
        Ok(match self.prediction {
            PredictionType::Epsilon => output.shallow_clone(),
            PredictionType::VPrediction => {
                output.f_mul_scalar(signal)?.f_add(&sample.f_mul_scalar(noise)?)?
            }
        })
    }

    /// `√ᾱ clean + √(1−ᾱ) noise` at `time`, in the type of `clean`, in which `ᾱ` is rounded before, as in diffusers.
    ///
    /// # Errors
    /// As [`NoiseSchedule::clean`].
    pub fn add_noise(&self, clean: &Tensor, noise: &Tensor, time: i64) -> Result<Tensor> {
        self.check(time)?;
        let alpha = Tensor::f_full([1], f64::from(self.alpha(time)), (clean.kind(), clean.device()))?;
        let rest = alpha.f_neg()?.f_add_scalar(1.0)?.f_sqrt()?;
        Ok(clean.f_mul(&alpha.f_sqrt()?)?.f_add(&noise.f_mul(&rest)?)?)
    }

    /// `√ᾱ` and `√(1−ᾱ)`, rounded to float32.
    fn shares(&self, time: i64) -> Result<(f64, f64)> {
        self.check(time)?;
        let alpha = self.alpha(time);
        Ok((f64::from(alpha.sqrt()), f64::from((1.0 - alpha).sqrt())))
    }

    fn check(&self, time: i64) -> Result<()> {
        if (0..self.times()).contains(&time) {
            return Ok(());
        }
        let reason = format!("{time} of a schedule of {} times, counted from 0", self.times());
        Err(Error::Input { input: "time", reason })
    }
}
