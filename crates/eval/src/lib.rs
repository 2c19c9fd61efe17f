//! Experiments as files, runs that can be resumed, metrics and tables.
//!
//! [`Experiment`] is an experiment file as checked; [`Plan`] is an experiment whose weights and data are known to be
//! there; [`execute`] runs it to a [`results::Results`]. A [`Sweep`] is many of them in one file. Metrics are plain numeric
//! code that never sees a tensor.

#![deny(clippy::print_stdout, clippy::print_stderr)]

pub mod analysis;
mod by_name;
pub mod compare;
mod differences;
mod diffseg_report;
mod environment;
mod error;
mod experiment;
mod files;
mod guidance_report;
mod html;
mod idle;
mod judge;
mod masking_report;
pub mod metrics;
mod model;
mod paper;
mod paper_table;
pub mod picture_metrics;
mod plan;
pub mod plot;
mod progress;
#[cfg(test)]
mod reference;
mod report_page;
pub mod results;
mod run;
mod segment_report;
pub mod show;
pub mod slurm;
mod sweep;
mod table;
mod work;

pub use error::{Error, Result};
pub use experiment::{Experiment, Fills, TaskConfig, title};
pub use judge::{MetricsConfig, Subsets};
pub use model::{ClassSource, Dtype, ModelConfig, ModelSource};
pub use paper::PaperTable;
pub use paper_table::Named as NamedResults;
pub use paper_table::paper_tables;
pub use plan::{Beside, Plan, RunOptions};
pub use report_page::{ReportPage, report};
pub use run::{Finished, MergeOptions, Outcome, RunFolder, Shard, ShardOutcome, execute, merge};
pub use sweep::{Shared, Sweep, SweepFinished, SweepOutcome, SweptMethod, Variant};
pub use table::{Cell, Row, Table};
pub use tasks::Failure as ItemFailure;
