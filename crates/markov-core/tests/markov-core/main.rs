//! The algorithms against known answers, second computations and each other, in one binary.
#![allow(unreachable_pub)]

mod absorption;
mod attention;
mod common;
#[cfg(feature = "torch")]
mod fused;
mod known_answers;
mod matrix_free;
mod metastable;
mod properties;
mod reducible;
#[cfg(feature = "torch")]
mod torch;
