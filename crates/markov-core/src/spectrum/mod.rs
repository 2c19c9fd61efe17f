//! The spectrum of a chain: λ₂ and the leading moduli.
//!
//! λ₂ is the second largest eigenvalue modulus: near 1 the chain mixes slowly, because it has metastable sets. It is
//! taken of the matrix itself, without teleport (teleporting multiplies every eigenvalue but the first by α).
//!
//! Structure comes first: the eigenvalues of a chain are those of the diagonal blocks of its strongly connected
//! components ([`Components`](crate::Components)). Every component of a causal map is a single token, so its eigenvalues
//! are its diagonal, read off without any iteration.

mod balance;
mod dense;
mod francis;
pub(crate) mod krylov;
pub(crate) mod matrix;
mod part;
mod reducible;
mod small;

pub use dense::{eigenvalues, to_dense};
pub use faer::c64;

use crate::propagate::Propagate;
use crate::{Error, Result};

/// How an eigenvalue was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Restarted Arnoldi, stopped on its residual.
    Krylov,
    /// All eigenvalues of a written-out matrix.
    Dense,
    /// The zeros of the matrix alone: an entry of the diagonal, or the 1 of a closed class. Exact.
    Structure,
}

/// When the Krylov iteration stops, and what follows if it does not.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Effort {
    /// Error wanted, relative to the modulus: twice the residual times the condition number of the Ritz value stays below.
    /// That is the error to first order; among nearly equal eigenvalues it can be a few times more.
    pub tolerance: f64,
    /// Products with the chain, or with a component of it, before giving up.
    pub max_products: usize,
    /// Largest number of states for which giving up means the dense eigensolver instead of an error.
    pub dense_limit: usize,
}

impl Default for Effort {
    /// 1e-10, 1,200 products, dense up to 4,096 states.
    fn default() -> Self {
        Effort { tolerance: 1e-10, max_products: 1200, dense_limit: 4096 }
    }
}

impl Effort {
    /// The default effort with another tolerance.
    pub fn tolerance(tolerance: f64) -> Self {
        Effort { tolerance, ..Effort::default() }
    }
}

/// One eigenvalue and what is known of its error.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Eigenvalue {
    pub(crate) value: c64,
    pub(crate) residual: f64,
    pub(crate) condition: f64,
}

impl Eigenvalue {
    /// Known from the structure of the chain.
    fn exact(value: f64) -> Self {
        Eigenvalue { value: c64::new(value, 0.0), residual: 0.0, condition: 1.0 }
    }

    /// Distance to the eigenvalue of the matrix, to first order.
    fn error(&self) -> f64 {
        if self.residual == 0.0 { 0.0 } else { self.residual * self.condition }
    }
}

/// The second largest eigenvalue modulus of a chain.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Lambda2 {
    /// `|λ₂|`; 0 for a chain of one state, which has none.
    pub modulus: f64,
    /// `‖x P - λ₂ x‖₂` for the unit vector `x` found. The rounding of the matrix where its whole spectrum was computed, 0
    /// where structure gives the answer.
    pub residual: f64,
    /// Condition number of λ₂: residual times condition is the error, to first order.
    pub condition: f64,
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
    /// For each, `‖x P - λ x‖₂` for the unit vector `x` found. The rounding of the matrix where its whole spectrum was
    /// computed, 0 where structure gives the answer.
    pub residuals: Vec<f64>,
    /// For each, its condition number: how many times further than an entry of its component an eigenvalue moves. 1 where
    /// structure gives the answer, infinite where the matrix has not enough eigenvectors.
    pub conditions: Vec<f64>,
    /// Whether the Krylov iteration reached the tolerance, or was not needed. If not, the values are what it had, and
    /// others may hide behind them.
    pub converged: bool,
    /// Products with the chain.
    pub products: usize,
    /// How they were found; for several components, the dearest way among them.
    pub method: Method,
}

impl Spectrum {
    /// Moduli in falling order, beginning with 1.
    pub fn moduli(&self) -> Vec<f64> {
        self.values.iter().map(|value| value.norm().min(1.0)).collect()
    }

    /// For each eigenvalue, residual times condition: its error to first order. Large where the matrix hardly determines
    /// the eigenvalue, as a nearly causal one does.
    pub fn errors(&self) -> Vec<f64> {
        let known = self.residuals.iter().zip(&self.conditions);
        known.map(|(residual, condition)| if *residual == 0.0 { 0.0 } else { residual * condition }).collect()
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
    second(chain, effort, Precision::Double)
}

/// [`lambda2_each`], components that are written out in the given precision first.
pub(crate) fn second<P: Propagate>(chain: &P, effort: Effort, precision: Precision) -> Result<Vec<Lambda2>> {
    if chain.states() == 1 {
        let none =
            Lambda2 { modulus: 0.0, residual: 0.0, condition: 1.0, products: 0, method: Method::Structure };
        return Ok(vec![none; chain.chains()]);
    }
    let all = reducible::leading(chain, 1, effort, precision)?;
    all.into_iter()
        .map(|found| {
            let Some(first) = found.values.first().filter(|_| found.converged) else {
                let residual = found.values.first().map_or(f64::NAN, |first| first.residual);
                let what = "the Krylov iteration for the leading eigenvalues";
                let (wanted, products) = (effort.tolerance, found.products);
                return Err(Error::NotConverged { what, residual, wanted, products });
            };
            let Eigenvalue { value, residual, condition } = *first;
            let modulus = value.norm().min(1.0);
            Ok(Lambda2 { modulus, residual, condition, products: found.products, method: found.method })
        })
        .collect()
}

/// The `min(k, n)` leading eigenvalues of a single chain, beginning with 1.
///
/// Where the tolerance is out of reach, the answer is what the iteration had when it gave up, and
/// [`Spectrum::converged`] says so. Of at most 64 states, or where a sixth of the spectrum or more is wanted, the dense
/// solver is the faster way and is used.
///
/// # Errors
/// [`Error::Count`] for `k = 0`; [`Error::Eigensolver`] from the dense solver.
pub fn spectrum<P: Propagate>(chain: &P, k: usize, effort: Effort) -> Result<Spectrum> {
    let n = chain.states();
    if k == 0 {
        return Err(Error::Count { what: "the number of eigenvalues", low: 1, high: n, found: k });
    }
    let effort = Effort { max_products: effort.max_products.max(20 * k), ..effort };
    let all = match k.min(n) {
        1 => Vec::new(),
        k => reducible::leading(chain, k - 1, effort, Precision::Double)?,
    };
    let found = all.into_iter().next().unwrap_or(reducible::Found {
        values: Vec::new(),
        products: 0,
        converged: true,
        method: Method::Structure,
    });
    let all = || std::iter::once(Eigenvalue::exact(1.0)).chain(found.values.iter().copied());
    Ok(Spectrum {
        values: all().map(|one| one.value).collect(),
        residuals: all().map(|one| one.residual).collect(),
        conditions: all().map(|one| one.condition).collect(),
        converged: found.converged,
        products: found.products,
        method: found.method,
    })
}

/// Precision in which a component that was written out is walked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Precision {
    /// Single, and double where that does not reach the tolerance.
    Single,
    /// Double.
    Double,
}
