//! TokenRank: the steady state `π P = π` of a chain, the fraction of attention that every token gets in the long run.

pub(crate) mod accelerated;
mod direct;

use ndarray::{Array1, Array2};

use crate::propagate::{Block, Propagate};
use crate::spectrum::to_dense;
use crate::structure::Classes;
use crate::{Error, Result};

/// Maximum number of states for finding the steady state by elimination when iterations cannot guarantee it.
const ELIMINATION_LIMIT: usize = 4096;
/// L1 changes of a step smaller than this may be rounding.
const ROUNDING: f64 = 1e-14;
/// Error of `π` in L1 that the strict rule guarantees.
const EXACT: f64 = 1e-6;

/// Stopping criterion for the steady state.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stop {
    /// L1 change of a step below which the iteration stops.
    pub tolerance: f64,
    /// Maximum number of products with the chain.
    pub max_iterations: usize,
    /// The method, and the guarantee on the error.
    pub rule: Rule,
}

/// The method for computing a steady state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// The plain power method, which reproduces iteration counts of other implementations.
    Plain,
    /// Stops at the same L1 change of a step, but needs fewer products, by means of a Krylov space.
    Accelerated,
    /// Accelerated, with a tolerance so small that the result is within 1e-6 of the steady state in L1. Uses
    /// elimination if no tolerance can guarantee that.
    Exact,
}

impl Stop {
    /// The reference implementation's rule: plain power method, 1e-5, at most 200 steps.
    pub const fn reference() -> Self {
        Stop { tolerance: 1e-5, max_iterations: 200, rule: Rule::Plain }
    }

    /// Error of at most 1e-6 in L1: a change of 1e-10 or less, Krylov-accelerated, or elimination if that cannot
    /// guarantee the error.
    pub const fn strict() -> Self {
        Stop { tolerance: 1e-10, max_iterations: 3000, rule: Rule::Exact }
    }

    /// The plain power method with a custom tolerance and number of steps.
    pub const fn power(tolerance: f64, max_iterations: usize) -> Self {
        Stop { tolerance, max_iterations, rule: Rule::Plain }
    }

    /// Stops at the same L1 change of a step, but needs fewer products, by means of a Krylov space.
    pub const fn accelerated(tolerance: f64) -> Self {
        Stop { tolerance, max_iterations: 3000, rule: Rule::Accelerated }
    }
}

impl Stop {
    /// Returns the L1 change to stop at for a chain with this jump fraction, or `None` if rounding allows no change
    /// that is small enough. `‖π - x‖₁` is at most the change of a step divided by the fraction.
    pub(crate) fn promised(&self, fraction: f64) -> Option<f64> {
        let enough = self.tolerance.min(fraction * EXACT / 2.0);
        match self.rule {
            Rule::Exact => (enough >= ROUNDING).then_some(enough),
            Rule::Plain | Rule::Accelerated => Some(self.tolerance),
        }
    }
}

impl Default for Stop {
    fn default() -> Self {
        Stop::strict()
    }
}

/// A steady state and its accuracy.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenRank {
    /// The steady state `[n]`: not negative, sums to 1.
    pub pi: Array1<f64>,
    /// Number of products with the chain; for the plain power method its number of steps. Elimination adds none.
    /// 1 if the structure of the chain gave the result in one pass, as for causal attention with teleport.
    pub iterations: usize,
    /// L1 change of the last step.
    pub residual: f64,
    /// Whether the residual fell below the tolerance. The plain power method returns its last state in any case.
    pub converged: bool,
}

/// Computes the TokenRank of a single chain, from the uniform state: the first result of [`token_rank_each`].
///
/// # Errors
/// As [`token_rank_each`].
pub fn token_rank<P: Propagate>(chain: &P, stop: Stop) -> Result<TokenRank> {
    token_rank_each(chain, stop)?.into_iter().next().ok_or(Error::Empty)
}

