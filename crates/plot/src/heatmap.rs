//! Draws a matrix as a heat map.

use super::PlotError;
use super::canvas::{Align, Canvas, Text, fitted, text_width, two_lines};
use super::color::{INK, NO_VALUE, WHITE, grey, place, range, viridis};
use super::ticks::{label, ticks};

/// A matrix with its labels.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct HeatMap {
    /// Title above the matrix; shortened if it is too long.
    pub title: String,
    /// Label of the columns, below them.
    pub x_label: String,
    /// Label of the rows, to their left.
    pub y_label: String,
    /// Label of the colour bar: what the values are.
    pub value_label: String,
    /// Number of rows of the matrix.
    pub rows: usize,
    /// Number of columns of the matrix.
    pub cols: usize,
    /// `rows × cols` values, row by row. Values that are not finite are drawn grey.
    pub values: Vec<f64>,
    /// A name for each row; if empty, rows are numbered from 0.
    pub row_names: Vec<String>,
    /// A name for each column; if empty, columns are numbered from 0.
    pub col_names: Vec<String>,
    /// Decimals of the numbers written into the cells, if every number fits; `None` for no numbers.
    pub decimals: Option<usize>,
}

const TITLE: f64 = 34.0;
const LABEL: f64 = 28.0;
const TICK: f64 = 24.0;
/// Approximate length of the longer side of the matrix in pixels.
const SIDE: usize = 900;
/// Minimum length of the shorter side in pixels, so that the labels have room.
const SHORT: usize = 260;
/// Minimum text size of numbers in cells.
const SMALLEST: f64 = 14.0;
const WIDEST_NAME: f64 = 280.0;
const BAR: u32 = 34;

