//! Tools that metrics are made of. Plain numbers in and out; what the metrics are stands with each experiment.

pub mod bootstrap;
pub(crate) mod exact;
pub mod fidelity;
pub mod per_item;
pub mod significance;
