//! The methods of `[task.diffseg]`: where the anchors come from.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::aggregate::HeadShare;
use crate::method::NameOrTable;

/// A method, written as its name alone (`"tokenrank"`) or with settings (`{ tokenrank = { number = 64 } }`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", remote = "Self")]
pub enum Method {
    /// Anchors on a grid (arXiv 2308.12469, section 3.3).
    Uniform(Grid),
    /// The tokens of greatest TokenRank.
    Tokenrank(Ranked),
    /// Tokens drawn in proportion to their TokenRank.
    TokenrankSampled(Drawn),
    /// The tokens of greatest column sum, which is attention received.
    ColumnSum(Ranked),
    /// Tokens drawn alike.
    Random(Drawn),
}

/// Settings of `uniform`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Grid {
    /// Key of the method in records and tables instead of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Anchors along each side.
    pub side: usize,
    /// Which aggregate is segmented.
    pub aggregate: HeadShare,
}

/// Settings of `tokenrank` and `column-sum`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ranked {
    /// Key of the method in records and tables instead of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// How many anchors; all tokens where there are fewer.
    pub number: usize,
    /// An anchor suppresses the tokens that are at most this many rows and columns away; 0 for none.
    pub radius: usize,
    /// Which aggregate is ranked and segmented.
    pub aggregate: HeadShare,
}

/// Settings of `tokenrank-sampled` and `random`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Drawn {
    /// Key of the method in records and tables instead of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// How many anchors; all tokens where there are fewer.
    pub number: usize,
    /// Which aggregate is ranked and segmented.
    pub aggregate: HeadShare,
}

/// As many as the published grid has.
const ANCHORS: usize = 256;

impl Default for Grid {
    fn default() -> Self {
        Self { name: None, side: 16, aggregate: HeadShare::Mean }
    }
}

impl Default for Ranked {
    fn default() -> Self {
        Self { name: None, number: ANCHORS, radius: 1, aggregate: HeadShare::Mean }
    }
}

impl Default for Drawn {
    fn default() -> Self {
        Self { name: None, number: ANCHORS, aggregate: HeadShare::Mean }
    }
}

/// Names of the kinds in experiment files.
const KINDS: [&str; 5] = ["uniform", "tokenrank", "tokenrank-sampled", "column-sum", "random"];
/// The same with heads weighted by λ₂, as keys of methods.
const KEYS_LAMBDA: [&str; 5] = [
    "uniform-lambda2",
    "tokenrank-lambda2",
    "tokenrank-sampled-lambda2",
    "column-sum-lambda2",
    "random-lambda2",
];
const LABELS: [&str; 5] = ["uniform grid", "TokenRank", "TokenRank, drawn", "column sum", "random"];
const LABELS_LAMBDA: [&str; 5] =
    ["uniform grid, λ₂", "TokenRank, λ₂", "TokenRank, drawn, λ₂", "column sum, λ₂", "random, λ₂"];

impl Method {
    fn kind(&self) -> usize {
        match self {
            Self::Uniform(_) => 0,
            Self::Tokenrank(_) => 1,
            Self::TokenrankSampled(_) => 2,
            Self::ColumnSum(_) => 3,
            Self::Random(_) => 4,
        }
    }

    fn name(&self) -> Option<&str> {
        match self {
            Self::Uniform(Grid { name, .. })
            | Self::Tokenrank(Ranked { name, .. })
            | Self::ColumnSum(Ranked { name, .. })
            | Self::TokenrankSampled(Drawn { name, .. })
            | Self::Random(Drawn { name, .. }) => name.as_deref(),
        }
    }

    /// Which aggregate the method reads.
    pub fn aggregate(&self) -> HeadShare {
        match self {
            Self::Uniform(Grid { aggregate, .. })
            | Self::Tokenrank(Ranked { aggregate, .. })
            | Self::ColumnSum(Ranked { aggregate, .. })
            | Self::TokenrankSampled(Drawn { aggregate, .. })
            | Self::Random(Drawn { aggregate, .. }) => *aggregate,
        }
    }

