//! Heads given by queries and keys equal a softmax written in plain loops, for every combination of settings.
#![allow(clippy::unwrap_used)]

use half::{bf16, f16};
use markov_core::{
    Effort, Error, HeadMap, Layer, Logits, Mask, Method, QueryKey, RowStochastic, Stochastic, Stop, Triangle,
    bounce_token, lambda2, power_method, spectrum, token_rank,
};
use ndarray::{Array1, Array2, Array4, ArrayView2, Axis, s};
use proptest::prelude::*;

use crate::common::{Draw, distribution, l1, second_is, seconds_agree};

/// The settings of one head, in double precision.
#[derive(Debug, Clone, Default)]
struct Setting {
    scale: f64,
    softcap: Option<f64>,
    causal: bool,
    window: Option<(usize, usize)>,
    allowed: Option<Array2<bool>>,
    bias: Option<Array2<f64>>,
    kept: Option<Vec<bool>>,
}

/// The attention of a head in plain loops, or the row that has none and whether masks (rather than dropped tokens) are
/// the reason.
fn plain(
    q: ArrayView2<'_, f64>,
    k: ArrayView2<'_, f64>,
    set: &Setting,
) -> Result<Array2<f64>, (usize, bool)> {
    let n = q.nrows();
    let keeps = |token: usize| set.kept.as_ref().is_none_or(|kept| kept[token]);
    let at = |rows: usize, i: usize| if rows == 1 { 0 } else { i };
    let sees = |i: usize, j: usize| {
        let mut sees = !set.causal || j <= i;
        if let Some((before, after)) = set.window {
            sees &= if j <= i { i - j <= before } else { j - i <= after };
        }
        if let Some(allowed) = &set.allowed {
            sees &= allowed[(at(allowed.nrows(), i), at(allowed.ncols(), j))];
        }
        if let Some(bias) = &set.bias {
            sees &= bias[(at(bias.nrows(), i), at(bias.ncols(), j))] > -9000.0;
        }
        sees
    };
    let tokens: Vec<usize> = (0..n).filter(|token| keeps(*token)).collect();
    let mut matrix = Array2::zeros((tokens.len(), tokens.len()));
    for (row, &i) in tokens.iter().enumerate() {
        let mut weights = vec![0.0; tokens.len()];
        let mut largest = f64::NEG_INFINITY;
        for (column, &j) in tokens.iter().enumerate() {
            let mut logit = 0.0;
            for c in 0..q.ncols() {
                logit += q[(i, c)] * k[(j, c)];
            }
            logit *= set.scale;
            if let Some(cap) = set.softcap {
                logit = cap * (logit / cap).tanh();
            }
            if let Some(bias) = &set.bias {
                logit += bias[(at(bias.nrows(), i), at(bias.ncols(), j))];
            }
            weights[column] = logit;
            if sees(i, j) {
                largest = largest.max(logit);
            }
        }
        if largest == f64::NEG_INFINITY {
            return Err((i, (0..n).all(|j| !sees(i, j))));
        }
        let mut sum = 0.0;
        for (column, &j) in tokens.iter().enumerate() {
            weights[column] = if sees(i, j) { (weights[column] - largest).exp() } else { 0.0 };
            sum += weights[column];
        }
        for (column, weight) in weights.iter().enumerate() {
            // What a softmax in float32 rounds to 0.
            let p = weight / sum;
            matrix[(row, column)] = if p as f32 == 0.0 { 0.0 } else { p };
        }
    }
    Ok(matrix)
}

/// Moves a distribution `steps` steps in plain loops.
fn walk(matrix: &Array2<f64>, start: &Array1<f64>, steps: usize) -> Array1<f64> {
    let n = matrix.nrows();
    let mut x = start.clone();
    for _ in 0..steps {
        let mut next = Array1::zeros(n);
        for i in 0..n {
            for j in 0..n {
                next[j] += x[i] * matrix[(i, j)];
            }
        }
        x = next;
    }
    x
}

