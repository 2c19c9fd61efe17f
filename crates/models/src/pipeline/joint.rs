//! Pipelines whose network attends to text and image tokens jointly and predicts a velocity, as FLUX does: what experiments ask
//! of them.

use std::collections::BTreeMap;
use std::ops::Range;

use tch::Tensor;

use super::pictures::Draw;
use super::texts::EncodedText;
use crate::attend::AttentionProbe;
use crate::error::Result;
use crate::flow_match::Schedule;
use crate::site::{Stream, TokenLayout};
use crate::t5::TokenLookup;

/// Finds the tokens of a word in a prompt.
pub trait PromptTokens {
    /// Indices among the text tokens of `prompt`, never none.
    ///
    /// # Errors
    /// The prompt has no such word, or no tokens for it.
    fn find(&self, lookup: TokenLookup, prompt: &str, word: &str) -> Result<Range<usize>>;
}

/// What one pass reads.
pub struct JointPass<'a> {
    /// Scaled latents with noise on them, `[batch, channels, h, w]`.
    pub latents: &'a Tensor,
    /// Encoded prompts, `[batch, tokens, width]`.
    pub text: &'a Tensor,
    /// The prompts as a whole, `[batch, width]`.
    pub pooled: &'a Tensor,
    /// Encoded concepts, `[batch, concepts, width]`, which attend beside the other tokens without changing them.
    pub concepts: Option<&'a Tensor>,
    /// The noise levels of the run.
    pub schedule: &'a Schedule,
    /// The step of the schedule; the sites that a probe sees have this step.
    pub step: usize,
    /// Guidance scale; by default that of the network.
    pub guidance: Option<f64>,
}

/// A network that attends to text and image tokens jointly.
pub trait JointNetwork {
    /// The pass as far as the block `last` of a stream, for the probe's sake. Returns what the tokens are.
    ///
    /// # Errors
    /// An input of another shape, guidance that the network does not take or misses; libtorch or the probe fails.
    fn watch(
        &self,
        pass: &JointPass<'_>,
        last: (Stream, usize),
        probe: &mut dyn AttentionProbe,
    ) -> Result<TokenLayout>;
}

/// A pipeline around a [`JointNetwork`]. Each of its networks is loaded when it is asked for; the encoders leave before the
/// next one is loaded, the network when it is dropped.
pub trait JointPipeline {
    /// Side of the square of pixels that one image token stands for.
    fn pixels_per_token(&self) -> i64;

    /// The streams of attention that a pass shows to a probe, each with its number of blocks.
    fn streams(&self) -> BTreeMap<Stream, usize>;

    /// Whether the network was distilled with guidance and takes its scale.
    fn takes_guidance(&self) -> bool;

    /// Noise levels of a run of `steps` steps for an image of `(height, width)` pixels.
    ///
    /// # Errors
    /// No step, or a side that is no multiple of [`JointPipeline::pixels_per_token`].
    fn schedule(&self, steps: usize, size: (i64, i64)) -> Result<Schedule>;

    /// Finds words in prompts of `length` tokens.
    ///
    /// # Errors
    /// The length is none that the tokenizer knows.
    fn prompt_tokens(&self, length: usize) -> Result<Box<dyn PromptTokens>>;

    /// Encodes prompts, `length` tokens each.
    ///
    /// # Errors
    /// A network cannot be loaded, a text not be tokenized, a length not be had; libtorch fails.
    fn encode_texts(&self, texts: &[String], length: usize) -> Result<Vec<EncodedText>>;

    /// Scaled latents `[channels, h, w]` of every image, on the CPU. `pixels` are batches `[batch, 3, height, width]` from -1
    /// to 1, asked for one after another.
    ///
    /// # Errors
    /// The first error of `pixels`; a size that the pipeline does not take; libtorch fails.
    fn encode_images(
        &self,
        pixels: &mut dyn Iterator<Item = Result<Tensor>>,
        draw: Draw,
    ) -> Result<Vec<Tensor>>;

    /// Loads the network.
    ///
    /// # Errors
    /// Its weights cannot be read.
    fn network(&self) -> Result<Box<dyn JointNetwork>>;
}
