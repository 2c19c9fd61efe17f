//! The content of the page.

use ndarray::Array2;

use crate::layout::Layout;

/// Maximum number of bounces, for which the strip has room.
pub const MOST_BOUNCES: usize = 30;

/// Content of the page: the chains of one network on one input. [`Page::to_html`] writes it.
#[derive(Debug, Clone)]
pub struct Page {
    /// Heading, such as `vit-tiny-patch16-224 · tench.JPEG`.
    pub title: String,
    /// Settings and findings: terms with their descriptions.
    pub facts: Vec<(String, String)>,
    /// Content of a PNG file with the part of the image that the patches cover, as the network saw it. Without one, the
    /// page shows plain patches.
    pub image: Option<Vec<u8>>,
    /// Content of a PNG file with the reference image, as the network saw it. Without one, the page shows plain patches for
    /// the tokens of [`Part::Reference`](crate::Part::Reference).
    pub reference: Option<Vec<u8>>,
    /// The tokens that are the states of the chains; their number is the side of every map.
    pub layout: Layout,
    /// Weight α of attention in the teleporting chain, for steady states and bounces: above 0, at most 1.
    pub alpha: f64,
    /// The distribution that walks start from when the page opens.
    pub start: Start,
    /// Number of bounces shown, 1 to [`MOST_BOUNCES`].
    pub bounces: usize,
    /// Layers in execution order. The page embeds as many of their maps as its size allows.
    pub layers: Vec<Layer>,
    /// Word for several layers in sentences: `layers`, or `blocks` for networks whose parts are called so.
    pub layers_word: String,
    /// Further figures, in order.
    pub figures: Vec<Figure>,
}

/// Start of the walks when the page opens.
#[derive(Debug, Clone, PartialEq)]
pub enum Start {
    /// One token of the layout, from 0.
    Token(usize),
    /// Several tokens with equal probabilities.
    Even {
        /// Name of the start, such as `“a word”`.
        name: String,
        /// The tokens, from 0.
        tokens: Vec<usize>,
    },
    /// Any distribution.
    Weighted {
        /// Name of the start.
        name: String,
        /// The probability of every token, `[n]`, summing to 1.
        weights: Vec<f64>,
    },
}

/// The maps of one attention layer: row-stochastic, `[n, n]`. Rows are normalised, so rounding in their sums is harmless.
#[derive(Debug, Clone, PartialEq)]
pub struct Layer {
    /// Name such as `block.3`.
    pub name: String,
    /// The mean of the heads.
    pub mean: Array2<f32>,
    /// The maps of all heads, or of none.
    pub heads: Vec<Array2<f32>>,
    /// λ₂ of every head, even if its map is not given; NaN where it is not known. Empty if none is known.
    pub lambda2: Vec<f64>,
}

/// A figure, which is also a file in the folder of the page.
#[derive(Debug, Clone, PartialEq, Eq)]
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

impl Layer {
    /// Returns the number of heads that are known by their map or by λ₂.
    pub(crate) fn head_count(&self) -> usize {
        self.heads.len().max(self.lambda2.len())
    }
}
