//! Expected visits before absorption, and chains among some of the tokens, against dense linear algebra.

use markov_core::{Direction, Error, Stochastic, Storage, absorption, bounce};
use ndarray::{Array1, Array2, array, s};
use proptest::prelude::*;

use crate::common::{Kind, distribution, l1, matrix, normalise};

/// `Σ_k Q^k`, summed until nothing is added: the definition of the fundamental matrix, without any solver.
fn series(dense: &Array2<f64>, absorbing: &[usize]) -> Array2<f64> {
    let n = dense.nrows();
    let mut q = dense.clone();
    for &a in absorbing {
        q.row_mut(a).fill(0.0);
        q.column_mut(a).fill(0.0);
    }
    let mut power = Array2::eye(n);
    absorbing.iter().for_each(|a| power[(*a, *a)] = 0.0);
    let mut total = power.clone();
    // N = (I + Q)(I + Q²)(I + Q⁴)…: doubling, so that slow chains end as well.
    for _ in 0..40 {
        total = &total + &q.dot(&total);
        q = q.dot(&q);
        power = q.clone();
    }
    assert!(power.iter().all(|p| *p < 1e-13), "the series has not ended");
    total
}

/// Random causal attention: softmax of logits over the token itself and the earlier ones.
fn causal(n: usize, seed: u64) -> Array2<f64> {
    let mut draw = crate::common::Draw::new(seed);
    let scale = 0.1 + 3.0 * draw.unit();
    normalise(Array2::from_shape_fn(
        (n, n),
        |(i, j)| if j <= i { (scale * draw.normal()).exp() } else { 0.0 },
    ))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn visits_equal_the_series_of_powers(
        shape in 0usize..3, n in 2usize..24, count in 1usize..4, back in any::<bool>(), seed in any::<u64>(),
    ) {
        let a = match shape {
            0 => causal(n, seed),
            1 => matrix(Kind::Softmax, n, seed),
            _ => matrix(Kind::Reversible, n, seed),
        };
        let mut draw = crate::common::Draw::new(seed ^ 0xab);
        // A causal walk ends on token 0, or backwards on the last.
        let mut absorbing: Vec<usize> = (1..count).map(|_| draw.below(n)).collect();
        absorbing.push(if shape == 0 && back { n - 1 } else { 0 });
        let a = Stochastic::new(a).unwrap();
        let direction = if back { Direction::Backward } else { Direction::Forward };
        let chain = a.teleport(1.0).unwrap().towards(direction).unwrap();
        let found = absorption(&chain, &absorbing).unwrap();
        let expected = series(&chain.dense(), &absorbing);
        let scale = expected.sum().max(1.0);
        // A chain that leaves a state once in many steps has a diagonal entry near 1, which has lost digits by rounding: the
        // series, which reads it, errs in proportion to the visits. The result does not read the diagonal.
        let lost = 2.0 * f64::EPSILON * scale;
        let allowed = (1e-8 + lost) * scale;

        let all = found.visits_from_each();
        prop_assert!((&all - &expected).mapv(f64::abs).sum() < allowed);
        let start = distribution(n, seed);
        prop_assert!(l1(&found.visits(start.view()).unwrap(), &start.dot(&expected)) < allowed);
        prop_assert!(l1(&found.steps(), &expected.sum_axis(ndarray::Axis(1))) < allowed);

        // The rows of N·R are distributions over the absorbing states; an absorbing state ends in itself.
        let ends = found.probabilities();
        absorbing.sort_unstable();
        absorbing.dedup();
        prop_assert_eq!(found.absorbing(), &absorbing[..]);
        prop_assert!(ends.sum_axis(ndarray::Axis(1)).iter().all(|sum| (sum - 1.0).abs() < 1e-9));
        for (k, state) in absorbing.iter().enumerate() {
            prop_assert_eq!(ends[(*state, k)], 1.0);
            prop_assert_eq!(found.steps()[*state], 0.0);
            let leaving: Array1<f64> = chain.dense().column(*state).to_owned();
            let expected = expected.dot(&leaving);
            for state in found.transient() {
                prop_assert!((ends[(*state, k)] - expected[*state]).abs() < 1e-9 + lost);
            }
        }
    }

    #[test]
    fn a_restricted_chain_is_the_block_renormalised(
        n in 2usize..16, cut in any::<u64>(), seed in any::<u64>(),
    ) {
        let a = matrix(Kind::Softmax, n, seed);
        let dropped: Vec<usize> = (0..n).filter(|i| cut >> i & 1 == 1).collect();
        let kept: Vec<usize> = (0..n).filter(|i| cut >> i & 1 == 0).collect();
        let found = Stochastic::restricted(a.view(), &dropped, 1e-3);
        if kept.is_empty() {
            prop_assert!(matches!(found, Err(Error::Empty)));
            return Ok(());
        }
        let block = Array2::from_shape_fn((kept.len(), kept.len()), |(i, j)| a[(kept[i], kept[j])]);
        let found = found.unwrap();
        prop_assert!((&found.values() - &normalise(block)).mapv(f64::abs).sum() < 1e-12);
        // Padding: the values of dropped rows and columns do not matter.
        let mut padded = a.clone();
        for &token in &dropped {
            padded.row_mut(token).fill(f64::NAN);
            padded.column_mut(token).fill(if cut % 3 == 0 { f64::NAN } else { 0.0 });
        }
        let again = Stochastic::restricted(padded.view(), &dropped, 1e-3).unwrap();
        prop_assert_eq!(again, found);
    }

    #[test]
    fn written_out_chains_equal_their_steps(
        n in 1usize..12, alpha in 0.0..1.0f64, back in any::<bool>(), given in any::<bool>(), seed in any::<u64>(),
    ) {
        let a = Stochastic::new(matrix(Kind::Sparse, n, seed)).unwrap();
        let teleported = if given {
            a.teleport_to(alpha, distribution(n, seed).view()).unwrap()
        } else {
            a.teleport(alpha).unwrap()
        };
        let direction = if back { Direction::Backward } else { Direction::Forward };
        let chain = teleported.towards(direction).unwrap();
        let start = distribution(n, seed ^ 1);
        let stepped = bounce(&chain, start.view(), 1).unwrap().row(0).to_owned();
        prop_assert!(l1(&start.dot(&chain.dense()), &stepped) < 1e-12);
    }
}

