//! The arguments from which timm and transformers build a `VisionTransformer` by the name of its architecture.
//!
//! The tensors of a network tell neither the number of heads nor the activation, the epsilon of the norms, the pooling or
//! the order of norms and residual connections in a block. timm knows them by the name of the architecture, and
//! `model_args` of `config.json` overrides them. `architectures.toml` holds what timm knows; `tools/timm_architectures.py`
//! wrote it from timm's own code.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::nn::{Activation, Extent};

const ARCHITECTURES: &str = include_str!("architectures.toml");

/// Arguments that matter only in training, or only to the checks that timm does of an image's size.
const WITHOUT_EFFECT: [&str; 11] = [
    "num_classes",
    "drop_rate",
    "pos_drop_rate",
    "patch_drop_rate",
    "proj_drop_rate",
    "attn_drop_rate",
    "drop_path_rate",
    "weight_init",
    "fix_init",
    "dynamic_img_size",
    "strict_img_size",
];

/// What a `VisionTransformer` of timm is built from.
#[derive(Debug, Clone)]
pub(super) struct Arguments {
    /// Size (height, width) of the images that the positions belong to, in pixels.
    pub(super) image_size: (i64, i64),
    /// Height and width of a patch in pixels.
    pub(super) patch: (i64, i64),
    /// Colour channels.
    pub(super) channels: i64,
    /// Width of a token.
    pub(super) width: i64,
    /// Number of blocks.
    pub(super) depth: usize,
    /// Heads per block.
    pub(super) heads: i64,
    /// Width of the first layer of the MLP. For a SwiGLU it has both halves.
    pub(super) inner: i64,
    /// Activation of the MLP.
    pub(super) activation: Activation,
    /// Whether the MLP is a SwiGLU whose two halves are stored as one layer.
    pub(super) swiglu: bool,
    /// Added to the variance in every layer norm.
    pub(super) eps: f64,
    /// Whether query, key and value have a bias.
    pub(super) qkv_bias: bool,
    /// Whether the queries and keys of each head are normalised.
    pub(super) qk_norm: bool,
    /// Whether the other layers of a block have biases.
    pub(super) proj_bias: bool,
    /// Whether the outputs of attention and MLP are scaled.
    pub(super) layer_scale: bool,
    /// Whether there is a CLS token.
    pub(super) cls: bool,
    /// Number of register tokens.
    pub(super) registers: i64,
    /// Whether CLS and registers have positions.
    pub(super) special_positions: bool,
    /// Whether tokens are normalised before the first block. The patches then have no bias.
    pub(super) first_norm: bool,
    /// Whether tokens are normalised after the last block.
    pub(super) last_norm: bool,
    /// Whether the pooled vector is normalised.
    pub(super) pooled_norm: bool,
    /// Pooling of the encoded tokens.
    pub(super) pool: Pool,
}

/// The supported values of `global_pool`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pool {
    /// CLS.
    Token,
    /// The mean of the patches.
    Avg,
    /// Attention of a learned query to the patches.
    Map,
}

impl Pool {
    /// Its name in timm.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Avg => "avg",
            Self::Map => "map",
        }
    }
}

/// An architecture in `architectures.toml`.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Architecture {
    /// The arguments that differ from the defaults.
    args: Map<String, Value>,
    /// Added to the variance in every layer norm.
    norm_eps: f64,
    /// Whether the MLP is timm's `SwiGLUPacked`.
    swiglu: bool,
    /// Side of the images that it was made for.
    input: i64,
    /// What is not supported of it; completes the sentence "it has …".
    has: Option<String>,
}

/// The `eps` of timm's `LayerNorm`.
const USUAL_EPS: f64 = 1e-6;

impl Default for Architecture {
    fn default() -> Self {
        Self { args: Map::new(), norm_eps: USUAL_EPS, swiglu: false, input: 224, has: None }
    }
}

