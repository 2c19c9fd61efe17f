//! Networks, files and the hub, in one binary. `flux_memory` has one of its own, since it measures its process, and so has
//! `hostile`.
#![allow(unreachable_pub)]

mod attend;
mod clip_tokenizer;
mod flow_match;
mod flux_golden;
mod flux_pipeline;
mod flux_probes;
mod fused;
mod golden;
mod hub;
mod image_golden;
mod inception_golden;
mod matrix_file;
mod npz;
mod samplers;
mod sd_pipeline;
mod t5_golden;
mod timm;
mod tokenizer_attacks;
mod torch_file;
mod unet_golden;
mod vae_golden;
mod vision_golden;
mod weights;