    /// Whether the method asks for a steady state.
    pub fn ranks(&self) -> bool {
        matches!(self, Self::Tokenrank(_) | Self::TokenrankSampled(_))
    }

    /// Key of the method in records and tables.
    pub fn key(&self) -> &str {
        let known = match self.aggregate() {
            HeadShare::Mean => KINDS,
            HeadShare::Lambda2 => KEYS_LAMBDA,
        };
        self.name().unwrap_or(known[self.kind()])
    }

    /// The method's name for people, or the one it was given.
    pub fn label(&self) -> &str {
        let known = match self.aggregate() {
            HeadShare::Mean => LABELS,
            HeadShare::Lambda2 => LABELS_LAMBDA,
        };
        self.name().unwrap_or(known[self.kind()])
    }

    /// How many anchors the method asks for.
    pub fn anchors(&self) -> usize {
        match self {
            Self::Uniform(Grid { side, .. }) => side.saturating_mul(*side),
            Self::Tokenrank(Ranked { number, .. }) | Self::ColumnSum(Ranked { number, .. }) => *number,
            Self::TokenrankSampled(Drawn { number, .. }) | Self::Random(Drawn { number, .. }) => *number,
        }
    }
}

impl Serialize for Method {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let kind = KINDS[self.kind()];
        match Self::named(kind) {
            Some(plain) if plain == *self => serializer.serialize_str(kind),
            _ => Self::serialize(self, serializer),
        }
    }
}

impl NameOrTable for Method {
    const NAMES: &'static [&'static str] = &KINDS;
    const EXAMPLE: &'static str = "{ tokenrank = { number = 64 } }";

    fn named(kind: &str) -> Option<Self> {
        Some(match KINDS.iter().position(|name| *name == kind)? {
            0 => Self::Uniform(Grid::default()),
            1 => Self::Tokenrank(Ranked::default()),
            2 => Self::TokenrankSampled(Drawn::default()),
            3 => Self::ColumnSum(Ranked::default()),
            _ => Self::Random(Drawn::default()),
        })
    }

    fn from_table<'de, D: Deserializer<'de>>(table: D) -> Result<Self, D::Error> {
        Self::deserialize(table)
    }
}

impl<'de> Deserialize<'de> for Method {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::read(deserializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(list: &str) -> Result<Vec<Method>, String> {
        #[derive(Deserialize)]
        struct List {
            methods: Vec<Method>,
        }
        toml::from_str::<List>(&format!("methods = [{list}]"))
            .map(|list| list.methods)
            .map_err(|e| e.to_string())
    }

    #[test]
    fn methods_are_names_or_tables() -> Result<(), String> {
        let methods = parse(
            r#""uniform", { uniform = { side = 8, aggregate = "lambda2" } }, "tokenrank", "tokenrank-sampled",
               { column-sum = { number = 64, radius = 2 } }, { random = { number = 9, name = "nine" } }"#,
        )?;
        let keys: Vec<&str> = methods.iter().map(Method::key).collect();
        let wanted = ["uniform", "uniform-lambda2", "tokenrank", "tokenrank-sampled", "column-sum", "nine"];
        assert_eq!(keys, wanted);
        assert_eq!(methods.iter().map(Method::anchors).collect::<Vec<_>>(), [256, 64, 256, 256, 64, 9]);
        let json = serde_json::to_string(&methods).map_err(|e| e.to_string())?;
        assert!(json.starts_with(r#"["uniform",{"uniform":{"side":8,"#), "{json}");
        let back: Vec<Method> = serde_json::from_str(&json).map_err(|e| e.to_string())?;
        assert_eq!(back, methods);
        Ok(())
    }

    #[test]
    fn what_is_no_method_is_refused_by_name() {
        for (list, word) in [
            ("\"kmeans\"", "kmeans"),
            ("{ tokenrank = { radii = 1 } }", "radii"),
            ("{ uniform = { number = 9 } }", "number"),
            ("{ random = { aggregate = \"max\" } }", "max"),
            ("3", "name of a method"),
        ] {
            let message = parse(list).expect_err(list);
            assert!(message.contains(word), "{list}: {message}");
        }
    }
}
