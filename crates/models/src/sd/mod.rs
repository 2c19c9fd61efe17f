//! Stable Diffusion 1 as diffusers stores it: the UNet that predicts noise, and whole pipelines.
//!
//! Every attention layer of the UNet is a separate [`Stream::Unet`](crate::Stream::Unet) with the checkpoint's path, so
//! a probe can select layers. Self-attention has maps of image tokens, cross-attention maps of image tokens and text
//! tokens ([`TokenLayout::cross`](crate::TokenLayout::cross)).

mod config;
mod layers;
mod parts;

pub mod pipeline;
mod transformer;
mod unet;

pub use config::UnetConfig;
pub use layers::UnetLayers;
pub use unet::{Unet, UnetBlock, UnetState};
