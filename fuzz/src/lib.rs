//! What the fuzz targets share with the tests that run their corpus.

#[cfg(feature = "eval")]
mod eval_targets;
mod targets;

#[cfg(feature = "eval")]
pub use eval_targets::*;
pub use targets::*;
