//! The dual and single blocks.

use tch::{Kind, Tensor};

use super::config::{FluxConfig, MLP_RATIO};
use super::modulation::{AdaptiveNorm, Modulation};
use super::rope::Rotary;
use crate::attend::{AttentionProbe, KeyBias, attend};
use crate::error::Result;
use crate::nn::{Activation, Linear, Mlp, RmsNorm};
use crate::site::{Site, TokenKind};
use crate::weights::Weights;

const QK_NORM_EPS: f64 = 1e-6;
const FLOAT16_MAX: f64 = 65504.0;

/// The inputs of a block other than its tokens.
pub(super) struct BlockInputs<'a> {
    /// `[batch, width]`.
    pub(super) conditioning: &'a Tensor,
    pub(super) rotary: &'a Rotary,
    pub(super) site: &'a Site,
}

/// The inputs of a dual block for concept tokens.
pub(super) struct ConceptInputs<'a> {
    /// Rotary embedding of the sequence of concepts and image tokens.
    pub(super) rotary: &'a Rotary,
    pub(super) site: &'a Site,
}

/// Queries, keys and values, each `[batch, tokens, heads, head dim]`.
struct Heads {
    query: Tensor,
    key: Tensor,
    value: Tensor,
}

/// Projects the tokens of one stream to heads; queries and keys are normalised head by head.
struct Projections {
    query: Linear,
    key: Linear,
    value: Linear,
    query_norm: RmsNorm,
    key_norm: RmsNorm,
    head_dim: i64,
}

impl Projections {
    /// Reads the layers with these names below `attn`.
    fn load(weights: &Weights, config: &FluxConfig, linears: [&str; 3], norms: [&str; 2]) -> Result<Self> {
        let (width, head_dim) = (config.width(), config.attention_head_dim);
        let linear = |name: &str| Linear::load(&weights.pp(name), width, width, true);
        let norm = |name: &str| RmsNorm::load(&weights.pp(name), head_dim, QK_NORM_EPS);
        let [query, key, value] = linears;
        let [query_norm, key_norm] = norms;
        Ok(Self {
            query: linear(query)?,
            key: linear(key)?,
            value: linear(value)?,
            query_norm: norm(query_norm)?,
            key_norm: norm(key_norm)?,
            head_dim,
        })
    }

    /// `x` `[batch, n, width]`.
    fn forward(&self, x: &Tensor) -> Result<Heads> {
        let split = |linear: &Linear| -> Result<Tensor> {
            Ok(linear.forward(x)?.f_unflatten(2, [-1, self.head_dim])?)
        };
        Ok(Heads {
            query: self.query_norm.forward(&split(&self.query)?)?,
            key: self.key_norm.forward(&split(&self.key)?)?,
            value: split(&self.value)?,
        })
    }
}

impl Heads {
    /// Concatenates the heads of two sequences, this one first.
    fn before(&self, next: &Self) -> Result<Self> {
        Ok(Self {
            query: Tensor::f_cat(&[&self.query, &next.query], 1)?,
            key: Tensor::f_cat(&[&self.key, &next.key], 1)?,
            value: Tensor::f_cat(&[&self.value, &next.value], 1)?,
        })
    }

    /// Attention with rotated queries and keys → `[batch, tokens, width]`.
    fn attend(
        &self,
        rotary: &Rotary,
        site: &Site,
        bias: &KeyBias,
        probe: &mut dyn AttentionProbe,
    ) -> Result<Tensor> {
        // [b, n, heads, head dim] → [b, heads, n, head dim]
        let query = rotary.apply(&self.query)?.f_transpose(1, 2)?;
        let key = rotary.apply(&self.key)?.f_transpose(1, 2)?;
        let attended = attend(&query, &key, &self.value.f_transpose(1, 2)?, bias, site, probe)?;
        Ok(attended.f_transpose(1, 2)?.f_flatten(2, 3)?)
    }

    /// Attention of tokens at the origin to themselves and to `image` → `[batch, tokens, width]`. Rotation leaves
    /// queries at the origin unchanged.
    fn attend_with(
        &self,
        image: &Self,
        inputs: &ConceptInputs<'_>,
        probe: &mut dyn AttentionProbe,
    ) -> Result<Tensor> {
        let both = self.before(image)?;
        let query = self.query.f_transpose(1, 2)?;
        let key = inputs.rotary.apply(&both.key)?.f_transpose(1, 2)?;
        let value = both.value.f_transpose(1, 2)?;
        let attended = attend(&query, &key, &value, &KeyBias::none(), inputs.site, probe)?;
        Ok(attended.f_transpose(1, 2)?.f_flatten(2, 3)?)
    }
}

/// One stream of a dual block: its own weights around the joint attention.
struct DualStream {
    norm: AdaptiveNorm,
    projections: Projections,
    output: Linear,
    feed_forward: Mlp,
}

impl DualStream {
    /// Adds attention and MLP to the stream's tokens `x` `[batch, n, width]`.
    fn add(&self, x: &Tensor, attended: &Tensor, attention: &Modulation, mlp: &Modulation) -> Result<Tensor> {
        let x = attention.add(x, self.output.forward(attended)?)?;
        let hidden = self.feed_forward.forward(&mlp.norm(&x)?)?;
        mlp.add(&x, hidden)
    }
}

fn feed_forward(weights: &Weights, width: i64) -> Result<Mlp> {
    let net = weights.pp("net");
    Ok(Mlp::Dense {
        widen: Linear::load(&net.pp(0).pp("proj"), width, MLP_RATIO * width, true)?,
        activation: Activation::GeluTanh,
        narrow: Linear::load(&net.pp(2), MLP_RATIO * width, width, true)?,
    })
}

