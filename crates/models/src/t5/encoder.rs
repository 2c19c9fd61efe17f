//! The encoder of T5: embeddings, blocks, a last layer norm.

use std::path::Path;

use tch::{Device, Kind, Tensor};

use super::T5Config;
use super::block::{Block, RmsNorm};
use super::position::RelativePositions;
use crate::attend::{AttentionProbe, KeyBias, NoProbe};
use crate::error::Result;
use crate::finite::Output;
use crate::site::{Site, Stream, TokenLayout};
use crate::weights::Weights;

/// Folders of a whole T5 checkpoint that do not belong to the encoder.
const OTHER_HALF: [&str; 2] = ["decoder", "lm_head"];

/// A T5 encoder on a device.
pub struct T5Encoder {
    config: T5Config,
    /// `[vocab_size, d_model]`.
    embedding: Tensor,
    positions: RelativePositions,
    blocks: Vec<Block>,
    final_layer_norm: RmsNorm,
    device: Device,
}

impl T5Encoder {
    /// Reads a `T5EncoderModel` directory, such as `text_encoder_2` of a FLUX pipeline; of a checkpoint with a decoder,
    /// reads only the encoder. In float16, `wo` stays in float32.
    ///
    /// # Errors
    /// A tensor is missing, unknown or has a wrong shape, or the configuration is not T5's.
    pub fn load(dir: &Path, kind: Kind, device: Device) -> Result<Self> {
        let config = T5Config::from_dir(dir)?;
        let weights = Weights::open(dir, kind, device)?;
        OTHER_HALF.iter().for_each(|name| weights.skip(name));
        let encoder = weights.pp("encoder");
        // The embedding is stored under one of these names or under both.
        let names = ["shared.weight", "encoder.embed_tokens.weight"];
        let stored = names.into_iter().find(|name| weights.contains(name)).unwrap_or(names[0]);
        let embedding = weights.get(&[config.vocab_size, config.d_model], stored)?;
        weights.skip(names[1]);
        let block = encoder.pp("block");
        let positions = RelativePositions::load(&block.pp(0).pp("layer.0").pp("SelfAttention"), &config)?;
        let blocks =
            (0..config.num_layers).map(|i| Block::load(&block.pp(i), &config)).collect::<Result<_>>()?;
        let final_layer_norm = RmsNorm::load(&encoder.pp("final_layer_norm"), &config)?;
        weights.finish_network("")?;
        Ok(Self { config, embedding, positions, blocks, final_layer_norm, device })
    }

    /// Number of blocks.
    pub fn depth(&self) -> usize {
        self.blocks.len()
    }

    /// Width of a token.
    pub fn width(&self) -> i64 {
        self.config.d_model
    }

    /// Encodes `ids` `[texts, n]` (int64) to `[texts, n, d_model]` after the last layer norm.
    ///
    /// `mask` `[texts, n]` is 0 for tokens that no token may attend to; each text must keep at least one token. Without
    /// a mask, all tokens are attended to. FLUX uses no mask, so its padding takes part.
    ///
    /// # Errors
    /// libtorch fails (ids beyond the vocabulary, shapes, memory), or the probe does.
    pub fn encode(
        &self,
        ids: &Tensor,
        mask: Option<&Tensor>,
        probe: &mut dyn AttentionProbe,
    ) -> Result<Tensor> {
        let output = Output { name: "token embeddings of T5", kind: self.embedding.kind() };
        let pass = |probe: &mut dyn AttentionProbe| {
            self.final_layer_norm.forward(&self.walk(ids, mask, probe, &mut |_| ())?)
        };
        output.of_pass(probe, pass, |embedded| embedded)
    }

    /// Returns the input of the first block and the output of each block, `[texts, n, d_model]`, before the last layer
    /// norm. These are transformers' `hidden_states` except for the last.
    ///
    /// # Errors
    /// As [`T5Encoder::encode`].
    pub fn hidden_states(&self, ids: &Tensor, mask: Option<&Tensor>) -> Result<Vec<Tensor>> {
        let mut states = Vec::with_capacity(self.depth() + 1);
        let _last = self.walk(ids, mask, &mut NoProbe, &mut |x| states.push(x.shallow_clone()))?;
        Ok(states)
    }

    /// Runs all blocks. Calls `seen` with the input of the first block and the output of each block.
    fn walk(
        &self,
        ids: &Tensor,
        mask: Option<&Tensor>,
        probe: &mut dyn AttentionProbe,
        seen: &mut dyn FnMut(&Tensor),
    ) -> Result<Tensor> {
        let (_, tokens) = ids.size2()?;
        let ids = ids.f_to_device(self.device)?;
        let mut x = Tensor::f_embedding(&self.embedding, &ids, -1, false, false)?;
        seen(&x);
        let bias = self.bias(tokens, mask)?;
        let layout = TokenLayout::text(tokens);
        for (block, layer) in self.blocks.iter().enumerate() {
            let site = Site { stream: Stream::T5, block, step: 0, layout: layout.clone() };
            x = layer.forward(&x, &site, &bias, probe)?;
            seen(&x);
        }
        Ok(x)
    }

    /// Returns the term that every block adds to its logits: relative positions, and `-∞` for keys that the mask hides.
    fn bias(&self, tokens: i64, mask: Option<&Tensor>) -> Result<KeyBias> {
        let positions = self.positions.bias(tokens)?;
        let Some(mask) = mask else { return Ok(KeyBias::per_head(positions)) };
        // [texts, n] → [texts, 1, 1, n]
        let hidden = mask.f_to_device(self.device)?.f_eq(0)?.f_unsqueeze(1)?.f_unsqueeze(1)?;
        Ok(KeyBias::per_head(positions.f_masked_fill(&hidden, f64::NEG_INFINITY)?))
    }
}
