//! Measures how long the metrics of generated images take on features of the usual size.
//!
//! ```text
//! cargo run --release -p eval --example bench_fidelity -- 50000 2048 1008
//! ```
//!
//! Arguments: number of images, numbers per feature, number of classes. Features are random; prints a JSON line per stage.

use std::process::ExitCode;
use std::time::Instant;

use eval::metrics::fidelity::{
    FidelityError, Gaussian, InceptionScore, KernelDistance, PrecisionRecall, frechet_distance,
};
use ndarray::{Array2, s};
use tasks::Rng;

fn random(rows: usize, columns: usize, seed: u64) -> Array2<f64> {
    let mut rng = Rng::keyed(&[seed]);
    Array2::from_shape_simple_fn((rows, columns), || rng.range(-1.0, 1.0) + rng.range(-1.0, 1.0))
}

fn timed<T>(what: &str, run: impl FnOnce() -> Result<T, FidelityError>) -> Result<T, FidelityError> {
    let start = Instant::now();
    let found = run()?;
    println!("{{\"stage\": \"{what}\", \"seconds\": {:.1}}}", start.elapsed().as_secs_f64());
    Ok(found)
}

fn measure(items: usize, width: usize, classes: usize) -> Result<(), FidelityError> {
    let (generated, reference) = (random(items, width, 0), random(items, width, 1));
    let (generated, reference) = (generated.view(), reference.view());
    let ours = timed("mean and covariance", || Gaussian::of(generated))?;
    let theirs = timed("mean and covariance again", || Gaussian::of(reference))?;
    timed("Fréchet distance of two covariances", || frechet_distance(&ours, &theirs))?;
    let subset_size = 1000.min(items);
    let kernel = KernelDistance { subset_size, ..KernelDistance::default() };
    timed("kernel distance, 100 subsets", || kernel.between(generated, reference))?;
    let most = 10_000.min(items);
    let (few, others) = (generated.slice(s![..most, ..]), reference.slice(s![..most, ..]));
    timed("precision and recall, at most 10,000 items", || PrecisionRecall::default().between(few, others))?;
    let logits = random(items, classes, 2);
    timed("Inception Score", || InceptionScore::default().of(logits.view()))?;
    Ok(())
}

fn main() -> ExitCode {
    let numbers: Vec<usize> = std::env::args().skip(1).filter_map(|word| word.parse().ok()).collect();
    let &[items, width, classes] = numbers.as_slice() else {
        eprintln!("usage: bench_fidelity ITEMS WIDTH CLASSES");
        return ExitCode::from(2);
    };
    match measure(items, width, classes) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
