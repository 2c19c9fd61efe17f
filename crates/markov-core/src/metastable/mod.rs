//! Metastable sets: groups of tokens in which a walk stays for long before it moves on.
//!
//! The leading eigenvectors of the reversibilised chain are nearly constant on such sets. PCCA+ turns them into soft
//! memberships: Deuflhard and Weber, "Robust Perron cluster analysis in conformation dynamics", Linear Algebra and its
//! Applications 398 (2005), for the inner simplex; Röblitz and Weber, "Fuzzy spectral clustering by PCCA+", Advances in
//! Data Analysis and Classification 7 (2013), for the crispness, which is maximised.

mod pcca;
mod simplex;

use faer::Side;
use ndarray::{Array1, Array2, ArrayView2};

use crate::propagate::Propagate;
use crate::rank::{Stop, token_rank};
use crate::spectrum::to_dense;
use crate::{Error, Result};

/// The number of metastable sets to find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sets {
    /// This many, at least 1.
    Count(usize),
    /// The number of eigenvalues before the largest gap in the spectrum of the reversibilised chain: at least 2, at
    /// most this number.
    Gap(usize),
}

/// Metastable sets of a chain of `n` states.
#[derive(Debug, Clone, PartialEq)]
pub struct Metastable {
    /// Membership of each state in each set, `[n, sets]`; rows sum to 1.
    pub memberships: Array2<f64>,
    /// The set with the largest membership for each state, `[n]`.
    pub assignment: Vec<usize>,
    /// States of each set in rising order. Sets are in falling order of their fraction of the steady state.
    pub sets: Vec<Vec<usize>>,
    /// For each set, the probability that a stationary walk in the set is still there after a step of the given chain.
    pub staying: Vec<f64>,
    /// For each set, its fraction of the steady state.
    pub weights: Vec<f64>,
    /// Steady state of the chain, `[n]`.
    pub pi: Array1<f64>,
    /// Leading eigenvalues of the reversibilised chain in falling order, beginning with 1: one more than the number of
    /// sets, if the chain has this many.
    pub eigenvalues: Vec<f64>,
    /// Between 0 and 1. It is 1 if every state belongs to one set only.
    pub crispness: f64,
}

/// Finds the metastable sets of a single chain.
///
/// The chain is reversibilised as `(P + P*)/2`, `P*[i, j] = π_j P[j, i] / π_i` its time reversal; the probabilities of
/// staying are those of the chain itself. Dense, O(n³).
///
/// # Errors
/// [`Error::Count`] for 0 sets or more sets than states; the errors of [`token_rank`]; [`Error::Distribution`] if the
/// steady state of some state is 0. A teleport avoids the last two.
pub fn metastable_sets<P: Propagate>(chain: &P, sets: Sets) -> Result<Metastable> {
    let n = chain.states();
    let (low, asked) = match sets {
        Sets::Count(count) => (1, count),
        Sets::Gap(most) => (n.min(2), most),
    };
    if asked < low || asked > n {
        return Err(Error::Count { what: "the number of metastable sets", low, high: n, found: asked });
    }
    let pi = token_rank(chain, Stop::strict())?.pi;
    if let Some(state) = pi.iter().position(|p| *p < f64::MIN_POSITIVE) {
        let reason = format!("a walk never returns to state {state}; teleport first (alpha below 1)");
        return Err(Error::Distribution { what: "the positive steady state", states: n, reason });
    }
    let dense = to_dense(chain, 0)?;
    let (eigenvalues, vectors) = reversible_modes(dense.view(), &pi)?;
    let count = match sets {
        Sets::Count(count) => count,
        Sets::Gap(most) => {
            let gap = |m: usize| eigenvalues[m - 1] - eigenvalues.get(m).copied().unwrap_or(0.0).max(0.0);
            (low..=most).rev().max_by(|a, b| gap(*a).total_cmp(&gap(*b))).unwrap_or(low)
        }
    };
    let (memberships, crispness) = pcca::memberships(vectors.slice(ndarray::s![.., ..count]));
    Ok(Metastable::new(dense.view(), pi, memberships, eigenvalues[..n.min(count + 1)].to_vec(), crispness))
}

