//! Implements the experiments' traits for FLUX.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use super::{FluxPipeline, LATENTS_PER_TOKEN};
use crate::attend::AttentionProbe;
use crate::error::Result;
use crate::flow_match::Schedule;
use crate::flux::{FluxInput, FluxTransformer, pack_latents};
use crate::pipeline::{EncodedText, ImageEncoder, JointNetwork, JointPass, JointPipeline, PromptTokens};
use crate::site::{Stream, TokenLayout};
use crate::t5::TokenLookup;
use crate::{clip, t5};

/// The tokenizers of a prompt: T5's, whose tokens take part in the joint attention, and CLIP's.
struct Tokenizers {
    t5: t5::Tokenizer,
    clip: Arc<clip::Tokenizer>,
}

impl PromptTokens for Tokenizers {
    fn find(&self, lookup: TokenLookup, prompt: &str, word: &str) -> Result<Range<usize>> {
        lookup.tokens(&self.t5, &self.clip, prompt, word)
    }
}

impl JointNetwork for FluxTransformer {
    fn watch(
        &self,
        pass: &JointPass<'_>,
        last: (Stream, usize),
        probe: &mut dyn AttentionProbe,
    ) -> Result<TokenLayout> {
        let tokens = pack_latents(pass.latents)?;
        let (.., height, width) = pass.latents.size4()?;
        let input = FluxInput {
            latents: &tokens,
            grid: (height / LATENTS_PER_TOKEN, width / LATENTS_PER_TOKEN),
            reference: None,
            text: pass.text,
            pooled: pass.pooled,
            concepts: pass.concepts,
            timestep: pass.schedule.noise_level(pass.step, self.kind())?,
            guidance: pass.guidance.or(self.config().usual_guidance()),
            step: pass.step,
        };
        Ok(self.forward_to(&input, Some(last), probe)?.layout().clone())
    }
}

impl JointPipeline for FluxPipeline {
    fn pixels_per_token(&self) -> i64 {
        self.pixels_per_token()
    }

    fn streams(&self) -> BTreeMap<Stream, usize> {
        let config = self.transformer_config();
        [(Stream::Dual, config.num_layers), (Stream::Single, config.num_single_layers)].into()
    }

    fn takes_guidance(&self) -> bool {
        self.transformer_config().guidance_embeds
    }

    fn schedule(&self, steps: usize, size: (i64, i64)) -> Result<Schedule> {
        self.schedule(steps, size)
    }

    fn prompt_tokens(&self, length: usize) -> Result<Box<dyn PromptTokens>> {
        Ok(Box::new(Tokenizers { t5: self.t5_tokenizer(length)?, clip: Arc::clone(&self.clip_tokenizer) }))
    }

    fn encode_texts(&self, texts: &[String], length: usize) -> Result<Vec<EncodedText>> {
        self.encode_texts(texts, length)
    }

    fn image_encoder(&self) -> Result<ImageEncoder> {
        self.image_encoder()
    }

    fn network(&self) -> Result<Box<dyn JointNetwork>> {
        Ok(Box::new(self.transformer()?))
    }
}
