//! Chains through fused attention equal those of the stored maps.

use markov_core::spectrum::eigenvalues;
use markov_core::torch::{Fused, lambda2, to_vec, token_rank};
use markov_core::{Direction, Effort, Stop};
use ndarray::{ArrayView2, ArrayView3};
use proptest::prelude::*;
use tch::{Device, Kind, Tensor};

use crate::common::Draw;

const STOP: Stop = Stop::accelerated(1e-8);

fn normal(shape: &[i64], scale: f64, draw: &mut Draw) -> Tensor {
    let count: i64 = shape.iter().product();
    let numbers: Vec<f32> = (0..count).map(|_| (scale * draw.normal()) as f32).collect();
    Tensor::from_slice(&numbers).reshape(shape)
}

/// The maps `[batch · heads, n, n]` of a layer in double precision, from float32 logits, as a probe sees them.
fn maps(q: &Tensor, k: &Tensor, scale: f64, bias: Option<&Tensor>) -> Tensor {
    let group = q.size()[1] / k.size()[1];
    let k = k.to_kind(Kind::Float).repeat_interleave_self_int(group, 1, None);
    let mut logits = q.to_kind(Kind::Float).matmul(&k.transpose(-2, -1)) * scale;
    if let Some(bias) = bias {
        logits += bias;
    }
    let n = q.size()[2];
    logits.to_kind(Kind::Double).softmax(-1, Kind::Double).reshape([-1, n, n])
}

/// The moduli of λ₂ by the dense solver.
fn dense(maps: &Tensor) -> Vec<f64> {
    let n = maps.size()[2] as usize;
    let flat: Vec<f64> = to_vec(maps).expect("on the host");
    let all = ArrayView3::from_shape((flat.len() / (n * n), n, n), &flat).expect("maps");
    let second = |map: ArrayView2<'_, f64>| eigenvalues(map).expect("solved")[1].norm();
    all.outer_iter().map(second).collect()
}

