//! Computes the spectrum of a chain from the spectra of its strongly connected components.

use faer::c64;
use ndarray::{Array2, Axis};

use super::dense::irreducible;
use super::krylov::{self, Ritz};
use super::part::{Inside, Written};
use super::small::by_falling_modulus;
use super::{Effort, Eigenvalue, Method, Precision, band};
use crate::Result;
use crate::propagate::{Block, Propagate};
use crate::structure::Components;

/// Up to this number of states, matrices are solved densely if several eigenvalues are wanted.
const SMALL: usize = 64;

/// Leading eigenvalues of one chain other than the 1.
#[derive(Debug, Clone)]
pub(super) struct Found {
    /// Eigenvalues in falling order of modulus.
    pub(super) values: Vec<Eigenvalue>,
    pub(super) products: usize,
    pub(super) converged: bool,
    pub(super) method: Method,
}

/// Computes the `wanted` leading eigenvalues, other than the 1, of every chain of a carrier.
///
/// Components with more than half of the states of a chain are computed within the chain, those of all chains in
/// parallel; smaller ones are stored as matrices.
pub(super) fn leading<P: Propagate>(
    chain: &P,
    wanted: usize,
    effort: Effort,
    precision: Precision,
) -> Result<Vec<Found>> {
    let (n, chains) = (chain.states(), chain.chains());
    let everything: Vec<usize> = (0..n).collect();
    let whole = Components { members: vec![everything], closed: vec![true] };
    let components = match chain.components()? {
        none if none.is_empty() => vec![whole; chains],
        some => some,
    };
    let large: Vec<Option<usize>> = components.iter().map(|of| largest(chain, of)).collect();
    let mut walked: Vec<Option<Ritz>> = vec![None; chains];
    if large.iter().any(Option::is_some) && krylov_pays(n, wanted) {
        let asked: Vec<bool> = large.iter().map(Option::is_some).collect();
        let run = |ritz: Result<Vec<Ritz>>| -> Result<Vec<Option<Ritz>>> {
            Ok(ritz?.into_iter().zip(&asked).map(|(ritz, asked)| asked.then_some(ritz)).collect())
        };
        walked = if components.iter().all(Components::irreducible) {
            run(iterate(chain, &asked, wanted, effort))?
        } else {
            let parts: Vec<(&[usize], bool)> = components
                .iter()
                .zip(&large)
                .map(|(of, large)| large.map_or((&[][..], true), |c| (&of.members[c][..], of.closed[c])))
                .collect();
            let inside = Inside::new(chain, &parts)?;
            run(iterate(&inside, &asked, wanted, effort))?
        };
    }
    let each = components.iter().zip(&large).zip(walked).enumerate();
    each.map(|(which, ((of, large), walked))| {
        let walked = walked.and_then(|ritz| large.map(|c| (c, ritz)));
        one(chain, which, of, walked, wanted, effort, precision)
    })
    .collect()
}

/// Computes the `wanted` leading eigenvalues, other than the deflated one, of every chain that is selected in `asked`.
fn iterate<P: Propagate>(chain: &P, asked: &[bool], wanted: usize, effort: Effort) -> Result<Vec<Ritz>> {
    if let ([true], 1, Some(host)) = (asked, wanted, chain.host()) {
        let found = if P::Block::EPSILON > f64::EPSILON {
            band::second::<f32>(host, effort)?
        } else {
            band::second::<f64>(host, effort)?
        };
        if let Some(ritz) = found {
            return Ok(vec![ritz]);
        }
    }
    krylov::leading(chain, asked, wanted, effort.tolerance, effort.max_products)
}

/// Whether a Krylov iteration finds `wanted` eigenvalues of a matrix with `states` rows faster than the dense solver.
fn krylov_pays(states: usize, wanted: usize) -> bool {
    wanted == 1 || (states > SMALL && wanted < states / 6)
}

/// Returns the component with more than half of the states, if it can be computed within its chain.
fn largest<P: Propagate>(chain: &P, of: &Components) -> Option<usize> {
    let large = of.members.iter().position(|members| 2 * members.len() > chain.states());
    large.filter(|c| of.members[*c].len() > 1 && (of.irreducible() || chain.scale() == 1.0))
}

