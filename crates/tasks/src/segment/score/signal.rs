//! A signal scaled to [0, 1].

use ndarray::{Array2, ArrayView2};

use super::ScoreError;

/// A map scaled to [0, 1], in row order.
pub(super) struct Signal {
    map: Array2<f32>,
    /// Whether the map had a single value and was therefore set to 0.
    constant: bool,
}

impl Signal {
    /// Scales a finite map to [0, 1] in float32: `(x - min) / (max - min)`, or 0 if all values are equal.
    pub(super) fn new(map: Array2<f32>) -> Self {
        let (min, max) = map
            .iter()
            .fold((f32::INFINITY, f32::NEG_INFINITY), |(min, max), &value| (min.min(value), max.max(value)));
        // A range above the largest float32 number would scale everything to 0; it is treated as constant.
        let constant = !(max - min > 0.0 && (max - min).is_finite());
        // Adding 0 turns -0 into 0, which would otherwise matter when values are sorted by their bits.
        let map = map.mapv(|value| if constant { 0.0 } else { (value - min) / (max - min) + 0.0 });
        Self { map: map.as_standard_layout().into_owned(), constant }
    }

    /// Returns the signal resampled to another grid.
    pub(super) fn with(self, resample: impl FnOnce(ArrayView2<f32>) -> Array2<f32>) -> Self {
        Self { map: resample(self.map.view()), ..self }
    }

    pub(super) fn map(&self) -> ArrayView2<'_, f32> {
        self.map.view()
    }

    /// Returns all values in row order.
    pub(super) fn values(&self) -> &[f32] {
        self.map.as_slice().unwrap_or_default()
    }

    /// Returns the value of the background channel where the foreground has `s`.
    pub(super) fn complement(&self, s: f32) -> f32 {
        if self.constant { s } else { 1.0 - s }
    }
}

/// Scales a finite map to [0, 1] by its smallest and largest value, `(x - min) / (max - min)` in float32; 0 if all
/// values are equal. (The released demo adds 1e-6 to the divisor.)
///
/// # Errors
/// Fails if the map is empty or has a value that is not finite.
pub(crate) fn min_max(map: ArrayView2<f32>) -> Result<Array2<f32>, ScoreError> {
    checked(map).map(|map| Signal::new(map.to_owned()).map)
}

/// Returns the map. Fails if it is empty or has a value that is not finite.
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

/// Blurs by a Gaussian of 3×3 tokens with σ = 1, mirrored at the edge without repeating it, as torchvision's
/// `gaussian_blur(kernel_size=3, sigma=1.0)` does, but summed in float64.
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
