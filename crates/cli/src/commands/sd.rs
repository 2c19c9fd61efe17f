//! Options of Stable Diffusion pipelines, which `attend` and `show` have in common.

use std::path::Path;

use models::capture::SdCaptureOptions;
use models::pipeline::PipelineKind;

use crate::args::FluxArgs;
use crate::failure::Failure;

/// Fails if a timestep is given to another network. An absent directory is reported when it is opened.
pub(super) fn refuse_timestep(
    timestep: Option<u32>,
    kind: Option<PipelineKind>,
    dir: &Path,
) -> Result<(), Failure> {
    if timestep.is_some() && kind != Some(PipelineKind::StableDiffusion) && dir.is_dir() {
        return Err(Failure::usage(format!(
            "--timestep is for Stable Diffusion pipelines, and {} is none; leave it out",
            dir.display()
        )));
    }
    Ok(())
}

/// Fails if an option that applies to FLUX pipelines only is given.
pub(super) fn refuse_flux(dir: &Path, flux: &FluxArgs) -> Result<(), Failure> {
    match flux.given_beside_dtype() {
        None => Ok(()),
        Some(option) => Err(Failure::usage(format!(
            "{option} is for FLUX pipelines, and {} is one of Stable Diffusion; leave it out",
            dir.display()
        ))),
    }
}

/// Returns the capture options for an image of this size and this prompt.
pub(super) fn capture_options(
    prompt: Option<&str>,
    timestep: Option<u32>,
    image_size: Option<usize>,
) -> SdCaptureOptions {
    SdCaptureOptions {
        prompt: prompt.unwrap_or_default().into(),
        timestep: timestep.unwrap_or(SdCaptureOptions::USUAL_TIMESTEP),
        image_size,
    }
}
