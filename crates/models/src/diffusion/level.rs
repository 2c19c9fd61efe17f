//! How much of a noisy sample is image, and how much noise.

use half::{bf16, f16};
use tch::{Kind, Tensor};

use super::config::PredictionType;
use crate::error::Result;

/// The noise in what a network reads in one pass: `√ᾱ x₀ + √(1−ᾱ) ε` of an image `x₀` and noise `ε`.
#[derive(Debug, Clone, Copy)]
pub struct NoiseLevel {
    alpha: f64,
    /// `√ᾱ`.
    signal: f64,
    /// `√(1−ᾱ)`.
    noise: f64,
    prediction: PredictionType,
}

impl NoiseLevel {
    /// The level of a timestep of the training, from its `ᾱ`; the roots are rounded to float32 as in diffusers.
    pub(super) fn of_alpha(alpha: f32, prediction: PredictionType) -> Self {
        let (signal, noise) = (f64::from(alpha.sqrt()), f64::from((1.0 - alpha).sqrt()));
        Self { alpha: f64::from(alpha), signal, noise, prediction }
    }

    /// The level at which the noise is `sigma` times as large as the image.
    pub(super) fn of_sigma(sigma: f64, prediction: PredictionType) -> Self {
        let signal = 1.0 / (sigma * sigma + 1.0).sqrt();
        Self { alpha: signal * signal, signal, noise: sigma * signal, prediction }
    }

    /// `√ᾱ`.
    pub(super) fn signal(&self) -> f64 {
        self.signal
    }

    /// `√(1−ᾱ)`.
    pub(super) fn amount(&self) -> f64 {
        self.noise
    }

    /// Returns the noise-free image that the prediction `output` implies for `sample`. All have the same shape.
    ///
    /// # Errors
    /// libtorch fails.
    pub fn clean(&self, sample: &Tensor, output: &Tensor) -> Result<Tensor> {
        let &Self { signal, noise, prediction, .. } = self;
        Ok(match prediction {
            PredictionType::Epsilon => sample.f_sub(&output.f_mul_scalar(noise)?)?.f_div_scalar(signal)?,
            PredictionType::VPrediction => {
                sample.f_mul_scalar(signal)?.f_sub(&output.f_mul_scalar(noise)?)?
            }
        })
    }

    /// Returns the noise that the prediction `output` implies for `sample`. All have the same shape.
    ///
    /// # Errors
    /// libtorch fails.
    pub fn noise(&self, sample: &Tensor, output: &Tensor) -> Result<Tensor> {
        let &Self { signal, noise, prediction, .. } = self;
        Ok(match prediction {
            PredictionType::Epsilon => output.shallow_clone(),
            PredictionType::VPrediction => {
                output.f_mul_scalar(signal)?.f_add(&sample.f_mul_scalar(noise)?)?
            }
        })
    }

    /// Returns `√ᾱ clean + √(1−ᾱ) noise` in the type of `clean`. As in diffusers, `ᾱ` is rounded to that type first.
    ///
    /// # Errors
    /// libtorch fails.
    pub fn add_noise(&self, clean: &Tensor, noise: &Tensor) -> Result<Tensor> {
        let rounded = |number: f64| rounded(number, clean.kind());
        let alpha = rounded(self.alpha);
        // Not by libtorch: the square roots of MKL are not rounded to the nearest, and differ between processors.
        let (signal, rest) = (rounded(alpha.sqrt()), rounded(rounded(1.0 - alpha).sqrt()));
        Ok(clean.f_mul_scalar(signal)?.f_add(&noise.f_mul_scalar(rest)?)?)
    }
}

/// Rounds a number to the precision of a tensor type. Narrow types are computed in float32 and then rounded.
fn rounded(number: f64, kind: Kind) -> f64 {
    let single = number as f32;
    #[expect(clippy::wildcard_enum_match_arm, reason = "networks compute in no other of libtorch's types")]
    match kind {
        Kind::Double => number,
        Kind::BFloat16 => bf16::from_f32(single).to_f64(),
        Kind::Half => f16::from_f32(single).to_f64(),
        _ => f64::from(single),
    }
}
