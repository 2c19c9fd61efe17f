//! The `[task.masking]` table of an experiment.

use std::fmt;
use std::path::Path;

use models::LayerSelection;
use models::attend::ChainTokens;
use models::probe::LambdaWeight;
use schemars::JsonSchema;
use serde::de::{self, IntoDeserializer, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::fractions::Fractions;
use crate::alpha::check_alpha;
use crate::dataset::LabelledImage;
use crate::error::{Error, Result};
use crate::method::{
    FileKind, FileMethod, HeadShare, ListSchema, MethodKind, Named, list, paths, same, twice,
};
use crate::pixels::check_side;
use crate::score_file::{FromFile, Keys, ScoreFiles, Tokens};

/// `[task.masking]`: accuracy of a classifier while the most important image tokens are removed. The paper gives the table and
/// few of these settings; `docs/protocols.md` says which are our choices.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MaskingConfig {
    /// Methods to compare, that is, scores that order the tokens from the most important to the least.
    #[serde(with = "list", alias = "scores")]
    #[schemars(with = "ListSchema<Score>")]
    pub methods: Vec<Score>,
    /// Side in pixels of the square to which images are resized. Default: the published preprocessing of the network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_size: Option<usize>,
    /// Layers whose attention is read.
    #[serde(default)]
    pub layers: LayerSelection,
    /// Whether the CLS token and registers are states of the chain. A list of both gives two rows for each method that reads a
    /// chain.
    #[serde(default = "MaskingConfig::default_cls", deserialize_with = "one_or_more")]
    #[schemars(with = "OneOrMore")]
    pub cls: Vec<ClsInChain>,
    /// When heads and layers are averaged.
    #[serde(default)]
    pub heads: HeadAverage,
    /// Probability that the chain follows the attention in a step; otherwise it jumps to a random token. Range (0, 1].
    #[serde(default = "MaskingConfig::default_alpha")]
    pub alpha: f64,
    /// How the weight of a head grows with its λ₂ in methods with `weight = "lambda2"`.
    #[serde(default)]
    pub lambda_weight: LambdaWeight,
    /// Fractions of the image tokens that are removed, in rising order within [0, 1): a list such as `[0.0, 0.2, 0.5]`, or
    /// `{ from = 0.0, to = 0.9, step = 0.1 }`.
    pub fractions: Fractions,
    /// Number of images that are run together.
    #[serde(default = "MaskingConfig::default_batch")]
    pub batch: usize,
    /// Number of images, from the start of the dataset, whose score maps are kept and drawn.
    #[serde(default = "MaskingConfig::default_figures", alias = "overlays")]
    pub figures: usize,
}

/// What makes a token important.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Score {
    /// Nothing: a random order, fixed by the seed and the image.
    Random,
    /// Nearness to the centre of the grid.
    Center,
    /// Attention received from all tokens: one step from the uniform state.
    ColumnSum,
    /// Attention received from CLS: one step from CLS.
    Cls,
    /// The steady state.
    Tokenrank,
    /// The steady state, heads weighted by λ₂.
    TokenrankLambda2,
    /// What another program has computed and written to a file.
    File(FromFile),
}

/// A score as a table.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ScoreTable {
    /// A random order, fixed by the seed and the image.
    Random(NoSettings),
    /// Tokens near the centre of the image first.
    Center(NoSettings),
    /// Attention received from all tokens.
    ColumnSum(NoSettings),
    /// Attention received from the CLS token.
    Cls(NoSettings),
    /// TokenRank: the steady state of the attention chain.
    Tokenrank(RankSettings),
    /// Scores that another program has computed, `[rows, columns]` of the grid of patches for each image, larger for more
    /// important patches.
    File(FromFile),
}

/// Settings of a score that has none.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NoSettings {}

/// Settings of `tokenrank`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RankSettings {
    /// How much each attention head counts in the map that is ranked.
    #[serde(default)]
    weight: HeadShare,
}

impl From<ScoreTable> for Score {
    fn from(table: ScoreTable) -> Self {
        match table {
            ScoreTable::Random(NoSettings {}) => Self::Random,
            ScoreTable::Center(NoSettings {}) => Self::Center,
            ScoreTable::ColumnSum(NoSettings {}) => Self::ColumnSum,
            ScoreTable::Cls(NoSettings {}) => Self::Cls,
            ScoreTable::Tokenrank(RankSettings { weight: HeadShare::Equal }) => Self::Tokenrank,
            ScoreTable::Tokenrank(RankSettings { weight: HeadShare::Lambda2 }) => Self::TokenrankLambda2,
            ScoreTable::File(file) => Self::File(file),
        }
    }
}

