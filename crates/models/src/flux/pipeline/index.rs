//! The components of a pipeline, and whether they fit together.

use std::fmt;

use super::FluxPipeline;
use crate::error::Result;
use crate::pipeline::{Content, Part, PipelineKind};

/// A part of the pipeline, in the order of diffusers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Component {
    /// Noise levels.
    Scheduler,
    /// CLIP's text tower, which encodes a prompt as one vector.
    ClipText,
    /// Its tokenizer.
    ClipTokenizer,
    /// The T5 encoder, which encodes each token of a prompt as a vector.
    T5,
    /// Its tokenizer.
    T5Tokenizer,
    /// The FLUX transformer.
    Transformer,
    /// The autoencoder.
    Vae,
}

impl Component {
    /// All components.
    pub const ALL: [Self; 7] = [
        Self::Scheduler,
        Self::ClipText,
        Self::ClipTokenizer,
        Self::T5,
        Self::T5Tokenizer,
        Self::Transformer,
        Self::Vae,
    ];

    /// Its folder in the directory, and its key in `model_index.json`.
    pub fn folder(self) -> &'static str {
        match self {
            Self::Scheduler => "scheduler",
            Self::ClipText => "text_encoder",
            Self::ClipTokenizer => "tokenizer",
            Self::T5 => "text_encoder_2",
            Self::T5Tokenizer => "tokenizer_2",
            Self::Transformer => "transformer",
            Self::Vae => "vae",
        }
    }
}

impl Part for Component {
    const KIND: PipelineKind = PipelineKind::Flux;
    const PARTS: &'static [Self] = &Self::ALL;

    fn folder(self) -> &'static str {
        self.folder()
    }

    fn content(self) -> Content {
        match self {
            Self::Scheduler => Content::Scheduler,
            Self::ClipTokenizer => Content::ClipTokenizer,
            Self::T5Tokenizer => Content::T5Tokenizer,
            Self::ClipText | Self::T5 | Self::Transformer | Self::Vae => Content::Network,
        }
    }

    fn classes(self) -> &'static [&'static str] {
        match self {
            Self::Scheduler => &["FlowMatchEulerDiscreteScheduler"],
            Self::ClipText => &["CLIPTextModel"],
            Self::ClipTokenizer => &["CLIPTokenizer", "CLIPTokenizerFast"],
            Self::T5 => &["T5EncoderModel"],
            Self::T5Tokenizer => &["T5TokenizerFast", "T5Tokenizer"],
            Self::Transformer => &["FluxTransformer2DModel"],
            Self::Vae => &["AutoencoderKL"],
        }
    }
}

impl fmt::Display for Component {
    /// The name of its folder.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.folder())
    }
}

impl FluxPipeline {
    /// Checks that the output sizes of networks equal the input sizes of the networks that read them.
    pub(super) fn check_fit(&self) -> Result<()> {
        let width = self.parts.check_clip(Component::ClipText, &self.clip_tokenizer)?;
        let (vae, flux) = (&self.vae, &self.transformer);
        let per_token = super::LATENTS_PER_TOKEN * super::LATENTS_PER_TOKEN;
        self.parts.check_fit([
            (
                ("text_encoder hidden_size", width),
                ("transformer pooled_projection_dim", flux.pooled_projection_dim),
            ),
            (
                ("text_encoder_2 d_model", self.t5.d_model),
                ("transformer joint_attention_dim", flux.joint_attention_dim),
            ),
            (
                ("vae latent_channels, four of a token,", per_token * vae.latent_channels),
                ("transformer in_channels", flux.in_channels),
            ),
            (
                ("transformer channels of an answer", flux.answer_channels()),
                ("its in_channels", flux.in_channels),
            ),
        ])
    }
}
