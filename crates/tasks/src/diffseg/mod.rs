//! Segmentation without prompts: self-attention of Stable Diffusion merged into segments, after DiffSeg.

mod record;

pub use record::{Boundary, DiffSegRecord, Segments};
