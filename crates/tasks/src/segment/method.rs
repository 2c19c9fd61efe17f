//! The methods of `[task.segment]`: ways to compute a signal over image tokens from the attention of a pass.

use std::borrow::Cow;
use std::fmt;
use std::num::NonZeroUsize;
use std::str::FromStr;

use models::LayerSelection;
use models::probe::{HeadWeight, LambdaWeight, MapKind, MapRequest, WeightScope};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::method::{FileKind, FileMethod, MethodKind, Named, Way};
use crate::score_file::FromFile;

/// A method with its settings, written as its name alone (`"bounce"`) or with settings
/// (`{ bounce = { steps = 3, name = "bounce-3" } }`). Two methods of one kind need different names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// The word's row of the mean attention map: where the word attends to.
    RowSelect(Select),
    /// The word's column of the mean attention map: how much each image token attends to the word.
    ColumnSelect(Select),
    /// Products of attention outputs of a concept and of image tokens (ConceptAttention, arXiv 2502.04320).
    ConceptAttention(Concepts),
    /// Several steps of the attention chain that start at the word.
    Bounce(Bounce),
    /// The steady state of the attention chain. It does not depend on the word.
    Tokenrank(Rank),
    /// The word's row of the attention rollout over the chosen layers (Abnar and Zuidema, arXiv 2005.00928).
    Rollout(Select),
    /// Signals or masks that another program has computed, one for each class of an image: numbers `[rows, columns]` over the
    /// image tokens, or masks of 0 and 1 over the pixels of the image.
    File(FromFile),
}

/// Settings of a method that has only a name.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Select {
    /// Key of the method in records and tables. Two methods of one kind need different names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// Settings of `bounce`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Bounce {
    /// Key of the method in records and tables. Two methods of one kind need different names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Number of steps, 1 to 100000. The paper takes 2.
    pub steps: usize,
    /// Direction in which the chain runs.
    pub direction: Way,
    /// Attention map that is averaged over heads, layers and passes.
    pub map: MapKind,
    /// Probability that the chain follows the attention in a step, in (0, 1]. Default: the `alpha` of the task.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alpha: Option<f64>,
    /// How much each attention head counts in the average.
    pub weight: Weight,
    /// Set of heads over which the weights sum to 1. It matters only for a `weight` by λ₂. The paper does not say.
    pub scope: WeightScope,
}

impl Default for Bounce {
    fn default() -> Self {
        Self {
            name: None,
            steps: 2,
            direction: Way::Forward,
            map: MapKind::Pretty,
            alpha: None,
            weight: Weight::Equal,
            scope: WeightScope::default(),
        }
    }
}

/// Settings of `tokenrank`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Rank {
    /// Key of the method in records and tables. Two methods of one kind need different names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Direction in which the chain runs.
    pub direction: Way,
    /// Attention map that is averaged over heads, layers and passes.
    pub map: MapKind,
    /// Probability that the chain follows the attention in a step, in (0, 1]. Default: the `alpha` of the task.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alpha: Option<f64>,
}

impl Default for Rank {
    fn default() -> Self {
        Self { name: None, direction: Way::Forward, map: MapKind::Plain, alpha: None }
    }
}

/// Settings of `concept-attention`. The defaults are those of its authors' code.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Concepts {
    /// Key of the method in records and tables. Two methods of one kind need different names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Concepts other than the class, which take the image tokens that do not belong to it. All methods of a file share one
    /// list.
    pub background: Vec<String>,
    /// Dual layers whose outputs are compared.
    #[serde(alias = "blocks")]
    pub layers: LayerSelection,
    /// Whether a softmax over the concepts is taken at each image token.
    pub softmax: bool,
}

impl Default for Concepts {
    fn default() -> Self {
        let background = ["background", "floor", "tree", "person", "grass", "face"];
        Self {
            name: None,
            background: background.map(str::to_owned).to_vec(),
            layers: LayerSelection::List((14..18).collect()),
            softmax: true,
        }
    }
}

/// How much each attention head counts in an average: `equal`, `lambda2` (in proportion to its λ₂), `lambda2-squared` (in
/// proportion to the square), or `lambda2-top:N` (only the `N` heads with the largest λ₂, equally). Files written before these
/// names say `proportional`, `squared` and `top:N` for the last three.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Weight {
    /// All heads count the same.
    #[default]
    Equal,
    /// Every head counts by its λ₂.
    Lambda2(LambdaWeight),
    /// The heads with the largest λ₂ count the same, the others not at all.
    Top(NonZeroUsize),
}

