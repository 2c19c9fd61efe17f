//! A canvas for lines, markers, text and single pixels, smoothed and written as PNG.

use std::io;
use std::sync::OnceLock;

use plotters::backend::BitMapBackend;
use plotters::coord::Shift;
use plotters::drawing::{DrawingArea, IntoDrawingArea};
use plotters::element::{PathElement, Polygon};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{
    Color, FontDesc, FontFamily, FontStyle, FontTransform, RGBColor, ShapeStyle, TextStyle,
};
use rayon::prelude::*;

use super::PlotError;
use super::color::WHITE;

/// Everything is drawn larger by this factor and averaged down, which smooths edges and spaces letters evenly.
const OVERSAMPLING: u32 = 2;

/// DejaVu Sans, reduced to Latin, Greek, arrows and mathematical signs.
const FONT: &[u8] = include_bytes!("../assets/DejaVuSans-subset.ttf");
const FAMILY: &str = "tokenrank-dejavu";

/// Height of capitals as a fraction of the font size, which is the height of a line.
const CAPITALS: f64 = 0.626;
/// Distance of plotters' baseline from the top of the text, as a fraction of the font size.
const BASELINE: f64 = 0.5;

/// Which end of the text lies at the given point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Align {
    Start,
    Middle,
    End,
}

/// Style and position of a text.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Text {
    /// Line height in pixels.
    pub size: f64,
    /// Colour.
    pub ink: [u8; 3],
    /// Which end of the text lies at the point.
    pub align: Align,
    /// Whether the text is rotated to read upwards.
    pub upwards: bool,
}

/// A figure being drawn; coordinates are pixels of the finished file, from the top left.
pub(crate) struct Canvas {
    width: u32,
    height: u32,
    pixels: Vec<u8>,
}

impl Canvas {
    /// Returns a white canvas of this size in pixels.
    pub(crate) fn new(width: u32, height: u32) -> Result<Self, PlotError> {
        let draw_error = |reason: &str| PlotError::Draw(reason.to_owned());
        if !font_registered() {
            return Err(draw_error("the shipped font cannot be read"));
        }
        let samples = u64::from(width) * u64::from(height) * u64::from(OVERSAMPLING).pow(2);
        if width == 0 || height == 0 || samples > 1 << 29 {
            return Err(draw_error(&format!("cannot draw a figure of {width} × {height} pixels")));
        }
        Ok(Self { width, height, pixels: vec![WHITE[0]; samples as usize * 3] })
    }

    /// Draws a line through the points.
    pub(crate) fn line(&mut self, points: &[(f64, f64)], ink: [u8; 3], width: f64) -> Result<(), PlotError> {
        let style = ShapeStyle {
            color: rgb(ink).to_rgba(),
            filled: false,
            stroke_width: scaled(width).max(1) as u32,
        };
        let points: Vec<(i32, i32)> = points.iter().map(|&point| scaled_point(point)).collect();
        self.draw(|area| area.draw(&PathElement::new(points, style)))
    }

    /// Draws a filled polygon.
    pub(crate) fn fill(&mut self, corners: &[(f64, f64)], ink: [u8; 3]) -> Result<(), PlotError> {
        let corners: Vec<(i32, i32)> = corners.iter().map(|&point| scaled_point(point)).collect();
        self.draw(|area| area.draw(&Polygon::new(corners, rgb(ink).filled())))
    }

    /// Draws a filled polygon through which what is behind it shows; `opacity` is between 0 and 1.
    pub(crate) fn fill_over(
        &mut self,
        corners: &[(f64, f64)],
        ink: [u8; 3],
        opacity: f64,
    ) -> Result<(), PlotError> {
        let corners: Vec<(i32, i32)> = corners.iter().map(|&point| scaled_point(point)).collect();
        self.draw(|area| area.draw(&Polygon::new(corners, rgb(ink).mix(opacity).filled())))
    }

    /// Draws text at a point, level with the vertical middle of the capitals.
    pub(crate) fn text(&mut self, at: (f64, f64), text: &str, how: Text) -> Result<(), PlotError> {
        let size = how.size * f64::from(OVERSAMPLING);
        let horizontal = match how.align {
            Align::Start => HPos::Left,
            Align::Middle => HPos::Center,
            Align::End => HPos::Right,
        };
        let font =
            font(size).transform(if how.upwards { FontTransform::Rotate270 } else { FontTransform::None });
        let ink = rgb(how.ink);
        let style = TextStyle::from(font).color(&ink).pos(Pos::new(horizontal, VPos::Top));
        let (x, y) = scaled_point(at);
        let rise = (size * (BASELINE - CAPITALS / 2.0)).round() as i32;
        let corner = if how.upwards { (x - rise, y) } else { (x, y - rise) };
        self.draw(|area| area.draw_text(text, &style, corner))
    }

    /// Colours each pixel of a rectangle by its column and row within it.
    pub(crate) fn paint(
        &mut self,
        (x, y): (u32, u32),
        (w, h): (u32, u32),
        color: impl Fn(u32, u32) -> [u8; 3],
    ) {
        let stride = (self.width * OVERSAMPLING * 3) as usize;
        for row in 0..h.min(self.height.saturating_sub(y)) {
            for col in 0..w.min(self.width.saturating_sub(x)) {
                let value = color(col, row);
                let left = ((x + col) * OVERSAMPLING * 3) as usize;
                for line in 0..OVERSAMPLING {
                    let start = ((y + row) * OVERSAMPLING + line) as usize * stride + left;
                    for pixel in self.pixels[start..start + (OVERSAMPLING * 3) as usize].chunks_exact_mut(3) {
                        pixel.copy_from_slice(&value);
                    }
                }
            }
        }
    }

