//! Draws curves over a common axis, such as accuracy against the fraction of masked tokens.

use super::PlotError;
use super::axes::{Frame, TICK, axes, labelled};
use super::canvas::{Align, Canvas, Text, fitted, text_width};
use super::color::{self, FAINT, INK, range};
use super::ticks::{label, ticks, widened};

/// Width and height of a plot of curves in pixels, twice the size shown on a page, for print.
pub const SIZE: (u32, u32) = (1600, 1000);

/// One named curve.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Name in the legend.
    pub name: String,
    /// `(x, y)` in the order in which they are joined. A point that is not finite breaks the curve.
    pub points: Vec<(f64, f64)>,
    /// Lower and upper end of the band around each point, drawn behind all curves; empty for a curve without a band. Points whose ends
    /// are not finite have no band.
    pub band: Vec<(f64, f64)>,
}

/// A plot of curves.
#[derive(Debug, Clone, PartialEq)]
pub struct CurvePlot {
    /// Title above the plot; shortened if it is too long.
    pub title: String,
    /// Label of the horizontal axis.
    pub x_label: String,
    /// Label of the vertical axis.
    pub y_label: String,
    /// Range of the vertical axis, for plots that are compared; by default that of the curves.
    pub y_range: Option<(f64, f64)>,
    /// The curves in the order of the legend. There are twelve colours; dashes and markers distinguish further curves.
    pub series: Vec<Series>,
}

/// How strongly a band covers what is behind it, between 0 and 1.
const BAND: f64 = 0.16;

const TITLE: f64 = 36.0;
const LABEL: f64 = 30.0;
const NAME: f64 = 27.0;
const LINE: f64 = 3.5;
/// Width beyond which names in the legend are shortened.
const WIDEST_NAME: f64 = 400.0;
/// Width of the line sample next to a name.
const SAMPLE: f64 = 78.0;

/// Lengths of strokes and gaps in pixels; empty for a solid line.
const DASHES: [&[f64]; 3] = [&[], &[17.0, 8.0], &[4.5, 6.5]];

#[derive(Debug, Clone, Copy)]
enum Marker {
    Circle,
    Square,
    Triangle,
    Diamond,
}

const MARKERS: [Marker; 4] = [Marker::Circle, Marker::Square, Marker::Triangle, Marker::Diamond];

/// Colour, dashes and marker of a curve.
struct Style {
    ink: [u8; 3],
    dash: &'static [f64],
    marker: Marker,
}

impl Style {
    fn of(index: usize) -> Self {
        // Neighbours differ in all three; four markers and three dash patterns give twelve pairs.
        Self { ink: color::series(index), dash: DASHES[index % 3], marker: MARKERS[index % 4] }
    }
}

/// Draws the curves into a PNG of [`SIZE`] pixels, with a grid and a legend at the right.
///
/// Points that are not finite are left out; a series without any finite point is marked `(no data)` in the legend.
///
/// # Errors
/// Fails with [`PlotError::Draw`] if the drawing library fails.
pub fn curves(plot: &CurvePlot) -> Result<Vec<u8>, PlotError> {
    drawn(plot)?.finish()
}

/// Draws plots of curves below each other into one PNG, with one range of the vertical axis.
///
/// # Errors
/// Fails with [`PlotError::Draw`] if the drawing library fails or there is no plot.
pub fn stacked_curves(plots: &[CurvePlot]) -> Result<Vec<u8>, PlotError> {
    let ends = plots.iter().flat_map(|plot| &plot.series).flat_map(heights);
    let y_range = range(ends);
    let drawn: Result<Vec<Canvas>, PlotError> =
        plots.iter().map(|plot| drawn(&CurvePlot { y_range, ..plot.clone() })).collect();
    Canvas::stacked(drawn?)
}

/// Returns the finite heights of a curve and its band.
fn heights(series: &Series) -> impl Iterator<Item = f64> {
    let points = series.points.iter().filter(|(x, _)| x.is_finite()).map(|&(_, y)| y);
    points.chain(series.band.iter().flat_map(|&(low, high)| [low, high])).filter(|y| y.is_finite())
}

