//! Several averages of the maps of one pass at once, for FLUX's joint attention.

use std::num::NonZeroUsize;
use std::ops::Range;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::chain::{LAMBDA_TOLERANCE, LambdaWeight};
use super::chains::Chains;
use super::mean::{accumulate, nothing_seen, same_size, weighted_sum};
use crate::attend::{AttentionProbe, ChainTokens, View, Want, square};
use crate::error::{Error, Result};
use crate::site::Site;

/// The map of a head that an average uses.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum MapKind {
    /// The attention map: a softmax over keys.
    #[default]
    Plain,
    /// A softmax over queries, which shows for each key the queries that attend to it most. The rows of the average are
    /// scaled to sum to 1. The authors' code calls its results "pretty".
    Pretty,
}

/// Weights of heads in an average.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HeadWeight {
    /// Equal weights.
    #[default]
    Equal,
    /// Weights from the λ₂ of each head's attention (of the plain map, whichever map is averaged).
    Lambda(LambdaWeight, WeightScope),
    /// Equal weights for the given number of heads with the largest λ₂; the others do not count.
    Top(NonZeroUsize, WeightScope),
}

impl HeadWeight {
    fn scope(self) -> Option<WeightScope> {
        match self {
            Self::Equal => None,
            Self::Lambda(_, scope) | Self::Top(_, scope) => Some(scope),
        }
    }
}

/// Set of heads over which weights sum to 1. The paper does not specify it.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum WeightScope {
    /// The heads of one layer; all layers count equally.
    #[default]
    PerBlock,
    /// All heads of all layers and passes.
    Global,
}

/// One average that a [`PassMaps`] computes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MapRequest {
    /// The map to average.
    pub map: MapKind,
    /// The weights of the heads.
    pub weight: HeadWeight,
}

/// Averages of the maps of every head and layer seen, over all passes that use this probe.
///
/// λ₂ is computed at most once per head, on the device: from its map while that is in memory, or from queries and keys
/// before the maps are computed. In memory at once are the maps of
/// the heads shown, one `[batch, n, n]` for each request, and `k` maps if only the top `k` heads count;
/// [`MapFootprint`](super::MapFootprint) computes the total.
pub struct PassMaps {
    heads_at_once: Option<i64>,
    averages: Vec<(MapRequest, Average)>,
    /// λ₂ `[batch, heads]` of every layer seen.
    lambdas: Vec<(Site, Vec<Tensor>)>,
}

/// The results of a [`PassMaps`].
pub struct PassAverages {
    averages: Vec<(MapRequest, Tensor)>,
    /// Every layer seen and the λ₂ of its heads, `[batch, heads]` float64; empty if no weight needs it.
    pub lambdas: Vec<(Site, Tensor)>,
}

impl PassMaps {
    /// Creates a probe for these averages. If given, at most `heads_at_once` maps of heads are in memory at once.
    pub fn new(requests: impl IntoIterator<Item = MapRequest>, heads_at_once: Option<usize>) -> Self {
        Self {
            heads_at_once: heads_at_once.map(|heads| heads as i64),
            averages: requests.into_iter().map(|request| (request, Average::new(request.weight))).collect(),
            lambdas: Vec::new(),
        }
    }

    /// Returns the averages over all maps seen.
    ///
    /// # Errors
    /// No layer was seen; libtorch fails.
    pub fn finish(mut self) -> Result<PassAverages> {
        let averages = self.averages.drain(..).map(|(request, average)| {
            let mean = average.finish()?;
            let map = match request.map {
                MapKind::Plain => mean,
                MapKind::Pretty => mean.f_div(&mean.f_sum_dim_intlist(-1i64, true, Kind::Float)?)?,
            };
            Ok((request, map))
        });
        let averages = averages.collect::<Result<_>>()?;
        let lambdas = self.lambdas.into_iter().filter(|(_, parts)| !parts.is_empty());
        let lambdas = lambdas.map(|(site, parts)| Ok((site, Tensor::f_cat(&parts, 1)?)));
        Ok(PassAverages { averages, lambdas: lambdas.collect::<Result<_>>()? })
    }

