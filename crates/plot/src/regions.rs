//! Draws patches in groups: a coloured image and a table of the groups.

use super::PlotError;
use super::canvas::{Align, Canvas, Text, fitted, text_width, wrapped};
use super::color::{FAINT, GRID, INK, WHITE, blend, grey, regions as color};
use super::image::{Rgb, fitting, resized};

/// An image whose patches are in groups.
#[derive(Debug, Clone, PartialEq)]
pub struct Regions {
    /// Title above everything; shortened if it is too long.
    pub title: String,
    /// The image.
    pub image: Rgb,
    /// Number of rows of patches, number of patches in a row.
    pub grid: (usize, usize),
    /// The group of each patch, row by row.
    pub assignment: Vec<usize>,
    /// The groups, in order.
    pub groups: Vec<Region>,
    /// Column heads of the table, one for each cell of a group; line breaks in a head are kept.
    pub columns: Vec<String>,
    /// Notes below everything, one paragraph each.
    pub notes: Vec<String>,
}

/// A group in the table.
#[derive(Debug, Clone, PartialEq)]
pub struct Region {
    /// Name of the group.
    pub name: String,
    /// The cells of its table row.
    pub cells: Vec<String>,
    /// Row and column of the patch that gets the number of the group.
    pub label_at: Option<(usize, usize)>,
}

const MARGIN: f64 = 36.0;
const SIDE: u32 = 560;
const TITLE: f64 = 34.0;
const TEXT: f64 = 26.0;
const SMALL: f64 = 22.0;
const ROW: f64 = 46.0;
const OPACITY: f64 = 0.55;

/// Draws the image, the image with each patch in its group's colour and number, and the table.
///
/// # Errors
/// Fails with [`PlotError::Shape`] if sizes of the image, the patches or the groups disagree; with [`PlotError::Draw`] if the
/// drawing library fails.
pub fn regions(plot: &Regions) -> Result<Vec<u8>, PlotError> {
    check(plot).map_err(PlotError::Shape)?;
    let (w, h) = fitting(&plot.image, SIDE);
    let table = TableLayout::new(plot);
    let table_left = MARGIN + 2.0 * f64::from(w) + 24.0 + 44.0;
    let width = (table_left + table.width() + MARGIN).max(900.0);
    let notes: Vec<String> =
        plot.notes.iter().flat_map(|note| wrapped(note, SMALL, width - 2.0 * MARGIN)).collect();
    let body = f64::from(h).max(table.height());
    let height = 96.0 + body + 30.0 + 30.0 * notes.len() as f64 + 26.0;

    let mut canvas = Canvas::new(width.ceil() as u32, height.ceil() as u32)?;
    let text = |size, ink| Text { size, ink, align: Align::Start, upwards: false };
    canvas.text((MARGIN, 46.0), &fitted(&plot.title, TITLE, width - 2.0 * MARGIN), text(TITLE, INK))?;
    let (left, top) = (MARGIN as u32, 96);
    let pixels = resized(&plot.image, w, h);
    canvas.paint((left, top), (w, h), |x, y| pixels[(y * w + x) as usize]);
    let right = left + w + 24;
    let (rows, cols) = plot.grid;
    canvas.paint((right, top), (w, h), |x, y| {
        let patch = (y as usize * rows / h as usize) * cols + x as usize * cols / w as usize;
        blend(grey(pixels[(y * w + x) as usize]), color(plot.assignment[patch]), OPACITY)
    });
    for (number, (row, col)) in (1..).zip(plot.groups.iter().map(|group| group.label_at)).filter_map(of_pair)
    {
        let x = f64::from(right) + (col as f64 + 0.5) * f64::from(w) / cols as f64;
        let y = f64::from(top) + (row as f64 + 0.5) * f64::from(h) / rows as f64;
        let inside = |at: f64, start: u32, length: u32| {
            at.clamp(f64::from(start) + 18.0, f64::from(start + length) - 18.0)
        };
        badge(&mut canvas, (inside(x, right, w), inside(y, top, h)), number, INK)?;
    }
    table.draw(&mut canvas, plot, (table_left, f64::from(top)))?;
    let mut y = 96.0 + body + 36.0;
    for note in notes {
        canvas.text((MARGIN, y), &note, text(SMALL, FAINT))?;
        y += 30.0;
    }
    canvas.finish()
}

