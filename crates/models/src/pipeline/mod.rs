//! What whole pipelines have in common as diffusers stores them: `model_index.json` and a folder for each component.
//!
//! The components of a pipeline are too large to stand side by side on most devices, so a pipeline holds none of its
//! networks. It loads one when it is needed and lets it go when its work is done.

mod index;
mod parts;
mod pictures;
mod texts;

pub(crate) use index::{Content, Part};
pub use index::{PipelineKind, is_pipeline};
pub(crate) use parts::Parts;
pub use parts::Phase;
pub(crate) use pictures::Grain;
pub use pictures::{Draw, PictureEncoder, pixels, rgb};
pub(crate) use texts::one_by_one;
