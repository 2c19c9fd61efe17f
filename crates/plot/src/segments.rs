//! Draws segments over the images they belong to, with a dot at each starting point.

use super::PlotError;
use super::canvas::{Align, Canvas, Text, fitted, text_width, two_lines};
use super::color::{FAINT, INK, NO_VALUE, WHITE, area, blend, grey};
use super::image::{Rgb, fitting, resized};
use std::collections::BTreeSet;

/// A sheet of segmented images.
#[derive(Debug, Clone, PartialEq)]
pub struct SegmentsSheet {
    /// Rows from top to bottom.
    pub rows: Vec<SegmentsRow>,
    /// Names of the classes.
    pub classes: Vec<String>,
    /// Name of the dots in the legend.
    pub dots: String,
}

/// An image and its segmentations.
#[derive(Debug, Clone, PartialEq)]
pub struct SegmentsRow {
    /// The image.
    pub image: Rgb,
    /// Label above the row.
    pub label: String,
    /// The segmentations, with the same titles in the same order in every row.
    pub maps: Vec<Segmented>,
}

/// A segmentation of an image.
#[derive(Debug, Clone, PartialEq)]
pub struct Segmented {
    /// Title of its column.
    pub title: String,
    /// Number of rows and columns of the labels.
    pub size: (usize, usize),
    /// The segment of each pixel, row by row.
    pub labels: Vec<usize>,
    /// Kind of each segment.
    pub kinds: Vec<Kind>,
    /// Positions of the dots, 0…1 from the left and from the top.
    pub dots: Vec<(f64, f64)>,
}

/// Kind of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Segment of this class.
    Class(usize),
    /// Segment without a class.
    LeftOver,
    /// Pixels outside all segments, which are not evaluated.
    Ignored,
}

const MARGIN: u32 = 30;
const TOP: u32 = 24;
const GAP: u32 = 16;
/// Height of the titles, two lines.
const TITLES: u32 = 84;
const LABELS: u32 = 44;
const TEXT: f64 = 28.0;
const SMALL: f64 = 24.0;
/// Height of a line of the legend.
const LINE: f64 = 40.0;
const SWATCH: f64 = 24.0;
const OPACITY: f64 = 0.6;

/// Draws a grid with a row for each image: first the image, then each segmentation over the image in grey. Segments have the
/// colours of their classes, or are grey and hatched if they have no class; lines separate segments. A legend stands below.
///
/// # Errors
/// Fails with [`PlotError::Shape`] if there is no row, a segmentation has a wrong number of labels, or rows have different
/// segmentations; with [`PlotError::Draw`] if the drawing library fails.
pub fn segments(sheet: &SegmentsSheet) -> Result<Vec<u8>, PlotError> {
    check(&sheet.rows).map_err(PlotError::Shape)?;
    let titles: Vec<&str> =
        sheet.rows.iter().take(1).flat_map(|row| &row.maps).map(|map| map.title.as_str()).collect();
    let columns = titles.len() as u32 + 1;
    // Few columns are shown large, many small enough for one page.
    let side = (2400 / columns).saturating_sub(GAP).clamp(200, 360);
    let heights: Vec<u32> = sheet.rows.iter().map(|row| fitting(&row.image, side).1).collect();
    let width = (2 * MARGIN + columns * side + (columns - 1) * GAP).max(900);
    let legend = Legend::new(sheet, f64::from(width - 2 * MARGIN));
    let body: u32 = heights.iter().map(|height| LABELS + height + GAP).sum();
    let height = TOP + TITLES + body + legend.height() + MARGIN;

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
    for (row, full) in sheet.rows.iter().zip(heights) {
        let label = fitted(&row.label, SMALL, f64::from(width - 2 * MARGIN));
        let faint = Text { size: SMALL, ink: FAINT, align: Align::Start, upwards: false };
        canvas.text((f64::from(MARGIN), f64::from(y + LABELS / 2)), &label, faint)?;
        y += LABELS;
        let (w, h) = fitting(&row.image, side);
        let inset = (side - w) / 2;
        let pixels = resized(&row.image, w, h);
        let at = |x: u32, y: u32| pixels[(y * w + x) as usize];
        canvas.paint((left(0) + inset, y), (w, h), at);
        for (column, map) in (1..).zip(&row.maps) {
            let corner = (left(column) + inset, y);
            let of = |x: u32, y: u32| {
                let (rows, columns) = map.size;
                map.labels[(y as usize * rows / h as usize) * columns + x as usize * columns / w as usize]
            };
            canvas.paint(corner, (w, h), |x, y| {
                let here = of(x, y);
                let divided = |x: u32, y: u32| x < w && y < h && of(x, y) != here;
                if divided(x + 1, y) || divided(x, y + 1) {
                    return INK;
                }
                colored(map.kinds[here], grey(at(x, y)), (x, y))
            });
            for &(across, down) in &map.dots {
                let x = f64::from(corner.0) + across * f64::from(w);
                dot(&mut canvas, (x, f64::from(corner.1) + down * f64::from(h)))?;
            }
        }
        y += full + GAP;
    }
    legend.draw(&mut canvas, (f64::from(MARGIN), f64::from(y)))?;
    canvas.finish()
}

