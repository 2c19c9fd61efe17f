//! The `[task.masking]` table of an experiment.

use std::fmt;

use models::LayerSelection;
use models::attend::ChainTokens;
use models::probe::LambdaWeight;
use serde::de::{self, IntoDeserializer, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::fractions::Fractions;
use crate::alpha::check_alpha;
use crate::error::{Error, Result};

/// What is removed, in which order and how much of it. The paper gives the table and few of these settings;
/// `docs/protocols.md` says which are ours.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MaskingConfig {
    /// Scores that order the tokens, most important first.
    pub scores: Vec<Score>,
    /// Blocks whose attention is read.
    #[serde(default)]
    pub layers: LayerSelection,
    /// Whether CLS is a state of the chain, one choice or a list of both; each makes a row of its own.
    #[serde(default = "MaskingConfig::default_cls", deserialize_with = "one_or_more")]
    pub cls: Vec<ClsInChain>,
    /// When heads and layers are averaged.
    #[serde(default)]
    pub heads: HeadAverage,
    /// Share of attention in the teleporting chain.
    #[serde(default = "MaskingConfig::default_alpha")]
    pub alpha: f64,
    /// How the weight of a head grows with its λ₂.
    #[serde(default)]
    pub lambda_weight: LambdaWeight,
    /// Shares of patch tokens that are removed.
    pub fractions: Fractions,
    /// Images that are run together.
    #[serde(default = "MaskingConfig::default_batch")]
    pub batch: usize,
    /// Images, from the start of the manifest, whose score maps are kept for pictures.
    #[serde(default = "MaskingConfig::default_overlays")]
    pub overlays: usize,
}

/// What makes a token important.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
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
}

impl Score {
    /// Whether the score depends on the states of the chain.
    fn is_of_chain(self) -> bool {
        match self {
            Self::ColumnSum | Self::Tokenrank | Self::TokenrankLambda2 => true,
            Self::Random | Self::Center | Self::Cls => false,
        }
    }

    /// Whether it is TokenRank in some form.
    pub fn is_steady_state(self) -> bool {
        match self {
            Self::Tokenrank | Self::TokenrankLambda2 => true,
            Self::Random | Self::Center | Self::ColumnSum | Self::Cls => false,
        }
    }

    /// Whether the score is computed from the network's attention.
    fn reads_attention(self) -> bool {
        match self {
            Self::ColumnSum | Self::Cls | Self::Tokenrank | Self::TokenrankLambda2 => true,
            Self::Random | Self::Center => false,
        }
    }

    /// The score's name for people.
    pub fn label(self) -> &'static str {
        match self {
            Self::Random => "Random",
            Self::Center => "Center",
            Self::ColumnSum => "Column sum",
            Self::Cls => "CLS token",
            Self::Tokenrank => "TokenRank",
            Self::TokenrankLambda2 => "TokenRank, λ₂",
        }
    }
}

impl fmt::Display for Score {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Random => "random",
            Self::Center => "center",
            Self::ColumnSum => "column-sum",
            Self::Cls => "cls",
            Self::Tokenrank => "tokenrank",
            Self::TokenrankLambda2 => "tokenrank-lambda2",
        })
    }
}

/// Whether CLS and registers are states of the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClsInChain {
    /// They are; their share of the score is ignored.
    Kept,
    /// They leave before the softmax.
    Dropped,
}

impl ClsInChain {
    /// The same in terms of a probe.
    pub fn tokens(self) -> ChainTokens {
        match self {
            Self::Kept => ChainTokens::All,
            Self::Dropped => ChainTokens::WithoutSpecial,
        }
    }
}

/// A choice by itself or a list of choices.
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
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HeadAverage {
    /// Transition matrices are averaged, then ranked once.
    #[default]
    BeforeRanking,
    /// Each head is ranked, then the ranks are averaged.
    AfterRanking,
}

/// A row of the table: a score, and for scores of a chain, which chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Method {
    /// What orders the tokens.
    pub score: Score,
    /// The chain's states; scores of no chain have [`ClsInChain::Kept`].
    pub cls: ClsInChain,
}

impl fmt::Display for Method {
    /// The key of the method in records and tables, such as `tokenrank-no-cls`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.cls {
            ClsInChain::Kept => write!(f, "{}", self.score),
            ClsInChain::Dropped => write!(f, "{}-no-cls", self.score),
        }
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

    fn default_overlays() -> usize {
        4
    }

    /// Every row of the table, in the order of `scores`.
    pub fn methods(&self) -> Vec<Method> {
        let mut methods = Vec::new();
        for &score in &self.scores {
            if score.is_of_chain() {
                methods.extend(self.cls.iter().map(|&cls| Method { score, cls }));
            } else {
                methods.push(Method { score, cls: ClsInChain::Kept });
            }
        }
        methods
    }

    /// The settings that decide the numbers of one method, all others at their defaults: two configurations that agree
    /// in this need the method run once.
    pub fn of_method(&self, method: Method) -> Self {
        let mut one = Self { scores: vec![method.score], cls: vec![method.cls], ..self.clone() };
        if method.score != Score::TokenrankLambda2 {
            one.lambda_weight = LambdaWeight::default();
        }
        if !method.score.is_steady_state() {
            // Column sums and rows are linear: the mean of the heads' is that of the mean head.
            one.alpha = Self::default_alpha();
            one.heads = HeadAverage::default();
        }
        if !method.score.reads_attention() {
            one.layers = LayerSelection::default();
        }
        one
    }

    /// Checks what the types cannot.
    ///
    /// # Errors
    /// [`Error::Setting`] with the first setting out of range.
    pub fn check(&self) -> Result<()> {
        let refuse = |setting, reason: String| Err(Error::Setting { setting, reason });
        if self.scores.is_empty() {
            return refuse("task.masking.scores", "lists no scores".into());
        }
        if self.cls.is_empty() {
            return refuse("task.masking.cls", "list `kept`, `dropped` or both".into());
        }
        let mut methods = self.methods();
        methods.sort();
        if methods.windows(2).any(|pair| pair[0] == pair[1]) {
            return refuse("task.masking", "a score or a choice of `cls` is listed twice".into());
        }
        if let Some(fault) = self.fractions.fault() {
            return refuse("task.masking.fractions", fault);
        }
        check_alpha("task.masking.alpha", self.alpha)?;
        if self.batch == 0 {
            return refuse("task.masking.batch", "must be at least 1".into());
        }
        Ok(())
    }
}

impl Method {
    /// The method's name for people.
    pub fn label(&self) -> String {
        let name = self.score.label();
        match self.cls {
            ClsInChain::Kept => name.into(),
            ClsInChain::Dropped => format!("{name}, no CLS"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::method::tests::variants;

    #[test]
    fn every_score_is_written_as_it_is_read() -> Result<(), serde_json::Error> {
        let names = variants::<Score>();
        assert!(names.contains(&"random") && names.contains(&"tokenrank-lambda2"), "{names:?}");
        let mut labels = BTreeSet::new();
        for name in names {
            let score: Score = serde_json::from_value((*name).into())?;
            assert_eq!(score.to_string(), *name);
            assert!(labels.insert(score.label()), "two scores are called {}", score.label());
            // Who drops CLS changes the chain, and a chain is made of attention.
            assert!(score.reads_attention() || !score.is_of_chain(), "{name}");
        }
        Ok(())
    }
}
