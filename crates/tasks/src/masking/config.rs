//! The `[task.masking]` table of an experiment.

use std::fmt;
use std::marker::PhantomData;
use std::path::Path;

use models::LayerSelection;
use models::attend::ChainTokens;
use models::probe::LambdaWeight;
use models::vision::VisionTransformer;
use schemars::JsonSchema;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, DeserializeOwned, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::fractions::Fractions;
use super::mechanism::{Direction, Mechanism, no_mask_token};
use crate::alpha::check_alpha;
use crate::dataset::LabelledImage;
use crate::error::{Error, Result};
use crate::method::{
    FileKind, FileMethod, HeadShare, ListSchema, MethodKind, Named, Way, list, paths, same, twice,
};
use crate::pixels::check_side;
use crate::score_file::{FromFile, Keys, ScoreFiles, Tokens};

/// `[task.masking]`: accuracy of a classifier while the most important image tokens are masked. The paper gives the table and
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
    #[schemars(with = "OneOrMore<ClsInChain>")]
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
    /// How patches are masked; default: `remove`. Pixels are replaced by `{ pixels = "grey" }` (0 after normalisation), `"black"`
    /// (0 before it), `"mean"` (the mean colour of the image) or `"blur"` (a Gaussian blur of a sixteenth of the shorter side). A list
    /// gives a row for each of its mechanisms.
    #[serde(
        default = "MaskingConfig::default_mechanism",
        deserialize_with = "one_or_more",
        skip_serializing_if = "MaskingConfig::only_removes"
    )]
    #[schemars(with = "OneOrMore<Mechanism>")]
    pub mechanism: Vec<Mechanism>,
    /// Which patches are masked first; default: `deletion`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub direction: Direction,
    /// Fractions of the image tokens that are masked (`direction = "insertion"`: visible), in rising order within [0, 1]: a list such
    /// as `[0.0, 0.2, 0.5]`, or `{ from = 0.0, to = 0.9, step = 0.1 }`. Below 1 for the mechanism `remove`.
    pub fractions: Fractions,
    /// Whether to report more than the accuracy; default: `false`. It adds the area without normalisation, the probability and the
    /// logit of the class that the network predicts before masking, and comprehensiveness or sufficiency.
    #[serde(default, skip_serializing_if = "is_default")]
    pub confidence: bool,
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
    /// The steady state of the backward chain.
    TokenrankOutgoing,
    /// What CLS reads from the tokens through all chosen layers, by attention rollout.
    Rollout,
    /// What all tokens read from a token through all chosen layers, by attention rollout.
    RolloutSum,
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
    /// The row of CLS of the attention rollout over the chosen layers (Abnar and Zuidema, arXiv 2005.00928).
    Rollout(NoSettings),
    /// The mean of the rows of the attention rollout: where a lazy random walk ends that starts anywhere and takes a step in each layer
    /// (ASAP, arXiv 2605.22372, whose clustering is not part of this score).
    RolloutSum(NoSettings),
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
    /// Direction in which the chain runs: `forward` ranks tokens by the attention that they receive, `backward` by the attention that
    /// they give.
    #[serde(default)]
    direction: Way,
}

impl TryFrom<ScoreTable> for Score {
    type Error = &'static str;

    fn try_from(table: ScoreTable) -> Result<Self, &'static str> {
        Ok(match table {
            ScoreTable::Random(NoSettings {}) => Self::Random,
            ScoreTable::Center(NoSettings {}) => Self::Center,
            ScoreTable::ColumnSum(NoSettings {}) => Self::ColumnSum,
            ScoreTable::Cls(NoSettings {}) => Self::Cls,
            ScoreTable::Rollout(NoSettings {}) => Self::Rollout,
            ScoreTable::RolloutSum(NoSettings {}) => Self::RolloutSum,
            ScoreTable::Tokenrank(RankSettings { weight, direction }) => match (weight, direction) {
                (HeadShare::Equal, Way::Forward) => Self::Tokenrank,
                (HeadShare::Lambda2, Way::Forward) => Self::TokenrankLambda2,
                (HeadShare::Equal, Way::Backward) => Self::TokenrankOutgoing,
                (HeadShare::Lambda2, Way::Backward) => {
                    return Err("TokenRank of the backward chain weighs all heads alike; leave `weight` out");
                }
            },
            ScoreTable::File(file) => Self::File(file),
        })
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
        MethodKind::short(
            "tokenrank-outgoing",
            "TokenRank, outgoing",
            "tokenrank",
            &[("direction", "backward")],
        ),
        MethodKind::new("rollout", "Rollout"),
        MethodKind::new("rollout-sum", "Rollout, column sum"),
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
            Self::TokenrankOutgoing => "tokenrank-outgoing",
            Self::Rollout => "rollout",
            Self::RolloutSum => "rollout-sum",
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
            | Self::TokenrankLambda2
            | Self::TokenrankOutgoing
            | Self::Rollout
            | Self::RolloutSum => None,
        }
    }

    /// The names of scores without CLS in the chain, and of other mechanisms, are taken too.
    fn is_taken(name: &str) -> bool {
        let choices = || {
            [ClsInChain::Kept, ClsInChain::Dropped]
                .into_iter()
                .flat_map(|cls| Mechanism::ALL.map(|mechanism| (cls, mechanism)))
        };
        Self::METHODS.iter().any(|kind| {
            choices().any(|(cls, mechanism)| {
                let (cls, mask) = ((cls.key_suffix(), cls.label_suffix()), mechanism);
                same(&format!("{}{}{}", kind.name, cls.0, mask.key_suffix()), name)
                    || same(&format!("{}{}{}", kind.label, cls.1, mask.label_suffix()), name)
            })
        })
    }
}

