//! `attend`.

use models::capture::{Capture, Prompt};
use models::clip::ClipText;
use models::image::Rgb8;
use models::{LoadOptions, VisionModel};

use crate::args::AttendArgs;
use crate::failure::Failure;

pub fn attend(args: &AttendArgs) -> Result<(), Failure> {
    let AttendArgs { model: dir, image, prompts, layers, image_size, device, out } = args;
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
    let mut capture = Capture::vision(&model, &picture, layers)?;
    capture.add_prompts(dir, &options, prompts, layers)?;
    capture.write(&dir.display().to_string(), out)?;
    for Prompt { text, tokens, .. } in capture.prompts.iter().filter(|prompt| prompt.truncated) {
        eprintln!("the prompt `{text}` is longer than the context of {tokens} tokens and was truncated");
    }
    eprintln!("{} tensors in {}", capture.tensors.len(), out.display());
    Ok(())
}
