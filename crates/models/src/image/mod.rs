//! Image decoding and preprocessing, equal to Pillow's and `transformers`'.
//!
//! Published accuracies depend on a decoder, a resampler and a crop, so all three are reproduced to the bit:
//!
//! * [`Rgb8::open`] reads JPEG and PNG files as Pillow 13's `Image.open(f).convert("RGB")` does. EXIF orientation and
//!   colour profiles are ignored and alpha is dropped, not composited. [`Rgb8::decode_upright`] turns the image as its
//!   [`Orientation`] says.
//! * [`resize()`] is Pillow's resampler: coefficients in 22-bit fixed point, an 8-bit image between the two passes.
//! * [`center_crop`] and [`Preprocessor`] follow the Pillow-backed image processors of `transformers` 5.23 (the classes
//!   whose names end in `Pil`), odd margins and `float32` rounding included. DINOv3 has a processor of torchvision only,
//!   which resizes float samples; [`Preprocessor`] equals it within 4e-6. Networks of timm have the transform that timm
//!   makes of their `pretrained_cfg`.
//!
//! All functions are single-threaded; callers process one image per thread.

mod antialias;
mod crop;
mod decode;
mod error;
mod jpeg;
mod orientation;
mod pixels;
mod png;
mod preprocess;
mod processor_config;
mod resize;
#[cfg(test)]
mod tests;
mod timm_transform;

pub use crop::center_crop;
pub use decode::{FORMAT_BYTES, format_of};
pub use error::ImageError;
pub use orientation::Orientation;
pub use pixels::Rgb8;
pub use png::with_end as png_with_end;
pub use preprocess::{Preprocessor, ResizeRule};
pub use resize::{Resample, nearest_positions, resize};
pub(crate) use timm_transform::is_of_timm;