impl Score {
    /// Whether the score depends on which tokens are states of the chain.
    pub fn is_of_chain(&self) -> bool {
        match self {
            Self::ColumnSum | Self::Tokenrank | Self::TokenrankLambda2 | Self::TokenrankOutgoing => true,
            Self::Random | Self::Center | Self::Cls | Self::Rollout | Self::RolloutSum | Self::File(_) => {
                false
            }
        }
    }

    /// Whether the score is a form of TokenRank.
    pub fn is_steady_state(&self) -> bool {
        match self {
            Self::Tokenrank | Self::TokenrankLambda2 | Self::TokenrankOutgoing => true,
            Self::Random
            | Self::Center
            | Self::ColumnSum
            | Self::Cls
            | Self::Rollout
            | Self::RolloutSum
            | Self::File(_) => false,
        }
    }

    /// Whether the score is computed from the network's attention.
    fn reads_attention(&self) -> bool {
        match self {
            Self::ColumnSum
            | Self::Cls
            | Self::Tokenrank
            | Self::TokenrankLambda2
            | Self::TokenrankOutgoing
            | Self::Rollout
            | Self::RolloutSum => true,
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
enum OneOrMore<T> {
    One(T),
    List(Vec<T>),
}

/// A setting that takes one value or a list of values.
trait Choice: DeserializeOwned {
    /// The values, for the message about any other value.
    const VALUES: &'static str;
}

impl Choice for ClsInChain {
    const VALUES: &'static str = "`kept`, `dropped` or a list of both";
}

impl Choice for Mechanism {
    const VALUES: &'static str = "`remove`, `zero-embedding`, `zero-token`, `mask-token`, `{ pixels = \"grey\" }` (or `black`, `mean`, \
                                  `blur`), or a list of them";
}

/// Whether a setting has its default.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Reads a single choice or a list of choices.
fn one_or_more<'de, T: Choice, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    struct Choices<T>(PhantomData<T>);

    impl<'de, T: Choice> Visitor<'de> for Choices<T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(T::VALUES)
        }

        fn visit_str<E: de::Error>(self, choice: &str) -> Result<Self::Value, E> {
            T::deserialize(choice.into_deserializer()).map(|choice| vec![choice])
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
            T::deserialize(MapAccessDeserializer::new(map)).map(|choice| vec![choice])
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
            let mut choices = Vec::new();
            while let Some(choice) = list.next_element()? {
                choices.push(choice);
            }
            Ok(choices)
        }
    }

    deserializer.deserialize_any(Choices(PhantomData))
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

/// An order of the patches: a score, and the chain from which it is computed if it needs one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ranking {
    /// The score that orders the tokens.
    pub score: Score,
    /// The states of the chain. [`ClsInChain::Kept`] for scores that use no chain.
    pub cls: ClsInChain,
}

/// A row of the table: an order of the patches, and the mechanism by which they are masked.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Method {
    /// The order of the patches.
    pub ranking: Ranking,
    /// The mechanism.
    pub mechanism: Mechanism,
    /// Whether names leave the mechanism out, since the experiment has no other.
    pub sole: bool,
}

impl fmt::Display for Ranking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.score, self.cls.key_suffix())
    }
}

impl fmt::Display for Method {
    /// The key of the method in records and tables, such as `tokenrank-no-cls-zero-token`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.ranking.fmt(f)?;
        if self.sole { Ok(()) } else { f.write_str(&self.mechanism.key_suffix()) }
    }
}

