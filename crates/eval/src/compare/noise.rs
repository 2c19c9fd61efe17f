//! How far metrics move where nothing but the machine changes: its threads, its instruction set.

/// Significant digits of a tolerance.
const DIGITS: i32 = 2;

/// What a tolerance of a metric is made of: the largest of three parts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Noise {
    /// In the units of the metric.
    absolute: f64,
    /// Fraction of the value.
    relative: f64,
    /// Divided by the number of items: how much one item may move.
    item: f64,
}

/// A fraction that pixels or predictions add up to.
const FRACTION: Noise = Noise { absolute: 0.005, relative: 0.0, item: 0.12 };

/// What is assumed of a metric that is not among [`NOISE`].
const OTHER: Noise = Noise { absolute: 0.005, relative: 0.005, item: 0.12 };

/// By the names of the metrics in results.
const NOISE: [(&str, Noise); 19] = [
    // One image is classified otherwise.
    ("unmasked-accuracy", Noise { absolute: 0.005, relative: 0.0, item: 1.0 }),
    ("auc", FRACTION),
    ("auc-still-right", FRACTION),
    ("accuracy", FRACTION),
    ("class-accuracy", FRACTION),
    ("image-accuracy", FRACTION),
    ("miou", FRACTION),
    ("miou-identity", FRACTION),
    ("miou-order-free", FRACTION),
    ("map", FRACTION),
    ("map-foreground", FRACTION),
    // A segment more or less in one image; in two images.
    ("adjusted-rand-index", Noise { absolute: 0.005, relative: 0.0, item: 0.24 }),
    ("boundary-recall", Noise { absolute: 0.005, relative: 0.0, item: 0.24 }),
    ("proposals", Noise { absolute: 0.005, relative: 0.0, item: 2.0 }),
    ("inception-score", Noise { absolute: 0.0, relative: 0.005, item: 0.0 }),
    ("frechet", Noise { absolute: 0.0, relative: 0.005, item: 0.0 }),
    ("kernel", Noise { absolute: 0.0005, relative: 0.02, item: 0.0 }),
    // One drawn picture comes to lie inside or outside.
    ("precision", Noise { absolute: 0.005, relative: 0.0, item: 1.0 }),
    ("recall", Noise { absolute: 0.005, relative: 0.0, item: 1.0 }),
];

impl Noise {
    /// Of a metric by its name in results.
    pub(super) fn of(metric: &str) -> Self {
        NOISE.iter().find(|(name, _)| *name == metric).map_or(OTHER, |(_, noise)| *noise)
    }

    /// How far a value over so many items may move, rounded up to two digits.
    pub(super) fn tolerance(self, value: Option<f64>, items: u64) -> f64 {
        let value = value.filter(|value| value.is_finite()).unwrap_or(0.0);
        let of_an_item = self.item / items.max(1) as f64;
        rounded_up(self.absolute.max(self.relative * value.abs()).max(of_an_item))
    }
}

/// To [`DIGITS`] digits, upwards.
fn rounded_up(value: f64) -> f64 {
    if value <= 0.0 {
        return 0.0;
    }
    let unit = DIGITS - 1 - value.log10().floor() as i32;
    // Through text: 0.29 is to be written as such. A number that has two digits stays what it is.
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
    use crate::metrics::{DiffSegMetric, MaskingMetric, SegmentMetric};

    #[test]
    fn every_metric_of_sums_has_a_line() {
        let known = |name: String| NOISE.iter().any(|(known, _)| *known == name);
        assert!(MaskingMetric::ALL.iter().all(|metric| known(metric.to_string())));
        assert!(SegmentMetric::ALL.iter().all(|metric| known(metric.to_string())));
        assert!(DiffSegMetric::ALL.iter().all(|metric| known(metric.to_string())));
    }

    #[test]
    fn tolerances_follow_scale_and_items() {
        let of = |metric: &str, value: f64, items: u64| Noise::of(metric).tolerance(Some(value), items);
        assert_eq!(
            [of("frechet", 155.215, 6), of("frechet", 56.7, 24), of("frechet", 2.6, 50_000)],
            [0.78, 0.29, 0.013]
        );
        assert_eq!([of("miou", 0.5, 24), of("miou", 0.5, 4), of("miou", 0.9, 4_276)], [0.005, 0.03, 0.005]);
        // One image of 24, and no more.
        assert_eq!(of("unmasked-accuracy", 1.0, 24), 0.042);
        assert!(of("unmasked-accuracy", 1.0, 24) < 2.0 / 24.0);
        assert_eq!(of("somebody's own", 1_000.0, 24), 5.0);
        assert_eq!(Noise::of("frechet").tolerance(None, 0), 0.0);
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
