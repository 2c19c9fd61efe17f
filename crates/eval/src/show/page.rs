//! The page: everything `tokenrank show` found, in one HTML file.

use models::TokenLayout;
use ndarray::Array2;

/// What the page shows: one image through one network.
pub struct Page<'a> {
    /// Network and image.
    pub title: String,
    /// Settings and findings for a definition list.
    pub facts: Vec<(String, String)>,
    /// Content of a PNG file: what the network saw, after resize and crop.
    pub picture: &'a [u8],
    /// What the states of the chains are.
    pub layout: TokenLayout,
    /// Share of attention in the teleporting chain.
    pub alpha: f64,
    /// State of the chain that bounces start from.
    pub token: usize,
    /// Bounces of the strip.
    pub bounces: usize,
    /// The layers, in order.
    pub layers: Vec<PageLayer>,
    /// The PNG pictures, in order.
    pub figures: Vec<Figure>,
}

/// One layer's chains.
pub struct PageLayer {
    /// Its name.
    pub name: String,
    /// Mean of its heads, `[n, n]`, rows summing to 1.
    pub mean: Array2<f32>,
    /// Its heads, `[n, n]` each; empty where they are too large for a page.
    pub heads: Vec<Array2<f32>>,
    /// λ₂ of each head.
    pub lambda2: Vec<f64>,
}

/// A picture of the folder.
pub struct Figure {
    /// Its file name.
    pub file: String,
    /// What it shows.
    pub title: String,
    /// How to read it.
    pub caption: String,
    /// Content of the file.
    pub png: Vec<u8>,
}

impl Page<'_> {
    /// The file's content.
    pub fn to_html(&self) -> String {
        format!("<!doctype html><meta charset=\"utf-8\"><title>{}</title>", self.title)
    }
}
