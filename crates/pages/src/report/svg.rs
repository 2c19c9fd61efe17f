//! SVG drawings in the page: curves, and differences with their intervals.

use maud::{Markup, html};

/// Size and margins of a chart in its own units.
const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 340.0;
const LEFT: f64 = 48.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 46.0;
/// Dashes of twelve series; the style sheet has their colours.
pub(super) const DASHES: [&str; 12] =
    ["", "7 4", "2 3", "10 3 2 3", "", "7 4", "2 3", "10 3 2 3", "", "7 4", "2 3", "10 3 2 3"];

/// A chart of fractions over fractions, with a line for each series.
pub(super) struct Chart<'a> {
    pub title: &'a str,
    pub x: &'a [f64],
    pub x_label: &'a str,
    /// Index of the method, and a value between 0 and 1 for each entry of `x`.
    pub series: Vec<(usize, &'a [f64])>,
}

impl Chart<'_> {
    pub(super) fn draw(&self) -> Markup {
        let (first, last) = (self.x.first().copied().unwrap_or(0.0), self.x.last().copied().unwrap_or(1.0));
        let across = |x: f64| LEFT + (WIDTH - LEFT - RIGHT) * (x - first) / (last - first).max(1e-9);
        let up = |y: f64| HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * y;
        let line = |values: &[f64]| -> String {
            let points = self.x.iter().zip(values).map(|(&x, &y)| format!("{:.1},{:.1}", across(x), up(y)));
            points.collect::<Vec<_>>().join(" ")
        };
        let ticks = |low: f64, high: f64| {
            (0..=5)
                .map(|i| f64::from(i) / 5.0)
                .filter(move |tick| *tick >= low - 1e-9 && *tick <= high + 1e-9)
        };
        let places: Vec<String> = self.x.iter().map(|&x| format!("{:.1}", across(x))).collect();
        html! {
            svg.chart viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } role="img" aria-label=(self.title)
                data-x=(places.join(" ")) data-top=(TOP) data-bottom=(HEIGHT - BOTTOM) {
                g.grid {
                    @for y in ticks(0.0, 1.0) {
                        line x1=(LEFT) x2=(WIDTH - RIGHT) y1=(up(y)) y2=(up(y)) {}
                        text x=(LEFT - 8.0) y=(up(y)) text-anchor="end" dominant-baseline="central" { (format!("{:.0}", 100.0 * y)) }
                    }
                    @for x in ticks(first, last) {
                        text x=(across(x)) y=(HEIGHT - BOTTOM + 18.0) text-anchor="middle" { (format!("{:.0}", 100.0 * x)) }
                    }
                    text.axis x=((LEFT + WIDTH - RIGHT) / 2.0) y=(HEIGHT - 8.0) text-anchor="middle" { (self.x_label) }
                }
                line.cursor x1="0" x2="0" y1=(TOP) y2=(HEIGHT - BOTTOM) visibility="hidden" {}
                @for (place, values) in &self.series {
                    polyline class={ "series ink-" (place % 12) } data-series=(place) points=(line(values))
                        stroke-dasharray=(DASHES[place % 12]) {}
                }
            }
        }
    }
}

/// Draws a difference as a dot with its interval. `reach` is the largest value of the table's scale; the mark in the middle is 0.
pub(super) fn interval(value: f64, (low, high): (f64, f64), reach: f64) -> Markup {
    let across = |value: f64| 90.0 + 84.0 * (value / reach.max(1e-12)).clamp(-1.0, 1.0);
    html! {
        svg.interval viewBox="0 0 180 20" aria-hidden="true" {
            line.zero x1="90" x2="90" y1="1" y2="19" {}
            line.span x1=(format!("{:.1}", across(low))) x2=(format!("{:.1}", across(high))) y1="10" y2="10" {}
            circle cx=(format!("{:.1}", across(value))) cy="10" r="4" {}
        }
    }
}
