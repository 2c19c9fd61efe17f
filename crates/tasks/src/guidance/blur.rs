//! How latents are degraded.

use serde::{Deserialize, Serialize};

/// A Gaussian blur of latents.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Blur {
    /// Side of the kernel in latents, odd.
    pub kernel: usize,
    /// Standard deviation in latents.
    pub sigma: f64,
}

impl Default for Blur {
    /// diffusers' for latents.
    fn default() -> Self {
        Self { kernel: 9, sigma: 1.0 }
    }
}