/// Draws the matrix in viridis from its smallest to its largest value, with a colour bar at the right. Cells are whole
/// pixels, square unless there are few rows or columns; a matrix of more than 900 rows or columns is averaged down to at most that many.
///
/// # Errors
/// Fails with [`PlotError::Shape`] if the number of values or names does not match the matrix; with [`PlotError::Draw`] if the
/// drawing library fails.
pub fn heatmap(map: &HeatMap) -> Result<Vec<u8>, PlotError> {
    check(map).map_err(PlotError::Shape)?;
    let grid = Grid::new(map);
    let (rows, cols) =
        (Axis::new(map.rows, grid.h, &map.row_names), Axis::new(map.cols, grid.w, &map.col_names));
    let limits = range(grid.values.iter().copied());
    let (bar_ticks, bar_step) = limits.map_or((Vec::new(), 1.0), |(low, high)| ticks(low, high, 6));

    let (w, h) = (f64::from(grid.w), f64::from(grid.h));
    let upright = cols.fits_across();
    let below = if upright { 40.0 } else { cols.widest() + 24.0 };
    let bar_numbers =
        bar_ticks.iter().map(|&tick| text_width(&label(tick, bar_step), TICK)).fold(0.0, f64::max);
    let line = |label: &str| if label.is_empty() { 0.0 } else { 48.0 };
    let before = 30.0 + line(&map.y_label) + rows.widest() + 18.0;
    let after = 36.0 + f64::from(BAR) + 16.0 + bar_numbers;
    let content = before + w + after + line(&map.value_label) + 30.0;
    let width = content.max(text_width(&map.title, TITLE).min(SIDE as f64) + 60.0).ceil();
    let title = two_lines(&map.title, TITLE, width - 60.0);
    let top = if map.title.is_empty() { 36.0 } else { 46.0 + 44.0 * title.len() as f64 };
    // A narrow matrix is centred under a wide title.
    let left = before + (width - content) / 2.0;
    let bar_left = left + w + 36.0;
    let bar_right = left + w + after;
    let height = (top + h + below + line(&map.x_label) + 24.0).ceil();

    let mut canvas = Canvas::new(width as u32, height as u32)?;
    let (left, top, bar_left) = (left.round(), top.round(), bar_left.round());
    let color = |value: f64| match limits {
        Some(limits) if value.is_finite() => viridis(place(value, limits)),
        _ => NO_VALUE,
    };
    canvas.paint((left as u32, top as u32), (grid.w, grid.h), |x, y| color(grid.at(x, y)));
    canvas.paint((bar_left as u32, top as u32), (BAR, grid.h), |_, y| {
        viridis(1.0 - f64::from(y) / f64::from((grid.h - 1).max(1)))
    });
    if let Some(decimals) = map.decimals {
        grid.numbers(&mut canvas, (left, top), decimals, color)?;
    }
    frame(&mut canvas, (left, top), (w, h))?;
    frame(&mut canvas, (bar_left, top), (f64::from(BAR), h))?;

    let tick = |align| Text { size: TICK, ink: INK, align, upwards: false };
    for (at, name) in rows.labels() {
        canvas.line(&[(left - 6.0, top + at), (left, top + at)], INK, 1.5)?;
        canvas.text((left - 12.0, top + at), &name, tick(Align::End))?;
    }
    for (at, name) in cols.labels() {
        let (x, y) = (left + at, top + h);
        canvas.line(&[(x, y), (x, y + 6.0)], INK, 1.5)?;
        if upright {
            canvas.text((x, y + 26.0), &name, tick(Align::Middle))?;
        } else {
            canvas.text((x, y + 12.0), &name, Text { upwards: true, ..tick(Align::End) })?;
        }
    }
    for value in bar_ticks {
        let y = top + h * (1.0 - limits.map_or(0.0, |limits| place(value, limits)));
        let x = bar_left + f64::from(BAR);
        canvas.line(&[(x, y), (x + 6.0, y)], INK, 1.5)?;
        canvas.text((x + 12.0, y), &label(value, bar_step), tick(Align::Start))?;
    }

    let centre = (left + w / 2.0, top + h / 2.0);
    let text = Text { size: LABEL, ink: INK, align: Align::Middle, upwards: false };
    for (i, line) in (0..).zip(title) {
        canvas.text((width / 2.0, 46.0 + 44.0 * f64::from(i)), &line, Text { size: TITLE, ..text })?;
    }
    canvas.text((centre.0, height - 36.0), &fitted(&map.x_label, LABEL, w.max(2.0 * left - 40.0)), text)?;
    let upwards = Text { upwards: true, ..text };
    canvas.text((left - before + 38.0, centre.1), &fitted(&map.y_label, LABEL, h), upwards)?;
    canvas.text((bar_right + 30.0, centre.1), &fitted(&map.value_label, LABEL, h), upwards)?;
    canvas.finish()
}

fn check(map: &HeatMap) -> Result<(), String> {
    let HeatMap { rows, cols, values, row_names, col_names, .. } = map;
    if *rows == 0 || *cols == 0 || rows.checked_mul(*cols) != Some(values.len()) {
        return Err(format!("expected {rows} × {cols} values, found {}", values.len()));
    }
    for (names, count, what) in [(row_names, rows, "rows"), (col_names, cols, "columns")] {
        if !names.is_empty() && names.len() != *count {
            return Err(format!("expected a name for each of {count} {what}, found {}", names.len()));
        }
    }
    Ok(())
}

fn frame(canvas: &mut Canvas, (x, y): (f64, f64), (w, h): (f64, f64)) -> Result<(), PlotError> {
    canvas.line(&[(x, y), (x + w, y), (x + w, y + h), (x, y + h), (x, y)], INK, 1.5)
}

/// The matrix as it is drawn: averaged if it is too large, each cell a rectangle of whole pixels.
struct Grid {
    rows: usize,
    cols: usize,
    values: Vec<f64>,
    w: u32,
    h: u32,
}

