//! Results beside the values they are held to: which metric has moved, by how much, and whether the items bear it out.
//!
//! [`compare`] looks at [`Runs`], be they of folders ([`read_runs`]) or of a [`Baseline`] file, and says a [`Verdict`] of
//! every value; [`Request::answer`] is the whole command. How: docs/compare.md.

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
