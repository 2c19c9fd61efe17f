//! The text tower of CLIP as `CLIPModel` and `CLIPTextModel` store it, and the zero-shot classifier it makes.

use std::path::Path;

use tch::{Device, Kind, Tensor};

use super::config::ClipTextConfig;
use crate::attend::{AttentionProbe, KeyBias, NoProbe};
use crate::error::Result;
use crate::finite::Output;
use crate::nn::{Block, LayerNorm, Linear, Queries, unit};
use crate::site::{Site, Stream, TokenLayout};
use crate::weights::Weights;

/// `eos_token_id` in early, wrong configurations. With this value, the largest id of a text is its end.
const LEGACY_END: i64 = 2;

/// The text transformer without the projection.
struct Tower {
    config: ClipTextConfig,
    token_embedding: Tensor,
    position_embedding: Tensor,
    blocks: Vec<Block>,
    final_layer_norm: LayerNorm,
    device: Device,
}

impl Tower {
    fn load(tower: &Weights, config: ClipTextConfig) -> Result<Self> {
        let width = config.hidden_size;
        let embeddings = tower.pp("embeddings");
        let blocks = (0..config.num_hidden_layers)
            .map(|i| super::block(&tower.pp("encoder").pp("layers").pp(i), &config.block()))
            .collect::<Result<_>>()?;
        // Older files store the numbers from 0 on as a tensor.
        embeddings.skip("position_ids");
        Ok(Self {
            token_embedding: embeddings.get(&[config.vocab_size, width], "token_embedding.weight")?,
            position_embedding: embeddings
                .get(&[config.max_position_embeddings, width], "position_embedding.weight")?,
            blocks,
            final_layer_norm: LayerNorm::load(&tower.pp("final_layer_norm"), width, config.layer_norm_eps)?,
            config,
            device: tower.device(),
        })
    }

    /// `ids` `[texts, length]` → `[texts, length, width]` after the last layer norm.
    fn hidden(&self, ids: &Tensor, probe: &mut dyn AttentionProbe) -> Result<Tensor> {
        let pass = |probe: &mut dyn AttentionProbe| self.run_blocks(ids, probe);
        self.output("token embeddings of CLIP's text tower").of_pass(probe, pass, |hidden| hidden)
    }

    fn output(&self, name: &'static str) -> Output {
        Output { name, kind: self.token_embedding.kind() }
    }

    fn run_blocks(&self, ids: &Tensor, probe: &mut dyn AttentionProbe) -> Result<Tensor> {
        let (_, length) = ids.size2()?;
        let ids = ids.f_to_device(self.device)?;
        let positions = self.position_embedding.f_narrow(0, 0, length)?;
        let mut x = Tensor::f_embedding(&self.token_embedding, &ids, -1, false, false)?.f_add(&positions)?;
        let causal = KeyBias::causal(length, self.device)?;
        let layout = TokenLayout::text(length);
        for (block, layer) in self.blocks.iter().enumerate() {
            let site = Site { stream: Stream::Text, block, step: 0, layout: layout.clone() };
            x = layer.forward(&x, Queries::All, None, &site, &causal, probe)?;
        }
        self.final_layer_norm.forward(&x)
    }

    /// Returns the hidden state at the first end of text, `[texts, width]`.
    fn pooled(&self, ids: &Tensor, probe: &mut dyn AttentionProbe) -> Result<Tensor> {
        let x = self.hidden(ids, probe)?;
        let ids = ids.f_to_device(self.device)?;
        // [texts, 1]
        let ends = match self.config.eos_token_id {
            LEGACY_END => ids.f_argmax(-1, true)?,
            end => ids.f_eq(end)?.f_to_kind(Kind::Int)?.f_argmax(-1, true)?,
        };
        let index = ends.f_unsqueeze(-1)?.f_expand([-1, 1, self.config.hidden_size], false)?;
        Ok(x.f_gather(1, &index, false)?.f_squeeze_dim(1)?)
    }
}

/// The text tower of a CLIP with both towers, on a device.
pub struct ClipText {
    tower: Tower,
    text_projection: Linear,
}

