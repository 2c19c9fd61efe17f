//! Chains whose answers can be checked by hand, and the edge cases by name.

use markov_core::{
    Effort, Error, HeadWeights, Method, Stochastic, Stop, bounce, bounce_token, heads, lambda2, lambda2_many,
    power_method, spectrum, token_rank, token_rank_many, uniform, weigh_heads, weighted_mean,
};
use ndarray::{Array1, Array2, Array3, Axis, array, s};

use crate::common::l1;

/// Tokens 1 and 2 look at 0, which looks at 3, which looks at 4; 4 looks at itself and back at 1 and 2.
///
/// By hand: column sums (2, 1/4, 1/4, 1, 3/2) rank 0 first. π₁ = π₂ = π₄/4, π₀ = π₁ + π₂ = π₃ = π₄/2, so
/// π = (2, 1, 1, 2, 4)/10 ranks 4 first. After two steps 3 leads.
fn five_states() -> Array2<f64> {
    array![
        [0.0, 0.0, 0.0, 1.0, 0.0],
        [1.0, 0.0, 0.0, 0.0, 0.0],
        [1.0, 0.0, 0.0, 0.0, 0.0],
        [0.0, 0.0, 0.0, 0.0, 1.0],
        [0.0, 0.25, 0.25, 0.0, 0.5],
    ]
}

fn first(ranked: &Array1<f64>) -> usize {
    (0..ranked.len()).max_by(|a, b| ranked[*a].total_cmp(&ranked[*b])).unwrap_or(0)
}

#[test]
fn column_sum_and_steady_state_rank_different_tokens_first() {
    let a = Stochastic::new(five_states()).unwrap();
    let states = bounce(&a.forward(), uniform(&a.forward()).view(), 2).unwrap();
    assert!(l1(&states.row(0).to_owned(), &(array![2.0, 0.25, 0.25, 1.0, 1.5] / 5.0)) < 1e-15);
    assert!(l1(&states.row(1).to_owned(), &(array![0.5, 0.375, 0.375, 2.0, 1.75] / 5.0)) < 1e-15);
    let rank = token_rank(&a.forward(), Stop::strict()).unwrap();
    assert!(l1(&rank.pi, &array![0.2, 0.1, 0.1, 0.2, 0.4]) < 1e-14, "{rank:?}");
    assert_eq!(
        [first(&states.row(0).to_owned()), first(&states.row(1).to_owned()), first(&rank.pi)],
        [0, 3, 4]
    );
    // Teleport keeps the order.
    let rank = token_rank(&a.teleport(0.99).unwrap().forward(), Stop::strict()).unwrap();
    assert_eq!(first(&rank.pi), 4);
}

#[test]
fn backward_walk_reads_columns() {
    let a = Stochastic::new(five_states()).unwrap();
    let back = a.backward().unwrap();
    let states = bounce_token(&back, 4, 2).unwrap();
    // Column 4 is (0, 0, 0, 1, 1/2), summing to 3/2; column 3 is all from 0.
    assert!(l1(&states.row(0).to_owned(), &array![0.0, 0.0, 0.0, 2.0 / 3.0, 1.0 / 3.0]) < 1e-15);
    assert!(l1(&states.row(1).to_owned(), &array![2.0 / 3.0, 0.0, 0.0, 2.0 / 9.0, 1.0 / 9.0]) < 1e-15);
}

#[test]
fn power_method_counts_as_the_reference_does() {
    // From the uniform state the first step changes 0.5 · |a - b| in total twice; each later one λ₂ = 0.4 of that.
    let a = Stochastic::new(array![[0.9, 0.1], [0.5, 0.5]]).unwrap();
    let rank = token_rank(&a.forward(), Stop::reference()).unwrap();
    let mut change = 0.4;
    let mut count = 1;
    while change >= 1e-5 {
        change *= 0.4;
        count += 1;
    }
    assert_eq!(rank.iterations, count);
    assert!((rank.residual - change).abs() < 1e-15 && rank.converged);
    let stopped = token_rank(&a.forward(), Stop::power(1e-5, 3)).unwrap();
    assert_eq!((stopped.iterations, stopped.converged), (3, false));
    let state = bounce(&a.forward(), array![0.5, 0.5].view(), 3).unwrap();
    assert!(l1(&stopped.pi, &state.row(2).to_owned()) < 1e-15);
}