/// Steady state of `α A + (1-α) 1 tᵀ`, or of its reversal, by the power method in plain loops.
fn steady(matrix: &Array2<f64>, alpha: f64, target: &Array1<f64>, backward: bool) -> Array1<f64> {
    let n = matrix.nrows();
    let mut chain = matrix * alpha;
    for mut row in chain.rows_mut() {
        row += &(target * (1.0 - alpha));
    }
    if backward {
        let mut reversed = Array2::zeros((n, n));
        for j in 0..n {
            let sum: f64 = chain.column(j).sum();
            for i in 0..n {
                reversed[(j, i)] = chain[(i, j)] / sum;
            }
        }
        chain = reversed;
    }
    let mut x = Array1::from_elem(n, 1.0 / n as f64);
    for _ in 0..20_000 {
        let next = walk(&chain, &x, 1);
        let next = &next / next.sum();
        let change = l1(&next, &x);
        x = next;
        if change < 1e-15 {
            break;
        }
    }
    x
}

fn vectors(shape: (usize, usize, usize, usize), size: f64, draw: &mut Draw) -> Array4<f32> {
    Array4::from_shape_simple_fn(shape, || (size * draw.normal()) as f32)
}

fn near(a: &Array2<f64>, b: &Array2<f64>) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

/// Additive masks as networks write them.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Additive {
    None,
    /// Slopes of distance, one per head (ALiBi).
    Slopes,
    /// The least float32 above the diagonal, for all heads.
    Causal,
    /// Minus infinity at random places.
    Holes,
    /// -10,000 at the padding at the end, `[1, 1, 1, n]`.
    Padding,
}

impl Additive {
    fn draw(self, n: usize, heads: usize, draw: &mut Draw) -> Option<Array4<f64>> {
        match self {
            Additive::None => None,
            Additive::Slopes => Some(Array4::from_shape_fn((1, heads, n, n), |(_, h, i, j)| {
                -(i.abs_diff(j) as f64) / f64::from(2 << h)
            })),
            Additive::Causal => {
                Some(Array4::from_shape_fn(
                    (1, 1, n, n),
                    |(_, _, i, j)| {
                        if j > i { f64::from(f32::MIN) } else { 0.0 }
                    },
                ))
            }
            Additive::Holes => Some(Array4::from_shape_fn((2, 1, n, n), |(_, _, i, j)| {
                if i != j && draw.unit() < 0.3 { f64::NEG_INFINITY } else { draw.unit() }
            })),
            Additive::Padding => {
                Some(Array4::from_shape_fn((1, 1, 1, n), |(.., j)| if j + 2 >= n { -10_000.0 } else { 0.0 }))
            }
        }
    }
}

/// The plane of a head in an array whose first axes may have length 1.
fn plane<T: Clone>(array: &Array4<T>, item: usize, head: usize) -> Array2<T> {
    let (batch, heads, ..) = array.dim();
    array.slice(s![item.min(batch - 1), head.min(heads - 1), .., ..]).to_owned()
}

/// A layer with two items and four query heads that share two key heads.
struct Case {
    q: Array4<f32>,
    k: Array4<f32>,
    softcap: Option<f64>,
    causal: bool,
    window: Option<(usize, usize)>,
    allowed: Option<Array4<bool>>,
    bias: Option<Array4<f64>>,
    kept: Option<Array2<bool>>,
}

const SCALE: f64 = 0.4;