/// The gambler's ruin: fair steps on a line of `n + 1` states, absorbed at both ends.
#[test]
fn the_gamblers_ruin() {
    let n = 12;
    let a = Array2::from_shape_fn((n + 1, n + 1), |(i, j)| if i.abs_diff(j) == 1 { 1.0 } else { 0.0 });
    let a = Stochastic::new(normalise(a)).unwrap();
    let found = absorption(&a.forward(), &[n, 0, n]).unwrap();
    assert_eq!((found.absorbing(), found.transient().len()), (&[0, n][..], n - 1));
    for i in 0..=n {
        assert!((found.steps()[i] - (i * (n - i)) as f64).abs() < 1e-10);
        assert!((found.probabilities()[(i, 1)] - i as f64 / n as f64).abs() < 1e-12);
        for j in 1..n {
            // N[i, j] = 2 min(i, j) (n - max(i, j)) / n.
            let expected =
                if i == 0 || i == n { 0.0 } else { (2 * i.min(j) * (n - i.max(j))) as f64 / n as f64 };
            assert!((found.visits_from_each()[(i, j)] - expected).abs() < 1e-10, "{i} {j}");
        }
    }
}

#[test]
fn a_walk_that_lingers_keeps_its_digits() {
    // 1 - Q[1, 1] loses all digits; the sum of the other transitions does not.
    let slow = 1e-14;
    let a = array![[1.0, 0.0, 0.0], [slow, 1.0 - slow, 0.0], [0.5, 0.25, 0.25]];
    let found = absorption(&Stochastic::new(a).unwrap().forward(), &[0]).unwrap();
    assert!((found.steps()[1] * slow - 1.0).abs() < 1e-9, "{}", found.steps());
    assert!((found.visits(array![0.0, 0.0, 1.0].view()).unwrap()[1] * slow * 3.0 - 1.0).abs() < 1e-9);
}

