//! Chains with several components: causal maps, windows, prefixes, islands, and nearly reducible chains.

use markov_core::spectrum::{eigenvalues, to_dense};
use markov_core::{
    Components, Direction, Effort, Mask, Method, Propagate, QueryKey, RowStochastic, Spectrum, Stochastic,
    heads, lambda2, lambda2_many, spectrum,
};
use ndarray::{Array2, Array3, Axis};
use proptest::prelude::*;

use crate::common::{Draw, normalise};

/// The rules of `tools/golden_spectra.py`: whole numbers, so that both see the same matrix.
fn weight(rule: &str, n: usize, i: usize, j: usize) -> f64 {
    let base = (1 + (7 * i + 13 * j + i * j) % 11) as f64;
    let causal = if j <= i { base } else { 0.0 };
    let previous = |extra: f64| if j + 1 == i { extra } else { 0.0 };
    match rule {
        "causal" => causal,
        "previous_token" => causal + previous(3000.0),
        "first_token" => causal + if j == 0 { 900.0 } else { 0.0 },
        "window" => {
            if j <= i && i - j < 8 {
                base + previous(300.0)
            } else {
                0.0
            }
        }
        "prefix" => {
            if j <= i || (i < n / 3 && j < n / 3) {
                base + previous(50.0)
            } else {
                0.0
            }
        }
        "blocks" => {
            if 4 * i / n == 4 * j / n {
                base + if i == j { 40.0 } else { 0.0 }
            } else {
                0.0
            }
        }
        "relabelled" => weight("prefix", n, 7 * i % n, 7 * j % n),
        "jordan" if i == 0 => {
            if j == 0 {
                1.0
            } else {
                0.0
            }
        }
        "jordan" => {
            if j == i || j + 1 == i {
                4.0
            } else {
                0.0
            }
        }
        "nearly_causal" => causal * 1e10 + if j == i + 1 { 1.0 } else { 0.0 },
        "graded" => match i.abs_diff(j) {
            0 => 500.0,
            1 if j > i => 400.0,
            1 => 100.0 - 9.0 * (i as f64).min(11.0),
            _ => 0.0,
        },
        other => panic!("no rule {other}"),
    }
}

fn map(rule: &str, n: usize) -> Stochastic<f64> {
    Stochastic::new(normalise(Array2::from_shape_fn((n, n), |(i, j)| weight(rule, n, i, j))))
        .expect("stochastic")
}

/// Every modulus is right, or its reported error is at least a tenth of the true error.
fn right_or_error_reported(found: &Spectrum, want: &[f64], at: &str) {
    let errors = found.errors();
    for (k, (modulus, want)) in found.moduli().iter().zip(want).enumerate() {
        let off = (modulus - want).abs();
        assert!(off < 1e-8 || errors[k] > 0.1 * off, "{at}: {k}: {modulus} {want} ± {}", errors[k]);
    }
}