impl Case {
    fn layer(&self) -> Layer<'_, f32> {
        let mut layer = Layer::new(self.q.view(), self.k.view(), SCALE).unwrap();
        if let Some(cap) = self.softcap {
            layer = layer.softcapped(cap).unwrap();
        }
        if self.causal {
            layer = layer.causal();
        }
        if let Some((before, after)) = self.window {
            layer = layer.windowed(before, after);
        }
        if let Some(allowed) = &self.allowed {
            layer = layer.allowed(allowed.view()).unwrap();
        }
        if let Some(bias) = &self.bias {
            layer = layer.biased(bias.view()).unwrap();
        }
        if let Some(kept) = &self.kept {
            layer = layer.keeping(kept.view()).unwrap();
        }
        layer
    }

    fn plain(&self, item: usize, head: usize) -> Result<Array2<f64>, (usize, bool)> {
        let group = self.q.dim().1 / self.k.dim().1;
        let (q, k) = (plane(&self.q, item, head), plane(&self.k, item, head / group));
        let setting = Setting {
            scale: SCALE,
            softcap: self.softcap,
            causal: self.causal,
            window: self.window,
            allowed: self.allowed.as_ref().map(|allowed| plane(allowed, item, head)),
            bias: self.bias.as_ref().map(|bias| plane(bias, item, head)),
            kept: self.kept.as_ref().map(|kept| kept.row(item).to_vec()),
        };
        plain(q.mapv(f64::from).view(), k.mapv(f64::from).view(), &setting)
    }

    /// Checks every head of the layer, stored and recomputed; returns how many heads are chains.
    fn check(&self) -> usize {
        let layer = self.layer();
        let mut chains = 0;
        for dense in [usize::MAX, 0] {
            let layer = layer.clone().dense_up_to(dense);
            let all = layer.each(|at, map| {
                assert_eq!(dense > 0, matches!(map, HeadMap::Dense(_)));
                let want = self.plain(at.item, at.head).unwrap();
                assert_eq!(want.nrows(), layer.kept(at.item).unwrap().len());
                agrees(&map, &want);
                Ok(())
            });
            assert_eq!(all.len(), layer.heads().len());
            for (at, result) in layer.heads().into_iter().zip(all) {
                match (self.plain(at.item, at.head), result) {
                    (Ok(_), Ok(())) => chains += 1,
                    (Err((row, true)), Err(Error::NothingAllowed { row: found })) => assert_eq!(row, found),
                    (Err((row, false)), Err(Error::RowLost { row: found })) => assert_eq!(row, found),
                    (want, found) => panic!("{at:?}: {want:?} {found:?}"),
                }
            }
        }
        chains
    }
}

/// Checks every answer of a carrier against the matrix it should be.
fn agrees(map: &impl RowStochastic, want: &Array2<f64>) {
    let n = want.nrows();
    assert_eq!(map.states(), n);
    let forward = map.forward();
    assert!(near(&forward.dense(), want) < 1e-12, "{} {want}", forward.dense());
    assert!(map.diagonal().iter().zip(want.diag()).all(|(a, b)| (a - b).abs() < 1e-12));
    let some: Vec<usize> = (0..n).filter(|i| i % 3 != 1).collect();
    let block = Array2::from_shape_fn((some.len(), some.len()), |(i, j)| want[(some[i], some[j])]);
    assert!(near(&map.block(&some), &block) < 1e-12);

    // The links are the exact zeros.
    let possible = |i: usize, j: usize| map.links().is_none_or(|links| links.has(i, j));
    for ((i, j), p) in want.indexed_iter() {
        assert_eq!(possible(i, j), *p > 0.0, "({i}, {j}): {p:e}");
    }
    let stored = Stochastic::new(want.clone()).unwrap();
    assert_eq!(forward.classes(), stored.forward().classes());

    // Several walks at once, in both directions.
    let start = distribution(n, 7);
    let two = ndarray::stack(Axis(0), &[start.view(), Array1::from_elem(n, 1.0 / n as f64).view()]).unwrap();
    let moved = markov_core::bounce_batch(&forward, two.view(), 3).unwrap();
    assert!(l1(&moved.slice(s![2, 0, ..]).to_owned(), &walk(want, &start, 3)) < 1e-12);
    assert!(l1(&moved.slice(s![1, 1, ..]).to_owned(), &walk(want, &two.row(1).to_owned(), 2)) < 1e-12);
    let token = bounce_token(&forward, n - 1, 1).unwrap();
    assert!(l1(&token.row(0).to_owned(), &want.row(n - 1).to_owned()) < 1e-12);

    let target = distribution(n, 9);
    for backward in [false, true] {
        let want = steady(want, 0.9, &target, backward);
        let jumps = map.teleport_to(0.9, target.view()).unwrap();
        let chain = if backward { jumps.backward().unwrap() } else { jumps.forward() };
        for stop in [Stop::strict(), Stop::accelerated(1e-11)] {
            let found = token_rank(&chain, stop).unwrap();
            assert!(found.converged && l1(&found.pi, &want) < 1e-9, "{backward} {stop:?}: {found:?} {want}");
        }
    }

    let (found, known) = (lambda2(&forward, Effort::default()).unwrap(), second(want, &stored));
    assert!(second_is(&found, known), "{found:?} {known}");
}