impl Weight {
    fn over(self, scope: WeightScope) -> HeadWeight {
        match self {
            Self::Equal => HeadWeight::Equal,
            Self::Lambda2(weight) => HeadWeight::Lambda(weight, scope),
            Self::Top(count) => HeadWeight::Top(count, scope),
        }
    }
}

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Equal => f.write_str("equal"),
            Self::Lambda2(LambdaWeight::Proportional) => f.write_str("lambda2"),
            Self::Lambda2(LambdaWeight::Squared) => f.write_str("lambda2-squared"),
            Self::Top(count) => write!(f, "lambda2-top:{count}"),
        }
    }
}

impl FromStr for Weight {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "equal" => Ok(Self::Equal),
            "lambda2" | "proportional" => Ok(Self::Lambda2(LambdaWeight::Proportional)),
            "lambda2-squared" | "squared" => Ok(Self::Lambda2(LambdaWeight::Squared)),
            _ => text
                .strip_prefix("lambda2-top:")
                .or_else(|| text.strip_prefix("top:"))
                .and_then(|count| count.parse().ok())
                .map(Self::Top)
                .ok_or(
                    "expected `equal`, `lambda2`, `lambda2-squared` or `lambda2-top:N` with N of at least 1",
                ),
        }
    }
}

impl TryFrom<String> for Weight {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Weight> for String {
    fn from(weight: Weight) -> Self {
        weight.to_string()
    }
}

impl JsonSchema for Weight {
    fn schema_name() -> Cow<'static, str> {
        "Weight".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "`equal`; `lambda2`, in proportion to the λ₂ of its map; `lambda2-squared`, in proportion to the square; \
                            `lambda2-top:N`, only the N heads with the largest λ₂, equally.",
            "type": "string",
            "pattern": "^(equal|lambda2|lambda2-squared|lambda2-top:[1-9][0-9]*|proportional|squared|top:[1-9][0-9]*)$",
        })
    }
}

impl Named for Method {
    const METHODS: &'static [MethodKind] = &[
        MethodKind::new("row-select", "Row select"),
        MethodKind::new("column-select", "Column select"),
        MethodKind::new("concept-attention", "ConceptAttention"),
        MethodKind::new("bounce", "Multi-bounce"),
        MethodKind::short("bounce-lambda2", "Multi-bounce, λ₂", "bounce", &[("weight", "lambda2")]),
        MethodKind::new("tokenrank", "TokenRank"),
        MethodKind::new("rollout", "Rollout"),
    ];
    const EXAMPLE: &'static str = "{ bounce = { steps = 3 } }";
    type Table = Self;
    const FROM_FILE: Option<FileKind> = Some(FromFile::KIND);

    fn kind_name(&self) -> &'static str {
        match self {
            Self::RowSelect(_) => "row-select",
            Self::ColumnSelect(_) => "column-select",
            Self::ConceptAttention(_) => "concept-attention",
            Self::Bounce(Bounce { weight: Weight::Equal, .. }) => "bounce",
            Self::Bounce(Bounce { weight: Weight::Lambda2(_) | Weight::Top(_), .. }) => "bounce-lambda2",
            Self::Tokenrank(_) => "tokenrank",
            Self::Rollout(_) => "rollout",
            Self::File(_) => FromFile::KIND.variant,
        }
    }

    fn file_method(&self) -> Option<FileMethod<'_>> {
        match self {
            Self::File(file) => Some(file.method()),
            Self::RowSelect(_)
            | Self::ColumnSelect(_)
            | Self::ConceptAttention(_)
            | Self::Bounce(_)
            | Self::Tokenrank(_)
            | Self::Rollout(_) => None,
        }
    }
}

impl Method {
    fn name(&self) -> Option<&str> {
        match self {
            Self::RowSelect(Select { name })
            | Self::ColumnSelect(Select { name })
            | Self::Rollout(Select { name })
            | Self::ConceptAttention(Concepts { name, .. })
            | Self::Bounce(Bounce { name, .. })
            | Self::Tokenrank(Rank { name, .. }) => name.as_deref(),
            Self::File(FromFile { name, .. }) => Some(name),
        }
    }

    /// Whether the method reads passes of the network.
    pub fn reads_passes(&self) -> bool {
        self.file_method().is_none()
    }

    /// Key of the method in records and tables.
    pub fn key(&self) -> &str {
        self.name().unwrap_or(self.kind_name())
    }

    /// Name of the method in tables and figures: its own `name`, or the label of its kind.
    pub fn label(&self) -> &str {
        // A `name` that repeats the kind is ignored.
        if self.key() == self.kind_name() { self.kind_label() } else { self.key() }
    }

