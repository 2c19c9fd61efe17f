//! Captures one pass of a Stable Diffusion pipeline.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use tch::Tensor;

use super::{Capture, push_maps};
use crate::error::{Error, Result};
use crate::image::{Resample, Rgb8, resize};
use crate::pipeline::{Draw, pixels};
use crate::probe::{KeepAll, Select};
use crate::sd::pipeline::SdPipeline;
use crate::site::{Stream, TokenLayout, UnetLayer};

/// Options for capturing one pass of the UNet over an image and a text. No noise is added to the image; only the
/// timestep tells the network that there is some, as in arXiv 2308.12469, section 3.2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SdCaptureOptions {
    /// The prompt. The empty prompt is that of unconditional sampling.
    pub prompt: String,
    /// Diffusion timestep passed to the UNet; larger is noisier.
    pub timestep: u32,
    /// Side in pixels to which the image is resized, whatever its proportions. By default the size that the network was
    /// trained on.
    pub image_size: Option<usize>,
}

impl SdCaptureOptions {
    /// The timestep of arXiv 2308.12469.
    pub const USUAL_TIMESTEP: u32 = 300;

    /// Returns height and width in pixels of the resized image.
    ///
    /// # Errors
    /// The pipeline does not support this size.
    pub fn size(&self, pipeline: &SdPipeline) -> Result<(i64, i64)> {
        let size = self.image_size.map_or(pipeline.default_size(), |side| (side as i64, side as i64));
        pipeline.latent_shape(size).map(|_| size)
    }
}

/// The inputs of one pass.
pub(super) struct SdInput {
    /// The resized image.
    pub seen: Rgb8,
    pub ids: Vec<i64>,
    /// `[1, tokens, d]`.
    pub text: Tensor,
    /// `[1, channels, h, w]`.
    pub latents: Tensor,
}

impl SdInput {
    /// Encodes an image and a text. Text tower and autoencoder are loaded one after another.
    ///
    /// # Errors
    /// As [`SdCaptureOptions::size`]; a component cannot be loaded; libtorch fails.
    pub(super) fn prepare(pipeline: &SdPipeline, image: &Rgb8, options: &SdCaptureOptions) -> Result<Self> {
        let (height, width) = options.size(pipeline)?;
        let seen = resize(image, (height as usize, width as usize), Resample::Bicubic)?;
        let ids = pipeline.tokenizer().encode(&options.prompt)?;
        let text = pipeline.encode_texts(std::slice::from_ref(&options.prompt))?;
        let text = text.first().ok_or_else(|| Error::Text {
            text: options.prompt.clone(),
            reason: "it was not encoded".into(),
        })?;
        let latents = pipeline.image_encoder()?.encode(&pixels(&seen)?.f_unsqueeze(0)?, Draw::Mode)?;
        Ok(Self { seen, ids, text: text.f_unsqueeze(0)?, latents })
    }
}

impl Capture {
    /// Passes an image and a text through the UNet and keeps the attention of the chosen layers. Text tower,
    /// autoencoder and UNet are loaded one after another.
    ///
    /// Tensors: `unet.{module path}.logits` and `.probs` `[heads, image tokens, keys]`, where the keys of `attn1` are
    /// the image tokens of its level and those of `attn2` the text tokens; `input.pixels` `[3, h, w]` from -1 to 1;
    /// `input.latents` `[channels, h, w]`; `output.predicted` of the same shape, the predicted noise; `text.ids`
    /// `[tokens]` (int64). Metadata: `prompt`; `timestep`; `grids`, JSON, rows and columns of the image tokens of every
    /// layer by its path. `tokens` describes the latents.
    ///
    /// # Errors
    /// As [`SdCaptureOptions::size`]; a component cannot be loaded; libtorch fails.
    pub fn sd(
        pipeline: &SdPipeline,
        image: &Rgb8,
        options: &SdCaptureOptions,
        layers: &BTreeSet<UnetLayer>,
    ) -> Result<Self> {
        let SdInput { seen, ids, text, latents } = SdInput::prepare(pipeline, image, options)?;
        let unet = pipeline.unet()?;
        let mut probe = Select::whole_streams(layers.iter().copied().map(Stream::Unet), KeepAll::default());
        let predicted = unet.forward(&latents, f64::from(options.timestep), &text, 0, &mut probe)?;
        drop(unet);

        let (.., rows, columns) = latents.size4()?;
        let layout = TokenLayout::cross(ids.len() as i64, (rows, columns));
        let kept = probe.inner.finish()?;
        let grids: BTreeMap<String, Value> =
            kept.iter().map(|layer| (layer.site.to_string(), json!(layer.site.layout.image))).collect();
        let mut tensors = Vec::new();
        push_maps(&mut tensors, kept)?;
        tensors.push(("output.predicted".into(), predicted.f_squeeze_dim(0)?));
        tensors.push(("input.pixels".into(), pixels(&seen)?));
        tensors.push(("input.latents".into(), latents.f_squeeze_dim(0)?));
        tensors.push(("text.ids".into(), Tensor::f_from_slice(&ids)?));
        let metadata = BTreeMap::from([
            ("prompt".to_owned(), options.prompt.clone()),
            ("timestep".to_owned(), options.timestep.to_string()),
            ("grids".to_owned(), json!(grids).to_string()),
        ]);
        Ok(Self { tensors, layout, prompts: Vec::new(), metadata })
    }
}