/// λ₂: of a triangular matrix from its diagonal, of others from the stored matrix.
fn second(matrix: &Array2<f64>, stored: &Stochastic<f64>) -> f64 {
    if stored.triangle() == Some(Triangle::Lower) {
        let mut diagonal = matrix.diag().to_vec();
        diagonal.sort_by(|a, b| b.total_cmp(a));
        return diagonal[1];
    }
    lambda2(&stored.forward(), Effort::default()).unwrap().modulus
}

#[test]
fn every_combination_equals_plain_loops() {
    let (n, heads, d) = (11, 4, 5);
    let mut draw = Draw::new(21);
    let (mut chains, mut combinations) = (0, 0);
    for softcap in [None, Some(1.5)] {
        for causal in [false, true] {
            for window in [None, Some((3, 2)), Some((2, usize::MAX))] {
                for mask in 0..3 {
                    for additive in [
                        Additive::None,
                        Additive::Slopes,
                        Additive::Causal,
                        Additive::Holes,
                        Additive::Padding,
                    ] {
                        for subset in [false, true] {
                            let allowed = match mask {
                                0 => None,
                                1 => Some(Array4::from_shape_fn((2, heads, n, n), |(.., i, j)| {
                                    i == j || draw.unit() < 0.7
                                })),
                                _ => Some(Array4::from_shape_fn((1, 1, 1, n), |(.., j)| j != n - 1)),
                            };
                            let case = Case {
                                q: vectors((2, heads, n, d), 1.0, &mut draw),
                                k: vectors((2, 2, n, d), 1.0, &mut draw),
                                softcap,
                                causal,
                                window,
                                allowed,
                                bias: additive.draw(n, heads, &mut draw),
                                kept: subset.then(|| {
                                    Array2::from_shape_fn((2, n), |(b, i)| {
                                        i % 4 != 1 && (b == 0 || i + 2 < n)
                                    })
                                }),
                            };
                            chains += case.check();
                            combinations += 1;
                        }
                    }
                }
            }
        }
    }
    assert_eq!(combinations, 360);
    // Most combinations are chains; some rows of some masks allow nothing.
    assert!(chains > 4000 && chains < 360 * 16, "{chains}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn drawn_heads_equal_plain_loops(
        n in 2usize..60, d in 1usize..9, chunk in 1usize..20, size in 0.1..12.0f64, causal in any::<bool>(),
        before in 0usize..60, after in 0usize..60, cap in proptest::option::of(0.5..60.0f64), holes in 0.0..0.9f64,
        drop in 0.0..0.5f64, parallel in any::<bool>(), seed in any::<u64>(),
    ) {
        let mut draw = Draw::new(seed);
        let shape = (1, 1, n, d);
        let (q, k) = (plane(&vectors(shape, size, &mut draw), 0, 0), plane(&vectors(shape, size, &mut draw), 0, 0));
        let allowed = Array2::from_shape_fn((n, n), |(i, j)| i == j || draw.unit() >= holes);
        let bias = Array2::from_shape_fn((n, n), |_| if draw.unit() < 0.1 { -1e9 } else { 60.0 * draw.unit() } as f32);
        let kept: Array1<bool> = (0..n).map(|i| i == n / 2 || draw.unit() >= drop).collect();
        let setting = Setting {
            scale: 0.3,
            softcap: cap,
            causal,
            window: Some((before, after)),
            allowed: Some(allowed.clone()),
            bias: Some(bias.mapv(f64::from)),
            kept: Some(kept.to_vec()),
        };
        let logits = Logits { softcap: cap, ..Logits::scaled(0.3) }
            .biased(bias.view())
            .masked(Mask::Window { before, after })
            .masked(Mask::Allowed(allowed.view()));
        let logits = if causal { logits.masked(Mask::Causal) } else { logits };
        let head = QueryKey::with_logits(q.view(), k.view(), logits, Some(kept.view()));
        match plain(q.mapv(f64::from).view(), k.mapv(f64::from).view(), &setting) {
            Ok(want) => {
                let head = head.unwrap().chunk(chunk);
                let head = if parallel { head } else { head.sequential() };
                let dense = head.to_stochastic::<f64>();
                prop_assert!(near(&dense.values().to_owned(), &want) < 1e-12);
                prop_assert!(near(&head.to_stochastic::<f32>().values().mapv(f64::from), &want) < 1e-7);
                let found = head.links();
                for ((i, j), p) in want.indexed_iter() {
                    prop_assert_eq!(found.as_ref().is_none_or(|links| links.has(i, j)), *p > 0.0);
                }
                let (free, stored) = ((&head).forward(), dense.forward());
                prop_assert_eq!(free.classes(), stored.classes());
                prop_assert!(near(&free.dense(), &want) < 1e-12);
                let (a, b) = (lambda2(&free, Effort::default()).unwrap(), lambda2(&stored, Effort::default()).unwrap());
                prop_assert!(seconds_agree(&a, &b), "{:?} {:?}", a, b);
            }
            Err((row, masked)) => {
                let found = match head {
                    Err(Error::NothingAllowed { row }) => (row, true),
                    Err(Error::RowLost { row }) => (row, false),
                    other => panic!("{other:?}"),
                };
                prop_assert_eq!(found, (row, masked));
            }
        }
    }

    #[test]
    fn triangular_chains_are_solved_by_substitution(
        n in 2usize..40, alpha in 0.05..0.995f64, upper in any::<bool>(), seed in any::<u64>(),
    ) {
        let mut draw = Draw::new(seed);
        let matrix = crate::common::normalise(Array2::from_shape_fn((n, n), |(i, j)| {
            let within = if upper { j >= i } else { j <= i };
            // Some holes, also on the diagonal; the corner keeps its row.
            let corner = if upper { j == n - 1 } else { j == 0 };
            if within && (corner || draw.unit() < 0.7) { draw.unit() + 0.01 } else { 0.0 }
        }));
        let stored = Stochastic::new(matrix.clone()).unwrap();
        let target = distribution(n, seed);
        for backward in [false, true] {
            let jumps = stored.teleport_to(alpha, target.view()).unwrap();
            let chain = if backward { jumps.backward().unwrap() } else { jumps.forward() };
            let found = token_rank(&chain, Stop::strict()).unwrap();
            let want = steady(&matrix, alpha, &target, backward);
            prop_assert!(found.iterations == 1 && found.residual < 1e-13, "{:?}", found);
            prop_assert!(l1(&found.pi, &want) < 1e-12, "{} {}", found.pi, want);
            // The plain power method keeps its own count.
            let start = Array2::from_elem((1, n), 1.0 / n as f64);
            let plain = power_method(&chain, start, Stop::reference()).unwrap();
            prop_assert_eq!(&token_rank(&chain, Stop::reference()).unwrap(), &plain[0]);
        }
    }
}

