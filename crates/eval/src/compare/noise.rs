//! How far metrics move if only the machine changes: its threads or its instruction set.

use crate::experiments::KINDS;
use crate::experiments::spec::Noise;

/// Significant digits of a tolerance.
const DIGITS: i32 = 2;

/// Noise that is assumed for a metric that no experiment has.
const OTHER: Noise = Noise { absolute: 0.005, relative: 0.005, item: 0.12 };

/// Returns how far a metric moves with the machine, by its key in results.
pub(super) fn noise(metric: &str) -> Noise {
    KINDS.iter().find_map(|facts| facts.metric(metric)).map_or(OTHER, |metric| metric.noise)
}

/// Returns how far a value over this number of items may move, rounded up to two digits.
pub(super) fn tolerance(noise: Noise, value: Option<f64>, items: u64) -> f64 {
    let value = value.filter(|value| value.is_finite()).unwrap_or(0.0);
    let of_an_item = noise.item / items.max(1) as f64;
    rounded_up(noise.absolute.max(noise.relative * value.abs()).max(of_an_item))
}

/// Rounds up to [`DIGITS`] significant digits.
fn rounded_up(value: f64) -> f64 {
    if value <= 0.0 {
        return 0.0;
    }
    let unit = DIGITS - 1 - value.log10().floor() as i32;
    // Through text, so that 0.29 is written as 0.29. A number with two digits stays unchanged.
    let mut digits = (value * 10f64.powi(unit) * (1.0 - 1e-9)).ceil();
    let mut unit = unit;
    if digits >= 10f64.powi(DIGITS) {
        (digits, unit) = (digits / 10.0, unit - 1);
    }
    format!("{digits}e{}", -unit).parse().unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn tolerances_follow_scale_and_items() {
        let of = |metric: &str, value: f64, items: u64| tolerance(noise(metric), Some(value), items);
        assert_eq!(
            [of("frechet", 155.215, 6), of("frechet", 56.7, 24), of("frechet", 2.6, 50_000)],
            [0.78, 0.29, 0.013]
        );
        assert_eq!([of("miou", 0.5, 24), of("miou", 0.5, 4), of("miou", 0.9, 4_276)], [0.005, 0.03, 0.005]);
        // One image of 24, and no more.
        assert_eq!(of("unmasked-accuracy", 1.0, 24), 0.042);
        assert!(of("unmasked-accuracy", 1.0, 24) < 2.0 / 24.0);
        assert_eq!(of("somebody's own", 1_000.0, 24), 5.0);
        assert_eq!(tolerance(noise("frechet"), None, 0), 0.0);
    }

    proptest! {
        #[test]
        fn rounding_is_upwards_and_within_a_tenth(value in 1e-9..1e6) {
            let rounded = rounded_up(value);
            prop_assert!(rounded >= value * (1.0 - 1e-9) && rounded <= value * 1.1 + 1e-12, "{value} {rounded}");
            prop_assert_eq!(rounded_up(rounded), rounded);
        }
    }
}
