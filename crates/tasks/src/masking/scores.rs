//! Scores of the patch tokens under every method, computed from one probed pass.

use std::collections::BTreeSet;
use std::ops::Range;

use markov_core::torch::to_vec;
use models::Site;
use models::TokenLayout;
use models::attend::{AttentionProbe, ChainTokens, View, Want};
use models::probe::{
    HeadRanks, LambdaWeighted, MeanMap, RankOnly, RankParts, Rollout, Select, token_rank, token_rank_backward,
};
use tch::{Device, Kind, Tensor};

use super::config::{ClsInChain, HeadAverage, MaskingConfig, Ranking, Score};
use crate::error::{Error, Result};
use crate::mini::rng::Rng;
use crate::score_file::{Keys, ScoreFile, ScoreFiles};

/// The reducers that the rankings of an experiment need, and no others.
pub(super) struct ScoreProbe(Select<Vec<ChainProbe>>);

/// The reducers for one kind of chain.
struct ChainProbe {
    cls: ClsInChain,
    mean: Option<MeanMap>,
    weighted: Option<LambdaWeighted>,
    ranks: Option<RankOnly>,
    outgoing: Option<RankOnly>,
    rollout: Option<Rollout>,
}

impl ScoreProbe {
    pub(super) fn new(config: &MaskingConfig, rankings: &[Ranking], blocks: BTreeSet<usize>) -> Self {
        let chains: BTreeSet<ClsInChain> = rankings.iter().map(|ranking| ranking.cls).collect();
        let probes = chains.into_iter().map(|cls| ChainProbe::new(config, rankings, cls)).collect();
        Self(Select::new(blocks, probes))
    }

    /// Returns the scores of every ranking, `[ranking][image]`: one value per patch in row order, larger for more
    /// important patches.
    pub(super) fn finish(
        self,
        config: &MaskingConfig,
        rankings: &[Ranking],
        layout: &TokenLayout,
        images: &[&str],
        (seed, files): (u64, &ScoreFiles),
    ) -> Result<Vec<Vec<Vec<f64>>>> {
        let chains = self.0.inner.into_iter().map(ChainProbe::finish).collect::<Result<Vec<ChainMaps>>>()?;
        let score = |ranking: &Ranking| -> Result<Vec<Vec<f64>>> {
            let chain = chains.iter().find(|chain| chain.cls == ranking.cls);
            let not_kept = || {
                let reason = format!("`{ranking}` needs attention that was not kept from the pass");
                Error::from(models::Error::Probe(reason))
            };
            let mean = || chain.and_then(|chain| chain.mean.as_ref()).ok_or_else(not_kept);
            let weighted = || chain.and_then(|chain| chain.weighted.as_ref()).ok_or_else(not_kept);
            let ranks = || chain.and_then(|chain| chain.ranks.as_ref()).ok_or_else(not_kept);
            let outgoing = || chain.and_then(|chain| chain.outgoing.as_ref()).ok_or_else(not_kept);
            let rollout = || chain.and_then(|chain| chain.rollout.as_ref()).ok_or_else(not_kept);
            let states = match (&ranking.score, config.heads) {
                (Score::File(file), _) => return from_file(files.get(file.method())?, images, layout),
                (Score::Random, _) => return Ok(images.iter().map(|id| random(seed, id, layout)).collect()),
                (Score::Center, _) => return Ok(vec![center(layout); images.len()]),
                // The mean of the rows is one step from the uniform state.
                (Score::ColumnSum, _) => mean()?.f_mean_dim(-2i64, false, Kind::Double)?,
                (Score::Cls, _) => mean()?.f_select(-2, 0)?,
                (Score::Tokenrank, HeadAverage::BeforeRanking) => token_rank(mean()?, config.alpha)?,
                (Score::Tokenrank, HeadAverage::AfterRanking) => ranks()?.mean()?,
                (Score::TokenrankLambda2, HeadAverage::BeforeRanking) => {
                    token_rank(weighted()?, config.alpha)?
                }
                (Score::TokenrankLambda2, HeadAverage::AfterRanking) => {
                    ranks()?.lambda_weighted(config.lambda_weight)?
                }
                (Score::TokenrankOutgoing, HeadAverage::BeforeRanking) => {
                    token_rank_backward(mean()?, config.alpha)?
                }
                (Score::TokenrankOutgoing, HeadAverage::AfterRanking) => outgoing()?.mean()?,
                (Score::Rollout, _) => rollout()?.f_select(-2, 0)?,
                (Score::RolloutSum, _) => rollout()?.f_mean_dim(-2i64, false, Kind::Double)?,
            };
            patches(&states, ranking.cls.tokens(), layout)
        };
        rankings.iter().map(score).collect()
    }
}

impl AttentionProbe for ScoreProbe {
    fn want(&mut self, site: &Site) -> Want {
        self.0.want(site)
    }

    fn see(&mut self, site: &Site, heads: Range<i64>, view: &View<'_>) -> Result<(), models::Error> {
        self.0.see(site, heads, view)
    }
}

