//! The distribution of latents that an encoder returns.

use tch::Tensor;

use crate::error::{Error, Result};

/// Logarithms of variances are clipped to this range.
const LOGVAR: (f64, f64) = (-30.0, 20.0);

/// Independent normal distributions of latents, each `[batch, latent_channels, h, w]`.
#[derive(Debug)]
pub struct Posterior {
    /// Means.
    pub mean: Tensor,
    /// Logarithms of the variances.
    pub logvar: Tensor,
}

impl Posterior {
    /// Splits `[batch, 2 · latent_channels, h, w]`, which has the means first.
    pub(super) fn of(parameters: &Tensor) -> Result<Self> {
        let halves = parameters.f_chunk(2, 1)?;
        Ok(Self { mean: halves[0].shallow_clone(), logvar: halves[1].f_clamp(LOGVAR.0, LOGVAR.1)? })
    }

    /// Returns the most likely latents, which are the means.
    pub fn mode(&self) -> Tensor {
        self.mean.shallow_clone()
    }

    /// Returns a sample of the latents. `noise` is standard normal, of the same shape, any float type and on any
    /// device.
    ///
    /// # Errors
    /// The noise has another shape; libtorch fails.
    pub fn sample(&self, noise: &Tensor) -> Result<Tensor> {
        if noise.size() != self.mean.size() {
            let reason = format!("shape {:?} for latents of shape {:?}", noise.size(), self.mean.size());
            return Err(Error::Input { input: "noise", reason });
        }
        let noise = noise.f_to_device(self.mean.device())?.f_to_kind(self.mean.kind())?;
        let deviation = self.logvar.f_mul_scalar(0.5)?.f_exp()?;
        Ok(self.mean.f_add(&deviation.f_mul(&noise)?)?)
    }
}
