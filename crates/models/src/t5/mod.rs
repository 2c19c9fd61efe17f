//! The encoder of T5 v1.1: "Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer" (arXiv
//! 1910.10683), the text encoder of FLUX, with its tokenizer.

mod block;
mod config;
mod encoder;
mod position;
mod tokenizer;

pub use config::{FeedForward, T5Config};
pub use encoder::T5Encoder;
pub use tokenizer::{TokenLookup, Tokenizer};
