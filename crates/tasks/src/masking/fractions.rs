//! The points of a masking curve: `fractions` of `[task.masking]`.

use std::fmt;

use schemars::JsonSchema;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// Fractions of the patch tokens that are masked, in rising order: evenly spaced, or a list.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Fractions {
    /// Written `{ from = 0.0, to = 0.9, step = 0.1 }`.
    Even(EvenFractions),
    /// Written `[0.0, 0.1, 0.5]`: the points of the curve.
    List(Vec<f64>),
}

/// Evenly spaced fractions of the image tokens: `from`, `from + step`, …, `to`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EvenFractions {
    /// First fraction, at least 0.
    pub from: f64,
    /// Last fraction, at most 1.
    pub to: f64,
    /// Difference of two neighbouring fractions; above 0.
    pub step: f64,
}

/// Maximum number of points of a curve.
const MOST_FRACTIONS: usize = 1000;

impl EvenFractions {
    /// The number of fractions minus one.
    fn steps(&self) -> usize {
        let Self { from, to, step } = *self;
        // Half a step of slack: 0.95 / 0.05 is 18.999… in binary.
        ((to - from) / step + 0.5).floor() as usize
    }
}

impl Fractions {
    /// The fractions in rising order.
    pub fn values(&self) -> Vec<f64> {
        match self {
            Self::Even(even) => (0..=even.steps()).map(|i| even.from + even.step * i as f64).collect(),
            Self::List(list) => list.clone(),
        }
    }

    /// Why no curve can be drawn over these fractions; `None` if one can.
    pub(super) fn problem(&self) -> Option<String> {
        match self {
            Self::Even(EvenFractions { from, to, .. }) if !(*from >= 0.0 && *to <= 1.0 && from < to) => {
                Some(format!("must rise within 0 ≤ from < to ≤ 1, found {from} to {to}"))
            }
            Self::Even(EvenFractions { from, to, step }) if !(*step > 0.0 && *step <= to - from) => {
                Some(format!("step must lie between 0 and to - from, found {step}"))
            }
            // Checked before the fractions are listed.
            Self::Even(even) => (even.steps() >= MOST_FRACTIONS)
                .then(|| format!("asks for more than {MOST_FRACTIONS} fractions")),
            Self::List(list) => problem_of_list(list),
        }
    }
}

fn problem_of_list(list: &[f64]) -> Option<String> {
    const EXAMPLE: &str = "list the fractions to mask in rising order, such as [0.0, 0.2, 0.5], or write { from = 0.0, to = \
                           0.9, step = 0.1 }";
    if let Some(fraction) = list.iter().find(|fraction| !(0.0..=1.0).contains(*fraction)) {
        return Some(format!("a fraction must lie in [0, 1], found {fraction}; {EXAMPLE}"));
    }
    if let Some(pair) = list.windows(2).find(|pair| pair[0] >= pair[1]) {
        return Some(format!("{} is listed after {}; {EXAMPLE}", pair[1], pair[0]));
    }
    match list.len() {
        0 | 1 => Some(format!("a curve needs at least two fractions; {EXAMPLE}")),
        count if count > MOST_FRACTIONS => Some(format!("lists more than {MOST_FRACTIONS} fractions")),
        _ => None,
    }
}

impl<'de> Deserialize<'de> for Fractions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Fractions;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of fractions, or a table such as { from = 0.0, to = 0.9, step = 0.1 }")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Fractions, A::Error> {
                EvenFractions::deserialize(MapAccessDeserializer::new(map)).map(Fractions::Even)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<Fractions, A::Error> {
                let mut list = Vec::new();
                while let Some(fraction) = values.next_element()? {
                    list.push(fraction);
                }
                // Checked here, where an error can still point to the place in the file.
                match problem_of_list(&list) {
                    Some(problem) => Err(de::Error::custom(problem)),
                    None => Ok(Fractions::List(list)),
                }
            }
        }

        deserializer.deserialize_any(Either)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &str) -> Result<Fractions, String> {
        #[derive(Deserialize)]
        struct Table {
            fractions: Fractions,
        }
        toml::from_str::<Table>(&format!("fractions = {value}"))
            .map(|table| table.fractions)
            .map_err(|e| e.to_string())
    }

    #[test]
    fn a_list_is_the_points_of_the_curve() -> Result<(), String> {
        let list = read("[0, 0.2, 0.5]")?;
        assert_eq!((list.values(), list.problem()), (vec![0.0, 0.2, 0.5], None));
        let even = read("{ from = 0.0, to = 0.5, step = 0.25 }")?;
        assert_eq!((even.values(), even.problem()), (vec![0.0, 0.25, 0.5], None));
        // What a run writes can be read again, and a table keeps its written form.
        for fractions in [list, even.clone()] {
            let json = serde_json::json!(fractions);
            assert_eq!(serde_json::from_value::<Fractions>(json).expect("read again"), fractions);
        }
        assert_eq!(serde_json::json!(even).to_string(), r#"{"from":0.0,"to":0.5,"step":0.25}"#);
        Ok(())
    }

    #[test]
    fn fractions_that_make_no_curve_are_refused() {
        for (value, word) in [
            ("[0.0, 0.5, 0.2]", "0.2 is listed after 0.5"),
            ("[0.0, 0.5, 0.5]", "0.5 is listed after 0.5"),
            ("[0.0, 1.5]", "found 1.5"),
            ("[-0.1, 0.5]", "found -0.1"),
            ("[0.0, nan]", "found NaN"),
            ("[0.3]", "at least two"),
            ("[]", "at least two"),
            ("[0.0, \"all\"]", "string"),
            ("0.5", "a list of fractions, or a table"),
            ("{ from = 0.0, to = 0.5 }", "step"),
        ] {
            let message = read(value).expect_err(value);
            assert!(message.contains(word) && message.contains('^'), "{value}: {message}");
        }
        let even = |from, to, step| Fractions::Even(EvenFractions { from, to, step });
        let impossible = [
            even(0.5, 0.2, 0.1),
            even(0.0, 1.1, 0.1),
            even(0.0, 0.5, f64::NAN),
            even(0.0, 0.9, 1e-4),
            Fractions::List(vec![0.5]),
        ];
        assert!(impossible.iter().all(|fractions| fractions.problem().is_some()));
    }
}
