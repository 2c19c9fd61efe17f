//! Diffusion as Stable Diffusion 1 does it: the noise of a training schedule, and the samplers PNDM and DDIM that lead from
//! noise to an image, step by step as diffusers computes them.
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
