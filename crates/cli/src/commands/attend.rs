//! `attend`.

use models::capture::{Capture, Prompt};
use models::clip::ClipText;
use models::flux::pipeline::FluxPipeline;
use models::image::Rgb8;
use models::{LayerSelection, LoadOptions, VisionModel};

use super::flux;
use crate::args::AttendArgs;
use crate::failure::Failure;

pub fn attend(args: &AttendArgs) -> Result<(), Failure> {
    let capture = match FluxPipeline::is_pipeline(&args.model) {
        true => of_flux(args)?,
        false => of_vision(args)?,
    };
    capture.write(&args.model.display().to_string(), &args.out)?;
    for Prompt { text, tokens, .. } in capture.prompts.iter().filter(|prompt| prompt.truncated) {
        eprintln!("the prompt `{text}` is longer than the context of {tokens} tokens and was truncated");
    }
    eprintln!("{} tensors in {}", capture.tensors.len(), args.out.display());
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
    // Cheap refusals first.
    layers.resolve(models::VisionConfig::from_dir(dir)?.depth())?;
    if !prompts.is_empty() {
        ClipText::check(dir)?;
    }
    let picture = Rgb8::open(image).map_err(models::Error::from)?;
    let model = VisionModel::load(dir, &options)?;
    let mut capture = Capture::vision(&model, &picture, &layers)?;
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
    let pipeline = FluxPipeline::open(dir, flux.kind(device), device)?;
    let depth = pipeline.transformer_config();
    let blocks = layers.resolve(depth.num_layers, depth.num_single_layers)?;
    let look = flux.look(prompt, *image_size);
    let plan = look.plan(&pipeline)?;
    let picture = Rgb8::open(image).map_err(models::Error::from)?;
    let tokenizer = plan.tokenizer()?;
    if tokenizer.truncates(prompt)? {
        eprintln!("the prompt `{prompt}` is longer than {} tokens and was truncated", tokenizer.length());
    }
    Ok(Capture::flux(&plan.prepare(Some(&picture))?, blocks)?)
}
