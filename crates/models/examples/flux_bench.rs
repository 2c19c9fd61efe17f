//! Times passes of a full-size FLUX transformer with random weights: without probe, with a mean map, and with λ₂ of
//! every head of the last blocks, as the program computes it and from stored maps. It reads no files; `--tiny` uses a network for a CPU, to check that everything works.
//!
//! ```text
//! cargo run --release -p models --example flux_bench -- --device cuda:0 --out results/gpu/NAME-tokenrank.json
//! cargo run -p models --example flux_bench -- --tiny
//! ```
//!
//! `tools/bench_flux_diffusers.py` does the same with diffusers and writes the same fields.

use std::collections::BTreeMap;
use std::error::Error;
use std::ops::Range;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Instant;

use markov_core::{Direction, Stop, torch};
use models::attend::{AttentionProbe, NoProbe, View, Want};
use models::flux::{FluxConfig, FluxInput, FluxTransformer};
use models::probe::{HeadWeight, LambdaWeight, MapKind, MapRequest, PassMaps, Select, WeightScope};
use models::{Device, Kind, Site, Stream, device, memory, no_grad};
use serde_json::{Value, json};
use tch::{Cuda, Tensor};

const USAGE: &str = "usage: flux_bench [--tiny] [--device cpu|cuda:N] [--sizes 512,1024] [--text 256] [--repeat 5] \
                     [--heads-at-once N] [--name NAME] [--out FILE.json]";

/// Side of an image token in pixels.
const PIXELS_PER_TOKEN: i64 = 16;
/// Number of last blocks of each stream that the probe sees.
const LAST: usize = 10;

struct Arguments {
    tiny: bool,
    device: String,
    sizes: Vec<i64>,
    text: i64,
    repeat: usize,
    heads_at_once: Option<usize>,
    name: Option<String>,
    out: Option<PathBuf>,
}

impl Arguments {
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, Box<dyn Error>> {
        let mut arguments = Self {
            tiny: false,
            device: "cpu".into(),
            sizes: Vec::new(),
            text: 256,
            repeat: 5,
            heads_at_once: None,
            name: None,
            out: None,
        };
        while let Some(flag) = words.next() {
            if flag == "--tiny" {
                arguments.tiny = true;
                continue;
            }
            let value = words.next().ok_or_else(|| format!("{flag} needs a value\n{USAGE}"))?;
            let bad = |error: &dyn Error| format!("{flag} {value}: {error}\n{USAGE}");
            match flag.as_str() {
                "--device" => arguments.device = value,
                "--sizes" => {
                    let sizes = value.split(',').map(|side| side.parse().map_err(|error| bad(&error)));
                    arguments.sizes = sizes.collect::<Result<_, _>>()?;
                }
                "--text" => arguments.text = value.parse().map_err(|error| bad(&error))?,
                "--repeat" => arguments.repeat = value.parse().map_err(|error| bad(&error))?,
                "--heads-at-once" => {
                    arguments.heads_at_once = Some(value.parse().map_err(|error| bad(&error))?);
                }
                "--name" => arguments.name = Some(value),
                "--out" => arguments.out = Some(value.into()),
                _ => return Err(format!("there is no option {flag}\n{USAGE}").into()),
            }
        }
        if arguments.sizes.is_empty() {
            arguments.sizes = if arguments.tiny { vec![64, 128] } else { vec![512, 1024] };
        }
        if let Some(side) = arguments.sizes.iter().find(|side| **side <= 0 || **side % PIXELS_PER_TOKEN != 0)
        {
            return Err(format!("--sizes: {side} is no multiple of {PIXELS_PER_TOKEN}\n{USAGE}").into());
        }
        if arguments.repeat == 0 || arguments.text <= 0 {
            return Err(format!("--repeat and --text must be at least 1\n{USAGE}").into());
        }
        Ok(arguments)
    }
}

/// The probe of a pass.
#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Unwatched,
    MeanMap,
    Lambda2,
    Lambda2OfMaps,
}

impl Mode {
    const ALL: [Self; 4] = [Self::Unwatched, Self::MeanMap, Self::Lambda2, Self::Lambda2OfMaps];

    fn name(self) -> &'static str {
        match self {
            Self::Unwatched => "unprobed",
            Self::MeanMap => "mean-map",
            Self::Lambda2 => "lambda2",
            Self::Lambda2OfMaps => "lambda2-of-maps",
        }
    }

    /// The requests for the last blocks of both streams.
    fn request(self) -> Option<MapRequest> {
        let weight = match self {
            Self::Unwatched => return None,
            Self::MeanMap => HeadWeight::Equal,
            Self::Lambda2 | Self::Lambda2OfMaps => {
                HeadWeight::Lambda(LambdaWeight::Proportional, WeightScope::PerBlock)
            }
        };
        Some(MapRequest { map: MapKind::Plain, weight })
    }
}

