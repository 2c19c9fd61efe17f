//! Textured backgrounds, and the distractors scattered over them.

use serde::{Deserialize, Serialize};

use super::rng::{Rng, ValueNoise};

/// Kind of background.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Texture {
    /// A gradient from one tone to the other.
    Shaded,
    /// Stripes of the two tones.
    Striped,
    /// A checkerboard of the two tones.
    Checked,
    /// Smooth noise of several scales.
    Cloudy,
    /// Fine noise.
    Grainy,
}

impl Texture {
    /// All five textures.
    pub const ALL: [Texture; 5] =
        [Texture::Shaded, Texture::Striped, Texture::Checked, Texture::Cloudy, Texture::Grainy];

    /// The adjective used in captions.
    pub fn name(self) -> &'static str {
        match self {
            Texture::Shaded => "shaded",
            Texture::Striped => "striped",
            Texture::Checked => "checked",
            Texture::Cloudy => "cloudy",
            Texture::Grainy => "grainy",
        }
    }
}

/// Number of cells along each side of the grid on which grain is drawn, at every image size.
const GRAIN_CELLS: f64 = 64.0;

/// A wave of period 1 between −1 and 1: mostly flat, with short ramps, so that stripes have soft edges at any size.
fn wave(phase: f64) -> f64 {
    let triangle = 4.0 * (phase - phase.floor() - 0.5).abs() - 1.0;
    (triangle * 3.0).clamp(-1.0, 1.0)
}

/// A background with all random choices made: a function from the unit square to colours.
#[derive(Debug, Clone)]
pub(super) struct Background {
    texture: Texture,
    tones: [[u8; 3]; 2],
    direction: (f64, f64),
    /// Periods (or noise cells) along a side, and where the first one begins.
    frequency: f64,
    phase: (f64, f64),
    noise: [ValueNoise; 3],
    /// Strength of the grain, and of the light from one side, in colour levels.
    grain: f64,
    light: ((f64, f64), f64),
}

impl Background {
    pub(super) fn draw(rng: &mut Rng, texture: Texture, tones: [[u8; 3]; 2]) -> Self {
        let frequency = match texture {
            Texture::Shaded => 1.0,
            Texture::Striped => rng.range(4.0, 10.0),
            Texture::Checked => rng.range(3.0, 7.0),
            Texture::Cloudy => rng.range(2.5, 6.0),
            Texture::Grainy => rng.range(20.0, 32.0),
        };
        Self {
            texture,
            tones,
            direction: rng.direction(),
            frequency,
            phase: (rng.unit(), rng.unit()),
            noise: [(); 3].map(|()| ValueNoise::draw(rng)),
            grain: rng.range(2.0, 14.0),
            light: (rng.direction(), rng.range(0.0, 22.0)),
        }
    }

    /// Colour at a point of the unit square, in levels and not yet rounded.
    pub(super) fn at(&self, x: f64, y: f64) -> [f64; 3] {
        let (c, s) = self.direction;
        let (u, v) = (c * (x - 0.5) + s * (y - 0.5), c * (y - 0.5) - s * (x - 0.5));
        let mixing = match self.texture {
            Texture::Shaded => 0.5 + u / 1.2,
            Texture::Striped => 0.5 + 0.5 * wave(u * self.frequency + self.phase.0),
            Texture::Checked => {
                let board = wave(u * self.frequency + self.phase.0) * wave(v * self.frequency + self.phase.1);
                0.5 + 0.5 * board
            }
            Texture::Cloudy => {
                let octave = |i: usize, scale: f64| {
                    self.noise[i].at(x * self.frequency * scale, y * self.frequency * scale)
                };
                0.5 + 0.9 * (0.6 * octave(0, 1.0) + 0.3 * octave(1, 2.0) + 0.15 * octave(2, 4.0))
            }
            Texture::Grainy => {
                let coarse = self.noise[0].at(x * self.frequency * 0.5, y * self.frequency * 0.5);
                0.5 + 0.45 * (coarse + self.noise[1].at(x * self.frequency, y * self.frequency))
            }
        }
        .clamp(0.0, 1.0);
        let ((lx, ly), strength) = self.light;
        let light = strength * (lx * (x - 0.5) + ly * (y - 0.5)) + self.grain * grain(self.noise[2], x, y);
        [0, 1, 2].map(|i| {
            let (a, b) = (f64::from(self.tones[0][i]), f64::from(self.tones[1][i]));
            a + (b - a) * mixing + light
        })
    }
}

/// Grain in `[-1, 1)`. Its lattice points are the pixel centres of a 64-pixel image.
pub(super) fn grain(noise: ValueNoise, x: f64, y: f64) -> f64 {
    noise.at(x * GRAIN_CELLS - 0.5, y * GRAIN_CELLS - 0.5)
}

