//! Encodes prompts.

use super::{Component, FluxPipeline};
use crate::attend::NoProbe;
use crate::clip::ClipTextEncoder;
use crate::error::Result;
use crate::pipeline::{EncodedText, one_by_one};
use crate::t5::T5Encoder;

impl FluxPipeline {
    /// Encodes prompts, `length` T5 tokens each (FLUX schnell 256, dev 512): all with CLIP, which is then unloaded,
    /// then all with T5. Prompts that are too long are cut; CLIP cuts after 75 tokens. T5's padding takes part in
    /// attention, as in diffusers. Without texts, no network is loaded.
    ///
    /// # Errors
    /// A network cannot be loaded, a text cannot be tokenized, or `length` is not supported; libtorch fails.
    pub fn encode_texts(&self, texts: &[String], length: usize) -> Result<Vec<EncodedText>> {
        if texts.is_empty() {
            return Ok(Vec::new());
        }
        let tokenizer = self.t5_tokenizer(length)?;
        let t5_ids = texts.iter().map(|text| tokenizer.encode(text)).collect::<Result<Vec<_>>>()?;
        let clip_ids =
            texts.iter().map(|text| self.clip_tokenizer.encode(text)).collect::<Result<Vec<_>>>()?;

        let pooled = self.parts.with(Component::ClipText, ClipTextEncoder::load, |clip| {
            one_by_one(texts, &clip_ids, |ids| clip.pooled(ids, &mut NoProbe))
        })?;
        let embedded = self.parts.with(Component::T5, T5Encoder::load, |t5| {
            one_by_one(texts, &t5_ids, |ids| t5.encode(ids, None, &mut NoProbe))
        })?;
        let encoded = embedded.into_iter().zip(pooled).zip(t5_ids);
        Ok(encoded.map(|((text, pooled), ids)| EncodedText { text, pooled, ids }).collect())
    }
}
