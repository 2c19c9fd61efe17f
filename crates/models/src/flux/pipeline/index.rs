//! The files of a pipeline: which there are, whether all are there, and whether they fit together.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::FluxPipeline;
use crate::clip::ClipTextEncoder;
use crate::error::{Error, Result};
use crate::weights::weight_files;

const INDEX: &str = "model_index.json";
const CLASS_NAME: &str = "FluxPipeline";

/// A part of the pipeline, in the order of diffusers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Component {
    /// Noise levels.
    Scheduler,
    /// CLIP's text tower, which makes one vector of a prompt.
    ClipText,
    /// Its tokenizer.
    ClipTokenizer,
    /// The T5 encoder, which makes a vector of each token of a prompt.
    T5,
    /// Its tokenizer.
    T5Tokenizer,
    /// FLUX itself.
    Transformer,
    /// The autoencoder.
    Vae,
}

impl Component {
    /// All of them.
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

    /// Whether it is a network.
    pub fn has_weights(self) -> bool {
        matches!(self, Self::ClipText | Self::T5 | Self::Transformer | Self::Vae)
    }

    /// The classes that `model_index.json` may name for it.
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

    /// Groups of files besides weights, all of a group being needed and one group being enough.
    fn needed(self) -> &'static [&'static [&'static str]] {
        match self {
            Self::Scheduler => &[&["scheduler_config.json"]],
            Self::ClipTokenizer => &[&["vocab.json", "merges.txt"], &["tokenizer.json"]],
            Self::T5Tokenizer => &[&["tokenizer.json"]],
            Self::ClipText | Self::T5 | Self::Transformer | Self::Vae => &[&["config.json"]],
        }
    }

    /// Files besides weights that are read where they are there.
    fn read(self) -> &'static [&'static str] {
        match self {
            Self::Scheduler => &["scheduler_config.json"],
            Self::ClipTokenizer | Self::T5Tokenizer => &[
                "tokenizer_config.json",
                "special_tokens_map.json",
                "added_tokens.json",
                "tokenizer.json",
                "vocab.json",
                "merges.txt",
            ],
            Self::ClipText | Self::T5 | Self::Transformer | Self::Vae => &["config.json"],
        }
    }

    /// What of it is missing below `dir`, as a list of paths and reasons.
    fn missing(self, dir: &Path) -> Vec<String> {
        let folder = dir.join(self.folder());
        if !folder.is_dir() {
            return vec![format!("{}/", self.folder())];
        }
        let absent = |file: &&&str| !folder.join(file).is_file();
        let lacks =
            |group: &&[&str]| group.iter().filter(absent).map(|file| self.path(file)).collect::<Vec<_>>();
        // Of several ways to store a component, the one that is nearest to be complete.
        let mut missing = self.needed().iter().map(lacks).min_by_key(Vec::len).unwrap_or_default();
        if self.has_weights()
            && let Err(error) = weight_files(&folder)
        {
            missing.push(match error {
                Error::Directory { reason, .. } => format!("{} ({reason})", self.path("weights")),
                other => other.to_string(),
            });
        }
        missing
    }

    fn path(self, file: &str) -> String {
        format!("{}/{file}", self.folder())
    }
}

impl fmt::Display for Component {
    /// The name of its folder.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.folder())
    }
}

/// Whether `dir` has the file that tells a pipeline from a single network.
pub(super) fn is_there(dir: &Path) -> bool {
    dir.join(INDEX).is_file()
}

/// Checks that `dir` is a FLUX pipeline and that no file is missing.
pub(super) fn check(dir: &Path) -> Result<()> {
    let path = dir.join(INDEX);
    if !path.is_file() {
        let reason = format!(
            "no {INDEX}; a FLUX pipeline is a directory as diffusers saves it, with {INDEX} and the folders {}",
            Component::ALL.map(Component::folder).join(", ")
        );
        return Err(Error::Directory { path: dir.into(), reason });
    }
    let text = std::fs::read_to_string(&path).map_err(|source| Error::Read { path: path.clone(), source })?;
    let refuse = |reason: String| Error::Directory { path: path.clone(), reason };
    let index: BTreeMap<String, Value> = serde_json::from_str(&text)
        .map_err(|e| refuse(format!("not the index of a pipeline: {e}; download it again")))?;
    let class = index.get("_class_name").and_then(Value::as_str).unwrap_or("absent");
    if class != CLASS_NAME {
        return Err(refuse(format!(
            "_class_name is `{class}`; this reader runs {CLASS_NAME}, which is FLUX.1-schnell and FLUX.1-dev"
        )));
    }
    for component in Component::ALL {
        // ["library", "class"]
        let class = index.get(component.folder()).and_then(|entry| entry.get(1)?.as_str());
        if !class.is_some_and(|class| component.classes().contains(&class)) {
            let (class, known) = (class.unwrap_or("absent"), component.classes()[0]);
            return Err(refuse(format!("{component} is `{class}`; this reader runs {known} there")));
        }
    }
    let missing: Vec<String> =
        Component::ALL.into_iter().flat_map(|component| component.missing(dir)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let reason = format!("lacks {}; download the pipeline's safetensors files whole", missing.join(", "));
    Err(Error::Directory { path: dir.into(), reason })
}

/// Every file that decides what the pipeline computes.
pub(super) fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut files = vec![dir.join(INDEX)];
    for component in Component::ALL {
        let folder = dir.join(component.folder());
        files.extend(component.read().iter().map(|file| folder.join(file)).filter(|path| path.is_file()));
        if component.has_weights() {
            files.extend(weight_files(&folder)?);
        }
    }
    Ok(files)
}

impl FluxPipeline {
    /// Checks that what one network makes is what the next one reads.
    pub(super) fn check_fit(&self) -> Result<()> {
        let (context, width) = ClipTextEncoder::shape(&self.folder(Component::ClipText))?;
        let (vae, flux) = (&self.vae, &self.transformer);
        let per_token = super::LATENTS_PER_TOKEN * super::LATENTS_PER_TOKEN;
        for (maker, made, reader, read) in [
            (
                "text_encoder hidden_size",
                width,
                "transformer pooled_projection_dim",
                flux.pooled_projection_dim,
            ),
            (
                "text_encoder_2 d_model",
                self.t5.d_model,
                "transformer joint_attention_dim",
                flux.joint_attention_dim,
            ),
            (
                "vae latent_channels, four of a token,",
                per_token * vae.latent_channels,
                "transformer in_channels",
                flux.in_channels,
            ),
            (
                "transformer channels of an answer",
                flux.answer_channels(),
                "its in_channels",
                flux.in_channels,
            ),
        ] {
            if made != read {
                let reason = format!(
                    "{maker} {made} and {reader} {read} do not fit; take all folders from one pipeline"
                );
                return Err(Error::Directory { path: self.dir.clone(), reason });
            }
        }
        let length = self.clip_tokenizer.context_length() as i64;
        if length > context {
            let reason = format!(
                "tokenizer makes texts of {length} tokens (model_max_length), text_encoder reads {context} \
                 (max_position_embeddings); take both folders from one pipeline"
            );
            return Err(Error::Directory { path: self.dir.clone(), reason });
        }
        Ok(())
    }
}
