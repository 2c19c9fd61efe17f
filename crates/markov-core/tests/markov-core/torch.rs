//! The torch twins equal the ndarray carriers.

use markov_core::torch::{TorchChains, bounce, lambda2, token_rank};
use markov_core::{Direction, Effort, Error, Stochastic, Stop, spectrum::to_dense};
use ndarray::Array2;
use proptest::prelude::*;
use tch::{Kind as Type, Tensor};

use crate::common::{KINDS, Kind, matrix};

fn tensor(matrices: &[Array2<f64>]) -> Tensor {
    let flat: Vec<f64> = matrices.iter().flat_map(|a| a.iter().copied()).collect();
    let n = matrices[0].nrows() as i64;
    Tensor::from_slice(&flat).reshape([-1, n, n])
}

fn host(tensor: &Tensor) -> Vec<f64> {
    Vec::<f64>::try_from(&tensor.reshape(-1).contiguous()).unwrap_or_default()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn torch_results_equal_ndarray_results(n in 1usize..20, alpha in 0.1..0.999f64, seed in any::<u64>(), single in any::<bool>()) {
        let mut all: Vec<Array2<f64>> = KINDS.iter().map(|kind| matrix(*kind, n, seed)).collect();
        if single {
            all.iter_mut().for_each(|a| a.mapv_inplace(|v| f64::from(v as f32)));
        }
        let maps = if single { tensor(&all).to_kind(Type::Float) } else { tensor(&all) };
        let chains: Vec<_> = all.into_iter().map(|a| Stochastic::new(a).unwrap()).collect();

        for stop in [Stop::strict(), Stop::reference()] {
            let ranks = token_rank(&maps, alpha, Direction::Forward, stop).unwrap();
            prop_assert_eq!(ranks.pi.size(), [KINDS.len() as i64, n as i64]);
            let pi = host(&ranks.pi);
            for (i, chain) in chains.iter().enumerate() {
                let want = markov_core::token_rank(&chain.teleport(alpha).unwrap().forward(), stop).unwrap();
                let off: f64 = pi[i * n..][..n].iter().zip(&want.pi).map(|(a, b)| (a - b).abs()).sum();
                let tolerance = if stop == Stop::reference() { 1e-12 } else { 1e-6 };
                prop_assert!(off < tolerance);
                prop_assert!(stop != Stop::reference() || ranks.each[i].iterations == want.iterations);
            }
        }

        let found = host(&lambda2(&maps, Effort::default()).unwrap());
        for ((found, chain), kind) in found.iter().zip(&chains).zip(KINDS) {
            let want = markov_core::lambda2(&chain.forward(), Effort::default()).unwrap().modulus;
            prop_assert!((found - want).abs() < 1e-6, "{kind:?} {found} {want}");
        }

        for direction in [Direction::Forward, Direction::Backward] {
            let start = Tensor::full([n as i64], 1.0 / n as f64, (Type::Double, tch::Device::Cpu));
            let states = bounce(&maps, &start, alpha, direction, 3).unwrap();
            prop_assert_eq!(states.size(), [KINDS.len() as i64, 3, n as i64]);
            let states = host(&states);
            let batch = TorchChains::new(&maps, alpha, direction).unwrap();
            for (i, chain) in chains.iter().enumerate() {
                let chain = chain.teleport(alpha).unwrap().towards(direction).unwrap();
                let want = markov_core::bounce(&chain, markov_core::uniform(&chain).view(), 3).unwrap();
                let off = states[i * 3 * n..][..3 * n].iter().zip(&want).map(|(a, b)| (a - b).abs());
                prop_assert!(off.fold(0.0, f64::max) < 1e-12);
                let dense = to_dense(&batch, i).unwrap();
                prop_assert!((&dense - &chain.dense()).iter().all(|d| d.abs() < 1e-12));
            }
        }
    }
}

#[test]
fn leading_axes_are_kept_and_starts_can_differ() {
    let all: Vec<_> = (0..6).map(|seed| matrix(Kind::Softmax, 5, seed)).collect();
    let maps = tensor(&all).reshape([2, 3, 5, 5]);
    assert_eq!(token_rank(&maps, 0.99, Direction::Forward, Stop::strict()).unwrap().pi.size(), [2, 3, 5]);
    assert_eq!(lambda2(&maps, Effort::default()).unwrap().size(), [2, 3]);
    let starts = Tensor::eye(6, (Type::Double, tch::Device::Cpu)).narrow(1, 0, 5).narrow(0, 0, 5);
    let starts = Tensor::cat(&[&starts, &starts.narrow(0, 0, 1)], 0).reshape([2, 3, 5]);
    let states = bounce(&maps, &starts, 1.0, Direction::Forward, 1).unwrap();
    let row = host(&states.get(1).get(0).get(0));
    assert!(row.iter().zip(all[3].row(3)).all(|(a, b)| (a - b).abs() < 1e-14));
    assert_eq!(bounce(&maps, &starts, 1.0, Direction::Forward, 0).unwrap().size(), [2, 3, 0, 5]);
}

#[test]
fn bad_batches_are_refused_by_name() {
    let good = matrix(Kind::Softmax, 4, 1);
    let mut bad = good.clone();
    bad[(2, 1)] = f64::NAN;
    match TorchChains::new(&tensor(&[good.clone(), bad]), 0.99, Direction::Forward) {
        Err(Error::Matrix { index: 1, source }) => {
            assert!(matches!(*source, Error::NotFinite { row: 2, column: 1, .. }));
        }
        other => panic!("{other:?}"),
    }
    let mut bad = good.clone();
    bad[(3, 0)] = -1e-9;
    assert!(TorchChains::new(&tensor(&[bad]), 0.99, Direction::Forward).is_err());
    let mut bad = good.clone();
    bad[(3, 0)] += 2e-3;
    assert!(TorchChains::new(&tensor(&[bad]), 0.99, Direction::Forward).is_err());
    assert!(
        TorchChains::new(&tensor(std::slice::from_ref(&good)).narrow(1, 0, 3), 0.99, Direction::Forward)
            .is_err()
    );
    assert!(TorchChains::new(&tensor(&[good]), 2.0, Direction::Forward).is_err());
    // The identity has no unique steady state, in a batch as well as alone.
    match token_rank(&tensor(&[Array2::eye(3)]), 1.0, Direction::Forward, Stop::strict()) {
        Err(Error::NotUnique { classes: 3, .. }) => {}
        other => panic!("{other:?}"),
    }
}
