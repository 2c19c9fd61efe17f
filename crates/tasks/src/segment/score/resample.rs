//! Enlarges token maps to pixels as torch does, and resizes label maps to a square as Pillow does.

use models::image::nearest_positions;
use ndarray::{Array2, ArrayView2};

use super::{ScoreError, Upsample};

/// Enlarges a token map to `(height, width)` pixels.
pub(super) fn upsample(map: ArrayView2<f32>, size: (usize, usize), how: Upsample) -> Array2<f32> {
    match how {
        Upsample::Nearest => nearest(map, size),
        Upsample::Bilinear => bilinear(map, size),
    }
}

/// Nearest-neighbour enlargement as in torch's `interpolate(size=…, mode="nearest")`.
pub(super) fn nearest<T: Copy>(map: ArrayView2<T>, (height, width): (usize, usize)) -> Array2<T> {
    let (rows, columns) = (floors(map.nrows(), height), floors(map.ncols(), width));
    Array2::from_shape_fn((height, width), |(y, x)| map[(rows[y], columns[x])])
}

/// Returns, for each of `to` pixels along an axis, the index of one of `from` tokens. torch multiplies in float32 and
/// rounds down, so that a token may begin one pixel later than it should.
fn floors(from: usize, to: usize) -> Vec<usize> {
    let step = from as f32 / to as f32;
    (0..to).map(|pixel| ((pixel as f32 * step) as usize).min(from - 1)).collect()
}

/// Bilinear enlargement as in torch's `interpolate(size=…, mode="bilinear", align_corners=False)`. Positions are
/// computed in float32 as there, values in float64 and rounded once, so that a constant map stays constant to the bit.
fn bilinear(map: ArrayView2<f32>, (height, width): (usize, usize)) -> Array2<f32> {
    let (rows, columns) = (between(map.nrows(), height), between(map.ncols(), width));
    let at = |row: usize, column: usize| f64::from(map[(row, column)]);
    Array2::from_shape_fn((height, width), |(y, x)| {
        let ((top, bottom, down), (left, right, across)) = (rows[y], columns[x]);
        let mix = |a: f64, b: f64, fraction: f64| a + (b - a) * fraction;
        let above = mix(at(top, left), at(top, right), across);
        let below = mix(at(bottom, left), at(bottom, right), across);
        mix(above, below, down) as f32
    })
}

/// Returns, for each of `to` pixels along an axis, the two of `from` tokens around its centre and the fraction of the
/// second.
fn between(from: usize, to: usize) -> Vec<(usize, usize, f64)> {
    let step = from as f32 / to as f32;
    let last = from - 1;
    (0..to)
        .map(|pixel| {
            let centre = (step * (pixel as f32 + 0.5) - 0.5).max(0.0);
            let first = (centre as usize).min(last);
            let fraction = (centre - first as f32).clamp(0.0, 1.0);
            (first, (first + 1).min(last), f64::from(fraction))
        })
        .collect()
}

/// Resizes labels to a square of `side` pixels as Pillow's nearest-neighbour `resize` does: each pixel takes the label
/// under its centre.
pub(super) fn labels_at(labels: ArrayView2<u8>, side: usize) -> Result<Array2<u8>, ScoreError> {
    let (height, width) = labels.dim();
    if labels.is_empty() {
        return Err(ScoreError::Empty { what: "label map", rows: height, columns: width });
    }
    let (rows, columns) = (nearest_positions(height, side), nearest_positions(width, side));
    // Pillow leaves pixels past the end black, which is the background.
    let at = |(y, x)| labels.get((rows[y], columns[x])).copied().unwrap_or(0);
    Ok(Array2::from_shape_fn((side, side), at))
}