    /// Whether the two methods differ only in the weights of the heads, which are equal in `other`.
    pub fn is_weighted_form_of(&self, other: &Self) -> bool {
        let (Self::Bounce(weighted), Self::Bounce(plain)) = (self, other) else { return false };
        (weighted.weight != Weight::Equal && plain.weight == Weight::Equal)
            && (weighted.steps, weighted.direction, weighted.map, weighted.alpha)
                == (plain.steps, plain.direction, plain.map, plain.alpha)
    }

    /// The number of steps; `None` for methods that do not take steps.
    pub fn steps(&self) -> Option<usize> {
        match self {
            Self::Bounce(Bounce { steps, .. }) => Some(*steps),
            Self::RowSelect(_)
            | Self::ColumnSelect(_)
            | Self::ConceptAttention(_)
            | Self::Tokenrank(_)
            | Self::Rollout(_)
            | Self::File(_) => None,
        }
    }

    /// The method's own `alpha`; `None` if it uses the one of the task.
    pub fn alpha(&self) -> Option<f64> {
        match self {
            Self::Bounce(Bounce { alpha, .. }) | Self::Tokenrank(Rank { alpha, .. }) => *alpha,
            Self::RowSelect(_)
            | Self::ColumnSelect(_)
            | Self::ConceptAttention(_)
            | Self::Rollout(_)
            | Self::File(_) => None,
        }
    }

    /// The averaged attention map that the method reads; `None` if it reads no such map.
    pub fn request(&self) -> Option<MapRequest> {
        match self {
            Self::RowSelect(_) | Self::ColumnSelect(_) => Some(MapRequest::default()),
            Self::Tokenrank(Rank { map, .. }) => Some(MapRequest { map: *map, weight: HeadWeight::Equal }),
            Self::Bounce(Bounce { map, weight, scope, .. }) => {
                Some(MapRequest { map: *map, weight: weight.over(*scope) })
            }
            Self::ConceptAttention(_) | Self::Rollout(_) | Self::File(_) => None,
        }
    }
}

/// Returns the settings of the `concept-attention` methods, in order.
pub(super) fn concept_methods(methods: &[Method]) -> impl Iterator<Item = &Concepts> {
    methods.iter().filter_map(|method| match method {
        Method::ConceptAttention(concepts) => Some(concepts),
        Method::RowSelect(_)
        | Method::ColumnSelect(_)
        | Method::Bounce(_)
        | Method::Tokenrank(_)
        | Method::Rollout(_)
        | Method::File(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::method::tests::{parse, refused, walk, walk_file, written};

    #[test]
    fn methods_are_names_or_tables() -> Result<(), String> {
        let methods: Vec<Method> = parse(
            r#""row-select", { bounce = { steps = 3, name = "bounce-3" } },
               { bounce = { weight = "lambda2-top:4", scope = "global" } }"#,
        )?;
        let keys: Vec<&str> = methods.iter().map(Method::key).collect();
        assert_eq!(keys, ["row-select", "bounce-3", "bounce-lambda2"]);
        let Method::Bounce(weighted) = &methods[2] else { panic!("{:?}", methods[2]) };
        assert_eq!((weighted.steps, weighted.weight.to_string().as_str()), (2, "lambda2-top:4"));
        assert_eq!(written(&methods[0]), r#""row-select""#);
        assert!(written(&methods[2]).starts_with(r#"{"bounce":{"steps":2,"#), "{}", written(&methods[2]));
        Ok(())
    }

    #[test]
    fn every_method_reads_back_as_itself() {
        walk::<Method>();
        walk_file::<Method>();
    }

    #[test]
    fn old_names_can_still_be_read() {
        for (old, new) in [
            ("{ bounce-lambda2 = { weight = \"proportional\" } }", "\"bounce-lambda2\""),
            (
                "{ bounce-lambda2 = { weight = \"squared\", scope = \"global\" } }",
                "{ bounce = { weight = \"lambda2-squared\", scope = \"global\" } }",
            ),
            ("{ bounce-lambda2 = { weight = \"top:4\" } }", "{ bounce = { weight = \"lambda2-top:4\" } }"),
            ("{ concept-attention = { blocks = \"0\" } }", "{ concept-attention = { layers = \"0\" } }"),
        ] {
            assert_eq!(parse::<Method>(old).expect(old), parse(new).expect(new));
        }
    }

    #[test]
    fn unknown_methods_and_settings_are_refused() {
        refused::<Method>(&[
            ("\"bounces\"", "bounces"),
            ("{ bounce = { step = 3 } }", "step"),
            ("{ bounce = { weight = \"lambda2-top:0\" } }", "top:N"),
            ("{ bounce-lambda2 = { weight = \"equal\" } }", "the method is `bounce`"),
        ]);
    }
}