/// A small thing that belongs to no class. It lies on the background, beneath the objects.
#[derive(Debug, Clone)]
pub(super) struct Distractor {
    form: Form,
    rgb: [u8; 3],
    opacity: f64,
}

#[derive(Debug, Clone)]
enum Form {
    /// Straight strokes of the given half-width: one stroke is a line, two that meet form a corner.
    Strokes { ends: [(f64, f64); 3], count: usize, half: f64 },
    /// An arc of a circle: the points of its outline whose direction from the centre lies within a sector.
    Arc { centre: (f64, f64), radius: f64, half: f64, towards: (f64, f64), cosine: f64 },
    /// A dot.
    Dot { centre: (f64, f64), radius: f64 },
    /// A ragged patch of texture: a fading disc seen through noise.
    Patch { centre: (f64, f64), radius: f64, noise: ValueNoise },
}

impl Distractor {
    pub(super) fn draw(rng: &mut Rng) -> Self {
        let mut anywhere = || (rng.range(0.02, 0.98), rng.range(0.02, 0.98));
        let centre = anywhere();
        let form = match rng.below(5) {
            0 => Form::Dot { centre, radius: rng.range(0.012, 0.032) },
            1 => {
                let ((dx, dy), length) = (rng.direction(), rng.range(0.08, 0.3));
                let end = (centre.0 + dx * length, centre.1 + dy * length);
                Form::Strokes { ends: [centre, end, end], count: 1, half: rng.range(0.006, 0.012) }
            }
            2 => {
                let mut end = |length: f64| {
                    let (dx, dy) = rng.direction();
                    (centre.0 + dx * length, centre.1 + dy * length)
                };
                let ends = [end(0.1), centre, end(0.12)];
                Form::Strokes { ends, count: 2, half: rng.range(0.007, 0.012) }
            }
            3 => Form::Arc {
                centre,
                radius: rng.range(0.06, 0.14),
                half: rng.range(0.007, 0.012),
                towards: rng.direction(),
                cosine: rng.range(-0.2, 0.6),
            },
            _ => Form::Patch { centre, radius: rng.range(0.05, 0.09), noise: ValueNoise::draw(rng) },
        };
        let rgb = [(); 3].map(|()| rng.below(256) as u8);
        Self { form, rgb, opacity: rng.range(0.55, 0.95) }
    }

    /// The fraction of the pixel of the given width at `(x, y)` that the distractor covers, times its opacity.
    fn cover(&self, x: f64, y: f64, pixel: f64) -> f64 {
        let edge = |outside: f64| (0.5 - outside / pixel).clamp(0.0, 1.0);
        let length = |(x, y): (f64, f64)| (x * x + y * y).sqrt();
        let cover = match &self.form {
            Form::Dot { centre, radius } => edge(length((x - centre.0, y - centre.1)) - radius),
            Form::Strokes { ends, count, half } => ends
                .windows(2)
                .take(*count)
                .map(|pair| edge(from_segment((x, y), pair[0], pair[1]) - half))
                .fold(0.0, f64::max),
            Form::Arc { centre, radius, half, towards, cosine } => {
                let (dx, dy) = (x - centre.0, y - centre.1);
                let r = length((dx, dy));
                if dx * towards.0 + dy * towards.1 >= cosine * r {
                    edge((r - radius).abs() - half)
                } else {
                    0.0
                }
            }
            Form::Patch { centre, radius, noise } => {
                let fade = 1.0 - length((x - centre.0, y - centre.1)) / radius;
                (2.0 * fade + 1.5 * noise.at(x * 28.0, y * 28.0)).clamp(0.0, 1.0) * f64::from(fade > 0.0)
            }
        };
        cover * self.opacity
    }

    /// Returns the colour of the pixel of the given width at `(x, y)` after the distractor is laid over `below`.
    pub(super) fn over(&self, below: [f64; 3], x: f64, y: f64, pixel: f64) -> [f64; 3] {
        let cover = self.cover(x, y, pixel);
        [0, 1, 2].map(|i| below[i] + (f64::from(self.rgb[i]) - below[i]) * cover)
    }
}

/// Distance from a point to the segment between `a` and `b`.
fn from_segment((x, y): (f64, f64), a: (f64, f64), b: (f64, f64)) -> f64 {
    let (dx, dy) = (b.0 - a.0, b.1 - a.1);
    let along = ((x - a.0) * dx + (y - a.1) * dy) / (dx * dx + dy * dy).max(1e-12);
    let t = along.clamp(0.0, 1.0);
    let (px, py) = (x - a.0 - t * dx, y - a.1 - t * dy);
    (px * px + py * py).sqrt()
}