/// Arguments of `VisionTransformer` by their names in timm, with its defaults.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Given {
    img_size: Option<Extent>,
    patch_size: Extent,
    in_chans: i64,
    global_pool: String,
    embed_dim: i64,
    depth: usize,
    num_heads: i64,
    mlp_ratio: f64,
    qkv_bias: bool,
    qk_norm: bool,
    scale_attn_norm: bool,
    scale_mlp_norm: bool,
    proj_bias: bool,
    init_values: f64,
    class_token: bool,
    pos_embed: String,
    no_embed_class: bool,
    reg_tokens: i64,
    pre_norm: bool,
    final_norm: bool,
    fc_norm: Option<bool>,
    pool_include_prefix: bool,
    dynamic_img_pad: bool,
    features_only: bool,
    embed_norm_layer: Option<String>,
    norm_layer: Option<String>,
    act_layer: Option<String>,
    attn_layer: String,
}

impl Default for Given {
    fn default() -> Self {
        Self {
            img_size: None,
            patch_size: Extent::Square(16),
            in_chans: 3,
            global_pool: "token".into(),
            embed_dim: 768,
            depth: 12,
            num_heads: 12,
            mlp_ratio: 4.0,
            qkv_bias: true,
            qk_norm: false,
            scale_attn_norm: false,
            scale_mlp_norm: false,
            proj_bias: true,
            init_values: 0.0,
            class_token: true,
            pos_embed: "learn".into(),
            no_embed_class: false,
            reg_tokens: 0,
            pre_norm: false,
            final_norm: true,
            fc_norm: None,
            pool_include_prefix: false,
            dynamic_img_pad: false,
            features_only: false,
            embed_norm_layer: None,
            norm_layer: None,
            act_layer: None,
            attn_layer: String::new(),
        }
    }
}

impl Arguments {
    /// Returns what timm builds the architecture `name` from, with the arguments of `model_args` instead of its own.
    /// `input_size` is the size (height, width) in `pretrained_cfg`.
    ///
    /// # Errors
    /// The reason why the network is not supported, or which argument contradicts another.
    pub(super) fn of(
        name: &str,
        model_args: Map<String, Value>,
        input_size: Option<(i64, i64)>,
    ) -> Result<Self, String> {
        let mut known: BTreeMap<String, Architecture> =
            toml::from_str(ARCHITECTURES).map_err(|e| format!("architectures.toml: {e}"))?;
        let count = known.values().filter(|architecture| architecture.has.is_none()).count();
        let Some(architecture) = known.remove(name) else {
            return Err(format!(
                "architecture is `{name}`, which is not one of the {count} plain vision transformers of timm 1.0.31 that are \
                 supported; the number of heads, the activation and the pooling of a network are known by its name only"
            ));
        };
        if let Some(has) = architecture.has {
            return Err(format!("architecture is `{name}`, which is not supported: it has {has}"));
        }
        // timm drops arguments that are None.
        let overriding = model_args.into_iter().filter(|(_, value)| !value.is_null());
        let mut merged = architecture.args;
        let mut eps = architecture.norm_eps;
        for (key, value) in overriding {
            if key == "norm_layer" {
                eps = USUAL_EPS;
            }
            if !WITHOUT_EFFECT.contains(&&*key) {
                merged.insert(key, value);
            }
        }
        let given: Given =
            serde_json::from_value(Value::Object(merged)).map_err(|e| format!("model_args: {e}"))?;
        if let Some(has) = given.unsupported(architecture.swiglu) {
            return Err(format!("architecture is `{name}` with {has}, which is not supported"));
        }
        given.resolved(
            eps,
            architecture.swiglu,
            input_size.unwrap_or((architecture.input, architecture.input)),
        )
    }
}

