//! How far from 1 the rows of a stored softmax may sum.

/// Rows whose sum is this close to 1 are renormalised, others refused.
pub const ROW_TOLERANCE: f64 = 1e-3;

/// The number format in which a matrix was stored, which decides how far from 1 a row of a softmax may sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Storage {
    /// 64-bit floats.
    F64,
    /// 32-bit floats.
    F32,
    /// IEEE half precision, 11 significant bits.
    F16,
    /// bfloat16, 8 significant bits.
    Bf16,
}

impl Storage {
    /// How far from 1 a row may sum: [`ROW_TOLERANCE`] for 64 and 32 bits, 2e-3 for half precision, 8e-3 for bfloat16.
    ///
    /// Rounding to bfloat16 changes each entry by up to 2⁻⁹ of itself, and so a row sum by up to 2⁻⁹; a softmax computed
    /// in bfloat16 rounds once more. Twice that sum, 2⁻⁷, is 7.8e-3.
    pub const fn row_tolerance(self) -> f64 {
        match self {
            Storage::F64 | Storage::F32 => ROW_TOLERANCE,
            Storage::F16 => 2e-3,
            Storage::Bf16 => 8e-3,
        }
    }
}