#[test]
fn rows_of_a_block_stop_one_by_one() {
    let a = Stochastic::new(array![[0.9, 0.1], [0.5, 0.5]]).unwrap();
    let found =
        power_method(&a.forward(), array![[5.0 / 6.0, 1.0 / 6.0], [0.0, 1.0]], Stop::reference()).unwrap();
    assert_eq!(found[0].iterations, 1);
    assert!(found[1].iterations > 5);
    assert!(l1(&found[0].pi, &found[1].pi) < 1e-5);
}

#[test]
fn strict_is_exact_for_the_slowest_teleported_chain() {
    // Two islands that never meet: T has λ₂ = α exactly, and the uneven start must still even out.
    let a = array![[1.0, 0.0, 0.0], [0.0, 0.5, 0.5], [0.0, 0.5, 0.5]];
    for alpha in [0.99, 0.9999, 0.999_999] {
        let rank = token_rank(
            &Stochastic::new(a.clone()).unwrap().teleport(alpha).unwrap().forward(),
            Stop::strict(),
        );
        assert!(l1(&rank.unwrap().pi, &Array1::from_elem(3, 1.0 / 3.0)) < 1e-6);
    }
    let slow = array![[1.0 - 1e-7, 1e-7], [3e-7, 1.0 - 3e-7]];
    let rank = token_rank(&Stochastic::new(slow).unwrap().forward(), Stop::strict()).unwrap();
    assert!(l1(&rank.pi, &array![0.75, 0.25]) < 1e-8);
}

#[test]
fn edge_one_state() {
    let a = Stochastic::new(array![[1.0]]).unwrap();
    assert_eq!(token_rank(&a.forward(), Stop::strict()).unwrap().pi, array![1.0]);
    assert_eq!(
        token_rank(&a.teleport(0.5).unwrap().backward().unwrap(), Stop::reference()).unwrap().pi,
        array![1.0]
    );
    assert_eq!(lambda2(&a.forward(), Effort::default()).unwrap().modulus, 0.0);
    assert_eq!(spectrum(&a.forward(), 5, Effort::default()).unwrap().moduli(), [1.0]);
    assert_eq!(bounce_token(&a.forward(), 0, 2).unwrap(), array![[1.0], [1.0]]);
}

#[test]
fn edge_identity() {
    for n in [2, 5, 300] {
        let a = Stochastic::new(Array2::<f64>::eye(n)).unwrap();
        for stop in [Stop::strict(), Stop::reference()] {
            match token_rank(&a.forward(), stop) {
                Err(Error::NotUnique { classes, .. }) => assert_eq!(classes, n),
                other => panic!("{other:?}"),
            }
        }
        let uniform = token_rank(&a.teleport(0.99).unwrap().forward(), Stop::strict()).unwrap();
        assert!(l1(&uniform.pi, &Array1::from_elem(n, 1.0 / n as f64)) < 1e-9);
        assert!((lambda2(&a.forward(), Effort::default()).unwrap().modulus - 1.0).abs() < 1e-12);
        let moduli = spectrum(&a.forward(), 4, Effort::default()).unwrap().moduli();
        assert_eq!(moduli.len(), n.min(4));
        assert!(moduli.iter().all(|m| (m - 1.0).abs() < 1e-12));
    }
}

