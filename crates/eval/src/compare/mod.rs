//! Compares results with a baseline: which metric has moved, by how much, and whether the difference is significant.
//!
//! [`compare`] takes [`Runs`], read from folders ([`read_runs`]) or from a [`Baseline`] file, and gives a [`Verdict`] for
//! every value; [`Request::answer`] is the whole command. See docs/compare.md.

mod baseline;
mod comparison;
mod difference;
mod junit;
mod layout;
mod noise;
mod report;
mod request;
mod snapshot;
#[cfg(test)]
mod tests;
mod tolerance;
mod update;
mod verdict;

pub use baseline::Baseline;
pub use comparison::compare;
pub use difference::Difference;
pub use report::Report;
pub use request::{Answer, Request};
pub use snapshot::{Measured, Runs, Snapshot, read_runs};
pub use tolerance::{Tolerance, Tolerances};
pub use update::{RunUpdate, Update};
pub use verdict::{Compared, Verdict};
