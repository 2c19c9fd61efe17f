//! Experiments as files, runs that can be resumed, metrics and tables.
//!
//! [`Experiment`] is an experiment file as checked; [`Plan`] is an experiment whose weights and data are known to be
//! there; [`execute`] runs it to a [`results::Results`]. Metrics are plain numeric code that never sees a tensor.

pub mod analysis;
mod environment;
mod error;
mod experiment;
pub mod metrics;
mod model;
mod paper;
mod plan;
pub mod plot;
mod progress;
mod record_log;
mod report;
pub mod results;
mod run;
pub mod show;
mod table;

pub use error::{Error, Result};
pub use experiment::{Experiment, Fills, TaskConfig};
pub use model::{ClassSource, Dtype, ModelConfig, ModelSource};
pub use paper::PaperTable;
pub use plan::{Plan, RunOptions};
pub use report::paper_tables;
pub use run::{Outcome, execute};
pub use table::Table;