#[test]
fn a_causal_mask_is_seen_however_it_is_given() {
    let (n, mut draw) = (70, Draw::new(3));
    let shape = (1, 1, n, 8);
    let (q, k) = (vectors(shape, 1.5, &mut draw), vectors(shape, 1.5, &mut draw));
    let allowed = Array4::from_shape_fn((1, 1, n, n), |(.., i, j)| j <= i);
    let least =
        |least: f64| Array4::from_shape_fn((1, 1, n, n), |(.., i, j)| if j <= i { 0.0 } else { least });
    let (single, half) =
        (least(f64::from(f32::MIN)).mapv(|v| v as f32), least(-65_504.0).mapv(f16::from_f64));
    let (brain, double) = (least(-3.389e38).mapv(bf16::from_f64), least(f64::NEG_INFINITY));
    let layer = || Layer::new(q.view(), k.view(), 0.3).unwrap().dense_up_to(0);
    let layers = [
        layer().causal(),
        layer().windowed(usize::MAX, 0),
        layer().allowed(allowed.view()).unwrap(),
        layer().biased(single.view()).unwrap(),
        layer().biased(half.view()).unwrap(),
        layer().biased(brain.view()).unwrap(),
        layer().biased(double.view()).unwrap().causal(),
    ];
    let mut found: Vec<(f64, Array1<f64>)> = Vec::new();
    for layer in layers {
        let results = layer.each(|_, map| {
            assert_eq!(map.triangle(), Some(Triangle::Lower));
            let lambda = lambda2(&map.forward(), Effort::default())?;
            assert!(lambda.method == Method::Structure && lambda.products == 0);
            let rank = token_rank(&map.teleport(0.99)?.forward(), Stop::strict())?;
            assert_eq!(rank.iterations, 1);
            Ok((lambda.modulus, rank.pi))
        });
        found.extend(results.into_iter().map(Result::unwrap));
    }
    assert!(found.iter().all(|one| *one == found[0]), "{found:?}");
}