fn drawn(plot: &CurvePlot) -> Result<Canvas, PlotError> {
    let mut canvas = Canvas::new(SIZE.0, SIZE.1)?;
    let (width, height) = (f64::from(SIZE.0), f64::from(SIZE.1));

    let points = || {
        plot.series.iter().flat_map(|series| &series.points).filter(|(x, y)| x.is_finite() && y.is_finite())
    };
    let x = range(points().map(|&(x, _)| x));
    let y = plot.y_range.or_else(|| range(plot.series.iter().flat_map(heights)));
    let some = x.is_some();
    let (x, y) = (x.unwrap_or((0.0, 1.0)), y.unwrap_or((0.0, 1.0)));
    let x = if x.0 == x.1 { widened(x.0, x.1, 1) } else { x };
    let y = widened(y.0, y.1, 6);
    let (x_ticks, x_step) = ticks(x.0, x.1, 10);
    let (y_ticks, y_step) = ticks(y.0, y.1, 6);

    let names: Vec<String> = plot.series.iter().map(legend_name).collect();
    let legend = names.iter().map(|name| text_width(name, NAME)).fold(0.0, f64::max).min(WIDEST_NAME);
    let numbers = y_ticks.iter().map(|&tick| text_width(&label(tick, y_step), TICK)).fold(0.0, f64::max);
    // A margin keeps markers at the ends of the range off the frame.
    let margin = 0.02 * (x.1 - x.0);
    let frame = Frame {
        left: 84.0 + numbers,
        right: width - if names.is_empty() { 40.0 } else { legend + SAMPLE + 76.0 },
        top: 96.0,
        bottom: height - 122.0,
        x: (x.0 - margin, x.1 + margin),
        y,
    };

    axes(&mut canvas, &frame, &labelled(&x_ticks, x_step), &labelled(&y_ticks, y_step))?;
    let text = |size, align| Text { size, ink: INK, align, upwards: false };
    let title = fitted(&plot.title, TITLE, width - 80.0);
    // Centred over the axes if it fits there, otherwise over the whole figure.
    let half = text_width(&title, TITLE) / 2.0;
    let centre = ((frame.left + frame.right) / 2.0)
        .clamp((40.0 + half).min(width / 2.0), (width - 40.0 - half).max(width / 2.0));
    canvas.text((centre, 50.0), &title, text(TITLE, Align::Middle))?;
    let x_label = fitted(&plot.x_label, LABEL, frame.right - frame.left);
    canvas.text(((frame.left + frame.right) / 2.0, height - 36.0), &x_label, text(LABEL, Align::Middle))?;
    let y_label = fitted(&plot.y_label, LABEL, frame.bottom - frame.top);
    let upwards = Text { upwards: true, ..text(LABEL, Align::Middle) };
    canvas.text((36.0, (frame.top + frame.bottom) / 2.0), &y_label, upwards)?;
    if !some {
        let middle = ((frame.left + frame.right) / 2.0, (frame.top + frame.bottom) / 2.0);
        canvas.text(middle, "no data", Text { ink: FAINT, ..text(LABEL, Align::Middle) })?;
    }

    for (index, series) in plot.series.iter().enumerate() {
        band(&mut canvas, &frame, series, &Style::of(index))?;
    }
    for (index, series) in plot.series.iter().enumerate() {
        curve(&mut canvas, &frame, series, &Style::of(index))?;
    }
    legend_entries(&mut canvas, &frame, &names)?;
    Ok(canvas)
}

fn legend_name(series: &Series) -> String {
    let drawn = series.points.iter().any(|(x, y)| x.is_finite() && y.is_finite());
    if drawn { series.name.clone() } else { format!("{} (no data)", series.name) }
}

fn curve(canvas: &mut Canvas, frame: &Frame, series: &Series, style: &Style) -> Result<(), PlotError> {
    let finite = |(x, y): &(f64, f64)| x.is_finite() && y.is_finite();
    for run in series.points.split(|point| !finite(point)) {
        let run: Vec<(f64, f64)> = run.iter().map(|&(x, y)| (frame.x_of(x), frame.y_of(y))).collect();
        dashed(canvas, &run, style)?;
        // Markers at every point would hide a dense curve.
        let every = run.len().div_ceil(25).max(1);
        for &point in run.iter().step_by(every) {
            marker(canvas, point, style)?;
        }
    }
    Ok(())
}

