//! Times λ₂ and TokenRank over the heads of attention layers given by queries and keys, and prints one JSON object per
//! layer.
//!
//! `cargo run --release -p markov-core --example bench_layer -- [--threads N] [--repeat R] [--only NAME] [--clock wall|cpu]`
//!
//! Queries and keys are drawn so that tokens of one of eight groups prefer each other. `dense_ms` stores the matrices, the others do so first and then compute; times are per layer. `--clock cpu` counts the processor time of all
//! threads (Linux only), which suits a machine that others use too.

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
    let (mut threads, mut repeat, mut only, mut clock) = (1usize, 3usize, None, Clock::Wall);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{argument} needs a value"))?;
        match argument.as_str() {
            "--threads" => threads = value.parse()?,
            "--repeat" => repeat = value.parse()?,
            "--only" => only = Some(value),
            "--clock" if value == "wall" => clock = Clock::Wall,
            "--clock" if value == "cpu" => clock = Clock::Processor,
            _ => return Err(format!("unknown argument {argument}").into()),
        }
    }
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global()?;
    for shape in SHAPES.iter().filter(|shape| only.as_ref().is_none_or(|name| name == shape.name)) {
        bench(shape, threads, repeat, clock)?;
    }
    Ok(())
}

fn bench(shape: &Shape, threads: usize, repeat: usize, clock: Clock) -> Result<(), Failure> {
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

    let empty = best(repeat, clock, || all(&layer, |_| Ok(())).map(drop))?;
    let lambda = best(repeat, clock, || all(&layer, |map| lambda2(&map.forward(), exact)).map(drop))?;
    let lambda_rough = best(repeat, clock, || all(&layer, |map| lambda2(&map.forward(), rough)).map(drop))?;
    let rank = best(repeat, clock, || all(&layer, rank).map(drop))?;
    let bounces = best(repeat, clock, || all(&layer, |map| bounce_token(&map.forward(), 5, 4)).map(drop))?;
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
fn best(repeat: usize, clock: Clock, run: impl Fn() -> markov_core::Result<()>) -> Result<f64, Failure> {
    let mut shortest = f64::INFINITY;
    for _ in 0..repeat.max(1) {
        let start = clock.seconds()?;
        run()?;
        shortest = shortest.min(clock.seconds()? - start);
    }
    Ok(shortest * 1e3)
}

#[derive(Debug, Clone, Copy)]
enum Clock {
    Wall,
    /// Processor time of all threads.
    Processor,
}

impl Clock {
    fn seconds(self) -> Result<f64, Failure> {
        match self {
            Clock::Wall => {
                Ok(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs_f64())
            }
            Clock::Processor => {
                let mut nanoseconds = 0.0;
                for thread in std::fs::read_dir("/proc/self/task")? {
                    let spent = std::fs::read_to_string(thread?.path().join("schedstat"))?;
                    nanoseconds += spent.split(' ').next().ok_or("no processor time")?.parse::<f64>()?;
                }
                Ok(nanoseconds / 1e9)
            }
        }
    }
}

/// Queries or keys `[1, heads, n, 64]`: one of eight directions per token plus noise, from flat heads to peaky ones.
fn draw(heads: usize, n: usize, seed: u64) -> Array4<f32> {
    let mut state = seed;
    let mut unit = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f64 / (1u64 << 24) as f64
    };
    Array4::from_shape_fn((1, heads, n, 64), |(_, h, i, c)| {
        // Rows of a Hadamard matrix: the sign is the parity of the bits that group and dimension share.
        let group = i * i % 61 % 8;
        let direction = if ((group + 1) & c).count_ones() % 2 == 0 { 1.0 } else { -1.0 };
        let size = 0.4 + 0.4 * h as f64 / heads as f64;
        (size * direction + (unit() - 0.5)) as f32
    })
}