#[test]
fn moduli_equal_those_of_mpmath_and_lapack() {
    let cases: Vec<serde_json::Value> =
        serde_json::from_str(include_str!("../fixtures/spectra.json")).unwrap();
    assert_eq!(cases.len(), 26);
    for case in cases {
        let (rule, n) = (case["rule"].as_str().unwrap(), case["states"].as_u64().unwrap() as usize);
        let want: Vec<f64> = case["moduli"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
        let a = map(rule, n);
        for k in [2, want.len(), n] {
            let found = spectrum(&a.forward(), k, Effort::default()).unwrap();
            assert!(found.converged && found.values.len() == k);
            assert_eq!(found.moduli()[0], 1.0);
            let at = format!("{rule} {n}, {k} wanted, {:?}", found.method);
            right_or_error_reported(&found, &want, &at);
            // Only nearly reducible matrices may have large errors.
            let worst = found.moduli().iter().zip(&want).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(worst < 1e-9 || rule == "nearly_causal", "{at}: {worst:e}");
            let said = found.errors().into_iter().take(want.len()).fold(0.0, f64::max);
            println!("{at}: off by {worst:.1e}, estimate {said:.1e}");
        }
        let second = lambda2(&a.forward(), Effort::default()).unwrap();
        let off = (second.modulus - want[1]).abs();
        assert!(
            off < 1e-9 || off < 10.0 * second.residual * second.condition,
            "{rule} {n}: {second:?} {}",
            want[1]
        );
        // The dense oracle is right too.
        let dense = eigenvalues(a.values()).unwrap();
        for (value, want) in dense.iter().zip(&want) {
            assert!((value.norm() - want).abs() < 1e-9 || rule == "nearly_causal", "{rule} {n}");
        }
    }
}

#[test]
fn a_causal_map_has_its_diagonal_and_needs_no_product() {
    for rule in ["causal", "previous_token", "first_token", "window", "jordan"] {
        for n in [16, 65, 512, 2048] {
            let a = map(rule, n);
            let mut diagonal = a.values().diag().to_vec();
            diagonal.sort_by(|a, b| b.total_cmp(a));
            let near = |found: f64, want: f64| (found - want).abs() < 1e-15;
            let found = lambda2(&a.forward(), Effort::default()).unwrap();
            assert!(near(found.modulus, diagonal[1]));
            assert_eq!((found.products, found.method), (0, Method::Structure));
            let found = spectrum(&a.forward(), 40, Effort::default()).unwrap();
            assert!(found.moduli().iter().zip(&diagonal).all(|(found, want)| near(*found, *want)));
            assert_eq!(found.values.len(), 40.min(n));
            assert!(found.errors().iter().all(|error| *error == 0.0));
            // In the backward chain, the diagonal is divided by the column sums.
            let back = a.backward().unwrap();
            let columns = a.values().sum_axis(Axis(0));
            let mut turned: Vec<f64> = (0..n).map(|i| a.values()[(i, i)] / columns[i]).collect();
            turned.sort_by(|a, b| b.total_cmp(a));
            let found = lambda2(&back, Effort::default()).unwrap();
            assert!(near(found.modulus, turned[1]) && found.products == 0);
        }
    }
}

#[test]
fn rough_tolerances_single_precision_and_batches_see_structure_too() {
    let (n, rules) = (130, ["previous_token", "prefix", "blocks", "relabelled", "window"]);
    let mut maps = Array3::<f32>::zeros((rules.len(), n, n));
    for (mut one, rule) in maps.outer_iter_mut().zip(rules) {
        one.assign(&map(rule, n).values().mapv(|v| v as f32));
    }
    let exact: Vec<f64> = maps
        .outer_iter()
        .map(|one| {
            let a = Stochastic::new(one.mapv(f64::from)).unwrap();
            spectrum(&a.forward(), n, Effort::default()).unwrap().moduli()[1]
        })
        .collect();
    for tolerance in [1e-4, 1e-10] {
        let found = lambda2_many(maps.view(), tolerance).unwrap();
        let summaries =
            heads(maps.view(), 0.99, markov_core::Stop::default(), Effort::tolerance(tolerance)).unwrap();
        for ((found, exact), summary) in found.iter().zip(&exact).zip(&summaries) {
            assert!((found - exact).abs() < (2.0 * tolerance).max(1e-7), "{tolerance}: {found} {exact}");
            assert_eq!(*found, summary.lambda2.modulus);
        }
    }
}

/// If the effort is used up, the spectrum has the last estimates and says so; λ₂ alone is an error.
#[test]
fn a_tolerance_out_of_reach_is_said() {
    // Softmax of noise: its eigenvalues fill a disc, so that none stands out.
    let a = Stochastic::new(crate::common::matrix(crate::common::Kind::Softmax, 150, 8)).unwrap();
    let effort = Effort { max_products: 20, dense_limit: 0, ..Effort::default() };
    let found = spectrum(&a.forward(), 3, effort).unwrap();
    assert!(!found.converged && found.values.len() == 3 && found.method == Method::Krylov, "{found:?}");
    let whole = spectrum(&a.forward(), 150, Effort::default()).unwrap();
    let (near, exact) = (found.moduli()[1], whole.moduli()[1]);
    assert!(found.errors()[1] > 1e-10 * exact && (near - exact).abs() < exact, "{near} {exact}");
    let rough = Effort { max_products: 4, ..effort };
    let error = lambda2(&a.forward(), rough).unwrap_err();
    assert!(matches!(error, markov_core::Error::NotConverged { .. }), "{error}");
}

#[test]
fn teleport_scales_what_structure_finds() {
    for rule in ["previous_token", "prefix", "blocks"] {
        let a = map(rule, 48);
        let plain = spectrum(&a.forward(), 48, Effort::default()).unwrap().moduli();
        let jumps = spectrum(&a.teleport(0.9).unwrap().forward(), 48, Effort::default()).unwrap().moduli();
        for (k, (plain, jumps)) in plain.iter().zip(&jumps).enumerate().skip(1) {
            assert!((0.9 * plain - jumps).abs() < 1e-9, "{rule} {k}: {plain} {jumps}");
        }
    }
}

#[test]
fn masks_of_a_matrix_free_head() {
    let (n, d) = (70, 5);
    let mut draw = Draw::new(11);
    let mut random = || Array2::from_shape_simple_fn((n, d), || (2.0 * draw.normal()) as f32);
    let (q, k) = (random(), random());
    let head = || QueryKey::new(q.view(), k.view(), 0.5).unwrap().chunk(16);
    let prefix = Array2::from_shape_fn((n, n), |(i, j)| j <= i || (i < 20 && j < 20));
    // The last ten tokens are padding: nobody attends to them.
    let padding = Array2::from_shape_fn((n, n), |(_, j)| j < n - 10);
    let causal = Array2::from_shape_fn((n, n), |(i, j)| j <= i);
    for (mask, allowed) in [
        (Mask::Causal, causal.clone()),
        (Mask::Allowed(prefix.view()), prefix.clone()),
        (Mask::Allowed(padding.view()), padding.clone()),
    ] {
        let free = head().masked(mask).unwrap();
        let mut logits = q.mapv(f64::from).dot(&k.mapv(f64::from).t()) * 0.5;
        logits.zip_mut_with(&allowed, |logit, allowed| *logit = if *allowed { logit.exp() } else { 0.0 });
        let stored = Stochastic::new(normalise(logits)).unwrap();
        let near = (&free.clone().forward().dense() - &stored.values()).iter().all(|d| d.abs() < 1e-12);
        assert!(near);
        let (a, b) = (free.clone().forward(), stored.forward());
        assert_eq!(a.classes(), b.classes());
        let (found, want) =
            (lambda2(&a, Effort::default()).unwrap(), lambda2(&b, Effort::default()).unwrap());
        assert!(
            (found.modulus - want.modulus).abs() < 1e-9 && found.method == want.method,
            "{found:?} {want:?}"
        );
        let found = spectrum(&a, n, Effort::default()).unwrap().moduli();
        let want = spectrum(&b, n, Effort::default()).unwrap().moduli();
        assert!(found.iter().zip(&want).all(|(a, b)| (a - b).abs() < 1e-8));
        let rank = |chain| markov_core::token_rank(&chain, markov_core::Stop::strict()).unwrap().pi;
        assert!(
            crate::common::l1(&rank(free.teleport(0.9).unwrap().forward()), &{
                markov_core::token_rank(&stored.teleport(0.9).unwrap().forward(), markov_core::Stop::strict())
                    .unwrap()
                    .pi
            }) < 1e-6
        );
    }
    let nothing = Array2::from_shape_fn((n, n), |(i, _)| i != 3);
    let refused = head().masked(Mask::Allowed(nothing.view())).unwrap_err();
    assert!(matches!(refused, markov_core::Error::NothingAllowed { row: 3 }), "{refused}");
    assert!(head().masked(Mask::Allowed(Array2::from_elem((n, n + 1), true).view())).is_err());
}

/// Known diagonal blocks with shuffled tokens: `(matrix, moduli)`. The moduli are computed from each block separately,
/// so they do not depend on finding the components.
fn made_of_blocks(states: usize, seed: u64) -> (Array2<f64>, Vec<f64>) {
    let mut draw = Draw::new(seed);
    let mut sizes = Vec::new();
    while sizes.iter().sum::<usize>() < states {
        let left = states - sizes.iter().sum::<usize>();
        let most = if draw.unit() < 0.2 { left } else { 12 };
        let size = if draw.unit() < 0.5 { 1 } else { 1 + draw.below(most) };
        sizes.push(size.min(left));
    }
    let block_of: Vec<usize> =
        sizes.iter().enumerate().flat_map(|(b, size)| std::iter::repeat_n(b, *size)).collect();
    let closed: Vec<bool> = sizes.iter().map(|_| draw.unit() < 0.3).collect();
    let keeps = draw.unit();
    let mut a = Array2::zeros((states, states));
    for i in 0..states {
        let own = block_of[i];
        let scale = 0.5 + 3.0 * draw.unit();
        for j in 0..states {
            let inside = block_of[j] == own;
            // Transitions only to earlier blocks, which makes the blocks the components.
            let below = block_of[j] < own && !closed[own] && draw.unit() < keeps;
            if inside || below {
                a[(i, j)] = (scale * draw.normal()).exp() * if below { 0.3 } else { 1.0 };
            }
        }
    }
    let a = normalise(a);
    let mut moduli = Vec::new();
    let mut first = 0;
    for size in sizes {
        let block = a.slice(ndarray::s![first..first + size, first..first + size]);
        // A positive block is a single component.
        moduli.extend(eigenvalues(block).expect("eigenvalues").iter().map(|value| value.norm()));
        first += size;
    }
    moduli.sort_by(|a, b| b.total_cmp(a));
    let order = draw.permutation(states);
    (a.select(Axis(0), &order).select(Axis(1), &order), moduli)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn moduli_of_shuffled_blocks(n in 2usize..201, k in 2usize..30, seed in any::<u64>()) {
        let (a, want) = made_of_blocks(n, seed);
        let a = Stochastic::new(a).unwrap();
        for k in [k, n] {
            let found = spectrum(&a.forward(), k, Effort::default()).unwrap();
            prop_assert!(found.converged);
            prop_assert_eq!(found.moduli().len(), k.min(n));
            right_or_error_reported(&found, &want, &format!("{n} {k} {seed}"));
        }
        let found = lambda2(&a.forward(), Effort::default()).unwrap();
        let off = (found.modulus - want[1]).abs();
        prop_assert!(off < 1e-8 || off < 10.0 * found.residual * found.condition, "{found:?} {}", want[1]);
    }

    // Zeros from masks: causal, windows, padding, random, in any combination, shuffled or not.
    #[test]
    fn moduli_under_random_masks(
        n in 2usize..80, causal in any::<bool>(), window in 1usize..80, padding in 0usize..20, density in 0.02..1.0f64,
        back in any::<bool>(), shuffled in any::<bool>(), seed in any::<u64>(),
    ) {
        let mut draw = Draw::new(seed);
        let padding = padding.min(n - 1);
        let raw = Array2::from_shape_fn((n, n), |(i, j)| {
            let allowed = i == j
                || (!causal || j <= i) && i.abs_diff(j) < window && j < n - padding && draw.unit() < density;
            if allowed { (2.0 * draw.normal()).exp() } else { 0.0 }
        });
        let mut a = normalise(raw);
        if shuffled {
            let order = draw.permutation(n);
            a = a.select(Axis(0), &order).select(Axis(1), &order);
        }
        let direction = if back { Direction::Backward } else { Direction::Forward };
        let a = Stochastic::new(a).unwrap();
        let chain = match direction {
            Direction::Forward => a.forward(),
            Direction::Backward => a.backward().unwrap(),
        };
        let want = by_reachability(&to_dense(&chain, 0).unwrap());
        let found = spectrum(&chain, n, Effort::default()).unwrap();
        right_or_error_reported(&found, &want, &format!("{n} {seed}"));
        let few = spectrum(&chain, 3, Effort::default()).unwrap();
        right_or_error_reported(&few, &want, &format!("{n} {seed}"));
        if causal {
            prop_assert!(few.method == Method::Structure);
        }
    }
}

/// Moduli from reachability by Warshall's closure, block by block: an oracle that does not use the search for
/// components.
fn by_reachability(a: &Array2<f64>) -> Vec<f64> {
    let n = a.nrows();
    let mut reach = Array2::from_shape_fn((n, n), |(i, j)| i == j || a[(i, j)] > 0.0);
    for k in 0..n {
        for i in 0..n {
            if reach[(i, k)] {
                (0..n).for_each(|j| reach[(i, j)] |= reach[(k, j)]);
            }
        }
    }
    let mut seen = vec![false; n];
    let mut moduli = Vec::new();
    for i in 0..n {
        if seen[i] {
            continue;
        }
        let members: Vec<usize> = (0..n).filter(|j| reach[(i, *j)] && reach[(*j, i)]).collect();
        members.iter().for_each(|j| seen[*j] = true);
        let block = a.select(Axis(0), &members).select(Axis(1), &members);
        moduli.extend(eigenvalues(block.view()).expect("eigenvalues").iter().map(|value| value.norm()));
    }
    moduli.sort_by(|a, b| b.total_cmp(a));
    moduli
}

/// A map in which every state leads to a few states, and a hub is linked with every state.
fn around(hub: usize, n: usize, all_lead_there: bool) -> Stochastic<f64> {
    let mut map = Array2::from_shape_fn((n, n), |(i, j)| {
        let linked = i == hub || j == hub && (all_lead_there || i != (hub + 1) % n) || j == (i + 2) % n;
        if linked { 1.0 + ((7 * i + 3 * j) % 5) as f64 } else { 0.0 }
    });
    map.rows_mut().into_iter().for_each(|mut row| row /= row.sum());
    Stochastic::new(map).expect("rows that sum to 1")
}

/// Components are not searched then; the eigenvalues are those of the dense solver.
#[test]
fn a_hub_makes_one_component() {
    for n in [3, 40, 90] {
        for hub in [0, 1, n / 2, n - 1] {
            for all in [true, false] {
                let map = around(hub, n, all);
                let chain = map.forward();
                let components = Propagate::components(&chain).unwrap();
                assert!(components.iter().all(Components::irreducible), "{n} {hub} {all}");
                let dense = spectrum::eigenvalues(map.values()).unwrap()[1].norm();
                let found = lambda2(&chain, Effort::default()).unwrap().modulus;
                assert!((found - dense).abs() < 1e-9, "{n} {hub} {all}: {found} {dense}");
            }
        }
    }
}

/// A state that leads to every state is not a hub if none leads to it.
#[test]
fn a_state_that_leads_everywhere_is_transient_if_none_leads_there() {
    let n = 30;
    let mut map =
        Array2::from_shape_fn((n, n), |(i, j)| if i == 0 || j == (i % (n - 1)) + 1 { 1.0 } else { 0.0 });
    map.rows_mut().into_iter().for_each(|mut row| row /= row.sum());
    let chain = Stochastic::new(map).unwrap();
    let components = Propagate::components(&chain.forward()).unwrap();
    assert_eq!(components[0].members.len(), 2);
}
