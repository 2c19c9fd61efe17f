//! Arnoldi on the zero-sum subspace, with thick restarts.
//!
//! Every chain has `P 1 = 1`, so a row vector that sums to zero still does after a step: on that subspace the map `x ↦
//! x P` has every eigenvalue of `P` except the one that belongs to `1`. Working there deflates it exactly, without the
//! steady state. A transient component of a chain has neither this eigenvalue nor this subspace; the carrier handles
//! both cases ([`Propagate::deflate`]). Restarts keep the invariant subspace of the leading Ritz values (Stewart 2001,
//! "A Krylov–Schur algorithm for large eigenproblems").

use faer::c64;
use ndarray::Array2;

use super::Eigenvalue;
use super::matrix::Small;
use super::small::{RitzError, eigenvalues, leading_subspace, residuals_within, ritz_error};
use crate::Result;
use crate::propagate::{Block, Propagate};
use crate::random::Random;

/// A new direction shorter than this many roundings is noise, which means that the space is invariant.
pub(crate) const BREAKDOWN: f64 = 64.0;
/// Safety factor: residual times condition number is the error of an eigenvalue only to first order; in a close cluster
/// the error is larger.
pub(crate) const FIRST_ORDER: f64 = 2.0;
/// For moduli below this one, tolerances are relative to it.
const SMALL_MODULUS: f64 = 1e-3;
/// Coarser tolerances are met by spaces so small that a larger eigenvalue may not show in them.
const COARSEST: f64 = 1e-3;

/// A growing Krylov space for each row of a block, in parallel.
pub(crate) struct Arnoldi<'p, P: Propagate> {
    chain: &'p P,
    pub(crate) basis: Vec<P::Block>,
    /// For each row: the projected map, `h[(i, j)]` the part of `basis[j] P` along `basis[i]`.
    pub(crate) h: Vec<Small<f64>>,
    /// Dimension of the whole space that each row can fill.
    free: Vec<usize>,
    /// Rows that are finished; their vectors are zero.
    idle: Vec<bool>,
    random: Random,
}

impl<'p, P: Propagate> Arnoldi<'p, P> {
    /// Creates a space for `start` with at most `capacity` products between restarts. Also returns the norms of
    /// `start`.
    pub(crate) fn new(chain: &'p P, mut start: P::Block, capacity: usize) -> Result<(Self, Vec<f64>)> {
        let rows = start.rows();
        chain.deflate(&mut start)?;
        let norms = start.norms()?;
        start.scale(&norms.iter().map(|n| if *n > 0.0 { n.recip() } else { 0.0 }).collect::<Vec<_>>())?;
        let h = vec![Small::zeros(capacity + 1, capacity); rows];
        let mut basis = Vec::with_capacity(capacity + 1);
        basis.push(start);
        // A block holds a multiple of the chains, chain by chain.
        let (free, each) = (chain.free(), rows / chain.chains());
        let free = free.into_iter().flat_map(|free| std::iter::repeat_n(free, each)).collect();
        let idle = vec![false; rows];
        Ok((Arnoldi { chain, basis, h, free, idle, random: Random::new(0x5eed) }, norms))
    }

    /// Creates a space with a random start in every row.
    pub(crate) fn random(chain: &'p P, capacity: usize) -> Result<Self> {
        let mut random = Random::new(0x1abe1);
        let rows = Array2::from_shape_simple_fn((chain.chains(), chain.states()), || random.symmetric());
        Ok(Self::new(chain, chain.lift(rows.view())?, capacity)?.0)
    }

    /// Dimension of the space.
    pub(crate) fn dimension(&self) -> usize {
        self.basis.len() - 1
    }

    /// Extends the space by one dimension, which takes one product.
    pub(crate) fn extend(&mut self) -> Result<()> {
        let j = self.dimension();
        let mut next = self.basis[j].zeros_like()?;
        self.chain.step(&self.basis[j], &mut next)?;
        self.chain.deflate(&mut next)?;
        let mut norms = vec![0.0; self.h.len()];
        // Gram–Schmidt twice is enough (Kahan; Giraud et al. 2005).
        for _ in 0..2 {
            let dots = next.dots(&self.basis)?;
            let minus: Vec<Vec<f64>> = dots.iter().map(|row| row.iter().map(|d| -d).collect()).collect();
            next.combine(&minus, &self.basis)?;
            for (h, row) in self.h.iter_mut().zip(&dots) {
                row.iter().enumerate().for_each(|(i, dot)| h[(i, j)] += dot);
            }
            norms = next.norms()?;
        }
        self.push(next, norms)
    }

