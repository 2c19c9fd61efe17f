//! The binary as people run it.

mod attend;
mod common;
mod rank;
mod run;
mod text;
