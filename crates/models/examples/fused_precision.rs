//! Compares λ₂ and TokenRank from queries and keys with those of float64 maps, on the heads of a vision network.
//!
//! ```text
//! cargo run --release -p models --example fused_precision -- --model DIR --images DIR [--limit 10] [--size 224] [--out FILE.json]
//! ```
//!
//! The reference is the softmax in float64 of float32 queries and keys, with λ₂ to 1e-10. `bf16` rounds queries and keys first;
//! its reference is that of the numbers that were not rounded.

use std::error::Error;
use std::ops::Range;
use std::path::PathBuf;

use markov_core::torch::{self, Fused, HALF};
use markov_core::{Direction, Effort, Stop};
use models::attend::{AttentionProbe, ChainView, KeyBias, View, Want};
use models::image::Rgb8;
use models::vision::VisionModel;
use models::{Kind, LoadOptions, Site};
use serde_json::{Value, json};
use tch::Tensor;

const ALPHA: f64 = 0.99;

/// The differences of one quantity over all heads.
#[derive(Default)]
struct Differences(Vec<f64>);

impl Differences {
    fn add(&mut self, found: &Tensor, want: &Tensor) -> models::Result<()> {
        self.0.extend(torch::to_vec::<f64>(&found.f_sub(want)?.f_abs()?)?);
        Ok(())
    }

    fn summary(mut self) -> Value {
        self.0.sort_by(f64::total_cmp);
        let at = |part: f64| self.0.get(((self.0.len() as f64 - 1.0) * part) as usize).copied();
        json!({ "median": at(0.5), "99 %": at(0.99), "largest": at(1.0) })
    }
}

/// Compares the heads of every layer.
#[derive(Default)]
struct Comparison {
    tokens: i64,
    single: Differences,
    coarse: Differences,
    rounded: Differences,
    as_maps: Differences,
    forward: Differences,
    backward: Differences,
}

impl AttentionProbe for Comparison {
    fn want(&mut self, _: &Site) -> Want {
        Want::CHAIN | Want::FUSED
    }

    fn see(&mut self, _: &Site, _: Range<i64>, view: &View<'_>) -> models::Result<()> {
        let ChainView::QueriesKeys { q, k, scale, bias } = view.chain()? else { return Ok(()) };
        self.tokens = q.size4()?.2;
        let double = |q: &Tensor, k: &Tensor| -> models::Result<Tensor> {
            let keys = k.f_to_kind(Kind::Double)?.f_transpose(-2, -1)?;
            let logits = q.f_to_kind(Kind::Double)?.f_matmul(&keys)?.f_mul_scalar(scale)?;
            Ok(logits.f_softmax(-1, Kind::Double)?)
        };
        let maps = double(q, k)?;
        let want = torch::lambda2(&maps, Effort::default())?;
        let layer = Fused::new(q, k, scale, bias)?;
        self.single.add(&layer.lambda2(Effort::tolerance(1e-4))?, &want)?;
        self.as_maps.add(&torch::lambda2(&maps.f_to_kind(Kind::Float)?, Effort::tolerance(1e-4))?, &want)?;
        let half = |x: &Tensor| x.f_to_kind(Kind::BFloat16);
        let (q, k) = (half(q)?, half(k)?);
        self.rounded.add(&torch::lambda2(&double(&q, &k)?, Effort::default())?, &want)?;
        self.coarse.add(&Fused::new(&q, &k, scale, bias)?.lambda2(Effort::tolerance(HALF))?, &want)?;
        for (direction, differences) in
            [(Direction::Forward, &mut self.forward), (Direction::Backward, &mut self.backward)]
        {
            let want = torch::token_rank(&maps, ALPHA, direction, Stop::strict())?.pi;
            let found = layer.token_rank(ALPHA, direction, Stop::accelerated(1e-8))?;
            let off =
                found.f_sub(&want)?.f_abs()?.f_sum_dim_intlist([-1i64].as_slice(), false, Kind::Double)?;
            differences.add(&off, &off.f_zeros_like()?)?;
        }
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let (mut model, mut images, mut out) = (None, None, None);
    let (mut limit, mut size) = (10, 224);
    let mut words = std::env::args().skip(1);
    while let Some(flag) = words.next() {
        let value = words.next().ok_or_else(|| format!("{flag} needs a value"))?;
        match flag.as_str() {
            "--model" => model = Some(PathBuf::from(value)),
            "--images" => images = Some(PathBuf::from(value)),
            "--out" => out = Some(PathBuf::from(value)),
            "--limit" => limit = value.parse()?,
            "--size" => size = value.parse()?,
            _ => return Err(format!("there is no option {flag}").into()),
        }
    }
    let _no_grad = models::no_grad();
    let options = LoadOptions { image_size: Some((size, size)), ..LoadOptions::default() };
    let model = VisionModel::load(&model.ok_or("give --model")?, &options)?;
    let mut files: Vec<PathBuf> = std::fs::read_dir(images.ok_or("give --images")?)?
        .map(|entry| Ok(entry?.path()))
        .collect::<std::io::Result<_>>()?;
    files.retain(|file| file.extension().is_some_and(|end| end.eq_ignore_ascii_case("jpeg")));
    files.sort();
    files.truncate(limit);
    let mut comparison = Comparison::default();
    for file in &files {
        let pixels = model.preprocessor.apply(&Rgb8::open(file)?)?;
        let embedded = model.network.embed(&VisionModel::batch([&pixels])?)?;
        model.network.encode(&embedded, &KeyBias::none(), &mut comparison)?;
    }
    let heads = comparison.single.0.len();
    let report = json!({
        "heads": heads,
        "tokens": comparison.tokens,
        "images": files.len(),
        "reference": "softmax of float32 queries and keys in float64; λ₂ to 1e-10, TokenRank at 0.99 to 1e-6",
        "lambda2": {
            "float32 maps, 1e-4": comparison.as_maps.summary(),
            "float32 queries and keys, 1e-4": comparison.single.summary(),
            "bfloat16 queries and keys, 1e-3": comparison.coarse.summary(),
            "float64 maps of bfloat16 queries and keys, 1e-10": comparison.rounded.summary(),
        },
        "token_rank, L1": {
            "float32 queries and keys, forward": comparison.forward.summary(),
            "float32 queries and keys, backward": comparison.backward.summary(),
        },
    });
    let text = format!("{}\n", serde_json::to_string_pretty(&report)?);
    match out {
        Some(out) => std::fs::write(out, text)?,
        None => print!("{text}"),
    }
    Ok(())
}
