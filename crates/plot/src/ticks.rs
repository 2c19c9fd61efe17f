//! Positions and labels of ticks along an axis.

/// Returns about `count` round numbers inside `low..=high`, and the step between them.
pub(crate) fn ticks(low: f64, high: f64, count: usize) -> (Vec<f64>, f64) {
    let step = step(low, high, count);
    let (first, last) = ((low / step - 1e-9).ceil(), (high / step + 1e-9).floor());
    if !(first.is_finite() && last.is_finite()) || last - first > 1000.0 {
        return (vec![low, high], high - low);
    }
    // Adding 0.0 turns a negative zero into zero.
    let values = (0..=(last - first).max(0.0) as usize).map(|i| (first + i as f64) * step + 0.0).collect();
    (values, step)
}

/// Returns the step, 1, 2 or 5 times a power of ten, such that at most `count` steps span the range.
fn step(low: f64, high: f64, count: usize) -> f64 {
    let raw = (high - low) / count.max(1) as f64;
    if !(raw.is_finite() && raw > 0.0) {
        return 1.0;
    }
    let power = 10f64.powf(raw.log10().floor());
    let factor =
        [1.0, 2.0, 5.0].into_iter().find(|factor| factor * power >= raw * (1.0 - 1e-9)).unwrap_or(10.0);
    factor * power
}

/// Widens a range to whole steps, and down to zero if the values come close to zero.
pub(crate) fn widened(low: f64, high: f64, count: usize) -> (f64, f64) {
    let low = if low >= 0.0 && low < 0.4 * high { 0.0 } else { low };
    if low == high {
        let margin = if low == 0.0 { 1.0 } else { low.abs() * 0.1 };
        return (low - margin, high + margin);
    }
    let step = step(low, high, count);
    ((low / step + 1e-9).floor() * step, (high / step - 1e-9).ceil() * step)
}

/// Writes a tick's value with as many decimals as its step needs.
pub(crate) fn label(value: f64, step: f64) -> String {
    let largest = value.abs().max(step.abs());
    if !(1e-4..1e6).contains(&largest) {
        return if value == 0.0 { "0".to_owned() } else { format!("{value:.1e}").replace('-', "−") };
    }
    let decimals = if step > 0.0 { (-(step.log10() + 1e-9).floor()).clamp(0.0, 6.0) as usize } else { 3 };
    format!("{value:.decimals$}").replace('-', "−")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(low: f64, high: f64, count: usize) -> Vec<String> {
        let (values, step) = ticks(low, high, count);
        values.into_iter().map(|value| label(value, step)).collect()
    }

    #[test]
    fn ticks_are_round_numbers() {
        assert_eq!(labels(0.0, 1.0, 5), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(
            labels(0.0, 0.95, 10),
            ["0.0", "0.1", "0.2", "0.3", "0.4", "0.5", "0.6", "0.7", "0.8", "0.9"]
        );
        assert_eq!(labels(-3.0, 3.0, 3), ["−2", "0", "2"]);
        assert_eq!(labels(0.0, 900.0, 5), ["0", "200", "400", "600", "800"]);
        assert_eq!(labels(0.0, 3e-6, 3), ["0", "1.0e−6", "2.0e−6", "3.0e−6"]);
    }

    #[test]
    fn extreme_ranges_have_a_limited_number_of_ticks() {
        for (low, high) in [(1.0, 1.0), (f64::MIN, f64::MAX), (0.0, f64::MIN_POSITIVE), (1e15, 1e15 + 1.0)] {
            assert!(ticks(low, high, 5).0.len() <= 1001, "{low} {high}");
        }
    }

    #[test]
    fn ranges_widen_to_whole_steps() {
        let close = |(a, b): (f64, f64), (c, d): (f64, f64)| (a - c).abs() < 1e-9 && (b - d).abs() < 1e-9;
        assert!(close(widened(0.03, 0.87, 5), (0.0, 1.0)));
        assert!(close(widened(0.71, 0.87, 5), (0.7, 0.9)));
        assert!(close(widened(0.0, 0.0, 5), (-1.0, 1.0)));
        assert!(close(widened(0.5, 0.5, 5), (0.45, 0.55)));
    }
}
