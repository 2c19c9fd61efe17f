//! Options of FLUX pipelines, which `attend` and `show` have in common.

use std::path::Path;

use models::flux::FluxLayers;
use models::flux::pipeline::CaptureOptions;
use models::pipeline::PipelineKind;
use models::t5::TokenLookup;
use models::{Device, Kind};

use crate::args::{Dtype, FluxArgs, Lookup};
use crate::failure::Failure;

impl FluxArgs {
    /// Returns the first given option that applies to all FLUX pipelines and to no other network.
    pub(crate) fn given_beside_dtype(&self) -> Option<&'static str> {
        let Self { noise_step, noise_steps, text_tokens, seed, reference: _, reference_size: _, dtype: _ } =
            self;
        [
            (noise_step.is_some(), "--noise-step"),
            (noise_steps.is_some(), "--noise-steps"),
            (text_tokens.is_some(), "--text-tokens"),
            (seed.is_some(), "--seed"),
        ]
        .into_iter()
        .find_map(|(given, option)| given.then_some(option))
    }

    /// Returns the capture options for an image of this size and this prompt.
    pub(crate) fn capture_options(&self, prompt: &str, image_size: Option<usize>) -> CaptureOptions {
        CaptureOptions {
            prompt: prompt.into(),
            text_tokens: self.text_tokens,
            image_size,
            steps: self.noise_steps.unwrap_or(4),
            step: self.noise_step.unwrap_or(2),
            seed: self.seed.unwrap_or(0),
        }
    }

    /// Returns the type in which networks compute on a device.
    pub(crate) fn kind(&self, device: Device) -> Kind {
        match (self.dtype, device) {
            (Some(Dtype::F32), _) | (None, Device::Cpu) => Kind::Float,
            (Some(Dtype::Bf16), _) | (None, _) => Kind::BFloat16,
            (Some(Dtype::F16), _) => Kind::Half,
        }
    }
}

impl From<Lookup> for TokenLookup {
    fn from(lookup: Lookup) -> Self {
        match lookup {
            Lookup::First => Self::First,
            Lookup::Mean => Self::Mean,
            Lookup::Last => Self::Last,
            Lookup::ClipIndex => Self::ClipIndex,
        }
    }
}

/// Fails if a reference image is given to another network than FLUX.1 Kontext. An absent directory is reported when it is
/// opened.
pub(super) fn refuse_reference(
    flux: &FluxArgs,
    kind: Option<PipelineKind>,
    dir: &Path,
) -> Result<(), Failure> {
    if flux.reference.is_none() || kind == Some(PipelineKind::FluxKontext) || !dir.is_dir() {
        return Ok(());
    }
    let found = match kind {
        Some(kind) => format!("is a {kind} pipeline"),
        None => "has no model_index.json".to_owned(),
    };
    Err(Failure::usage(format!(
        "--reference is for FLUX.1 Kontext pipelines, and {} {found}; leave it out, or give the directory of a pipeline \
         whose model_index.json names FluxKontextPipeline",
        dir.display()
    )))
}

/// Fails if an option that only pipelines have is given; `others` are those besides the ones of FLUX.
pub(super) fn refuse(dir: &Path, flux: &FluxArgs, others: &[(bool, &'static str)]) -> Result<(), Failure> {
    let other = others.iter().find_map(|(given, option)| given.then_some(*option));
    let of_flux = flux.given_beside_dtype().map(|option| (option, "FLUX pipelines"));
    let of_both = other.or_else(|| flux.dtype.map(|_| "--dtype"));
    match of_flux.or(of_both.map(|option| (option, "FLUX and Stable Diffusion pipelines"))) {
        None => Ok(()),
        // Opening the directory will report this error.
        Some(_) if !dir.is_dir() => Ok(()),
        Some((option, pipelines)) => Err(Failure::usage(format!(
            "{option} is for {pipelines}, and {} has no model_index.json; leave {option} out, or give the directory of \
             a pipeline",
            dir.display()
        ))),
    }
}

/// Returns the error for a number of prompts other than 1.
pub(super) fn one_prompt(found: usize) -> Failure {
    let reason = match found {
        0 => "--prompt is missing: a FLUX pipeline reads an image together with a text; describe the image, or give \
              --prompt \"\" for no text"
            .to_owned(),
        several => format!("--prompt is given {several} times; a FLUX pipeline reads one prompt per image"),
    };
    Failure::usage(reason)
}

/// Parses the selection of blocks.
pub(super) fn layers(spec: Option<&str>) -> Result<FluxLayers, Failure> {
    Ok(spec.map(str::parse).transpose()?.unwrap_or_default())
}
