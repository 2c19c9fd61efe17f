//! Draws a family of falling curves on a logarithmic axis, such as the convergence of one chain per layer.

use super::PlotError;
use super::axes::{Frame, TICK, axes, captions, labelled};
use super::bar::{ROOM, of_step, steps};
use super::canvas::{Align, Canvas, Text, fitted, text_width};
use super::color::{FAINT, INK, range, series};
use super::curves::SIZE;
use super::ticks::ticks;

/// A family of curves coloured in order, and some highlighted curves.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Family {
    /// Title above the plot; shortened if it is too long.
    pub title: String,
    /// Label of the horizontal axis.
    pub x_label: String,
    /// Label of the vertical, logarithmic axis.
    pub y_label: String,
    /// The curves, from dark to bright.
    pub members: Vec<Member>,
    /// Label of the colour bar: what the names of the curves are.
    pub name_label: String,
    /// Highlighted curves, drawn over the family and named in a legend.
    pub lines: Vec<Line>,
}

/// One curve of the family.
#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    /// Name on the colour bar, as short as a number.
    pub name: String,
    /// `(x, y)` in the order in which they are joined; points with `y` ≤ 0 are left out.
    pub points: Vec<(f64, f64)>,
}

/// A highlighted curve.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// Name in the legend.
    pub name: String,
    /// Points as in [`Member`].
    pub points: Vec<(f64, f64)>,
    /// Line style.
    pub stroke: Stroke,
}

/// Line style of a highlighted curve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stroke {
    /// Thick solid line.
    Thick,
    /// Dashes in a colour that the family does not have.
    Dashed,
    /// Dotted line.
    Dotted,
}

impl Stroke {
    /// Returns colour, width, and the length of strokes and gaps.
    fn style(self) -> ([u8; 3], f64, f64) {
        match self {
            Self::Thick => (INK, 5.0, 0.0),
            Self::Dashed => (series(1), 4.0, 14.0),
            Self::Dotted => (INK, 2.5, 5.0),
        }
    }
}

/// Draws the family into a PNG of 1600 × 1000 pixels.
///
/// # Errors
/// Fails with [`PlotError::Draw`] if the drawing library fails.
pub fn family(plot: &Family) -> Result<Vec<u8>, PlotError> {
    let mut canvas = Canvas::new(SIZE.0, SIZE.1)?;
    let (width, height) = (f64::from(SIZE.0), f64::from(SIZE.1));
    let logarithmic = |points: &[(f64, f64)]| -> Vec<(f64, f64)> {
        let positive = points.iter().filter(|(x, y)| x.is_finite() && y.is_finite() && *y > 0.0);
        positive.map(|&(x, y)| (x, y.log10())).collect()
    };
    let members: Vec<_> = plot.members.iter().map(|member| logarithmic(&member.points)).collect();
    let lines: Vec<_> = plot.lines.iter().map(|line| logarithmic(&line.points)).collect();
    let all = || members.iter().chain(&lines).flatten();
    let x = range(all().map(|point| point.0)).unwrap_or((0.0, 1.0));
    let y = range(all().map(|point| point.1)).unwrap_or((-1.0, 0.0));
    let (bottom, top) = (y.0.floor(), y.1.ceil().max(y.0.floor() + 1.0));

    let frame = Frame {
        left: 190.0,
        right: width - if plot.members.is_empty() { 40.0 } else { ROOM + 40.0 },
        top: 96.0,
        bottom: height - 122.0,
        x: (x.0, if x.1 > x.0 { x.1 } else { x.0 + 1.0 }),
        y: (bottom, top),
    };
    let (x_ticks, x_step) = ticks(frame.x.0, frame.x.1, 10);
    let every = ((top - bottom) / 10.0).ceil().max(1.0) as usize;
    let powers: Vec<(f64, String)> = (bottom as i64..=top as i64)
        .step_by(every)
        .map(|power| (power as f64, power_of_ten(power)))
        .collect();
    axes(&mut canvas, &frame, &labelled(&x_ticks, x_step), &powers)?;
    captions(&mut canvas, &frame, (width, height), [&plot.title, &plot.x_label, &plot.y_label])?;

    let place = |points: &[(f64, f64)]| -> Vec<(f64, f64)> {
        points.iter().map(|&(x, y)| (frame.x_of(x), frame.y_of(y))).collect()
    };
    for (i, points) in members.iter().enumerate() {
        polyline(&mut canvas, &place(points), (of_step(i, members.len()), 3.0, 0.0))?;
    }
    for (line, points) in plot.lines.iter().zip(&lines) {
        polyline(&mut canvas, &place(points), line.stroke.style())?;
    }
    if !plot.members.is_empty() {
        let names: Vec<&str> = plot.members.iter().map(|member| member.name.as_str()).collect();
        steps(
            &mut canvas,
            (frame.right + 34.0, frame.top),
            frame.bottom - frame.top,
            &names,
            &plot.name_label,
        )?;
    }
    legend(&mut canvas, &frame, &plot.lines)?;
    canvas.finish()
}

/// Writes a power of ten as `1e−5`.
fn power_of_ten(power: i64) -> String {
    match power {
        0 => "1".into(),
        1 => "10".into(),
        _ => format!("1e{power}").replace('-', "−"),
    }
}

fn polyline(
    canvas: &mut Canvas,
    points: &[(f64, f64)],
    (ink, width, dash): ([u8; 3], f64, f64),
) -> Result<(), PlotError> {
    if dash <= 0.0 {
        return if points.len() > 1 { canvas.line(points, ink, width) } else { Ok(()) };
    }
    // Strokes and gaps have equal lengths and continue around corners.
    let mut walked = 0.0;
    for pair in points.windows(2) {
        let ((x, y), (to_x, to_y)) = (pair[0], pair[1]);
        let length = (to_x - x).hypot(to_y - y);
        let at = |t: f64| (x + (to_x - x) * t / length, y + (to_y - y) * t / length);
        let mut t = 0.0;
        while t < length {
            let part = (walked / dash).floor();
            // Rounding must not leave a stroke of length zero.
            let step = ((part + 1.0) * dash - walked).max(0.1).min(length - t);
            if part as i64 % 2 == 0 {
                canvas.line(&[at(t), at(t + step)], ink, width)?;
            }
            (t, walked) = (t + step, walked + step);
        }
    }
    Ok(())
}

/// Draws the legend in the upper right corner, where the falling curves leave room.
fn legend(canvas: &mut Canvas, frame: &Frame, lines: &[Line]) -> Result<(), PlotError> {
    let widest = lines.iter().map(|line| text_width(&line.name, TICK)).fold(0.0, f64::max).min(640.0);
    let left = frame.right - widest - 130.0;
    for (i, line) in lines.iter().enumerate() {
        let y = frame.top + 30.0 + 44.0 * i as f64;
        let sample = [(left, y), (left + 90.0, y)];
        polyline(canvas, &sample, line.stroke.style())?;
        let ink = if line.points.is_empty() { FAINT } else { INK };
        let text = Text { size: TICK, ink, align: Align::Start, upwards: false };
        canvas.text((left + 106.0, y), &fitted(&line.name, TICK, 640.0), text)?;
    }
    Ok(())
}
