//! The transformers of a UNet.

use tch::Tensor;

use super::config::{Level, UnetConfig};
use crate::attend::{AttentionProbe, KeyBias};
use crate::error::Result;
use crate::nn::{Attention, GroupNorm, Groups, LayerNorm, Linear, Mlp, Queries};
use crate::perturbation::{Perturbation, Perturbed, blurred};
use crate::site::{Site, Stream, TokenLayout, UnetLayer, UnetPart};
use crate::weights::Weights;

const GROUP_NORM_EPS: f64 = 1e-6;
const LAYER_NORM_EPS: f64 = 1e-5;
/// Width of an MLP, as a multiple of the width of a token.
const MLP_RATIO: i64 = 4;

/// The inputs of every block other than the image.
pub(super) struct Pass<'a> {
    /// The time embedding after its SiLU, `[1, width]`.
    pub(super) time: &'a Tensor,
    /// Text tokens, `[batch, tokens, cross_attention_dim]`.
    pub(super) context: &'a Tensor,
    /// Sampling step, for sites.
    pub(super) step: usize,
    /// A change of self-attention in some parts.
    pub(super) perturbation: Option<&'a Perturbation>,
}

/// `Transformer2DModel`: pixels as tokens that attend to each other and to the text.
pub(super) struct Transformer {
    norm: GroupNorm,
    proj_in: Linear,
    transformer_blocks: Vec<Layer>,
    proj_out: Linear,
}

impl Transformer {
    /// Reads transformer number `attention` of a part. `blocks` counts the transformer layers of the whole network.
    pub(super) fn load(
        weights: &Weights,
        config: &UnetConfig,
        level: Level,
        (part, attention): (UnetPart, usize),
        blocks: &mut usize,
    ) -> Result<Self> {
        let width = level.channels;
        let groups = Groups { eps: GROUP_NORM_EPS, ..config.groups() };
        let projection =
            |name: &str| Linear::of_pixels(&weights.pp(name), width, width, config.projects_by_convolution());
        let layers = weights.pp("transformer_blocks");
        let layer = |layer| {
            let place = UnetLayer { part, attention, layer, cross: false };
            let block = *blocks;
            *blocks += 1;
            Layer::load(&layers.pp(layer), level, config.cross_attention_dim, (place, block))
        };
        Ok(Self {
            norm: GroupNorm::load(&weights.pp("norm"), width, groups)?,
            proj_in: projection("proj_in")?,
            transformer_blocks: (0..level.layers).map(layer).collect::<Result<_>>()?,
            proj_out: projection("proj_out")?,
        })
    }

    /// `x` `[batch, channels, h, w]` → the same shape.
    pub(super) fn forward(
        &self,
        x: &Tensor,
        pass: &Pass<'_>,
        probe: &mut dyn AttentionProbe,
    ) -> Result<Tensor> {
        let (batch, channels, rows, columns) = x.size4()?;
        // [b, c, h, w] → [b, h·w, c]
        let tokens = self.norm.forward(x)?.f_flatten(2, -1)?.f_transpose(1, 2)?;
        let tokens =
            self.transformer_blocks.iter().try_fold(self.proj_in.forward(&tokens)?, |tokens, layer| {
                layer.forward(&tokens, (rows, columns), pass, probe)
            })?;
        let update = self.proj_out.forward(&tokens)?.f_transpose(1, 2)?;
        // Adds the update to `x`, not `x` to the update, so that the sum has the memory layout of `x`.
        Ok(x.f_add(&update.f_reshape([batch, channels, rows, columns])?)?)
    }
}

/// `BasicTransformerBlock`.
struct Layer {
    place: UnetLayer,
    block: usize,
    norm1: LayerNorm,
    attn1: Attention,
    norm2: LayerNorm,
    attn2: Attention,
    norm3: LayerNorm,
    ff: Mlp,
}

impl Layer {
    fn load(
        weights: &Weights,
        level: Level,
        context: i64,
        (place, block): (UnetLayer, usize),
    ) -> Result<Self> {
        let width = level.channels;
        let norm = |name: &str| LayerNorm::load(&weights.pp(name), width, LAYER_NORM_EPS);
        let attention = |name: &str, keys: i64| -> Result<Attention> {
            let weights = weights.pp(name);
            Ok(Attention {
                query: Linear::load(&weights.pp("to_q"), width, width, false)?,
                key: Linear::load(&weights.pp("to_k"), keys, width, false)?,
                value: Linear::load(&weights.pp("to_v"), keys, width, false)?,
                head_norms: None,
                output: Linear::load(&weights.pp("to_out.0"), width, width, true)?,
                heads: level.heads,
                scale: None,
            })
        };
        let (ff, inner) = (weights.pp("ff.net"), MLP_RATIO * width);
        Ok(Self {
            place,
            block,
            norm1: norm("norm1")?,
            attn1: attention("attn1", width)?,
            norm2: norm("norm2")?,
            attn2: attention("attn2", context)?,
            norm3: norm("norm3")?,
            ff: Mlp::GeGlu {
                widen: Linear::load(&ff.pp("0.proj"), width, 2 * inner, true)?,
                narrow: Linear::load(&ff.pp(2), inner, width, true)?,
            },
        })
    }

    /// `x` `[batch, rows·columns, channels]` → the same shape.
    fn forward(
        &self,
        x: &Tensor,
        image: (i64, i64),
        pass: &Pass<'_>,
        probe: &mut dyn AttentionProbe,
    ) -> Result<Tensor> {
        let (_, text, _) = pass.context.size3()?;
        let site = |cross, layout| {
            let stream = Stream::Unet(UnetLayer { cross, ..self.place });
            Site { stream, block: self.block, step: pass.step, layout }
        };
        let none = KeyBias::none();

        let among = site(false, TokenLayout::vision(0, image));
        let normed = self.norm1.forward(x)?;
        let perturbed = pass.perturbation.filter(|change| change.parts.contains(&self.place.part));
        let mut attended = match perturbed.map(|change| change.attention) {
            None => self.attn1.forward(&normed, Queries::All, None, &among, &none, probe)?,
            Some(Perturbed::Identity) => self.attn1.of_itself(&normed)?,
            Some(Perturbed::Blurred { sigma }) => {
                self.attn1.across(&blurred(&normed, image, sigma)?, &normed, &among, &none, probe)?
            }
        };
        let x = attended.f_add_(x)?;
        let across = site(true, TokenLayout::cross(text, image));
        let normed = self.norm2.forward(&x)?;
        let x = self.attn2.across(&normed, pass.context, &across, &none, probe)?.f_add_(&x)?;
        Ok(self.ff.forward(&self.norm3.forward(&x)?)?.f_add_(&x)?)
    }
}
