//! TokenRank of stored maps: corrections from Krylov spaces in single precision, steps in double precision.

use tch::{Kind, Tensor};

use super::space::Products;
use super::steady::{End, Steady, steady};
use super::{TorchChains, to_host};
use crate::Result;
use crate::rank::{Rule, Stop, TokenRank};

/// Smallest L1 change of a step that steps in double precision reach within a few corrections.
const LEAST_CHANGE: f64 = 1e-13;

/// A batch of teleported chains in both precisions.
struct Walk<'c> {
    chains: &'c TorchChains,
    /// The maps of the chains in single precision, `[b, n, n]`.
    maps: Tensor,
    /// The same of [`TorchChains::columns`].
    columns: Option<Tensor>,
}

impl Products for Walk<'_> {
    fn states(&self) -> i64 {
        self.chains.states
    }

    fn apply(&self, x: &Tensor) -> Result<Tensor> {
        self.chains.moved(x, &self.maps, self.columns.as_ref())
    }

    fn step(&self, x: &Tensor) -> Result<Tensor> {
        self.chains.moved(x, &self.chains.maps, self.chains.columns.as_ref())
    }
}

/// Computes the TokenRank of every chain of the batch. Returns `None` if that of one of them needs another method: without
/// teleport, by the plain rule, to a tolerance that rounding does not allow, or if the corrections do not suffice.
///
/// # Errors
/// libtorch fails.
pub(super) fn token_rank(chains: &TorchChains, stop: Stop) -> Result<Option<Vec<TokenRank>>> {
    let tolerance = stop.promised(chains.fraction).filter(|tolerance| *tolerance >= LEAST_CHANGE);
    let (Some(tolerance), true) = (tolerance, chains.alpha < 1.0 && stop.rule != Rule::Plain) else {
        return Ok(None);
    };
    let single = |tensor: &Tensor| tensor.f_to_kind(Kind::Float);
    let walk = Walk {
        chains,
        maps: single(&chains.maps)?,
        columns: chains.columns.as_ref().map(single).transpose()?,
    };
    let Steady { pi, ends } = steady(walk, chains.batch as usize, tolerance, &chains.maps)?;
    if !ends.iter().all(|end| end.converged && end.products <= stop.max_iterations) {
        return Ok(None);
    }
    let host = to_host(&pi)?;
    let rank = |(pi, end): (_, &End)| TokenRank {
        pi,
        iterations: end.products,
        residual: end.residual,
        converged: end.converged,
    };
    Ok(Some(host.rows().into_iter().map(|row| row.to_owned()).zip(&ends).map(rank).collect()))
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;
    use crate::Direction;

    /// Teleported maps of every kind are settled here: trained heads look like the first, those after it are reducible, flat, or far
    /// from their steady state.
    #[test]
    fn teleported_maps_are_settled_here() {
        tch::manual_seed(11);
        let options = (Kind::Float, Device::Cpu);
        let n = 300;
        let near = Tensor::arange(n, options).unsqueeze(0);
        let near = (&near - near.transpose(0, 1)).abs() * -0.05;
        let logits = |scale: f64| Tensor::randn([n, n], options) * scale + &near;
        let causal = logits(1.0) + Tensor::full([n, n], f64::NEG_INFINITY, options).triu(1);
        let blocks = Tensor::eye(2, options).log().repeat_interleave_self_int(n / 2, 0, None);
        let blocks = logits(2.0) + blocks.repeat_interleave_self_int(n / 2, 1, None);
        let maps = Tensor::stack(&[logits(1.0), logits(6.0), causal, blocks, logits(0.0) * 0.0], 0);
        let maps = maps.softmax(-1, Kind::Float);
        for (direction, alpha, tolerance) in [
            (Direction::Forward, 0.99, 1e-8),
            (Direction::Forward, 0.999, 1e-12),
            (Direction::Backward, 0.85, 1e-10),
        ] {
            let chains = TorchChains::new(&maps, alpha, direction).unwrap();
            let found = token_rank(&chains, Stop::accelerated(tolerance)).unwrap().expect("settled here");
            for (map, rank) in found.iter().enumerate() {
                assert!(rank.converged && rank.residual < tolerance, "{map} {rank:?}");
                let state = Tensor::from_slice(&rank.pi.to_vec()).reshape([1, 1, n]);
                let all = state.expand([maps.size()[0], 1, n], false);
                let next = chains.moved(&all, &chains.maps, chains.columns.as_ref()).unwrap();
                let change = (next - all).abs().sum_dim_intlist(-1i64, false, Kind::Double);
                let change = change.double_value(&[map as i64, 0]);
                assert!(change < tolerance, "{direction:?} {map}: {change}, {rank:?}");
            }
        }
    }

    #[test]
    fn what_has_no_residual_to_stop_at_is_left() {
        let maps = Tensor::eye(4, (Kind::Double, Device::Cpu)).unsqueeze(0);
        for (alpha, stop) in [
            (1.0, Stop::accelerated(1e-8)),
            (0.99, Stop::reference()),
            (0.99, Stop::accelerated(1e-15)),
            (0.99, Stop { max_iterations: 2, ..Stop::accelerated(1e-8) }),
        ] {
            let chains = TorchChains::new(&maps, alpha, Direction::Forward).unwrap();
            assert_eq!(token_rank(&chains, stop).unwrap(), None, "{stop:?}");
        }
    }
}