/// Fills the area between the lower and upper ends of a band.
fn band(canvas: &mut Canvas, frame: &Frame, series: &Series, style: &Style) -> Result<(), PlotError> {
    let ends: Vec<(f64, f64, f64)> =
        series.points.iter().zip(&series.band).map(|(&(x, _), &(low, high))| (x, low, high)).collect();
    let finite = |(x, low, high): &(f64, f64, f64)| x.is_finite() && low.is_finite() && high.is_finite();
    for run in ends.split(|end| !finite(end)).filter(|run| run.len() > 1) {
        let upper = run.iter().map(|&(x, _, high)| (frame.x_of(x), frame.y_of(high)));
        let lower = run.iter().rev().map(|&(x, low, _)| (frame.x_of(x), frame.y_of(low)));
        canvas.fill_over(&upper.chain(lower).collect::<Vec<_>>(), style.ink, BAND)?;
    }
    Ok(())
}

/// Draws a line through points in the strokes and gaps of a style.
fn dashed(canvas: &mut Canvas, points: &[(f64, f64)], style: &Style) -> Result<(), PlotError> {
    if style.dash.is_empty() {
        return if points.len() > 1 { canvas.line(points, style.ink, LINE) } else { Ok(()) };
    }
    let (mut part, mut left) = (0, style.dash[0]);
    let mut stroke: Vec<(f64, f64)> = points.first().copied().into_iter().collect();
    for pair in points.windows(2) {
        let ((mut x, mut y), (to_x, to_y)) = (pair[0], pair[1]);
        loop {
            let rest = (to_x - x).hypot(to_y - y);
            if rest <= left {
                left -= rest;
                stroke.push((to_x, to_y));
                break;
            }
            (x, y) = (x + (to_x - x) * left / rest, y + (to_y - y) * left / rest);
            stroke.push((x, y));
            if part % 2 == 0 {
                canvas.line(&stroke, style.ink, LINE)?;
            }
            stroke = vec![(x, y)];
            part += 1;
            left = style.dash[part % style.dash.len()];
        }
    }
    if part % 2 == 0 && stroke.len() > 1 { canvas.line(&stroke, style.ink, LINE) } else { Ok(()) }
}

fn marker(canvas: &mut Canvas, (x, y): (f64, f64), style: &Style) -> Result<(), PlotError> {
    let corners = |count: usize, radius: f64, turn: f64| -> Vec<(f64, f64)> {
        let angle = |i: usize| std::f64::consts::TAU * (i as f64 / count as f64 + turn);
        (0..count).map(|i| (x + radius * angle(i).sin(), y - radius * angle(i).cos())).collect()
    };
    let shape = match style.marker {
        Marker::Circle => corners(24, 7.5, 0.0),
        Marker::Square => corners(4, 9.5, 0.125),
        Marker::Triangle => corners(3, 10.0, 0.0),
        Marker::Diamond => corners(4, 10.0, 0.0),
    };
    canvas.fill(&shape, style.ink)
}

fn legend_entries(canvas: &mut Canvas, frame: &Frame, names: &[String]) -> Result<(), PlotError> {
    let step = 46.0;
    let room = ((frame.bottom - frame.top) / step) as usize;
    let shown = if names.len() > room { room.saturating_sub(1) } else { names.len() };
    let left = frame.right + 36.0;
    let text = Text { size: NAME, ink: INK, align: Align::Start, upwards: false };
    for (index, name) in names.iter().take(shown).enumerate() {
        let (y, style) = (frame.top + 20.0 + step * index as f64, Style::of(index));
        dashed(canvas, &[(left, y), (left + SAMPLE - 14.0, y)], &style)?;
        marker(canvas, (left + (SAMPLE - 14.0) / 2.0, y), &style)?;
        canvas.text((left + SAMPLE, y), &fitted(name, NAME, WIDEST_NAME), text)?;
    }
    if shown < names.len() {
        let (y, more) = (frame.top + 20.0 + step * shown as f64, names.len() - shown);
        canvas.text((left, y), &format!("and {more} more"), Text { ink: FAINT, ..text })?;
    }
    Ok(())
}
