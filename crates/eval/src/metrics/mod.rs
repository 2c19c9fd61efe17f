//! Numeric building blocks of metrics, on plain numbers. The metrics themselves are defined in each experiment.

pub mod bootstrap;
pub mod clusters;
pub(crate) mod exact;
pub mod fidelity;
pub mod per_item;
pub mod significance;