impl Named for Score {
    const METHODS: &'static [MethodKind] = &[
        MethodKind::new("random", "Random"),
        MethodKind::new("center", "Center"),
        MethodKind::new("column-sum", "Column sum"),
        MethodKind::new("cls", "CLS token"),
        MethodKind::new("tokenrank", "TokenRank"),
        MethodKind::short("tokenrank-lambda2", "TokenRank, λ₂", "tokenrank", &[("weight", "lambda2")]),
    ];
    const EXAMPLE: &'static str = "{ tokenrank = { weight = \"lambda2\" } }";
    type Table = ScoreTable;
    const FROM_FILE: Option<FileKind> = Some(FromFile::KIND);

    fn kind_name(&self) -> &'static str {
        match self {
            Self::Random => "random",
            Self::Center => "center",
            Self::ColumnSum => "column-sum",
            Self::Cls => "cls",
            Self::Tokenrank => "tokenrank",
            Self::TokenrankLambda2 => "tokenrank-lambda2",
            Self::File(_) => FromFile::KIND.variant,
        }
    }

    fn file_method(&self) -> Option<FileMethod<'_>> {
        match self {
            Self::File(file) => Some(file.method()),
            Self::Random
            | Self::Center
            | Self::ColumnSum
            | Self::Cls
            | Self::Tokenrank
            | Self::TokenrankLambda2 => None,
        }
    }

    /// The names of scores without CLS in the chain are taken too.
    fn is_taken(name: &str) -> bool {
        let names = Self::METHODS.iter().flat_map(|kind| {
            [ClsInChain::Kept, ClsInChain::Dropped].into_iter().flat_map(|cls| {
                [
                    format!("{}{}", kind.name, cls.key_suffix()),
                    format!("{}{}", kind.label, cls.label_suffix()),
                ]
            })
        });
        names.into_iter().any(|taken| same(&taken, name))
    }
}

impl Score {
    /// Whether the score depends on which tokens are states of the chain.
    pub fn is_of_chain(&self) -> bool {
        match self {
            Self::ColumnSum | Self::Tokenrank | Self::TokenrankLambda2 => true,
            Self::Random | Self::Center | Self::Cls | Self::File(_) => false,
        }
    }

    /// Whether the score is a form of TokenRank.
    pub fn is_steady_state(&self) -> bool {
        match self {
            Self::Tokenrank | Self::TokenrankLambda2 => true,
            Self::Random | Self::Center | Self::ColumnSum | Self::Cls | Self::File(_) => false,
        }
    }

    /// Whether the score is computed from the network's attention.
    fn reads_attention(&self) -> bool {
        match self {
            Self::ColumnSum | Self::Cls | Self::Tokenrank | Self::TokenrankLambda2 => true,
            Self::Random | Self::Center | Self::File(_) => false,
        }
    }

    /// Key of the score in records: its name, or the user's name of a score from a file.
    pub fn key(&self) -> &str {
        self.file_method().map_or(self.kind_name(), |method| method.name)
    }

    /// Name of the score in tables and figures.
    pub fn label(&self) -> &str {
        self.file_method().map_or(self.kind_label(), |method| method.name)
    }
}

impl fmt::Display for Score {
    /// Writes the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.key())
    }
}

/// Whether the CLS token and registers are states of the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ClsInChain {
    /// They are states of the chain; the part of the score that falls on them is ignored.
    Kept,
    /// They are removed before the softmax.
    Dropped,
}

impl ClsInChain {
    /// Returns the tokens of the chain, in the terms of a probe.
    pub fn tokens(self) -> ChainTokens {
        match self {
            Self::Kept => ChainTokens::All,
            Self::Dropped => ChainTokens::WithoutSpecial,
        }
    }

    /// What follows the key of a score in that of a method.
    fn key_suffix(self) -> &'static str {
        match self {
            Self::Kept => "",
            Self::Dropped => "-no-cls",
        }
    }

    /// What follows the label of a score in that of a method.
    fn label_suffix(self) -> &'static str {
        match self {
            Self::Kept => "",
            Self::Dropped => ", no CLS",
        }
    }
}

