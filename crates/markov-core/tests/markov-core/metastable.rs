//! Metastable sets against a chain solved by hand, and PCCA+ memberships against deeptime's.

use markov_core::{Error, Sets, Stochastic, metastable_sets};
use ndarray::{Array2, Axis, array};

use crate::common::{Kind, matrix};

/// Two pairs of tokens; a walk leaves its pair one step in a hundred.
fn pairs() -> Array2<f64> {
    array![[0.5, 0.49, 0.01, 0.0], [0.49, 0.5, 0.0, 0.01], [0.01, 0.0, 0.5, 0.49], [0.0, 0.01, 0.49, 0.5]]
}

#[test]
fn two_pairs_by_hand() {
    let a = Stochastic::new(pairs()).unwrap();
    for sets in [Sets::Count(2), Sets::Gap(4)] {
        let found = metastable_sets(&a.forward(), sets).unwrap();
        let mut groups = found.sets.clone();
        groups.sort();
        assert_eq!(groups, [vec![0, 1], vec![2, 3]]);
        assert!(found.staying.iter().all(|p| (p - 0.99).abs() < 1e-12), "{found:?}");
        assert!((found.eigenvalues[1] - 0.98).abs() < 1e-12);
        assert!((found.crispness - 1.0).abs() < 1e-9);
        assert!(found.memberships.iter().all(|m| m.min((m - 1.0).abs()) < 1e-6));
    }
}

#[test]
fn one_set_is_everything_and_never_left() {
    let found = metastable_sets(&Stochastic::new(pairs()).unwrap().forward(), Sets::Count(1)).unwrap();
    assert_eq!(found.sets, [vec![0, 1, 2, 3]]);
    assert!((found.staying[0] - 1.0).abs() < 1e-12);
}

#[test]
fn islands_are_found_through_the_teleport() {
    let mut a = Array2::zeros((7, 7));
    for island in [0..3usize, 3..7] {
        for i in island.clone() {
            island.clone().for_each(|j| a[(i, j)] = 1.0 / island.len() as f64);
        }
    }
    let a = Stochastic::new(a).unwrap();
    assert!(matches!(metastable_sets(&a.forward(), Sets::Count(2)).unwrap_err(), Error::NotUnique { .. }));
    let found = metastable_sets(&a.teleport(0.99).unwrap().forward(), Sets::Gap(5)).unwrap();
    assert_eq!(found.sets, [vec![3, 4, 5, 6], vec![0, 1, 2]]);
    // Staying in the larger set: by following the chain, or by jumping back into the set.
    assert!((found.staying[0] - (0.99 + 0.01 * 4.0 / 7.0)).abs() < 1e-9);
}

#[test]
fn memberships_are_shares_for_any_chain() {
    for (seed, kind) in crate::common::KINDS.into_iter().enumerate() {
        for sets in 1..=4 {
            let a = Stochastic::new(matrix(kind, 25, seed as u64)).unwrap();
            let found = metastable_sets(&a.teleport(0.99).unwrap().forward(), Sets::Count(sets)).unwrap();
            assert_eq!(found.memberships.dim(), (25, sets));
            assert!(found.memberships.iter().all(|m| (0.0..=1.0).contains(m)));
            assert!(found.memberships.sum_axis(Axis(1)).iter().all(|sum| (sum - 1.0).abs() < 1e-12));
            assert!(found.staying.iter().all(|p| (-1e-12..=1.0 + 1e-12).contains(p)));
            assert!((found.weights.iter().sum::<f64>() - 1.0).abs() < 1e-12);
            assert_eq!(found.sets.iter().map(Vec::len).sum::<usize>(), 25);
            assert!((0.0..=1.0).contains(&found.crispness));
        }
    }
    let a = Stochastic::new(matrix(Kind::Softmax, 4, 1)).unwrap();
    assert!(metastable_sets(&a.forward(), Sets::Count(0)).is_err());
    assert!(metastable_sets(&a.forward(), Sets::Gap(5)).is_err());
    // A transient state is 0 in the steady state.
    let transient = Stochastic::new(array![[0.5, 0.5], [0.0, 1.0]]).unwrap();
    assert!(matches!(
        metastable_sets(&transient.forward(), Sets::Count(2)).unwrap_err(),
        Error::Distribution { .. }
    ));
}

#[test]
fn memberships_equal_deeptimes() {
    let golden: serde_json::Value = serde_json::from_str(include_str!("../fixtures/pcca.json")).unwrap();
    for case in golden["cases"].as_array().unwrap() {
        let name = &case["name"];
        let numbers = |key: &str| -> Vec<f64> {
            case[key].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
        };
        let size = |key: &str| case[key].as_u64().unwrap() as usize;
        let (n, sets) = (size("states"), size("sets"));
        let chain = Stochastic::new(Array2::from_shape_vec((n, n), numbers("chain")).unwrap()).unwrap();
        let theirs = Array2::from_shape_vec((n, sets), numbers("memberships")).unwrap();
        let found = metastable_sets(&chain.forward(), Sets::Count(sets)).unwrap();
        // The order of the sets is free: match each of ours with the nearest of theirs.
        let mut taken = vec![false; sets];
        for ours in found.memberships.columns() {
            let distance =
                |j: usize| (&ours - &theirs.column(j)).mapv(f64::abs).fold(0.0, |a: f64, b| a.max(*b));
            let nearest = (0..sets).min_by(|a, b| distance(*a).total_cmp(&distance(*b))).unwrap();
            assert!(distance(nearest) < 2e-3, "{name}: {}", distance(nearest));
            assert!(!std::mem::replace(&mut taken[nearest], true), "{name}");
        }
    }
}
