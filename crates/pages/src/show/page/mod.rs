//! The page of `tokenrank show`: one HTML file with the image, the attention maps and a script that computes the walks.
//!
//! The page loads nothing: images are data URIs, matrices are base64, and the browser computes bounces from the token that is
//! clicked, and TokenRank, by the definitions of `markov-core`.

mod markup;
mod matrices;

use super::Spread;
use models::TokenLayout;
use ndarray::Array2;

/// The mark of the page, by which a folder is known.
pub(super) const MARK: &str = "<meta name=\"generator\" content=\"tokenrank show\">";

/// Content of the page: one image in one network.
pub struct Page<'a> {
    /// Heading, such as `vit-tiny-patch16-224 · tench.JPEG`.
    pub title: String,
    /// Settings and findings: terms with their descriptions.
    pub facts: Vec<(String, String)>,
    /// Content of a PNG file with the image as the network saw it, after resize and crop.
    pub image: &'a [u8],
    /// Kinds of the states of the chains; their number is the side of every map.
    pub layout: TokenLayout,
    /// Weight α of attention in the teleporting chain, for steady states and bounces.
    pub alpha: f64,
    /// The distribution that walks start from when the page opens.
    pub start: Spread,
    /// Name of the start if it is more than one token.
    pub start_name: String,
    /// Spelling of the text tokens without the padding after them; empty if there is no text.
    pub text: Vec<String>,
    /// Number of bounces shown.
    pub bounces: usize,
    /// Layers in execution order.
    pub layers: Vec<PageLayer>,
    /// Further figures, in order.
    pub figures: Vec<Figure>,
}

/// The maps of one attention layer: row-stochastic, `[n, n]`.
pub struct PageLayer {
    /// Name such as `block.3`.
    pub name: String,
    /// The mean of the heads.
    pub mean: Array2<f32>,
    /// The maps of all heads; empty if they are too large to embed.
    pub heads: Vec<Array2<f32>>,
    /// λ₂ of every head, even if its map is not embedded.
    pub lambda2: Vec<f64>,
}

/// A figure, which is also a file in the folder of the page.
pub struct Figure {
    /// File name, relative to the page.
    pub file: String,
    /// Title of a few words.
    pub title: String,
    /// Caption that explains the figure.
    pub caption: String,
    /// Content of the PNG file.
    pub png: Vec<u8>,
}

impl Page<'_> {
    /// Returns the self-contained page. It has 2.7 bytes for each entry of each map.
    pub fn to_html(&self) -> String {
        markup::page(self).into_string()
    }
}
