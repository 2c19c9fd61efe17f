//! Reads `config.json` of a T5 encoder.

use std::path::Path;

use serde::de::IntoDeserializer;
use serde::de::value::Error as NameError;
use serde::{Deserialize, Deserializer};

use crate::config_file;
use crate::error::{Error, Result};
use crate::limits;
use crate::nn::Activation;

/// The fields of a Hugging Face T5 configuration that decide the encoder; defaults are `T5Config`'s.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub struct T5Config {
    /// Number of token embeddings.
    pub vocab_size: i64,
    /// Width of a token.
    pub d_model: i64,
    /// Width of a head; the heads together need not be as wide as a token.
    pub d_kv: i64,
    /// Width of the MLP.
    pub d_ff: i64,
    /// Number of blocks.
    pub num_layers: usize,
    /// Heads per block.
    pub num_heads: i64,
    /// Number of classes of relative positions, half of them for keys after the query.
    pub relative_attention_num_buckets: i64,
    /// All distances from this one on belong to one class.
    pub relative_attention_max_distance: i64,
    /// Added to the mean square in every layer norm.
    pub layer_norm_epsilon: f64,
    /// Kind of MLP: `is_gated_act` and `dense_act_fn` if present, otherwise `feed_forward_proj`. transformers writes
    /// all three, other tools only the first two.
    #[serde(skip)]
    pub feed_forward: FeedForward,
    /// The name of an activation, optionally with the prefix `gated-`.
    feed_forward_proj: String,
    /// Whether the MLP is gated. `null` is false, as in Python.
    #[serde(deserialize_with = "present")]
    is_gated_act: Option<Option<bool>>,
    #[serde(deserialize_with = "present")]
    dense_act_fn: Option<Activation>,
    model_type: String,
}

/// Reads a present key. `null` counts as a value, which most types refuse.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(value: D) -> Result<Option<T>, D::Error> {
    T::deserialize(value).map(Some)
}

/// Kind of MLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FeedForward {
    /// Applied to the widened token.
    pub activation: Activation,
    /// Whether the activated layer is multiplied with a second widened one (T5 v1.1).
    pub gated: bool,
}

impl Default for FeedForward {
    fn default() -> Self {
        Self { activation: Activation::Relu, gated: false }
    }
}

impl Default for T5Config {
    fn default() -> Self {
        Self {
            vocab_size: 32128,
            d_model: 512,
            d_kv: 64,
            d_ff: 2048,
            num_layers: 6,
            num_heads: 8,
            relative_attention_num_buckets: 32,
            relative_attention_max_distance: 128,
            layer_norm_epsilon: 1e-6,
            feed_forward: FeedForward::default(),
            feed_forward_proj: "relu".into(),
            is_gated_act: None,
            dense_act_fn: None,
            model_type: "t5".into(),
        }
    }
}

impl T5Config {
    /// Reads `config.json` of a model directory.
    ///
    /// # Errors
    /// The file cannot be read, belongs to another network, or contradicts itself.
    pub fn from_dir(dir: &Path) -> Result<Self> {
        let path = dir.join("config.json");
        let text = config_file::read(&path)?;
        let refuse = |reason: String| Error::Directory { path: path.clone(), reason };
        let mut config: Self =
            serde_json::from_str(&text).map_err(|e| refuse(format!("not the configuration of T5: {e}")))?;
        config.check().map_err(refuse)?;
        config.feed_forward = config.read_feed_forward().map_err(refuse)?;
        Ok(config)
    }

    fn read_feed_forward(&self) -> Result<FeedForward, String> {
        let spec = &self.feed_forward_proj;
        let (gated, name) = match spec.split_once('-') {
            Some(("gated", name)) if !name.contains('-') => (true, name),
            Some(_) => {
                return Err(format!(
                    "feed_forward_proj is `{spec}`, neither an activation nor `gated-` and one"
                ));
            }
            None => (false, spec.as_str()),
        };
        let activation = match self.dense_act_fn {
            Some(activation) => activation,
            // T5 v1.1 means the tanh approximation, but uses the name of the exact function.
            None if gated && name == "gelu" => Activation::GeluTanh,
            None => Activation::deserialize(name.into_deserializer())
                .map_err(|e: NameError| format!("feed_forward_proj `{spec}`: {e}"))?,
        };
        Ok(FeedForward { activation, gated: self.is_gated_act.map_or(gated, Option::unwrap_or_default) })
    }

    fn check(&self) -> Result<(), String> {
        if self.model_type != "t5" {
            return Err(format!(
                "model_type is `{}`, not `t5`; name the directory of a T5 encoder",
                self.model_type
            ));
        }
        limits::check(&limits::BLOCKS, [("num_layers", limits::count(self.num_layers))])?;
        let sizes = [
            ("vocab_size", self.vocab_size),
            ("d_model", self.d_model),
            ("d_kv", self.d_kv),
            ("d_ff", self.d_ff),
            ("num_heads", self.num_heads),
            ("relative_attention_num_buckets", self.relative_attention_num_buckets),
            ("relative_attention_max_distance", self.relative_attention_max_distance),
        ];
        limits::check(&limits::SIZES, sizes)?;
        let eps = self.layer_norm_epsilon;
        if !(eps.is_finite() && eps >= 0.0) {
            return Err(format!("layer_norm_epsilon is {eps}; it must be a finite number ≥ 0"));
        }
        let (buckets, farthest) = (self.relative_attention_num_buckets, self.relative_attention_max_distance);
        // Smaller values leave no room for the logarithmic classes.
        if buckets < 4 || farthest <= buckets / 4 {
            return Err(format!(
                "relative_attention_num_buckets is {buckets} and relative_attention_max_distance {farthest}; at least \
                 4 classes and a distance above a quarter of them are needed"
            ));
        }
        Ok(())
    }
}
