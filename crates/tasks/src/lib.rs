//! The experiments of the paper and the datasets they read.
//!
//! An experiment is a [`Task`]: a manifest of items, each answered by one record. The crate `eval` stores the records,
//! resumes runs and computes metrics and tables.

mod ahead;
mod alpha;
pub mod dataset;
mod decoded;
pub mod diffseg;
mod error;
pub mod guidance;
pub mod kept;
pub mod masking;
mod method;
pub mod mini;
mod pixels;
pub mod score_file;
mod screen;
mod seed;
pub mod segment;
mod task;
mod texts;
mod vocabulary;

pub use error::{Error, Result, missing};
pub use mini::rng::Rng;
pub use task::{Answer, Failure, Fault, Rest, Task};
pub use vocabulary::{OLD_NAMES, OldName};
