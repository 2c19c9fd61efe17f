//! Denoising diffusion implicit models (arXiv 2010.02502) without added noise.

use tch::Tensor;

use super::schedule::NoiseSchedule;
use super::solver::Solver;
use crate::error::Result;

#[derive(Debug)]
pub(super) struct Ddim {
    pub(super) schedule: NoiseSchedule,
    pub(super) times: Vec<i64>,
    /// Distance from one timestep to the next.
    pub(super) stride: i64,
    /// The clean image is clipped to this range.
    pub(super) clip: Option<f64>,
}

impl Solver for Ddim {
    /// Equation 12 with σ = 0.
    fn step(&mut self, pass: usize, output: &Tensor, sample: &Tensor) -> Result<Tensor> {
        let Self { schedule, times, stride, clip } = self;
        let time = times[pass];
        let level = schedule.at(time)?;
        let clean = level.clean(sample, output)?;
        let noise = level.noise(sample, output)?;
        let clean = match *clip {
            Some(range) => clean.f_clamp(-range, range)?,
            None => clean,
        };
        let alpha = schedule.alpha(time - *stride);
        let direction = noise.f_mul_scalar(f64::from((1.0 - alpha).sqrt()))?;
        Ok(clean.f_mul_scalar(f64::from(alpha.sqrt()))?.f_add(&direction)?)
    }
}
