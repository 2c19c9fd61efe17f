//! A signal in 0…1.

use ndarray::{Array2, ArrayView2};

use super::ScoreError;

/// A map in 0…1, in row order.
pub(super) struct Signal {
    map: Array2<f32>,
    /// Whether the map had one value only and is 0 for that.
    constant: bool,
}

impl Signal {
    /// Brings a finite map to 0…1 in float32: `(x - min) / (max - min)`, and 0 where all values are equal.
    pub(super) fn new(map: Array2<f32>) -> Self {
        let (min, max) = map
            .iter()
            .fold((f32::INFINITY, f32::NEG_INFINITY), |(min, max), &value| (min.min(value), max.max(value)));
        // A range past float32's largest number is no range that a signal has; it would scale everything to 0.
        let constant = !(max - min > 0.0 && (max - min).is_finite());
        // Adding 0 takes the sign off a zero, which sorting by bits would see.
        let map = map.mapv(|value| if constant { 0.0 } else { (value - min) / (max - min) + 0.0 });
        Self { map: map.as_standard_layout().into_owned(), constant }
    }

    /// The same signal over another grid.
    pub(super) fn with(self, resample: impl FnOnce(ArrayView2<f32>) -> Array2<f32>) -> Self {
        Self { map: resample(self.map.view()), ..self }
    }

    pub(super) fn map(&self) -> ArrayView2<'_, f32> {
        self.map.view()
    }

    /// All values in row order.
    pub(super) fn values(&self) -> &[f32] {
        self.map.as_slice().unwrap_or_default()
    }

    /// The background's channel at a value of the foreground's.
    pub(super) fn complement(&self, s: f32) -> f32 {
        if self.constant { s } else { 1.0 - s }
    }
}

/// A finite map brought to 0…1 by its smallest and largest value, `(x - min) / (max - min)` in float32; 0 where all are
/// equal. (The released demo adds 1e-6 to the divisor.)
///
/// # Errors
/// The map is empty or has a value that is not finite.
pub(crate) fn min_max(map: ArrayView2<f32>) -> Result<Array2<f32>, ScoreError> {
    checked(map).map(|map| Signal::new(map.to_owned()).map)
}

/// The map, if it has values and all are finite.
pub(super) fn checked(map: ArrayView2<'_, f32>) -> Result<ArrayView2<'_, f32>, ScoreError> {
    let (rows, columns) = map.dim();
    if map.is_empty() {
        return Err(ScoreError::Empty { what: "signal", rows, columns });
    }
    match map.indexed_iter().find(|(_, value)| !value.is_finite()) {
        Some(((row, column), value)) => Err(ScoreError::NotFinite { value: value.to_string(), row, column }),
        None => Ok(map),
    }
}

/// Blurred by a Gaussian of 3×3 tokens with σ = 1, mirrored at the edge without repeating it: torchvision's
/// `gaussian_blur(kernel_size=3, sigma=1.0)`, summed in float64.
pub(super) fn blurred(map: ArrayView2<f32>) -> Result<Array2<f32>, ScoreError> {
    let (rows, columns) = map.dim();
    if rows < 2 || columns < 2 {
        return Err(ScoreError::TooSmallToBlur { rows, columns });
    }
    let side = (-0.5_f64).exp();
    let kernel = [side, 1.0, side].map(|weight| weight / (1.0 + 2.0 * side));
    let mirrored = |at: usize, n: usize| {
        [if at == 0 { 1 } else { at - 1 }, at, if at + 1 == n { at - 1 } else { at + 1 }]
    };
    Ok(Array2::from_shape_fn((rows, columns), |(row, column)| {
        let mut sum = 0.0;
        for (y, down) in mirrored(row, rows).into_iter().zip(kernel) {
            for (x, across) in mirrored(column, columns).into_iter().zip(kernel) {
                sum += down * across * f64::from(map[(y, x)]);
            }
        }
        sum as f32
    }))
}
