//! Times λ₂ and TokenRank over the attention heads of a file and prints one JSON object.
//!
//! `cargo run --release -p markov-core --example bench_heads -- [maps.npy] [--threads N] [--repeat R] [--serve]`
//!
//! With `--serve` it does what each line of stdin names (`lambda2 TOLERANCE`, `power`, `accelerated` or `strict`) and answers with a
//! line of JSON, so that another program can time it in turn with others.
//! The file is a little-endian float32 `.npy` of shape `[heads, n, n]`; `tools/bench_peer.py` writes one and times torch
//! on the same maps. Without a file, peaky softmax maps are drawn: 36 heads of 900 tokens.

use std::time::Instant;

use markov_core::{Effort, Method, Stop, heads, lambda2_many, token_rank_many};
use ndarray::{Array3, Axis};

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let (mut file, mut threads, mut repeat, mut serving) = (None, 1usize, 5usize, false);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--threads" => threads = arguments.next().ok_or("--threads needs a number")?.parse()?,
            "--repeat" => repeat = arguments.next().ok_or("--repeat needs a number")?.parse()?,
            "--serve" => serving = true,
            _ => file = Some(argument),
        }
    }
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global()?;
    let maps = match &file {
        Some(path) => read_npy(path)?,
        None => draw(36, 900),
    };
    let (count, n, _) = maps.dim();
    if serving {
        return serve(&maps);
    }

    // Runs both once before timing, to start the thread pool and to get the results.
    let reference = lambda2_many(maps.view(), 1e-12)?;
    let rough = lambda2_many(maps.view(), 1e-4)?;
    let error = rough.iter().zip(&reference).map(|(a, b)| (a - b).abs() / b.max(1e-3)).fold(0.0, f64::max);
    let exact = token_rank_many(maps.view(), 0.99, Stop::strict())?;
    let plain = token_rank_many(maps.view(), 0.99, Stop::reference())?;
    let fast = token_rank_many(maps.view(), 0.99, Stop::accelerated(1e-5))?;
    let distance = |found: &ndarray::Array2<f64>| {
        (found - &exact).map_axis(Axis(1), |row| row.mapv(f64::abs).sum()).fold(0.0, |a: f64, b| a.max(*b))
    };

    let per_head = |seconds: f64| seconds * 1e3 / count as f64;
    let lambda = per_head(best(repeat, || lambda2_many(maps.view(), 1e-4).map(drop))?);
    let lambda_tight = per_head(best(repeat, || lambda2_many(maps.view(), 1e-10).map(drop))?);
    let power = per_head(best(repeat, || token_rank_many(maps.view(), 0.99, Stop::reference()).map(drop))?);
    let accelerated =
        per_head(best(repeat, || token_rank_many(maps.view(), 0.99, Stop::accelerated(1e-5)).map(drop))?);
    let strict = per_head(best(repeat, || token_rank_many(maps.view(), 0.99, Stop::strict()).map(drop))?);

    let summaries = heads(maps.view(), 0.99, Stop::reference(), Effort::tolerance(1e-4))?;
    let quick = heads(maps.view(), 0.99, Stop::accelerated(1e-5), Effort::tolerance(1e-4))?;
    let (causal, passes) = causal_head(repeat)?;
    let products: Vec<usize> = summaries.iter().map(|head| head.lambda2.products).collect();
    let dense = summaries.iter().filter(|head| head.lambda2.method == Method::Dense).count();
    let steps: Vec<usize> = summaries.iter().map(|head| head.rank.iterations).collect();
    let short: Vec<usize> = quick.iter().map(|head| head.rank.iterations).collect();
    println!(
        "{{\"heads\": {count}, \"tokens\": {n}, \"threads\": {threads}, \"lambda2_ms\": {lambda:.4}, \
         \"lambda2_1e-10_ms\": {lambda_tight:.4}, \"lambda2_error\": {error:.2e}, \"lambda2_products\": {products:?}, \
         \"lambda2_dense\": {dense}, \"power_ms\": {power:.4}, \"power_steps\": {steps:?}, \
         \"power_distance\": {:.2e}, \"accelerated_ms\": {accelerated:.4}, \"accelerated_products\": {short:?}, \
         \"accelerated_distance\": {:.2e}, \"strict_ms\": {strict:.4}, \"causal_4096_lambda2_ms\": {causal:.4}, \
         \"causal_4096_passes\": {passes:.2}, \"lambda2\": {}}}",
        distance(&plain),
        distance(&fast),
        format_args!("{:.9?}", reference.to_vec()),
    );
    Ok(())
}

