//! What whole pipelines have in common as diffusers stores them: `model_index.json` and a folder for each component.
//!
//! The components of a pipeline are too large to stand side by side on most devices, so a pipeline holds none of its
//! networks. It loads one when it is needed and lets it go when its work is done.
//!
//! Experiments know no pipeline by name. They ask a [`NoisePipeline`] or a [`JointPipeline`], by what its network predicts and
//! how it reads the text; another network of either kind serves them by implementing the trait.

mod index;
mod joint;
mod parts;
mod pictures;
mod predict;
mod sample;
mod texts;

pub(crate) use index::{Content, Part};
pub use index::{PipelineKind, is_pipeline};
pub use joint::{JointNetwork, JointPass, JointPipeline, PromptTokens};
pub(crate) use parts::Parts;
pub use parts::Phase;
pub(crate) use pictures::Granularity;
pub use pictures::{Draw, ImageDecoder, ImageEncoder, pixels, rgb, to_pixels};
pub use predict::{NoiseInput, NoisePipeline, NoisePredictor};
pub use sample::{ClassifierFree, Guide, Pass, Start, sample};
pub use texts::EncodedText;
pub(crate) use texts::one_by_one;
