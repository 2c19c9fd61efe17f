//! The page of `tokenrank show`: one HTML file with the picture, the maps and the program that walks them.
//!
//! Nothing is loaded from anywhere: pictures are data URIs, matrices base64, and the browser computes bounces and
//! TokenRank itself, by the definitions of `markov-core`, from whatever token is clicked.

mod markup;
mod matrices;

use std::ops::Range;

use models::TokenLayout;
use ndarray::Array2;

/// What the page shows: one image through one network.
pub struct Page<'a> {
    /// Heading, such as `vit-tiny-patch16-224 · tench.JPEG`.
    pub title: String,
    /// Settings and findings: terms with their descriptions.
    pub facts: Vec<(String, String)>,
    /// Content of a PNG file: what the network saw, after resize and crop.
    pub picture: &'a [u8],
    /// What the states of the chains are; their number is the side of every map.
    pub layout: TokenLayout,
    /// Share of attention in the teleporting chain, of steady states and bounces alike.
    pub alpha: f64,
    /// Start tokens among the states when the page opens, counted from 0, each as likely as the others.
    pub start: Range<usize>,
    /// What they are called together, where they are several.
    pub start_name: String,
    /// What the text tokens spell, padding behind them left out; empty where there is no text.
    pub text: Vec<String>,
    /// How many bounces are shown.
    pub bounces: usize,
    /// Layers in execution order.
    pub layers: Vec<PageLayer>,
    /// Further pictures, in order.
    pub figures: Vec<Figure>,
}

/// The maps of one attention layer: row-stochastic, `[n, n]`.
pub struct PageLayer {
    /// Such as `block.3`.
    pub name: String,
    /// The mean of the heads.
    pub mean: Array2<f32>,
    /// Every head; none where they are too large to embed.
    pub heads: Vec<Array2<f32>>,
    /// λ₂ of every head, whether its map is embedded or not.
    pub lambda2: Vec<f64>,
}

/// A picture that stands beside the page as a file.
pub struct Figure {
    /// File name, relative to the page.
    pub file: String,
    /// What it shows, in a few words.
    pub title: String,
    /// What to see in it.
    pub caption: String,
    /// Content of the PNG file.
    pub png: Vec<u8>,
}

impl Page<'_> {
    /// The page, complete in itself. It holds 2.7 bytes for each entry of each map.
    pub fn to_html(&self) -> String {
        markup::page(self).into_string()
    }
}
