//! The text tower of CLIP as `CLIPModel` stores it, and the zero-shot classifier it makes.

use std::path::Path;

use tch::{Device, Kind, Tensor};

use super::config::ClipTextConfig;
use crate::attend::{AttentionProbe, KeyBias, NoProbe};
use crate::error::Result;
use crate::nn::{Block, LayerNorm, Linear};
use crate::site::{Site, Stream, TokenLayout};
use crate::weights::Weights;

/// `end of text` in configurations that were published before it was right; the largest id of a text is meant.
const LEGACY_END: i64 = 2;

/// A text transformer on a device.
pub struct ClipText {
    config: ClipTextConfig,
    token_embedding: Tensor,
    position_embedding: Tensor,
    blocks: Vec<Block>,
    final_layer_norm: LayerNorm,
    text_projection: Linear,
    device: Device,
}

impl ClipText {
    /// Reads the text tower of a `CLIPModel` directory.
    ///
    /// # Errors
    /// A missing or misshapen tensor, or a directory without text tower.
    pub fn load(dir: &Path, kind: Kind, device: Device) -> Result<Self> {
        let (config, projection) = ClipTextConfig::from_dir(dir)?;
        let weights = Weights::open(dir, kind, device)?;
        let tower = weights.pp("text_model");
        let width = config.hidden_size;
        let embeddings = tower.pp("embeddings");
        let blocks = (0..config.num_hidden_layers)
            .map(|i| super::block(&tower.pp("encoder").pp("layers").pp(i), &config.block()))
            .collect::<Result<_>>()?;
        Ok(Self {
            token_embedding: embeddings.get(&[config.vocab_size, width], "token_embedding.weight")?,
            position_embedding: embeddings
                .get(&[config.max_position_embeddings, width], "position_embedding.weight")?,
            blocks,
            final_layer_norm: LayerNorm::load(&tower.pp("final_layer_norm"), width, config.layer_norm_eps)?,
            text_projection: Linear::load(&weights.pp("text_projection"), width, projection, false)?,
            config,
            device,
        })
    }

    /// Checks that a directory has a text tower, without reading it.
    ///
    /// # Errors
    /// It has none, or a configuration that contradicts itself.
    pub fn check(dir: &Path) -> Result<()> {
        ClipTextConfig::from_dir(dir).map(|_| ())
    }

    /// Tokens that a text may have.
    pub fn context_length(&self) -> i64 {
        self.config.max_position_embeddings
    }

    /// Number of blocks.
    pub fn depth(&self) -> usize {
        self.blocks.len()
    }

    /// Projected texts `[texts, d]`, not normalised: `ids` `[texts, length]`, each with an end of text.
    ///
    /// # Errors
    /// libtorch's (ids beyond the vocabulary, texts too long) and the probe's.
    pub fn embed(&self, ids: &Tensor, probe: &mut dyn AttentionProbe) -> Result<Tensor> {
        let (_, length) = ids.size2()?;
        let ids = ids.f_to_device(self.device)?;
        let positions = self.position_embedding.f_narrow(0, 0, length)?;
        let mut x = Tensor::f_embedding(&self.token_embedding, &ids, -1, false, false)?.f_add(&positions)?;
        let causal = KeyBias::causal(length, self.device)?;
        let layout = TokenLayout::text(length);
        for (block, layer) in self.blocks.iter().enumerate() {
            let site = Site { stream: Stream::Text, block, step: 0, layout: layout.clone() };
            x = layer.forward(&x, &site, &causal, probe)?;
        }
        let x = self.final_layer_norm.forward(&x)?;
        // [texts, 1, width]: what stands at the first end of text.
        let ends = match self.config.eos_token_id {
            LEGACY_END => ids.f_argmax(-1, true)?,
            end => ids.f_eq(end)?.f_to_kind(Kind::Int)?.f_argmax(-1, true)?,
        };
        let index = ends.f_unsqueeze(-1)?.f_expand([-1, 1, self.config.hidden_size], false)?;
        self.text_projection.forward(&x.f_gather(1, &index, false)?.f_squeeze_dim(1)?)
    }

    /// A zero-shot classifier `[classes, d]` of unit rows: for each class the mean of its normalised prompts
    /// `prompts[class]` `[templates, length]`, normalised (arXiv 2103.00020, section 3.1.4).
    ///
    /// # Errors
    /// As [`ClipText::embed`].
    pub fn classifier(&self, prompts: &[Tensor]) -> Result<Tensor> {
        let class = |ids: &Tensor| -> Result<Tensor> {
            let texts = unit(&self.embed(ids, &mut NoProbe)?)?;
            unit(&texts.f_mean_dim(0i64, true, texts.kind())?)
        };
        let rows = prompts.iter().map(class).collect::<Result<Vec<_>>>()?;
        Ok(Tensor::f_cat(&rows, 0)?)
    }
}

/// Rows divided by their Euclidean length.
pub(crate) fn unit(x: &Tensor) -> Result<Tensor> {
    Ok(x.f_div(&x.f_norm_scalaropt_dim(2.0, [-1i64], true)?)?)
}
