//! The interactive page of the chains of one network on one input: an image, a text or both.
//!
//! The page is one HTML file that loads nothing. It holds the attention maps, and a script computes bounces from the token
//! that is clicked, and TokenRank, by the definitions of `markov-core`. Patches are shown as maps over the image, the tokens
//! of a text as coloured words. The program `tokenrank` and its Python package write the same page.
//!
//! ```
//! use chain_page::{Layer, Layout, Page, Start, spelling};
//! use ndarray::array;
//!
//! let attention = array![[1.0f32, 0.0, 0.0], [0.5, 0.5, 0.0], [0.2, 0.3, 0.5]];
//! let page = Page {
//!     title: "a language model · 3 tokens".into(),
//!     facts: vec![("network".into(), "one layer of one head".into())],
//!     image: None,
//!     reference: None,
//!     layout: Layout::text(spelling(&["The", "Ġcat", "Ġsat"])),
//!     alpha: 0.99,
//!     start: Start::Token(2),
//!     bounces: 5,
//!     layers: vec![Layer { name: "layer.0".into(), mean: attention, heads: Vec::new(), lambda2: vec![0.5] }],
//!     layers_word: "layers".into(),
//!     figures: Vec::new(),
//! };
//! assert!(page.to_html()?.starts_with("<!DOCTYPE html>"));
//! assert!(page.to_notebook(720)?.starts_with("<iframe"));
//! # Ok::<(), chain_page::Error>(())
//! ```

mod check;
mod colours;
mod content;
mod data;
mod document;
mod error;
mod fit;
pub mod html;
mod lambda;
mod layout;
mod markup;
mod matrices;
mod panels;
mod spelling;

pub use colours::viridis;
pub use content::{Figure, Layer, MOST_BOUNCES, Page, Start};
pub use document::MARK;
pub use error::{Error, Result};
pub use fit::{MAP_BUDGET, NOTEBOOK_BUDGET};
pub use layout::{Layout, Part};
pub use spelling::spelling;
