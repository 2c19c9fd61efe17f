//! Tolerances: of the row sums of a stored softmax, and of the precision of an iteration.

/// Maximum distance of a row sum from 1. Rows within it are renormalised, others are refused.
pub const ROW_TOLERANCE: f64 = 1e-3;

/// Smallest tolerance of λ₂ for which single precision suffices.
pub(crate) const SINGLE: f64 = 1e-5;

/// The number format in which a matrix was stored. It decides the tolerance of row sums.
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
    /// Maximum distance of a row sum from 1: [`ROW_TOLERANCE`] for 64 and 32 bits, 2e-3 for half precision, 8e-3 for
    /// bfloat16.
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
