//! Everything the methods need of a pass, and no more.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use models::attend::{AttentionProbe, View, Want};
use models::probe::{ConceptScale, ConceptScores, MapRequest, PassAverages, PassMaps, Rollout, Select};
use models::{Site, Stream};
use tch::Tensor;

use super::config::SegmentConfig;
use super::method::{Method, concept_methods};
use crate::error::Result;

/// Blocks by stream.
pub(super) type Chosen = BTreeMap<Stream, BTreeSet<usize>>;

/// The reducers of the passes over one batch. Averages go on from pass to pass; a rollout is of one pass.
pub(super) struct SignalProbe {
    maps: Select<PassMaps>,
    rollout: Option<Select<Rollout>>,
    rollouts: Vec<Tensor>,
    concepts: Vec<Select<ConceptScores>>,
    chosen: Chosen,
}

/// What a [`SignalProbe`] has kept.
pub(super) struct PassSignals {
    pub(super) maps: PassAverages,
    /// Mean over the passes, `[batch, n, n]`.
    pub(super) rollout: Option<Tensor>,
    /// Of every `concept-attention` method in their order, `[batch, concepts, image tokens]`.
    pub(super) concepts: Vec<Tensor>,
}

impl SignalProbe {
    /// For a network of so many dual and single blocks.
    ///
    /// # Errors
    /// It has fewer than are asked for.
    pub(super) fn new(config: &SegmentConfig, dual: usize, single: usize) -> Result<Self> {
        let chosen = config.layers.resolve(dual, single)?;
        let requests: BTreeSet<MapRequest> = config.methods.iter().filter_map(Method::request).collect();
        let rolls = config.methods.iter().any(|method| matches!(method, Method::Rollout(_)));
        let concepts = concept_methods(&config.methods).map(|concepts| {
            let blocks = concepts.layers.resolve(dual)?;
            let streams = [Stream::Dual, Stream::Concept].map(|stream| (stream, blocks.clone()));
            let scale = if concepts.softmax { ConceptScale::Softmax } else { ConceptScale::Products };
            Ok(Select::of_streams(streams.into(), ConceptScores::new(scale)))
        });
        Ok(Self {
            concepts: concepts.collect::<Result<_>>()?,
            rollout: rolls.then(|| Select::of_streams(chosen.clone(), Rollout::default())),
            rollouts: Vec::new(),
            maps: Select::of_streams(
                if requests.is_empty() { Chosen::new() } else { chosen.clone() },
                PassMaps::new(requests, config.heads_at_once),
            ),
            chosen,
        })
    }

    /// The last block that anything is read of: what comes after it need not be computed.
    pub(super) fn last_block(&self, config: &SegmentConfig, dual: usize) -> Result<(Stream, usize)> {
        let of_maps =
            self.chosen.iter().filter_map(|(stream, blocks)| Some((*stream, *blocks.last()?))).max();
        let mut last = of_maps
            .filter(|_| config.methods.iter().any(|method| !matches!(method, Method::ConceptAttention(_))));
        for concepts in concept_methods(&config.methods) {
            let block = concepts.layers.resolve(dual)?.last().copied().unwrap_or(0);
            last = last.max(Some((Stream::Dual, block)));
        }
        Ok(last.unwrap_or((Stream::Dual, 0)))
    }

    /// Between two passes.
    pub(super) fn end_pass(&mut self) -> Result<()> {
        if let Some(rollout) = &mut self.rollout {
            self.rollouts.push(std::mem::take(&mut rollout.inner).finish()?);
        }
        Ok(())
    }

    pub(super) fn finish(self) -> Result<PassSignals> {
        let rollout = match self.rollouts.as_slice() {
            [] => None,
            passes => Some(Tensor::f_stack(passes, 0)?.f_mean_dim(0i64, false, tch::Kind::Float)?),
        };
        let concepts = self.concepts.into_iter().map(|probe| probe.inner.finish());
        Ok(PassSignals {
            maps: self.maps.inner.finish()?,
            rollout,
            concepts: concepts.collect::<Result<_, models::Error>>()?,
        })
    }
}

impl AttentionProbe for SignalProbe {
    fn want(&mut self, site: &Site) -> Want {
        self.maps.want(site) | self.rollout.want(site) | self.concepts.want(site)
    }

    fn heads_at_once(&self) -> Option<i64> {
        self.maps.heads_at_once()
    }

    fn see(&mut self, site: &Site, heads: Range<i64>, view: &View<'_>) -> Result<(), models::Error> {
        self.maps.see(site, heads.clone(), view)?;
        self.rollout.see(site, heads.clone(), view)?;
        self.concepts.see(site, heads, view)
    }
}
