//! Draws a histogram of values between 0 and 1, in bars stacked by group.

use super::PlotError;
use super::axes::{Frame, TICK, axes, captions, labelled};
use super::bar::{ROOM, of_step, steps};
use super::canvas::{Align, Canvas, Text};
use super::color::{INK, WHITE};
use super::curves::SIZE;
use super::ticks::{ticks, widened};

/// A histogram of grouped values.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Histogram {
    /// Title above the plot; shortened if it is too long.
    pub title: String,
    /// Label of the horizontal axis: what the values are.
    pub x_label: String,
    /// Label of the vertical axis: what is counted.
    pub y_label: String,
    /// Name, as short as a number, and values of each group, from dark to bright, stacked from the bottom. Values outside 0…1 are
    /// left out.
    pub groups: Vec<(String, Vec<f64>)>,
    /// Label of the colour bar: what the names of the groups are.
    pub name_label: String,
}

/// Number of bars between 0 and 1.
const BINS: usize = 20;

/// Draws the histogram into a PNG of 1600 × 1000 pixels, with the median marked.
///
/// # Errors
/// Fails with [`PlotError::Draw`] if the drawing library fails.
pub fn histogram(plot: &Histogram) -> Result<Vec<u8>, PlotError> {
    let mut canvas = Canvas::new(SIZE.0, SIZE.1)?;
    let (width, height) = (f64::from(SIZE.0), f64::from(SIZE.1));
    let inside = |values: &[f64]| -> Vec<f64> {
        values.iter().copied().filter(|value| (0.0..=1.0).contains(value)).collect()
    };
    let groups: Vec<Vec<f64>> = plot.groups.iter().map(|(_, values)| inside(values)).collect();
    let counts: Vec<[usize; BINS]> = groups.iter().map(|values| count(values)).collect();
    let tallest = (0..BINS).map(|bin| counts.iter().map(|group| group[bin]).sum::<usize>()).max();

    let frame = Frame {
        left: 130.0,
        right: width - if groups.is_empty() { 40.0 } else { ROOM + 40.0 },
        top: 120.0,
        bottom: height - 122.0,
        x: (0.0, 1.0),
        y: widened(0.0, tallest.unwrap_or(0).max(1) as f64, 6),
    };
    let (x_ticks, x_step) = ticks(0.0, 1.0, 10);
    let (y_ticks, y_step) = ticks(frame.y.0, frame.y.1, 6);
    // Counts are integers.
    let (y_ticks, y_step) =
        if y_step < 1.0 { ticks(frame.y.0, frame.y.1, frame.y.1 as usize) } else { (y_ticks, y_step) };
    axes(&mut canvas, &frame, &labelled(&x_ticks, x_step), &labelled(&y_ticks, y_step))?;
    captions(&mut canvas, &frame, (width, height), [&plot.title, &plot.x_label, &plot.y_label])?;

    for bin in 0..BINS {
        let (left, right) =
            (frame.x_of(bin as f64 / BINS as f64) + 1.5, frame.x_of((bin + 1) as f64 / BINS as f64) - 1.5);
        let mut below = 0;
        for (i, group) in counts.iter().enumerate().filter(|(_, group)| group[bin] > 0) {
            let (low, high) = (frame.y_of(below as f64), frame.y_of((below + group[bin]) as f64));
            canvas
                .fill(&[(left, low), (right, low), (right, high), (left, high)], of_step(i, counts.len()))?;
            if below > 0 {
                canvas.line(&[(left, low), (right, low)], WHITE, 1.5)?;
            }
            below += group[bin];
        }
    }
    let mut all: Vec<f64> = groups.concat();
    all.sort_by(f64::total_cmp);
    if !all.is_empty() {
        let median = (all[(all.len() - 1) / 2] + all[all.len() / 2]) / 2.0;
        let x = frame.x_of(median);
        canvas.line(&[(x, frame.top - 8.0), (x, frame.bottom)], INK, 2.5)?;
        let align = if median > 0.8 { Align::End } else { Align::Start };
        let text = Text { size: TICK, ink: INK, align, upwards: false };
        canvas.text((x, frame.top - 26.0), &format!("median {median:.3}"), text)?;
    }
    if !groups.is_empty() {
        let names: Vec<&str> = plot.groups.iter().map(|(name, _)| name.as_str()).collect();
        steps(
            &mut canvas,
            (frame.right + 34.0, frame.top),
            frame.bottom - frame.top,
            &names,
            &plot.name_label,
        )?;
    }
    canvas.finish()
}

/// Counts the values in each bar; 1 belongs to the last bar.
fn count(values: &[f64]) -> [usize; BINS] {
    let mut counts = [0; BINS];
    for value in values {
        counts[((value * BINS as f64) as usize).min(BINS - 1)] += 1;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_counted_in_their_bar() {
        let counts = count(&[0.0, 0.049, 0.051, 0.999, 1.0]);
        assert_eq!((counts[0], counts[1], counts[BINS - 1]), (2, 1, 2));
        assert_eq!(counts.iter().sum::<usize>(), 5);
    }
}
