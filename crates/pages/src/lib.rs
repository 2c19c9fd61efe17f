//! Writes HTML pages: [`show`] shows the chains of one image, [`report`](fn@report) the finished runs of a folder. Each page is one
//! file that loads nothing.

#![deny(clippy::print_stdout, clippy::print_stderr)]

mod report;
pub mod show;

pub use report::{ReportPage, report};