#[test]
fn edge_periodic() {
    for n in [2usize, 3, 150] {
        let a = Array2::from_shape_fn((n, n), |(i, j)| f64::from(u8::from(j == (i + 1) % n)));
        let a = Stochastic::new(a).unwrap();
        // The uniform state is steady, but no other start converges to it: refused with every rule.
        for stop in [Stop::strict(), Stop::reference()] {
            match token_rank(&a.forward(), stop) {
                Err(Error::Periodic { period, residual }) => {
                    assert_eq!(period, n);
                    assert!((residual - 2.0).abs() < 1e-12);
                }
                other => panic!("{other:?}"),
            }
        }
        assert!((lambda2(&a.forward(), Effort::default()).unwrap().modulus - 1.0).abs() < 1e-9);
        let rank = token_rank(&a.teleport(0.99).unwrap().forward(), Stop::strict()).unwrap();
        assert!(l1(&rank.pi, &Array1::from_elem(n, 1.0 / n as f64)) < 1e-9);
    }
}

#[test]
fn edge_reducible() {
    // Two closed classes: refused. One closed class behind a transient state: unique, the transient state has 0.
    let two = Stochastic::new(array![[1.0, 0.0, 0.0], [0.5, 0.0, 0.5], [0.0, 0.0, 1.0]]).unwrap();
    let error = token_rank(&two.forward(), Stop::strict()).unwrap_err();
    assert!(matches!(error, Error::NotUnique { classes: 2, .. }));
    assert!(error.to_string().contains("residual"));
    let one = Stochastic::new(array![[0.5, 0.5, 0.0], [0.0, 0.5, 0.5], [0.0, 0.25, 0.75]]).unwrap();
    let rank = token_rank(&one.forward(), Stop::strict()).unwrap();
    assert!(l1(&rank.pi, &array![0.0, 1.0 / 3.0, 2.0 / 3.0]) < 1e-14);
    // Nobody attends to state 1 of `two`: it has no backward row until teleport gives it one.
    assert!(matches!(two.backward().unwrap_err(), Error::NoBackwardRow { column: 1 }));
    assert!(two.teleport(0.99).unwrap().backward().is_ok());
    assert!((lambda2(&two.forward(), Effort::default()).unwrap().modulus - 1.0).abs() < 1e-12);
}

#[test]
fn edge_rank_one() {
    for n in [2, 7, 300] {
        let t = crate::common::distribution(n, 5);
        let a = Stochastic::new(Array2::from_shape_fn((n, n), |(_, j)| t[j])).unwrap();
        assert!(lambda2(&a.forward(), Effort::default()).unwrap().modulus < 1e-13);
        let rank = token_rank(&a.forward(), Stop::strict()).unwrap();
        assert!(l1(&rank.pi, &t) < 1e-13);
        let moduli = spectrum(&a.forward(), 3, Effort::default()).unwrap().moduli();
        assert!(moduli[0] == 1.0 && moduli[1..].iter().all(|m| *m < 1e-7));
    }
}

#[test]
fn edge_rows_off_by_a_thousandth() {
    let near = Stochastic::new(array![[0.9f64 + 9e-4, 0.1], [0.5, 0.5 - 9e-4]]).unwrap();
    assert!(near.values().sum_axis(Axis(1)).iter().all(|sum: &f64| (sum - 1.0).abs() < 1e-15));
    assert!((near.values()[(0, 0)] - 0.9009f64 / 1.0009).abs() < 1e-15);
    let error = Stochastic::new(array![[0.9, 0.1], [0.5, 0.5 + 1.1e-3]]).unwrap_err();
    let Error::RowSum { row, sum, tolerance } = error else { panic!("{error:?}") };
    assert_eq!((row, tolerance), (1, 1e-3));
    assert!((sum - 1.0011).abs() < 1e-12);
    assert!(Stochastic::with_tolerance(array![[0.9, 0.1], [0.5, 0.6]], 0.2).is_ok());
    assert!(Stochastic::with_tolerance(array![[0.9, 0.1], [0.0, 0.0]], 10.0).is_err());
}

