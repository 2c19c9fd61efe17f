//! What a sampler is made of.

use std::fmt::Debug;

use tch::Tensor;

use crate::error::Result;

/// A method of solving the differential equation from noise to an image, in the middle of one run.
pub(super) trait Solver: Debug {
    /// Returns the sample after pass `pass`, in which the network answered `output` to [`Solver::input`] of `sample`.
    fn step(&mut self, pass: usize, output: &Tensor, sample: &Tensor) -> Result<Tensor>;

    /// Returns the sample that a run begins with, from noise of variance 1.
    fn begin(&self, noise: &Tensor) -> Result<Tensor> {
        Ok(noise.shallow_clone())
    }

    /// Returns what the network reads in pass `pass`.
    fn input(&self, _pass: usize, sample: &Tensor) -> Result<Tensor> {
        Ok(sample.shallow_clone())
    }
}
