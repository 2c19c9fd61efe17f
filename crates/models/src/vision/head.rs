//! Heads: from encoded tokens to classes.

use tch::Tensor;

use super::encoded::Encoded;
use crate::error::Result;
use crate::nn::{Linear, unit};

/// The head after the last block.
pub(crate) enum Head {
    /// No head: a bare backbone.
    None,
    /// A classifier on CLS (ViT).
    Cls(Linear),
    /// A classifier on CLS concatenated with the mean patch (DINOv2, DINO ViT-B).
    ClsAndMean(Linear),
    /// A classifier on CLS of the last few blocks (DINO ViT-S).
    LastCls { blocks: usize, classifier: Linear },
    /// A projection into a space shared with text (CLIP), and unit vectors of classes there `[classes, d]`.
    Projection { projection: Linear, classes: Option<Tensor> },
}

impl Head {
    /// Returns the number of last blocks whose CLS the head reads.
    pub(crate) fn last_blocks(&self) -> usize {
        if let Self::LastCls { blocks, .. } = self { *blocks } else { 0 }
    }

    pub(crate) fn classes(&self) -> Option<i64> {
        match self {
            Self::None => None,
            Self::Projection { classes, .. } => classes.as_ref().map(|classes| classes.size()[0]),
            Self::Cls(linear) | Self::ClsAndMean(linear) | Self::LastCls { classifier: linear, .. } => {
                Some(linear.weight.size()[0])
            }
        }
    }

    pub(crate) fn logits(&self, encoded: &Encoded) -> Result<Option<Tensor>> {
        Ok(match self {
            Self::None | Self::Projection { classes: None, .. } => None,
            // Cosine similarities; CLIP's temperature would not change the ranking.
            Self::Projection { classes: Some(classes), .. } => {
                Some(unit(&self.embedding(encoded)?)?.f_matmul(&classes.f_transpose(0, 1)?)?)
            }
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
            Self::Projection { projection, .. } => projection.forward(&cls),
            Self::None | Self::Cls(_) | Self::ClsAndMean(_) | Self::LastCls { .. } => Ok(cls),
        }
    }
}
