//! Euler's method (arXiv 2206.00364, algorithm 1 without its second-order correction), diffusers' `EulerDiscreteScheduler`.
//!
//! Samples are `x₀ + σ ε`, not `√ᾱ x₀ + √(1−ᾱ) ε` as a network reads them; [`Solver::input`] converts them.

use tch::{Kind, Tensor};

use super::config::Spacing;
use super::sigmas::Sigmas;
use super::solver::Solver;
use crate::error::Result;

#[derive(Debug)]
pub(super) struct Euler {
    sigmas: Sigmas,
    /// Factor of the noise that a run begins with.
    first: f64,
}

impl Euler {
    pub(super) fn new(sigmas: Sigmas, spacing: Spacing) -> Self {
        let most = sigmas.sigma(0);
        // A run that begins below the noisiest time begins with the variance of image and noise together.
        let first = if spacing == Spacing::Leading { (most * most + 1.0).sqrt() } else { most };
        Self { sigmas, first }
    }
}

impl Solver for Euler {
    fn step(&mut self, pass: usize, output: &Tensor, sample: &Tensor) -> Result<Tensor> {
        let (here, there) = (self.sigmas.sigma(pass), self.sigmas.sigma(pass + 1));
        let single = sample.f_to_kind(Kind::Float)?;
        let clean =
            self.sigmas.level(pass).clean(&self.input(pass, &single)?, &output.f_to_kind(Kind::Float)?)?;
        let direction = single.f_sub(&clean)?.f_div_scalar(here)?;
        Ok(single.f_add(&direction.f_mul_scalar(there - here)?)?.f_to_kind(sample.kind())?)
    }

    fn begin(&self, noise: &Tensor) -> Result<Tensor> {
        Ok(noise.f_mul_scalar(self.first)?)
    }

    fn input(&self, pass: usize, sample: &Tensor) -> Result<Tensor> {
        let sigma = self.sigmas.sigma(pass);
        Ok(sample.f_div_scalar((sigma * sigma + 1.0).sqrt())?)
    }
}
