//! Reducers: small probes that compose.
//!
//! A reducer sees each layer's maps while they are alive and keeps only what it was made for. [`Select`] narrows one
//! to some blocks, [`Tee`] feeds two from one pass.

mod chain;
mod keep;
mod layers;
mod mean;
mod rank;

use std::collections::BTreeSet;
use std::ops::Range;

use crate::attend::{AttentionProbe, View, Want};
use crate::error::Result;
use crate::site::Site;

pub use chain::{LAMBDA_TOLERANCE, LambdaWeight, lambda2, token_rank};
pub use keep::{KeepAll, KeptLayer};
pub use layers::{LayerChain, LayerChains};
pub use mean::{LambdaWeighted, MeanMap};
pub use rank::{HeadRanks, RankOnly};

/// Lets a probe see some blocks only.
pub struct Select<P> {
    blocks: BTreeSet<usize>,
    /// The probe that is narrowed.
    pub inner: P,
}

impl<P> Select<P> {
    /// `inner` sees the blocks whose numbers are in `blocks`.
    pub fn new(blocks: BTreeSet<usize>, inner: P) -> Self {
        Self { blocks, inner }
    }
}

impl<P: AttentionProbe> AttentionProbe for Select<P> {
    fn want(&mut self, site: &Site) -> Want {
        if self.blocks.contains(&site.block) { self.inner.want(site) } else { Want::NONE }
    }

    fn see(&mut self, site: &Site, heads: Range<i64>, view: &View<'_>) -> Result<()> {
        self.inner.see(site, heads, view)
    }
}

/// Feeds two probes from one pass.
pub struct Tee<A, B>(pub A, pub B);

impl<A: AttentionProbe, B: AttentionProbe> AttentionProbe for Tee<A, B> {
    fn want(&mut self, site: &Site) -> Want {
        self.0.want(site) | self.1.want(site)
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

    fn see(&mut self, site: &Site, heads: Range<i64>, view: &View<'_>) -> Result<()> {
        self.as_mut().map_or(Ok(()), |probe| probe.see(site, heads, view))
    }
}

impl<P: AttentionProbe> AttentionProbe for Vec<P> {
    fn want(&mut self, site: &Site) -> Want {
        self.iter_mut().fold(Want::NONE, |want, probe| want | probe.want(site))
    }

    fn see(&mut self, site: &Site, heads: Range<i64>, view: &View<'_>) -> Result<()> {
        self.iter_mut().try_for_each(|probe| probe.see(site, heads.clone(), view))
    }
}
