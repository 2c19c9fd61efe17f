//! Self-attention of every resolution of a UNet as Markov chains, and the image tokens that look at a word.

use std::collections::BTreeMap;
use std::ops::Range;

use markov_core::torch::to_vec;
use tch::{Kind, Tensor};

use super::layers::LayerChains;
use super::mean::accumulate;
use super::{LayerChain, fewer};
use crate::attend::{AttentionProbe, View, Want};
use crate::error::Result;
use crate::site::{Site, Stream, TokenLayout};

/// Rows and columns of image tokens.
type Grid = (i64, i64);

/// Feeds the self-attention of each resolution to a [`LayerChains`] of its own, and averages over the heads of the
/// cross-attention of the same resolution how much each image token attends to a word. Layers of other resolutions are
/// ignored.
pub(crate) struct GridChains {
    grids: BTreeMap<Grid, Watched>,
    /// The word's tokens.
    word: Option<Range<usize>>,
}

/// The layers of one resolution.
struct Watched {
    layers: Vec<Stream>,
    chains: LayerChains,
    focus: Option<Tensor>,
}

/// What was seen of one resolution.
pub(crate) struct Seen {
    pub layers: Vec<LayerChain>,
    pub states: TokenLayout,
    /// Distribution over the image tokens, proportional to their mean attention to the word.
    pub focus: Option<Vec<f64>>,
}

impl GridChains {
    /// Creates a probe of these self-attention layers for one image. `word` are the indices of text tokens.
    pub(crate) fn new(
        grids: impl IntoIterator<Item = (Grid, Vec<Stream>, LayerChains)>,
        word: Option<Range<usize>>,
    ) -> Self {
        let watched = |(grid, layers, chains)| (grid, Watched { layers, chains, focus: None });
        Self { grids: grids.into_iter().map(watched).collect(), word }
    }

    /// Returns what was seen, by resolution.
    ///
    /// # Errors
    /// A resolution has no layer; libtorch fails.
    pub(crate) fn finish(self) -> Result<BTreeMap<Grid, Seen>> {
        let seen = |(grid, Watched { chains, focus, .. })| {
            let (layers, states) = chains.finish()?;
            let normalised =
                |sum: Tensor| -> Result<Vec<f64>> { Ok(to_vec(&sum.f_div(&sum.f_sum(Kind::Double)?)?)?) };
            Ok((grid, Seen { layers, states, focus: focus.map(normalised).transpose()? }))
        };
        self.grids.into_iter().map(seen).collect()
    }
}

impl Watched {
    fn has(&self, site: &Site) -> bool {
        self.layers.contains(&site.stream)
    }
}

fn crosses(site: &Site) -> bool {
    matches!(site.stream, Stream::Unet(layer) if layer.cross)
}

impl AttentionProbe for GridChains {
    fn want(&mut self, site: &Site) -> Want {
        match self.grids.get_mut(&site.layout.image) {
            Some(_) if crosses(site) && self.word.is_some() => Want::PROBS,
            Some(watched) if watched.has(site) => watched.chains.want(site),
            _ => Want::NONE,
        }
    }

    fn heads_at_once(&self) -> Option<i64> {
        self.grids.values().map(|watched| watched.chains.heads_at_once()).fold(None, fewer)
    }

    fn see(&mut self, site: &Site, heads: Range<i64>, view: &View<'_>) -> Result<()> {
        match (self.grids.get_mut(&site.layout.image), &self.word) {
            (Some(watched), Some(word)) if crosses(site) => {
                let (first, count) = (word.start as i64, word.len() as i64);
                let focus = view.probs()?.f_narrow(-1, first, count)?;
                // Over image, heads and the word's tokens.
                accumulate(
                    &mut watched.focus,
                    focus.f_sum_dim_intlist(&[0i64, 1, 3][..], false, Kind::Double)?,
                )
            }
            (Some(watched), _) if watched.has(site) => watched.chains.see(site, heads, view),
            _ => Ok(()),
        }
    }
}
