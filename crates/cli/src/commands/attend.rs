//! `attend`.

use std::path::PathBuf;

use models::capture::{Capture, Prompt};
use models::clip::ClipText;
use models::files;
use models::flux::pipeline::FluxPipeline;
use models::image::Rgb8;
use models::pipeline::PipelineKind;
use models::sd::UnetLayers;
use models::sd::pipeline::SdPipeline;
use models::{LayerSelection, LoadOptions, VisionModel};

use super::{flux, sd};
use crate::args::AttendArgs;
use crate::failure::Failure;

pub(crate) fn attend(args: &AttendArgs) -> Result<(), Failure> {
    let kind = PipelineKind::of(&args.model)?;
    sd::refuse_timestep(args.timestep, kind, &args.model)?;
    flux::refuse_reference(&args.flux, kind, &args.model)?;
    let inputs = [Some(&args.model), Some(&args.image), args.flux.reference.as_ref()];
    if let Some(input) = files::input_at(&args.out, inputs.into_iter().flatten().map(PathBuf::as_path)) {
        return Err(Failure::usage(format!(
            "--out: {} belongs to what is read, as {}; name another file",
            args.out.display(),
            input.display()
        )));
    }
    let capture = match kind {
        Some(PipelineKind::Flux | PipelineKind::FluxKontext) => of_flux(args)?,
        Some(PipelineKind::StableDiffusion) => of_sd(args)?,
        None => of_vision(args)?,
    };
    capture.write(&args.model.display().to_string(), &args.out)?;
    for Prompt { text, tokens, .. } in capture.prompts.iter().filter(|prompt| prompt.truncated) {
        say!("the prompt `{text}` is longer than the context of {tokens} tokens and was truncated");
    }
    say!("{} tensors in {}", capture.tensors.len(), args.out.display());
    Ok(())
}

fn of_vision(args: &AttendArgs) -> Result<Capture, Failure> {
    let AttendArgs { model: dir, image, prompts, layers, image_size, flux, device, .. } = args;
    flux::refuse(dir, flux, &[])?;
    let layers: LayerSelection = layers.as_deref().map(str::parse).transpose()?.unwrap_or_default();
    let options = LoadOptions {
        device: models::device::parse(device)?,
        image_size: image_size.map(|side| (side, side)),
        ..LoadOptions::default()
    };
    // Settings that can be checked without loading weights are checked first.
    layers.resolve(models::VisionConfig::from_dir(dir)?.depth())?;
    if !prompts.is_empty() {
        ClipText::check(dir)?;
    }
    let image = Rgb8::open(image).map_err(models::Error::from)?;
    let model = VisionModel::load(dir, &options)?;
    let mut capture = Capture::vision(&model, &image, &layers)?;
    capture.add_prompts(dir, &options, prompts, &layers)?;
    Ok(capture)
}

fn of_flux(args: &AttendArgs) -> Result<Capture, Failure> {
    let AttendArgs { model: dir, image, prompts, layers, image_size, flux, device, .. } = args;
    let [prompt] = prompts.as_slice() else {
        return Err(flux::one_prompt(prompts.len()));
    };
    let layers = flux::layers(layers.as_deref())?;
    let device = models::device::parse(device)?;
    let pipeline = FluxPipeline::open_any(dir, flux.kind(device), device)?;
    let depth = pipeline.transformer_config();
    let blocks = layers.resolve(depth.num_layers, depth.num_single_layers)?;
    let options = flux.capture_options(prompt, *image_size);
    let mut plan = options.plan(&pipeline)?;
    let image = Rgb8::open(image).map_err(models::Error::from)?;
    if let Some(reference) = &flux.reference {
        let reference = Rgb8::open(reference).map_err(models::Error::from)?;
        plan = plan.with_reference(&reference, flux.reference_size.unwrap_or_default())?;
    }
    let tokenizer = plan.tokenizer()?;
    if tokenizer.truncates(prompt)? {
        say!("the prompt `{prompt}` is longer than {} tokens and was truncated", tokenizer.length());
    }
    Ok(Capture::flux(&plan.prepare(Some(&image))?, blocks)?)
}

fn of_sd(args: &AttendArgs) -> Result<Capture, Failure> {
    let AttendArgs { model: dir, image, prompts, layers, image_size, timestep, flux, device, .. } = args;
    sd::refuse_flux(dir, flux)?;
    let prompt = match prompts.as_slice() {
        [] => None,
        [prompt] => Some(prompt.as_str()),
        several => {
            return Err(Failure::usage(format!(
                "--prompt is given {} times; a Stable Diffusion pipeline reads one prompt per image",
                several.len()
            )));
        }
    };
    let layers: UnetLayers = layers.as_deref().map(str::parse).transpose()?.unwrap_or_default();
    let device = models::device::parse(device)?;
    let pipeline = SdPipeline::open(dir, flux.kind(device), device)?;
    let layers = layers.resolve(pipeline.unet_config())?;
    let options = sd::capture_options(prompt, *timestep, *image_size);
    options.size(&pipeline)?;
    let image = Rgb8::open(image).map_err(models::Error::from)?;
    let tokenizer = pipeline.tokenizer();
    let prompt = &options.prompt;
    if tokenizer.truncates(prompt)? {
        let most = tokenizer.context_length();
        say!("the prompt `{prompt}` is longer than {most} tokens and was truncated");
    }
    Ok(Capture::sd(&pipeline, &image, &options, &layers)?)
}
