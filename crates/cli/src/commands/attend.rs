//! `attend`.

use models::capture::Capture;
use models::image::Rgb8;
use models::{LoadOptions, VisionModel};

use crate::args::AttendArgs;
use crate::failure::Failure;

pub fn attend(args: &AttendArgs) -> Result<(), Failure> {
    let AttendArgs { model: dir, image, layers, image_size, device, out } = args;
    let options = LoadOptions {
        device: models::device::parse(device)?,
        image_size: image_size.map(|side| (side, side)),
        ..LoadOptions::default()
    };
    // Cheap refusals first.
    layers.resolve(models::VisionConfig::from_dir(dir)?.depth())?;
    let picture = Rgb8::open(image).map_err(models::Error::from)?;
    let model = VisionModel::load(dir, &options)?;
    let capture = Capture::vision(&model, &picture, layers)?;
    capture.write(&dir.display().to_string(), out)?;
    eprintln!("{} tensors in {}", capture.tensors.len(), out.display());
    Ok(())
}
