//! Arnoldi on the zero-sum subspace, with thick restarts.
//!
//! Every chain has `P 1 = 1`, so a row vector that sums to zero still does after a step: on that subspace the map
//! `x ↦ x P` has every eigenvalue of `P` but the one that belongs to `1`. Working there deflates it exactly, without
//! knowing the steady state. Restarts keep the invariant subspace of the leading Ritz values (Stewart 2001,
//! "A Krylov–Schur algorithm for large eigenproblems").

use faer::c64;
use ndarray::Array2;

use super::small::{RitzError, Small, eigenvalues, leading_subspace, ritz_error};
use crate::Result;
use crate::propagate::{Block, Propagate};
use crate::random::Random;

/// New directions shorter than this many roundings are noise: the space is invariant.
const BREAKDOWN: f64 = 64.0;
/// Residual times condition number is the error of an eigenvalue to first order only; in a close cluster it is more.
const FIRST_ORDER: f64 = 2.0;
/// Relative tolerances below this modulus are taken relative to it.
const SMALL_MODULUS: f64 = 1e-3;

/// A growing Krylov space for each row of a block, side by side.
pub(crate) struct Arnoldi<'p, P: Propagate> {
    chain: &'p P,
    pub(crate) basis: Vec<P::Block>,
    /// For each row: the projected map, `h[(i, j)]` the part of `basis[j] P` along `basis[i]`.
    pub(crate) h: Vec<Small<f64>>,
    random: Random,
}

impl<'p, P: Propagate> Arnoldi<'p, P> {
    /// A space for `start`, at most `capacity` products between restarts. Returns also the norms of `start`.
    pub(crate) fn new(chain: &'p P, mut start: P::Block, capacity: usize) -> Result<(Self, Vec<f64>)> {
        let rows = start.rows();
        start.centre()?;
        let norms = start.norms()?;
        start.scale(&norms.iter().map(|n| if *n > 0.0 { n.recip() } else { 0.0 }).collect::<Vec<_>>())?;
        let h = vec![Small::zeros(capacity + 1, capacity); rows];
        let mut basis = Vec::with_capacity(capacity + 1);
        basis.push(start);
        Ok((Arnoldi { chain, basis, h, random: Random::new(0x5eed) }, norms))
    }

    /// A space whose start is random in every row.
    pub(crate) fn random(chain: &'p P, capacity: usize) -> Result<Self> {
        let mut random = Random::new(0x1abe1);
        let rows = Array2::from_shape_simple_fn((chain.chains(), chain.states()), || random.symmetric());
        Ok(Self::new(chain, chain.lift(rows.view())?, capacity)?.0)
    }

    /// Dimension of the space.
    pub(crate) fn dimension(&self) -> usize {
        self.basis.len() - 1
    }

