//! The methods of `[task.segment]`: how the attention of a pass becomes a signal over image tokens.

use std::fmt;
use std::num::NonZeroUsize;
use std::str::FromStr;

use markov_core::Direction;
use models::LayerSelection;
use models::probe::{HeadWeight, LambdaWeight, MapKind, MapRequest, WeightScope};
use serde::de;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::method::NameOrTable;

/// A method and its settings, written as its name alone (`"bounce"`) or with settings
/// (`{ bounce = { steps = 3, name = "bounce-3" } }`). Two of a kind need names of their own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", remote = "Self")]
pub enum Method {
    /// The word's row of the mean map: one step forward from it.
    RowSelect(Select),
    /// The word's column of the mean map: what image tokens give to it.
    ColumnSelect(Select),
    /// Products of attention outputs of a concept and of image tokens (ConceptAttention, arXiv 2502.04320).
    ConceptAttention(Concepts),
    /// Several steps from the word.
    Bounce(Bounce),
    /// The same on the mean map whose heads are weighted by λ₂.
    BounceLambda2(WeightedBounce),
    /// The steady state, which knows nothing of the word.
    Tokenrank(Rank),
    /// The word's row of the rollout over the chosen blocks (Abnar and Zuidema, arXiv 2005.00928).
    Rollout(Select),
}

/// A method without settings.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Select {
    /// Key of the method in records and tables instead of its kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// Settings of `bounce`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Bounce {
    /// Key of the method in records and tables instead of its kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Number of steps. The paper's is 2.
    pub steps: usize,
    /// Which way the chain runs.
    pub direction: Way,
    /// What is averaged over heads, blocks and passes.
    pub map: MapKind,
    /// Share of attention in the teleporting chain instead of the task's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alpha: Option<f64>,
}

impl Default for Bounce {
    fn default() -> Self {
        Self { name: None, steps: 2, direction: Way::Forward, map: MapKind::Pretty, alpha: None }
    }
}

/// Settings of `bounce-lambda2`: those of [`Bounce`] and how heads are weighted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WeightedBounce {
    /// Key of the method in records and tables instead of its kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Number of steps. The paper's is 2.
    pub steps: usize,
    /// Which way the chain runs.
    pub direction: Way,
    /// What is averaged over heads, blocks and passes.
    pub map: MapKind,
    /// Share of attention in the teleporting chain instead of the task's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alpha: Option<f64>,
    /// How the weight of a head follows from its λ₂. The paper gives no formula.
    pub weight: Formula,
    /// Over what weights sum to 1. The paper does not say.
    pub scope: WeightScope,
}

impl Default for WeightedBounce {
    fn default() -> Self {
        let Bounce { name, steps, direction, map, alpha } = Bounce::default();
        let (weight, scope) = (Formula::default(), WeightScope::default());
        Self { name, steps, direction, map, alpha, weight, scope }
    }
}

/// Settings of `tokenrank`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rank {
    /// Key of the method in records and tables instead of its kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Which way the chain runs.
    pub direction: Way,
    /// What is averaged over heads, blocks and passes.
    pub map: MapKind,
    /// Share of attention in the teleporting chain instead of the task's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alpha: Option<f64>,
}

impl Default for Rank {
    fn default() -> Self {
        Self { name: None, direction: Way::Forward, map: MapKind::Plain, alpha: None }
    }
}

/// Settings of `concept-attention`. The defaults are those of its authors' code.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Concepts {
    /// Key of the method in records and tables instead of its kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Concepts beside what is searched for, which take what does not belong to it.
    pub background: Vec<String>,
    /// Dual blocks whose outputs are compared.
    pub blocks: LayerSelection,
    /// Whether the concepts of an image token share 1.
    pub softmax: bool,
}

impl Default for Concepts {
    fn default() -> Self {
        let background = ["background", "floor", "tree", "person", "grass", "face"];
        Self {
            name: None,
            background: background.map(str::to_owned).to_vec(),
            blocks: LayerSelection::List((14..18).collect()),
            softmax: true,
        }
    }
}

/// Which way a chain runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// Follow the attention.
    #[default]
    Forward,
    /// From a token to those that attend to it.
    Backward,
}