#[test]
fn edge_not_a_number() {
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let error = Stochastic::new(array![[0.5, 0.5], [bad, 0.5]]).unwrap_err();
        assert!(matches!(error, Error::NotFinite { row: 1, column: 0, .. }), "{error:?}");
    }
    // Also in the vectorised part of a long row.
    let mut long = Array2::<f32>::from_elem((40, 40), 1.0 / 40.0);
    long[(33, 17)] = f32::NAN;
    assert!(matches!(Stochastic::new(long).unwrap_err(), Error::NotFinite { row: 33, column: 17, .. }));
}

#[test]
fn edge_negative() {
    let error = Stochastic::new(array![[1.0, 0.0], [1.0 + 1e-9, -1e-9]]).unwrap_err();
    assert!(matches!(error, Error::Negative { row: 1, column: 1, .. }), "{error:?}");
    let mut long = Array2::<f64>::from_elem((40, 40), 1.0 / 40.0);
    long[(3, 16)] = -1e-12;
    assert!(matches!(Stochastic::new(long).unwrap_err(), Error::Negative { row: 3, column: 16, .. }));
    assert!(Stochastic::new(array![[1.0, -0.0], [0.0, 1.0]]).is_ok());
}

#[test]
fn edge_empty_and_not_square() {
    assert!(matches!(Stochastic::<f64>::new(Array2::zeros((0, 0))).unwrap_err(), Error::Empty));
    let error = Stochastic::<f64>::new(Array2::from_elem((2, 3), 1.0 / 3.0)).unwrap_err();
    assert!(matches!(error, Error::NotSquare { rows: 2, columns: 3 }));
}

#[test]
fn impossible_requests_are_refused() {
    let a = Stochastic::new(five_states()).unwrap();
    assert!(matches!(a.teleport(1.5).unwrap_err(), Error::Alpha(_)));
    assert!(a.teleport(f64::NAN).is_err());
    assert!(matches!(
        bounce_token(&a.forward(), 5, 1).unwrap_err(),
        Error::NoSuchToken { token: 5, states: 5 }
    ));
    assert!(a.teleport_to(0.9, array![0.5, 0.5].view()).is_err());
    assert!(a.teleport_to(0.9, array![0.5, 0.5, 0.5, 0.5, -1.0].view()).is_err());
    assert!(bounce(&a.forward(), array![1.0, 1.0, 1.0, 1.0, 1.0].view(), 1).is_err());
    assert!(spectrum(&a.forward(), 0, Effort::default()).is_err());
}

#[test]
fn teleport_to_some_states_only() {
    // All jumps go to 0: state 1 is never entered again, so its entry in the steady state is 0, and the chain can still be ranked.
    let a = Stochastic::new(array![[1.0, 0.0], [0.0, 1.0]]).unwrap();
    let chain = a.teleport_to(0.9, array![1.0, 0.0].view()).unwrap();
    let rank = token_rank(&chain.clone().forward(), Stop::strict()).unwrap();
    assert!(l1(&rank.pi, &array![1.0, 0.0]) < 1e-9);
    // Backwards 1 only leads to itself and 0 leads to both.
    let rank = token_rank(&chain.backward().unwrap(), Stop::strict()).unwrap();
    assert!(l1(&rank.pi, &array![0.0, 1.0]) < 1e-9);
}

#[test]
fn repeated_eigenvalues_are_all_found_by_krylov() {
    // Four equal blocks of rank one: eigenvalues 1 (simple), 0.9 three times, then zeros.
    let (n, blocks) = (320, 4);
    let a = Array2::from_shape_fn((n, n), |(i, j)| {
        let inside = i * blocks / n == j * blocks / n;
        (if inside { 0.9 } else { 0.0 }) / (n / blocks) as f64 + 0.1 / n as f64
    });
    let found = spectrum(&Stochastic::new(a).unwrap().forward(), 6, Effort::default()).unwrap();
    assert_eq!(found.method, Method::Krylov);
    for (modulus, want) in found.moduli().iter().zip([1.0, 0.9, 0.9, 0.9, 0.0, 0.0]) {
        assert!((modulus - want).abs() < 1e-8, "{found:?}");
    }
}

