//! One module per command: it turns the arguments into a call of the libraries and prints the result.

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
