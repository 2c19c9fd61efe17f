//! The torch twins equal the ndarray carriers.

use markov_core::spectrum::{eigenvalues, to_dense};
use markov_core::torch::{TorchChains, bounce, lambda2, token_rank};
use markov_core::{Direction, Effort, Error, Stochastic, Stop};
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Batches of all kinds, and of those kinds alone whose entries are positive, which never leave single precision.
    #[test]
    fn single_precision_finds_the_moduli_of_the_dense_solver(n in 2usize..70, seed in any::<u64>(), tolerance in 1e-5..1e-2f64) {
        for kinds in [&KINDS[..], &[Kind::Softmax, Kind::Ring, Kind::Softmax, Kind::Blocks]] {
            let draw = |(place, kind): (u64, &Kind)| matrix(*kind, n, seed ^ place).mapv(|v| f64::from(v as f32));
            let all = (0..).zip(kinds).map(draw);
            let chains: Vec<_> = all.map(|a| Stochastic::new(a).unwrap()).collect();
            let maps: Vec<_> = chains.iter().map(|chain| to_dense(&chain.forward(), 0).unwrap()).collect();
            let found = host(&lambda2(&tensor(&maps).to_kind(Type::Float), Effort::tolerance(tolerance)).unwrap());
            for ((found, map), kind) in found.iter().zip(&maps).zip(kinds) {
                let want = eigenvalues(map.view()).unwrap()[1].norm();
                // Among close eigenvalues the estimate can be a few times off.
                let allowed = 4.0 * tolerance * want.max(1e-3) + 1e-5;
                prop_assert!((found - want).abs() < allowed, "{kind:?} {n} {found} {want}");
            }
        }
    }
}

/// Uniform attention, one sink, and two groups: the space closes after a step or two.
#[test]
fn spaces_that_close_early_are_settled_in_single_precision() {
    let n = 300;
    let uniform = Array2::from_elem((n, n), 1.0 / n as f64);
    let sink = Array2::from_shape_fn((n, n), |(_, j)| if j == 7 { 0.5 } else { 0.5 / (n - 1) as f64 });
    let groups = Array2::from_shape_fn((n, n), |(i, j)| if (i < 100) == (j < 100) { 3.0 } else { 1.0 });
    let sums = groups.sum_axis(ndarray::Axis(1)).insert_axis(ndarray::Axis(1));
    let groups = groups / sums;
    // From a group of 100 and one of 200: λ₂ is the trace of the two-state chain minus 1.
    let want = 300.0 / 500.0 + 600.0 / 700.0 - 1.0;
    let maps = tensor(&[uniform, sink, groups]).to_kind(Type::Float);
    let found = host(&lambda2(&maps, Effort::tolerance(1e-4)).unwrap());
    assert!(found[0] < 1e-5 && found[1] < 1e-5, "{found:?}");
    assert!((found[2] - want).abs() < 1e-5, "{found:?} {want}");
}

/// Hundreds of tokens with one slow direction, as in image attention.
#[test]
fn heads_of_many_tokens_equal_the_host() {
    let n = 400;
    let head = |width: f64, scale: f64, seed: u64| {
        let mut draw = crate::common::Draw::new(seed);
        let grain = Array2::from_shape_simple_fn((n, n), || (scale * draw.normal()).exp());
        let near = |i: usize, j: usize| (-((i as f64 - j as f64) / width).powi(2)).exp() + 1e-3;
        let map = Array2::from_shape_fn((n, n), |(i, j)| near(i, j) * grain[(i, j)]);
        let sums = map.sum_axis(ndarray::Axis(1)).insert_axis(ndarray::Axis(1));
        (map / sums).mapv(|v| f64::from(v as f32))
    };
    let maps =
        [head(8.0, 0.2, 1), head(40.0, 1.0, 2), head(150.0, 2.0, 3), head(1e9, 1.0, 4), head(3.0, 0.0, 5)];
    let found = host(&lambda2(&tensor(&maps).to_kind(Type::Float), Effort::tolerance(1e-4)).unwrap());
    for (found, map) in found.iter().zip(maps) {
        let chain = Stochastic::new(map).unwrap();
        let want = markov_core::lambda2(&chain.forward(), Effort::default()).unwrap().modulus;
        assert!((found - want).abs() < 1e-4 * want + 5e-6, "{found} {want}");
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
