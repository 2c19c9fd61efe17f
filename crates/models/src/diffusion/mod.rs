//! Diffusion as in Stable Diffusion 1: the noise schedule of the training, and the samplers PNDM, DDIM, Euler,
//! DPM-Solver++ and UniPC, computed step by step as in diffusers.
//!
//! ```
//! use models::diffusion::{Sampler, SamplerConfig};
//! # fn main() -> models::Result<()> {
//! # let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/diffusion/sd15");
//! let config = SamplerConfig::from_dir(&dir, None)?;
//! let mut sampler = Sampler::new(&config, 50)?;
//! # let noise = tch::Tensor::zeros([1, 4, 8, 8], (tch::Kind::Float, tch::Device::Cpu));
//! let mut latents = sampler.begin(&noise)?;
//! while let Some(time) = sampler.time() {
//!     let shown = sampler.input(&latents)?;
//!     let output = shown.zeros_like(); // what a network predicts for `shown` at `time`
//!     # let _ = time;
//!     latents = sampler.step(&output, &latents)?;
//! }
//! # Ok(()) }
//! ```

mod config;
mod ddim;
mod dpm;
mod euler;
mod level;
mod pndm;
mod sampler;
mod schedule;
mod sigmas;
mod solver;
mod times;
mod unipc;

pub use config::{PredictionType, SamplerConfig, SamplerKind};
pub use level::NoiseLevel;
pub use sampler::Sampler;
pub use schedule::NoiseSchedule;