impl Metastable {
    fn new(
        chain: ArrayView2<'_, f64>,
        pi: Array1<f64>,
        memberships: Array2<f64>,
        eigenvalues: Vec<f64>,
        crispness: f64,
    ) -> Self {
        let (n, count) = memberships.dim();
        let assign = |of: &Array2<f64>| -> Vec<usize> {
            let most = |row: usize| (0..count).rev().max_by(|a, b| of[(row, *a)].total_cmp(&of[(row, *b)]));
            (0..n).map(|row| most(row).unwrap_or(0)).collect()
        };
        let weigh = |assignment: &[usize]| -> Vec<f64> {
            let mut weights = vec![0.0; count];
            assignment.iter().zip(&pi).for_each(|(set, p)| weights[*set] += p);
            weights
        };
        let unordered = weigh(&assign(&memberships));
        let mut order: Vec<usize> = (0..count).collect();
        order.sort_by(|a, b| unordered[*b].total_cmp(&unordered[*a]));
        let memberships = memberships.select(ndarray::Axis(1), &order);
        let assignment = assign(&memberships);
        let weights = weigh(&assignment);
        let mut stays = vec![0.0; count];
        for ((i, j), p) in chain.indexed_iter() {
            if assignment[i] == assignment[j] {
                stays[assignment[i]] += pi[i] * p;
            }
        }
        let staying = stays.iter().zip(&weights).map(|(s, w)| if *w > 0.0 { s / w } else { 0.0 }).collect();
        let sets = (0..count).map(|set| (0..n).filter(|state| assignment[*state] == set).collect()).collect();
        Metastable { memberships, assignment, sets, staying, weights, pi, eigenvalues, crispness }
    }
}

/// Returns the eigenvalues of the reversibilised chain in falling order and its right eigenvectors `[n, n]`, the
/// constant one first.
fn reversible_modes(chain: ArrayView2<'_, f64>, pi: &Array1<f64>) -> Result<(Vec<f64>, Array2<f64>)> {
    let n = pi.len();
    let root = pi.mapv(f64::sqrt);
    // D^½ (P + P*)/2 D^-½ is symmetric. Its eigenvector √π of eigenvalue 1 is known, so it is shifted to -1, away from
    // other eigenvalues 1 that a reducible chain may have.
    let entry = |i: usize, j: usize| {
        let (there, back) = (chain[(i, j)] * root[i] / root[j], chain[(j, i)] * root[j] / root[i]);
        (there + back) / 2.0 - 2.0 * root[i] * root[j]
    };
    let symmetric = faer::Mat::from_fn(n, n, |i, j| if i >= j { entry(i, j) } else { entry(j, i) });
    let modes = symmetric.self_adjoint_eigen(Side::Lower).map_err(|_| Error::Eigensolver { states: n })?;
    let mut order: Vec<usize> = (0..n).collect();
    let values = modes.S().column_vector();
    order.sort_by(|a, b| values[*b].total_cmp(&values[*a]));
    // The shifted eigenvector is √π. It is not always the last one, since others may have the eigenvalue -1 too.
    let on_root = |k: usize| (0..n).map(|i| modes.U()[(i, k)] * root[i]).sum::<f64>().abs();
    let shifted = (0..n).max_by(|a, b| on_root(*a).total_cmp(&on_root(*b))).unwrap_or(0);
    order.retain(|k| *k != shifted);
    let eigenvalues = std::iter::once(1.0).chain(order.iter().map(|k| values[*k].min(1.0))).collect();
    let vectors =
        Array2::from_shape_fn(
            (n, n),
            |(i, k)| if k == 0 { 1.0 } else { modes.U()[(i, order[k - 1])] / root[i] },
        );
    Ok((eigenvalues, vectors))
}
