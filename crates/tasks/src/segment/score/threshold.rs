//! The threshold of a signal.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// The value above which a signal in [0, 1] is foreground. Written `mean`, `median`, `otsu`, `quantile:0.8` or
/// `fixed:0.5`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Threshold {
    /// The mean of the map.
    #[default]
    Mean,
    /// The median of the map, that is, [`Threshold::Quantile`] of one half.
    Median,
    /// The threshold with the largest variance between the two sides (Otsu 1979). Every value of the map is tried, not
    /// the edges of a histogram; of several equally good ones the lowest is taken.
    Otsu,
    /// The value below which this fraction of the map lies, interpolated linearly between neighbours as
    /// `numpy.quantile` does.
    Quantile(f64),
    /// A fixed value.
    Fixed(f64),
}

impl JsonSchema for Threshold {
    fn schema_name() -> Cow<'static, str> {
        "ScoreThreshold".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "`mean`, `median`, `otsu`, `quantile:Q` or `fixed:V`, with Q and V from 0 to 1.",
            "type": "string",
            "pattern": "^(mean|median|otsu|(quantile|fixed):[0-9.]+)$",
        })
    }
}

/// The error for a text that names no threshold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown threshold `{0}`; write mean, median, otsu, quantile:Q or fixed:V with Q and V from 0 to 1")]
pub struct UnknownThreshold(String);

impl FromStr for Threshold {
    type Err = UnknownThreshold;

    fn from_str(text: &str) -> Result<Self, UnknownThreshold> {
        let unknown = || UnknownThreshold(text.to_owned());
        let number = |digits: &str| digits.parse::<f64>().map_err(|_| unknown());
        let threshold = match text.split_once(':') {
            None => match text {
                "mean" => Self::Mean,
                "median" => Self::Median,
                "otsu" => Self::Otsu,
                _ => return Err(unknown()),
            },
            Some(("quantile", fraction)) => Self::Quantile(number(fraction)?),
            Some(("fixed", value)) => Self::Fixed(number(value)?),
            Some(_) => return Err(unknown()),
        };
        threshold.check().map(|()| threshold).map_err(|_| unknown())
    }
}

impl TryFrom<String> for Threshold {
    type Error = UnknownThreshold;

    fn try_from(text: String) -> Result<Self, UnknownThreshold> {
        text.parse()
    }
}

impl From<Threshold> for String {
    fn from(threshold: Threshold) -> Self {
        threshold.to_string()
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mean => f.write_str("mean"),
            Self::Median => f.write_str("median"),
            Self::Otsu => f.write_str("otsu"),
            Self::Quantile(fraction) => write!(f, "quantile:{fraction}"),
            Self::Fixed(value) => write!(f, "fixed:{value}"),
        }
    }
}

impl Threshold {
    /// Checks the number of the threshold. Returns what is wrong with it, if anything.
    pub(super) fn check(self) -> Result<(), String> {
        match self {
            Self::Quantile(number) | Self::Fixed(number) if !(0.0..=1.0).contains(&number) => {
                Err(format!("the number of `{self}` must lie between 0 and 1"))
            }
            Self::Mean | Self::Median | Self::Otsu | Self::Quantile(_) | Self::Fixed(_) => Ok(()),
        }
    }

    /// Returns the threshold of a map with at least one value, all finite. It is computed in float64.
    pub(super) fn of(self, values: &[f32]) -> f64 {
        match self {
            Self::Mean => values.iter().copied().map(f64::from).sum::<f64>() / values.len() as f64,
            Self::Median => quantile(&sorted(values), 0.5),
            Self::Otsu => otsu(&sorted(values)),
            Self::Quantile(fraction) => quantile(&sorted(values), fraction),
            Self::Fixed(value) => value,
        }
    }
}

fn sorted(values: &[f32]) -> Vec<f64> {
    let mut sorted: Vec<f64> = values.iter().copied().map(f64::from).collect();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted
}

fn quantile(sorted: &[f64], fraction: f64) -> f64 {
    let last = sorted.len() - 1;
    let position = fraction * last as f64;
    let below = position.floor() as usize;
    let (low, high) = (sorted[below], sorted[(below + 1).min(last)]);
    low + (high - low) * (position - below as f64)
}

/// Returns the largest value of the lower side for the split with the largest variance between the sides.
fn otsu(sorted: &[f64]) -> f64 {
    let n = sorted.len() as f64;
    let total: f64 = sorted.iter().sum();
    let (mut sum, mut best, mut cut) = (0.0, 0.0, sorted[sorted.len() - 1]);
    for (below, pair) in (1..).zip(sorted.windows(2)) {
        sum += pair[0];
        let below = f64::from(below);
        let distance = sum / below - (total - sum) / (n - below);
        let between = below * (n - below) * distance * distance;
        if pair[0] < pair[1] && between > best {
            (best, cut) = (between, pair[0]);
        }
    }
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_threshold_reads_back_as_itself() {
        for text in ["mean", "median", "otsu", "quantile:0.8", "fixed:0.25", "fixed:0", "quantile:1"] {
            let threshold: Threshold = text.parse().unwrap();
            assert_eq!(threshold.to_string(), text);
            assert_eq!(serde_json::to_value(threshold).unwrap(), text);
        }
        for text in [
            "",
            "Mean",
            "mean:0.5",
            "quantile",
            "quantile:",
            "quantile:1.5",
            "fixed:NaN",
            "fixed:-0.1",
            "top:3",
        ] {
            let refused = text.parse::<Threshold>().unwrap_err().to_string();
            assert!(refused.starts_with(&format!("unknown threshold `{text}`; write mean, ")), "{refused}");
        }
    }

    #[test]
    fn thresholds_computed_by_hand() {
        let map = [0.0, 0.1, 0.1, 0.9, 1.0, 0.2];
        assert_eq!(Threshold::Mean.of(&[0.0, 0.5, 1.0, 0.0]), 0.375);
        assert_eq!(Threshold::Median.of(&[0.0, 1.0, 0.25, 0.5]), 0.375);
        assert_eq!(Threshold::Quantile(1.0).of(&map), 1.0);
        assert_eq!(Threshold::Quantile(0.0).of(&map), 0.0);
        assert_eq!(Threshold::Otsu.of(&map), f64::from(0.2_f32));
        // Two thresholds are equally good; a constant map has none.
        assert_eq!(Threshold::Otsu.of(&[0.0, 0.5, 1.0]), 0.0);
        assert_eq!(Threshold::Otsu.of(&[0.5, 0.5]), 0.5);
    }
}