/// Computes the TokenRank of every chain of a carrier in parallel. Each chain stops separately.
///
/// A unique limit from every start exists if the chain has one closed class and this class is aperiodic. With teleport
/// to all states (α below 1) both always hold. Transient states are allowed; their entry is 0.
///
/// # Errors
/// [`Error::NotUnique`] for several closed classes and [`Error::Periodic`] for a periodic one, read from the exact
/// zeros of the matrix whatever the stop rule; [`Error::NotConverged`] if a rule other than plain cannot be met.
pub fn token_rank_each<P: Propagate>(chain: &P, stop: Stop) -> Result<Vec<TokenRank>> {
    let classes = chain.closed_classes()?;
    for (which, classes) in classes.iter().enumerate() {
        let single = chain.chains() == 1;
        refuse(chain, which, classes).map_err(|error| if single { error } else { error.in_matrix(which) })?;
    }
    let (n, chains) = (chain.states(), chain.chains());
    let start = || chain.lift(Array2::from_elem((chains, n), 1.0 / n as f64).view());
    if stop.rule == Rule::Plain {
        return power_method(chain, start()?, stop);
    }
    if let Some(rank) = substituted(chain, stop)? {
        return Ok(vec![rank]);
    }
    let promised = stop.promised(chain.jump_fraction());
    let tolerance = promised.unwrap_or(stop.tolerance);
    // If no residual bounds the error, eliminate unless the chain is too large.
    let mut all = if promised.is_some() || n > ELIMINATION_LIMIT {
        accelerated::steady(chain, start()?, tolerance, stop.max_iterations)?
    } else {
        let none =
            TokenRank { pi: Array1::zeros(n), iterations: 0, residual: f64::INFINITY, converged: false };
        vec![none; chains]
    };
    for (which, rank) in all.iter_mut().enumerate().filter(|(_, rank)| !rank.converged) {
        let TokenRank { residual, iterations: products, .. } = *rank;
        if n > ELIMINATION_LIMIT {
            return Err(Error::NotConverged {
                what: "the steady state",
                residual,
                wanted: tolerance,
                products,
            });
        }
        *rank = eliminate(chain, which, classes.get(which), products)?;
    }
    Ok(all)
}

/// Returns the steady state of a single chain if its structure gives it in one pass over the matrix, to the accuracy that
/// the stop rule demands.
fn substituted<P: Propagate>(chain: &P, stop: Stop) -> Result<Option<TokenRank>> {
    let Some((pi, residual)) = chain.substituted()? else { return Ok(None) };
    let enough = stop.promised(chain.jump_fraction()).is_some_and(|tolerance| residual < tolerance);
    Ok(enough.then_some(TokenRank { pi, iterations: 1, residual, converged: true }))
}

/// Computes the TokenRank of a teleported chain, starting from the result for a cheaper approximation (`likeness`).
/// Counts the products of both.
pub(crate) fn token_rank_from<P: Propagate, R: Propagate>(
    chain: &P,
    likeness: &R,
    rough: Stop,
    stop: Stop,
) -> Result<TokenRank> {
    if let Some(rank) = substituted(chain, stop)? {
        return Ok(rank);
    }
    let uniform = Array2::from_elem((1, chain.states()), 1.0 / chain.states() as f64);
    let start = likeness.lift(uniform.view())?;
    // Low precision may stop without convergence; its result is still a good start.
    let close = accelerated::steady(likeness, start, rough.tolerance, rough.max_iterations.min(300))?;
    let Some(close) = close.into_iter().next() else { return token_rank(chain, stop) };
    let Some(tolerance) = stop.promised(chain.jump_fraction()) else { return token_rank(chain, stop) };
    let start = chain.lift(close.pi.insert_axis(ndarray::Axis(0)).view())?;
    match accelerated::steady(chain, start, tolerance, stop.max_iterations)?.into_iter().next() {
        Some(rank) if rank.converged => {
            Ok(TokenRank { iterations: rank.iterations + close.iterations, ..rank })
        }
        _ => token_rank(chain, stop),
    }
}

