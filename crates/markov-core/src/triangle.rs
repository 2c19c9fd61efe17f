//! Triangular matrices, as in causal attention.

use crate::kernel::Element;

/// The shape of a triangular transition matrix.
///
/// In causal attention a token attends to itself and to earlier tokens only, so the matrix is lower triangular. That
/// determines most properties of its chain, whatever the network has learned:
///
/// - The eigenvalues are the diagonal: λ₂ is the largest probability, besides the first token's, that a token attends
///   to itself. It says nothing about groups of tokens.
/// - A walk only ever moves to earlier tokens. It ends on token 0, whose row is `(1, 0, …, 0)`, so without teleport the
///   steady state is token 0 alone.
/// - With a uniform teleport the walk starts again from a random token with probability `1 - α` and falls back towards
///   token 0: TokenRank reflects the mask more than the network. The backward chain does the same towards the last
///   token.
///
/// Other questions show what a causal network has learned, because the mask does not determine the answer: where a walk
/// passes before it ends on token 0 ([`absorption`](crate::absorption)), where walks go that start at tokens of
/// interest ([`teleport_to`](crate::RowStochastic::teleport_to)), and how attention flows without the first token,
/// which gets much of it ([`Stochastic::restricted`](crate::Stochastic::restricted)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Triangle {
    /// No entry above the diagonal: walks move to earlier states, as in causal attention.
    Lower,
    /// No entry below the diagonal: walks move to later states.
    Upper,
}

/// Returns the triangle that `values`, `n × n` numbers in row-major order, form by their exact zeros. A diagonal matrix
/// counts as lower triangular. Returns `None` for a single state.
pub(crate) fn recognise<T: Element>(values: &[T], n: usize) -> Option<Triangle> {
    if n < 2 {
        return None;
    }
    let zero = |entries: &[T]| entries.iter().all(|value| value.to_f64() == 0.0);
    let (mut lower, mut upper) = (true, true);
    for (i, row) in values.chunks_exact(n).enumerate() {
        lower = lower && zero(&row[i + 1..]);
        upper = upper && zero(&row[..i]);
        if !lower && !upper {
            return None;
        }
    }
    Some(if lower { Triangle::Lower } else { Triangle::Upper })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Stochastic;
    use ndarray::{Array2, array};

    #[test]
    fn triangles_are_recognised_by_their_zeros() {
        let lower = Stochastic::new(array![[1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.2, 0.3, 0.5]]).unwrap();
        assert_eq!(lower.triangle(), Some(Triangle::Lower));
        let upper = Stochastic::new(array![[0.5f32, 0.5, 0.0], [0.0, 0.5, 0.5], [0.0, 0.0, 1.0]]).unwrap();
        assert_eq!(upper.triangle(), Some(Triangle::Upper));
        assert_eq!(Stochastic::new(Array2::<f64>::eye(3)).unwrap().triangle(), Some(Triangle::Lower));
        assert_eq!(Stochastic::new(array![[1.0]]).unwrap().triangle(), None);
        // One entry in the far corner, however small, makes it another matrix.
        let mut nearly = lower.into_values();
        nearly[(0, 2)] = 1e-300;
        assert_eq!(Stochastic::new(nearly).unwrap().triangle(), None);
        assert_eq!(Stochastic::new(array![[0.5, 0.5], [0.5, 0.5]]).unwrap().triangle(), None);
    }
}