fn close(found: &Tensor, want: &[f64], allowed: impl Fn(f64) -> f64) {
    let found: Vec<f64> = to_vec(found).expect("on the host");
    assert_eq!(found.len(), want.len());
    for (head, (found, want)) in found.iter().zip(want).enumerate() {
        assert!((found - want).abs() <= allowed(*want), "head {head}: {found} {want}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn lambda2_and_token_rank_equal_those_of_the_maps(
        n in prop_oneof![2i64..20, 20i64..300],
        (heads, groups) in prop_oneof![Just((1, 1)), Just((4, 2)), Just((3, 1))],
        peak in prop_oneof![Just(0.02), 0.1..3.0f64, 3.0..30.0f64],
        plane in 0..5usize,
        seed in any::<u64>(),
    ) {
        let (batch, dim) = (2, 8);
        let mut draw = Draw::new(seed);
        let q = normal(&[batch, heads, n, dim], 1.0, &mut draw);
        let k = normal(&[batch, groups, n, dim], 1.0, &mut draw);
        let scale = peak / (dim as f64).sqrt();
        let bias = [
            None,
            Some([batch, 1, 1, n]),
            Some([1, heads, n, n]),
            Some([batch, heads, n, n]),
            Some([1, 1, n, n]),
        ][plane].map(|shape| normal(&shape, 1.5, &mut draw));
        let maps = maps(&q, &k, scale, bias.as_ref());
        let layer = Fused::new(&q, &k, scale, bias.as_ref()).unwrap();
        let flat = layer.logits(0..heads).unwrap().softmax(-1, Kind::Float).reshape([-1, n, n]);
        prop_assert!(f64::try_from((&flat - &maps).abs().max()).unwrap() < 1e-5);

        // Among close eigenvalues the estimate can be a few times off.
        let tolerance = 1e-4;
        let found = layer.lambda2(Effort::tolerance(tolerance)).unwrap();
        prop_assert_eq!(found.size(), [batch, heads]);
        close(&found, &dense(&maps), |want| 4.0 * tolerance * want.max(1e-3) + 2e-5);

        for (alpha, direction) in [(0.99, Direction::Forward), (0.9, Direction::Backward)] {
            let found = layer.token_rank(alpha, direction, STOP).unwrap();
            prop_assert_eq!(found.size(), [batch, heads, n]);
            let want = token_rank(&maps, alpha, direction, Stop::strict()).unwrap().pi;
            // The kernel rounds large logits in another way, which moves entries of the maps by up to 1e-5 of them. Hard attention
            // hardly mixes, so that the steady state moves by up to `1 / (1 - α)` times the change of a row.
            let allowed = if peak < 3.0 { 1e-5 } else { 3e-6 / (1.0 - alpha) };
            close(&found, &to_vec::<f64>(&want).unwrap(), |_| allowed);
        }
    }
}

/// A map that turns the tokens in a circle has complex eigenvalues; two equal halves have repeated ones.
#[test]
fn complex_and_repeated_eigenvalues_are_found() {
    let (n, dim) = (240i64, 6i64);
    let angle = |shift: f64| {
        let at = move |i: i64| (i as f64 + shift) / n as f64 * std::f64::consts::TAU;
        let rows: Vec<f32> = (0..n)
            .flat_map(|i| {
                let (one, two) = (at(i), 2.0 * at(i));
                [one.cos(), one.sin(), two.cos(), two.sin(), 0.0, 0.0].map(|v| v as f32)
            })
            .collect();
        Tensor::from_slice(&rows).reshape([1, 1, n, dim])
    };
    // Attention to the token an eighth of a turn ahead: a circulant, whose eigenvalues come in pairs.
    let layer = |q: &Tensor, k: &Tensor, scale: f64| {
        let found = Fused::new(q, k, scale, None).unwrap().lambda2(Effort::tolerance(1e-4)).unwrap();
        close(&found, &dense(&maps(q, k, scale, None)), |want| 1e-4 * want + 1e-5);
    };
    layer(&angle(f64::from(n as i32) / 8.0), &angle(0.0), 3.0);
    let group: Vec<f32> =
        (0..n).flat_map(|i| (0..dim).map(move |c| f32::from(u8::from(i % 6 == c)))).collect();
    let group = Tensor::from_slice(&group).reshape([1, 1, n, dim]);
    layer(&group, &group, 4.0);
    // Uniform attention, whose space closes at once.
    layer(&(&group * 0.0), &group, 1.0);
}

/// Peaked heads: towards the identity, and a band whose far entries underflow.
#[test]
fn peaked_heads_are_those_of_the_maps() {
    for (n, seed) in [(60, 1), (200, 2)] {
        let mut draw = Draw::new(seed);
        let x = normal(&[1, 2, n, 16], 1.0, &mut draw);
        for scale in [5.0, 50.0] {
            let want: Vec<f64> =
                to_vec(&lambda2(&maps(&x, &x, scale, None), Effort::default()).unwrap()).unwrap();
            let found = Fused::new(&x, &x, scale, None).unwrap().lambda2(Effort::tolerance(1e-4)).unwrap();
            close(&found, &want, |_| 1e-4);
        }
    }
}

/// Maps that are nearly triangular: rounding in single precision moves their eigenvalues by much.
#[test]
fn nearly_causal_heads_are_those_of_the_maps() {
    let n = 200i64;
    let mut draw = Draw::new(4);
    let (q, k) = (normal(&[1, 1, n, 8], 0.3, &mut draw), normal(&[1, 1, n, 8], 0.3, &mut draw));
    for ahead in [-20.0, -60.0, -150.0, f64::NEG_INFINITY] {
        let bias: Vec<f32> = (0..n * n)
            .map(|at| {
                let (i, j) = (at / n, at % n);
                let ahead = if j > i { ahead } else { 0.0 };
                (if j + 1 == i { 5.0 } else { ahead }) as f32
            })
            .collect();
        let bias = Tensor::from_slice(&bias).reshape([1, 1, n, n]);
        let layer = Fused::new(&q, &k, 1.0, Some(&bias)).unwrap();
        let maps = layer.logits(0..1).unwrap().softmax(-1, Kind::Float);
        let want = lambda2(&maps.to_kind(Kind::Double), Effort::tolerance(1e-4)).unwrap();
        let found = layer.lambda2(Effort::tolerance(1e-4)).unwrap();
        close(&found, &to_vec::<f64>(&want).unwrap(), |want| 4e-4 * want);
    }
}

/// Hidden keys make a chain reducible.
#[test]
fn hidden_keys_are_left_to_the_structure() {
    let n = 150i64;
    let mut draw = Draw::new(5);
    let (q, k) = (normal(&[2, 2, n, 8], 1.0, &mut draw), normal(&[2, 2, n, 8], 1.0, &mut draw));
    let hide: Vec<f32> = (0..n).map(|j| if j % 3 == 0 { f32::NEG_INFINITY } else { 0.0 }).collect();
    let hide = Tensor::from_slice(&hide).reshape([1, 1, 1, n]);
    let causal = Tensor::full([1, 1, n, n], f64::NEG_INFINITY, (Kind::Float, Device::Cpu)).triu(1);
    for bias in [hide, causal] {
        let maps = maps(&q, &k, 0.5, Some(&bias)).to_kind(Kind::Float);
        let layer = Fused::new(&q, &k, 0.5, Some(&bias)).unwrap();
        let want = lambda2(&maps.to_kind(Kind::Double), Effort::default()).unwrap();
        close(&layer.lambda2(Effort::tolerance(1e-4)).unwrap(), &to_vec::<f64>(&want).unwrap(), |_| 1e-4);
        let want = token_rank(&maps, 0.99, Direction::Forward, STOP).unwrap().pi;
        let found = layer.token_rank(0.99, Direction::Forward, STOP).unwrap();
        close(&found, &to_vec::<f64>(&want).unwrap(), |_| 1e-7);
    }
}

#[test]
fn numbers_of_16_bits_are_used_for_coarse_tolerances() {
    let n = 197;
    let mut draw = Draw::new(6);
    let q = normal(&[1, 3, n, 64], 1.0, &mut draw).to_kind(Kind::BFloat16);
    let k = normal(&[1, 3, n, 64], 1.0, &mut draw).to_kind(Kind::BFloat16);
    let want = dense(&maps(&q, &k, 0.25, None));
    let layer = Fused::new(&q, &k, 0.25, None).unwrap();
    close(&layer.lambda2(Effort::tolerance(1e-4)).unwrap(), &want, |want| 1e-4 * want + 1e-5);
    close(&layer.lambda2(Effort::tolerance(1e-3)).unwrap(), &want, |want| 1e-3 * want + 2e-3);
}

#[test]
fn bad_layers_are_refused_by_name() {
    let tensor = |shape: [i64; 4]| Tensor::ones(shape, (Kind::Float, Device::Cpu));
    let q = tensor([1, 4, 10, 8]);
    for (k, bias, what) in [
        (tensor([1, 3, 10, 8]), None, "keys"),
        (tensor([1, 4, 11, 8]), None, "keys"),
        (tensor([1, 4, 10, 8]), Some(tensor([1, 4, 10, 1])), "bias"),
        (tensor([1, 4, 10, 8]), Some(tensor([2, 1, 1, 10])), "bias"),
    ] {
        let error = Fused::new(&q, &k, 1.0, bias.as_ref()).unwrap_err().to_string();
        assert!(error.contains(what), "{error}");
    }
    // One head that is not finite, among others.
    let mut draw = Draw::new(7);
    let (q, k) = (normal(&[1, 2, 160, 8], 1.0, &mut draw), normal(&[1, 2, 160, 8], 1.0, &mut draw));
    let _ = q.get(0).get(1).get(3).fill_(f64::NAN);
    let layer = Fused::new(&q, &k, 1.0, None).unwrap();
    for error in [
        layer.lambda2(Effort::tolerance(1e-4)).unwrap_err(),
        layer.token_rank(0.99, Direction::Forward, STOP).unwrap_err(),
    ] {
        assert!(error.to_string().contains("matrix 1"), "{error}");
    }
}