impl MaskingConfig {
    fn default_cls() -> Vec<ClsInChain> {
        vec![ClsInChain::Kept]
    }

    fn default_mechanism() -> Vec<Mechanism> {
        vec![Mechanism::Remove]
    }

    /// Whether the only mechanism is the default one.
    fn only_removes(mechanisms: &[Mechanism]) -> bool {
        mechanisms == [Mechanism::Remove]
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

    /// Returns every order of the patches, in the order of the file.
    pub fn rankings(&self) -> Vec<Ranking> {
        let mut rankings = Vec::new();
        for score in &self.methods {
            if score.is_of_chain() {
                rankings.extend(self.cls.iter().map(|&cls| Ranking { score: score.clone(), cls }));
            } else {
                rankings.push(Ranking { score: score.clone(), cls: ClsInChain::Kept });
            }
        }
        rankings
    }

    /// Returns every row of the table, in the order of the file: each ranking with each mechanism.
    pub fn methods(&self) -> Vec<Method> {
        let of_ranking = |ranking: Ranking| {
            let sole = self.mechanism.len() == 1;
            let method = move |&mechanism: &Mechanism| Method { ranking: ranking.clone(), mechanism, sole };
            self.mechanism.iter().map(method)
        };
        self.rankings().into_iter().flat_map(of_ranking).collect()
    }

    /// Returns the settings on which the results of one method depend, with defaults for all others. If two
    /// configurations agree in this, the method need be run only once.
    pub fn of_method(&self, method: &Method) -> Self {
        let Method { ranking: Ranking { score, cls }, mechanism, .. } = method;
        let mut one = Self {
            methods: vec![score.clone()],
            cls: vec![*cls],
            mechanism: vec![*mechanism],
            ..self.clone()
        };
        if *score != Score::TokenrankLambda2 {
            one.lambda_weight = LambdaWeight::default();
        }
        if !score.is_steady_state() {
            // Column sums, rows and rollouts read the mean of the heads only.
            one.alpha = Self::default_alpha();
            one.heads = HeadAverage::default();
        }
        if !score.reads_attention() {
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
        if self.mechanism.is_empty() {
            return refuse("task.masking.mechanism", "list at least one mechanism, such as `remove`".into());
        }
        let mut methods = self.methods();
        methods.sort();
        if methods.windows(2).any(|pair| pair[0] == pair[1]) {
            return refuse(
                "task.masking",
                "a method, a choice of `cls` or a mechanism is listed twice".into(),
            );
        }
        let fractions = &self.fractions;
        let removes_all = || {
            self.mechanism.contains(&Mechanism::Remove)
                && fractions.values().last().is_some_and(|&last| last >= 1.0)
        };
        if let Some(problem) = fractions.problem() {
            return refuse("task.masking.fractions", problem);
        }
        if removes_all() {
            let reason = "must stay below 1 for the mechanism `remove`, which leaves at least one patch; other mechanisms mask all \
                          patches at 1";
            return refuse("task.masking.fractions", reason.into());
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

    /// Checks that a network has everything that the settings need: the CLS token, special tokens, a mask token, probabilities.
    ///
    /// # Errors
    /// [`Error::Setting`] with the first setting that needs something that is missing.
    pub fn check_network(&self, network: &VisionTransformer) -> Result<()> {
        let refuse = |setting, reason: &str| Err(Error::Setting { setting, reason: reason.into() });
        let (has_cls, special) = (network.has_cls(), network.special_tokens());
        let of_cls = |score: &&Score| matches!(score, Score::Cls | Score::Rollout);
        if let Some(score) = self.methods.iter().find(of_cls).filter(|_| !has_cls) {
            let reason = format!(
                "`{score}` reads the attention of the CLS token, and this network has none; leave this method out"
            );
            return refuse("task.masking.methods", &reason);
        }
        if self.mechanism.contains(&Mechanism::MaskToken) && !network.has_mask_token() {
            return Err(no_mask_token());
        }
        if self.confidence && !network.has_probabilities() {
            return refuse(
                "task.masking.confidence",
                "needs probabilities of classes, and this network defines none: the classes of SigLIP do not exclude each other, and \
                 CLIP needs `logit_scale` in its file; leave this setting out",
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
        let Ranking { score, cls } = &self.ranking;
        let mechanism = if self.sole { "" } else { self.mechanism.label_suffix() };
        format!("{}{}{mechanism}", score.label(), cls.label_suffix())
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