impl Grid {
    fn new(map: &HeatMap) -> Self {
        let (rows, cols) = (map.rows.min(SIDE), map.cols.min(SIDE));
        let block = |i: usize, shown: usize, all: usize| (i * all / shown)..((i + 1) * all / shown);
        let values = (0..rows * cols)
            .map(|i| {
                let (ys, xs) = (block(i / cols, rows, map.rows), block(i % cols, cols, map.cols));
                let cells = ys.flat_map(|y| xs.clone().map(move |x| map.values[y * map.cols + x]));
                let finite: Vec<f64> = cells.filter(|value| value.is_finite()).collect();
                // The mean of no values is NaN, which is drawn grey.
                finite.iter().map(|value| value / finite.len() as f64).sum::<f64>()
                    / f64::from(!finite.is_empty())
            })
            .collect();
        let cell = (SIDE / rows.max(cols)).clamp(1, 72);
        // Few rows or columns are stretched so that their labels have room.
        let pixels = |count: usize| (count * cell.max(SHORT.div_ceil(count))) as u32;
        Self { rows, cols, values, w: pixels(cols), h: pixels(rows) }
    }

    /// Writes the value into each cell, in ink or white, whichever contrasts with the cell's colour. Writes nothing if the cells
    /// are too small.
    fn numbers(
        &self,
        canvas: &mut Canvas,
        (left, top): (f64, f64),
        decimals: usize,
        color: impl Fn(f64) -> [u8; 3],
    ) -> Result<(), PlotError> {
        let words: Vec<String> = self.values.iter().map(|value| format!("{value:.decimals$}")).collect();
        let (w, h) = (f64::from(self.w) / self.cols as f64, f64::from(self.h) / self.rows as f64);
        let widest = words.iter().map(|word| text_width(word, 1.0)).fold(0.0, f64::max);
        let size = (0.86 * w / widest).min(0.8 * h).min(TICK);
        if size < SMALLEST {
            return Ok(());
        }
        for (i, (word, value)) in
            words.iter().zip(&self.values).enumerate().filter(|(_, (_, v))| v.is_finite())
        {
            let at =
                (left + (i % self.cols) as f64 * w + w / 2.0, top + (i / self.cols) as f64 * h + h / 2.0);
            let ink = if grey(color(*value))[0] > 128 { INK } else { WHITE };
            canvas.text(at, word, Text { size, ink, align: Align::Middle, upwards: false })?;
        }
        Ok(())
    }

    fn at(&self, x: u32, y: u32) -> f64 {
        let row = y as usize * self.rows / self.h as usize;
        self.values[row * self.cols + x as usize * self.cols / self.w as usize]
    }
}

/// The labels along one side.
struct Axis<'a> {
    count: usize,
    length: u32,
    names: &'a [String],
}

impl<'a> Axis<'a> {
    fn new(count: usize, length: u32, names: &'a [String]) -> Self {
        Self { count, length, names }
    }

    /// Returns position along the side and text of each label that has room.
    fn labels(&self) -> Vec<(f64, String)> {
        let cell = f64::from(self.length) / self.count as f64;
        let middle = |i: usize| (i as f64 + 0.5) * cell;
        if self.names.is_empty() {
            let (values, step) = ticks(0.0, (self.count - 1) as f64, 8.min(self.count));
            // Row and column numbers are integers.
            let whole = values.into_iter().filter(|value| step >= 1.0 || value.fract() == 0.0);
            return whole.map(|value| (middle(value as usize), format!("{value:.0}"))).collect();
        }
        let every = (TICK / cell).ceil().max(1.0) as usize;
        let kept = self.names.iter().enumerate().step_by(every);
        kept.map(|(i, name)| (middle(i), fitted(name, TICK, WIDEST_NAME))).collect()
    }

    fn widest(&self) -> f64 {
        self.labels().iter().map(|(_, name)| text_width(name, TICK)).fold(0.0, f64::max)
    }

    /// Whether the labels can stand side by side, read from left to right.
    fn fits_across(&self) -> bool {
        let labels = self.labels();
        let spacing = labels.windows(2).map(|pair| pair[1].0 - pair[0].0).fold(f64::INFINITY, f64::min);
        self.widest() + 10.0 <= spacing.min(f64::from(self.length) + 60.0)
    }
}
