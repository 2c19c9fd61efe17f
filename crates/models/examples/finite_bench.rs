//! Measures what the checks for finite numbers cost, as a fraction of a pass of a vision network.
//!
//! `cargo run --release --package models --example finite_bench -- DIR [BATCH]`, where DIR is a model directory. The checks
//! are those of a pass: sums of queries and keys in every block, and one test of the encoded tokens and of the logits.

use std::path::Path;
use std::time::Instant;

use models::attend::{KeyBias, NoProbe};
use models::vision::VisionTransformer;
use models::{Device, Kind};
use tch::Tensor;

const ROUNDS: usize = 9;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let _no_grad = models::no_grad();
    let mut args = std::env::args().skip(1);
    let dir = args.next().ok_or("give a model directory")?;
    let batch: i64 = args.next().map_or(Ok(8), |batch| batch.parse())?;
    let network = VisionTransformer::load(Path::new(&dir), Kind::Float, Device::Cpu, None)?;
    let pixels = Tensor::f_randn([batch, 3, 224, 224], (Kind::Float, Device::Cpu))?;
    let embedded = network.embed(&pixels)?;
    let tokens = &embedded.tokens;
    let encoded = network.encode(&embedded, &KeyBias::none(), &mut NoProbe)?;
    let logits = network.logits(&encoded)?.ok_or("the network has no classifier")?;
    let (_, n, width) = tokens.size3()?;
    // Any number of heads: the sums read all numbers of a block.
    let q = tokens.f_reshape([batch, n, 1, width])?.f_transpose(1, 2)?;

    let sum = |x: &Tensor| x.f_sum_dim_intlist([-2i64, -1].as_slice(), true, Kind::Float);
    let finite = |x: &Tensor| -> Result<bool, tch::TchError> {
        Ok(x.f_reshape([batch, -1])?.f_isfinite()?.f_all_dim(1, false)?.f_all()?.f_int64_value(&[])? == 1)
    };
    let mut output = tokens.f_zeros_like()?.f_reshape([batch, n, 1, width])?.f_transpose(1, 2)?;
    let mut times = [const { Vec::new() }; 2];
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let encoded = network.encode(&embedded, &KeyBias::none(), &mut NoProbe)?;
        std::hint::black_box(network.logits(&encoded)?);
        times[0].push(start.elapsed().as_secs_f64());
        let start = Instant::now();
        for _ in 0..network.depth() {
            let zero = sum(&q)?.f_add_(&sum(&q)?)?.f_mul_scalar_(0.0)?;
            output = output.f_add_(&zero)?;
        }
        std::hint::black_box((finite(&encoded.tokens)?, finite(&logits)?));
        times[1].push(start.elapsed().as_secs_f64());
    }
    let [pass, checks] = times.map(|mut times| {
        times.sort_by(f64::total_cmp);
        times[ROUNDS / 2]
    });
    println!(
        "pass {:.2} ms, checks {:.3} ms: {:.2} % (medians of {ROUNDS}, {batch} images, {n} tokens, width {width}, {} blocks)",
        1e3 * pass,
        1e3 * checks,
        100.0 * checks / pass,
        network.depth()
    );
    Ok(())
}
