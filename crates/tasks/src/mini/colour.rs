//! Named colours, and background tones that differ from them.

use serde::{Deserialize, Serialize};

use super::rng::Rng;

/// A colour with the name used in captions. The colour of each object varies a little around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Colour {
    Red,
    Orange,
    Yellow,
    Green,
    Teal,
    Blue,
    Purple,
    Pink,
    White,
    Black,
}

impl Colour {
    /// All ten colours.
    pub const ALL: [Colour; 10] = [
        Colour::Red,
        Colour::Orange,
        Colour::Yellow,
        Colour::Green,
        Colour::Teal,
        Colour::Blue,
        Colour::Purple,
        Colour::Pink,
        Colour::White,
        Colour::Black,
    ];

    /// The name used in captions.
    pub fn name(self) -> &'static str {
        match self {
            Colour::Red => "red",
            Colour::Orange => "orange",
            Colour::Yellow => "yellow",
            Colour::Green => "green",
            Colour::Teal => "teal",
            Colour::Blue => "blue",
            Colour::Purple => "purple",
            Colour::Pink => "pink",
            Colour::White => "white",
            Colour::Black => "black",
        }
    }

    /// The middle of the colour's range.
    fn rgb(self) -> [u8; 3] {
        match self {
            Colour::Red => [210, 44, 46],
            Colour::Orange => [238, 134, 34],
            Colour::Yellow => [240, 208, 60],
            Colour::Green => [52, 158, 66],
            Colour::Teal => [34, 176, 172],
            Colour::Blue => [44, 92, 204],
            Colour::Purple => [124, 62, 168],
            Colour::Pink => [238, 130, 178],
            Colour::White => [238, 238, 236],
            Colour::Black => [30, 30, 34],
        }
    }

    /// Draws the shade of one object.
    pub(super) fn shade(self, rng: &mut Rng) -> [u8; 3] {
        self.rgb().map(|level| to_level(f64::from(level) + rng.range(-14.0, 14.0)))
    }
}

/// Rounds to the nearest 8-bit level; ties go up.
pub(crate) fn to_level(value: f64) -> u8 {
    (value + 0.5).floor().clamp(0.0, 255.0) as u8
}

/// Squared distance of two colours, weighted roughly by the eye's sensitivity (2, 4, 3).
fn distance(a: [u8; 3], b: [u8; 3]) -> i32 {
    let square = |i: usize| (i32::from(a[i]) - i32::from(b[i])) * (i32::from(a[i]) - i32::from(b[i]));
    2 * square(0) + 4 * square(1) + 3 * square(2)
}

/// Minimum distance of a background from every object's colour, and maximum distance between its own two tones.
const CLEAR: i32 = 9 * 68 * 68;
const TONES_APART: i32 = 9 * 72 * 72;
/// Number of draws after which the best pair so far is taken: with many objects, every pair may be too close to one.
const DRAWS: usize = 96;

/// Fraction of the saturation that a background keeps: objects are bright, backgrounds muted.
const SATURATION: f64 = 0.55;

/// Mixes a colour with the grey of the same mean.
fn muted(rgb: [f64; 3]) -> [u8; 3] {
    let grey = (rgb[0] + rgb[1] + rgb[2]) / 3.0;
    rgb.map(|level| to_level(grey + (level - grey) * SATURATION))
}

/// Draws the two tones of a background, far from the colours of the objects if possible.
pub(crate) fn tones(rng: &mut Rng, objects: &[[u8; 3]]) -> [[u8; 3]; 2] {
    let mut best = ([[128; 3]; 2], i32::MIN);
    for _ in 0..DRAWS {
        let first = muted([(); 3].map(|()| rng.range(16.0, 240.0)));
        let lift = rng.range(-40.0, 40.0);
        let second = first.map(|level| to_level(f64::from(level) + lift + rng.range(-36.0, 36.0)));
        let between = [0, 1, 2].map(|i| ((u16::from(first[i]) + u16::from(second[i])) / 2) as u8);
        let apart = distance(first, second);
        if !(9 * 22 * 22..=TONES_APART).contains(&apart) {
            continue;
        }
        let nearest = objects
            .iter()
            .flat_map(|&object| [first, second, between].map(|tone| distance(tone, object)))
            .min()
            .unwrap_or(i32::MAX);
        if nearest > best.1 {
            best = ([first, second], nearest);
        }
        if nearest >= CLEAR {
            break;
        }
    }
    best.0
}
