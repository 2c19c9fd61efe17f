//! Captures of one forward pass with its attention maps, as `tokenrank attend` stores them.

mod flux;
mod grids;
mod sd;

use std::collections::BTreeMap;
use std::path::Path;

use markov_core::torch::to_vec;
use ndarray::Array3;
use tch::{Kind, Tensor};

use crate::attend::{ChainTokens, KeyBias};
use crate::clip::{ClipText, Tokenizer};
use crate::error::Result;
use crate::image::Rgb8;
use crate::layers::LayerSelection;
use crate::matrix_file::{Values, write_safetensors};
use crate::probe::{KeepAll, KeptLayer, LayerChain, LayerChains, Select};
use crate::site::TokenLayout;
use crate::vision::{LoadOptions, VisionModel};
pub use grids::{SdChains, SdGrids};
pub use sd::SdCaptureOptions;

/// The tensors of one pass, named as in the file, and the layout of the tokens.
pub struct Capture {
    /// Float32 in the file except for ids. For a vision network: `block.{i}.logits`, `block.{i}.probs` `[heads, tokens,
    /// tokens]`; `output.logits` `[classes]` or `output.embedding` `[d]`; `input.pixels` `[3, h, w]`. For the k-th
    /// prompt `text.{k}.ids` `[tokens]` (int64, padded), `text.{k}.embedding` `[d]` (projected, not normalised),
    /// `text.{k}.block.{i}.logits` and `.probs` `[heads, tokens, tokens]`, where the logits of tokens that the causal
    /// mask hides are -∞. For a FLUX pipeline see [`Capture::flux`], for a Stable Diffusion pipeline [`Capture::sd`].
    pub tensors: Vec<(String, Tensor)>,
    /// Layout of the tokens of the image's maps.
    pub layout: TokenLayout,
    /// The encoded texts, in order.
    pub prompts: Vec<Prompt>,
    /// Further metadata of the file, by key.
    pub metadata: BTreeMap<String, String>,
}

/// A text that a text tower has encoded.
pub struct Prompt {
    /// The text as given.
    pub text: String,
    /// The network's context length: number of tokens with start, end and padding.
    pub tokens: usize,
    /// Whether the text had more tokens and was cut.
    pub truncated: bool,
}

impl Capture {
    /// Runs `image` through the network and keeps the attention of the chosen layers.
    ///
    /// # Errors
    /// The layers do not fit the network; libtorch fails.
    pub fn vision(model: &VisionModel, image: &Rgb8, layers: &LayerSelection) -> Result<Self> {
        let network = &model.network;
        let blocks = layers.resolve(network.depth())?;
        let pixels: Array3<f32> = model.preprocessor.apply(image)?;
        let pixels = VisionModel::batch(&[pixels])?;
        let mut probe = Select::new(blocks, KeepAll::default());
        let embedded = network.embed(&pixels)?;
        let encoded = network.encode(&embedded, &KeyBias::none(), &mut probe)?;

        let mut tensors = Vec::new();
        push_maps(&mut tensors, probe.inner.finish()?)?;
        tensors.push(match network.logits(&encoded)? {
            Some(logits) => ("output.logits".into(), logits.f_squeeze_dim(0)?),
            None => ("output.embedding".into(), network.embedding(&encoded)?.f_squeeze_dim(0)?),
        });
        tensors.push(("input.pixels".into(), pixels.f_squeeze_dim(0)?));
        Ok(Self { tensors, layout: embedded.layout, prompts: Vec::new(), metadata: BTreeMap::new() })
    }

    /// Encodes `prompts` with the text tower of the CLIP in `dir` and keeps the attention of the chosen layers that the
    /// tower has ([`LayerSelection::of_tower`]).
    ///
    /// # Errors
    /// The directory has no text tower or tokenizer, or they are damaged; libtorch fails.
    pub fn add_prompts(
        &mut self,
        dir: &Path,
        options: &LoadOptions,
        prompts: &[String],
        layers: &LayerSelection,
    ) -> Result<()> {
        if prompts.is_empty() {
            return Ok(());
        }
        let tower = ClipText::load(dir, options.kind, options.device)?;
        let tokenizer = Tokenizer::from_dir(dir)?;
        let blocks = layers.of_tower(tower.depth());
        for text in prompts {
            let k = self.prompts.len();
            let ids = Tensor::f_from_slice(&tokenizer.encode(text)?)?;
            let mut probe = Select::new(blocks.clone(), KeepAll::default());
            let embedding = tower.embed(&ids.f_unsqueeze(0)?, &mut probe)?;
            self.tensors.push((format!("text.{k}.ids"), ids));
            self.tensors.push((format!("text.{k}.embedding"), embedding.f_squeeze_dim(0)?));
            for layer in probe.inner.finish()? {
                let name = format!("text.{k}.block.{}", layer.site.block);
                self.tensors.push((format!("{name}.logits"), layer.logits.f_squeeze_dim(0)?));
                self.tensors.push((format!("{name}.probs"), layer.probs.f_squeeze_dim(0)?));
            }
            let (tokens, truncated) = (tokenizer.context_length(), tokenizer.truncates(text)?);
            self.prompts.push(Prompt { text: text.clone(), tokens, truncated });
        }
        Ok(())
    }

