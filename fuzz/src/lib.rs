//! What the fuzz targets share with the tests that run their corpus.

#[cfg(feature = "experiment")]
mod experiment;
mod targets;

#[cfg(feature = "experiment")]
pub use experiment::experiment;
pub use targets::*;
