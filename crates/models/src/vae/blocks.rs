//! The levels of encoder and decoder.

use tch::Tensor;

use crate::error::Result;
use crate::nn::{Double, Groups, Halve, Residual};
use crate::weights::Weights;

/// The step between two levels.
pub(super) enum Resample {
    /// Towards the coarser level.
    Halve(Halve),
    /// Towards the finer level.
    Double(Double),
}

impl Resample {
    pub(super) fn halve(weights: &Weights, channels: i64) -> Result<Self> {
        Ok(Self::Halve(Halve::load(weights, channels, 0)?))
    }

    pub(super) fn double(weights: &Weights, channels: i64) -> Result<Self> {
        Ok(Self::Double(Double::load(weights, channels)?))
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Halve(step) => step.forward(x),
            Self::Double(step) => step.forward(x, None),
        }
    }
}

/// Residual blocks at one size, then the step to the next.
pub(super) struct Level {
    resnets: Vec<Residual>,
    resample: Option<Resample>,
}

impl Level {
    /// Reads `count` residual blocks from `input` to `output` channels.
    pub(super) fn load(
        weights: &Weights,
        (input, output): (i64, i64),
        count: usize,
        groups: Groups,
        resample: Option<Resample>,
    ) -> Result<Self> {
        let resnets = weights.pp("resnets");
        let resnets = (0..count)
            .map(|i| {
                Residual::load(&resnets.pp(i), (if i == 0 { input } else { output }, output), groups, None)
            })
            .collect::<Result<_>>()?;
        Ok(Self { resnets, resample })
    }

    pub(super) fn forward(&self, x: Tensor) -> Result<Tensor> {
        let x = self.resnets.iter().try_fold(x, |x, block| block.forward(&x, None))?;
        self.resample.as_ref().map_or(Ok(x.shallow_clone()), |resample| resample.forward(&x))
    }
}
