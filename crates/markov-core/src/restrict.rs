//! Restriction of a chain to some of the tokens.

use ndarray::{Array2, ArrayView2};

use crate::kernel::Element;
use crate::stochastic::side;
use crate::tolerance::ROW_TOLERANCE;
use crate::{Error, Result, Stochastic};

impl<T: Element> Stochastic<T> {
    /// Returns the matrix of `values` `[n, n]` without the rows and columns of the tokens `dropped`, with renormalised
    /// rows: the walk under the condition that it stays among the other tokens. States keep their order.
    ///
    /// Rows and columns of dropped tokens are not checked, so those of padding may be NaN or zero. A kept row may sum
    /// to less than 1, since it is renormalised over the kept tokens anyway; its sum over all finite entries may exceed
    /// 1 by at most `tolerance`.
    ///
    /// # Errors
    /// As [`Stochastic::new`], with rows and columns counted in the whole matrix; [`Error::NoSuchToken`] for a dropped
    /// token that does not exist; [`Error::Empty`] if no token is kept; [`Error::RowLost`] if a row attends only to
    /// dropped tokens.
    ///
    /// ```
    /// use markov_core::Stochastic;
    /// use ndarray::array;
    ///
    /// let padded = array![[0.2, 0.8, 0.0], [0.5, 0.5, 0.0], [f64::NAN, f64::NAN, f64::NAN]];
    /// let two = Stochastic::restricted(padded.view(), &[2], 1e-3)?;
    /// assert_eq!(two.values(), array![[0.2, 0.8], [0.5, 0.5]]);
    /// # Ok::<(), markov_core::Error>(())
    /// ```
    pub fn restricted(values: ArrayView2<'_, T>, dropped: &[usize], tolerance: f64) -> Result<Self> {
        let states = side(values)?;
        let mut keep = vec![true; states];
        for &token in dropped {
            *keep.get_mut(token).ok_or(Error::NoSuchToken { token, states })? = false;
        }
        let kept: Vec<usize> = (0..states).filter(|token| keep[*token]).collect();
        if kept.is_empty() {
            return Err(Error::Empty);
        }
        let mut restricted = Array2::zeros((kept.len(), kept.len()));
        for (&row, mut out) in kept.iter().zip(restricted.rows_mut()) {
            let entries = values.row(row);
            for &column in &kept {
                let value = entries[column].to_f64();
                if !value.is_finite() {
                    return Err(Error::NotFinite { row, column, value });
                }
                if value < 0.0 {
                    return Err(Error::Negative { row, column, value });
                }
            }
            let sum: f64 = entries.iter().map(|value| value.to_f64()).filter(|value| value.is_finite()).sum();
            if sum > 1.0 + tolerance {
                return Err(Error::RowSum { row, sum, tolerance });
            }
            let mass: f64 = kept.iter().map(|column| entries[*column].to_f64()).sum();
            // Dividing by a sum below the smallest normal number would lose all digits.
            if mass < f64::MIN_POSITIVE {
                return Err(Error::RowLost { row });
            }
            for (out, &column) in out.iter_mut().zip(&kept) {
                *out = T::of_f64(entries[column].to_f64() / mass);
            }
        }
        Stochastic::with_tolerance(restricted, ROW_TOLERANCE)
    }
}
