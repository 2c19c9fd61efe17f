//! Inception-v3 as used in the FID literature: the network of 2015-12-05 that TensorFlow published and that
//! torch-fidelity (`FeatureExtractorInceptionV3`) and pytorch-fid ported.
//!
//! It differs from torchvision's network in ways that change the digits of FID, and FIDs are comparable only if they
//! use exactly this network: images are resized as TensorFlow 1 did, average pools leave their padding out, the last
//! block pools by maximum, there are 1,008 classes.

mod blocks;
mod layers;
mod resize;

use std::path::Path;

use tch::{Device, Kind, Tensor};

use crate::error::{Error, Result};
use crate::identity::files_sha256;
use crate::image::Rgb8;
use crate::nn::{Linear, channels_last};
use crate::weights::Weights;
use blocks::Mixed;
use layers::{Conv, Spec};
pub use resize::resize_as_tensorflow_1;

/// Height and width of the network's input in pixels.
pub const SIDE: i64 = 299;
/// Width of the pooled feature.
pub const WIDTH: i64 = 2048;
/// Classes of the head.
pub const CLASSES: i64 = 1008;

/// The network on a device.
///
/// ```no_run
/// use models::inception::Inception;
/// # fn main() -> models::Result<()> {
/// let file = std::path::Path::new("pt_inception-2015-12-05-6726825d.pth");
/// let inception = Inception::load(file, tch::Kind::Float, tch::Device::Cpu)?;
/// let image = models::image::Rgb8::open("sample.png")?;
/// let features = inception.features(&Inception::rgb(&image)?)?;
/// assert_eq!(features.pool.size(), [1, models::inception::WIDTH]);
/// # Ok(()) }
/// ```
pub struct Inception {
    stem: Vec<Stage>,
    blocks: Vec<(&'static str, Mixed)>,
    head: Linear,
    published: bool,
    kind: Kind,
    device: Device,
}

/// SHA-256 of the published weights, `pt_inception-2015-12-05-6726825d.pth`.
const PUBLISHED: &str = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2";

/// A stage before the blocks, with its name.
enum Stage {
    Conv(&'static str, Conv),
    MaxPool(&'static str),
}

/// The outputs that metrics read, in float32.
pub struct InceptionFeatures {
    /// Mean over positions of the last block, `[batch, 2048]`. FID and KID compare these.
    pub pool: Tensor,
    /// Class logits without the head's bias, `[batch, 1008]`. torch-fidelity's Inception Score uses these.
    pub logits_unbiased: Tensor,
    /// Class logits `[batch, 1008]`.
    pub logits: Tensor,
}

impl Inception {
    /// Reads the published weights: the file as it is published, the same tensors as safetensors, or a directory with
    /// `model.safetensors`. Names are those of the published state dict.
    ///
    /// # Errors
    /// The file is missing, is damaged, or has other tensors.
    pub fn load(path: &Path, kind: Kind, device: Device) -> Result<Self> {
        let open = if path.is_dir() { Weights::open } else { Weights::open_file };
        let weights = open(path, kind, device)?;
        let mut network = Self::read(&weights)?;
        weights.finish()?;
        network.published |= path.is_file() && files_sha256([path.into()])? == PUBLISHED;
        Ok(network)
    }

    /// Reads the network from open weights.
    ///
    /// # Errors
    /// A tensor is missing or has a wrong shape.
    pub fn read(weights: &Weights) -> Result<Self> {
        let conv = |name, input, spec: Spec| {
            Ok::<_, Error>(Stage::Conv(name, Conv::read(&weights.pp(name), input, spec)?))
        };
        let stem = vec![
            conv("Conv2d_1a_3x3", 3, Spec::down(32))?,
            conv("Conv2d_2a_3x3", 32, Spec::valid(32, 3))?,
            conv("Conv2d_2b_3x3", 32, Spec::same(64, 3, 3))?,
            Stage::MaxPool("MaxPool_1"),
            conv("Conv2d_3b_1x1", 64, Spec::same(80, 1, 1))?,
            conv("Conv2d_4a_3x3", 80, Spec::valid(192, 3))?,
            Stage::MaxPool("MaxPool_2"),
        ];
        let head = Linear::load(&weights.pp("fc"), WIDTH, CLASSES, true)?;
        let published = weights.metadata("source_sha256") == Some(PUBLISHED);
        let (kind, device) = (weights.kind(), weights.device());
        Ok(Self { stem, blocks: blocks::read(weights)?, head, published, kind, device })
    }

    /// Whether the weights are the published ones: the file has the published hash, or its metadata say that it was made
    /// from that file. Only these give a comparable FID.
    pub(crate) fn is_published(&self) -> bool {
        self.published
    }

    /// The device of the network.
    pub fn device(&self) -> Device {
        self.device
    }

    /// Converts an image to bytes `[1, 3, height, width]` on the host.
    ///
    /// # Errors
    /// libtorch fails.
    pub fn rgb(image: &Rgb8) -> Result<Tensor> {
        let shape = [1, image.height as i64, image.width as i64, 3];
        Ok(Tensor::f_from_slice(&image.data)?.f_reshape(shape)?.f_permute([0, 3, 1, 2])?)
    }

    /// Bytes `[batch, 3, height, width]` of any size → the network's input `[batch, 3, 299, 299]`, `(x − 128) / 128`.
    ///
    /// # Errors
    /// `rgb` has another type or shape.
    pub fn pixels(&self, rgb: &Tensor) -> Result<Tensor> {
        let refuse = |reason: String| Error::Input { input: "images", reason };
        if rgb.kind() != Kind::Uint8 {
            return Err(refuse(format!(
                "{:?} where bytes are needed; 8-bit RGB decides how they are resized",
                rgb.kind()
            )));
        }
        match rgb.size().as_slice() {
            &[_, 3, height, width] if height > 0 && width > 0 => {}
            other => return Err(refuse(format!("shape {other:?}; expected [batch, 3, height, width]"))),
        }
        let rgb = rgb.f_to_device(self.device)?.f_to_kind(Kind::Float)?;
        let resized = resize_as_tensorflow_1(&rgb, SIDE, SIDE)?;
        Ok(resized.f_sub_scalar(128.0)?.f_div_scalar(128.0)?)
    }

    /// Returns the features of images given as bytes `[batch, 3, height, width]` of any size.
    ///
    /// # Errors
    /// The errors of [`Inception::pixels`]; libtorch fails.
    pub fn features(&self, rgb: &Tensor) -> Result<InceptionFeatures> {
        self.forward(&self.pixels(rgb)?, &mut |_, _| {})
    }

    /// Returns the features of the output of [`Inception::pixels`]. `see` gets the output of every stage, `[batch, c,
    /// h, w]`, with its published name.
    ///
    /// # Errors
    /// libtorch fails.
    pub fn forward(&self, pixels: &Tensor, see: &mut dyn FnMut(&str, &Tensor)) -> Result<InceptionFeatures> {
        // The layout that convolutions and pools read fastest; they keep it.
        let mut x = channels_last(&pixels.f_to_device(self.device)?.f_to_kind(self.kind)?)?;
        for stage in &self.stem {
            let (name, next) = match stage {
                Stage::Conv(name, conv) => (name, conv.forward(&x)?),
                Stage::MaxPool(name) => (name, blocks::halve(&x)?),
            };
            see(name, &next);
            x = next;
        }
        for (name, block) in &self.blocks {
            x = block.forward(&x)?;
            see(name, &x);
        }
        // [batch, 2048, 8, 8] → [batch, 2048]
        let pool = x.f_adaptive_avg_pool2d([1, 1])?.f_flatten(1, -1)?;
        let unbiased = pool.f_linear(&self.head.weight, None::<&Tensor>)?;
        let logits = match &self.head.bias {
            Some(bias) => unbiased.f_add(bias)?,
            None => unbiased.shallow_clone(),
        };
        let float = |x: Tensor| x.f_to_kind(Kind::Float);
        Ok(InceptionFeatures {
            pool: float(pool)?,
            logits_unbiased: float(unbiased)?,
            logits: float(logits)?,
        })
    }
}
