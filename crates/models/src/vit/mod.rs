//! ViT: "An Image is Worth 16x16 Words" (arXiv 2010.11929) as `ViTForImageClassification` computes it.
//!
//! Field names are the checkpoint's. A bare backbone (`ViTModel`) is read too; it has no logits.
//!
//! ```no_run
//! use models::attend::{KeyBias, NoProbe};
//! use models::vit::Vit;
//! # fn main() -> models::Result<()> {
//! let dir = std::path::Path::new("datasets/mini/models/vit");
//! let vit = Vit::load(dir, tch::Kind::Float, tch::Device::Cpu)?;
//! # let pixels = tch::Tensor::zeros([1, 3, 64, 64], (tch::Kind::Float, tch::Device::Cpu));
//! let (tokens, layout) = vit.embed(&pixels)?;
//! let encoded = vit.encode(&tokens, &layout, &KeyBias::none(), &mut NoProbe)?;
//! let logits = vit.logits(&encoded)?;
//! # Ok(()) }
//! ```

mod config;

use std::path::Path;

use tch::{Device, Kind, Tensor};

use crate::attend::{AttentionProbe, KeyBias, attend};
use crate::error::Result;
use crate::site::{Site, Stream, TokenLayout};
use crate::weights::Weights;
pub use config::{Activation, VitConfig};

/// A vision transformer on a device.
pub struct Vit {
    /// What `config.json` says.
    pub config: VitConfig,
    embeddings: Embeddings,
    layers: Vec<Layer>,
    layernorm: LayerNorm,
    classifier: Option<Linear>,
    kind: Kind,
    device: Device,
}

struct Embeddings {
    cls_token: Tensor,
    position_embeddings: Tensor,
    projection: Linear,
}

struct Layer {
    layernorm_before: LayerNorm,
    query: Linear,
    key: Linear,
    value: Linear,
    attention_output: Linear,
    layernorm_after: LayerNorm,
    intermediate: Linear,
    output: Linear,
}

struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
}

struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    eps: f64,
}

impl Linear {
    fn load(weights: &Weights, input: i64, output: i64, bias: bool) -> Result<Self> {
        let weight = weights.get(&[output, input], "weight")?;
        let bias = bias.then(|| weights.get(&[output], "bias")).transpose()?;
        Ok(Self { weight, bias })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.f_linear(&self.weight, self.bias.as_ref())?)
    }
}

impl LayerNorm {
    fn load(weights: &Weights, width: i64, eps: f64) -> Result<Self> {
        Ok(Self { weight: weights.get(&[width], "weight")?, bias: weights.get(&[width], "bias")?, eps })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let shape = self.weight.size();
        Ok(x.f_layer_norm(&shape, Some(&self.weight), Some(&self.bias), self.eps, false)?)
    }
}

impl Vit {
    /// Reads a Hugging Face directory (`config.json` + safetensors) and checks that every tensor is used.
    ///
    /// # Errors
    /// A missing, misshapen or superfluous tensor, or a configuration of another network.
    pub fn load(dir: &Path, kind: Kind, device: Device) -> Result<Self> {
        let config = VitConfig::from_dir(dir)?;
        let weights = Weights::open(dir, kind, device)?;
        // `ViTForImageClassification` stores its backbone below `vit`, `ViTModel` at the root.
        let backbone = if config.is_classifier() { weights.pp("vit") } else { weights.clone() };
        let hidden = config.hidden_size;
        let embeddings = Embeddings::load(&backbone.pp("embeddings"), &config)?;
        let layers = (0..config.num_hidden_layers)
            .map(|i| Layer::load(&backbone.pp("encoder").pp("layer").pp(i), &config))
            .collect::<Result<_>>()?;
        let layernorm = LayerNorm::load(&backbone.pp("layernorm"), hidden, config.layer_norm_eps)?;
        let classifier = config
            .is_classifier()
            .then(|| Linear::load(&weights.pp("classifier"), hidden, config.classes(), true))
            .transpose()?;
        // The pooler of a bare backbone serves no task here.
        backbone.skip("pooler");
        weights.finish()?;
        Ok(Self { config, embeddings, layers, layernorm, classifier, kind, device })
    }

    /// Turns images into tokens: `pixels` `[batch, 3, h, w]` → `[batch, 1 + rows·columns, width]` and their layout.
    ///
    /// At another size than the trained one the position embeddings are interpolated (bicubic), as transformers'
    /// `interpolate_pos_encoding` does.
    ///
    /// # Errors
    /// libtorch's.
    pub fn embed(&self, pixels: &Tensor) -> Result<(Tensor, TokenLayout)> {
        let (batch, _, height, width) = pixels.size4()?;
        let grid = self.config.grid((height, width));
        let Embeddings { cls_token, position_embeddings, projection } = &self.embeddings;
        let pixels = pixels.f_to_device(self.device)?.f_to_kind(self.kind)?;
        let (patch_h, patch_w) = self.config.patch_size();
        let patches = pixels.f_conv2d(
            &projection.weight,
            projection.bias.as_ref(),
            [patch_h, patch_w],
            [0, 0],
            [1, 1],
            1,
        )?;
        // [b, width, rows, columns] → [b, rows·columns, width]
        let patches = patches.f_flatten(2, -1)?.f_transpose(1, 2)?;
        let cls = cls_token.f_expand([batch, 1, self.config.hidden_size], false)?;
        let positions = self.positions(position_embeddings, (height, width), grid)?;
        let tokens = Tensor::f_cat(&[cls, patches], 1)?.f_add(&positions)?;
        Ok((tokens, TokenLayout::vision(1, grid)))
    }