/// Makes the pass store maps for a probe that can do without.
struct OfMaps<P> {
    probe: P,
    stored: bool,
}

impl<P: AttentionProbe> AttentionProbe for OfMaps<P> {
    fn want(&mut self, site: &Site) -> Want {
        match self.probe.want(site) {
            want if self.stored && want.contains(Want::CHAIN) => want | Want::PROBS,
            want => want,
        }
    }

    fn heads_at_once(&self) -> Option<i64> {
        self.probe.heads_at_once()
    }

    fn see(&mut self, site: &Site, heads: Range<i64>, view: &View<'_>) -> models::Result<()> {
        self.probe.see(site, heads, view)
    }
}

/// The shape of FLUX.1-schnell, or the same number of blocks with narrow tokens.
fn configuration(tiny: bool) -> FluxConfig {
    let mut config = FluxConfig::default();
    if tiny {
        (config.num_layers, config.num_single_layers) = (3, 4);
        (config.num_attention_heads, config.attention_head_dim) = (4, 16);
        (config.joint_attention_dim, config.pooled_projection_dim) = (32, 24);
        config.axes_dims_rope = [4, 6, 6];
    }
    config
}

struct Bench {
    network: FluxTransformer,
    device: Device,
    text: i64,
    repeat: usize,
    heads_at_once: Option<usize>,
}

/// The result of a mode at one size.
struct Timing {
    /// Times of every pass after the first two, in rising order.
    seconds: Vec<f64>,
    peak_host: Option<u64>,
}

impl Timing {
    fn median(&self) -> f64 {
        let middle = self.seconds.len() / 2;
        if self.seconds.len() % 2 == 1 {
            self.seconds[middle]
        } else {
            (self.seconds[middle - 1] + self.seconds[middle]) / 2.0
        }
    }
}

impl Bench {
    fn pass(&self, input: &FluxInput<'_>, mode: Mode) -> models::Result<()> {
        let config = self.network.config();
        let last = |depth: usize| (depth.saturating_sub(LAST)..depth).collect();
        let watch = |probe: &mut dyn AttentionProbe| self.network.forward(input, probe).map(drop);
        match mode.request() {
            None => watch(&mut NoProbe)?,
            Some(request) => {
                let blocks = BTreeMap::from([
                    (Stream::Dual, last(config.num_layers)),
                    (Stream::Single, last(config.num_single_layers)),
                ]);
                let probe = Select::of_streams(blocks, PassMaps::new([request], self.heads_at_once));
                let mut probe = OfMaps { probe, stored: mode == Mode::Lambda2OfMaps };
                watch(&mut probe)?;
                probe.probe.inner.finish()?;
            }
        }
        if let Device::Cuda(index) = self.device {
            Cuda::synchronize(index as i64);
        }
        Ok(())
    }

    fn time(&self, side: i64, mode: Mode) -> models::Result<Timing> {
        let config = self.network.config();
        let rows = side / PIXELS_PER_TOKEN;
        let draw = |shape: &[i64]| Tensor::f_randn(shape, (Kind::Float, self.device));
        let input = FluxInput {
            latents: &draw(&[1, rows * rows, config.in_channels])?,
            grid: (rows, rows),
            reference: None,
            text: &draw(&[1, self.text, config.joint_attention_dim])?,
            pooled: &draw(&[1, config.pooled_projection_dim])?,
            concepts: None,
            timestep: 0.5,
            guidance: None,
            step: 2,
        };
        for _ in 0..2 {
            self.pass(&input, mode)?;
        }
        let resets = memory::reset_peak_host();
        let mut seconds = Vec::with_capacity(self.repeat);
        for _ in 0..self.repeat {
            let start = Instant::now();
            self.pass(&input, mode)?;
            seconds.push(start.elapsed().as_secs_f64());
        }
        seconds.sort_by(f64::total_cmp);
        Ok(Timing { seconds, peak_host: memory::peak_host().filter(|_| resets) })
    }
}

