//! Times what DiffSeg does with an image's aggregate, stage by stage, and prints one JSON object.
//!
//! `cargo run -p tasks --example diffseg_bench -- AGGREGATE.npy [--threads N] [--repeat R] [--method TOML]
//! [--threshold T] [--labels FILE] [--device cpu]`
//!
//! The file is a little-endian float32 `.npy` of shape `[n, n]`, tokens of a square grid; `tools/bench_diffseg_numpy.py` writes
//! one, runs this and does the same in NumPy. The labels of 512 by 512 pixels go to `FILE` as little-endian 16-bit numbers.

use std::time::Instant;

use models::Device;
use tasks::diffseg::{DiffSegConfig, anchors, gather, labels, unite};
use tch::{Cuda, Tensor};

type Failure = Box<dyn std::error::Error>;

const SIZE: (usize, usize) = (512, 512);

fn main() -> Result<(), Failure> {
    let (mut file, mut labels_file, mut threads, mut repeat) = (None, None, 2, 5usize);
    let (mut method, mut threshold, mut device) = ("\"tokenrank\"".to_owned(), 1.1, Device::Cpu);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
        match argument.as_str() {
            "--threads" => threads = value()?.parse()?,
            "--repeat" => repeat = value()?.parse()?,
            "--method" => method = value()?,
            "--threshold" => threshold = value()?.parse()?,
            "--labels" => labels_file = Some(value()?),
            "--device" => device = models::device::parse(&value()?)?,
            _ => file = Some(argument),
        }
    }
    tch::set_num_threads(threads);
    rayon::ThreadPoolBuilder::new().num_threads(threads as usize).build_global()?;
    let _guard = models::no_grad();
    let aggregate = Tensor::read_npy(file.ok_or("which aggregate?")?)?.f_to_device(device)?;
    let (n, _) = aggregate.size2()?;
    let side = (n as f64).sqrt() as usize;
    let grid = (side, side);
    let config: DiffSegConfig = toml::from_str(&format!("methods = [{method}]\nthreshold = {threshold}"))?;
    config.check()?;
    let method = &config.methods[0];

    // Once before the clock starts, to warm threads and allocators.
    let mut best = [f64::INFINITY; 5];
    let mut found = Vec::new();
    let mut segments = None;
    for run in 0..=repeat {
        let mut clock = Clock::start(device);
        let chosen = anchors(method, &aggregate, grid, config.alpha, 0)?;
        let ranked = clock.lap();
        let mut proposals = gather(&aggregate, &chosen, config.threshold)?;
        let gathered = clock.lap();
        found = vec![proposals.size()[0]];
        for _ in 1..config.rounds {
            proposals = unite(&proposals, config.threshold)?;
            found.push(proposals.size()[0]);
        }
        let united = clock.lap();
        segments = Some(labels(&proposals, grid, SIZE)?);
        let labelled = clock.lap();
        if run > 0 {
            let laps = [ranked, gathered, united, labelled, ranked + gathered + united + labelled];
            best.iter_mut().zip(laps).for_each(|(best, lap)| *best = best.min(lap));
        }
    }
    if let (Some(path), Some(segments)) = (labels_file, segments) {
        let bytes: Vec<u8> = segments.iter().flat_map(|label| label.to_le_bytes()).collect();
        std::fs::write(path, bytes)?;
    }
    let [ranked, gathered, united, labelled, total] = best;
    println!(
        "{{\"tokens\": {n}, \"threads\": {threads}, \"proposals\": {found:?}, \"anchors_ms\": {ranked:.2}, \
         \"first_round_ms\": {gathered:.2}, \"later_rounds_ms\": {united:.2}, \"labels_ms\": {labelled:.2}, \
         \"total_ms\": {total:.2}}}"
    );
    Ok(())
}

/// Milliseconds between laps, the device's work included.
struct Clock(Device, Instant);

impl Clock {
    fn start(device: Device) -> Self {
        let mut clock = Self(device, Instant::now());
        clock.lap();
        clock
    }

    fn lap(&mut self) -> f64 {
        if let Device::Cuda(index) = self.0 {
            Cuda::synchronize(index as i64);
        }
        let lap = self.1.elapsed().as_secs_f64() * 1e3;
        self.1 = Instant::now();
        lap
    }
}
