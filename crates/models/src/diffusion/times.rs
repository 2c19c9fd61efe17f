//! The timesteps of the training schedule that a run visits.

use super::config::{SamplerConfig, Spacing};

/// Number of timesteps, from the noisiest on, with Runge-Kutta steps in a PNDM run that does not skip them.
pub(super) const RUNGE_KUTTA: usize = 4;

/// Returns the timesteps of a run of PNDM in the order of the passes through the network, and the number of Runge-Kutta
/// passes at the start.
pub(super) fn of_pndm(config: &SamplerConfig, steps: usize) -> (Vec<i64>, usize) {
    let mut times = of_ddim(config, steps);
    times.reverse();
    let mut order = Vec::new();
    if config.skip_prk_steps {
        // The second timestep of a run is visited twice: the second pass corrects the first, which had no earlier
        // outputs.
        if let Some(second) = times.len().checked_sub(2) {
            times.insert(second, times[second]);
        }
    } else {
        let half = config.num_train_timesteps / steps as i64 / 2;
        let late = &times[times.len().saturating_sub(RUNGE_KUTTA)..];
        // Each of these timesteps and the middle half a step above it, all twice except the outermost.
        let pairs: Vec<i64> = late.iter().flat_map(|&time| [time, time + half]).collect();
        let (_, pairs) = pairs.split_last().unwrap_or((&0, &[]));
        let twice: Vec<i64> = pairs.iter().flat_map(|&time| [time, time]).collect();
        order.extend(twice.iter().rev().skip(1).take(twice.len().saturating_sub(2)));
        times.truncate(times.len().saturating_sub(RUNGE_KUTTA - 1));
    }
    let runge_kutta = order.len();
    order.extend(times.iter().rev());
    (order, runge_kutta)
}

/// Returns the timesteps of `steps` steps of DDIM, falling.
pub(super) fn of_ddim(config: &SamplerConfig, steps: usize) -> Vec<i64> {
    whole(&falling(config, steps as i64))
}

/// Returns the timesteps of `steps` steps of a solver whose last step leads from the lowest of them to the end: they are
/// chosen as if there were one step more, and the lowest is left out. Falling.
pub(super) fn of_multistep(config: &SamplerConfig, steps: usize) -> Vec<i64> {
    let steps = steps as i64;
    match config.spacing() {
        Spacing::Leading | Spacing::Linspace => {
            let mut times = whole(&falling(config, steps + 1));
            times.pop();
            times
        }
        Spacing::Trailing => whole(&falling(config, steps)),
    }
}

/// Returns the timesteps of `steps` steps of Euler's method, falling. Evenly spaced ones may lie between two timesteps of
/// the training, and are rounded to float32 as in diffusers.
pub(super) fn of_euler(config: &SamplerConfig, steps: usize) -> Vec<f64> {
    let single = |time: f64| f64::from(time as f32);
    falling(config, steps as i64).into_iter().map(single).collect()
}

fn whole(times: &[f64]) -> Vec<i64> {
    times.iter().map(|time| time.round_ties_even() as i64).collect()
}

/// Returns `count` timesteps as the configuration spaces them, from the noisiest to the least noisy.
fn falling(config: &SamplerConfig, count: i64) -> Vec<f64> {
    let train = config.num_train_timesteps;
    match config.spacing() {
        Spacing::Leading => {
            (0..count).rev().map(|i| (i * (train / count) + config.steps_offset) as f64).collect()
        }
        Spacing::Linspace => {
            let distance = (train - 1) as f64 / (count.max(2) - 1) as f64;
            let time =
                |i: i64| if i > 0 && i + 1 == count { (train - 1) as f64 } else { i as f64 * distance };
            (0..count).rev().map(time).collect()
        }
        Spacing::Trailing => {
            let distance = train as f64 / count as f64;
            let time = |i: i64| (train as f64 - i as f64 * distance).round_ties_even() - 1.0;
            (0..count).map(time).collect()
        }
    }
}