/// The largest differences of what this device computes from double precision: of the dot products of queries and keys in
/// bfloat16, relative to the largest, and of TokenRank in L1.
fn check(device: Device) -> Result<Value, Box<dyn Error>> {
    let draw = || Tensor::f_randn([1, 8, 512, 128], (Kind::Float, device))?.f_to_kind(Kind::BFloat16);
    let (queries, keys) = (draw()?, draw()?);
    let double = |x: &Tensor| x.f_to_kind(Kind::Double);
    let want = double(&queries)?.f_matmul(&double(&keys)?.f_transpose(-2, -1)?)?;
    let off = double(&torch::dot_products(&queries, &keys)?)?.f_sub(&want)?.f_abs()?.f_max()?;
    let products = off.f_div(&want.f_abs()?.f_max()?)?.f_double_value(&[])?;
    let maps = want.f_mul_scalar(0.1)?.f_softmax(-1, Kind::Float)?;
    let rank = |maps: &Tensor, stop| {
        Ok::<_, Box<dyn Error>>(torch::token_rank(maps, 0.99, Direction::Forward, stop)?.pi)
    };
    let exact = rank(&double(&maps.f_to_device(Device::Cpu)?)?, Stop::power(1e-14, 3000))?;
    let off = rank(&maps, Stop::accelerated(1e-8))?.f_to_device(Device::Cpu)?.f_sub(&exact)?;
    let ranks = off.f_abs()?.f_sum_dim_intlist([-1i64].as_slice(), false, Kind::Double)?.f_max()?;
    Ok(json!({ "dot products": products, "TokenRank": ranks.f_double_value(&[])? }))
}

/// The driver's name of the device. The user must give the processor's name.
fn device_name(device: Device) -> String {
    let Device::Cuda(index) = device else { return "cpu".into() };
    let query = ["--query-gpu=name", "--format=csv,noheader", "-i", &index.to_string()];
    let output =
        Command::new("nvidia-smi").args(query).output().ok().filter(|output| output.status.success());
    let name = output.and_then(|output| String::from_utf8(output.stdout).ok());
    name.map_or_else(|| device::name(device), |name| name.trim().to_owned())
}

fn run() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse(std::env::args().skip(1))?;
    let device = device::parse(&arguments.device)?;
    let _no_grad = no_grad();
    tch::manual_seed(0);
    let name = arguments.name.clone().unwrap_or_else(|| device_name(device));
    let kind = Kind::BFloat16;
    let config = configuration(arguments.tiny);
    let (blocks, parameters) = ([config.num_layers, config.num_single_layers], config.parameters());
    eprintln!("{:.3} billion random parameters in bfloat16 on {name}", parameters as f64 / 1e9);
    let check = check(device)?;
    let network = FluxTransformer::random(config, kind, device)?;
    let Arguments { text, repeat, heads_at_once, .. } = arguments;
    let bench = Bench { network, device, text, repeat, heads_at_once };

    println!(
        "{:>6} {:>7} {:<15} {:>12} {:>9} {:>10}",
        "pixels", "tokens", "mode", "s per image", "ratio", "host MiB"
    );
    let mut runs: Vec<Value> = Vec::new();
    for &side in &arguments.sizes {
        let tokens = text + (side / PIXELS_PER_TOKEN).pow(2);
        let mut unwatched = None;
        for mode in Mode::ALL {
            let timing = bench.time(side, mode)?;
            let median = timing.median();
            let ratio = median / *unwatched.get_or_insert(median);
            let host = timing.peak_host.map_or("-".into(), |bytes| format!("{}", bytes >> 20));
            println!("{side:>6} {tokens:>7} {:<15} {median:>12.4} {ratio:>9.2} {host:>10}", mode.name());
            runs.push(json!({
                "size": side,
                "tokens": tokens,
                "mode": mode.name(),
                "seconds": median,
                "all_seconds": timing.seconds,
                "ratio": ratio,
                "peak_host_bytes": timing.peak_host,
                // libtorch counts it, but tch does not expose the count.
                "peak_device_bytes": null,
            }));
        }
    }
    let libtorch = device::libtorch().and_then(|library| library.version);
    let report = json!({
        "program": concat!("tokenrank ", env!("CARGO_PKG_VERSION")),
        "torch": libtorch,
        "device": name,
        "dtype": "bf16",
        "parameters": parameters,
        "blocks": blocks,
        "watched": format!("the last {LAST} of each stream"),
        "text_tokens": text,
        "repeat": repeat,
        "heads_at_once": heads_at_once,
        "differences_from_double_precision": check,
        "runs": runs,
    });
    if let Some(out) = arguments.out {
        if let Some(folder) = out.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(&out, format!("{}\n", serde_json::to_string_pretty(&report)?))?;
        eprintln!("written: {}", out.display());
    }
    Ok(())
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}
