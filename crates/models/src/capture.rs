//! One forward pass with its attention written out: what `tokenrank attend` stores.

use std::collections::BTreeMap;
use std::path::Path;

use ndarray::Array3;
use tch::{Kind, Tensor};

use crate::attend::{ChainTokens, KeyBias};
use crate::error::Result;
use crate::image::Rgb8;
use crate::layers::LayerSelection;
use crate::matrix_file::{Values, write_safetensors};
use crate::probe::{KeepAll, LayerChain, LayerChains, Select};
use crate::site::TokenLayout;
use crate::vision::VisionModel;

/// The tensors of one pass, under the names they have in the file, and what the tokens are.
pub struct Capture {
    /// `block.{i}.logits`, `block.{i}.probs` `[heads, tokens, tokens]`; `output.logits` `[classes]` or
    /// `output.embedding` `[d]`; `input.pixels` `[3, h, w]`. All float32 on the host.
    pub tensors: Vec<(String, Tensor)>,
    /// What the tokens of the maps are.
    pub layout: TokenLayout,
}

impl Capture {
    /// Runs `picture` through the network and keeps the attention of the chosen layers.
    ///
    /// # Errors
    /// The layers do not fit the network; libtorch's.
    pub fn vision(model: &VisionModel, picture: &Rgb8, layers: &LayerSelection) -> Result<Self> {
        let network = &model.network;
        let blocks = layers.resolve(network.depth())?;
        let pixels: Array3<f32> = model.preprocessor.apply(picture)?;
        let pixels = VisionModel::batch(&[pixels])?;
        let mut probe = Select::new(blocks, KeepAll::default());
        let (tokens, layout) = network.embed(&pixels)?;
        let encoded = network.encode(&tokens, &layout, &KeyBias::none(), &mut probe)?;

        let mut tensors = Vec::new();
        for layer in probe.inner.finish()? {
            tensors.push((format!("{}.logits", layer.site), layer.logits.f_squeeze_dim(0)?));
            tensors.push((format!("{}.probs", layer.site), layer.probs.f_squeeze_dim(0)?));
        }
        tensors.push(match network.logits(&encoded)? {
            Some(logits) => ("output.logits".into(), logits.f_squeeze_dim(0)?),
            None => ("output.embedding".into(), network.embedding(&encoded)?.f_squeeze_dim(0)?),
        });
        tensors.push(("input.pixels".into(), pixels.f_squeeze_dim(0)?));
        Ok(Self { tensors, layout })
    }

    /// Writes the tensors and the metadata `model` and `tokens` to a safetensors file, whole or not at all.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, model: &str, path: &Path) -> Result<()> {
        let metadata = BTreeMap::from([
            ("model".to_owned(), model.to_owned()),
            ("tokens".to_owned(), serde_json::json!(self.layout).to_string()),
        ]);
        let data = self.tensors.iter().map(|(_, tensor)| host_f32(tensor)).collect::<Result<Vec<_>>>()?;
        let described = self.tensors.iter().zip(&data).map(|((name, tensor), data)| {
            let shape = tensor.size().iter().map(|&d| d as usize).collect();
            (name.clone(), shape, Values::F32(data))
        });
        Ok(write_safetensors(path, &described.collect::<Vec<_>>(), &metadata)?)
    }
}

/// One forward pass as Markov chains, a layer at a time: what `tokenrank show` draws.
pub struct Chains {
    /// The chosen layers in the order of the pass.
    pub layers: Vec<LayerChain>,
    /// What the tokens of the sequence are.
    pub sequence: TokenLayout,
    /// What the states of the chains are.
    pub states: TokenLayout,
}

impl Chains {
    /// Runs `picture` through the network and reduces the chosen layers over the given states: the mean of each layer's
    /// heads, and the λ₂ of each head to the relative accuracy `tolerance`. Heads themselves are kept, those of the last
    /// layers first, while no more than `budget` numbers are kept in all, means included.
    ///
    /// # Errors
    /// The layers do not fit the network; an attention map that is no chain; libtorch's.
    pub fn vision(
        model: &VisionModel,
        picture: &Rgb8,
        layers: &LayerSelection,
        tokens: ChainTokens,
        tolerance: f64,
        budget: usize,
    ) -> Result<Self> {
        let network = &model.network;
        let blocks = layers.resolve(network.depth())?;
        let pixels = VisionModel::batch(&[model.preprocessor.apply(picture)?])?;
        let (embedded, sequence) = network.embed(&pixels)?;
        let means = blocks.len() * (tokens.layout(&sequence).tokens() as usize).pow(2);
        let watch = LayerChains::new(tokens, tolerance, budget.saturating_sub(means));
        let mut probe = Select::new(blocks, watch);
        network.encode(&embedded, &sequence, &KeyBias::none(), &mut probe)?;
        let (layers, states) = probe.inner.finish()?;
        Ok(Self { layers, sequence, states })
    }
}

fn host_f32(tensor: &Tensor) -> Result<Vec<f32>> {
    let tensor = tensor.f_to_device(tch::Device::Cpu)?.f_to_kind(Kind::Float)?.f_contiguous()?;
    let mut data = vec![0.0; tensor.numel()];
    tensor.f_copy_data(&mut data, tensor.numel())?;
    Ok(data)
}
