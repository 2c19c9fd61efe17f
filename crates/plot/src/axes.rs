//! Draws the axes of a plot: the frame, the grid and the numbers along it.

use super::PlotError;
use super::canvas::{Align, Canvas, Text, fitted};
use super::color::{self, GRID, INK};
use super::ticks::label;

/// Text size of the numbers.
pub(crate) const TICK: f64 = 27.0;
const TITLE: f64 = 36.0;
const LABEL: f64 = 30.0;

/// The rectangle of the axes and the data range it shows.
pub(crate) struct Frame {
    pub left: f64,
    pub right: f64,
    pub top: f64,
    pub bottom: f64,
    pub x: (f64, f64),
    pub y: (f64, f64),
}

impl Frame {
    pub(crate) fn x_of(&self, x: f64) -> f64 {
        self.left + color::place(x, self.x) * (self.right - self.left)
    }

    pub(crate) fn y_of(&self, y: f64) -> f64 {
        self.bottom - color::place(y, self.y) * (self.bottom - self.top)
    }
}

/// Returns the ticks with their labels.
pub(crate) fn labelled(ticks: &[f64], step: f64) -> Vec<(f64, String)> {
    ticks.iter().map(|&tick| (tick, label(tick, step))).collect()
}

/// Draws the title of a figure of `width × height` and the labels of both axes; texts that are too long are shortened.
pub(crate) fn captions(
    canvas: &mut Canvas,
    frame: &Frame,
    (width, height): (f64, f64),
    [title, x_label, y_label]: [&str; 3],
) -> Result<(), PlotError> {
    let middle = |size| Text { size, ink: INK, align: Align::Middle, upwards: false };
    canvas.text((width / 2.0, 50.0), &fitted(title, TITLE, width - 80.0), middle(TITLE))?;
    let centre = ((frame.left + frame.right) / 2.0, (frame.top + frame.bottom) / 2.0);
    let room = (frame.right - frame.left, frame.bottom - frame.top);
    canvas.text((centre.0, height - 36.0), &fitted(x_label, LABEL, room.0), middle(LABEL))?;
    let upwards = Text { upwards: true, ..middle(LABEL) };
    canvas.text((40.0, centre.1), &fitted(y_label, LABEL, room.1), upwards)
}

/// Draws grid lines and numbers at the ticks, then the two axes.
pub(crate) fn axes(
    canvas: &mut Canvas,
    frame: &Frame,
    x_ticks: &[(f64, String)],
    y_ticks: &[(f64, String)],
) -> Result<(), PlotError> {
    let &Frame { left, right, top, bottom, .. } = frame;
    let text = |align| Text { size: TICK, ink: INK, align, upwards: false };
    for (tick, label) in x_ticks {
        let x = frame.x_of(*tick);
        canvas.line(&[(x, top), (x, bottom)], GRID, 1.5)?;
        canvas.line(&[(x, bottom), (x, bottom + 8.0)], INK, 2.0)?;
        canvas.text((x, bottom + 32.0), label, text(Align::Middle))?;
    }
    for (tick, label) in y_ticks {
        let y = frame.y_of(*tick);
        canvas.line(&[(left, y), (right, y)], GRID, 1.5)?;
        canvas.line(&[(left - 8.0, y), (left, y)], INK, 2.0)?;
        canvas.text((left - 16.0, y), label, text(Align::End))?;
    }
    canvas.line(&[(left, top), (left, bottom), (right, bottom)], INK, 2.0)
}
