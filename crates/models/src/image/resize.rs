//! Pillow's resampler (`Resample.c` and the nearest-neighbour case of `Geometry.c` in Pillow 13), to the bit.

use std::f64::consts::PI;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::ImageError;
use super::pixels::{Rgb8, checked_area};
use crate::limits::MAX_PIXELS;

/// A resampling filter; the numbers are Pillow's, which `preprocessor_config.json` uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Resample {
    /// The pixel under the centre of the new one.
    Nearest = 0,
    /// A windowed sinc over six pixels.
    Lanczos = 1,
    /// The tent filter.
    Bilinear = 2,
    /// Catmull-Rom, `a = -0.5`.
    Bicubic = 3,
    /// The mean of the pixels covered.
    Box = 4,
    /// A windowed sinc over two pixels.
    Hamming = 5,
}

impl Resample {
    /// Every filter, in the order of Pillow's numbers.
    pub const ALL: [Self; 6] =
        [Self::Nearest, Self::Lanczos, Self::Bilinear, Self::Bicubic, Self::Box, Self::Hamming];

    /// The filter with Pillow's number `code`, if it is one of these.
    #[must_use]
    pub(crate) fn from_code(code: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|&filter| filter as u64 == code)
    }

    /// The filter called `name` in Pillow (`"bicubic"`; upper or lower case).
    #[must_use]
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|filter| filter.name().eq_ignore_ascii_case(name))
    }

    /// Pillow's name in lower case.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Nearest => "nearest",
            Self::Lanczos => "lanczos",
            Self::Bilinear => "bilinear",
            Self::Bicubic => "bicubic",
            Self::Box => "box",
            Self::Hamming => "hamming",
        }
    }

    /// Half the filter's width in source pixels when the image is not reduced.
    pub(super) fn support(self) -> f64 {
        match self {
            Self::Nearest | Self::Box => 0.5,
            Self::Bilinear | Self::Hamming => 1.0,
            Self::Bicubic => 2.0,
            Self::Lanczos => 3.0,
        }
    }

    /// Returns the filter's value at distance `x`, in Pillow's order of operations, which decides the last bit.
    pub(super) fn weight(self, x: f64) -> f64 {
        match self {
            Self::Nearest | Self::Box => f64::from(u8::from(x > -0.5 && x <= 0.5)),
            Self::Bilinear => (1.0 - x.abs()).max(0.0),
            Self::Hamming => match x.abs() {
                0.0 => 1.0,
                x if x >= 1.0 => 0.0,
                // The two constants are single precision in Pillow.
                x => sinc(x) * (f64::from(0.54_f32) + f64::from(0.46_f32) * (x * PI).cos()),
            },
            Self::Bicubic => match x.abs() {
                x if x < 1.0 => (1.5 * x - 2.5) * x * x + 1.0,
                x if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * -0.5,
                _ => 0.0,
            },
            Self::Lanczos if (-3.0..3.0).contains(&x) => sinc(x) * sinc(x / 3.0),
            Self::Lanczos => 0.0,
        }
    }
}

fn sinc(x: f64) -> f64 {
    if x == 0.0 { 1.0 } else { (x * PI).sin() / (x * PI) }
}

/// Resizes to `(width, height)` pixels, bit for bit as Pillow 13's `Image.resize((width, height), filter)`.
///
/// # Errors
/// [`ImageError::Empty`] or [`ImageError::TooLarge`] for the size asked for, [`ImageError::Buffer`] if the buffer of
/// `image` does not fit its sides.
pub fn resize(image: &Rgb8, (width, height): (usize, usize), filter: Resample) -> Result<Rgb8, ImageError> {
    image.check()?;
    checked_area(width, height, MAX_PIXELS)?;
    if (image.width, image.height) == (width, height) {
        return Ok(image.clone());
    }
    if filter == Resample::Nearest {
        return Ok(nearest(image, width, height));
    }

    // An axis that keeps its length needs no pass.
    let columns = (image.width != width).then(|| Taps::new(image.width, width, filter));
    let rows = (image.height != height).then(|| Taps::new(image.height, height, filter));
    let lost_rows = image.height.saturating_sub(height) as i64;
    let lost_columns = image.width as i64 - width as i64;
    Ok(match (columns, rows) {
        (Some(columns), None) => horizontal(image, &columns, 0..image.height),
        (None, Some(rows)) => vertical(image, &rows, 0),
        // The order decides the last bit. Pillow 13 resamples columns first if more than twice as many rows as columns
        // are lost.
        (Some(columns), Some(rows)) if lost_rows > 0 && lost_rows > 2 * lost_columns => {
            horizontal(&vertical(image, &rows, 0), &columns, 0..height)
        }
        (Some(columns), Some(rows)) => {
            let used = rows.sources();
            let first = used.start;
            vertical(&horizontal(image, &columns, used), &rows, first)
        }
        (None, None) => image.clone(),
    })
}

/// Returns for each of `to` new pixels along an axis the source pixel (of `from`) under its centre, as in Pillow's
/// nearest neighbour. Pillow accumulates the position step by step, so rounding may give a neighbouring pixel or even
/// one past the end, which Pillow leaves black.
#[must_use]
pub fn nearest_positions(from: usize, to: usize) -> Vec<usize> {
    let step = f64::from(from as f32) / to as f64;
    let mut position = 0.5 * step;
    (0..to)
        .map(|_| {
            let here = position as usize;
            position += step;
            here
        })
        .collect()
}