/// Does what the lines of stdin name until it ends. Answers with λ₂ of every head, or with the TokenRank
/// of the first token of each.
fn serve(maps: &Array3<f32>) -> Result<(), Failure> {
    for line in std::io::stdin().lines() {
        let line = line?;
        let ranks = |stop| -> Result<Vec<f64>, Failure> {
            Ok(token_rank_many(maps.view(), 0.99, stop)?.rows().into_iter().map(|row| row[0]).collect())
        };
        let answer = match line.split_once(' ').unwrap_or((&line, "")) {
            ("lambda2", tolerance) => lambda2_many(maps.view(), tolerance.parse()?)?.to_vec(),
            ("power", _) => ranks(Stop::reference())?,
            ("accelerated", _) => ranks(Stop::accelerated(1e-5))?,
            ("strict", _) => ranks(Stop::strict())?,
            (other, _) => return Err(format!("no such work: `{other}`").into()),
        };
        println!("{answer:?}");
    }
    Ok(())
}

/// Returns the shortest of `repeat` runs, in seconds.
fn best(repeat: usize, run: impl Fn() -> markov_core::Result<()>) -> Result<f64, Failure> {
    let mut shortest = f64::INFINITY;
    for _ in 0..repeat.max(1) {
        let start = Instant::now();
        run()?;
        shortest = shortest.min(start.elapsed().as_secs_f64());
    }
    Ok(shortest)
}

/// λ₂ of a causal float32 head of 4,096 tokens: milliseconds, and how many passes over the matrix, a plain sum of its
/// entries in double precision, take as long.
fn causal_head(repeat: usize) -> Result<(f64, f64), Failure> {
    let n = 4096;
    let map = Array3::from_shape_fn((1, n, n), |(_, i, j)| if j <= i { 1.0 / (i + 1) as f32 } else { 0.0 });
    let lambda = best(repeat, || lambda2_many(map.view(), 1e-4).map(drop))?;
    let values = map.as_slice().ok_or("a map in row-major order")?;
    let pass = best(repeat, || {
        let sums = values.chunks_exact(16).fold([0.0; 16], |mut sums, chunk| {
            sums.iter_mut().zip(chunk).for_each(|(sum, value)| *sum += f64::from(*value));
            sums
        });
        std::hint::black_box(sums);
        Ok(())
    })?;
    Ok((lambda * 1e3, lambda / pass))
}

/// Softmax of random logits with a smooth part, from flat heads to peaky ones.
fn draw(heads: usize, n: usize) -> Array3<f32> {
    let mut state = 0x5eed_u64;
    let mut unit = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f64 / (1u64 << 24) as f64
    };
    let mut maps = Array3::zeros((heads, n, n));
    for (h, mut map) in maps.outer_iter_mut().enumerate() {
        let (near, peak) = (0.02 * h as f64 / heads as f64, 1.0 + 4.0 * h as f64 / heads as f64);
        for ((i, j), value) in map.indexed_iter_mut() {
            *value = (peak * unit() - near * i.abs_diff(j) as f64).exp() as f32;
        }
        for mut row in map.rows_mut() {
            let sum = row.sum();
            row /= sum;
        }
    }
    maps
}

/// A version 1 or 2 `.npy` of little-endian float32 in C order with three axes.
fn read_npy(path: &str) -> Result<Array3<f32>, Failure> {
    let bytes = std::fs::read(path).map_err(|error| format!("{path}: {error}"))?;
    let refuse = || format!("{path}: not a little-endian float32 .npy of shape [heads, n, n] in C order");
    let wide = match bytes.get(..8) {
        Some([0x93, b'N', b'U', b'M', b'P', b'Y', major, _]) => usize::from(*major > 1),
        _ => return Err(refuse().into()),
    };
    let length: usize = match wide {
        0 => u16::from_le_bytes(bytes.get(8..10).ok_or_else(refuse)?.try_into()?).into(),
        _ => u32::from_le_bytes(bytes.get(8..12).ok_or_else(refuse)?.try_into()?) as usize,
    };
    let start = 10 + 2 * wide;
    let header = std::str::from_utf8(bytes.get(start..start + length).ok_or_else(refuse)?)?;
    if !header.contains("'<f4'") || !header.contains("'fortran_order': False") {
        return Err(refuse().into());
    }
    let shape =
        header.split_once("'shape': (").and_then(|(_, rest)| rest.split_once(')')).ok_or_else(refuse)?.0;
    let shape: Vec<usize> = shape
        .split(',')
        .filter(|axis| !axis.trim().is_empty())
        .map(|axis| axis.trim().parse())
        .collect::<Result<_, _>>()?;
    let [heads, rows, columns] = shape[..] else { return Err(refuse().into()) };
    let numbers =
        bytes[start + length..].as_chunks::<4>().0.iter().map(|four| f32::from_le_bytes(*four)).collect();
    Ok(Array3::from_shape_vec((heads, rows, columns), numbers)?)
}