#[test]
fn components_of_causal_heads_follow_from_their_masks() {
    let (n, mut draw) = (40, Draw::new(13));
    let shape = (1, 1, n, 8);
    let (q, k) = (vectors(shape, 1.0, &mut draw), vectors(shape, 1.0, &mut draw));
    let (q, k) = (plane(&q, 0, 0), plane(&k, 0, 0));
    let holes = Array2::from_shape_fn((n, n), |(i, j)| i == j || (j < i && draw.unit() < 0.4));
    let later = Array2::from_shape_fn((n, n), |(i, j)| j >= i);
    for mask in [
        Mask::Causal,
        Mask::Window { before: 2, after: 0 },
        Mask::Window { before: 0, after: 0 },
        Mask::Window { before: 0, after: 3 },
        Mask::Allowed(holes.view()),
        Mask::Allowed(later.view()),
    ] {
        let head = QueryKey::with_logits(q.view(), k.view(), Logits::scaled(0.4).masked(mask.clone()), None)
            .unwrap();
        let stored = head.to_stochastic::<f64>();
        assert!(head.triangle().is_some() && head.triangle() == stored.triangle());
        for (free, stored) in [
            ((&head).forward(), stored.forward()),
            ((&head).backward().unwrap(), stored.backward().unwrap()),
            ((&head).teleport(0.8).unwrap().forward(), stored.teleport(0.8).unwrap().forward()),
        ] {
            let (found, want) =
                (lambda2(&free, Effort::default()).unwrap(), lambda2(&stored, Effort::default()).unwrap());
            assert!(
                (found.modulus - want.modulus).abs() < 1e-12 && found.method == Method::Structure,
                "{mask:?}"
            );
            let (found, want) = (
                spectrum(&free, n, Effort::default()).unwrap(),
                spectrum(&stored, n, Effort::default()).unwrap(),
            );
            let (found, want) = (found.moduli(), want.moduli());
            assert!(
                found.iter().zip(&want).all(|(a, b)| (a - b).abs() < 1e-12),
                "{mask:?}: {found:?} {want:?}"
            );
        }
    }
}