/// Refuses chains whose long-run state depends on the start or does not converge.
fn refuse<P: Propagate>(chain: &P, which: usize, classes: &Classes) -> Result<()> {
    let (n, chains) = (chain.states(), chain.chains());
    let residual = |start: Array2<f64>| -> Result<f64> {
        let rank = power_method(chain, chain.lift(start.view())?, Stop::power(1e-10, 1000))?;
        Ok(rank.get(which).map_or(0.0, |rank| rank.residual))
    };
    if classes.closed.len() > 1 {
        let residual = residual(Array2::from_elem((chains, n), 1.0 / n as f64))?;
        return Err(Error::NotUnique { classes: classes.closed.len(), residual });
    }
    if let (true, Some(state)) = (classes.period > 1, classes.closed.first().and_then(|class| class.first()))
    {
        let mut start = Array2::zeros((chains, n));
        start.column_mut(*state).fill(1.0);
        return Err(Error::Periodic { period: classes.period, residual: residual(start)? });
    }
    Ok(())
}

/// Computes the steady state of the closed class by elimination; other entries are zero.
fn eliminate<P: Propagate>(
    chain: &P,
    which: usize,
    classes: Option<&Classes>,
    products: usize,
) -> Result<TokenRank> {
    let n = chain.states();
    let dense = to_dense(chain, which)?;
    let everything: Vec<usize> = (0..n).collect();
    let class = classes.and_then(|classes| classes.closed.first()).unwrap_or(&everything);
    let inner = Array2::from_shape_fn((class.len(), class.len()), |(i, j)| dense[(class[i], class[j])]);
    let mut pi = Array1::zeros(n);
    for (state, fraction) in class.iter().zip(direct::state_reduction(inner)) {
        pi[*state] = fraction;
    }
    if !pi.iter().all(|p: &f64| p.is_finite()) {
        // Links weaker than the smallest float: numerically there is more than one class.
        return Err(Error::NotConverged {
            what: "the steady state",
            residual: f64::NAN,
            wanted: EXACT,
            products,
        });
    }
    let residual = (pi.dot(&dense) - &pi).mapv(f64::abs).sum();
    Ok(TokenRank { pi, iterations: products, residual, converged: true })
}

/// The power method from `start`: step, renormalise, stop when the L1 change falls below the tolerance.
///
/// Counts steps as the reference implementation does: the step that meets the tolerance is counted, and its result is
/// returned. Rows of the block run in parallel and stop separately. A lack of convergence is not an error: see
/// [`TokenRank::converged`].
///
/// # Errors
/// The errors of [`Propagate::step`].
pub fn power_method<P: Propagate>(chain: &P, start: P::Block, stop: Stop) -> Result<Vec<TokenRank>> {
    let mut x = start;
    let mut next = x.zeros_like()?;
    let mut found: Vec<Option<TokenRank>> = vec![None; x.rows()];
    for iterations in 1..=stop.max_iterations.max(1) {
        chain.step(&x, &mut next)?;
        next.scale(&next.sums()?.iter().map(|sum| sum.recip()).collect::<Vec<_>>())?;
        let change = next.l1(&x)?;
        let last = iterations >= stop.max_iterations;
        if last || change.iter().zip(&found).any(|(c, f)| f.is_none() && *c < stop.tolerance) {
            let host = next.lower()?;
            for (row, residual) in change.into_iter().enumerate() {
                let converged = residual < stop.tolerance;
                if found[row].is_none() && (converged || last) {
                    found[row] =
                        Some(TokenRank { pi: host.row(row).to_owned(), iterations, residual, converged });
                }
            }
            if found.iter().all(Option::is_some) {
                break;
            }
        }
        std::mem::swap(&mut x, &mut next);
    }
    Ok(found.into_iter().flatten().collect())
}
