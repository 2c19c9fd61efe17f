//! Images that figures are drawn from.

use super::PlotError;
use super::canvas::encoded;

/// An RGB image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rgb {
    /// Number of pixels in a row.
    pub width: usize,
    /// Number of rows.
    pub height: usize,
    /// `height × width × 3` samples, row by row.
    pub pixels: Vec<u8>,
}

impl Rgb {
    /// Checks that the number of samples matches the sides.
    pub(super) fn check(&self) -> Result<(), String> {
        let Self { width, height, pixels } = self;
        if *width == 0 || *height == 0 || width.checked_mul(height * 3) != Some(pixels.len()) {
            return Err(format!(
                "an image of {width} × {height} pixels needs {width} × {height} × 3 samples, found {}",
                pixels.len()
            ));
        }
        Ok(())
    }

    /// Returns the image as the content of a PNG file.
    ///
    /// # Errors
    /// Fails with [`PlotError::Shape`] if the number of samples does not match the sides.
    pub fn png(&self) -> Result<Vec<u8>, PlotError> {
        self.check().map_err(PlotError::Shape)?;
        encoded(self.width as u32, self.height as u32, &self.pixels)
            .map_err(|error| PlotError::Draw(error.to_string()))
    }
}

/// Returns the size of the image scaled to fit into a square, with the aspect ratio kept.
pub(super) fn fitting(image: &Rgb, side: u32) -> (u32, u32) {
    let scale = f64::from(side) / image.width.max(image.height) as f64;
    let fit = |length: usize| ((length as f64 * scale).round() as u32).clamp(1, side);
    (fit(image.width), fit(image.height))
}

/// Resizes the image: each pixel averages the samples it covers, or takes the nearest one.
pub(super) fn resized(image: &Rgb, width: u32, height: u32) -> Vec<[u8; 3]> {
    let span = |i: u32, to: u32, from: usize| {
        let (i, to) = (i as usize, to as usize);
        let start = i * from / to;
        start..((i + 1) * from / to).max(start + 1)
    };
    let mut out = Vec::with_capacity((width * height) as usize);
    for y in 0..height {
        let ys = span(y, height, image.height);
        for x in 0..width {
            let xs = span(x, width, image.width);
            let count = (ys.len() * xs.len()) as u32;
            let mut sums = [0u32; 3];
            for row in ys.clone() {
                for col in xs.clone() {
                    let start = (row * image.width + col) * 3;
                    for (sum, sample) in sums.iter_mut().zip(&image.pixels[start..start + 3]) {
                        *sum += u32::from(*sample);
                    }
                }
            }
            out.push(sums.map(|sum| ((sum + count / 2) / count) as u8));
        }
    }
    out
}
