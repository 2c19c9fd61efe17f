//! The components of a pipeline, and whether they fit together.

use std::fmt;

use super::SdPipeline;
use crate::error::Result;
use crate::pipeline::{Content, Part, PipelineKind};

/// A part of the pipeline, in the order of diffusers. Further parts, such as a safety checker with its feature
/// extractor or an encoder of image prompts, are neither required nor read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Component {
    /// The autoencoder.
    Vae,
    /// CLIP's text tower, which encodes each token of a prompt as a vector.
    ClipText,
    /// Its tokenizer.
    ClipTokenizer,
    /// The network that predicts noise.
    Unet,
    /// Noise levels and the steps between them.
    Scheduler,
}

impl Component {
    /// All components.
    pub const ALL: [Self; 5] = [Self::Vae, Self::ClipText, Self::ClipTokenizer, Self::Unet, Self::Scheduler];

    /// Its folder in the directory, and its key in `model_index.json`.
    pub fn folder(self) -> &'static str {
        match self {
            Self::Vae => "vae",
            Self::ClipText => "text_encoder",
            Self::ClipTokenizer => "tokenizer",
            Self::Unet => "unet",
            Self::Scheduler => "scheduler",
        }
    }
}

impl Part for Component {
    const KIND: PipelineKind = PipelineKind::StableDiffusion;
    const PARTS: &'static [Self] = &Self::ALL;

    fn folder(self) -> &'static str {
        self.folder()
    }

    fn content(self) -> Content {
        match self {
            Self::Scheduler => Content::Scheduler,
            Self::ClipTokenizer => Content::ClipTokenizer,
            Self::Vae | Self::ClipText | Self::Unet => Content::Network,
        }
    }

    fn classes(self) -> &'static [&'static str] {
        match self {
            Self::Vae => &["AutoencoderKL"],
            Self::ClipText => &["CLIPTextModel"],
            Self::ClipTokenizer => &["CLIPTokenizer", "CLIPTokenizerFast"],
            Self::Unet => &["UNet2DConditionModel"],
            // Pipelines are published with many schedulers; `SamplerConfig` refuses unsupported ones.
            Self::Scheduler => &[],
        }
    }
}

impl fmt::Display for Component {
    /// The name of its folder.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.folder())
    }
}

impl SdPipeline {
    /// Checks that the output sizes of networks equal the input sizes of the networks that read them.
    pub(super) fn check_fit(&self) -> Result<()> {
        let width = self.parts.check_clip(Component::ClipText, &self.tokenizer)?;
        let (vae, unet) = (&self.vae, &self.unet);
        self.parts.check_fit([
            (("text_encoder hidden_size", width), ("unet cross_attention_dim", unet.cross_attention_dim)),
            (("vae latent_channels", vae.latent_channels), ("unet in_channels", unet.in_channels)),
            (("unet out_channels", unet.out_channels), ("its in_channels", unet.in_channels)),
        ])
    }
}