impl From<Way> for Direction {
    fn from(way: Way) -> Self {
        match way {
            Way::Forward => Self::Forward,
            Way::Backward => Self::Backward,
        }
    }
}

/// How the weight of a head follows from its λ₂: `proportional`, `squared`, or `top:N`, which takes the `N` heads with
/// the largest λ₂ equally.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Formula {
    /// A weight for every head.
    Every(LambdaWeight),
    /// Only so many heads.
    Top(NonZeroUsize),
}

impl Default for Formula {
    fn default() -> Self {
        Self::Every(LambdaWeight::Proportional)
    }
}

impl Formula {
    fn over(self, scope: WeightScope) -> HeadWeight {
        match self {
            Self::Every(weight) => HeadWeight::Lambda(weight, scope),
            Self::Top(count) => HeadWeight::Top(count, scope),
        }
    }
}

impl fmt::Display for Formula {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Every(LambdaWeight::Proportional) => f.write_str("proportional"),
            Self::Every(LambdaWeight::Squared) => f.write_str("squared"),
            Self::Top(count) => write!(f, "top:{count}"),
        }
    }
}

impl FromStr for Formula {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "proportional" => Ok(Self::Every(LambdaWeight::Proportional)),
            "squared" => Ok(Self::Every(LambdaWeight::Squared)),
            _ => text
                .strip_prefix("top:")
                .and_then(|count| count.parse().ok())
                .map(Self::Top)
                .ok_or("expected `proportional`, `squared` or `top:N` with N of at least 1"),
        }
    }
}

impl Serialize for Formula {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Formula {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl Serialize for Method {
    /// With the settings written out.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Self::serialize(self, serializer)
    }
}

impl NameOrTable for Method {
    const EXAMPLE: &'static str = "{ bounce = { steps = 3 } }";

    fn from_table<'de, D: Deserializer<'de>>(table: D) -> Result<Self, D::Error> {
        Self::deserialize(table)
    }
}

impl<'de> Deserialize<'de> for Method {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::read(deserializer)
    }
}

impl Method {
    /// Its kind in experiment files.
    fn kind(&self) -> &'static str {
        match self {
            Self::RowSelect(_) => "row-select",
            Self::ColumnSelect(_) => "column-select",
            Self::ConceptAttention(_) => "concept-attention",
            Self::Bounce(_) => "bounce",
            Self::BounceLambda2(_) => "bounce-lambda2",
            Self::Tokenrank(_) => "tokenrank",
            Self::Rollout(_) => "rollout",
        }
    }

    /// Key of the method in records and tables.
    pub fn key(&self) -> &str {
        let name = match self {
            Self::RowSelect(Select { name }) | Self::ColumnSelect(Select { name }) => name,
            Self::Rollout(Select { name }) => name,
            Self::ConceptAttention(Concepts { name, .. }) => name,
            Self::Bounce(Bounce { name, .. }) => name,
            Self::BounceLambda2(WeightedBounce { name, .. }) => name,
            Self::Tokenrank(Rank { name, .. }) => name,
        };
        name.as_deref().unwrap_or(self.kind())
    }

    /// The method's name for people: that of its kind, or the one it was given.
    pub fn label(&self) -> &str {
        if self.key() != self.kind() {
            return self.key();
        }
        match self {
            Self::RowSelect(_) => "Row select",
            Self::ColumnSelect(_) => "Column select",
            Self::ConceptAttention(_) => "ConceptAttention",
            Self::Bounce(_) => "Multi-bounce",
            Self::BounceLambda2(_) => "Multi-bounce, λ₂",
            Self::Tokenrank(_) => "TokenRank",
            Self::Rollout(_) => "Rollout",
        }
    }

    /// Whether it differs from `other` in the weights of the heads alone, which that one leaves equal.
    pub fn is_weighted_form_of(&self, other: &Self) -> bool {
        let (Self::BounceLambda2(weighted), Self::Bounce(plain)) = (self, other) else { return false };
        (weighted.steps, weighted.direction, weighted.map, weighted.alpha)
            == (plain.steps, plain.direction, plain.map, plain.alpha)
    }

    /// The number of its steps, if it takes several.
    pub fn steps(&self) -> Option<usize> {
        match self {
            Self::Bounce(Bounce { steps, .. }) | Self::BounceLambda2(WeightedBounce { steps, .. }) => {
                Some(*steps)
            }
            Self::RowSelect(_)
            | Self::ColumnSelect(_)
            | Self::ConceptAttention(_)
            | Self::Tokenrank(_)
            | Self::Rollout(_) => None,
        }
    }

    /// Its own share of attention in the teleporting chain, if it has one.
    pub fn alpha(&self) -> Option<f64> {
        match self {
            Self::Bounce(Bounce { alpha, .. })
            | Self::BounceLambda2(WeightedBounce { alpha, .. })
            | Self::Tokenrank(Rank { alpha, .. }) => *alpha,
            Self::RowSelect(_) | Self::ColumnSelect(_) | Self::ConceptAttention(_) | Self::Rollout(_) => None,
        }
    }

    /// The average of maps that the method reads, if it reads one.
    pub fn request(&self) -> Option<MapRequest> {
        match self {
            Self::RowSelect(_) | Self::ColumnSelect(_) => Some(MapRequest::default()),
            Self::Bounce(Bounce { map, .. }) | Self::Tokenrank(Rank { map, .. }) => {
                Some(MapRequest { map: *map, weight: HeadWeight::Equal })
            }
            Self::BounceLambda2(WeightedBounce { map, weight, scope, .. }) => {
                Some(MapRequest { map: *map, weight: weight.over(*scope) })
            }
            Self::ConceptAttention(_) | Self::Rollout(_) => None,
        }
    }
}

