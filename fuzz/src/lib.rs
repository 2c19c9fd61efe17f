//! The fuzz targets, which the tests on the corpus use as well.

#[cfg(feature = "eval")]
mod eval_targets;
mod targets;

#[cfg(feature = "eval")]
pub use eval_targets::*;
pub use targets::*;
