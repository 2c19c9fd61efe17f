//! Errors of this crate. Each message is one short paragraph.

/// Result type of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Reason why a page cannot be written: its content contradicts itself.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A layout without tokens.
    #[error("the layout has no tokens: a chain needs at least one state")]
    NoStates,
    /// A page without layers.
    #[error("there are no layers: the page needs the map of at least one")]
    NoLayers,
    /// More than one grid of patches.
    #[error("the layout has {0} grids of patches: the page shows at most one")]
    Grids(usize),
    /// An image without patches that it could lie under.
    #[error(
        "an image was given, but the layout has no grid of patches; leave the image out or describe its patches"
    )]
    NoGrid,
    /// More than one reference image.
    #[error("the layout has {0} reference images: the page shows at most one")]
    References(usize),
    /// A reference image without the patches that belong to it.
    #[error(
        "a reference image needs a layout with patches of an image and of the reference; describe both or leave the \
         reference out"
    )]
    NoReference,
    /// An image or figure in another format.
    #[error("{what} is not a PNG file: its first bytes are {found}")]
    NotPng {
        /// The image or figure.
        what: String,
        /// The first bytes, in hexadecimal.
        found: String,
    },
    /// A map whose sides are not the number of tokens.
    #[error(
        "{map} is {rows} × {columns}, but the layout has {states} tokens: every map must be {states} × {states}"
    )]
    Shape {
        /// Layer and head.
        map: String,
        /// Number of rows found.
        rows: usize,
        /// Number of columns found.
        columns: usize,
        /// Number of tokens of the layout.
        states: usize,
    },
    /// A map that is not a transition matrix.
    #[error("{map}: {source}")]
    Matrix {
        /// Layer and head.
        map: String,
        /// The reason.
        source: markov_core::Error,
    },
    /// Values of λ₂ and maps of different numbers of heads.
    #[error(
        "layer {layer} has λ₂ of {lambda2} heads and maps of {heads}: the numbers must be equal, or one of them 0"
    )]
    Heads {
        /// Name of the layer.
        layer: String,
        /// Number of values of λ₂.
        lambda2: usize,
        /// Number of maps.
        heads: usize,
    },
    /// A setting outside its range.
    #[error("{what} must lie {range}, found {found}")]
    Setting {
        /// Name of the setting.
        what: &'static str,
        /// The range in words.
        range: String,
        /// The value found.
        found: String,
    },
    /// A start that is not a distribution over the tokens.
    #[error("the start is not a distribution over the {states} tokens: {reason}")]
    Start {
        /// Number of tokens of the layout.
        states: usize,
        /// The problem.
        reason: String,
    },
}
