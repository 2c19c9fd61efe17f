//! The properties that decide which images, heads and files fit a vision transformer.

use super::stored::Names;
use crate::limits;

/// The shape of a network and its tensor names, from its configuration only.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    /// Number of blocks.
    pub(crate) depth: usize,
    /// Width of a token.
    pub(crate) width: i64,
    /// Heads per block.
    pub(crate) heads: i64,
    /// Trained image size (height, width) in pixels.
    pub(crate) image_size: (i64, i64),
    /// Patch size (height, width) in pixels.
    pub(crate) patch_size: (i64, i64),
    /// Colour channels.
    pub(crate) channels: i64,
    /// Whether there is a CLS token, which comes first.
    pub(crate) cls: bool,
    /// Number of register tokens.
    pub(crate) registers: i64,
    /// Number of classes if the files have a classifier; `None` for networks that never have one.
    pub(crate) classes: Option<i64>,
    /// Width of the space shared with text if the files have the projection; `None` for networks that never have one.
    pub(crate) projection: Option<i64>,
    /// Added to the variance in every layer norm.
    pub(crate) eps: f64,
    /// Further sizes, each with its name in the configuration.
    pub(crate) inner_sizes: Vec<(&'static str, i64)>,
    /// Tensor names.
    pub(crate) names: Names,
}

impl Facts {
    /// Returns the patches (rows, columns) of the trained image size. A remainder at the edge is cut.
    pub(crate) fn grid(&self) -> (i64, i64) {
        let ((height, width), (patch_h, patch_w)) = (self.image_size, self.patch_size);
        (height / patch_h, width / patch_w)
    }

    /// Returns the first contradiction or invalid number, if any.
    pub(crate) fn contradiction(&self) -> Option<String> {
        let Self { depth, width, heads, channels, eps, .. } = *self;
        let ((image_h, image_w), (patch_h, patch_w)) = (self.image_size, self.patch_size);
        let sizes = [
            ("hidden_size", width),
            ("num_attention_heads", heads),
            ("image_size", image_h.min(image_w)),
            ("image_size", image_h.max(image_w)),
            ("patch_size", patch_h.min(patch_w)),
            ("patch_size", patch_h.max(patch_w)),
        ];
        let absurd = limits::check(&limits::BLOCKS, [("num_hidden_layers", limits::count(depth))])
            .and_then(|()| limits::check(&limits::SIZES, sizes))
            .and_then(|()| limits::check(&limits::SIZES, self.inner_sizes.iter().copied()));
        if let Err(reason) = absurd {
            Some(reason)
        } else if width % heads != 0 {
            Some(format!("hidden_size {width} is not a multiple of num_attention_heads {heads}"))
        } else if !(eps.is_finite() && eps >= 0.0) {
            Some(format!("layer_norm_eps is {eps}; it must be a finite number ≥ 0"))
        } else if image_h < patch_h || image_w < patch_w {
            Some(format!("image_size {image_h}x{image_w} is smaller than patch_size {patch_h}x{patch_w}"))
        } else if channels != 3 {
            Some(format!("num_channels is {channels}; images are read as RGB, so it must be 3"))
        } else {
            None
        }
    }
}
