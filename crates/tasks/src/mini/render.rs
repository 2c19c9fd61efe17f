//! Draws the parts of a scene to pixels and masks.

use super::background::{Background, Distractor, grain};
use super::colour::to_level;
use super::rng::{Rng, ValueNoise};
use super::shape::Figure;

/// Number of samples along each side of a pixel, from which the edges of objects are smoothed.
const SAMPLES: usize = 4;

/// A figure with its surface: a colour, light from one side and a little grain.
#[derive(Debug, Clone)]
pub(super) struct Solid {
    figure: Figure,
    rgb: [u8; 3],
    light: (f64, f64),
    grain: f64,
    noise: ValueNoise,
}

impl Solid {
    pub(super) fn draw(rng: &mut Rng, figure: Figure, rgb: [u8; 3]) -> Self {
        let ((dx, dy), strength) = (rng.direction(), rng.range(0.0, 70.0));
        Self {
            figure,
            rgb,
            light: (dx * strength, dy * strength),
            grain: rng.range(0.0, 9.0),
            noise: ValueNoise::draw(rng),
        }
    }

    /// Colour at a point, in levels and not yet rounded.
    fn at(&self, x: f64, y: f64) -> [f64; 3] {
        let (dx, dy) = (x - self.figure.centre.0, y - self.figure.centre.1);
        let light = self.light.0 * dx + self.light.1 * dy + self.grain * grain(self.noise, x, y);
        self.rgb.map(|level| f64::from(level) + light)
    }

    /// The fraction of the pixel `(column, row)` that the figure covers, estimated from a grid of samples.
    fn cover(&self, column: usize, row: usize, size: usize) -> f64 {
        let at = |pixel: usize, sample: usize| {
            (pixel as f64 + (sample as f64 + 0.5) / SAMPLES as f64) / size as f64
        };
        let inside = (0..SAMPLES * SAMPLES)
            .filter(|sample| self.figure.contains(at(column, sample % SAMPLES), at(row, sample / SAMPLES)))
            .count();
        inside as f64 / (SAMPLES * SAMPLES) as f64
    }
}

/// Paints the image: background, then distractors, then the objects from the lowest to the topmost. Returns
/// `size * size * 3` bytes.
pub(super) fn paint(
    size: usize,
    background: &Background,
    distractors: &[Distractor],
    solids: &[Solid],
) -> Vec<u8> {
    let pixel = 1.0 / size as f64;
    let centre = |i: usize| (i as f64 + 0.5) * pixel;
    let mut canvas: Vec<[f64; 3]> = Vec::with_capacity(size * size);
    for row in 0..size {
        for column in 0..size {
            let (x, y) = (centre(column), centre(row));
            let ground = background.at(x, y);
            canvas.push(
                distractors.iter().fold(ground, |below, distractor| distractor.over(below, x, y, pixel)),
            );
        }
    }
    for solid in solids {
        let [x0, y0, x1, y1] = solid.figure.pixels(size);
        for row in y0..y1 {
            for column in x0..x1 {
                let cover = solid.cover(column, row, size);
                if cover > 0.0 {
                    let surface = solid.at(centre(column), centre(row));
                    let below = &mut canvas[row * size + column];
                    *below = [0, 1, 2].map(|i| below[i] + (surface[i] - below[i]) * cover);
                }
            }
        }
    }
    canvas.into_iter().flat_map(|rgb| rgb.map(to_level)).collect()
}

/// Returns for each object the pixels whose centre it covers and no object above it covers.
pub(super) fn masks(size: usize, solids: &[Solid]) -> Vec<Vec<bool>> {
    let centre = |i: usize| (i as f64 + 0.5) / size as f64;
    let mut owner: Vec<Option<usize>> = vec![None; size * size];
    for (object, solid) in solids.iter().enumerate() {
        let [x0, y0, x1, y1] = solid.figure.pixels(size);
        for row in y0..y1 {
            for column in x0..x1 {
                if solid.figure.contains(centre(column), centre(row)) {
                    owner[row * size + column] = Some(object);
                }
            }
        }
    }
    (0..solids.len()).map(|object| owner.iter().map(|&top| top == Some(object)).collect()).collect()
}
