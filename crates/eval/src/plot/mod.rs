//! Pictures of results: curves, score overlays and heat maps as PNG files.
//!
//! Plain numbers in, one file out. Text is set in a font that is shipped with the program (DejaVu Sans), so a picture
//! looks the same on every machine. Files appear whole: they are written beside their place and renamed.

mod axes;
mod bar;
mod canvas;
mod color;
mod curves;
mod family;
mod gallery;
mod heatmap;
mod histogram;
mod overlays;
mod picture;
mod regions;
mod segments;
mod ticks;
mod tiles;

use std::io;
use std::path::PathBuf;

use thiserror::Error;

pub use curves::{CurvePlot, SIZE as CURVES_SIZE, Series, curves};
pub use family::{Family, Line, Member, Stroke, family};
pub use gallery::{Gallery, gallery};
pub use heatmap::{HeatMap, heatmap};
pub use histogram::{Histogram, histogram};
pub use overlays::{Ends, Map, OverlayRow, overlays};
pub use picture::Rgb;
pub use regions::{Region, Regions, regions};
pub use segments::{Kind, Segmented, SegmentsRow, SegmentsSheet, segments};
pub use tiles::{Section, Tile, TileSheet, tiles};

/// Why a picture was not made.
#[derive(Debug, Error)]
pub enum PlotError {
    /// The file cannot be written.
    #[error("the picture {path} cannot be written: {source}; check that the folder exists and has space")]
    Write {
        /// Where it was to go.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The data do not have the shape they say they have.
    #[error("the picture {path} cannot be drawn: {what}")]
    Shape {
        /// Where it was to go.
        path: PathBuf,
        /// Which sizes disagree.
        what: String,
    },
    /// The drawing library gave up.
    #[error("the picture {path} cannot be drawn: {reason}")]
    Draw {
        /// Where it was to go.
        path: PathBuf,
        /// In the library's words.
        reason: String,
    },
}

#[cfg(test)]
mod tests;