    fn asks(&self, of: impl Fn(&MapRequest) -> bool) -> bool {
        self.averages.iter().any(|(request, _)| of(request))
    }

    fn weighs(&self) -> bool {
        self.asks(|request| request.weight != HeadWeight::Equal)
    }

    /// Adds heads to every average: their maps and logits `[batch, heads, n, n]` as far as needed, and their λ₂ `[batch,
    /// heads]`.
    fn add(
        &mut self,
        plain: Option<&Tensor>,
        logits: Option<&Tensor>,
        lambda: Option<&Tensor>,
    ) -> Result<()> {
        let pretty = logits.filter(|_| self.asks(|request| request.map == MapKind::Pretty));
        let pretty = pretty.map(|logits| logits.f_softmax(-2, Kind::Float)).transpose()?;
        for (request, average) in &mut self.averages {
            let maps = match request.map {
                MapKind::Plain => plain.ok_or_else(|| not_computed("softmax over keys"))?,
                MapKind::Pretty => pretty.as_ref().ok_or_else(|| not_computed("softmax over queries"))?,
            };
            average.add(square(maps)?, lambda)?;
        }
        Ok(())
    }
}

impl PassAverages {
    /// Returns an average, `[batch, n, n]` float32, rows summing to 1.
    ///
    /// # Errors
    /// The average was not requested.
    pub fn get(&self, request: MapRequest) -> Result<&Tensor> {
        let found = self.averages.iter().find(|(known, _)| *known == request);
        found.map(|(_, map)| map).ok_or_else(|| Error::Probe(format!("{request:?} was not requested")))
    }
}

impl AttentionProbe for PassMaps {
    fn want(&mut self, site: &Site) -> Want {
        self.lambdas.push((site.clone(), Vec::new()));
        self.averages.iter_mut().for_each(|(_, average)| average.new_block = true);
        if self.weighs() {
            return Want::CHAIN;
        }
        let mut want = Want::NONE;
        want.set(Want::PROBS, self.asks(|request| request.map == MapKind::Plain));
        want.set(Want::LOGITS, self.asks(|request| request.map == MapKind::Pretty));
        want
    }

    fn heads_at_once(&self) -> Option<i64> {
        self.heads_at_once
    }

    fn see(&mut self, site: &Site, _: Range<i64>, view: &View<'_>) -> Result<()> {
        if !self.weighs() {
            let plain = self.asks(|request| request.map == MapKind::Plain);
            let pretty = self.asks(|request| request.map == MapKind::Pretty);
            let plain = plain.then(|| view.probs()).transpose()?;
            let logits = pretty.then(|| view.logits()).transpose()?;
            return self.add(plain, logits, None);
        }
        let chains = Chains::of(ChainTokens::All, &site.layout, view)?;
        let lambda = chains.lambda2(LAMBDA_TOLERANCE)?;
        if let Some((_, parts)) = self.lambdas.last_mut() {
            parts.push(lambda.shallow_clone());
        }
        chains.each_maps(self.heads_at_once, |heads, logits, maps| {
            let lambda = lambda.f_narrow(1, heads.start, heads.end - heads.start)?;
            self.add(Some(maps), Some(logits), Some(&lambda))
        })
    }
}

fn not_computed(what: &str) -> Error {
    Error::Probe(format!("an average needs the {what} of the heads, which was not computed"))
}

/// An unfinished average.
struct Average {
    weight: HeadWeight,
    /// Set when a layer begins: averages per block then close the previous block.
    new_block: bool,
    /// Sum of the averages of closed blocks, and the number of these blocks.
    closed: (Option<Tensor>, i64),
    open: WeightedSum,
}