fn nearest(image: &Rgb8, width: usize, height: usize) -> Rgb8 {
    let columns = nearest_positions(image.width, width);
    let mut data = Vec::with_capacity(width * height * 3);
    for row in nearest_positions(image.height, height) {
        let line = image.data.chunks_exact(image.width * 3).nth(row).unwrap_or_default();
        data.extend(columns.iter().flat_map(|&column| match line.get(column * 3..column * 3 + 3) {
            Some(rgb) => [rgb[0], rgb[1], rgb[2]],
            None => [0; 3],
        }));
    }
    Rgb8 { width, height, data }
}

const PRECISION_BITS: u32 = 32 - 8 - 2;
/// One half: added so that the final shift rounds.
const HALF: i32 = 1 << (PRECISION_BITS - 1);

/// The weights of a pixel sum to one and the filters' negative lobes are small, so nothing overflows. Wrapping
/// operations keep the inner loops free of overflow checks in every build profile.
#[inline(always)]
fn multiply_add(sum: i32, sample: u8, weight: i32) -> i32 {
    sum.wrapping_add(i32::from(sample).wrapping_mul(weight))
}

#[inline(always)]
fn clip8(sum: i32) -> u8 {
    (sum >> PRECISION_BITS).clamp(0, 255) as u8
}

/// Fixed-point filter weights along one axis.
struct Taps {
    /// For every new pixel, the first source pixel and the number of source pixels.
    bounds: Vec<(usize, usize)>,
    /// `stride` weights per new pixel, of which the first `bounds.1` count.
    weights: Vec<i32>,
    stride: usize,
}

impl Taps {
    fn new(from: usize, to: usize, filter: Resample) -> Self {
        // Pillow keeps the source length in single precision.
        let scale = f64::from(from as f32) / to as f64;
        let filter_scale = scale.max(1.0);
        let support = filter.support() * filter_scale;
        let inverse_scale = 1.0 / filter_scale;
        let stride = (support.ceil() as usize * 2 + 1).min(from.max(1));

        let mut bounds = Vec::with_capacity(to);
        let mut weights = vec![0_i32; to * stride];
        let mut exact = Vec::with_capacity(stride);
        for (pixel, weights) in weights.chunks_exact_mut(stride).enumerate() {
            let centre = (pixel as f64 + 0.5) * scale;
            // Casts truncate and saturate at zero, which rounds half up and clips at the left edge.
            let first = (centre - support + 0.5) as usize;
            let last = ((centre + support + 0.5) as usize).min(from);
            let count = last.saturating_sub(first);
            exact.clear();
            exact.extend(
                (0..count).map(|i| filter.weight(((i + first) as f64 - centre + 0.5) * inverse_scale)),
            );
            let total: f64 = exact.iter().sum();
            for (weight, &value) in weights.iter_mut().zip(&exact) {
                let fraction = if total == 0.0 { value } else { value / total };
                let scaled = fraction * f64::from(1_u32 << PRECISION_BITS);
                *weight = if fraction < 0.0 { scaled - 0.5 } else { scaled + 0.5 } as i32;
            }
            bounds.push((first, count));
        }
        Self { bounds, weights, stride }
    }

    /// Range of the source pixels that are used.
    fn sources(&self) -> Range<usize> {
        let start = self.bounds.first().map_or(0, |&(first, _)| first);
        let end = self.bounds.last().map_or(0, |&(first, count)| first + count);
        start..end
    }

    /// First source pixel and weights, for every new pixel.
    fn iter(&self) -> impl Iterator<Item = (usize, &[i32])> {
        self.bounds
            .iter()
            .zip(self.weights.chunks_exact(self.stride))
            .map(|(&(first, count), weights)| (first, &weights[..count]))
    }
}

/// Resamples every line of `rows`. The result has only those lines.
fn horizontal(image: &Rgb8, columns: &Taps, rows: Range<usize>) -> Rgb8 {
    let width = columns.bounds.len();
    let line_bytes = image.width * 3;
    let mut data = vec![0_u8; width * rows.len() * 3];
    let lines = image.data[rows.start * line_bytes..].chunks_exact(line_bytes);
    for (line, out) in lines.zip(data.chunks_exact_mut(width * 3)) {
        for ((first, weights), out) in columns.iter().zip(out.chunks_exact_mut(3)) {
            let mut sums = [HALF; 3];
            let pixels = line[first * 3..(first + weights.len()) * 3].chunks_exact(3);
            for (pixel, &weight) in pixels.zip(weights) {
                for (sum, &sample) in sums.iter_mut().zip(pixel) {
                    *sum = multiply_add(*sum, sample, weight);
                }
            }
            out.copy_from_slice(&sums.map(clip8));
        }
    }
    Rgb8 { width, height: rows.len(), data }
}

/// Resamples every column. Line 0 of `image` is line `offset` of the source that `rows` was made for.
fn vertical(image: &Rgb8, rows: &Taps, offset: usize) -> Rgb8 {
    let line_bytes = image.width * 3;
    let mut data = vec![0_u8; line_bytes * rows.bounds.len()];
    let mut sums = vec![HALF; line_bytes];
    for ((first, weights), out) in rows.iter().zip(data.chunks_exact_mut(line_bytes)) {
        sums.fill(HALF);
        let lines = image.data[(first - offset) * line_bytes..].chunks_exact(line_bytes);
        for (line, &weight) in lines.zip(weights) {
            for (sum, &sample) in sums.iter_mut().zip(line) {
                *sum = multiply_add(*sum, sample, weight);
            }
        }
        for (out, &sum) in out.iter_mut().zip(&sums) {
            *out = clip8(sum);
        }
    }
    Rgb8 { width: image.width, height: rows.bounds.len(), data }
}
