//! Metrics against second computations, in one binary.
#![allow(unreachable_pub)]

mod claims;
mod clusters_golden;
mod diffseg_golden;
#[path = "../../../models/tests/models/inception_golden/draw.rs"]
mod draw;
mod fidelity;
mod fidelity_golden;
mod inception_metrics;
mod segment_golden;
