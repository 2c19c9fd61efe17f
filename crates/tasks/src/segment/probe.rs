//! The probe that collects what the methods need from a pass, and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use models::attend::{AttentionProbe, View, Want};
use models::probe::{ConceptScale, ConceptScores, MapRequest, PassAverages, PassMaps, Rollout, Select};
use models::{Site, Stream};
use tch::Tensor;

use super::config::SegmentConfig;
use super::method::{Method, concept_methods};
use crate::error::Result;

/// The chosen blocks of each stream.
pub(super) type Chosen = BTreeMap<Stream, BTreeSet<usize>>;

/// The reducers for the passes over one batch. Averages continue over all passes; a rollout belongs to a single pass.
pub(super) struct SignalProbe {
    maps: Select<PassMaps>,
    rollout: Option<Select<Rollout>>,
    rollouts: Vec<Tensor>,
    concepts: Vec<Select<ConceptScores>>,
    chosen: Chosen,
}

/// The results of a [`SignalProbe`].
pub(super) struct PassSignals {
    pub(super) maps: PassAverages,
    /// Mean over the passes, `[batch, n, n]`.
    pub(super) rollout: Option<Tensor>,
    /// Scores of each `concept-attention` method, in order: `[batch, concepts, image tokens]`.
    pub(super) concepts: Vec<Tensor>,
}

impl SignalProbe {
    /// Creates the probe for a network with `dual` dual and `single` single blocks.
    ///
    /// # Errors
    /// Fails if a selection names a block that the network does not have.
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

    /// Returns the last block that a method reads. Later blocks need not be computed.
    pub(super) fn last_block(&self, config: &SegmentConfig, dual: usize) -> Result<(Stream, usize)> {
        let of_maps =
            self.chosen.iter().filter_map(|(stream, blocks)| Some((*stream, *blocks.last()?))).max();
        let reads_maps = |method: &Method| match method {
            Method::ConceptAttention(_) | Method::File(_) => false,
            Method::RowSelect(_)
            | Method::ColumnSelect(_)
            | Method::Bounce(_)
            | Method::Tokenrank(_)
            | Method::Rollout(_) => true,
        };
        let mut last = of_maps.filter(|_| config.methods.iter().any(reads_maps));
        for concepts in concept_methods(&config.methods) {
            let block = concepts.layers.resolve(dual)?.last().copied().unwrap_or(0);
            last = last.max(Some((Stream::Dual, block)));
        }
        Ok(last.unwrap_or((Stream::Dual, 0)))
    }

    /// Must be called at the end of each pass.
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