#[test]
fn walks_that_never_end_are_refused() {
    // States 2 and 3 lead only to each other.
    let a = array![[1.0, 0.0, 0.0, 0.0], [0.5, 0.5, 0.0, 0.0], [0.0, 0.0, 0.5, 0.5], [0.0, 0.0, 0.5, 0.5]];
    let a = Stochastic::new(a).unwrap();
    let refused = absorption(&a.forward(), &[0]);
    assert!(matches!(refused, Err(Error::NotAbsorbed { state: 2, count: 2, transient: 3 })), "{refused:?}");
    assert!(matches!(absorption(&a.forward(), &[]), Err(Error::NotAbsorbed { state: 0, .. })));
    assert!(matches!(absorption(&a.forward(), &[0, 4]), Err(Error::NoSuchToken { token: 4, states: 4 })));
    // With one of them absorbing, every walk ends.
    let ends = absorption(&a.forward(), &[0, 3]).unwrap().probabilities();
    assert!((&ends - &array![[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]).mapv(f64::abs).sum() < 1e-12);
    // A transition too weak for floats counts as none.
    let weak = array![[1.0, 0.0], [1e-320, 1.0]];
    let weak = absorption(&Stochastic::new(weak).unwrap().forward(), &[0]);
    assert!(matches!(weak, Err(Error::NotAbsorbed { state: 1, .. })), "{weak:?}");
}

#[test]
fn all_states_may_absorb() {
    let a = Stochastic::new(array![[0.5, 0.5], [0.5, 0.5]]).unwrap();
    let found = absorption(&a.forward(), &[0, 1]).unwrap();
    assert_eq!(found.visits(array![0.5, 0.5].view()).unwrap(), array![0.0, 0.0]);
    assert_eq!(found.visits_from_each(), Array2::<f64>::zeros((2, 2)));
    assert_eq!(found.probabilities(), Array2::<f64>::eye(2));
    let refused = found.visits(array![0.5, 0.6].view());
    assert!(matches!(refused, Err(Error::Distribution { .. })));
}

#[test]
fn restrictions_that_leave_nothing_are_refused() {
    let a = array![[1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.2, 0.0, 0.8]];
    let lost = Stochastic::restricted(array![[0.0, 1.0], [0.5, 0.5]].view(), &[1], 1e-3);
    assert!(matches!(lost, Err(Error::RowLost { row: 0 })), "{lost:?}");
    let nan = array![[1.0, 0.0, 0.0], [f64::NAN, 0.5, 0.0], [0.2, 0.0, 0.8]];
    let found = Stochastic::restricted(nan.view(), &[2], 1e-3);
    assert!(matches!(found, Err(Error::NotFinite { row: 1, column: 0, .. })), "{found:?}");
    assert!(matches!(Stochastic::restricted(a.view(), &[3], 1e-3), Err(Error::NoSuchToken { token: 3, .. })));
    assert!(matches!(Stochastic::restricted(a.slice(s![..2, ..]), &[0], 1e-3), Err(Error::NotSquare { .. })));
    let large = Stochastic::restricted((&a * 1.5).view(), &[0], 1e-3);
    assert!(matches!(large, Err(Error::RowSum { row: 1, .. })), "{large:?}");
    let negative = Stochastic::restricted(array![[1.2, -0.2], [0.5, 0.5]].view(), &[], 1e-3);
    assert!(matches!(negative, Err(Error::Negative { row: 0, column: 1, .. })), "{negative:?}");
    // A sum below 1 is valid: the rest went to tokens outside of the matrix, such as a removed sink.
    let sink = Stochastic::restricted((&a * 0.6).view(), &[0], 1e-3).unwrap();
    assert_eq!(sink.values(), array![[1.0, 0.0], [0.0, 1.0]]);
}

/// Rounding entries to `bits` significant bits moves a row sum by less than the tolerance of that storage type, even if
/// every entry is rounded in the same direction by the largest possible amount.
#[test]
fn tolerances_follow_the_storage() {
    for (storage, bits) in [(Storage::Bf16, 8), (Storage::F16, 11)] {
        let unit = 2f64.powi(-bits);
        // n equal entries, each just above the midpoint between two numbers.
        let furthest = (2..2000)
            .map(|n| {
                let exact = 1.0 / f64::from(n);
                let step = 2f64.powi(exact.log2().floor() as i32) * 2.0 * unit;
                ((exact / step).round() * step * f64::from(n) - 1.0).abs()
            })
            .fold(0.0, f64::max);
        assert!(furthest > 0.4 * unit && furthest < storage.row_tolerance() / 2.0, "{furthest}");
    }
    assert_eq!(Storage::F64.row_tolerance(), Storage::F32.row_tolerance());
}