#[test]
fn halves_strides_and_broadcast_views_are_read_in_place() {
    let (batch, heads, n, d) = (2, 4, 9, 6);
    let mut draw = Draw::new(5);
    // Stored `[batch, n, heads, d]`, as networks do.
    let q = vectors((batch, n, heads, d), 1.0, &mut draw);
    let k = vectors((batch, n, 2, d), 1.0, &mut draw);
    let bias = Array4::from_shape_simple_fn((1, 1, 1, n), || draw.normal() as f32);
    let (turned_q, turned_k) = (q.view().permuted_axes([0, 2, 1, 3]), k.view().permuted_axes([0, 2, 1, 3]));
    let all_bias = bias.broadcast((batch, heads, n, n)).unwrap();
    let dense = |layer: Layer<'_, f32>| {
        layer.each(|_, map| Ok(map.forward().dense())).into_iter().map(Result::unwrap).collect::<Vec<_>>()
    };
    let (own_q, own_k) =
        (turned_q.as_standard_layout().into_owned(), turned_k.as_standard_layout().into_owned());
    let strided = Layer::new(turned_q, turned_k, 0.5).unwrap().biased(all_bias).unwrap();
    let plain = Layer::new(own_q.view(), own_k.view(), 0.5).unwrap().biased(bias.view()).unwrap();
    assert_eq!(dense(strided), dense(plain));

    // A half is read as the number it is.
    let (half_q, half_k) = (own_q.mapv(f16::from_f32), own_k.mapv(f16::from_f32));
    let (single_q, single_k) = (half_q.mapv(f32::from), half_k.mapv(f32::from));
    let halves = Layer::new(half_q.view(), half_k.view(), 0.5).unwrap();
    let halves: Vec<_> =
        halves.each(|_, map| Ok(map.forward().dense())).into_iter().map(Result::unwrap).collect();
    assert_eq!(halves, dense(Layer::new(single_q.view(), single_k.view(), 0.5).unwrap()));
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let (n, mut draw) = (300, Draw::new(8));
    let (q, k) = (vectors((1, 3, n, 8), 1.2, &mut draw), vectors((1, 1, n, 8), 1.2, &mut draw));
    let answers = |threads: usize, dense: usize, causal: bool| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let layer = Layer::new(q.view(), k.view(), 0.35).unwrap().dense_up_to(dense);
        let layer = if causal { layer.causal() } else { layer };
        let all = pool.install(|| {
            layer.each(|_, map| {
                let rank = token_rank(&map.teleport(0.95)?.backward()?, Stop::strict())?;
                let bounces = bounce_token(&map.forward(), 17, 3)?;
                Ok((rank.pi, bounces, lambda2(&map.forward(), Effort::default())?.modulus))
            })
        });
        all.into_iter().map(Result::unwrap).collect::<Vec<_>>()
    };
    for dense in [0, usize::MAX] {
        for causal in [false, true] {
            let one = answers(1, dense, causal);
            // Two threads for three heads: one head per thread. Five: several threads per head.
            assert!([2, 3, 5].into_iter().all(|threads| answers(threads, dense, causal) == one));
        }
    }
}

