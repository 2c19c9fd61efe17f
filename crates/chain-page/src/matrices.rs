//! Encodes row-stochastic matrices as text.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ndarray::Array2;

/// Encodes a row-stochastic matrix `[n, n]` as base64 of little-endian u16, row by row: each √(entry / largest entry of its
/// row) in 65,535ths. The script normalises rows, so their maxima are not stored.
///
/// An entry p of a row with maximum m is decoded with an error of at most √(p m) / 65,535 (before rows are normalised): the root
/// gives more precision to the many small entries, which determine the backward chain.
pub(crate) fn encode(matrix: &Array2<f32>) -> String {
    let mut bytes = Vec::with_capacity(2 * matrix.len());
    for row in matrix.rows() {
        let largest = row.iter().fold(0f64, |largest, p| largest.max(f64::from(*p)));
        for p in row {
            let root = (f64::from(*p) / largest).sqrt() * f64::from(u16::MAX);
            bytes.extend((root.round() as u16).to_le_bytes());
        }
    }
    STANDARD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    #[test]
    fn entries_are_decoded_within_the_documented_error() {
        let matrix = array![
            [0.7f32, 0.25, 0.05 - 3e-6, 3e-6],
            [0.25, 0.25, 0.25, 0.25],
            [0., 0., 1., 0.],
            [1e-9, 1e-7, 0.6, 0.4]
        ];
        let bytes = STANDARD.decode(encode(&matrix)).unwrap();
        assert_eq!(bytes.len(), 2 * matrix.len());
        for (row, bytes) in matrix.rows().into_iter().zip(bytes.chunks_exact(8)) {
            let largest = row.iter().copied().fold(0f32, f32::max);
            for (p, bytes) in row.iter().zip(bytes.chunks_exact(2)) {
                let root = f64::from(u16::from_le_bytes([bytes[0], bytes[1]])) / 65_535.0;
                let (found, p, largest) =
                    (root * root * f64::from(largest), f64::from(*p), f64::from(largest));
                // The second term is half a step at p = 0, squared.
                let bound = (p * largest).sqrt() / 65_535.0 + largest * (0.5f64 / 65_535.0).powi(2);
                assert!((found - p).abs() <= bound, "{p} came back as {found}");
            }
        }
    }
}