    /// Appends `next` as a basis vector. Rows that vanished get a random direction instead.
    fn push(&mut self, mut next: P::Block, mut norms: Vec<f64>) -> Result<()> {
        let j = self.dimension();
        let vanished: Vec<bool> = norms.iter().map(|norm| *norm <= BREAKDOWN * P::Block::EPSILON).collect();
        for (h, (norm, vanished)) in self.h.iter_mut().zip(norms.iter().zip(&vanished)) {
            h[(j + 1, j)] = if *vanished { 0.0 } else { *norm };
        }
        // If the space is the whole space, no direction is left.
        let spent = |row: usize| self.idle[row] || self.basis.len() >= self.free[row];
        let done: Vec<bool> = (0..vanished.len()).map(spent).collect();
        let broken: Vec<bool> =
            vanished.iter().zip(&done).map(|(vanished, done)| *vanished && !done).collect();
        if broken.contains(&true) {
            let fresh = self.fresh()?;
            next.scale(&broken.iter().map(|b| f64::from(u8::from(!b))).collect::<Vec<_>>())?;
            next.add(&broken.iter().map(|b| f64::from(u8::from(*b))).collect::<Vec<_>>(), &fresh)?;
            norms.iter_mut().zip(&broken).filter(|(_, b)| **b).for_each(|(norm, _)| *norm = 1.0);
        }
        let lengths = norms.iter().zip(&done).map(|(norm, done)| if *done { 0.0 } else { norm.recip() });
        next.scale(&lengths.collect::<Vec<_>>())?;
        self.basis.push(next);
        Ok(())
    }

    /// Returns random unit directions orthogonal to the space, or zero for idle rows and rows whose space is complete.
    fn fresh(&mut self) -> Result<P::Block> {
        let (rows, n) = (self.h.len(), self.chain.states());
        let numbers = Array2::from_shape_simple_fn((rows, n), || self.random.symmetric());
        let mut fresh = self.chain.lift(numbers.view())?;
        self.chain.deflate(&mut fresh)?;
        let spent: Vec<bool> =
            self.free.iter().zip(&self.idle).map(|(free, idle)| *idle || self.basis.len() >= *free).collect();
        for _ in 0..3 {
            let minus: Vec<Vec<f64>> =
                fresh.dots(&self.basis)?.iter().map(|row| row.iter().map(|d| -d).collect()).collect();
            fresh.combine(&minus, &self.basis)?;
            let norms = fresh.norms()?;
            let lengths =
                norms.iter().zip(&spent).map(|(norm, spent)| if *spent { 0.0 } else { norm.recip() });
            fresh.scale(&lengths.collect::<Vec<_>>())?;
        }
        Ok(fresh)
    }

    /// Shrinks the space to about `keep` leading Ritz directions. With `renew`, the next direction is replaced by a
    /// random one without coupling, to find eigenvalues that the space has missed.
    fn restart(&mut self, keep: usize, renew: bool) -> Result<()> {
        let m = self.dimension();
        let kept: Vec<Small<f64>> = self
            .h
            .iter()
            .zip(&self.idle)
            .map(|(h, idle)| if *idle { Ok(Small::zeros(m, 0)) } else { leading_subspace(h, m, keep) })
            .collect::<Result<Vec<_>>>()?;
        let width = kept.iter().map(|q| q.columns).max().unwrap_or(0);
        let mut basis = Vec::with_capacity(self.basis.capacity());
        for k in 0..width {
            let mut vector = self.basis[0].zeros_like()?;
            // A row that keeps one direction less gets a zero vector, which adds a harmless Ritz value of zero.
            let by: Vec<Vec<f64>> = kept
                .iter()
                .map(|q| (0..m).map(|i| if k < q.columns { q[(i, k)] } else { 0.0 }).collect())
                .collect();
            vector.combine(&by, &self.basis[..m])?;
            basis.push(vector);
        }
        let last = self.basis.pop();
        for (h, q) in self.h.iter_mut().zip(&kept) {
            let old = h.clone();
            *h = Small::zeros(old.rows, old.columns);
            for b in 0..q.columns {
                let image: Vec<f64> =
                    (0..=m).map(|i| (0..m).map(|j| old[(i, j)] * q[(j, b)]).sum()).collect();
                for a in 0..q.columns {
                    h[(a, b)] = (0..m).map(|i| q[(i, a)] * image[i]).sum();
                }
                h[(width, b)] = if renew { 0.0 } else { image[m] };
            }
        }
        self.basis = basis;
        let next = if renew { Some(self.fresh()?) } else { last };
        self.basis.extend(next);
        Ok(())
    }
}