#[test]
fn a_bad_head_is_named_and_does_not_lose_the_others() {
    let (n, mut draw) = (6, Draw::new(2));
    let (q, k) = (vectors((2, 2, n, 4), 1.0, &mut draw), vectors((2, 2, n, 4), 1.0, &mut draw));
    // Head 1 of item 0: everything in row 3 is masked, as eager networks write it.
    let mut bias = Array4::<f32>::zeros((2, 2, n, n));
    bias.slice_mut(s![0, 1, 3, ..]).fill(f32::MIN);
    let layer = Layer::new(q.view(), k.view(), 0.5).unwrap().biased(bias.view()).unwrap();
    let results = layer.each(|at, map| Ok((at.item, at.head, map.states())));
    assert_eq!(results.iter().filter_map(|result| result.as_ref().ok()).count(), 3);
    assert!(matches!(results[1], Err(Error::NothingAllowed { row: 3 })), "{:?}", results[1]);
    // Without that token the head is a chain.
    let mut kept = Array2::from_elem((2, n), true);
    kept[(0, 3)] = false;
    let states: Vec<usize> = layer
        .clone()
        .keeping(kept.view())
        .unwrap()
        .each(|_, map| Ok(map.states()))
        .into_iter()
        .map(Result::unwrap)
        .collect();
    assert_eq!(states, [5, 5, 6, 6]);
    assert_eq!(layer.clone().keeping(kept.view()).unwrap().kept(0).unwrap(), [0, 1, 2, 4, 5]);

    // NaN in a query, a key or the bias is refused, unless its token is dropped.
    let refused = |q: &Array4<f32>, k: &Array4<f32>, bias: &Array4<f32>, kept: &Array2<bool>| {
        let layer = Layer::new(q.view(), k.view(), 0.5).unwrap().biased(bias.view()).unwrap();
        layer.keeping(kept.view()).unwrap().each(|_, _| Ok(())).remove(2).err()
    };
    let all = Array2::from_elem((1, n), true);
    let without = Array2::from_shape_fn((1, n), |(_, i)| i != 4);
    let nan = |array: &Array4<f32>, i: usize| {
        let mut array = array.clone();
        array[(1, 0, 4, i)] = f32::NAN;
        array
    };
    let clean = Array4::<f32>::zeros((2, 2, n, n));
    for (q, k, bias) in [
        (nan(&q, 1), k.clone(), clean.clone()),
        (q.clone(), nan(&k, 2), clean.clone()),
        (q.clone(), k.clone(), nan(&clean, 5)),
    ] {
        let error = refused(&q, &k, &bias, &all).unwrap();
        assert!(
            matches!(error, Error::BadVector { token: 4, .. } | Error::BadBias { row: 4, column: 5, .. }),
            "{error}"
        );
        assert!(error.to_string().contains("NaN"), "{error}");
        assert!(refused(&q, &k, &bias, &without).is_none());
    }
    let none = Array2::from_elem((1, n), false);
    assert!(matches!(refused(&q, &k, &clean, &none), Some(Error::Empty)));
    // Only dropped tokens are left to a row.
    let mut island = clean.clone();
    island.slice_mut(s![.., .., 0, ..]).fill(-1e9);
    island.slice_mut(s![.., .., 0, 4]).fill(0.0);
    assert!(refused(&q, &k, &island, &all).is_none());
    assert!(matches!(refused(&q, &k, &island, &without), Some(Error::RowLost { row: 0 })));
}

#[test]
fn shapes_and_settings_are_checked() {
    let q = Array4::<f32>::ones((2, 6, 5, 4));
    fn keys(q: &Array4<f32>, k: (usize, usize, usize, usize)) -> Result<(), Error> {
        Layer::new(q.view(), Array4::<f32>::ones(k).view(), 0.5).map(drop)
    }
    fn layer(q: &Array4<f32>) -> Layer<'_, f32> {
        Layer::new(q.view(), q.view(), 0.5).unwrap()
    }
    for bad in [(1, 6, 5, 4), (2, 4, 5, 4), (2, 12, 5, 4), (2, 6, 4, 4), (2, 6, 5, 3)] {
        assert!(matches!(keys(&q, bad), Err(Error::Shape { .. })), "{bad:?}");
    }
    for good in [(2, 6, 5, 4), (2, 3, 5, 4), (2, 1, 5, 4)] {
        assert!(keys(&q, good).is_ok());
    }
    assert!(matches!(keys(&q, (2, 0, 5, 4)), Err(Error::Empty)));
    for bad in [(2, 6, 5, 4), (3, 1, 1, 1), (1, 3, 5, 5), (0, 1, 1, 1)] {
        assert!(layer(&q).allowed(Array4::from_elem(bad, true).view()).is_err(), "{bad:?}");
        assert!(layer(&q).biased(Array4::<f64>::zeros(bad).view()).is_err());
    }
    assert!(layer(&q).keeping(Array2::from_elem((2, 4), true).view()).is_err());
    assert!(layer(&q).keeping(Array2::from_elem((3, 5), true).view()).is_err());
    for cap in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert!(matches!(layer(&q).softcapped(cap), Err(Error::Setting { .. })));
    }
    assert!(matches!(Layer::new(q.view(), q.view(), f64::NAN), Err(Error::Setting { .. })));
    assert!(matches!(layer(&q).head(markov_core::HeadAt { item: 0, head: 6 }), Err(Error::Count { .. })));
    // Products beyond the range of floats.
    let huge = Array2::from_elem((3, 2), 1e160f64);
    assert!(matches!(QueryKey::new(huge.view(), huge.view(), 1.0), Err(Error::LogitsOverflow { .. })));
}