fn of_pair<T>((number, at): (usize, Option<T>)) -> Option<(usize, T)> {
    at.map(|at| (number, at))
}

/// Draws a number on a disc.
fn badge(canvas: &mut Canvas, (x, y): (f64, f64), number: usize, ink: [u8; 3]) -> Result<(), PlotError> {
    let circle = |radius: f64| -> Vec<(f64, f64)> {
        let angle = |i: u32| std::f64::consts::TAU * f64::from(i) / 32.0;
        (0..32).map(|i| (x + radius * angle(i).cos(), y + radius * angle(i).sin())).collect()
    };
    canvas.fill(&circle(17.0), WHITE)?;
    canvas.fill(&circle(15.0), ink)?;
    let text = Text { size: 21.0, ink: WHITE, align: Align::Middle, upwards: false };
    canvas.text((x, y), &number.to_string(), text)
}

fn check(plot: &Regions) -> Result<(), String> {
    let (rows, cols) = plot.grid;
    plot.image.check()?;
    if rows == 0 || rows.checked_mul(cols) != Some(plot.assignment.len()) || cols == 0 {
        return Err(format!(
            "expected the groups of {rows} × {cols} patches, found {}",
            plot.assignment.len()
        ));
    }
    if let Some(group) = plot.assignment.iter().find(|group| **group >= plot.groups.len()) {
        return Err(format!("there is no group {group} of {}", plot.groups.len()));
    }
    match plot.groups.iter().find(|group| group.cells.len() != plot.columns.len()) {
        Some(Region { name, cells, .. }) => {
            Err(format!("group `{name}`: expected {} cells, found {}", plot.columns.len(), cells.len()))
        }
        None => Ok(()),
    }
}

/// Widths of the table's columns; the first column has the names.
struct TableLayout {
    widths: Vec<f64>,
    rows: usize,
}

impl TableLayout {
    fn new(plot: &Regions) -> Self {
        let name = plot.groups.iter().map(|group| text_width(&group.name, TEXT)).fold(0.0, f64::max);
        let cell = |column: usize| {
            let cells = plot.groups.iter().map(|group| text_width(&group.cells[column], TEXT));
            let heads = plot.columns[column].lines().map(|line| text_width(line, SMALL));
            cells.chain(heads).fold(0.0, f64::max) + 34.0
        };
        let widths = std::iter::once(name.min(400.0) + 52.0).chain((0..plot.columns.len()).map(cell));
        Self { widths: widths.collect(), rows: plot.groups.len() }
    }

    fn width(&self) -> f64 {
        self.widths.iter().sum()
    }

    fn height(&self) -> f64 {
        84.0 + ROW * self.rows as f64
    }

    fn draw(&self, canvas: &mut Canvas, plot: &Regions, (left, top): (f64, f64)) -> Result<(), PlotError> {
        let text = |size, ink, align| Text { size, ink, align, upwards: false };
        let ends: Vec<f64> = self
            .widths
            .iter()
            .scan(left, |end, width| {
                *end += width;
                Some(*end)
            })
            .collect();
        for (head, end) in plot.columns.iter().zip(&ends[1..]) {
            // Heads are aligned at their last line.
            for (i, line) in head.lines().rev().enumerate() {
                let at = (*end, top + 44.0 - 27.0 * i as f64);
                canvas.text(at, line, text(SMALL, FAINT, Align::End))?;
            }
        }
        canvas.line(&[(left, top + 66.0), (left + self.width(), top + 66.0)], GRID, 2.0)?;
        for (i, group) in plot.groups.iter().enumerate() {
            let y = top + 100.0 + ROW * i as f64;
            let swatch = |x: f64| [(x, y - 15.0), (x + 30.0, y - 15.0), (x + 30.0, y + 15.0), (x, y + 15.0)];
            canvas.fill(&swatch(left), blend([128; 3], color(i), 0.8))?;
            let name = fitted(&group.name, TEXT, 400.0);
            canvas.text((left + 42.0, y), &name, text(TEXT, INK, Align::Start))?;
            for (cell, end) in group.cells.iter().zip(&ends[1..]) {
                canvas.text((*end, y), cell, text(TEXT, INK, Align::End))?;
            }
        }
        Ok(())
    }
}