/// The weighted sum of heads for one block, or for the whole average.
#[derive(Default)]
struct WeightedSum {
    /// Σ w_h A_h, `[batch, n, n]`.
    sum: Option<Tensor>,
    /// Σ w_h, `[batch]`.
    total: Option<Tensor>,
    /// The heads with the largest λ₂ for each image, if only those count.
    best: Vec<Vec<(f64, Tensor)>>,
}

impl Average {
    fn new(weight: HeadWeight) -> Self {
        Self { weight, new_block: false, closed: (None, 0), open: WeightedSum::default() }
    }

    /// Adds `maps` `[batch, heads, n, n]` with their λ₂ `[batch, heads]`.
    fn add(&mut self, maps: &Tensor, lambda: Option<&Tensor>) -> Result<()> {
        if std::mem::take(&mut self.new_block) && self.weight.scope() == Some(WeightScope::PerBlock) {
            self.close()?;
        }
        let lambda = || lambda.ok_or_else(|| not_computed("λ₂"));
        match self.weight {
            HeadWeight::Top(count, _) => self.open.keep_best(maps, lambda()?, count.get()),
            HeadWeight::Lambda(weight, _) => {
                self.open.add(maps, &weight.apply(lambda()?)?.f_to_kind(Kind::Float)?)
            }
            HeadWeight::Equal => {
                let (batch, heads, ..) = maps.size4()?;
                self.open.add(maps, &Tensor::f_ones([batch, heads], (Kind::Float, maps.device()))?)
            }
        }
    }

    fn close(&mut self) -> Result<()> {
        if let Some(mean) = std::mem::take(&mut self.open).mean()? {
            accumulate(&mut self.closed.0, mean)?;
            self.closed.1 += 1;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Tensor> {
        self.close()?;
        let (sum, blocks) = self.closed;
        Ok(sum.ok_or_else(nothing_seen)?.f_div_scalar(blocks)?)
    }
}

impl WeightedSum {
    /// Adds `weight` `[batch, heads]` times `maps` `[batch, heads, n, n]`.
    fn add(&mut self, maps: &Tensor, weight: &Tensor) -> Result<()> {
        accumulate(&mut self.sum, weighted_sum(maps, weight)?)?;
        accumulate(&mut self.total, weight.f_sum_dim_intlist(1i64, false, Kind::Float)?)
    }

    fn keep_best(&mut self, maps: &Tensor, lambda: &Tensor, count: usize) -> Result<()> {
        let (batch, heads, ..) = maps.size4()?;
        self.best.resize_with(batch as usize, Vec::new);
        for (image, best) in (0..batch).zip(&mut self.best) {
            if let Some((_, other)) = best.first() {
                same_size(&other.size(), &maps.size()[2..])?;
            }
            for head in 0..heads {
                let lambda = lambda.f_double_value(&[image, head])?;
                let place = best.partition_point(|(other, _)| *other >= lambda);
                if place < count {
                    // A copy, since a view would keep the maps of all heads in memory.
                    let map = maps.f_select(0, image)?.f_select(0, head)?.f_detach_copy()?;
                    best.insert(place, (lambda, map));
                    best.truncate(count);
                }
            }
        }
        Ok(())
    }

    fn mean(self) -> Result<Option<Tensor>> {
        if !self.best.is_empty() {
            let image = |best: &Vec<(f64, Tensor)>| -> Result<Tensor> {
                let maps: Vec<&Tensor> = best.iter().map(|(_, map)| map).collect();
                Ok(Tensor::f_stack(&maps, 0)?.f_mean_dim(0i64, false, Kind::Float)?)
            };
            let images = self.best.iter().map(image).collect::<Result<Vec<_>>>()?;
            return Ok(Some(Tensor::f_stack(&images, 0)?));
        }
        let Some((sum, total)) = self.sum.zip(self.total) else { return Ok(None) };
        Ok(Some(sum.f_div(&total.f_reshape([-1, 1, 1])?)?))
    }
}
