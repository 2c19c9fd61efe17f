//! How much each image token is about each concept, from what attention gives to both (ConceptAttention,
//! arXiv 2502.04320, section 4).

use std::ops::Range;

use tch::{Kind, Tensor};

use super::mean::{accumulate, nothing_seen};
use crate::attend::{AttentionProbe, View, Want};
use crate::error::{Error, Result};
use crate::site::{Site, Stream, TokenKind, TokenLayout};

/// How the scores of one layer are scaled before layers are averaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConceptScale {
    /// The concepts of an image token share 1.
    Softmax,
    /// Products as they are.
    Products,
}

/// Products of attention outputs, before the projection and over all heads, of the concepts beside the dual blocks and of
/// the image tokens; averaged over layers and passes.
pub struct ConceptScores {
    scale: ConceptScale,
    /// Outputs of the image tokens of the layer under way, `[batch, heads, image, head dim]` for consecutive heads.
    image: Vec<Tensor>,
    /// The same of the concepts.
    concepts: Vec<Tensor>,
    sum: Option<Tensor>,
    layers: i64,
}

impl ConceptScores {
    /// Scores that are scaled so in every layer.
    pub fn new(scale: ConceptScale) -> Self {
        Self { scale, image: Vec::new(), concepts: Vec::new(), sum: None, layers: 0 }
    }

    /// Scores `[batch, concepts, image tokens]` float32.
    ///
    /// # Errors
    /// No layer was seen; libtorch fails.
    pub fn finish(mut self) -> Result<Tensor> {
        self.close()?;
        Ok(self.sum.ok_or_else(nothing_seen)?.f_div_scalar(self.layers)?)
    }

    /// Scores the layer under way, if there is one.
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

/// The image tokens of an output `[batch, heads, tokens, head dim]`.
fn image_tokens(output: &Tensor, layout: &TokenLayout) -> Result<Tensor> {
    let indices = layout.indices(|kind| kind == TokenKind::Image);
    match indices.first() {
        Some(&first) => Ok(output.f_narrow(2, first, indices.len() as i64)?),
        None => Err(Error::Probe("concepts were asked for where there is no image".into())),
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
            // A probe beside this one may have asked.
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
