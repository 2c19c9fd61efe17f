//! Times λ₂ and TokenRank over the heads of attention layers given by queries and keys, and prints one JSON object per
//! layer.
//!
//! `cargo run --release -p markov-core --example bench_layer -- [--threads N] [--repeat R] [--only NAME]`
//!
//! Queries and keys are drawn, with a part that makes nearby tokens attend to each other. `dense_ms` stores the matrices, the others do so first and then compute; times are per layer.

use std::time::Instant;

use markov_core::{Effort, HeadMap, Layer, RowStochastic, Stop, bounce_token, lambda2, token_rank};
use ndarray::Array4;

type Failure = Box<dyn std::error::Error>;

/// The shape of a layer.
struct Shape {
    name: &'static str,
    heads: usize,
    key_heads: usize,
    tokens: usize,
    mask: Given,
    /// Number of tokens up to which matrices are stored.
    dense: usize,
}

/// How a causal mask is given.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Given {
    No,
    ByName,
    /// As an additive float32 array `[1, 1, n, n]`.
    Added,
}

const SHAPES: [Shape; 7] = [
    Shape { name: "vit-b", heads: 12, key_heads: 12, tokens: 197, mask: Given::No, dense: 2048 },
    Shape { name: "vit-b, recomputed", heads: 12, key_heads: 12, tokens: 197, mask: Given::No, dense: 0 },
    Shape { name: "llama", heads: 32, key_heads: 8, tokens: 2048, mask: Given::ByName, dense: 2048 },
    Shape { name: "llama, recomputed", heads: 32, key_heads: 8, tokens: 2048, mask: Given::ByName, dense: 0 },
    Shape {
        name: "llama, additive mask",
        heads: 32,
        key_heads: 8,
        tokens: 2048,
        mask: Given::Added,
        dense: 2048,
    },
    Shape { name: "bidirectional", heads: 4, key_heads: 4, tokens: 2048, mask: Given::No, dense: 2048 },
    Shape {
        name: "bidirectional, recomputed",
        heads: 4,
        key_heads: 4,
        tokens: 2048,
        mask: Given::No,
        dense: 0,
    },
];

fn main() -> Result<(), Failure> {
    let (mut threads, mut repeat, mut only) = (1usize, 3usize, None);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{argument} needs a value"))?;
        match argument.as_str() {
            "--threads" => threads = value.parse()?,
            "--repeat" => repeat = value.parse()?,
            "--only" => only = Some(value),
            _ => return Err(format!("unknown argument {argument}").into()),
        }
    }
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global()?;
    for shape in SHAPES.iter().filter(|shape| only.as_ref().is_none_or(|name| name == shape.name)) {
        bench(shape, threads, repeat)?;
    }
    Ok(())
}

fn bench(shape: &Shape, threads: usize, repeat: usize) -> Result<(), Failure> {
    let Shape { name, heads, key_heads, tokens, mask, dense } = *shape;
    let (q, k) = (draw(heads, tokens, 1), draw(key_heads, tokens, 2));
    let layer = Layer::new(q.view(), k.view(), 0.125)?.dense_up_to(dense);
    let added =
        Array4::from_shape_fn((1, 1, tokens, tokens), |(.., i, j)| if j > i { f32::MIN } else { 0.0 });
    let layer = match mask {
        Given::No => layer,
        Given::ByName => layer.causal(),
        Given::Added => layer.biased(added.view())?,
    };
    let (strict, exact, rough) = (Stop::strict(), Effort::default(), Effort::tolerance(1e-4));
    let rank = |map: &HeadMap<'_>| token_rank(&map.teleport(0.99)?.forward(), strict);

    let summary = all(&layer, |map| Ok((lambda2(&map.forward(), exact)?, rank(map)?)))?;
    let products: Vec<usize> = summary.iter().map(|(lambda, _)| lambda.products).collect();
    let iterations: Vec<usize> = summary.iter().map(|(_, rank)| rank.iterations).collect();
    let largest = summary.iter().map(|(lambda, _)| lambda.modulus).fold(0.0, f64::max);
    // Stored and recomputed matrices, on the first head.
    let (head, other) = (layer.heads()[0], layer.clone().dense_up_to(if dense > 0 { 0 } else { tokens }));
    let again = other.some(&[head], |_, map| Ok((lambda2(&map.forward(), exact)?, rank(map)?)));
    let (lambda, pi) = again.into_iter().next().ok_or("a head")??;
    let lambda_difference = (lambda.modulus - summary[0].0.modulus).abs();
    let rank_difference = (&pi.pi - &summary[0].1.pi).mapv(f64::abs).sum();

    let empty = best(repeat, || all(&layer, |_| Ok(())).map(drop))?;
    let lambda = best(repeat, || all(&layer, |map| lambda2(&map.forward(), exact)).map(drop))?;
    let lambda_rough = best(repeat, || all(&layer, |map| lambda2(&map.forward(), rough)).map(drop))?;
    let rank = best(repeat, || all(&layer, rank).map(drop))?;
    let bounces = best(repeat, || all(&layer, |map| bounce_token(&map.forward(), 5, 4)).map(drop))?;
    println!(
        "{{\"layer\": \"{name}\", \"heads\": {heads}, \"tokens\": {tokens}, \"causal\": {}, \"threads\": {threads}, \
         \"dense_ms\": {empty:.2}, \"lambda2_ms\": {lambda:.2}, \"lambda2_1e-4_ms\": {lambda_rough:.2}, \
         \"token_rank_ms\": {rank:.2}, \"bounces_4_ms\": {bounces:.2}, \"largest_lambda2\": {largest:.4}, \
         \"lambda2_products\": {products:?}, \"token_rank_products\": {iterations:?}, \
         \"lambda2_difference\": {lambda_difference:.1e}, \"token_rank_difference\": {rank_difference:.1e}}}",
        mask != Given::No
    );
    Ok(())
}

fn all<R: Send>(
    layer: &Layer<'_, f32>,
    of: impl Fn(&HeadMap<'_>) -> markov_core::Result<R> + Sync,
) -> markov_core::Result<Vec<R>> {
    layer.each(|_, map| of(map)).into_iter().collect()
}

/// Returns the shortest of `repeat` runs, in milliseconds.
fn best(repeat: usize, run: impl Fn() -> markov_core::Result<()>) -> Result<f64, Failure> {
    let mut shortest = f64::INFINITY;
    for _ in 0..repeat.max(1) {
        let start = Instant::now();
        run()?;
        shortest = shortest.min(start.elapsed().as_secs_f64());
    }
    Ok(shortest * 1e3)
}

/// Queries or keys `[1, heads, n, 64]`: waves along the positions plus noise, from flat heads to peaky ones.
fn draw(heads: usize, n: usize, seed: u64) -> Array4<f32> {
    let mut state = seed;
    let mut unit = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f64 / (1u64 << 24) as f64
    };
    Array4::from_shape_fn((1, heads, n, 64), |(_, h, i, c)| {
        let turns = i as f64 / n as f64 * (c / 2 + 1) as f64 / 4.0 + 0.25 * (c % 2) as f64;
        let near = 0.3 + 0.5 * h as f64 / heads as f64;
        (near * (turns * std::f64::consts::TAU).cos() + 3.0 * (unit() - 0.5)) as f32
    })
}
