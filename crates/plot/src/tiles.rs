//! Draws maps over the patches of one image side by side, each with its own colour bar.

use super::PlotError;
use super::canvas::{Align, Canvas, Text, fitted, wrapped};
use super::color::{FAINT, INK, WHITE, blend, bulk, dim, place, range, viridis};
use super::image::{Rgb, fitting, resized};

/// A sheet of maps.
#[derive(Debug, Clone, PartialEq)]
pub struct TileSheet {
    /// Title above everything; shortened if it is too long.
    pub title: String,
    /// The image.
    pub image: Rgb,
    /// Number of rows of patches, number of patches in a row.
    pub grid: (usize, usize),
    /// Maximum number of tiles in a row.
    pub columns: usize,
    /// Groups of tiles, each beginning a new row.
    pub sections: Vec<Section>,
    /// Note below everything.
    pub note: String,
}

/// Tiles under a heading.
#[derive(Debug, Clone, PartialEq)]
pub struct Section {
    /// Heading above the first tile.
    pub heading: String,
    /// The tiles from left to right, in as many rows as needed.
    pub tiles: Vec<Tile>,
}

/// A map, or the image itself.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Tile {
    /// Title above the map.
    pub title: String,
    /// Note below the title, in faint ink.
    pub note: String,
    /// A value for each patch, row by row; empty for the image itself. A value that is not finite leaves its patch grey.
    pub values: Vec<f64>,
    /// Row and column of a patch that is framed.
    pub mark: Option<(usize, usize)>,
}

const MARGIN: u32 = 36;
const GAP: u32 = 26;
const TITLE: f64 = 34.0;
const HEADING: f64 = 30.0;
const TEXT: f64 = 26.0;
const SMALL: f64 = 22.0;
/// Height above a map, for title and note.
const ABOVE: u32 = 66;
/// Height below a map, for the colour bar and its numbers.
const BELOW: u32 = 58;
const BAR: u32 = 14;
/// Height of a heading.
const HEAD: u32 = 52;
/// Space after a section.
const SPACE: u32 = 16;
/// Opacity of the colours over the dimmed image.
const OPACITY: f64 = 0.72;

/// Draws the sheet. The colours of each map range from its own minimum to its own maximum. If the maximum is more than twice the
/// 95th percentile, they end at the percentile and the number at the bar's end begins with `≥`, because a few attention sinks would
/// leave no colour for the other patches.
///
/// # Errors
/// Fails with [`PlotError::Shape`] if sizes of the image, a map or a mark disagree; with [`PlotError::Draw`] if the drawing
/// library fails.
pub fn tiles(sheet: &TileSheet) -> Result<Vec<u8>, PlotError> {
    check(sheet).map_err(PlotError::Shape)?;
    let columns = sheet.columns.max(1) as u32;
    let side = (2400 / columns).saturating_sub(GAP).clamp(190, 330);
    let (w, h) = fitting(&sheet.image, side);
    // Numbers under narrow images need room.
    let pitch = w.max(170) + GAP;
    let width = (2 * MARGIN + columns * pitch - GAP).max(900);
    let line_width = f64::from(width - 2 * MARGIN);
    let note = wrapped(&sheet.note, SMALL, line_width);
    let tile_rows = |section: &Section| (section.tiles.len() as u32).div_ceil(columns);
    let tile_height = ABOVE + h + BELOW;
    let sections: u32 =
        sheet.sections.iter().map(|section| HEAD + tile_rows(section) * tile_height + SPACE).sum();
    let height = 84 + sections + 30 * note.len() as u32 + 24;

    let mut canvas = Canvas::new(width, height)?;
    let left_aligned = |size, ink| Text { size, ink, align: Align::Start, upwards: false };
    let margin = f64::from(MARGIN);
    let title = fitted(&sheet.title, TITLE, line_width);
    canvas.text((margin, 46.0), &title, left_aligned(TITLE, INK))?;

    let painter = Painter { sheet, pixels: resized(&sheet.image, w, h), size: (w, h) };
    let mut y = 84;
    for section in &sheet.sections {
        let heading = fitted(&section.heading, HEADING, line_width);
        canvas.text((margin, f64::from(y + 22)), &heading, left_aligned(HEADING, INK))?;
        y += HEAD;
        for row in section.tiles.chunks(columns as usize) {
            for (column, tile) in (0..).zip(row) {
                let inset = (pitch - GAP - w) / 2;
                painter.tile(&mut canvas, tile, (MARGIN + column * pitch + inset, y), pitch - 8)?;
            }
            y += tile_height;
        }
        y += SPACE;
    }
    for line in note {
        canvas.text((margin, f64::from(y + 14)), &line, left_aligned(SMALL, FAINT))?;
        y += 30;
    }
    canvas.finish()
}

