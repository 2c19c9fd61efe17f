//! Properties that hold for every chain.

use markov_core::spectrum::{eigenvalues, to_dense};
use markov_core::{
    Direction, Effort, Stochastic, Stop, bounce, bounce_batch, bounce_token, lambda2, spectrum, token_rank,
    uniform,
};
use ndarray::{Array1, Array2, Axis};
use proptest::prelude::*;

use crate::common::{Kind, distribution, doubly_stochastic, l1, matrix, second_is};

fn kinds() -> impl Strategy<Value = Kind> {
    prop::sample::select(crate::common::KINDS.to_vec())
}

/// Maximum difference between Krylov iteration and dense oracle. Tests with exact answers are in `reducible.rs`.
const TOLERANCE: f64 = 1e-8;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn krylov_lambda2_equals_the_dense_oracle(kind in kinds(), n in 2usize..28, seed in any::<u64>()) {
        let a = matrix(kind, n, seed);
        let oracle = eigenvalues(a.view()).unwrap()[1].norm();
        let found = lambda2(&Stochastic::new(a).unwrap().forward(), Effort::default()).unwrap();
        prop_assert!(second_is(&found, oracle), "{found:?} {oracle}");
    }

    #[test]
    fn top_moduli_equal_the_dense_oracle(kind in kinds(), n in 1usize..20, k in 1usize..24, seed in any::<u64>()) {
        let a = matrix(kind, n, seed);
        let oracle = eigenvalues(a.view()).unwrap();
        let moduli = spectrum(&Stochastic::new(a).unwrap().forward(), k, Effort::default()).unwrap().moduli();
        prop_assert_eq!(moduli.len(), k.min(n));
        prop_assert_eq!(moduli[0], 1.0);
        prop_assert!(moduli.windows(2).all(|w| w[0] >= w[1]));
        for (found, value) in moduli.iter().zip(&oracle) {
            prop_assert!((found - value.norm()).abs() < 100.0 * TOLERANCE);
        }
    }

    #[test]
    fn teleport_scales_every_eigenvalue_but_the_first(
        kind in kinds(), n in 2usize..16, alpha in 0.05..1.0f64, given in any::<bool>(), seed in any::<u64>(),
    ) {
        let a = Stochastic::new(matrix(kind, n, seed)).unwrap();
        let teleported = if given {
            a.teleport_to(alpha, distribution(n, seed).view()).unwrap()
        } else {
            a.teleport(alpha).unwrap()
        };
        let of_a = spectrum(&a.forward(), n, Effort::default()).unwrap().moduli();
        let of_t = spectrum(&teleported.forward(), n, Effort::default()).unwrap().moduli();
        for k in 1..n {
            prop_assert!((of_t[k] - alpha * of_a[k]).abs() < 1000.0 * TOLERANCE, "{k}: {of_t:?} {of_a:?}");
        }
    }

    #[test]
    fn steady_state_is_steady_in_both_directions(
        kind in kinds(), n in 1usize..24, alpha in 0.0..0.9999f64, back in any::<bool>(), seed in any::<u64>(),
    ) {
        let a = Stochastic::new(matrix(kind, n, seed)).unwrap();
        let direction = if back { Direction::Backward } else { Direction::Forward };
        let chain = a.teleport(alpha).unwrap().towards(direction).unwrap();
        let rank = token_rank(&chain, Stop::strict()).unwrap();
        let moved = rank.pi.dot(&chain.dense());
        prop_assert!(l1(&moved, &rank.pi) < 1e-9);
        prop_assert!((rank.pi.sum() - 1.0).abs() < 1e-12 && rank.pi.iter().all(|p| *p >= 0.0) && rank.converged);
    }

    #[test]
    fn steady_state_follows_a_relabelling(kind in kinds(), n in 2usize..20, seed in any::<u64>()) {
        let a = matrix(kind, n, seed);
        let order = crate::common::Draw::new(seed ^ 7).permutation(n);
        let relabelled = a.select(Axis(0), &order).select(Axis(1), &order);
        let rank = |a: Array2<f64>| {
            token_rank(&Stochastic::new(a).unwrap().teleport(0.99).unwrap().forward(), Stop::strict()).unwrap().pi
        };
        prop_assert!(l1(&rank(a).select(Axis(0), &order), &rank(relabelled)) < 2e-7);
    }

    #[test]
    fn doubly_stochastic_means_uniform(n in 1usize..30, alpha in 0.0..0.999f64, seed in any::<u64>()) {
        let a = Stochastic::new(doubly_stochastic(n, seed)).unwrap();
        let rank = token_rank(&a.teleport(alpha).unwrap().forward(), Stop::strict()).unwrap();
        prop_assert!(l1(&rank.pi, &Array1::from_elem(n, 1.0 / n as f64)) < 1e-6);
    }

    #[test]
    fn backward_of_doubly_stochastic_is_the_transpose(n in 1usize..20, seed in any::<u64>()) {
        let a = doubly_stochastic(n, seed);
        let chain = Stochastic::new(a.clone()).unwrap();
        let found = chain.backward().unwrap().dense();
        prop_assert!((&found - &a.t()).iter().all(|d| d.abs() < 1e-14));
        let teleported = chain.teleport(0.9).unwrap().backward().unwrap().dense();
        let want = a.t().mapv(|v| 0.9 * v + 0.1 / n as f64);
        prop_assert!((&teleported - &want).iter().all(|d| d.abs() < 1e-14));
    }

    #[test]
    fn bounces_are_powers(
        kind in kinds(), n in 1usize..16, steps in 1usize..6, alpha in 0.1..1.0f64, back in any::<bool>(),
        token in any::<prop::sample::Index>(), seed in any::<u64>(),
    ) {
        let a = Stochastic::new(matrix(kind, n, seed)).unwrap();
        let direction = if back { Direction::Backward } else { Direction::Forward };
        let chain = a.teleport_to(alpha, distribution(n, seed).view()).unwrap().towards(direction).unwrap();
        let dense = chain.dense();
        let token = token.index(n);
        let one = bounce_token(&chain, token, steps).unwrap();
        let all = bounce_batch(&chain, Array2::eye(n).view(), steps).unwrap();
        let spread = bounce(&chain, uniform(&chain).view(), steps).unwrap();
        let mut power = Array2::<f64>::eye(n);
        for step in 0..steps {
            power = power.dot(&dense);
            for j in 0..n {
                prop_assert!((one[(step, j)] - power[(token, j)]).abs() < 1e-12);
                prop_assert!((spread[(step, j)] - power.column(j).sum() / n as f64).abs() < 1e-12);
                for i in 0..n {
                    prop_assert!((all[(step, i, j)] - power[(i, j)]).abs() < 1e-12);
                }
            }
        }
    }

    #[test]
    fn teleported_chains_equal_the_formula(
        kind in kinds(), n in 1usize..16, alpha in 0.0..1.0f64, seed in any::<u64>(),
    ) {
        let a = matrix(kind, n, seed);
        let t = distribution(n, seed);
        let chain = Stochastic::new(a.clone()).unwrap();
        let full = Array2::from_shape_fn((n, n), |(i, j)| alpha * a[(i, j)] + (1.0 - alpha) * t[j]);
        let forward = chain.teleport_to(alpha, t.view()).unwrap().forward();
        prop_assert!((&to_dense(&forward, 0).unwrap() - &full).iter().all(|d| d.abs() < 1e-14));
        prop_assert!((&forward.dense() - &full).iter().all(|d| d.abs() < 1e-14));
        // Teleport first, reversal second.
        let columns = full.sum_axis(Axis(0));
        let reversed = Array2::from_shape_fn((n, n), |(j, i)| full[(i, j)] / columns[j]);
        let backward = chain.teleport_to(alpha, t.view()).unwrap().backward().unwrap();
        prop_assert!((&to_dense(&backward, 0).unwrap() - &reversed).iter().all(|d| d.abs() < 1e-13));
        prop_assert!((&backward.dense() - &reversed).iter().all(|d| d.abs() < 1e-13));
    }

    #[test]
    fn f32_storage_equals_f64(kind in kinds(), n in 2usize..20, seed in any::<u64>()) {
        let single = matrix(kind, n, seed).mapv(|v| v as f32);
        // The same numbers, stored in double precision.
        let double = Stochastic::new(single.mapv(f64::from)).unwrap();
        let single = Stochastic::new(single).unwrap();
        let rank = |a: &ndarray::Array1<f64>, b: &ndarray::Array1<f64>| l1(a, b);
        let a = token_rank(&single.teleport(0.9).unwrap().forward(), Stop::strict()).unwrap().pi;
        let b = token_rank(&double.teleport(0.9).unwrap().forward(), Stop::strict()).unwrap().pi;
        prop_assert!(rank(&a, &b) < 3e-6);
    }
}