/// A single choice or a list of choices, for the JSON schema.
#[derive(JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "only its schema is used")]
enum OneOrMore {
    One(ClsInChain),
    List(Vec<ClsInChain>),
}

/// Reads a single choice or a list of choices.
fn one_or_more<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<ClsInChain>, D::Error> {
    struct Choices;

    impl<'de> Visitor<'de> for Choices {
        type Value = Vec<ClsInChain>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("`kept`, `dropped` or a list of both")
        }

        fn visit_str<E: de::Error>(self, choice: &str) -> Result<Self::Value, E> {
            ClsInChain::deserialize(choice.into_deserializer()).map(|choice| vec![choice])
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
            let mut choices = Vec::new();
            while let Some(choice) = list.next_element()? {
                choices.push(choice);
            }
            Ok(choices)
        }
    }

    deserializer.deserialize_any(Choices)
}

/// When heads and layers are averaged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum HeadAverage {
    /// Transition matrices are averaged, then ranked once.
    #[default]
    BeforeRanking,
    /// Each head is ranked, then the ranks are averaged.
    AfterRanking,
}

/// A row of the table: a score, and the chain from which it is computed if it needs one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Method {
    /// The score that orders the tokens.
    pub score: Score,
    /// The states of the chain. [`ClsInChain::Kept`] for scores that use no chain.
    pub cls: ClsInChain,
}

impl fmt::Display for Method {
    /// The key of the method in records and tables, such as `tokenrank-no-cls`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.score, self.cls.key_suffix())
    }
}

impl MaskingConfig {
    fn default_cls() -> Vec<ClsInChain> {
        vec![ClsInChain::Kept]
    }

    fn default_alpha() -> f64 {
        0.99
    }

    fn default_batch() -> usize {
        16
    }

    fn default_figures() -> usize {
        4
    }

    /// Returns every row of the table, in the order of the file.
    pub fn methods(&self) -> Vec<Method> {
        let mut methods = Vec::new();
        for score in &self.methods {
            if score.is_of_chain() {
                methods.extend(self.cls.iter().map(|&cls| Method { score: score.clone(), cls }));
            } else {
                methods.push(Method { score: score.clone(), cls: ClsInChain::Kept });
            }
        }
        methods
    }

    /// Returns the settings on which the results of one method depend, with defaults for all others. If two
    /// configurations agree in this, the method need be run only once.
    pub fn of_method(&self, method: &Method) -> Self {
        let mut one = Self { methods: vec![method.score.clone()], cls: vec![method.cls], ..self.clone() };
        if method.score != Score::TokenrankLambda2 {
            one.lambda_weight = LambdaWeight::default();
        }
        if !method.score.is_steady_state() {
            // Column sums and rows are linear: averaging over heads before or after gives the same.
            one.alpha = Self::default_alpha();
            one.heads = HeadAverage::default();
        }
        if !method.score.reads_attention() {
            one.layers = LayerSelection::default();
        }
        one
    }

    /// The files of the scores that come from files.
    pub fn score_paths(&self) -> Vec<&Path> {
        paths(&self.methods)
    }

    /// Opens the files of the scores that come from files.
    ///
    /// # Errors
    /// [`Error::Scores`]: a file cannot be read, is not a file of scores, or is for another experiment.
    pub fn score_files(&self) -> Result<ScoreFiles> {
        ScoreFiles::open("masking", &self.methods)
    }

    /// Checks that these files have finite scores of every image, one for each of `grid` patches (rows, columns) if the
    /// images have one size. Returns notes for the user, a sentence each.
    ///
    /// # Errors
    /// [`Error::Scores`] with the first image or file for which they have not.
    pub fn check_scores(
        &self,
        files: &ScoreFiles,
        items: &[LabelledImage],
        grid: Option<(usize, usize)>,
    ) -> Result<Vec<String>> {
        let tokens = grid.map(Self::patches);
        let keys = || items.iter().map(|item| Keys::of_image(&item.id));
        files.check(&self.methods, keys, |file, name, array| file.scores(name, array, tokens).map(drop))
    }

    /// The tokens that a score must cover on a grid of patches.
    pub(super) fn patches(grid: (usize, usize)) -> Tokens {
        Tokens { grid, of: "patches" }
    }

