//! A whole FLUX pipeline against diffusers: from text to image, and one pass over an image.
//!
//! `tools/golden_flux_pipeline.py` makes the fixture.

mod directory;
mod kontext;
mod passes;

use models::flux::pipeline::{FluxPipeline, Generation};
use models::{Device, Kind};

use crate::golden::fixture;

/// As in the tool.
const LENGTH: usize = 12;
const SIZE: (i64, i64) = (24, 16);
const GENERATION: Generation = Generation { steps: 3, guidance: Some(2.5), length: LENGTH };

fn prompts() -> Vec<String> {
    vec!["a photo of a cat".into(), "two dogs and the lake, in the rain".into()]
}

fn open(kind: Kind) -> models::Result<FluxPipeline> {
    FluxPipeline::open(&fixture("flux-pipeline"), kind, Device::Cpu)
}
