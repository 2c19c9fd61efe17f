//! One pass of a Stable Diffusion pipeline as Markov chains, one set of chains per resolution.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::sd::SdInput;
use super::{Chains, SdCaptureOptions};
use crate::attend::ChainTokens;
use crate::error::{Error, Result};
use crate::image::Rgb8;
use crate::probe::{GridChains, LayerChains};
use crate::sd::UnetLayers;
use crate::sd::pipeline::SdPipeline;
use crate::site::{Stream, UnetLayer};

/// Values by the (rows, columns) of image tokens.
type ByGrid<T> = BTreeMap<(i64, i64), T>;

/// The self-attention layers of a UNet that are shown, by resolution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SdGrids {
    /// The layers that are shown, by the (rows, columns) of their image tokens.
    pub chosen: ByGrid<BTreeSet<UnetLayer>>,
    /// The layers of resolutions that were left out because of their number of image tokens.
    pub left_out: ByGrid<BTreeSet<UnetLayer>>,
}

/// The chains of one resolution.
pub struct SdChains {
    /// The layers as chains over the image tokens.
    pub chains: Chains,
    /// The mean attention that each image token pays to the word, over all heads of the cross-attention of this
    /// resolution and over the word's tokens, normalised to sum 1. `None` without a word.
    pub focus: Option<Vec<f64>>,
}

impl SdGrids {
    /// Sorts the self-attention layers among `layers` by resolution. By default, these are the layers of all resolutions
    /// with at most `most` image tokens, or of the coarsest one if all have more.
    ///
    /// # Errors
    /// As [`SdCaptureOptions::size`] and [`UnetLayers::resolve`]; no layer is one of self-attention.
    pub fn new(
        pipeline: &SdPipeline,
        options: &SdCaptureOptions,
        layers: Option<&UnetLayers>,
        most: usize,
    ) -> Result<Self> {
        let config = pipeline.unet_config();
        let [_, rows, columns] = pipeline.latent_shape(options.size(pipeline)?)?;
        let all = UnetLayers::default();
        let chosen = layers.unwrap_or(&all);
        let mut grids = Self { chosen: BTreeMap::new(), left_out: BTreeMap::new() };
        for layer in chosen.resolve(config)?.into_iter().filter(|layer| !layer.cross) {
            grids.chosen.entry(config.grid(layer, (rows, columns))).or_default().insert(layer);
        }
        let Some(coarsest) = grids.chosen.keys().next().copied() else {
            return Err(Error::Layers {
                spec: chosen.to_string(),
                reason: "these are layers of cross-attention, whose maps are not Markov chains; choose self-attention, such \
                         as `attn1` or `mid_block`"
                    .into(),
            });
        };
        if layers.is_none() {
            let small = |grid: &(i64, i64)| *grid == coarsest || (grid.0 * grid.1) as usize <= most;
            (grids.chosen, grids.left_out) = grids.chosen.into_iter().partition(|(grid, _)| small(grid));
        }
        Ok(grids)
    }
}

impl SdChains {
    /// Passes an image and a text through the UNet and reduces the chosen layers of every resolution as
    /// [`Chains::vision`] does, with a `budget` for each resolution. `word` are indices of text tokens. Returns the
    /// chains by the (rows, columns) of their image tokens, and the image as the network saw it. Text tower, autoencoder
    /// and UNet are loaded one after another.
    ///
    /// # Errors
    /// As [`SdCaptureOptions::size`]; a component cannot be loaded; an attention map is not a valid chain; libtorch fails.
    pub fn capture(
        pipeline: &SdPipeline,
        image: &Rgb8,
        options: &SdCaptureOptions,
        grids: &SdGrids,
        word: Option<Range<usize>>,
        tolerance: f64,
        budget: usize,
    ) -> Result<(ByGrid<Self>, Rgb8)> {
        let SdInput { seen, text, latents, .. } = SdInput::prepare(pipeline, image, options)?;
        let unet = pipeline.unet()?;
        let watched = grids.chosen.iter().map(|(&(rows, columns), layers)| {
            let means = layers.len() * ((rows * columns) as usize).pow(2);
            let chains = LayerChains::new(ChainTokens::All, tolerance, budget.saturating_sub(means));
            ((rows, columns), layers.iter().copied().map(Stream::Unet).collect(), chains)
        });
        let mut probe = GridChains::new(watched, word);
        unet.watch(&latents, f64::from(options.timestep), &text, 0, &mut probe)?;
        drop(unet);
        let chains = probe.finish()?.into_iter().map(|(grid, seen)| {
            let chains = Chains { layers: seen.layers, sequence: seen.states.clone(), states: seen.states };
            (grid, Self { chains, focus: seen.focus })
        });
        Ok((chains.collect(), seen))
    }
}