/// The result of the iteration for one chain.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ritz {
    /// Leading eigenvalues other than the deflated one, in falling order of modulus.
    pub(crate) values: Vec<Eigenvalue>,
    pub(crate) products: usize,
    pub(crate) converged: bool,
}

/// Computes the `wanted` leading eigenvalues, other than the deflated one, of every chain of the carrier that is
/// selected in `asked`.
pub(crate) fn leading<P: Propagate>(
    chain: &P,
    asked: &[bool],
    wanted: usize,
    tolerance: f64,
    budget: usize,
) -> Result<Vec<Ritz>> {
    let free = chain.free();
    let most = free.iter().zip(asked).filter(|(_, asked)| **asked).map(|(free, _)| *free).max().unwrap_or(0);
    let wanted = wanted.min(most);
    if wanted == 0 {
        return Ok(vec![Ritz { converged: true, ..Ritz::default() }; chain.chains()]);
    }
    let capacity = most.min((2 * wanted + 48).max(72));
    let mut space = Arnoldi::random(chain, capacity)?;
    let mut found: Vec<Option<Ritz>> = asked.iter().map(|asked| (!asked).then(Ritz::default)).collect();
    // Settled chains: not selected, or known from the whole space.
    let mut settled: Vec<bool> = asked.iter().map(|asked| !asked).collect();
    space.idle.clone_from(&settled);
    let mut accepted: Vec<Option<Ritz>> = vec![None; chain.chains()];
    let (mut products, mut next_check, mut verifying) = (0, wanted + 5, false);
    loop {
        space.extend()?;
        products += 1;
        let m = space.dimension();
        let (full, spent) = (m == most, products >= budget);
        let mut broken = space.h.iter().zip(&settled).filter(|(_, settled)| !**settled);
        let broken = broken.all(|(h, _)| (0..m).all(|j| h[(m, j)] == 0.0));
        if m < next_check && m < capacity && !full && !spent && !(broken && m >= wanted) {
            continue;
        }
        for row in (0..found.len()).filter(|row| found[*row].is_none()).collect::<Vec<_>>() {
            let goal = |modulus| goal(modulus, tolerance, P::Block::EPSILON);
            let (h, whole) = (&space.h[row], m >= free[row]);
            let projected = Projected { h, m: m.min(free[row]), starts: 1, whole };
            let ritz = judge(&projected, wanted, goal, P::Block::EPSILON, products)?;
            if ritz.converged || spent || whole {
                settled[row] |= whole;
                found[row] = Some(ritz);
            }
        }
        if found.iter().all(Option::is_some) {
            // One start vector cannot find a repeated eigenvalue: repeat with a new vector until no new eigenvalue
            // appears.
            let steady = found
                .iter()
                .zip(&accepted)
                .zip(&settled)
                .all(|((now, before), settled)| *settled || same(now, before, tolerance));
            if full || spent || wanted == 1 || steady {
                return Ok(found.into_iter().flatten().collect());
            }
            for (row, (now, before)) in found.iter_mut().zip(&mut accepted).enumerate() {
                if !settled[row] {
                    *before = now.take();
                }
            }
            space.idle.clone_from(&settled);
            verifying = true;
            space.restart(wanted + 1, true)?;
        } else if m == capacity {
            space.restart((capacity / 3).max(wanted + 2), false)?;
        }
        let m = space.dimension();
        next_check = if m < 16 { m + 2 } else { m + m / 6 };
        if verifying && next_check < wanted + 8 {
            next_check = wanted + 8;
        }
    }
}

