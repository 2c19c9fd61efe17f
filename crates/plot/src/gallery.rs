//! Draws images in rows and columns.

use super::PlotError;
use super::canvas::{Align, Canvas, Text, two_lines};
use super::color::{FAINT, INK};
use super::image::{Rgb, fitting, resized};

/// Rows of images, each row under one heading.
#[derive(Debug, Clone, PartialEq)]
pub struct Gallery {
    /// Title of each column.
    pub columns: Vec<String>,
    /// Heading of each row, and an image for each column.
    pub rows: Vec<(String, Vec<Rgb>)>,
}

const MARGIN: u32 = 30;
const GAP: u32 = 12;
const TOP: u32 = 60;
const HEADING: u32 = 46;
const TEXT: f64 = 28.0;
const SMALL: f64 = 24.0;

/// Draws a gallery.
///
/// # Errors
/// Fails with [`PlotError::Shape`] if there is no image, an image has a wrong number of samples, or a row does not have one image
/// for each column; with [`PlotError::Draw`] if the drawing library fails.
pub fn gallery(gallery: &Gallery) -> Result<Vec<u8>, PlotError> {
    check(gallery).map_err(PlotError::Shape)?;
    let columns = gallery.columns.len() as u32;
    // Few columns are shown large, many small enough for one page.
    let side = (2400 / columns).saturating_sub(GAP).clamp(128, 384);
    let row_height = |row: &[Rgb]| row.iter().map(|image| fitting(image, side).1).max().unwrap_or(side);
    let width = 2 * MARGIN + columns * side + (columns - 1) * GAP;
    let height =
        TOP + gallery.rows.iter().map(|(_, row)| HEADING + row_height(row) + GAP).sum::<u32>() + MARGIN;
    let mut canvas = Canvas::new(width, height)?;
    let left = |column: u32| MARGIN + column * (side + GAP);
    let faint = Text { size: SMALL, ink: FAINT, align: Align::Middle, upwards: false };
    for (column, title) in (0..).zip(&gallery.columns) {
        let centre = f64::from(left(column)) + f64::from(side) / 2.0;
        if let Some(line) = two_lines(title, SMALL, f64::from(side)).first() {
            canvas.text((centre, f64::from(TOP) / 2.0), line, faint)?;
        }
    }
    let mut y = TOP;
    for (heading, row) in &gallery.rows {
        let text = Text { size: TEXT, ink: INK, align: Align::Start, upwards: false };
        canvas.text((f64::from(MARGIN), f64::from(y + HEADING / 2)), heading, text)?;
        y += HEADING;
        for (column, image) in (0..).zip(row) {
            let (w, h) = fitting(image, side);
            let pixels = resized(image, w, h);
            canvas.paint((left(column) + (side - w) / 2, y), (w, h), |x, y| pixels[(y * w + x) as usize]);
        }
        y += row_height(row) + GAP;
    }
    canvas.finish()
}

fn check(Gallery { columns, rows }: &Gallery) -> Result<(), String> {
    if columns.is_empty() || rows.is_empty() {
        return Err("there is no image to draw".to_owned());
    }
    for (heading, row) in rows {
        if row.len() != columns.len() {
            return Err(format!("row `{heading}` has {} images for {} columns", row.len(), columns.len()));
        }
        for (image, column) in row.iter().zip(columns) {
            image.check().map_err(|what| format!("row `{heading}`, column `{column}`: {what}"))?;
        }
    }
    Ok(())
}
