//! Pipelines whose network attends to text and image tokens jointly and predicts a velocity, as FLUX does: the
//! interface that experiments use.

use std::collections::BTreeMap;
use std::ops::Range;

use tch::Tensor;

use super::pictures::ImageEncoder;
use super::texts::EncodedText;
use crate::attend::AttentionProbe;
use crate::error::Result;
use crate::flow_match::Schedule;
use crate::site::{Stream, TokenLayout};
use crate::t5::TokenLookup;

/// Finds the tokens of a word in a prompt.
pub trait PromptTokens {
    /// Returns indices among the text tokens of `prompt`; the range is never empty.
    ///
    /// # Errors
    /// The prompt has no such word, or no tokens for it.
    fn find(&self, lookup: TokenLookup, prompt: &str, word: &str) -> Result<Range<usize>>;
}

/// The input of one pass.
pub struct JointPass<'a> {
    /// Scaled latents with noise on them, `[batch, channels, h, w]`.
    pub latents: &'a Tensor,
    /// Encoded prompts, `[batch, tokens, width]`.
    pub text: &'a Tensor,
    /// The prompts as a whole, `[batch, width]`.
    pub pooled: &'a Tensor,
    /// Encoded concepts, `[batch, concepts, width]`, which attend together with the other tokens without changing them.
    pub concepts: Option<&'a Tensor>,
    /// The noise levels of the run.
    pub schedule: &'a Schedule,
    /// The step of the schedule. A probe sees it as the step of each site.
    pub step: usize,
    /// Guidance scale. By default it is the network's.
    pub guidance: Option<f64>,
}

/// A network that attends to text and image tokens jointly.
pub trait JointNetwork {
    /// Runs the pass up to and including the block `last` of a stream and shows its attention to the probe. Returns the
    /// layout of the tokens.
    ///
    /// # Errors
    /// An input of another shape, guidance for a network that takes none, or missing guidance; libtorch or the probe
    /// fails.
    fn watch(
        &self,
        pass: &JointPass<'_>,
        last: (Stream, usize),
        probe: &mut dyn AttentionProbe,
    ) -> Result<TokenLayout>;
}

/// A pipeline around a [`JointNetwork`]. Each of its networks is loaded on request. The encoders are unloaded before
/// the next one is loaded, the network when the caller drops it.
pub trait JointPipeline {
    /// Side of the square of pixels that one image token stands for.
    fn pixels_per_token(&self) -> i64;

    /// The streams of attention that a pass shows to a probe, each with its number of blocks.
    fn streams(&self) -> BTreeMap<Stream, usize>;

    /// Whether the network was distilled with guidance and takes its scale.
    fn takes_guidance(&self) -> bool;

    /// Returns the noise levels of a run of `steps` steps for an image of `(height, width)` pixels.
    ///
    /// # Errors
    /// `steps` is 0, or a side is not a multiple of [`JointPipeline::pixels_per_token`].
    fn schedule(&self, steps: usize, size: (i64, i64)) -> Result<Schedule>;

    /// Returns the tokenizers for finding words in prompts of `length` tokens.
    ///
    /// # Errors
    /// The tokenizer does not support this length.
    fn prompt_tokens(&self, length: usize) -> Result<Box<dyn PromptTokens>>;

    /// Encodes prompts, `length` tokens each.
    ///
    /// # Errors
    /// A network cannot be loaded, a text cannot be tokenized, or `length` is not supported; libtorch fails.
    fn encode_texts(&self, texts: &[String], length: usize) -> Result<Vec<EncodedText>>;

    /// Loads the encoder half of the autoencoder.
    ///
    /// # Errors
    /// Its weights cannot be read.
    fn image_encoder(&self) -> Result<ImageEncoder>;

    /// Loads the network.
    ///
    /// # Errors
    /// Its weights cannot be read.
    fn network(&self) -> Result<Box<dyn JointNetwork>>;
}
