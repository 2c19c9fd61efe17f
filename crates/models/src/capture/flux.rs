//! Captures one pass of a FLUX pipeline.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;
use tch::Tensor;

use super::{Capture, Chains, push_maps};
use crate::attend::ChainTokens;
use crate::error::Result;
use crate::flux::pipeline::PreparedCapture;
use crate::probe::{KeepAll, LayerChains, Select};
use crate::site::Stream;

impl Capture {
    /// Passes an image and its prompt through the transformer and keeps the joint attention of the chosen blocks.
    ///
    /// Tensors: `dual.{i}.logits`, `dual.{i}.probs`, `single.{i}.*` `[heads, tokens, tokens]`: text tokens, image tokens,
    /// then those of a reference image;
    /// `input.pixels` `[3, h, w]` from -1 to 1; `input.latents` `[channels, h, w]`, with noise, as the transformer
    /// reads them; `output.velocity` of the same shape; `text.ids` `[tokens]` (int64); with a reference image
    /// `reference.pixels` `[3, h, w]` and `reference.latents` `[channels, h, w]`, without noise. Metadata: `prompt`;
    /// `pieces`, JSON, the spelling of the text tokens without padding; `noise`, JSON: the schedule's steps, the step,
    /// the fraction of noise `sigma`, the seed; with a reference image `reference`, JSON: the choice of its `size`, and
    /// the resulting height and width in `pixels`.
    ///
    /// # Errors
    /// libtorch fails (memory).
    pub fn flux(prepared: &PreparedCapture<'_>, blocks: BTreeMap<Stream, BTreeSet<usize>>) -> Result<Self> {
        let mut probe = Select::of_streams(blocks, KeepAll::default());
        let velocity = prepared.velocity(&mut probe)?;
        let mut tensors = Vec::new();
        push_maps(&mut tensors, probe.inner.finish()?)?;
        tensors.push(("output.velocity".into(), velocity));
        tensors.push(("input.pixels".into(), prepared.pixels.shallow_clone()));
        tensors.push(("input.latents".into(), prepared.noised.shallow_clone()));
        tensors.push(("text.ids".into(), Tensor::f_from_slice(&prepared.text.ids)?));

        if let Some(reference) = &prepared.reference {
            tensors.push(("reference.pixels".into(), reference.pixels.shallow_clone()));
            tensors.push(("reference.latents".into(), reference.latents.shallow_clone()));
        }

        let plan = prepared.plan();
        let options = plan.options();
        let noise = json!({ "steps": options.steps, "step": options.step, "sigma": plan.sigma()?, "seed": options.seed });
        let pieces = plan.tokenizer()?.pieces(&options.prompt)?;
        let mut metadata = BTreeMap::from([
            ("prompt".to_owned(), options.prompt.clone()),
            ("pieces".to_owned(), json!(pieces).to_string()),
            ("noise".to_owned(), noise.to_string()),
        ]);
        if let Some((size, pixels)) = plan.reference_size() {
            let reference = json!({ "size": size.to_string(), "pixels": pixels });
            metadata.insert("reference".to_owned(), reference.to_string());
        }
        Ok(Self { tensors, layout: plan.layout()?, prompts: Vec::new(), metadata })
    }
}

impl Chains {
    /// Passes an image and its prompt through the transformer up to the last of the chosen blocks, and reduces these
    /// blocks as [`Chains::vision`] does. All tokens are states, text tokens first and those of a reference image
    /// last.
    ///
    /// # Errors
    /// An attention map is not a valid chain; libtorch fails.
    pub fn flux(
        prepared: &PreparedCapture<'_>,
        blocks: BTreeMap<Stream, BTreeSet<usize>>,
        tolerance: f64,
        budget: usize,
    ) -> Result<Self> {
        let sequence = prepared.plan().layout()?;
        let count: usize = blocks.values().map(BTreeSet::len).sum();
        let means = count * (sequence.tokens() as usize).pow(2);
        let watch = LayerChains::new(ChainTokens::All, tolerance, budget.saturating_sub(means));
        let mut probe = Select::of_streams(blocks.clone(), watch);
        prepared.watch(&blocks, &mut probe)?;
        let (layers, states) = probe.inner.finish()?;
        Ok(Self { layers, sequence, states })
    }
}
