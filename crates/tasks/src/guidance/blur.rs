//! Blurring of latents.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A Gaussian blur of latents.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Blur {
    /// Side of the kernel in latent pixels; an odd number.
    pub kernel: usize,
    /// Standard deviation in latent pixels; above 0.
    pub sigma: f64,
}

impl Default for Blur {
    /// The values that diffusers uses for latents.
    fn default() -> Self {
        Self { kernel: 9, sigma: 1.0 }
    }
}