    /// Checks what the types cannot express.
    ///
    /// # Errors
    /// [`Error::Setting`] with the first setting out of range.
    pub fn check(&self) -> Result<()> {
        let refuse = |setting, reason: String| Err(Error::Setting { setting, reason });
        if self.methods.is_empty() {
            return refuse("task.masking.methods", "lists no methods".into());
        }
        if self.cls.is_empty() {
            return refuse("task.masking.cls", "list `kept`, `dropped` or both".into());
        }
        if let Some(reason) = twice(&self.methods) {
            return refuse("task.masking.methods", reason);
        }
        let mut methods = self.methods();
        methods.sort();
        if methods.windows(2).any(|pair| pair[0] == pair[1]) {
            return refuse("task.masking", "a method or a choice of `cls` is listed twice".into());
        }
        if let Some(problem) = self.fractions.problem() {
            return refuse("task.masking.fractions", problem);
        }
        check_alpha("task.masking.alpha", self.alpha)?;
        if let Some(side) = self.image_size {
            if side == 0 {
                return refuse("task.masking.image_size", "must be at least 1".into());
            }
            check_side("task.masking.image_size", side as u64)?;
        }
        if self.batch == 0 {
            return refuse("task.masking.batch", "must be at least 1".into());
        }
        Ok(())
    }

    /// Checks that a network has the tokens that the methods read: whether it has CLS, and how many `special` tokens (CLS and
    /// registers).
    ///
    /// # Errors
    /// [`Error::Setting`] with the first setting that needs a token that is missing.
    pub fn check_tokens(&self, has_cls: bool, special: i64) -> Result<()> {
        let refuse = |setting, reason: &str| Err(Error::Setting { setting, reason: reason.into() });
        if !has_cls && self.methods.contains(&Score::Cls) {
            return refuse(
                "task.masking.methods",
                "`cls` reads the attention of the CLS token, and this network has none; leave this method out",
            );
        }
        if special == 0 && self.cls.contains(&ClsInChain::Dropped) {
            return refuse(
                "task.masking.cls",
                "`dropped` removes CLS and registers from the chain, and this network has neither; use `kept`, the default",
            );
        }
        Ok(())
    }
}

impl Method {
    /// Name of the method in tables and figures.
    pub fn label(&self) -> String {
        format!("{}{}", self.score.label(), self.cls.label_suffix())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::method::tests::{parse, refused, walk, walk_file};

    #[test]
    fn scores_from_files_are_tables_with_a_file_and_a_name() {
        walk_file::<Score>();
        refused::<Score>(&[(
            "{ file = \"f\", name = \"TokenRank, no CLS\" }",
            "is that of a method of the program",
        )]);
        let config = |methods: &str| -> MaskingConfig {
            toml::from_str(&format!("fractions = [0.0, 0.5]\nmethods = [{methods}]")).expect("a table")
        };
        let (a, b) = ("{ file = \"f\", name = \"a\" }", "{ file = \"f\", name = \"b\" }");
        let both = config(&format!("{a}, {b}, \"cls\""));
        assert!(both.check().is_ok());
        let keys: Vec<String> = both.methods().iter().map(Method::to_string).collect();
        assert_eq!(keys, ["a", "b", "cls"]);
        let message = config(&format!("{a}, \"cls\", {}", a.replace("\"a\"", "\"A \"")))
            .check()
            .expect_err("refused")
            .to_string();
        assert!(message.contains("two methods are called `a`"), "{message}");
    }

    #[test]
    fn every_score_reads_back_as_itself() {
        walk::<Score>();
        for kind in Score::METHODS {
            let score = parse::<Score>(&format!("{:?}", kind.name)).expect(kind.name).remove(0);
            assert_eq!((score.to_string().as_str(), score.label()), (kind.name, kind.label));
            assert_eq!(serde_json::json!(score), kind.name);
            // Dropping CLS changes the chain, so the score must read attention.
            assert!(score.reads_attention() || !score.is_of_chain(), "{score}");
        }
    }

    #[test]
    fn unknown_scores_and_settings_are_refused() {
        refused::<Score>(&[
            ("\"tokenrnk\"", "tokenrnk"),
            ("{ column-sum = { weight = \"lambda2\" } }", "weight"),
            ("{ tokenrank = { weight = \"squared\" } }", "squared"),
        ]);
    }
}
