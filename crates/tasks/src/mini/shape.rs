//! The ten classes of shapes: outlines, areas and extents.
//!
//! Every class is drawn in its own coordinates (about the unit circle; the direction of `y` does not matter, since
//! shapes are rotated) and has a known exact area there, so that one square root turns a wanted fraction of the image
//! into a scale.

use serde::{Deserialize, Serialize};

/// The class of an object, in the order of the labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// A disc.
    Circle,
    /// A square.
    Square,
    /// An equilateral triangle.
    Triangle,
    /// A five-pointed star.
    Star,
    /// A cross with four equal arms.
    Cross,
    /// A disc with a round hole; the hole is not part of the object.
    Ring,
    /// A heart: a square on its tip with a half-disc on each upper side.
    Heart,
    /// A disc with a bite taken out by a smaller disc.
    Crescent,
    /// A block arrow.
    Arrow,
    /// Two triangles tip to tip, with a narrow waist.
    Hourglass,
}

/// cos and sin of the multiples of 36°, to the nearest `f64`, so that the star does not depend on the platform's maths
/// library.
const SIN_36: f64 = 0.587_785_252_292_473_1;
const COS_36: f64 = 0.809_016_994_374_947_5;
const SIN_72: f64 = 0.951_056_516_295_153_5;
const COS_72: f64 = 0.309_016_994_374_947_45;
/// sin 60°.
const SIN_60: f64 = 0.866_025_403_784_438_6;

/// Radius of the star's inner corners; the outer ones lie at 1.
const NOTCH: f64 = 0.45;
/// Half the width of a cross's arms; the arms end at 1.
const ARM: f64 = 0.36;
/// Radius of the ring's hole.
const HOLE: f64 = 0.55;
/// y coordinate of the heart's centre, chosen so that the origin is the centre of its bounding circle.
const HEART_Y: f64 = 0.27;
/// The crescent's bite: a disc of this radius, centred this far along `x`.
const BITE: f64 = 0.82;
const BITE_X: f64 = 0.48;

const TRIANGLE: [(f64, f64); 3] = [(0.0, 1.0), (SIN_60, -0.5), (-SIN_60, -0.5)];
const STAR: [(f64, f64); 10] = [
    (0.0, 1.0),
    (NOTCH * SIN_36, NOTCH * COS_36),
    (SIN_72, COS_72),
    (NOTCH * SIN_72, -NOTCH * COS_72),
    (SIN_36, -COS_36),
    (0.0, -NOTCH),
    (-SIN_36, -COS_36),
    (-NOTCH * SIN_72, -NOTCH * COS_72),
    (-SIN_72, COS_72),
    (-NOTCH * SIN_36, NOTCH * COS_36),
];
const ARROW: [(f64, f64); 7] =
    [(-1.0, -0.28), (0.1, -0.28), (0.1, -0.8), (1.0, 0.0), (0.1, 0.8), (0.1, 0.28), (-1.0, 0.28)];
const HOURGLASS: [(f64, f64); 6] =
    [(-0.8, -1.0), (0.8, -1.0), (0.1, 0.0), (0.8, 1.0), (-0.8, 1.0), (-0.1, 0.0)];

/// A disc `(x, y, radius)`; radius 0 is a point. The convex hull of a few of them encloses a shape.
type Disc = (f64, f64, f64);

impl Class {
    /// All ten classes, in the order of the labels 0 to 9.
    pub const ALL: [Class; 10] = [
        Class::Circle,
        Class::Square,
        Class::Triangle,
        Class::Star,
        Class::Cross,
        Class::Ring,
        Class::Heart,
        Class::Crescent,
        Class::Arrow,
        Class::Hourglass,
    ];

