//! The methods of `[task.diffseg]`: ways to choose the anchors.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::method::{FileKind, FileMethod, HeadShare, MethodKind, Named, own_name};

/// A way to choose the anchors, written as its name alone (`"tokenrank"`) or with settings (`{ tokenrank = { number = 64 } }`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// Anchors on a regular grid, as in DiffSeg (arXiv 2308.12469, section 3.3).
    Uniform(Grid),
    /// The tokens with the largest TokenRank.
    Tokenrank(Ranked),
    /// Tokens drawn at random with probabilities proportional to their TokenRank, without replacement.
    TokenrankSampled(Drawn),
    /// The tokens with the largest column sum, that is, those that receive the most attention.
    ColumnSum(Ranked),
    /// Tokens drawn at random, all equally likely.
    Random(Drawn),
    /// What another program has computed: scores of the tokens, the largest of which become anchors, or the segment of every
    /// pixel, which takes the place of anchors and merging.
    File(Outside),
}

/// Settings of `uniform`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Grid {
    /// Key of the method in records and tables. Two methods of one kind need different names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Number of anchors along each side of the grid; there are `side`² anchors.
    pub side: usize,
    /// How much each attention head counts in the map that is segmented.
    #[serde(alias = "aggregate")]
    pub weight: HeadShare,
}

/// Settings of `tokenrank` and `column-sum`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Ranked {
    /// Key of the method in records and tables. Two methods of one kind need different names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Number of anchors, 1 to 65536. If the image has fewer tokens, all of them are anchors.
    pub number: usize,
    /// Distance in rows and columns within which an anchor excludes all other tokens from being anchors; 0 excludes none.
    pub radius: usize,
    /// How much each attention head counts in the map that is ranked and segmented.
    #[serde(alias = "aggregate")]
    pub weight: HeadShare,
}

/// Settings of `tokenrank-sampled` and `random`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Drawn {
    /// Key of the method in records and tables. Two methods of one kind need different names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Number of anchors, 1 to 65536. If the image has fewer tokens, all of them are anchors.
    pub number: usize,
    /// How much each attention head counts in the map that is ranked and segmented.
    #[serde(alias = "aggregate")]
    pub weight: HeadShare,
}

/// Settings of a method from a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Outside {
    /// Safetensors file with a tensor for each image; `docs/scores.md` describes the format.
    pub file: PathBuf,
    /// Name of the method in records, tables and figures; no name of another method.
    #[serde(deserialize_with = "own_name")]
    pub name: String,
    /// Number of anchors, 1 to 65536, as of `tokenrank`. Default: 256. Only for a file of scores.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<usize>,
    /// Distance in rows and columns within which an anchor excludes others, as of `tokenrank`. Default: 1. Only for a file of
    /// scores.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub radius: Option<usize>,
    /// How much each attention head counts in the map that is segmented. Default: `"equal"`. Only for a file of scores.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<HeadShare>,
}

impl Outside {
    /// How the method is written in experiment files.
    const KIND: FileKind = FileKind::new(&["file", "name", "number", "radius", "weight"]);

    /// The method's file and name.
    pub(super) fn method(&self) -> FileMethod<'_> {
        FileMethod { file: &self.file, name: &self.name }
    }

    /// Number of anchors that are chosen by scores.
    pub(super) fn number(&self) -> usize {
        self.number.unwrap_or(Ranked::default().number)
    }

    /// Distance within which an anchor that is chosen by scores excludes others.
    pub(super) fn radius(&self) -> usize {
        self.radius.unwrap_or(Ranked::default().radius)
    }
}

/// The number of anchors of the published grid.
const ANCHORS: usize = 256;

impl Default for Grid {
    fn default() -> Self {
        Self { name: None, side: 16, weight: HeadShare::Equal }
    }
}

impl Default for Ranked {
    fn default() -> Self {
        Self { name: None, number: ANCHORS, radius: 1, weight: HeadShare::Equal }
    }
}

impl Default for Drawn {
    fn default() -> Self {
        Self { name: None, number: ANCHORS, weight: HeadShare::Equal }
    }
}

impl Named for Method {
    const METHODS: &'static [MethodKind] = {
        const WEIGHTED: &[(&str, &str)] = &[("weight", "lambda2")];
        &[
            MethodKind::new("uniform", "uniform grid"),
            MethodKind::new("tokenrank", "TokenRank"),
            MethodKind::new("tokenrank-sampled", "TokenRank, drawn"),
            MethodKind::new("column-sum", "column sum"),
            MethodKind::new("random", "random"),
            MethodKind::short("uniform-lambda2", "uniform grid, λ₂", "uniform", WEIGHTED),
            MethodKind::short("tokenrank-lambda2", "TokenRank, λ₂", "tokenrank", WEIGHTED),
            MethodKind::short(
                "tokenrank-sampled-lambda2",
                "TokenRank, drawn, λ₂",
                "tokenrank-sampled",
                WEIGHTED,
            ),
            MethodKind::short("column-sum-lambda2", "column sum, λ₂", "column-sum", WEIGHTED),
            MethodKind::short("random-lambda2", "random, λ₂", "random", WEIGHTED),
        ]
    };
    const EXAMPLE: &'static str = "{ tokenrank = { number = 64 } }";
    type Table = Self;
    const FROM_FILE: Option<FileKind> = Some(Outside::KIND);

    fn kind_name(&self) -> &'static str {
        match (self, self.aggregate()) {
            (Self::Uniform(_), HeadShare::Equal) => "uniform",
            (Self::Uniform(_), HeadShare::Lambda2) => "uniform-lambda2",
            (Self::Tokenrank(_), HeadShare::Equal) => "tokenrank",
            (Self::Tokenrank(_), HeadShare::Lambda2) => "tokenrank-lambda2",
            (Self::TokenrankSampled(_), HeadShare::Equal) => "tokenrank-sampled",
            (Self::TokenrankSampled(_), HeadShare::Lambda2) => "tokenrank-sampled-lambda2",
            (Self::ColumnSum(_), HeadShare::Equal) => "column-sum",
            (Self::ColumnSum(_), HeadShare::Lambda2) => "column-sum-lambda2",
            (Self::Random(_), HeadShare::Equal) => "random",
            (Self::Random(_), HeadShare::Lambda2) => "random-lambda2",
            (Self::File(_), HeadShare::Equal | HeadShare::Lambda2) => Outside::KIND.variant,
        }
    }

    fn file_method(&self) -> Option<FileMethod<'_>> {
        match self {
            Self::File(outside) => Some(outside.method()),
            Self::Uniform(_)
            | Self::Tokenrank(_)
            | Self::TokenrankSampled(_)
            | Self::ColumnSum(_)
            | Self::Random(_) => None,
        }
    }
}

