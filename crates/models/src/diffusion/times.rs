//! The timesteps of the training schedule that a run visits.

use super::config::{SamplerConfig, SamplerKind, Spacing};

/// Number of timesteps, from the noisiest on, with Runge-Kutta steps in a PNDM run that does not skip them.
pub(super) const RUNGE_KUTTA: usize = 4;

/// Returns the timesteps in the order of the passes through the network, and the number of Runge-Kutta passes at the
/// start.
pub(super) fn times(config: &SamplerConfig, steps: usize) -> (Vec<i64>, usize) {
    let mut times = ascending(config, steps);
    let mut order = Vec::new();
    match config.kind() {
        SamplerKind::Ddim => {}
        SamplerKind::Pndm if config.skip_prk_steps => {
            // The second timestep of a run is visited twice: the second pass corrects the first, which had no earlier
            // outputs.
            if let Some(second) = times.len().checked_sub(2) {
                times.insert(second, times[second]);
            }
        }
        SamplerKind::Pndm => {
            let half = config.num_train_timesteps / steps as i64 / 2;
            let late = &times[times.len().saturating_sub(RUNGE_KUTTA)..];
            // Each of these timesteps and the middle half a step above it, all twice except the outermost.
            let pairs: Vec<i64> = late.iter().flat_map(|&time| [time, time + half]).collect();
            let (_, pairs) = pairs.split_last().unwrap_or((&0, &[]));
            let twice: Vec<i64> = pairs.iter().flat_map(|&time| [time, time]).collect();
            order.extend(twice.iter().rev().skip(1).take(twice.len().saturating_sub(2)));
            times.truncate(times.len().saturating_sub(RUNGE_KUTTA - 1));
        }
    }
    let runge_kutta = order.len();
    order.extend(times.iter().rev());
    (order, runge_kutta)
}

/// Returns the timesteps of `steps` steps in rising order.
fn ascending(config: &SamplerConfig, steps: usize) -> Vec<i64> {
    let (train, count) = (config.num_train_timesteps, steps as i64);
    match config.timestep_spacing {
        Spacing::Leading => (0..count).map(|i| i * (train / count) + config.steps_offset).collect(),
        Spacing::Linspace => {
            let distance = (train - 1) as f64 / (count.max(2) - 1) as f64;
            let time =
                |i: i64| if i > 0 && i + 1 == count { (train - 1) as f64 } else { i as f64 * distance };
            (0..count).map(|i| time(i).round_ties_even() as i64).collect()
        }
        Spacing::Trailing => {
            let distance = train as f64 / count as f64;
            let time = |i: i64| (train as f64 - i as f64 * distance).round_ties_even() as i64 - 1;
            (0..count).rev().map(time).collect()
        }
    }
}
