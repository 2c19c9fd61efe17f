//! Stable Diffusion 1 as diffusers stores it: the UNet that predicts noise, and whole pipelines.
//!
//! Every attention layer of the UNet is a [`Stream::Unet`](crate::Stream::Unet) of its own under the checkpoint's path, so
//! a probe picks the ones it wants; self-attention has maps of image tokens, cross-attention maps of image tokens and text
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
