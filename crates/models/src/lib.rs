//! Networks loaded from Hugging Face directories, with attention that probes can observe.
//!
//! A model directory has the files that the hub serves: `config.json`, safetensors weights, `preprocessor_config.json`.
//! Every network computes its attention through [`attend::attend`], so a [`attend::AttentionProbe`] sees the maps of
//! any of them without hooks or copies of the network.

pub mod array_file;
pub mod attend;
pub mod blur;
pub mod capture;
pub mod clip;
mod config_file;
pub mod device;
pub mod diffusion;
mod dinov2;
mod dinov3;
mod error;
mod error_kind;
pub mod features;
pub mod files;
mod finite;
pub mod flow_match;
pub mod flux;
mod hex;
pub mod hub;
mod identity;
pub mod image;
pub mod inception;
mod layers;
pub mod limits;
pub mod matrix_file;
pub mod memory;
mod nn;
pub mod noise;
mod not_finite;
pub mod notes;
mod perturbation;
pub mod pipeline;
pub mod probe;
mod pytorch;
pub mod sd;
mod siglip;
mod site;
pub mod t5;
mod tensor_entry;
mod tensor_file;
mod timm;
pub mod vae;
pub mod vision;
mod vit;
mod weights;
mod words;

pub use error::{Error, OutOfMemory, Result};
pub use error_kind::ErrorKind;
pub use escape;
pub use hex::hex;
pub use identity::model_sha256;
pub use layers::LayerSelection;
pub use nn::times_transposed;
pub use not_finite::NotFinite;
pub use perturbation::{Perturbation, Perturbed};
pub use site::{Site, Stream, TokenKind, TokenLayout, UnetLayer, UnetPart};
pub use tch::{Device, Kind};
pub use vision::{HeadSource, LoadOptions, VisionConfig, VisionFamily, VisionModel};
pub use weights::{Weights, headers_only, wanted_tensors, weight_files};

/// Supported network architectures, each with the classes it covers.
pub const ARCHITECTURES: [(&str, &str); 8] = [
    ("vit", "ViTForImageClassification, ViTModel (DINO): any size, patch and resolution"),
    ("dinov2", "Dinov2ForImageClassification, Dinov2Model, with or without registers"),
    ("dinov3", "DINOv3ViTModel: any size, with or without registers"),
    ("clip", "CLIPModel, CLIPVisionModelWithProjection, CLIPVisionModel: the image tower"),
    (
        "siglip",
        "SiglipModel, SiglipVisionModel, SiglipForImageClassification, also of SigLIP 2 with a fixed resolution: the image tower",
    ),
    (
        "timm",
        "plain vision transformers of timm (ViT, DeiT, DINO, DINOv2, CLIP, SigLIP), as the hub has them or as transformers' TimmWrapper saves them",
    ),
    (
        "flux",
        "FluxPipeline (schnell, dev) and others of its parts, and FluxKontextPipeline for attend and show: transformer, T5, CLIP text, autoencoder and schedule as diffusers saves them",
    ),
    (
        "stable-diffusion",
        "StableDiffusionPipeline (1 and 2) and others of its parts: UNet, CLIP text, autoencoder and schedule as diffusers saves them",
    ),
];

/// Switches gradients off until the returned guard is dropped. No code in this workspace trains a network.
pub fn no_grad() -> impl Drop {
    tch::no_grad_guard()
}