/// Returns the colour of the pixel at a position of its image.
fn colored(kind: Kind, under: [u8; 3], (x, y): (u32, u32)) -> [u8; 3] {
    match kind {
        Kind::Class(class) => blend(under, area(class), OPACITY),
        Kind::LeftOver if (x + y) % 8 < 2 => blend(under, WHITE, 0.75),
        Kind::LeftOver => blend(under, NO_VALUE, 0.3),
        Kind::Ignored => INK,
    }
}

/// Draws a small disc with a rim, visible on every colour.
fn dot(canvas: &mut Canvas, (x, y): (f64, f64)) -> Result<(), PlotError> {
    let circle = |radius: f64| -> Vec<(f64, f64)> {
        let angle = |i: u32| std::f64::consts::TAU * f64::from(i) / 16.0;
        (0..16).map(|i| (x + radius * angle(i).cos(), y + radius * angle(i).sin())).collect()
    };
    canvas.fill(&circle(3.6), INK)?;
    canvas.fill(&circle(2.2), WHITE)
}

/// The lines of the legend.
struct Legend {
    lines: Vec<Vec<(Sign, String, f64)>>,
}

#[derive(Clone, Copy)]
enum Sign {
    Color(Kind),
    Dot,
}

impl Legend {
    fn new(sheet: &SegmentsSheet, width: f64) -> Self {
        let maps = || sheet.rows.iter().flat_map(|row| &row.maps);
        let shown: BTreeSet<Kind> =
            maps().flat_map(|map| map.labels.iter().map(|&label| map.kinds[label])).collect();
        let mut signs: Vec<(Sign, String)> = Vec::new();
        for kind in shown {
            let name = match kind {
                Kind::Class(class) => {
                    sheet.classes.get(class).cloned().unwrap_or_else(|| format!("class {class}"))
                }
                Kind::LeftOver => "matched to no class".to_owned(),
                Kind::Ignored => "not labelled".to_owned(),
            };
            signs.push((Sign::Color(kind), name));
        }
        if maps().any(|map| !map.dots.is_empty()) {
            signs.push((Sign::Dot, sheet.dots.clone()));
        }
        let mut lines: Vec<Vec<(Sign, String, f64)>> = Vec::new();
        let mut end = width;
        for (sign, name) in signs {
            let name = fitted(&name, SMALL, width - SWATCH - 44.0);
            let takes = SWATCH + 10.0 + text_width(&name, SMALL) + 34.0;
            if end + takes > width + 34.0 || lines.is_empty() {
                lines.push(Vec::new());
                end = 0.0;
            }
            if let Some(line) = lines.last_mut() {
                line.push((sign, name, end));
            }
            end += takes;
        }
        Self { lines }
    }

    fn height(&self) -> u32 {
        (LINE * self.lines.len() as f64).ceil() as u32 + 10
    }

    fn draw(&self, canvas: &mut Canvas, (left, top): (f64, f64)) -> Result<(), PlotError> {
        let text = Text { size: SMALL, ink: INK, align: Align::Start, upwards: false };
        for (number, line) in (0..).zip(&self.lines) {
            let middle = top + 10.0 + LINE * (f64::from(number) + 0.5);
            for (sign, name, start) in line {
                let x = left + start;
                let corner = (x as u32, (middle - SWATCH / 2.0) as u32);
                match sign {
                    Sign::Color(kind) => canvas.paint(corner, (SWATCH as u32, SWATCH as u32), |x, y| {
                        colored(*kind, [128; 3], (x, y))
                    }),
                    Sign::Dot => dot(canvas, (x + SWATCH / 2.0, middle))?,
                }
                canvas.text((x + SWATCH + 10.0, middle), name, text)?;
            }
        }
        Ok(())
    }
}

fn check(rows: &[SegmentsRow]) -> Result<(), String> {
    let Some(first) = rows.first() else { return Err("there is no row to draw".to_owned()) };
    for (number, row) in rows.iter().enumerate() {
        row.image.check().map_err(|what| format!("row {number}: {what}"))?;
        if !row.maps.iter().map(|map| &map.title).eq(first.maps.iter().map(|map| &map.title)) {
            return Err(format!(
                "row {number} has other maps than row 0; every row must have the same maps in the same order"
            ));
        }
        for Segmented { title, size: (rows, columns), labels, kinds, .. } in &row.maps {
            if *rows == 0 || *columns == 0 || rows.checked_mul(*columns) != Some(labels.len()) {
                let found = labels.len();
                return Err(format!(
                    "row {number}, map `{title}`: expected {rows} × {columns} labels, found {found}"
                ));
            }
            if let Some(label) = labels.iter().find(|label| **label >= kinds.len()) {
                return Err(format!(
                    "row {number}, map `{title}`: there is no segment {label} of {}",
                    kinds.len()
                ));
            }
        }
    }
    Ok(())
}
