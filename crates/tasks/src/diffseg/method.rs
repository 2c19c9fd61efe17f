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

/// What a method is called that was given no name.
struct Names {
    /// Its kind in experiment files, and its key in records and tables.
    key: &'static str,
    /// Its key where heads are weighted by λ₂.
    key_lambda2: &'static str,
    /// Its name for people.
    label: &'static str,
    /// Its name for people where heads are weighted by λ₂.
    label_lambda2: &'static str,
}

impl Method {
    const fn names(&self) -> Names {
        match self {
            Self::Uniform(_) => Names {
                key: "uniform",
                key_lambda2: "uniform-lambda2",
                label: "uniform grid",
                label_lambda2: "uniform grid, λ₂",
            },
            Self::Tokenrank(_) => Names {
                key: "tokenrank",
                key_lambda2: "tokenrank-lambda2",
                label: "TokenRank",
                label_lambda2: "TokenRank, λ₂",
            },
            Self::TokenrankSampled(_) => Names {
                key: "tokenrank-sampled",
                key_lambda2: "tokenrank-sampled-lambda2",
                label: "TokenRank, drawn",
                label_lambda2: "TokenRank, drawn, λ₂",
            },
            Self::ColumnSum(_) => Names {
                key: "column-sum",
                key_lambda2: "column-sum-lambda2",
                label: "column sum",
                label_lambda2: "column sum, λ₂",
            },
            Self::Random(_) => Names {
                key: "random",
                key_lambda2: "random-lambda2",
                label: "random",
                label_lambda2: "random, λ₂",
            },
        }
    }

    /// Whether every setting has its default.
    fn is_plain(&self) -> bool {
        match self {
            Self::Uniform(grid) => *grid == Grid::default(),
            Self::Tokenrank(ranked) | Self::ColumnSum(ranked) => *ranked == Ranked::default(),
            Self::TokenrankSampled(drawn) | Self::Random(drawn) => *drawn == Drawn::default(),
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
        match self {
            Self::Tokenrank(_) | Self::TokenrankSampled(_) => true,
            Self::Uniform(_) | Self::ColumnSum(_) | Self::Random(_) => false,
        }
    }

    /// Key of the method in records and tables.
    pub fn key(&self) -> &str {
        let Names { key, key_lambda2, .. } = self.names();
        self.name().unwrap_or(match self.aggregate() {
            HeadShare::Mean => key,
            HeadShare::Lambda2 => key_lambda2,
        })
    }

    /// The method's name for people, or the one it was given.
    pub fn label(&self) -> &str {
        let Names { label, label_lambda2, .. } = self.names();
        self.name().unwrap_or(match self.aggregate() {
            HeadShare::Mean => label,
            HeadShare::Lambda2 => label_lambda2,
        })
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
        match self.is_plain() {
            true => serializer.serialize_str(self.names().key),
            false => Self::serialize(self, serializer),
        }
    }
}

impl NameOrTable for Method {
    const EXAMPLE: &'static str = "{ tokenrank = { number = 64 } }";

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
    fn every_method_reads_back_as_itself() -> Result<(), String> {
        let kinds = variants::<Method>();
        assert!(kinds.contains(&"uniform") && kinds.contains(&"random"), "{kinds:?}");
        let mut called = std::collections::BTreeSet::new();
        for kind in kinds {
            let by_name = parse(&format!("{kind:?}"))?;
            assert_eq!(by_name, parse(&format!("{{ {kind} = {{}} }}"))?, "{kind}");
            assert_eq!(by_name[0].key(), *kind);
            // The settings that are written are those of the same kind.
            assert_eq!(serde_json::to_string(&by_name[0]).map_err(|e| e.to_string())?, format!("{kind:?}"));
            let weighted = parse(&format!("{{ {kind} = {{ aggregate = \"lambda2\" }} }}"))?;
            let json = serde_json::to_string(&weighted).map_err(|e| e.to_string())?;
            assert!(json.starts_with(&format!("[{{{kind:?}:{{")), "{json}");
            assert_eq!(serde_json::from_str::<Vec<Method>>(&json).map_err(|e| e.to_string())?, weighted);
            assert_eq!(weighted[0].key(), format!("{kind}-lambda2"));
            assert_eq!(weighted[0].label(), format!("{}, λ₂", by_name[0].label()));
            for method in [&by_name[0], &weighted[0]] {
                assert!(
                    called.insert(method.label().to_owned()),
                    "two methods are called {}",
                    method.label()
                );
            }
        }
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