    /// Writes a safetensors file atomically. Its metadata are `model`, `tokens`, `prompts` (a JSON array, if there are
    /// prompts), and those of [`Capture::metadata`].
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, model: &str, path: &Path) -> Result<()> {
        let mut metadata = self.metadata.clone();
        metadata.insert("model".to_owned(), model.to_owned());
        metadata.insert("tokens".to_owned(), serde_json::json!(self.layout).to_string());
        if !self.prompts.is_empty() {
            let texts: Vec<&str> = self.prompts.iter().map(|prompt| prompt.text.as_str()).collect();
            metadata.insert("prompts".to_owned(), serde_json::json!(texts).to_string());
        }
        let data = self.tensors.iter().map(|(_, tensor)| Host::copy(tensor)).collect::<Result<Vec<_>>>()?;
        let described = self.tensors.iter().zip(&data).map(|((name, tensor), data)| {
            let shape = tensor.size().iter().map(|&d| d as usize).collect();
            (name.clone(), shape, data.values())
        });
        Ok(write_safetensors(path, &described.collect::<Vec<_>>(), &metadata)?)
    }
}

/// Adds the maps of one image under the names of their sites.
fn push_maps(tensors: &mut Vec<(String, Tensor)>, layers: Vec<KeptLayer>) -> Result<()> {
    for layer in layers {
        tensors.push((format!("{}.logits", layer.site), layer.logits.f_squeeze_dim(0)?));
        tensors.push((format!("{}.probs", layer.site), layer.probs.f_squeeze_dim(0)?));
    }
    Ok(())
}

/// The values of a tensor on the host, ready to be written.
enum Host {
    Float(Vec<f32>),
    Ids(Vec<i64>),
}

impl Host {
    fn copy(tensor: &Tensor) -> Result<Self> {
        Ok(if tensor.kind() == Kind::Int64 {
            Self::Ids(to_vec(tensor)?)
        } else {
            Self::Float(to_vec(tensor)?)
        })
    }

    fn values(&self) -> Values<'_> {
        match self {
            Self::Float(values) => Values::F32(values),
            Self::Ids(ids) => Values::I64(ids),
        }
    }
}

/// One forward pass as Markov chains, one per layer, as `tokenrank show` draws them.
pub struct Chains {
    /// The chosen layers in the order of the pass.
    pub layers: Vec<LayerChain>,
    /// Layout of the tokens of the sequence.
    pub sequence: TokenLayout,
    /// Layout of the states of the chains.
    pub states: TokenLayout,
}

impl Chains {
    /// Runs `image` through the network and reduces the chosen layers over the given states to the mean of each layer's
    /// heads and to the λ₂ of each head with relative accuracy `tolerance`. Maps of single heads are kept as well,
    /// those of the last layers first, as long as all kept maps, means included, have at most `budget` numbers.
    ///
    /// # Errors
    /// The layers do not fit the network; an attention map is not a valid chain; libtorch fails.
    pub fn vision(
        model: &VisionModel,
        image: &Rgb8,
        layers: &LayerSelection,
        tokens: ChainTokens,
        tolerance: f64,
        budget: usize,
    ) -> Result<Self> {
        let network = &model.network;
        let blocks = layers.resolve(network.depth())?;
        let pixels = VisionModel::batch(&[model.preprocessor.apply(image)?])?;
        let embedded = network.embed(&pixels)?;
        let means = blocks.len() * (tokens.layout(&embedded.layout).tokens() as usize).pow(2);
        let watch = LayerChains::new(tokens, tolerance, budget.saturating_sub(means));
        let mut probe = Select::new(blocks, watch);
        network.encode(&embedded, &KeyBias::none(), &mut probe)?;
        let (layers, states) = probe.inner.finish()?;
        Ok(Self { layers, sequence: embedded.layout, states })
    }
}