/// Computes the leading eigenvalues of chain `which` other than the 1. Those of one component may be known already.
fn one<P: Propagate>(
    chain: &P,
    which: usize,
    of: &Components,
    walked: Option<(usize, Ritz)>,
    wanted: usize,
    effort: Effort,
    precision: Precision,
) -> Result<Found> {
    let scale = if of.irreducible() { 1.0 } else { chain.scale() };
    let mut all = Found { values: Vec::new(), products: 0, converged: true, method: Method::Structure };
    // The 1 of the chain belongs to one closed class.
    let others = of.closed.iter().filter(|closed| **closed).count().saturating_sub(1);
    all.values.resize(others, Eigenvalue::exact(scale));
    if of.members.iter().any(|members| members.len() == 1) {
        let diagonal = chain.diagonal(which)?;
        let transient =
            of.members.iter().zip(&of.closed).filter(|(members, closed)| members.len() == 1 && !**closed);
        all.values.extend(transient.map(|(members, _)| Eigenvalue::exact(diagonal[members[0]])));
    }
    let mut rest = Vec::new();
    for (c, (members, closed)) in
        of.members.iter().zip(&of.closed).enumerate().filter(|(_, (m, _))| m.len() > 1)
    {
        match &walked {
            Some((at, ritz)) if *at == c && ritz.converged => {
                all.take(ritz.values.clone(), ritz.products, Method::Krylov, true);
            }
            Some((at, ritz)) if *at == c && members.len() > effort.dense_limit => {
                all.take(ritz.values.clone(), ritz.products, Method::Krylov, false);
            }
            Some((at, ritz)) if *at == c => {
                let block = write_out(chain, which, of, members)?;
                all.take(dense(&block, *closed, scale)?, ritz.products, Method::Dense, true);
            }
            Some(_) | None => {
                let block = write_out(chain, which, of, members)?;
                let bound = block.map_axis(Axis(1), |row| row.sum()).fold(0.0, |a: f64, b| a.max(*b));
                rest.push((bound, *closed, block));
            }
        }
    }
    // No eigenvalue exceeds the largest row sum: a block that cannot change the result is skipped.
    rest.sort_by(|a, b| b.0.total_cmp(&a.0));
    for (bound, closed, block) in rest {
        all.values.sort_by(|a, b| by_falling_modulus(&a.value, &b.value));
        if all.values.get(wanted - 1).is_some_and(|least| least.value.norm() >= bound) {
            break;
        }
        all.solve(&block, closed, scale, wanted, effort, precision)?;
    }
    all.values.sort_by(|a, b| by_falling_modulus(&a.value, &b.value));
    all.values.truncate(wanted);
    Ok(all)
}

/// Returns the diagonal block of a component; for an irreducible chain, the chain itself including jumps.
fn write_out<P: Propagate>(
    chain: &P,
    which: usize,
    of: &Components,
    members: &[usize],
) -> Result<Array2<f64>> {
    if of.irreducible() {
        crate::propagate::written_out(chain, which, members)
    } else {
        chain.block(which, members)
    }
}

/// Returns all eigenvalues of a component, without the eigenvalue of a closed class that belongs to the constant
/// vector.
fn dense(block: &Array2<f64>, closed: bool, scale: f64) -> Result<Vec<Eigenvalue>> {
    let mut values = irreducible(block.view())?;
    if closed {
        let off = |k: &usize| (values[*k].value - c64::new(scale, 0.0)).norm();
        if let Some(nearest) = (0..values.len()).min_by(|a, b| off(a).total_cmp(&off(b))) {
            values.remove(nearest);
        }
    }
    Ok(values)
}

impl Found {
    /// Adds the result of one component.
    fn take(&mut self, values: Vec<Eigenvalue>, products: usize, method: Method, converged: bool) {
        self.values.extend(values);
        self.products += products;
        self.converged &= converged;
        self.method = match (self.method, method) {
            (Method::Dense, _) | (_, Method::Dense) => Method::Dense,
            (Method::Krylov, _) | (_, Method::Krylov) => Method::Krylov,
            (Method::Structure, Method::Structure) => Method::Structure,
        };
    }

    /// Solves a stored component and adds its result.
    fn solve(
        &mut self,
        block: &Array2<f64>,
        closed: bool,
        scale: f64,
        wanted: usize,
        effort: Effort,
        precision: Precision,
    ) -> Result<()> {
        let m = block.nrows();
        let mut last = None;
        if m > SMALL && (krylov_pays(m, wanted) || m > effort.dense_limit) {
            let run = |precision| match precision {
                Precision::Single => {
                    iterate(&Written::<f32>::new(block.view(), closed), &[true], wanted, effort)
                }
                Precision::Double => {
                    iterate(&Written::<f64>::new(block.view(), closed), &[true], wanted, effort)
                }
            };
            let ways: &[Precision] = match precision {
                Precision::Single => &[Precision::Single, Precision::Double],
                Precision::Double => &[Precision::Double],
            };
            for way in ways {
                last = run(*way)?.into_iter().next();
                if let Some(ritz) = last.take_if(|ritz| ritz.converged) {
                    self.take(ritz.values, ritz.products, Method::Krylov, true);
                    return Ok(());
                }
            }
        }
        let products = last.as_ref().map_or(0, |ritz| ritz.products);
        match last {
            Some(ritz) if m > effort.dense_limit => self.take(ritz.values, products, Method::Krylov, false),
            _ => self.take(dense(block, closed, scale)?, products + m, Method::Dense, true),
        }
        Ok(())
    }
}
