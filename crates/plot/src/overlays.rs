//! Draws scores over the images they belong to.

use super::PlotError;
use super::canvas::{Align, Canvas, Text, fitted, two_lines};
use super::color::{FAINT, INK, blend, bulk, grey, place, viridis};
use super::image::{Rgb, fitting, resized};

/// A score for each patch of an image.
#[derive(Debug, Clone, PartialEq)]
pub struct Map {
    /// Title of its column.
    pub title: String,
    /// Number of rows of patches.
    pub rows: usize,
    /// Number of patches in a row.
    pub cols: usize,
    /// `rows × cols` scores, row by row. A score that is not finite leaves its patch uncoloured.
    pub values: Vec<f64>,
}

/// An image with its scores.
#[derive(Debug, Clone, PartialEq)]
pub struct OverlayRow {
    /// The image.
    pub image: Rgb,
    /// Label above the row.
    pub label: String,
    /// The maps, with the same titles in the same order in every row.
    pub maps: Vec<Map>,
}

/// The values at the two ends of the colour scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColorRange {
    /// Each map's own minimum and 95th percentile: with the maximum, a few attention sinks would leave no colour for the
    /// other patches.
    PerMap,
    /// 0 and 1, with a name for each.
    ZeroToOne(&'static str, &'static str),
}

const MARGIN: u32 = 30;
const TOP: u32 = 24;
const GAP: u32 = 16;
/// Height of the titles, two lines.
const TITLES: u32 = 84;
const LABELS: u32 = 48;
const FOOT: u32 = 84;
const TEXT: f64 = 28.0;
const OPACITY: f64 = 0.6;

/// Draws a grid with a row for each image: first the image, then each of its scores as a viridis map over the image in grey. A
/// colour bar below shows the range. Each patch has one colour, since a token has one score.
///
/// # Errors
/// Fails with [`PlotError::Shape`] if there is no row, an image or a map has a wrong number of values, or rows have different
/// maps; with [`PlotError::Draw`] if the drawing library fails.
pub fn overlays(rows: &[OverlayRow], range: ColorRange) -> Result<Vec<u8>, PlotError> {
    check(rows).map_err(PlotError::Shape)?;
    let titles: Vec<&str> =
        rows.iter().take(1).flat_map(|row| &row.maps).map(|map| map.title.as_str()).collect();
    let columns = titles.len() as u32 + 1;
    // Few columns are shown large, many small enough for one page.
    let side = (2400 / columns).saturating_sub(GAP).clamp(200, 360);

    let heights: Vec<u32> = rows.iter().map(|row| fitting(&row.image, side).1).collect();
    let width = (2 * MARGIN + columns * side + (columns - 1) * GAP).max(900);
    let height = TOP + TITLES + heights.iter().map(|height| LABELS + height + GAP).sum::<u32>() + FOOT;
    let mut canvas = Canvas::new(width, height)?;
    let text = |align| Text { size: TEXT, ink: INK, align, upwards: false };
    let left = |column: u32| MARGIN + column * (side + GAP);

    for (column, title) in (0..).zip(std::iter::once("image").chain(titles)) {
        let centre = f64::from(left(column)) + f64::from(side) / 2.0;
        // The last line stands just above the first row's label.
        for (line, title) in (0..).zip(two_lines(title, TEXT, f64::from(side)).iter().rev()) {
            let y = f64::from(TOP + TITLES) - 26.0 - 36.0 * f64::from(line);
            canvas.text((centre, y), title, text(Align::Middle))?;
        }
    }
    let mut y = TOP + TITLES;
    for (row, full) in rows.iter().zip(heights) {
        let label = fitted(&row.label, TEXT, f64::from(width - 2 * MARGIN));
        canvas.text((f64::from(MARGIN), f64::from(y + LABELS / 2)), &label, text(Align::Start))?;
        y += LABELS;
        let (w, h) = fitting(&row.image, side);
        let inset = (side - w) / 2;
        let pixels = resized(&row.image, w, h);
        let at = |x: u32, y: u32| pixels[(y * w + x) as usize];
        canvas.paint((left(0) + inset, y), (w, h), at);
        for (column, map) in (1..).zip(&row.maps) {
            let limits = match range {
                ColorRange::PerMap => bulk(map.values.iter().copied()),
                ColorRange::ZeroToOne(..) => Some((0.0, 1.0)),
            };
            canvas.paint((left(column) + inset, y), (w, h), |px, py| {
                let patch =
                    (py as usize * map.rows / h as usize) * map.cols + px as usize * map.cols / w as usize;
                let (under, value) = (grey(at(px, py)), map.values[patch]);
                match limits {
                    Some(limits) if value.is_finite() => blend(under, viridis(place(value, limits)), OPACITY),
                    _ => under,
                }
            });
        }
        y += full + GAP;
    }
    scale(&mut canvas, width, f64::from(y) + f64::from(FOOT) / 2.0 - 8.0, range)?;
    canvas.finish()
}

fn check(rows: &[OverlayRow]) -> Result<(), String> {
    let Some(first) = rows.first() else { return Err("there is no row to draw".to_owned()) };
    for (number, row) in rows.iter().enumerate() {
        row.image.check().map_err(|what| format!("row {number}: {what}"))?;
        if !row.maps.iter().map(|map| &map.title).eq(first.maps.iter().map(|map| &map.title)) {
            return Err(format!(
                "row {number} has other maps than row 0; every row must have the same maps in the same order"
            ));
        }
        for Map { title, rows, cols, values } in &row.maps {
            if *rows == 0 || *cols == 0 || rows.checked_mul(*cols) != Some(values.len()) {
                let found = values.len();
                return Err(format!(
                    "row {number}, map `{title}`: expected {rows} × {cols} scores, found {found}"
                ));
            }
        }
    }
    Ok(())
}

/// Draws the colour bar at the foot, with the colours blended over middle grey.
fn scale(canvas: &mut Canvas, width: u32, y: f64, range: ColorRange) -> Result<(), PlotError> {
    let (length, thickness) = (260u32, 24u32);
    let left = width / 2 - length / 2;
    let corner = (left, (y - f64::from(thickness) / 2.0) as u32);
    canvas.paint(corner, (length, thickness), |x, _| {
        blend([128; 3], viridis(f64::from(x) / f64::from(length - 1)), OPACITY)
    });
    let (low, high) = match range {
        ColorRange::PerMap => ("each map's minimum", "its 95th percentile"),
        ColorRange::ZeroToOne(zero, one) => (zero, one),
    };
    let text = Text { size: TEXT, ink: FAINT, align: Align::End, upwards: false };
    canvas.text((f64::from(left) - 14.0, y), low, text)?;
    let right = f64::from(left + length) + 14.0;
    canvas.text((right, y), high, Text { align: Align::Start, ..text })
}
