//! One module per command: it turns the arguments into a call of the libraries and prints the result.

pub(crate) mod attend;
pub(crate) mod compare;
pub(crate) mod completions;
pub(crate) mod doctor;
mod each;
pub(crate) mod fetch;
mod flux;
pub(crate) mod ls;
pub(crate) mod metrics;
pub(crate) mod rank;
pub(crate) mod report;
pub(crate) mod run;
mod sd;
pub(crate) mod show;
pub(crate) mod slurm;
pub(crate) mod sweep_report;
pub(crate) mod validate;
