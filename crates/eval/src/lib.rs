//! Experiments as files, runs that can be resumed, metrics and tables.
//!
//! [`Experiment`] is a checked experiment file; [`Plan`] is an experiment whose weights and data are known to exist;
//! [`execute`] runs it and returns [`results::Results`]. A [`Sweep`] is many of them in one file. Metrics are plain numeric
//! code that never sees a tensor.

#![deny(clippy::print_stdout, clippy::print_stderr)]

pub mod analysis;
mod by_name;
pub mod compare;
pub mod embedded;
mod error;
pub mod evidence;
mod execute;
mod experiment;
pub mod experiments;
mod folder;
pub mod forged;
mod idle;
pub mod image_metrics;
mod judge;
mod merge;
pub mod metrics;
mod model;
mod needs;
mod paper;
mod paper_table;
mod plan;
#[cfg(test)]
mod reference;
pub mod results;
mod source;
mod sweep;
mod table;

pub use error::{Error, Result, several};
pub use execute::{Finished, Outcome, ShardOutcome, execute, is_file_of_run, refuse_foreign_tables};
pub use experiment::{Experiment, Fills, TaskConfig, title};
pub use experiments::PaperTarget;
pub use folder::RunFolder;
pub use judge::{MetricsConfig, Subsets};
pub use merge::{MergeOptions, Merged, merge};
pub use model::{ClassSource, Dtype, ModelConfig, ModelSource};
pub use needs::Needs;
pub use paper::PaperTable;
pub use paper_table::Named as NamedResults;
pub use paper_table::{paper_tables, whole};
pub use plan::{Plan, RunOptions};
pub use source::Source;
pub use sweep::{SearchOutcome, search as search_sweep};
pub use sweep::{Shared, StoredColumn, StoredCombination, StoredMethod, StoredSweep};
pub use sweep::{Sweep, SweepFinished, SweepOutcome, Variant};
pub use table::{Cell, Row, Table};
pub use tasks::Failure as ItemFailure;
