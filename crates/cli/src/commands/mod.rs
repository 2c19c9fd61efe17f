//! One module per command: from its arguments to the call and the words printed.

pub mod attend;
pub mod compare;
pub mod doctor;
mod each;
pub mod fetch;
mod flux;
pub mod ls;
pub mod metrics;
pub mod rank;
pub mod report;
pub mod run;
pub mod show;
pub mod slurm;
pub mod validate;
