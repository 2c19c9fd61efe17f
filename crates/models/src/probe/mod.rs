//! Reducers: small probes that can be combined.
//!
//! A reducer sees each layer's maps while they are in memory and keeps only its own result. [`Select`] restricts a
//! probe to some blocks, [`Tee`] feeds two probes from one pass.

mod chain;
mod chains;
mod concepts;
mod footprint;
mod grids;
mod keep;
mod layers;
mod mean;
mod pass;
mod rank;
mod rollout;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use crate::attend::{AttentionProbe, View, Want};
use crate::error::Result;
use crate::site::{Site, Stream};

pub use chain::{LAMBDA_TOLERANCE, LambdaWeight, lambda2, token_rank, token_rank_backward};
pub use concepts::{ConceptScale, ConceptScores};
pub use footprint::MapFootprint;
pub(crate) use grids::GridChains;
pub use keep::{KeepAll, KeptLayer};
pub use layers::{LayerChain, LayerChains};
pub use mean::{LambdaWeighted, MeanMap};
pub use pass::{HeadWeight, MapKind, MapRequest, PassAverages, PassMaps, WeightScope};
pub use rank::{HeadRanks, RankOnly, RankParts};
pub use rollout::Rollout;

/// Restricts a probe to some blocks.
pub struct Select<P> {
    blocks: Blocks,
    /// The restricted probe.
    pub inner: P,
}

impl<P> Select<P> {
    /// `inner` sees the blocks with these numbers in all streams; in a UNet, self- and cross-attention of these
    /// transformer layers.
    pub fn new(blocks: BTreeSet<usize>, inner: P) -> Self {
        Self { blocks: Blocks::OfAny(blocks), inner }
    }

    /// `inner` sees only these blocks of these streams.
    pub fn of_streams(blocks: BTreeMap<Stream, BTreeSet<usize>>, inner: P) -> Self {
        Self { blocks: Blocks::Of(blocks), inner }
    }

    /// `inner` sees every block of these streams. In a UNet each layer is a stream, so it sees these layers.
    pub fn whole_streams(streams: impl IntoIterator<Item = Stream>, inner: P) -> Self {
        Self { blocks: Blocks::AllOf(streams.into_iter().collect()), inner }
    }
}

enum Blocks {
    OfAny(BTreeSet<usize>),
    Of(BTreeMap<Stream, BTreeSet<usize>>),
    AllOf(BTreeSet<Stream>),
}

impl Blocks {
    fn contain(&self, site: &Site) -> bool {
        match self {
            Self::OfAny(blocks) => blocks.contains(&site.block),
            Self::Of(streams) => streams.get(&site.stream).is_some_and(|blocks| blocks.contains(&site.block)),
            Self::AllOf(streams) => streams.contains(&site.stream),
        }
    }
}

/// Returns the smaller of two limits.
fn fewer(a: Option<i64>, b: Option<i64>) -> Option<i64> {
    a.into_iter().chain(b).min()
}

impl<P: AttentionProbe> AttentionProbe for Select<P> {
    fn want(&mut self, site: &Site) -> Want {
        if self.blocks.contain(site) { self.inner.want(site) } else { Want::NONE }
    }

    fn heads_at_once(&self) -> Option<i64> {
        self.inner.heads_at_once()
    }

    fn see(&mut self, site: &Site, heads: Range<i64>, view: &View<'_>) -> Result<()> {
        // Another probe of the same pass may have asked for it.
        if self.blocks.contain(site) { self.inner.see(site, heads, view) } else { Ok(()) }
    }
}

/// Feeds two probes from one pass.
pub struct Tee<A, B>(pub A, pub B);

impl<A: AttentionProbe, B: AttentionProbe> AttentionProbe for Tee<A, B> {
    fn want(&mut self, site: &Site) -> Want {
        self.0.want(site) | self.1.want(site)
    }

    fn heads_at_once(&self) -> Option<i64> {
        fewer(self.0.heads_at_once(), self.1.heads_at_once())
    }

    fn see(&mut self, site: &Site, heads: Range<i64>, view: &View<'_>) -> Result<()> {
        self.0.see(site, heads.clone(), view)?;
        self.1.see(site, heads, view)
    }
}

impl<P: AttentionProbe> AttentionProbe for Option<P> {
    fn want(&mut self, site: &Site) -> Want {
        self.as_mut().map_or(Want::NONE, |probe| probe.want(site))
    }

    fn heads_at_once(&self) -> Option<i64> {
        self.as_ref().and_then(P::heads_at_once)
    }

    fn see(&mut self, site: &Site, heads: Range<i64>, view: &View<'_>) -> Result<()> {
        self.as_mut().map_or(Ok(()), |probe| probe.see(site, heads, view))
    }
}

impl<P: AttentionProbe> AttentionProbe for Vec<P> {
    fn want(&mut self, site: &Site) -> Want {
        self.iter_mut().fold(Want::NONE, |want, probe| want | probe.want(site))
    }

    fn heads_at_once(&self) -> Option<i64> {
        self.iter().filter_map(P::heads_at_once).min()
    }

    fn see(&mut self, site: &Site, heads: Range<i64>, view: &View<'_>) -> Result<()> {
        self.iter_mut().try_for_each(|probe| probe.see(site, heads.clone(), view))
    }
}
