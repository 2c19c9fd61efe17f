//! Figures of results: curves, score overlays, heat maps and the like.
//!
//! Plain numbers go in, the content of a PNG file comes out. Text is set in a font that is shipped with the program
//! (DejaVu Sans), so a figure looks the same on every machine.

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

use thiserror::Error;

pub use color::viridis;
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

/// Why a figure was not drawn.
#[derive(Debug, Error)]
pub enum PlotError {
    /// The data do not have the shape they say they have: which sizes disagree.
    #[error("{0}")]
    Shape(String),
    /// The drawing library failed, in its own words.
    #[error("{0}")]
    Draw(String),
}

#[cfg(test)]
mod tests;
