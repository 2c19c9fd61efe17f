//! From encoded tokens to classes.

use std::path::Path;

use tch::{Device, Kind, Tensor};

use super::config::VisionConfig;
use super::network::Encoded;
use crate::error::{Error, Result};
use crate::nn::Linear;
use crate::weights::Weights;

/// What stands behind the last block.
pub(crate) enum Head {
    /// Nothing: a bare backbone.
    None,
    /// A classifier on CLS (ViT).
    Cls(Linear),
    /// A classifier on CLS beside the mean patch (DINOv2, DINO ViT-B).
    ClsAndMean(Linear),
    /// A classifier on CLS of the last few blocks (DINO ViT-S).
    LastCls { blocks: usize, classifier: Linear },
    /// A projection into a space shared with text (CLIP).
    Projection(Linear),
}

impl Head {
    /// Reads a linear classifier from a safetensors file of its own: `weight` `[classes, features]`, `bias` `[classes]`.
    /// As published for DINO, features of two widths are CLS beside the mean patch, of four CLS of the last four blocks.
    pub(crate) fn open(path: &Path, config: &VisionConfig, kind: Kind, device: Device) -> Result<Self> {
        let refuse = |reason: String| Error::Directory { path: path.into(), reason };
        if path.extension().is_some_and(|extension| extension == "pth" || extension == "pt") {
            let reason = "a pickle is not read; `python tools/convert_dino_head.py FILE.pth FILE.safetensors` \
                          makes a safetensors file of it";
            return Err(refuse(reason.into()));
        }
        let weights = Weights::open_file(path, kind, device)?;
        let shape = weights.shape("weight")?;
        let width = config.width();
        let &[classes, features] = shape.as_slice() else {
            return Err(refuse(format!(
                "`weight` has shape {shape:?}; a linear classifier has [classes, features]"
            )));
        };
        let classifier = Linear::load(&weights, features, classes, true)?;
        weights.finish()?;
        match features / width {
            _ if features % width != 0 => None,
            1 => Some(Self::Cls(classifier)),
            2 => Some(Self::ClsAndMean(classifier)),
            4 if config.depth() >= 4 => Some(Self::LastCls { blocks: 4, classifier }),
            _ => None,
        }
        .ok_or_else(|| {
            refuse(format!(
                "a classifier of {features} features fits no network of width {width} and this depth"
            ))
        })
    }

    /// Of how many last blocks the head wants CLS.
    pub(crate) fn last_blocks(&self) -> usize {
        if let Self::LastCls { blocks, .. } = self { *blocks } else { 0 }
    }

    pub(crate) fn classes(&self) -> Option<i64> {
        match self {
            Self::None | Self::Projection(_) => None,
            Self::Cls(linear) | Self::ClsAndMean(linear) | Self::LastCls { classifier: linear, .. } => {
                Some(linear.weight.size()[0])
            }
        }
    }

    pub(crate) fn logits(&self, encoded: &Encoded) -> Result<Option<Tensor>> {
        Ok(match self {
            Self::None | Self::Projection(_) => None,
            Self::Cls(classifier) => Some(classifier.forward(&encoded.cls()?)?),
            Self::ClsAndMean(classifier) => {
                let features = Tensor::f_cat(&[encoded.cls()?, encoded.mean_patch()?], -1)?;
                Some(classifier.forward(&features)?)
            }
            Self::LastCls { classifier, .. } => Some(classifier.forward(&encoded.last_cls()?)?),
        })
    }

    pub(crate) fn embedding(&self, encoded: &Encoded) -> Result<Tensor> {
        let cls = encoded.cls()?;
        match self {
            Self::Projection(projection) => projection.forward(&cls),
            _ => Ok(cls),
        }
    }
}