impl Method {
    fn name(&self) -> Option<&str> {
        match self {
            Self::Uniform(Grid { name, .. })
            | Self::Tokenrank(Ranked { name, .. })
            | Self::ColumnSum(Ranked { name, .. })
            | Self::TokenrankSampled(Drawn { name, .. })
            | Self::Random(Drawn { name, .. }) => name.as_deref(),
            Self::File(Outside { name, .. }) => Some(name),
        }
    }

    /// The aggregate that the method reads.
    pub fn aggregate(&self) -> HeadShare {
        match self {
            Self::Uniform(Grid { weight, .. })
            | Self::Tokenrank(Ranked { weight, .. })
            | Self::ColumnSum(Ranked { weight, .. })
            | Self::TokenrankSampled(Drawn { weight, .. })
            | Self::Random(Drawn { weight, .. }) => *weight,
            Self::File(Outside { weight, .. }) => weight.unwrap_or_default(),
        }
    }

    /// Whether the method computes a steady state.
    pub fn ranks(&self) -> bool {
        match self {
            Self::Tokenrank(_) | Self::TokenrankSampled(_) => true,
            Self::Uniform(_) | Self::ColumnSum(_) | Self::Random(_) | Self::File(_) => false,
        }
    }

    /// Key of the method in records and tables.
    pub fn key(&self) -> &str {
        self.name().unwrap_or(self.kind_name())
    }

    /// Name of the method in tables and figures: its own `name`, or the label of its kind.
    pub fn label(&self) -> &str {
        self.name().unwrap_or(self.kind_label())
    }

    /// The number of anchors that the method asks for.
    pub fn anchors(&self) -> usize {
        match self {
            Self::Uniform(Grid { side, .. }) => side.saturating_mul(*side),
            Self::Tokenrank(Ranked { number, .. }) | Self::ColumnSum(Ranked { number, .. }) => *number,
            Self::TokenrankSampled(Drawn { number, .. }) | Self::Random(Drawn { number, .. }) => *number,
            Self::File(outside) => outside.number(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::method::tests::{parse, refused, walk, walk_file, written};

    #[test]
    fn methods_are_names_or_tables() -> Result<(), String> {
        let methods: Vec<Method> = parse(
            r#""uniform", { uniform = { side = 8, weight = "lambda2" } }, "tokenrank", "tokenrank-sampled",
               { column-sum = { number = 64, radius = 2 } }, { random = { number = 9, name = "nine" } }"#,
        )?;
        let keys: Vec<&str> = methods.iter().map(Method::key).collect();
        let wanted = ["uniform", "uniform-lambda2", "tokenrank", "tokenrank-sampled", "column-sum", "nine"];
        assert_eq!(keys, wanted);
        assert_eq!(methods.iter().map(Method::anchors).collect::<Vec<_>>(), [256, 64, 256, 256, 64, 9]);
        assert_eq!(written(&methods[0]), r#"{"uniform":{"side":16,"weight":"equal"}}"#);
        Ok(())
    }

    #[test]
    fn every_method_reads_back_as_itself() {
        walk::<Method>();
        walk_file::<Method>();
        let text = r#"{ name = "mine", number = 9, file = "f", weight = "lambda2", radius = 0 }"#;
        let mine = parse::<Method>(text).expect(text).remove(0);
        assert_eq!(
            (mine.anchors(), mine.aggregate(), mine.key(), mine.label()),
            (9, HeadShare::Lambda2, "mine", "mine")
        );
        assert_eq!(written(&mine), r#"{"file":"f","name":"mine","number":9,"radius":0,"weight":"lambda2"}"#);
    }

    #[test]
    fn old_names_can_still_be_read() {
        let old = parse::<Method>(
            r#"{ tokenrank = { number = 36, aggregate = "lambda2" } }, { random = { aggregate = "mean" } }"#,
        );
        assert_eq!(old, parse(r#"{ tokenrank = { number = 36, weight = "lambda2" } }, "random""#));
    }

    #[test]
    fn unknown_methods_and_settings_are_refused() {
        refused::<Method>(&[
            ("\"kmeans\"", "kmeans"),
            ("{ tokenrank = { radii = 1 } }", "radii"),
            ("{ uniform = { number = 9 } }", "number"),
            ("{ random = { weight = \"max\" } }", "max"),
            (
                "{ tokenrank-lambda2 = { weight = \"equal\" } }",
                "the method is `tokenrank`, not `tokenrank-lambda2`",
            ),
            ("{ uniform = {}, random = {} }", "second table for"),
        ]);
    }
}