fn same(now: &Option<Ritz>, before: &Option<Ritz>, tolerance: f64) -> bool {
    match (now, before) {
        (Some(now), Some(before)) => now.values.iter().zip(&before.values).all(|(now, before)| {
            let (now, before) = (now.value.norm(), before.value.norm());
            (now - before).abs() <= 10.0 * tolerance.max(1e-13) * before.max(SMALL_MODULUS)
        }),
        (None, _) | (_, None) => false,
    }
}

/// Returns the allowed error of an eigenvalue of this modulus.
pub(crate) fn goal(modulus: f64, tolerance: f64, epsilon: f64) -> f64 {
    (tolerance.min(COARSEST) * modulus.max(SMALL_MODULUS)).max(16.0 * epsilon)
}

/// Whether no Ritz value after the wanted ones can belong to a larger eigenvalue: the eigenvalue lies within the
/// residual of its Ritz value (to first order), so it could exceed those found.
fn nothing_hidden(
    h: &Small<f64>,
    m: usize,
    starts: usize,
    values: &[c64],
    wanted: usize,
    goal: impl Fn(f64) -> f64,
) -> bool {
    let Some(least) = values.get(wanted - 1).map(|theta| theta.norm()) else { return false };
    let bar = least + goal(least);
    // No residual exceeds the norm of the coupling.
    let coupling = (m..m + starts).flat_map(|i| (0..m).map(move |j| (i, j))).map(|at| h[at].powi(2));
    let coupling = coupling.sum::<f64>().sqrt();
    let behind = values[wanted..].iter().take_while(|theta| theta.norm() + coupling > bar);
    // Both values of a conjugate pair have the same residual.
    let apart = behind.filter(|theta| theta.im >= 0.0);
    residuals_within(h, m, starts, apart.map(|theta| (*theta, bar - theta.norm())))
}

/// A small projected matrix: the leading `m × m` part of `h`. Its rows from `m` on couple the space to the next basis vectors,
/// as many as there were start vectors. A `whole` space couples to no further direction.
pub(crate) struct Projected<'h> {
    pub(crate) h: &'h Small<f64>,
    pub(crate) m: usize,
    pub(crate) starts: usize,
    pub(crate) whole: bool,
}

/// Returns the leading Ritz values of one row's space, and whether they are accurate enough. For a whole space the residual is
/// the rounding of its matrix; no residual is reported as less than that.
pub(crate) fn judge(
    projected: &Projected<'_>,
    wanted: usize,
    goal: impl Fn(f64) -> f64,
    epsilon: f64,
    products: usize,
) -> Result<Ritz> {
    let Projected { h, m, starts, whole } = *projected;
    let values = eigenvalues(h, m)?;
    let rounding = epsilon * h.norm(m);
    let mut leading: Vec<Eigenvalue> = Vec::with_capacity(wanted);
    for theta in values.iter().take(wanted) {
        let found = match leading.last() {
            // Both values of a conjugate pair have the same error.
            Some(last) if theta.im != 0.0 && last.value == theta.conj() => {
                Eigenvalue { value: *theta, ..*last }
            }
            _ => {
                let RitzError { residual, condition, .. } = ritz_error(h, m, starts, *theta);
                let residual = if whole { rounding } else { residual };
                Eigenvalue { value: *theta, residual, condition }
            }
        };
        leading.push(found);
    }
    let known = |found: &Eigenvalue| FIRST_ORDER * found.error() <= goal(found.value.norm());
    let converged = leading.iter().all(known)
        && (whole || m >= wanted && nothing_hidden(h, m, starts, &values, wanted, &goal));
    // The coupling of a space can fall far below the rounding of the products that it was built from.
    leading.iter_mut().for_each(|found| found.residual = found.residual.max(rounding));
    Ok(Ritz { values: leading, products, converged })
}
