//! The spectrum of a chain: λ₂ and the leading moduli.
//!
//! λ₂ is the second largest eigenvalue modulus: near 1 the chain mixes slowly, because it has metastable sets. It is
//! computed for the matrix itself, without teleport (which multiplies every eigenvalue except the first by α).
//!
//! Structure comes first: the eigenvalues of a chain are those of the diagonal blocks of its strongly connected
//! components ([`Components`](crate::Components)). Every component of a causal map is a single token, so its
//! eigenvalues are its diagonal and need no iteration.

mod balance;
mod band;
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

/// The method that found an eigenvalue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Restarted Arnoldi, stopped on its residual.
    Krylov,
    /// Dense eigensolver on the stored matrix.
    Dense,
    /// Only the zeros of the matrix: an entry of the diagonal, or the 1 of a closed class. Exact.
    Structure,
}

/// Stopping criterion of the Krylov iteration, and the fallback.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Effort {
    /// Maximum relative error: twice the residual times the condition number of the Ritz value must be below it. That
    /// estimates the error to first order; among nearly equal eigenvalues it can be a few times larger. Above 1e-3 it is taken
    /// for 1e-3.
    pub tolerance: f64,
    /// Maximum number of products with the chain, or with a component of it.
    pub max_products: usize,
    /// Up to this number of states, the dense eigensolver is used if the iteration does not converge; beyond it, that
    /// is an error.
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

/// One eigenvalue and its error estimate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Eigenvalue {
    pub(crate) value: c64,
    pub(crate) residual: f64,
    pub(crate) condition: f64,
}

impl Eigenvalue {
    /// An exact eigenvalue, known from the structure of the chain.
    fn exact(value: f64) -> Self {
        Eigenvalue { value: c64::new(value, 0.0), residual: 0.0, condition: 1.0 }
    }

    /// Returns the distance to the eigenvalue of the matrix, to first order.
    fn error(&self) -> f64 {
        if self.residual == 0.0 { 0.0 } else { self.residual * self.condition }
    }
}

/// The second largest eigenvalue modulus of a chain.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Lambda2 {
    /// `|λ₂|`, or 0 for a chain of one state, which has no second eigenvalue.
    pub modulus: f64,
    /// `‖x P - λ₂ x‖₂` for the unit vector `x` found, at least the rounding of the matrix. It is 0 for
    /// [`Method::Structure`].
    pub residual: f64,
    /// Condition number of λ₂: residual times condition is the error, to first order.
    pub condition: f64,
    /// Products with the chain.
    pub products: usize,
    /// The method that found it.
    pub method: Method,
}

/// Leading eigenvalues of a chain.
#[derive(Debug, Clone, PartialEq)]
pub struct Spectrum {
    /// Eigenvalues in falling order of modulus, beginning with 1; a conjugate pair is two entries.
    pub values: Vec<c64>,
    /// For each, `‖x P - λ x‖₂` for the unit vector `x` found, at least the rounding of the matrix. It is 0 for
    /// [`Method::Structure`].
    pub residuals: Vec<f64>,
    /// For each, its condition number: the factor between a change of an entry of its component and the change of the
    /// eigenvalue. 1 for [`Method::Structure`]; infinite if the matrix does not have enough eigenvectors.
    pub conditions: Vec<f64>,
    /// Whether the Krylov iteration reached the tolerance or was not needed. If not, the values are its last estimates,
    /// and further large eigenvalues may be missing.
    pub converged: bool,
    /// Products with the chain.
    pub products: usize,
    /// The method that found them; for several components, the most expensive one.
    pub method: Method,
}

impl Spectrum {
    /// Moduli in falling order, beginning with 1.
    pub fn moduli(&self) -> Vec<f64> {
        self.values.iter().map(|value| value.norm().min(1.0)).collect()
    }

    /// Returns for each eigenvalue residual times condition: its error to first order. It is large if the matrix hardly
    /// determines the eigenvalue, as for nearly causal matrices.
    pub fn errors(&self) -> Vec<f64> {
        let known = self.residuals.iter().zip(&self.conditions);
        known.map(|(residual, condition)| if *residual == 0.0 { 0.0 } else { residual * condition }).collect()
    }
}

/// Computes λ₂ of a single chain: the first result of [`lambda2_each`].
///
/// # Errors
/// As [`lambda2_each`].
pub fn lambda2<P: Propagate>(chain: &P, effort: Effort) -> Result<Lambda2> {
    lambda2_each(chain, effort)?.first().copied().ok_or(Error::Empty)
}

/// Computes λ₂ of every chain of a carrier in parallel.
///
/// # Errors
/// [`Error::NotConverged`] if the effort is used up; [`Error::Eigensolver`] from the dense fallback.
pub fn lambda2_each<P: Propagate>(chain: &P, effort: Effort) -> Result<Vec<Lambda2>> {
    second(chain, effort, Precision::Double)
}

/// [`lambda2_each`], which computes stored components in the given precision first.
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

/// Computes the `min(k, n)` leading eigenvalues of a single chain, beginning with 1.
///
/// If the tolerance cannot be reached, the result has the last estimates of the iteration, and [`Spectrum::converged`]
/// is false. For at most 64 states, or if a sixth of the spectrum or more is wanted, the dense solver is faster and is
/// used.
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

/// Precision of products with a stored component.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Precision {
    /// Single precision, then double if that does not reach the tolerance.
    Single,
    /// Double precision.
    Double,
}
