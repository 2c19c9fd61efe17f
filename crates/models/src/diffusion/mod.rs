//! Diffusion as in Stable Diffusion 1: the noise schedule of the training, and the samplers PNDM and DDIM, computed
//! step by step as in diffusers.
//!
//! ```
//! use models::diffusion::{Sampler, SamplerConfig};
//! # fn main() -> models::Result<()> {
//! # let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/diffusion/sd15");
//! let config = SamplerConfig::from_dir(&dir, None)?;
//! let mut sampler = Sampler::new(&config, 50)?;
//! # let mut latents = tch::Tensor::zeros([1, 4, 8, 8], (tch::Kind::Float, tch::Device::Cpu));
//! while let Some(time) = sampler.time() {
//!     let noise = latents.zeros_like(); // what a network predicts for `latents` at `time`
//!     # let _ = time;
//!     latents = sampler.step(&noise, &latents)?;
//! }
//! # Ok(()) }
//! ```

mod config;
mod sampler;
mod schedule;
mod times;

pub use config::{PredictionType, SamplerConfig, SamplerKind};
pub use sampler::Sampler;
pub use schedule::NoiseSchedule;
