//! Code that all pipelines in diffusers' layout share: `model_index.json` and a folder for each component.
//!
//! The components of a pipeline are too large to be on most devices at the same time. So a pipeline loads each network
//! when it is needed and unloads it afterwards.
//!
//! Experiments do not name pipelines. They use a [`NoisePipeline`] or a [`JointPipeline`], depending on what the
//! network predicts and how it reads the text. A further network works with the experiments if it implements one of
//! these traits.

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
pub use sample::{ClassifierFree, Guide, Pass, Prediction, Start, sample};
pub use texts::EncodedText;
pub(crate) use texts::one_by_one;
