//! CLIP: "Learning Transferable Visual Models From Natural Language Supervision" (arXiv 2103.00020).

mod config;
mod vision;

pub(crate) use config::ClipConfig;
pub use config::ClipVisionConfig;
pub(crate) use vision::load;