impl ClipText {
    /// Reads the text tower of a `CLIPModel` directory.
    ///
    /// # Errors
    /// A tensor is missing or has a wrong shape, or the directory has no text tower.
    pub fn load(dir: &Path, kind: Kind, device: Device) -> Result<Self> {
        let (config, projection) = ClipTextConfig::from_dir(dir)?;
        let weights = Weights::open(dir, kind, device)?;
        let width = config.hidden_size;
        Ok(Self {
            tower: Tower::load(&weights.pp("text_model"), config)?,
            text_projection: Linear::load(&weights.pp("text_projection"), width, projection, false)?,
        })
    }

    /// Checks that a directory has a text tower, without reading its weights.
    ///
    /// # Errors
    /// There is no text tower, or the configuration contradicts itself.
    pub fn check(dir: &Path) -> Result<()> {
        ClipTextConfig::from_dir(dir).map(|_| ())
    }

    /// Maximum number of tokens of a text.
    pub fn context_length(&self) -> i64 {
        self.tower.config.max_position_embeddings
    }

    /// Number of blocks.
    pub fn depth(&self) -> usize {
        self.tower.blocks.len()
    }

    /// Returns projected embeddings `[texts, d]`, not normalised. `ids` is `[texts, length]`, each text with an end of
    /// text.
    ///
    /// # Errors
    /// libtorch fails (ids beyond the vocabulary, texts too long), or the probe does.
    pub fn embed(&self, ids: &Tensor, probe: &mut dyn AttentionProbe) -> Result<Tensor> {
        let projected = self.text_projection.forward(&self.tower.pooled(ids, probe)?)?;
        self.tower.output("text embeddings of CLIP").check(projected)
    }

    /// Builds a zero-shot classifier `[classes, d]` with unit rows: for each class the mean of its normalised prompts
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

/// A separate text tower without projection, as in diffusion pipelines.
pub struct ClipTextEncoder(Tower);

impl ClipTextEncoder {
    /// Reads a `CLIPTextModel` directory, such as `text_encoder` of a FLUX pipeline, and checks that every tensor of
    /// the tower is used.
    ///
    /// # Errors
    /// A tensor is missing, superfluous or has a wrong shape, or the configuration belongs to another network.
    pub fn load(dir: &Path, kind: Kind, device: Device) -> Result<Self> {
        let config = ClipTextConfig::alone(dir)?;
        let weights = Weights::open(dir, kind, device)?;
        // transformers versions save the tower with or without this folder.
        let folder = weights.pp("text_model");
        let inside = folder.contains("final_layer_norm.weight");
        let tower = Tower::load(if inside { &folder } else { &weights }, config)?;
        // Parts of a whole CLIP that do not belong to the text tower.
        for other in ["text_projection", "vision_model", "visual_projection", "logit_scale"] {
            weights.skip(other);
        }
        weights.finish_network(if inside { "text_model" } else { "" })?;
        Ok(Self(tower))
    }

    /// Returns the maximum number of tokens of a text and the width of a token, without reading weights.
    ///
    /// # Errors
    /// The configuration belongs to another network or contradicts itself.
    pub fn shape(dir: &Path) -> Result<(i64, i64)> {
        let config = ClipTextConfig::alone(dir)?;
        Ok((config.max_position_embeddings, config.hidden_size))
    }

    /// Encodes `ids` `[texts, length]` to `[texts, length, width]` after the last layer norm.
    ///
    /// # Errors
    /// libtorch fails (ids beyond the vocabulary, texts too long), or the probe does.
    pub fn hidden(&self, ids: &Tensor, probe: &mut dyn AttentionProbe) -> Result<Tensor> {
        self.0.hidden(ids, probe)
    }

    /// Returns pooled texts `[texts, width]`: the hidden states at the first end of text, transformers'
    /// `pooler_output`. If `eos_token_id` of the configuration is 2, as in FLUX's and other early files, the end of
    /// text is the largest id.
    ///
    /// # Errors
    /// As [`ClipTextEncoder::hidden`].
    pub fn pooled(&self, ids: &Tensor, probe: &mut dyn AttentionProbe) -> Result<Tensor> {
        self.0.pooled(ids, probe)
    }
}