    fn positions(&self, trained: &Tensor, size: (i64, i64), (rows, columns): (i64, i64)) -> Result<Tensor> {
        if size == self.config.image_size() {
            return Ok(trained.shallow_clone());
        }
        let (trained_rows, trained_columns) = self.config.grid(self.config.image_size());
        let width = self.config.hidden_size;
        let cls = trained.f_narrow(1, 0, 1)?;
        let patches = trained.f_narrow(1, 1, trained_rows * trained_columns)?;
        let patches = patches
            .f_reshape([1, trained_rows, trained_columns, width])?
            .f_permute([0, 3, 1, 2])?
            .f_upsample_bicubic2d([rows, columns], false, None, None)?
            .f_permute([0, 2, 3, 1])?
            .f_reshape([1, rows * columns, width])?;
        Ok(Tensor::f_cat(&[cls, patches], 1)?)
    }

    /// Runs the blocks: `tokens` `[batch, n, width]` → the same shape after the last layer norm.
    ///
    /// `tokens` may be any subset of an image's tokens; `layout` tells the probe what they are.
    ///
    /// # Errors
    /// libtorch's and the probe's.
    pub fn encode(
        &self,
        tokens: &Tensor,
        layout: &TokenLayout,
        bias: &KeyBias,
        probe: &mut dyn AttentionProbe,
    ) -> Result<Tensor> {
        let mut x = tokens.shallow_clone();
        for (block, layer) in self.layers.iter().enumerate() {
            let site = Site { stream: Stream::Vision, block, step: 0, layout: layout.clone() };
            x = layer.forward(&x, &self.config, &site, bias, probe)?;
        }
        self.layernorm.forward(&x)
    }

    /// Class logits `[batch, classes]` from encoded tokens `[batch, n, width]`; none for a bare backbone.
    ///
    /// # Errors
    /// libtorch's.
    pub fn logits(&self, encoded: &Tensor) -> Result<Option<Tensor>> {
        let cls = self.cls(encoded)?;
        self.classifier.as_ref().map(|classifier| classifier.forward(&cls)).transpose()
    }

    /// The CLS token `[batch, width]` of encoded tokens.
    ///
    /// # Errors
    /// libtorch's.
    pub fn cls(&self, encoded: &Tensor) -> Result<Tensor> {
        Ok(encoded.f_select(1, 0)?)
    }

    /// Where the network lives.
    pub fn device(&self) -> Device {
        self.device
    }
}

impl Embeddings {
    fn load(weights: &Weights, config: &VitConfig) -> Result<Self> {
        let VitConfig { hidden_size, num_channels, .. } = *config;
        let (rows, columns) = config.grid(config.image_size());
        let (patch_h, patch_w) = config.patch_size();
        let projection = weights.pp("patch_embeddings").pp("projection");
        Ok(Self {
            cls_token: weights.get(&[1, 1, hidden_size], "cls_token")?,
            position_embeddings: weights.get(&[1, 1 + rows * columns, hidden_size], "position_embeddings")?,
            projection: Linear {
                weight: projection.get(&[hidden_size, num_channels, patch_h, patch_w], "weight")?,
                bias: Some(projection.get(&[hidden_size], "bias")?),
            },
        })
    }
}

impl Layer {
    fn load(weights: &Weights, config: &VitConfig) -> Result<Self> {
        let VitConfig { hidden_size, intermediate_size, layer_norm_eps, qkv_bias, .. } = *config;
        let attention = weights.pp("attention");
        let projection = |name: &str| {
            Linear::load(&attention.pp("attention").pp(name), hidden_size, hidden_size, qkv_bias)
        };
        let dense = |weights: Weights, input, output| Linear::load(&weights.pp("dense"), input, output, true);
        Ok(Self {
            layernorm_before: LayerNorm::load(&weights.pp("layernorm_before"), hidden_size, layer_norm_eps)?,
            query: projection("query")?,
            key: projection("key")?,
            value: projection("value")?,
            attention_output: dense(attention.pp("output"), hidden_size, hidden_size)?,
            layernorm_after: LayerNorm::load(&weights.pp("layernorm_after"), hidden_size, layer_norm_eps)?,
            intermediate: dense(weights.pp("intermediate"), hidden_size, intermediate_size)?,
            output: dense(weights.pp("output"), intermediate_size, hidden_size)?,
        })
    }

    fn forward(
        &self,
        x: &Tensor,
        config: &VitConfig,
        site: &Site,
        bias: &KeyBias,
        probe: &mut dyn AttentionProbe,
    ) -> Result<Tensor> {
        let (batch, tokens, width) = x.size3()?;
        let heads = config.num_attention_heads;
        let normed = self.layernorm_before.forward(x)?;
        // [b, n, width] → [b, heads, n, head dim]
        let split = |linear: &Linear| -> Result<Tensor> {
            let y = linear.forward(&normed)?;
            Ok(y.f_reshape([batch, tokens, heads, width / heads])?.f_transpose(1, 2)?)
        };
        let (q, k, v) = (split(&self.query)?, split(&self.key)?, split(&self.value)?);
        let attended = attend(&q, &k, &v, bias, site, probe)?;
        let attended = attended.f_transpose(1, 2)?.f_reshape([batch, tokens, width])?;
        let x = self.attention_output.forward(&attended)?.f_add_(x)?;

        let hidden = self.intermediate.forward(&self.layernorm_after.forward(&x)?)?;
        Ok(self.output.forward(&config.hidden_act.apply(&hidden)?)?.f_add_(&x)?)
    }
}