    /// The name used in captions, descriptors and models: one lower-case English noun.
    pub fn name(self) -> &'static str {
        match self {
            Class::Circle => "circle",
            Class::Square => "square",
            Class::Triangle => "triangle",
            Class::Star => "star",
            Class::Cross => "cross",
            Class::Ring => "ring",
            Class::Heart => "heart",
            Class::Crescent => "crescent",
            Class::Arrow => "arrow",
            Class::Hourglass => "hourglass",
        }
    }

    /// The label, 0 to 9: the position in [`Class::ALL`].
    pub fn label(self) -> usize {
        self as usize
    }

    /// Area in the shape's own coordinates.
    pub(super) fn area(self) -> f64 {
        use std::f64::consts::PI;
        match self {
            Class::Circle => PI,
            Class::Square => 4.0,
            Class::Triangle => 1.5 * SIN_60,
            Class::Star => 5.0 * NOTCH * SIN_36,
            Class::Cross => 8.0 * ARM - 4.0 * ARM * ARM,
            Class::Ring => PI * (1.0 - HOLE * HOLE),
            Class::Heart => 2.0 + PI / 2.0,
            // The unit disc minus its intersection with the bite.
            Class::Crescent => 1.442_207_459_397_168,
            Class::Arrow => 1.1 * 0.56 + 0.5 * 0.9 * 1.6,
            Class::Hourglass => 1.8,
        }
    }

    /// Discs whose convex hull encloses the shape (tightly, except at the straight cuts of the heart and the crescent).
    pub(super) fn hull(self) -> &'static [Disc] {
        match self {
            Class::Circle | Class::Ring | Class::Crescent => &[(0.0, 0.0, 1.0)],
            Class::Square => &[(1.0, 1.0, 0.0), (-1.0, 1.0, 0.0), (1.0, -1.0, 0.0), (-1.0, -1.0, 0.0)],
            Class::Triangle => &[(0.0, 1.0, 0.0), (SIN_60, -0.5, 0.0), (-SIN_60, -0.5, 0.0)],
            Class::Star => &[
                (0.0, 1.0, 0.0),
                (SIN_72, COS_72, 0.0),
                (SIN_36, -COS_36, 0.0),
                (-SIN_36, -COS_36, 0.0),
                (-SIN_72, COS_72, 0.0),
            ],
            Class::Cross => &[
                (1.0, ARM, 0.0),
                (1.0, -ARM, 0.0),
                (-1.0, ARM, 0.0),
                (-1.0, -ARM, 0.0),
                (ARM, 1.0, 0.0),
                (-ARM, 1.0, 0.0),
                (ARM, -1.0, 0.0),
                (-ARM, -1.0, 0.0),
            ],
            Class::Heart => &[
                (0.0, -1.0 - HEART_Y, 0.0),
                (0.5, 0.5 - HEART_Y, std::f64::consts::FRAC_1_SQRT_2),
                (-0.5, 0.5 - HEART_Y, std::f64::consts::FRAC_1_SQRT_2),
            ],
            Class::Arrow => {
                &[(-1.0, -0.28, 0.0), (-1.0, 0.28, 0.0), (0.1, -0.8, 0.0), (0.1, 0.8, 0.0), (1.0, 0.0, 0.0)]
            }
            Class::Hourglass => &[(-0.8, -1.0, 0.0), (0.8, -1.0, 0.0), (0.8, 1.0, 0.0), (-0.8, 1.0, 0.0)],
        }
    }

    /// Whether the point, in the shape's own coordinates, lies inside.
    pub(super) fn contains(self, x: f64, y: f64) -> bool {
        let square = x * x + y * y;
        match self {
            Class::Circle => square <= 1.0,
            Class::Square => x.abs() <= 1.0 && y.abs() <= 1.0,
            Class::Triangle => in_polygon(&TRIANGLE, x, y),
            Class::Star => in_polygon(&STAR, x, y),
            Class::Cross => {
                let (long, short) = (x.abs().max(y.abs()), x.abs().min(y.abs()));
                long <= 1.0 && short <= ARM
            }
            Class::Ring => (HOLE * HOLE..=1.0).contains(&square),
            Class::Heart => {
                let (x, y) = (x.abs(), y + HEART_Y);
                let (dx, dy) = (x - 0.5, y - 0.5);
                x + y.abs() <= 1.0 || dx * dx + dy * dy <= 0.5
            }
            Class::Crescent => {
                let dx = x - BITE_X;
                square <= 1.0 && dx * dx + y * y > BITE * BITE
            }
            Class::Arrow => in_polygon(&ARROW, x, y),
            Class::Hourglass => in_polygon(&HOURGLASS, x, y),
        }
    }
}

