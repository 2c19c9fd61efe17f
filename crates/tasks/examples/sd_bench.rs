//! Times guided sampling with a Stable Diffusion 1.5 UNet of full size whose weights are random: without guidance, with SAG,
//! and with SAG on TokenRank's mask. Latents only; the autoencoder is the same for all. Nothing is downloaded.
//!
//! ```text
//! cargo run --release -p tasks --example sd_bench -- --device cuda:0 --out results/gpu/NAME-sd-tokenrank.json
//! cargo run -p tasks --example sd_bench -- --tiny
//! ```
//!
//! `tools/bench_sd_diffusers.py` does the same with diffusers' pipelines, and runs this beside them.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use models::diffusion::{Sampler, SamplerConfig};
use models::pipeline::{Guide, Start, sample};
use models::sd::{Unet, UnetConfig};
use models::{Device, Kind, device, no_grad};
use serde_json::{Value, json};
use tasks::guidance::{Blur, Importance, Sag, SagGuide, Threshold};
use tch::{Cuda, Tensor};

const USAGE: &str = "usage: sd_bench [--tiny] [--device cpu|cuda:N] [--dtype bf16|f16|f32] [--batch 4] [--steps 20] \
                     [--repeat 5] [--name NAME] [--out FILE.json]";

/// Width of CLIP ViT-L/14's text tokens, and how many there are.
const TEXT: (i64, i64) = (77, 768);

struct Arguments {
    tiny: bool,
    device: String,
    dtype: String,
    batch: i64,
    steps: usize,
    repeat: usize,
    name: Option<String>,
    out: Option<PathBuf>,
}

impl Arguments {
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, Box<dyn Error>> {
        let (device, dtype) = ("cpu".to_owned(), "bf16".to_owned());
        let mut found =
            Self { tiny: false, device, dtype, batch: 4, steps: 20, repeat: 5, name: None, out: None };
        while let Some(flag) = words.next() {
            if flag == "--tiny" {
                found.tiny = true;
                continue;
            }
            let value = words.next().ok_or_else(|| format!("{flag} needs a value\n{USAGE}"))?;
            let bad = |error: &dyn Error| format!("{flag} {value}: {error}\n{USAGE}");
            match flag.as_str() {
                "--device" => found.device = value,
                "--dtype" => found.dtype = value,
                "--batch" => found.batch = value.parse().map_err(|error| bad(&error))?,
                "--steps" => found.steps = value.parse().map_err(|error| bad(&error))?,
                "--repeat" => found.repeat = value.parse().map_err(|error| bad(&error))?,
                "--name" => found.name = Some(value),
                "--out" => found.out = Some(value.into()),
                _ => return Err(format!("there is no option {flag}\n{USAGE}").into()),
            }
        }
        if found.batch < 1 || found.repeat == 0 {
            return Err(format!("--batch and --repeat must be at least 1\n{USAGE}").into());
        }
        Ok(found)
    }

    fn kind(&self) -> Result<Kind, Box<dyn Error>> {
        Ok(match self.dtype.as_str() {
            "bf16" => Kind::BFloat16,
            "f16" => Kind::Half,
            "f32" => Kind::Float,
            other => return Err(format!("--dtype {other} is unknown\n{USAGE}").into()),
        })
    }
}

/// The modes by name, and how each guides.
fn modes() -> [(&'static str, Option<Sag>); 3] {
    let sag = |importance| Sag {
        importance,
        threshold: Threshold::AboveAverage,
        alpha: 0.99,
        scale: 0.75,
        blur: Blur::default(),
    };
    [
        ("plain", None),
        ("sag", Some(sag(Importance::ColumnSum))),
        ("sag-tokenrank", Some(sag(Importance::Tokenrank))),
    ]
}

struct Bench {
    unet: Unet,
    sampler: SamplerConfig,
    steps: usize,
    noise: Tensor,
    text: Tensor,
}

impl Bench {
    fn new(arguments: &Arguments, device: Device) -> Result<Self, Box<dyn Error>> {
        // Its scheduler is Stable Diffusion 1.5's.
        let mini = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets/mini/models/sd");
        let (config, tokens, side) = if arguments.tiny {
            (UnetConfig::from_dir(&mini.join("unet"))?, 24, 16)
        } else {
            let mut config = UnetConfig::default();
            config.cross_attention_dim = TEXT.1;
            (config, TEXT.0, 64)
        };
        let draw = |shape: &[i64]| Tensor::f_randn(shape, (Kind::Float, device));
        Ok(Self {
            noise: draw(&[arguments.batch, config.in_channels, side, side])?,
            text: draw(&[arguments.batch, tokens, config.cross_attention_dim])?,
            sampler: SamplerConfig::from_dir(&mini.join("scheduler"), None)?,
            unet: Unet::random(config, arguments.kind()?, device)?,
            steps: arguments.steps,
        })
    }

    /// Seconds of one trajectory.
    fn run(&self, sag: Option<Sag>) -> models::Result<f64> {
        let sampler = Sampler::new(&self.sampler, self.steps)?;
        let start = Start { noise: &self.noise, text: &self.text, guidance: None };
        let mut guide = sag.map(|sag| SagGuide::new(sag, self.noise.size()[0]));
        let began = Instant::now();
        let _latents =
            sample(&self.unet, sampler, &start, guide.as_mut().map(|guide| guide as &mut dyn Guide))?;
        if let Device::Cuda(index) = self.unet.device() {
            Cuda::synchronize(index as i64);
        }
        Ok(began.elapsed().as_secs_f64())
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse(std::env::args().skip(1))?;
    let device = device::parse(&arguments.device)?;
    let _no_grad = no_grad();
    tch::manual_seed(0);
    let name = arguments.name.clone().unwrap_or_else(|| device::name(device));
    let bench = Bench::new(&arguments, device)?;
    let passes = Sampler::new(&bench.sampler, arguments.steps)?.times().len();
    eprintln!(
        "random weights in {} on {name}, {passes} passes of {} pictures",
        arguments.dtype, arguments.batch
    );

    let modes = modes();
    let mut seconds = modes.map(|_| Vec::new());
    // Turn by turn, so that a slow moment of the machine is no mode's own; the first turn warms up.
    for turn in 0..=arguments.repeat {
        for ((_, sag), seconds) in modes.iter().zip(&mut seconds) {
            let took = bench.run(*sag)?;
            if turn > 0 {
                seconds.push(took);
            }
        }
    }
    println!("{:<14} {:>12} {:>14} {:>9}", "mode", "s per pass", "pictures per s", "ratio");
    let mut runs: Vec<Value> = Vec::new();
    let mut plain = None;
    for ((mode, _), mut seconds) in modes.iter().zip(seconds) {
        seconds.sort_by(f64::total_cmp);
        let median = seconds[seconds.len() / 2];
        let ratio = median / *plain.get_or_insert(median);
        let (pass, rate) = (median / passes as f64, arguments.batch as f64 / median);
        println!("{mode:<14} {pass:>12.5} {rate:>14.4} {ratio:>9.2}");
        runs.push(json!({
            "mode": mode, "seconds": median, "all_seconds": seconds, "seconds_per_pass": pass,
            "pictures_per_second": rate, "ratio": ratio,
        }));
    }
    let libtorch = device::libtorch().and_then(|library| library.version);
    let report = json!({
        "program": concat!("tokenrank ", env!("CARGO_PKG_VERSION")), "torch": libtorch, "device": name,
        "dtype": arguments.dtype, "batch": arguments.batch, "steps": arguments.steps, "passes": passes,
        "repeat": arguments.repeat, "runs": runs,
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
