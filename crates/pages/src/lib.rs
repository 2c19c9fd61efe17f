//! Pages that people look at: [`show`] draws the chains of one image, [`report`](fn@report) the finished runs of a folder. Each is one HTML
//! file that loads nothing.

#![deny(clippy::print_stdout, clippy::print_stderr)]

mod html;
mod report;
pub mod show;

pub use report::{ReportPage, report};
