//! The binary as people run it.

mod attend;
mod common;
mod compare;
mod diffseg;
mod fetch;
mod flux;
mod guidance;
mod metrics;
mod paper;
mod paper_diffseg;
mod paper_guidance;
mod paper_segment;
mod rank;
mod run;
mod sd;
mod segment;
#[path = "../../../models/tests/hub/server.rs"]
mod server;
mod show;
mod sweep;
mod text;