impl ChainProbe {
    fn new(config: &MaskingConfig, rankings: &[Ranking], cls: ClsInChain) -> Self {
        let (mut mean, mut weighted, mut ranks) = (false, false, None);
        let (mut outgoing, mut rollout) = (false, false);
        for ranking in rankings.iter().filter(|ranking| ranking.cls == cls) {
            match (&ranking.score, config.heads) {
                (Score::Random | Score::Center | Score::File(_), _) => {}
                (Score::ColumnSum | Score::Cls, _) => mean = true,
                (Score::Tokenrank, HeadAverage::BeforeRanking) => mean = true,
                (Score::Tokenrank, HeadAverage::AfterRanking) => ranks = ranks.max(Some(RankParts::Ranks)),
                (Score::TokenrankLambda2, HeadAverage::BeforeRanking) => weighted = true,
                (Score::TokenrankLambda2, HeadAverage::AfterRanking) => {
                    ranks = Some(RankParts::RanksAndLambdas);
                }
                (Score::TokenrankOutgoing, HeadAverage::BeforeRanking) => mean = true,
                (Score::TokenrankOutgoing, HeadAverage::AfterRanking) => outgoing = true,
                (Score::Rollout | Score::RolloutSum, _) => rollout = true,
            }
        }
        let tokens = cls.tokens();
        Self {
            cls,
            mean: mean.then(|| MeanMap::new(tokens)),
            weighted: weighted.then(|| LambdaWeighted::new(tokens, config.lambda_weight)),
            ranks: ranks.map(|parts| RankOnly::new(tokens, config.alpha, parts)),
            outgoing: outgoing.then(|| RankOnly::new(tokens, config.alpha, RankParts::Ranks).backward()),
            rollout: rollout.then(Rollout::default),
        }
    }

    fn finish(self) -> Result<ChainMaps> {
        Ok(ChainMaps {
            cls: self.cls,
            mean: self.mean.map(MeanMap::finish).transpose()?,
            weighted: self.weighted.map(LambdaWeighted::finish).transpose()?,
            ranks: self.ranks.map(RankOnly::finish).transpose()?,
            outgoing: self.outgoing.map(RankOnly::finish).transpose()?,
            rollout: self.rollout.map(Rollout::finish).transpose()?,
        })
    }
}

impl AttentionProbe for ChainProbe {
    fn want(&mut self, site: &Site) -> Want {
        self.mean.want(site)
            | self.weighted.want(site)
            | self.ranks.want(site)
            | self.outgoing.want(site)
            | self.rollout.want(site)
    }

    fn see(&mut self, site: &Site, heads: Range<i64>, view: &View<'_>) -> Result<(), models::Error> {
        self.mean.see(site, heads.clone(), view)?;
        self.weighted.see(site, heads.clone(), view)?;
        self.ranks.see(site, heads.clone(), view)?;
        self.outgoing.see(site, heads.clone(), view)?;
        self.rollout.see(site, heads, view)
    }
}

/// What the reducers of one kind of chain have kept.
struct ChainMaps {
    cls: ClsInChain,
    mean: Option<Tensor>,
    weighted: Option<Tensor>,
    ranks: Option<HeadRanks>,
    outgoing: Option<HeadRanks>,
    rollout: Option<Tensor>,
}

/// Selects the image tokens from distributions over the states of a chain: `[images, n]` → `[images][patches]`.
fn patches(states: &Tensor, tokens: ChainTokens, layout: &TokenLayout) -> Result<Vec<Vec<f64>>> {
    let image: BTreeSet<i64> = layout.indices(|kind| kind == models::TokenKind::Image).into_iter().collect();
    let columns: Vec<i64> = (0..)
        .zip(tokens.states(layout))
        .filter(|(_, token)| image.contains(token))
        .map(|(column, _)| column)
        .collect();
    let states = states.f_to_device(Device::Cpu)?.f_to_kind(Kind::Double)?;
    let chosen = states.f_index_select(-1, &Tensor::f_from_slice(&columns)?)?;
    let flat: Vec<f64> = to_vec(&chosen)?;
    Ok(flat.chunks(columns.len()).map(<[f64]>::to_vec).collect())
}

/// Reads the scores of images, one image at a time.
fn from_file(file: &ScoreFile, images: &[&str], layout: &TokenLayout) -> Result<Vec<Vec<f64>>> {
    let tokens = MaskingConfig::patches((layout.image.0 as usize, layout.image.1 as usize));
    let scores = |image: &&str| {
        let keys = Keys::of_image(image);
        let (name, array) = file.tensor(&keys)?;
        file.scores(name, array, Some(tokens))
    };
    images.iter().map(scores).collect()
}

fn random(seed: u64, image: &str, layout: &TokenLayout) -> Vec<f64> {
    let (rows, columns) = layout.image;
    let mut keys = vec![seed];
    keys.extend(image.bytes().map(u64::from));
    let mut rng = Rng::keyed(&keys);
    (0..rows * columns).map(|_| rng.unit()).collect()
}

/// The negative distance of each patch to the centre of the grid, in patches.
fn center(layout: &TokenLayout) -> Vec<f64> {
    let (rows, columns) = layout.image;
    let offset = |index: i64, count: i64| index as f64 - (count - 1) as f64 / 2.0;
    (0..rows * columns)
        .map(|patch| -offset(patch / columns, rows).hypot(offset(patch % columns, columns)))
        .collect()
}

#[cfg(test)]
mod tests {
    use models::Stream;

    use super::*;

    /// The network computes its attention with the fused kernel if nobody wants maps.
    #[test]
    fn scores_that_read_no_attention_want_no_maps() {
        let wants = |methods: &str| {
            let text = format!("methods = [{methods}]\nfractions = [0.0, 0.5]");
            let config: MaskingConfig = toml::from_str(&text).expect("a table");
            let mut probe = ScoreProbe::new(&config, &config.rankings(), (0..4).collect());
            let site = |block| Site {
                stream: Stream::Vision,
                block,
                step: 0,
                layout: TokenLayout::vision(1, (8, 8)),
            };
            (0..4).map(|block| probe.want(&site(block))).collect::<Vec<_>>()
        };
        let file = "{ file = \"scores.safetensors\", name = \"mine\" }";
        assert_eq!(wants(&format!("{file}, \"random\", \"center\"")), [Want::NONE; 4]);
        assert!(wants(&format!("{file}, \"cls\"")).iter().all(|want| *want != Want::NONE));
    }
}
