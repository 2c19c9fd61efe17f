//! The binary as people run it.

mod attend;
mod common;
mod fetch;
mod flux;
mod rank;
mod run;
#[path = "../../../models/tests/hub/server.rs"]
mod server;
mod show;
mod sweep;
mod text;