    /// One product: the space grows by a dimension.
    pub(crate) fn extend(&mut self) -> Result<()> {
        let j = self.dimension();
        let mut next = self.basis[j].zeros_like()?;
        self.chain.step(&self.basis[j], &mut next)?;
        next.centre()?;
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

    /// Appends `next` as a basis vector, a random direction instead where it vanished.
    fn push(&mut self, mut next: P::Block, mut norms: Vec<f64>) -> Result<()> {
        let j = self.dimension();
        let broken: Vec<bool> = norms.iter().map(|norm| *norm <= BREAKDOWN * P::Block::EPSILON).collect();
        for (h, (norm, broken)) in self.h.iter_mut().zip(norms.iter().zip(&broken)) {
            h[(j + 1, j)] = if *broken { 0.0 } else { *norm };
        }
        if broken.contains(&true) {
            let fresh = self.fresh()?;
            next.scale(&broken.iter().map(|b| f64::from(u8::from(!b))).collect::<Vec<_>>())?;
            next.add(&broken.iter().map(|b| f64::from(u8::from(*b))).collect::<Vec<_>>(), &fresh)?;
            norms.iter_mut().zip(&broken).filter(|(_, b)| **b).for_each(|(norm, _)| *norm = 1.0);
        }
        next.scale(&norms.iter().map(|n| n.recip()).collect::<Vec<_>>())?;
        self.basis.push(next);
        Ok(())
    }

    /// Unit random directions orthogonal to the space; zero where the space is already everything.
    fn fresh(&mut self) -> Result<P::Block> {
        let (rows, n) = (self.h.len(), self.chain.states());
        let numbers = Array2::from_shape_simple_fn((rows, n), || self.random.symmetric());
        let mut fresh = self.chain.lift(numbers.view())?;
        fresh.centre()?;
        let full = self.basis.len() + 1 >= n;
        for _ in 0..3 {
            let minus: Vec<Vec<f64>> =
                fresh.dots(&self.basis)?.iter().map(|row| row.iter().map(|d| -d).collect()).collect();
            fresh.combine(&minus, &self.basis)?;
            let norms = fresh.norms()?;
            fresh.scale(&norms.iter().map(|n| if full { 0.0 } else { n.recip() }).collect::<Vec<_>>())?;
        }
        Ok(fresh)
    }

    /// Shrinks the space to about `keep` leading Ritz directions. With `renew` the coupling to the next direction is
    /// dropped and that direction replaced by a random one, to look for what the space has missed.
    fn restart(&mut self, keep: usize, renew: bool) -> Result<()> {
        let m = self.dimension();
        let kept: Vec<Small<f64>> =
            self.h.iter().map(|h| leading_subspace(h, m, keep)).collect::<Result<Vec<_>>>()?;
        let width = kept.iter().map(|q| q.columns).max().unwrap_or(0);
        let mut basis = Vec::with_capacity(self.basis.capacity());
        for k in 0..width {
            let mut vector = self.basis[0].zeros_like()?;
            // A row that keeps one less gets a zero vector, and with it a harmless zero Ritz value.
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

/// What the iteration found for one chain.
#[derive(Debug, Clone)]
pub(crate) struct Ritz {
    /// Leading eigenvalues beside the 1, in falling order of modulus.
    pub(crate) values: Vec<c64>,
    /// Largest residual among them.
    pub(crate) residual: f64,
    pub(crate) products: usize,
    pub(crate) converged: bool,
}

/// The `wanted` leading eigenvalues of every chain of the carrier, beside the 1.
pub(crate) fn leading<P: Propagate>(
    chain: &P,
    wanted: usize,
    tolerance: f64,
    budget: usize,
) -> Result<Vec<Ritz>> {
    let free = chain.states() - 1;
    let wanted = wanted.min(free);
    let capacity = free.min((2 * wanted + 48).max(72));
    let mut space = Arnoldi::random(chain, capacity)?;
    let mut found: Vec<Option<Ritz>> = vec![None; chain.chains()];
    let mut accepted: Vec<Option<Vec<f64>>> = vec![None; chain.chains()];
    let (mut products, mut next_check, mut verifying) = (0, wanted + 5, false);
    loop {
        space.extend()?;
        products += 1;
        let m = space.dimension();
        let (full, spent) = (m == free, products >= budget);
        let broken = space.h.iter().all(|h| (0..m).all(|j| h[(m, j)] == 0.0));
        if m < next_check && m < capacity && !full && !spent && !(broken && m >= wanted) {
            continue;
        }
        for (row, h) in
            space.h.iter().enumerate().filter(|(row, _)| found[*row].is_none()).collect::<Vec<_>>()
        {
            let ritz =
                judge(h, m, wanted, |modulus| goal(modulus, tolerance, P::Block::EPSILON), full, products)?;
            if ritz.converged || spent {
                found[row] = Some(ritz);
            }
        }
        if found.iter().all(Option::is_some) {
            // One vector cannot see a repeated eigenvalue: look again from a fresh one until nothing new appears.
            let steady = found.iter().zip(&accepted).all(|(now, before)| same(now, before, tolerance));
            if full || spent || wanted == 1 || steady {
                return Ok(found.into_iter().flatten().collect());
            }
            for (now, before) in found.iter_mut().zip(&mut accepted) {
                *before = now.take().map(|ritz| ritz.values.iter().map(|v| v.norm()).collect());
            }
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

fn same(now: &Option<Ritz>, before: &Option<Vec<f64>>, tolerance: f64) -> bool {
    match (now, before) {
        (Some(now), Some(before)) => now.values.iter().zip(before).all(|(now, before)| {
            (now.norm() - before).abs() <= 10.0 * tolerance.max(1e-13) * before.max(SMALL_MODULUS)
        }),
        _ => false,
    }
}

/// Error allowed of an eigenvalue of this modulus.
fn goal(modulus: f64, tolerance: f64, epsilon: f64) -> f64 {
    (tolerance * modulus.max(SMALL_MODULUS)).max(16.0 * epsilon)
}

/// Whether every Ritz value behind the wanted ones is known well enough to stay behind: around each lies an
/// eigenvalue no further away than its residual (to first order), and it might be larger than those found.
fn nothing_hidden(
    h: &Small<f64>,
    m: usize,
    values: &[c64],
    wanted: usize,
    goal: impl Fn(f64) -> f64,
) -> bool {
    let Some(least) = values.get(wanted - 1).map(|theta| theta.norm()) else { return false };
    let bar = least + goal(least);
    // No residual exceeds the norm of the coupling.
    let coupling = (0..m).map(|j| h[(m, j)].powi(2)).sum::<f64>().sqrt();
    let behind = values[wanted..].iter().take_while(|theta| theta.norm() + coupling > bar);
    behind.into_iter().all(|theta| theta.norm() + ritz_error(h, m, *theta).residual <= bar)
}

/// The leading Ritz values of one row's space, and whether they can be believed.
fn judge(
    h: &Small<f64>,
    m: usize,
    wanted: usize,
    goal: impl Fn(f64) -> f64,
    full: bool,
    products: usize,
) -> Result<Ritz> {
    let mut values = eigenvalues(h, m)?;
    let mut residual = 0.0f64;
    let mut converged = m >= wanted;
    if !full {
        for theta in values.iter().take(wanted) {
            let RitzError { residual: own, condition } = ritz_error(h, m, *theta);
            residual = residual.max(own);
            converged &= FIRST_ORDER * own * condition <= goal(theta.norm());
        }
        converged = converged && nothing_hidden(h, m, &values, wanted, &goal);
    }
    values.truncate(wanted);
    Ok(Ritz { values, residual, products, converged: converged || full })
}