fn check(sheet: &TileSheet) -> Result<(), String> {
    let (rows, cols) = sheet.grid;
    sheet.image.check()?;
    for Tile { title, values, mark, .. } in sheet.sections.iter().flat_map(|section| &section.tiles) {
        if !values.is_empty() && rows.checked_mul(cols) != Some(values.len()) {
            return Err(format!("map `{title}`: expected {rows} × {cols} values, found {}", values.len()));
        }
        if let Some((row, col)) = mark.filter(|&(row, col)| row >= rows || col >= cols) {
            return Err(format!("map `{title}`: there is no patch ({row}, {col}) of {rows} × {cols}"));
        }
    }
    Ok(())
}

struct Painter<'a> {
    sheet: &'a TileSheet,
    pixels: Vec<[u8; 3]>,
    size: (u32, u32),
}

impl Painter<'_> {
    /// Draws a tile whose title begins at `y`, centred over the map that begins at `x`; texts may be `room` pixels wide.
    fn tile(&self, canvas: &mut Canvas, tile: &Tile, (x, y): (u32, u32), room: u32) -> Result<(), PlotError> {
        let (w, h) = self.size;
        let (rows, cols) = self.sheet.grid;
        let centre = f64::from(x) + f64::from(w) / 2.0;
        let text = |size, ink, align| Text { size, ink, align, upwards: false };
        let fit = |words: &str, size| fitted(words, size, f64::from(room));
        canvas.text(
            (centre, f64::from(y) + 16.0),
            &fit(&tile.title, TEXT),
            text(TEXT, INK, Align::Middle),
        )?;
        canvas.text(
            (centre, f64::from(y) + 46.0),
            &fit(&tile.note, SMALL),
            text(SMALL, FAINT, Align::Middle),
        )?;
        let top = y + ABOVE;
        let scale = Scale::of(&tile.values);
        let color = |value: &f64| match &scale {
            Some(scale) if value.is_finite() => Some(viridis(place(*value, scale.limits))),
            _ => None,
        };
        let colors: Vec<Option<[u8; 3]>> = tile.values.iter().map(color).collect();
        canvas.paint((x, top), (w, h), |px, py| {
            let pixel = self.pixels[(py * w + px) as usize];
            if colors.is_empty() {
                return pixel;
            }
            let patch = (py as usize * rows / h as usize) * cols + px as usize * cols / w as usize;
            colors[patch].map_or(dim(pixel), |color| blend(dim(pixel), color, OPACITY))
        });
        if let Some(mark) = tile.mark {
            self.mark(canvas, mark, (x, top))?;
        }
        let Some(scale) = scale else { return Ok(()) };
        let bar = top + h + 10;
        canvas.paint((x, bar), (w, BAR), |px, _| {
            blend(dim([128; 3]), viridis(f64::from(px) / f64::from((w - 1).max(1))), OPACITY)
        });
        let (low, high) = scale.words();
        let y = f64::from(bar + BAR + 18);
        canvas.text((f64::from(x), y), &low, text(SMALL, INK, Align::Start))?;
        canvas.text((f64::from(x + w), y), &high, text(SMALL, INK, Align::End))
    }

    /// Draws a white frame with a dark edge around a patch, visible on every colour of the scale.
    fn mark(
        &self,
        canvas: &mut Canvas,
        (row, col): (usize, usize),
        (x, y): (u32, u32),
    ) -> Result<(), PlotError> {
        let (w, h) = (f64::from(self.size.0), f64::from(self.size.1));
        let (rows, cols) = self.sheet.grid;
        let along = |i: usize, count: usize, length: f64| i as f64 * length / count as f64;
        let frame = |reach: f64| {
            let left = f64::from(x) + along(col, cols, w) - reach;
            let right = f64::from(x) + along(col + 1, cols, w) + reach;
            let top = f64::from(y) + along(row, rows, h) - reach;
            let bottom = f64::from(y) + along(row + 1, rows, h) + reach;
            [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]
        };
        canvas.line(&frame(3.5), INK, 2.0)?;
        canvas.line(&frame(1.5), WHITE, 2.5)
    }
}

/// The colour scale of a map.
struct Scale {
    limits: (f64, f64),
    clipped: bool,
}

impl Scale {
    fn of(values: &[f64]) -> Option<Self> {
        let (low, high) = range(values.iter().copied())?;
        let (_, percentile) = bulk(values.iter().copied())?;
        let clipped = high > 2.0 * percentile && percentile > low;
        Some(Self { limits: (low, if clipped { percentile } else { high }), clipped })
    }

    /// Returns the numbers at the two ends of the bar.
    fn words(&self) -> (String, String) {
        let (low, high) = self.limits;
        let decimals = match high.abs() {
            high if high < 0.1 => 3,
            high if high < 10.0 => 2,
            high if high < 100.0 => 1,
            _ => 0,
        };
        let number = |value: f64| format!("{value:.decimals$}").replace('-', "−");
        (number(low), format!("{}{}", if self.clipped { "≥ " } else { "" }, number(high)))
    }
}