/// `FluxTransformerBlock`: text and image attend jointly and are otherwise separate.
pub(super) struct DualBlock {
    text: DualStream,
    image: DualStream,
}

impl DualBlock {
    pub(super) fn load(weights: &Weights, config: &FluxConfig) -> Result<Self> {
        let (attn, width) = (weights.pp("attn"), config.width());
        Ok(Self {
            text: DualStream {
                norm: AdaptiveNorm::load(&weights.pp("norm1_context"), width, 2)?,
                projections: Projections::load(
                    &attn,
                    config,
                    ["add_q_proj", "add_k_proj", "add_v_proj"],
                    ["norm_added_q", "norm_added_k"],
                )?,
                output: Linear::load(&attn.pp("to_add_out"), width, width, true)?,
                feed_forward: feed_forward(&weights.pp("ff_context"), width)?,
            },
            image: DualStream {
                norm: AdaptiveNorm::load(&weights.pp("norm1"), width, 2)?,
                projections: Projections::load(
                    &attn,
                    config,
                    ["to_q", "to_k", "to_v"],
                    ["norm_q", "norm_k"],
                )?,
                output: Linear::load(&attn.pp("to_out").pp(0), width, width, true)?,
                feed_forward: feed_forward(&weights.pp("ff"), width)?,
            },
        })
    }

    /// `tokens` `[batch, text + image, width]` → the same shape; likewise `concepts` `[batch, concepts, width]`, which
    /// pass through the text's weights and do not influence the tokens.
    pub(super) fn forward(
        &self,
        tokens: &Tensor,
        inputs: &BlockInputs<'_>,
        concepts: Option<(&Tensor, &ConceptInputs<'_>)>,
        probe: &mut dyn AttentionProbe,
    ) -> Result<(Tensor, Option<Tensor>)> {
        let layout = &inputs.site.layout;
        // A reference image belongs to the image's stream.
        let text = layout.count(TokenKind::Text);
        let counts = [text, layout.tokens() - text];
        let split = |x: &Tensor| -> Result<(Tensor, Tensor)> {
            Ok((x.f_narrow(1, 0, counts[0])?, x.f_narrow(1, counts[0], counts[1])?))
        };
        let (text, image) = split(tokens)?;
        let (text_attention, text_mlp) = self.text.norm.two(inputs.conditioning)?;
        let (image_attention, image_mlp) = self.image.norm.two(inputs.conditioning)?;

        let text_heads = self.text.projections.forward(&text_attention.norm(&text)?)?;
        let image_heads = self.image.projections.forward(&image_attention.norm(&image)?)?;
        let heads = text_heads.before(&image_heads)?;
        let attended = heads.attend(inputs.rotary, inputs.site, &KeyBias::none(), probe)?;

        let concepts = match concepts {
            None => None,
            Some((concepts, inputs)) => {
                let heads = self.text.projections.forward(&text_attention.norm(concepts)?)?;
                let attended = heads.attend_with(&image_heads, inputs, probe)?;
                Some(within_float16(self.text.add(concepts, &attended, &text_attention, &text_mlp)?)?)
            }
        };

        let (text_attended, image_attended) = split(&attended)?;
        let text = self.text.add(&text, &text_attended, &text_attention, &text_mlp)?;
        let image = self.image.add(&image, &image_attended, &image_attention, &image_mlp)?;
        Ok((Tensor::f_cat(&[within_float16(text)?, image], 1)?, concepts))
    }
}

/// `FluxSingleTransformerBlock`: one stream of text and image, attention and MLP side by side.
pub(super) struct SingleBlock {
    norm: AdaptiveNorm,
    projections: Projections,
    widen: Linear,
    output: Linear,
}

impl SingleBlock {
    pub(super) fn load(weights: &Weights, config: &FluxConfig) -> Result<Self> {
        let width = config.width();
        let inner = MLP_RATIO * width;
        let attn = weights.pp("attn");
        Ok(Self {
            norm: AdaptiveNorm::load(&weights.pp("norm"), width, 1)?,
            projections: Projections::load(&attn, config, ["to_q", "to_k", "to_v"], ["norm_q", "norm_k"])?,
            widen: Linear::load(&weights.pp("proj_mlp"), width, inner, true)?,
            output: Linear::load(&weights.pp("proj_out"), width + inner, width, true)?,
        })
    }

    /// `tokens` `[batch, text + image, width]` → the same shape.
    pub(super) fn forward(
        &self,
        tokens: &Tensor,
        inputs: &BlockInputs<'_>,
        probe: &mut dyn AttentionProbe,
    ) -> Result<Tensor> {
        let modulation = self.norm.one(inputs.conditioning)?;
        let normed = modulation.norm(tokens)?;
        let hidden = Activation::GeluTanh.apply(&self.widen.forward(&normed)?)?;
        let heads = self.projections.forward(&normed)?;
        let attended = heads.attend(inputs.rotary, inputs.site, &KeyBias::none(), probe)?;
        let update = self.output.forward(&Tensor::f_cat(&[attended, hidden], -1)?)?;
        within_float16(modulation.add(tokens, update)?)
    }
}

/// Clips residuals to finite float16 numbers, since the published weights overflow there. Other types are unchanged.
fn within_float16(mut x: Tensor) -> Result<Tensor> {
    Ok(if x.kind() == Kind::Half { x.f_clamp_(-FLOAT16_MAX, FLOAT16_MAX)? } else { x })
}