impl Given {
    /// Returns the first argument whose effect is not supported, and what it does.
    fn unsupported(&self, swiglu: bool) -> Option<String> {
        let layer = |name: &Option<String>| name.as_ref().map(|name| name.replace('_', "").to_lowercase());
        let attention = ["", "attn"].contains(&&*self.attn_layer);
        let special = self.class_token || self.reg_tokens > 0;
        let found = if let Some(norm) = layer(&self.norm_layer).filter(|name| name != "layernorm") {
            format!("norms of another kind than layer norms (norm_layer = `{norm}`)")
        } else if self.embed_norm_layer.is_some() {
            "a norm of the patches before their positions (embed_norm_layer)".into()
        } else if !attention {
            format!("another attention (attn_layer = `{}`)", self.attn_layer)
        } else if self.scale_attn_norm || self.scale_mlp_norm {
            "norms within attention or MLP (scale_attn_norm, scale_mlp_norm)".into()
        } else if self.pos_embed != "learn" {
            "no learned positions (pos_embed)".into()
        } else if self.pool_include_prefix && special {
            "pooling of CLS and registers together with the patches (pool_include_prefix)".into()
        } else if self.global_pool == "map" && special {
            "attention pooling that leaves out CLS and registers (global_pool = `map`)".into()
        } else if Pool::named(&self.global_pool).is_none() {
            format!("another pooling than token, avg and map (global_pool = `{}`)", self.global_pool)
        } else if self.dynamic_img_pad {
            "padding of images at the edge (dynamic_img_pad)".into()
        } else if self.features_only {
            "features of several blocks as its output (features_only)".into()
        } else if self.activation().is_none() {
            format!("another activation (act_layer = `{}`)", self.act_layer.as_deref().unwrap_or_default())
        } else if swiglu && self.activation() != Some(Activation::Silu) {
            "a gated MLP of another activation than SiLU (act_layer)".into()
        } else {
            return None;
        };
        Some(found)
    }

    fn activation(&self) -> Option<Activation> {
        match self.act_layer.as_deref() {
            None | Some("" | "gelu") => Some(Activation::Gelu),
            Some("gelu_tanh") => Some(Activation::GeluTanh),
            Some("quick_gelu") => Some(Activation::QuickGelu),
            Some("relu") => Some(Activation::Relu),
            Some("silu" | "swish") => Some(Activation::Silu),
            Some(_) => None,
        }
    }

    fn resolved(self, eps: f64, swiglu: bool, image_size: (i64, i64)) -> Result<Arguments, String> {
        let (activation, pool) = (self.activation(), Pool::named(&self.global_pool));
        let (Some(activation), Some(pool)) = (activation, pool) else {
            return Err("act_layer or global_pool is not supported".into());
        };
        let Self { embed_dim: width, num_heads: heads, reg_tokens: registers, .. } = self;
        if pool == Pool::Token && !self.class_token {
            return Err("model_args: global_pool is `token`, but class_token is false".into());
        }
        if registers < 0 {
            return Err(format!("model_args: reg_tokens is {registers}; it must be at least 0"));
        }
        if heads < 1 || width % heads != 0 {
            return Err(format!("model_args: embed_dim {width} is not a multiple of num_heads {heads}"));
        }
        let pooled_norm = self.fc_norm.unwrap_or(pool == Pool::Avg);
        Ok(Arguments {
            image_size: self.img_size.map_or(image_size, Extent::height_width),
            patch: self.patch_size.height_width(),
            channels: self.in_chans,
            width,
            depth: self.depth,
            heads,
            inner: (width as f64 * self.mlp_ratio) as i64,
            activation,
            swiglu,
            eps,
            qkv_bias: self.qkv_bias,
            qk_norm: self.qk_norm,
            proj_bias: self.proj_bias,
            layer_scale: self.init_values != 0.0,
            cls: self.class_token,
            registers,
            special_positions: !self.no_embed_class,
            first_norm: self.pre_norm,
            last_norm: self.final_norm && !pooled_norm,
            pooled_norm: self.final_norm && pooled_norm,
            pool,
        })
    }
}

impl Pool {
    fn named(name: &str) -> Option<Self> {
        [Self::Token, Self::Avg, Self::Map].into_iter().find(|pool| pool.name() == name)
    }
}