#[test]
fn krylov_top_moduli_of_large_chains_equal_the_dense_oracle() {
    for (kind, seed) in crate::common::KINDS.into_iter().zip(1..) {
        if matches!(kind, crate::common::Kind::Downhill) {
            continue;
        }
        let a = crate::common::matrix(kind, 270, seed);
        let oracle = markov_core::spectrum::eigenvalues(a.view()).unwrap();
        let found = spectrum(&Stochastic::new(a).unwrap().forward(), 6, Effort::default()).unwrap();
        for (modulus, value) in found.moduli().iter().zip(&oracle) {
            assert!((modulus - value.norm()).abs() < 1e-7, "{kind:?} {found:?} {:?}", &oracle[..7]);
        }
    }
}

#[test]
fn many_matrices_equal_one_by_one() {
    let mut maps = Array3::<f32>::zeros((5, 41, 41));
    for (i, mut map) in maps.axis_iter_mut(Axis(0)).enumerate() {
        map.assign(&crate::common::matrix(crate::common::Kind::Softmax, 41, i as u64).mapv(|v| v as f32));
    }
    let ranks = token_rank_many(maps.view(), 0.99, Stop::strict()).unwrap();
    let lambdas = lambda2_many(maps.view(), 1e-9).unwrap();
    let summaries = heads(maps.view(), 0.99, Stop::reference(), Effort::default()).unwrap();
    for i in 0..5 {
        let a = Stochastic::new(maps.index_axis(Axis(0), i).to_owned()).unwrap();
        let rank = token_rank(&a.teleport(0.99).unwrap().forward(), Stop::strict()).unwrap();
        assert!(l1(&ranks.row(i).to_owned(), &rank.pi) < 1e-6);
        assert!(l1(&summaries[i].rank.pi, &rank.pi) < 1e-3);
        let lambda = lambda2(&a.forward(), Effort::default()).unwrap().modulus;
        assert!((lambdas[i] - lambda).abs() < 1e-7 && (summaries[i].lambda2.modulus - lambda).abs() < 1e-7);
    }
    // A window of larger maps (not contiguous) is accepted as input; it is not a stochastic matrix, and the error names
    // the matrix.
    match lambda2_many(maps.slice(s![.., 1.., 1..]), 1e-4) {
        Err(Error::Matrix { index: 0, source }) => assert!(matches!(*source, Error::RowSum { .. })),
        other => panic!("{other:?}"),
    }
}

#[test]
fn heads_are_weighed_by_lambda2() {
    assert!(l1(&weigh_heads(&[0.2, 0.6], HeadWeights::Proportional).unwrap(), &array![0.25, 0.75]) < 1e-15);
    assert_eq!(weigh_heads(&[0.2, 0.6, 0.6], HeadWeights::Top(2)).unwrap(), array![0.0, 0.5, 0.5]);
    assert_eq!(weigh_heads(&[0.0, 0.0], HeadWeights::Proportional).unwrap(), array![0.5, 0.5]);
    assert!(weigh_heads(&[], HeadWeights::Uniform).is_err());
    assert!(weigh_heads(&[0.1, f64::NAN], HeadWeights::Uniform).is_err());
    assert!(weigh_heads(&[0.1], HeadWeights::Top(2)).is_err());
    let maps = array![[[1.0f32, 0.0], [0.0, 1.0]], [[0.0, 1.0], [1.0, 0.0]]];
    assert_eq!(weighted_mean(maps.view(), &[0.25, 0.75]).unwrap(), array![[0.25, 0.75], [0.75, 0.25]]);
    assert!(weighted_mean(maps.view(), &[1.0]).is_err());
}