/// The tolerance almost always holds strictly. The matrices are the same in every run, so the test does not depend on
/// chance.
#[test]
fn rough_lambda2_is_mostly_within_its_tolerance() {
    let kinds = [Kind::Softmax, Kind::Sparse, Kind::Blocks, Kind::Reversible, Kind::Doubly, Kind::Ring];
    let mut beyond = 0;
    for seed in 0..96 {
        let kind = kinds[seed as usize % kinds.len()];
        let a = matrix(kind, 60 + seed as usize % 60, seed);
        let oracle = eigenvalues(a.view()).unwrap()[1].norm();
        let found = lambda2(&Stochastic::new(a).unwrap().forward(), Effort::tolerance(1e-4)).unwrap();
        beyond += usize::from((found.modulus - oracle).abs() > 1e-4 * oracle.max(1e-3));
    }
    assert!(beyond <= 1, "{beyond} of 96");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    // Larger than one Krylov space, so that restarts and the verification of multiplicities run.
    #[test]
    fn restarted_krylov_equals_the_dense_oracle(kind in kinds(), n in 90usize..150, seed in any::<u64>()) {
        let a = matrix(kind, n, seed);
        let oracle = eigenvalues(a.view()).unwrap()[1].norm();
        let found = lambda2(&Stochastic::new(a).unwrap().forward(), Effort::default()).unwrap();
        prop_assert!(second_is(&found, oracle), "{kind:?} {found:?} {oracle}");
    }

    // The tolerance holds to first order: for a rare matrix with a cluster of eigenvalues the error is a few times
    // larger.
    #[test]
    fn rough_lambda2_is_near_its_tolerance(kind in kinds(), n in 60usize..120, seed in any::<u64>()) {
        let a = matrix(kind, n, seed);
        let oracle = eigenvalues(a.view()).unwrap()[1].norm();
        let found = lambda2(&Stochastic::new(a).unwrap().forward(), Effort::tolerance(1e-4)).unwrap();
        prop_assert!((found.modulus - oracle).abs() < 10.0 * 1e-4 * oracle.max(1e-3), "{kind:?} {found:?} {oracle}");
    }
}