/// The settings of the `concept-attention` methods, in order.
pub(super) fn concept_methods(methods: &[Method]) -> impl Iterator<Item = &Concepts> {
    methods.iter().filter_map(|method| match method {
        Method::ConceptAttention(concepts) => Some(concepts),
        Method::RowSelect(_)
        | Method::ColumnSelect(_)
        | Method::Bounce(_)
        | Method::BounceLambda2(_)
        | Method::Tokenrank(_)
        | Method::Rollout(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::method::tests::variants;

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
            r#""row-select", { bounce = { steps = 3, name = "bounce-3" } }, { bounce-lambda2 = { weight = "top:4", scope = "global" } }"#,
        )?;
        let keys: Vec<&str> = methods.iter().map(Method::key).collect();
        assert_eq!(keys, ["row-select", "bounce-3", "bounce-lambda2"]);
        let Method::BounceLambda2(weighted) = &methods[2] else { panic!("{:?}", methods[2]) };
        assert_eq!((weighted.steps, weighted.weight.to_string().as_str()), (2, "top:4"));
        let json = serde_json::to_string(&methods).map_err(|e| e.to_string())?;
        let back: Vec<Method> = serde_json::from_str(&json).map_err(|e| e.to_string())?;
        assert_eq!(back, methods);
        Ok(())
    }

    #[test]
    fn every_method_reads_back_as_itself() -> Result<(), String> {
        let kinds = variants::<Method>();
        assert!(kinds.contains(&"row-select") && kinds.contains(&"rollout"), "{kinds:?}");
        let mut called = std::collections::BTreeSet::new();
        for kind in kinds {
            let by_name = parse(&format!("{kind:?}"))?;
            assert_eq!(by_name, parse(&format!("{{ {kind} = {{}} }}"))?, "{kind}");
            assert_eq!(by_name[0].key(), *kind);
            let json = serde_json::to_string(&by_name[0]).map_err(|e| e.to_string())?;
            assert!(json.starts_with(&format!("{{{kind:?}:{{")), "{json}");
            assert_eq!(serde_json::from_str::<Method>(&json).map_err(|e| e.to_string())?, by_name[0]);
            let label = by_name[0].label();
            assert!(called.insert(label.to_owned()), "two methods are called {label}");
        }
        Ok(())
    }

    #[test]
    fn what_is_no_method_is_refused_by_name() {
        for (list, word) in [
            ("\"bounces\"", "bounces"),
            ("{ bounce = { step = 3 } }", "step"),
            ("{ bounce-lambda2 = { weight = \"top:0\" } }", "top:N"),
            ("3", "name of a method"),
        ] {
            let message = parse(list).expect_err(list);
            assert!(message.contains(word), "{list}: {message}");
        }
    }
}
