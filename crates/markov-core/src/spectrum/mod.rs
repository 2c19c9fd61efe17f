//! The spectrum of a chain: λ₂ and the leading moduli.
//!
//! λ₂ is the second largest eigenvalue modulus: near 1 the chain mixes slowly, because it has metastable sets. It is
//! taken of the matrix itself, without teleport (teleporting multiplies every eigenvalue but the first by α).

mod dense;
mod francis;
pub(crate) mod krylov;
pub(crate) mod small;

pub use dense::{eigenvalues, to_dense};
pub use faer::c64;

use crate::propagate::Propagate;
use crate::{Error, Result};

/// How an eigenvalue was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Restarted Arnoldi, stopped on its residual.
    Krylov,
    /// All eigenvalues of the written-out matrix.
    Dense,
}

/// When the Krylov iteration stops, and what follows if it does not.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Effort {
    /// Error wanted, relative to the modulus: twice the residual times the condition number of the Ritz value stays below.
    /// That is the error to first order; among nearly equal eigenvalues it can be a few times more.
    pub tolerance: f64,
    /// Products with the chain before giving up.
    pub max_products: usize,
    /// Largest number of states for which giving up means the dense eigensolver instead of an error.
    pub dense_limit: usize,
}

impl Default for Effort {
    /// 1e-10, 600 products, dense up to 4,096 states.
    fn default() -> Self {
        Effort { tolerance: 1e-10, max_products: 600, dense_limit: 4096 }
    }
}

impl Effort {
    /// The default effort with another tolerance.
    pub fn tolerance(tolerance: f64) -> Self {
        Effort { tolerance, ..Effort::default() }
    }
}

/// The second largest eigenvalue modulus of a chain.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Lambda2 {
    /// `|λ₂|`; 0 for a chain of one state, which has none.
    pub modulus: f64,
    /// `‖x P - λ₂ x‖₂` for the unit vector `x` found; 0 where the whole spectrum was computed.
    pub residual: f64,
    /// Products with the chain.
    pub products: usize,
    /// How it was found.
    pub method: Method,
}

/// Leading eigenvalues of a chain.
#[derive(Debug, Clone, PartialEq)]
pub struct Spectrum {
    /// Eigenvalues in falling order of modulus, beginning with 1; a conjugate pair is two entries.
    pub values: Vec<c64>,
    /// Largest residual among them; 0 where the whole spectrum was computed.
    pub residual: f64,
    /// Products with the chain.
    pub products: usize,
    /// How they were found.
    pub method: Method,
}

impl Spectrum {
    /// Moduli in falling order, beginning with 1.
    pub fn moduli(&self) -> Vec<f64> {
        self.values.iter().map(|value| value.norm().min(1.0)).collect()
    }
}

/// λ₂ of a single chain: the first of [`lambda2_each`].
///
/// # Errors
/// As [`lambda2_each`].
pub fn lambda2<P: Propagate>(chain: &P, effort: Effort) -> Result<Lambda2> {
    lambda2_each(chain, effort)?.first().copied().ok_or(Error::Empty)
}

/// λ₂ of every chain of a carrier, side by side.
///
/// # Errors
/// [`Error::NotConverged`] beyond the effort; [`Error::Eigensolver`] from the dense fallback.
pub fn lambda2_each<P: Propagate>(chain: &P, effort: Effort) -> Result<Vec<Lambda2>> {
    if chain.states() == 1 {
        let none = Lambda2 { modulus: 0.0, residual: 0.0, products: 0, method: Method::Dense };
        return Ok(vec![none; chain.chains()]);
    }
    let all = krylov::leading(chain, 1, effort.tolerance, effort.max_products)?;
    all.into_iter()
        .enumerate()
        .map(|(which, ritz)| {
            let (modulus, residual, method) = if ritz.converged {
                (ritz.values.first().map_or(0.0, |v| v.norm()), ritz.residual, Method::Krylov)
            } else {
                let all = dense_fallback(chain, which, effort, ritz.residual, ritz.products)?;
                (all.get(1).map_or(0.0, |v| v.norm()), 0.0, Method::Dense)
            };
            Ok(Lambda2 { modulus: modulus.min(1.0), residual, products: ritz.products, method })
        })
        .collect()
}

/// The `min(k, n)` leading eigenvalues of a single chain, beginning with 1.
///
/// Up to 256 states, or where a sixth of the spectrum or more is wanted, the dense solver is the faster way and is used.
///
/// # Errors
/// [`Error::Count`] for `k = 0`; [`Error::NotConverged`] beyond the effort.
pub fn spectrum<P: Propagate>(chain: &P, k: usize, effort: Effort) -> Result<Spectrum> {
    let n = chain.states();
    if k == 0 {
        return Err(Error::Count { what: "the number of eigenvalues", low: 1, high: n, found: k });
    }
    let k = k.min(n);
    let one = c64::new(1.0, 0.0);
    if k == 1 {
        return Ok(Spectrum { values: vec![one], residual: 0.0, products: 0, method: Method::Krylov });
    }
    let (mut products, mut residual) = (0, f64::INFINITY);
    if n > 256 && k < n / 6 {
        let ritz = krylov::leading(chain, k - 1, effort.tolerance, effort.max_products.max(20 * k))?;
        if let Some(ritz) = ritz.into_iter().next() {
            if ritz.converged {
                let values = std::iter::once(one).chain(ritz.values).collect();
                return Ok(Spectrum {
                    values,
                    residual: ritz.residual,
                    products: ritz.products,
                    method: Method::Krylov,
                });
            }
            (products, residual) = (ritz.products, ritz.residual);
        }
    }
    let mut values = dense_fallback(chain, 0, effort, residual, products)?;
    values.truncate(k);
    Ok(Spectrum { values, residual: 0.0, products: products + n, method: Method::Dense })
}

/// Every eigenvalue of chain `which`, the 1 of the constant vector first and exact.
fn dense_fallback<P: Propagate>(
    chain: &P,
    which: usize,
    effort: Effort,
    residual: f64,
    products: usize,
) -> Result<Vec<c64>> {
    if chain.states() > effort.dense_limit {
        let what = "the Krylov iteration for the leading eigenvalues";
        return Err(Error::NotConverged { what, residual, wanted: effort.tolerance, products });
    }
    let mut values = eigenvalues(to_dense(chain, which)?.view())?;
    let one = c64::new(1.0, 0.0);
    let nearest =
        (0..values.len()).min_by(|a, b| (values[*a] - one).norm().total_cmp(&(values[*b] - one).norm()));
    if let Some(nearest) = nearest {
        values.remove(nearest);
        values.insert(0, one);
    }
    Ok(values)
}
