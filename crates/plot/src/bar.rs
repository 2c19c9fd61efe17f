//! Draws the colour bar of plots whose curves or bars are coloured by group, such as a layer.

use super::PlotError;
use super::canvas::{Align, Canvas, Text, fitted};
use super::color::{INK, place, viridis};

/// Viridis without its brightest end, which is hard to see on white paper.
pub(crate) fn on_paper(t: f64) -> [u8; 3] {
    viridis(0.88 * t.clamp(0.0, 1.0))
}

/// Width in pixels of the colour bar of [`steps`], numbers and label included.
pub(crate) const ROOM: f64 = 150.0;

/// Draws an upright colour bar with one step for each name, the first at the top, and `label` next to it.
pub(crate) fn steps(
    canvas: &mut Canvas,
    (left, top): (f64, f64),
    height: f64,
    names: &[&str],
    label: &str,
) -> Result<(), PlotError> {
    let size = 24.0;
    let piece = height / names.len().max(1) as f64;
    // Leave out names that would overlap.
    let every = (size * 1.2 / piece).ceil().max(1.0) as usize;
    for (i, name) in names.iter().enumerate() {
        let y = |i: usize| (top + piece * i as f64).round();
        canvas.fill(
            &[(left, y(i)), (left + 30.0, y(i)), (left + 30.0, y(i + 1)), (left, y(i + 1))],
            of_step(i, names.len()),
        )?;
        if i % every == 0 {
            let text = Text { size, ink: INK, align: Align::Start, upwards: false };
            canvas.text((left + 40.0, (y(i) + y(i + 1)) / 2.0), name, text)?;
        }
    }
    let text = Text { size: 28.0, ink: INK, align: Align::Middle, upwards: true };
    canvas.text((left + ROOM - 44.0, top + height / 2.0), &fitted(label, 28.0, height), text)
}

/// Returns the colour of step `i` of `count`.
pub(crate) fn of_step(i: usize, count: usize) -> [u8; 3] {
    on_paper(place(i as f64, (0.0, count.saturating_sub(1) as f64)))
}