impl std::fmt::Display for Class {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Even-odd rule: a ray to the right crosses the outline an odd number of times.
fn in_polygon(corners: &[(f64, f64)], x: f64, y: f64) -> bool {
    let mut inside = false;
    let mut previous = corners[corners.len() - 1];
    for &corner in corners {
        let ((x0, y0), (x1, y1)) = (previous, corner);
        if (y0 > y) != (y1 > y) && x < x0 + (y - y0) * (x1 - x0) / (y1 - y0) {
            inside = !inside;
        }
        previous = corner;
    }
    inside
}

/// A shape placed into the unit square: rotated, stretched, scaled and moved.
#[derive(Debug, Clone)]
pub(super) struct Figure {
    pub class: Class,
    /// Centre, in unit coordinates.
    pub centre: (f64, f64),
    /// cos and sin of the rotation.
    pub turn: (f64, f64),
    /// Half-lengths of the shape's own axes, in unit coordinates.
    pub axes: (f64, f64),
}

impl Figure {
    /// A figure of the given area (a fraction of the unit square) at the origin. `aspect` stretches one axis and
    /// shrinks the other, which leaves the area unchanged.
    pub(super) fn new(class: Class, area: f64, aspect: f64, turn: (f64, f64)) -> Self {
        let scale = (area / class.area()).sqrt();
        Self { class, centre: (0.0, 0.0), turn, axes: (scale * aspect, scale / aspect) }
    }

    /// How far the figure reaches from its centre towards `direction` (a unit vector).
    fn reach(&self, direction: (f64, f64)) -> f64 {
        let ((c, s), (dx, dy)) = (self.turn, direction);
        // The support of a linearly mapped set is the support of the set in the transposed direction.
        let (u, v) = (self.axes.0 * (c * dx + s * dy), self.axes.1 * (c * dy - s * dx));
        let length = (u * u + v * v).sqrt();
        self.class.hull().iter().map(|&(x, y, r)| x * u + y * v + r * length).fold(0.0, f64::max)
    }

    /// How far the figure reaches to the left, up, right and down from its centre.
    pub(super) fn reaches(&self) -> [f64; 4] {
        [(-1.0, 0.0), (0.0, -1.0), (1.0, 0.0), (0.0, 1.0)].map(|direction| self.reach(direction))
    }

    /// Whether the point, in unit coordinates, lies inside.
    pub(super) fn contains(&self, x: f64, y: f64) -> bool {
        let ((c, s), (dx, dy)) = (self.turn, (x - self.centre.0, y - self.centre.1));
        self.class.contains((c * dx + s * dy) / self.axes.0, (c * dy - s * dx) / self.axes.1)
    }

    /// Returns the pixels `x0..x1, y0..y1` that the figure can touch, in an image of `size` by `size` pixels.
    pub(super) fn pixels(&self, size: usize) -> [usize; 4] {
        let [left, up, right, down] = self.reaches();
        let first = |edge: f64| ((edge * size as f64).floor().max(0.0) as usize).min(size);
        let past =
            |edge: f64| ((edge * size as f64).floor().max(-1.0) as i64 + 1).clamp(0, size as i64) as usize;
        let (x, y) = self.centre;
        [first(x - left), first(y - up), past(x + right), past(y + down)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn areas_and_hulls_agree_with_the_outlines() {
        for class in Class::ALL {
            let n = 1200;
            let half = 1.5;
            let point = |i: usize| half * (2.0 * (i as f64 + 0.5) / n as f64 - 1.0);
            let inside: Vec<(f64, f64)> = (0..n * n)
                .map(|i| (point(i % n), point(i / n)))
                .filter(|&(x, y)| class.contains(x, y))
                .collect();
            let area = inside.len() as f64 * (2.0 * half / n as f64) * (2.0 * half / n as f64);
            assert!((area - class.area()).abs() < 4e-3, "{class}: area {area}, declared {}", class.area());

            let figure = Figure { class, centre: (0.0, 0.0), turn: (1.0, 0.0), axes: (1.0, 1.0) };
            for (dx, dy) in [(1.0, 0.0), (-1.0, 0.0), (0.0, 1.0), (0.0, -1.0), (0.6, 0.8), (-0.8, 0.6)] {
                let farthest = inside.iter().map(|&(x, y)| x * dx + y * dy).fold(f64::MIN, f64::max);
                let reach = figure.reach((dx, dy));
                assert!(farthest <= reach + 1e-9, "{class}: reaches {farthest}, declared {reach}");
                // The crescent's horns end inside its disc; everything else touches its hull.
                assert!(
                    class == Class::Crescent || reach < farthest + 0.01,
                    "{class}: {reach} for {farthest}"
                );
            }
        }
    }

    #[test]
    fn labels_are_positions() {
        for (position, class) in Class::ALL.into_iter().enumerate() {
            assert_eq!(class.label(), position);
        }
    }
}
