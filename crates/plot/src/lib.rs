//! Draws figures of results, such as curves, score overlays and heat maps.
//!
//! Each function takes plain numbers and returns the content of a PNG file. Text is set in a font that is shipped with the program
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
mod image;
mod overlays;
mod regions;
mod segments;
mod ticks;
mod tiles;

use thiserror::Error;

pub use color::viridis;
pub use curves::{CurvePlot, SIZE as CURVES_SIZE, Series, curves, stacked_curves};
pub use family::{Family, Line, Member, Stroke, family};
pub use gallery::{Gallery, gallery};
pub use heatmap::{HeatMap, heatmap};
pub use histogram::{Histogram, histogram};
pub use image::Rgb;
pub use overlays::{ColorRange, Map, OverlayRow, overlays};
pub use regions::{Region, Regions, regions};
pub use segments::{Kind, Segmented, SegmentsRow, SegmentsSheet, segments};
pub use tiles::{Section, Tile, TileSheet, tiles};

/// Reason why a figure could not be drawn.
#[derive(Debug, Error)]
pub enum PlotError {
    /// Sizes of the data disagree; the text names them.
    #[error("{0}")]
    Shape(String),
    /// The drawing library failed, with its message.
    #[error("{0}")]
    Draw(String),
}

#[cfg(test)]
mod tests;