    /// Returns canvases of one width below each other as the content of a PNG file.
    pub(crate) fn stacked(canvases: Vec<Self>) -> Result<Vec<u8>, PlotError> {
        let width = canvases.first().map_or(0, |first| first.width);
        if width == 0 || canvases.iter().any(|one| one.width != width) {
            return Err(PlotError::Draw("figures below each other must have one width".to_owned()));
        }
        let height = canvases.iter().map(|one| one.height).sum();
        let pixels: Vec<u8> = canvases.iter().flat_map(Self::averaged).collect();
        encoded(width, height, &pixels).map_err(|error| PlotError::Draw(error.to_string()))
    }

    /// Returns the finished figure as the content of a PNG file.
    pub(crate) fn finish(self) -> Result<Vec<u8>, PlotError> {
        encoded(self.width, self.height, &self.averaged()).map_err(|error| PlotError::Draw(error.to_string()))
    }

    fn averaged(&self) -> Vec<u8> {
        let (over, count) = (OVERSAMPLING as usize, OVERSAMPLING.pow(2));
        let row = self.width as usize * 3;
        let mut out = vec![0; row * self.height as usize];
        let lines = self.pixels.par_chunks_exact(row * over * over);
        out.par_chunks_exact_mut(row).zip(lines).for_each(|(out, lines)| {
            let mut sums = vec![0; row];
            for line in lines.chunks_exact(row * over) {
                for (sums, block) in sums.chunks_exact_mut(3).zip(line.chunks_exact(3 * over)) {
                    for pixel in block.chunks_exact(3) {
                        sums.iter_mut().zip(pixel).for_each(|(sum, sample)| *sum += u32::from(*sample));
                    }
                }
            }
            out.iter_mut().zip(sums).for_each(|(out, sum)| *out = ((sum + count / 2) / count) as u8);
        });
        out
    }

    fn draw<E: std::fmt::Display>(
        &mut self,
        what: impl FnOnce(&DrawingArea<BitMapBackend<'_>, Shift>) -> Result<(), E>,
    ) -> Result<(), PlotError> {
        let size = (self.width * OVERSAMPLING, self.height * OVERSAMPLING);
        let area = BitMapBackend::with_buffer(&mut self.pixels, size).into_drawing_area();
        what(&area).map_err(|error| PlotError::Draw(error.to_string()))
    }
}

/// Registers the font with plotters, once. Returns whether that succeeded.
fn font_registered() -> bool {
    static REGISTERED: OnceLock<bool> = OnceLock::new();
    *REGISTERED.get_or_init(|| plotters::style::register_font(FAMILY, FontStyle::Normal, FONT).is_ok())
}

fn font(size: f64) -> FontDesc<'static> {
    FontDesc::new(FontFamily::Name(FAMILY), size, FontStyle::Normal)
}

fn rgb([r, g, b]: [u8; 3]) -> RGBColor {
    RGBColor(r, g, b)
}

fn scaled(length: f64) -> i32 {
    (length * f64::from(OVERSAMPLING)).round() as i32
}

fn scaled_point((x, y): (f64, f64)) -> (i32, i32) {
    (scaled(x), scaled(y))
}

/// Returns the width of a text in pixels.
pub(crate) fn text_width(text: &str, size: f64) -> f64 {
    let oversampled = size * f64::from(OVERSAMPLING);
    let measured = font_registered().then(|| font(oversampled).box_size(text).ok()).flatten();
    // Without the font no canvas can be made, so any width will do.
    measured.map(|(width, _)| f64::from(width)).unwrap_or(oversampled * 0.5 * text.chars().count() as f64)
        / f64::from(OVERSAMPLING)
}

/// Returns the text, or if it is wider than `width` pixels its beginning and an ellipsis. Line breaks become spaces.
pub(crate) fn fitted(text: &str, size: f64, width: f64) -> String {
    let line: Vec<char> = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let whole: String = line.iter().collect();
    if text_width(&whole, size) <= width {
        return whole;
    }
    let shortened = |count: usize| {
        let mut beginning: String = line[..count].iter().collect();
        beginning.truncate(beginning.trim_end().len());
        beginning.push('…');
        beginning
    };
    // The longest beginning that fits, by bisection: widths grow with the count.
    let (mut fits, mut too_long) = (0, line.len());
    while too_long - fits > 1 {
        let middle = (fits + too_long) / 2;
        if text_width(&shortened(middle), size) <= width { fits = middle } else { too_long = middle }
    }
    shortened(fits)
}

/// Breaks the text at spaces into lines of at most `width` pixels; single words that are too long are shortened.
pub(crate) fn wrapped(text: &str, size: f64, width: f64) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if text_width(&format!("{line} {word}"), size) <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(fitted(word, size, width)),
        }
    }
    lines
}

/// Returns the text as one line if it fits into `width` pixels, otherwise as two lines, broken at a space or after a hyphen. A
/// line that is still too long is shortened.
pub(crate) fn two_lines(text: &str, size: f64, width: f64) -> Vec<String> {
    if text_width(text, size) <= width {
        return vec![text.to_owned()];
    }
    let mut breaks =
        text.char_indices().filter(|(_, c)| matches!(c, ' ' | '-')).map(|(at, c)| at + c.len_utf8());
    let last = breaks.rfind(|&at| at < text.len() && text_width(text[..at].trim_end(), size) <= width);
    match last.map(|at| text.split_at(at)) {
        Some((first, rest)) => vec![first.trim_end().to_owned(), fitted(rest.trim(), size, width)],
        None => vec![fitted(text, size, width)],
    }
}

/// Encodes 8-bit RGB pixels as the content of a PNG file.
pub(crate) fn encoded(width: u32, height: u32, pixels: &[u8]) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(pixels)?;
    writer.finish()?;
    Ok(bytes)
}
