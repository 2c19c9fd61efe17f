//! TokenRank: the steady state `π P = π` of a chain, every token's share of the attention in the long run.

mod accelerated;
mod direct;

use ndarray::{Array1, Array2};

use crate::propagate::{Block, Propagate};
use crate::spectrum::to_dense;
use crate::structure::Classes;
use crate::{Error, Result};

/// Largest chain for which the steady state is found by elimination when iterations cannot promise it.
const ELIMINATION_LIMIT: usize = 4096;
/// L1 changes of a step smaller than this may be rounding.
const ROUNDING: f64 = 1e-14;
/// What the strict rule promises of `π`, in L1.
const EXACT: f64 = 1e-6;

/// When a steady state is close enough.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stop {
    /// L1 change of a step below which the iteration stops.
    pub tolerance: f64,
    /// Most products with the chain.
    pub max_iterations: usize,
    /// How it is reached and what it promises.
    pub rule: Rule,
}

/// How a steady state is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// Nothing but the power method, stopped where it stands: reproduces iteration counts.
    Plain,
    /// The same stop on the L1 change of a step, reached with fewer products through a Krylov space.
    Accelerated,
    /// Accelerated, with the tolerance tightened until the answer is within 1e-6 of the steady state in L1, and by
    /// elimination where no tolerance can promise that.
    Exact,
}

impl Stop {
    /// The reference implementation's rule: plain power method, 1e-5, at most 200 steps.
    pub const fn reference() -> Self {
        Stop { tolerance: 1e-5, max_iterations: 200, rule: Rule::Plain }
    }

    /// Exact to 1e-6 in L1: a change of 1e-10 or less, Krylov-accelerated, by elimination where that cannot promise it.
    pub const fn strict() -> Self {
        Stop { tolerance: 1e-10, max_iterations: 3000, rule: Rule::Exact }
    }

    /// The plain power method with a rule of one's own.
    pub const fn power(tolerance: f64, max_iterations: usize) -> Self {
        Stop { tolerance, max_iterations, rule: Rule::Plain }
    }

    /// The same stop on the L1 change of a step, reached with fewer products through a Krylov space.
    pub const fn accelerated(tolerance: f64) -> Self {
        Stop { tolerance, max_iterations: 3000, rule: Rule::Accelerated }
    }
}

impl Stop {
    /// The L1 change to stop at for a chain with this jump share; `None` where none that rounding allows keeps the promise.
    /// `‖π - x‖₁` is at most the change of a step over the share.
    fn promised(&self, fraction: f64) -> Option<f64> {
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

/// A steady state and how it was reached.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenRank {
    /// The steady state `[n]`: not negative, sums to 1.
    pub pi: Array1<f64>,
    /// Products with the chain; for the plain power method its number of steps. Elimination adds none.
    pub iterations: usize,
    /// L1 change of the last step.
    pub residual: f64,
    /// Whether the residual fell below the tolerance. The plain power method returns where it stopped either way.
    pub converged: bool,
}

/// TokenRank of a single chain, from the uniform state: the first of [`token_rank_each`].
///
/// # Errors
/// As [`token_rank_each`].
pub fn token_rank<P: Propagate>(chain: &P, stop: Stop) -> Result<TokenRank> {
    token_rank_each(chain, stop)?.into_iter().next().ok_or(Error::Empty)
}

/// TokenRank of every chain of a carrier, side by side, each stopped by itself.
///
/// A steady state that every start leads to exists when the chain has one closed class and that class is aperiodic;
/// with teleport to all states (α below 1) both always hold. Transient states are fine: their share is 0.
///
/// # Errors
/// [`Error::NotUnique`] for several closed classes and [`Error::Periodic`] for a periodic one, read from the exact zeros
/// of the matrix whatever the stop rule; [`Error::NotConverged`] where a rule that is not plain cannot be met.
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
    let promised = stop.promised(chain.jump_fraction());
    let tolerance = promised.unwrap_or(stop.tolerance);
    // Where no residual bounds the error, eliminate if that can be afforded.
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

/// TokenRank of a teleported chain, brought close by a cheaper likeness of it first. Counts the products of both.
pub(crate) fn token_rank_from<P: Propagate, R: Propagate>(
    chain: &P,
    likeness: &R,
    rough: Stop,
    stop: Stop,
) -> Result<TokenRank> {
    let uniform = Array2::from_elem((1, chain.states()), 1.0 / chain.states() as f64);
    let start = likeness.lift(uniform.view())?;
    // Stopping for lack of progress in low precision is fine: what it reached is still a start.
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

/// Refuses chains whose long-run state depends on where they start, or never settles.
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

/// The steady state of the closed class by elimination, zero elsewhere.
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
/// Counts as the reference implementation does: the step that shows the change is counted and its result returned.
/// Rows of the block run side by side and stop one by one. Never fails for lack of convergence: see
/// [`TokenRank::converged`].
///
/// # Errors
/// What [`Propagate::step`] reports.
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
