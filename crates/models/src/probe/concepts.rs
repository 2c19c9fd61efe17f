//! Scores of each image token for each concept, from the attention outputs of both (ConceptAttention, arXiv 2502.04320,
//! section 4).

use std::ops::Range;

use tch::{Kind, Tensor};

use super::mean::{accumulate, nothing_seen};
use crate::attend::{AttentionProbe, View, Want};
use crate::error::{Error, Result};
use crate::site::{Site, Stream, TokenKind, TokenLayout};

/// Scaling of the scores of one layer before layers are averaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConceptScale {
    /// Softmax over concepts: the scores of an image token sum to 1.
    Softmax,
    /// Unscaled products.
    Products,
}

/// Products of the attention outputs of concepts and image tokens in dual blocks, before the projection and summed over
/// all heads; averaged over layers and passes.
pub struct ConceptScores {
    scale: ConceptScale,
    /// Outputs of the image tokens in the current layer, `[batch, heads, image, head dim]` for consecutive heads.
    image: Vec<Tensor>,
    /// Outputs of the concepts in the current layer.
    concepts: Vec<Tensor>,
    sum: Option<Tensor>,
    layers: i64,
}

impl ConceptScores {
    /// Creates a probe whose scores are scaled this way in every layer.
    pub fn new(scale: ConceptScale) -> Self {
        Self { scale, image: Vec::new(), concepts: Vec::new(), sum: None, layers: 0 }
    }

    /// Returns scores `[batch, concepts, image tokens]`, float32.
    ///
    /// # Errors
    /// No layer was seen; libtorch fails.
    pub fn finish(mut self) -> Result<Tensor> {
        self.close()?;
        Ok(self.sum.ok_or_else(nothing_seen)?.f_div_scalar(self.layers)?)
    }

    /// Computes the scores of the current layer, if there is one.
    fn close(&mut self) -> Result<()> {
        if self.concepts.is_empty() {
            self.image.clear();
            return Ok(());
        }
        // [b, heads, n, d] → [b, n, heads · d]
        let side_by_side = |parts: Vec<Tensor>| -> Result<Tensor> {
            Ok(Tensor::f_cat(&parts, 1)?.f_transpose(1, 2)?.f_flatten(2, 3)?.f_to_kind(Kind::Float)?)
        };
        let image = side_by_side(std::mem::take(&mut self.image))?;
        let concepts = side_by_side(std::mem::take(&mut self.concepts))?;
        let scores = concepts.f_bmm(&image.f_transpose(1, 2)?)?;
        let scores = match self.scale {
            ConceptScale::Softmax => scores.f_softmax(1, Kind::Float)?,
            ConceptScale::Products => scores,
        };
        accumulate(&mut self.sum, scores)?;
        self.layers += 1;
        Ok(())
    }
}

/// Returns the image tokens of an output `[batch, heads, tokens, head dim]`.
fn image_tokens(output: &Tensor, layout: &TokenLayout) -> Result<Tensor> {
    let indices = layout.indices(|kind| kind == TokenKind::Image);
    match indices.first() {
        Some(&first) => Ok(output.f_narrow(2, first, indices.len() as i64)?),
        None => Err(Error::Probe("concepts need image tokens, but the sequence has none".into())),
    }
}

impl AttentionProbe for ConceptScores {
    fn want(&mut self, site: &Site) -> Want {
        match site.stream {
            Stream::Dual | Stream::Concept => Want::OUTPUT,
            Stream::Vision
            | Stream::Text
            | Stream::T5
            | Stream::Single
            | Stream::Autoencoder
            | Stream::Unet(_) => Want::NONE,
        }
    }

    fn see(&mut self, site: &Site, heads: Range<i64>, view: &View<'_>) -> Result<()> {
        match site.stream {
            Stream::Dual => {
                if heads.start == 0 {
                    self.close()?;
                }
                self.image.push(image_tokens(view.output()?, &site.layout)?);
            }
            Stream::Concept => self.concepts.push(view.output()?.shallow_clone()),
            // Another probe of the same pass may have asked for it.
            Stream::Vision
            | Stream::Text
            | Stream::T5
            | Stream::Single
            | Stream::Autoencoder
            | Stream::Unet(_) => {}
        }
        Ok(())
    }
}
