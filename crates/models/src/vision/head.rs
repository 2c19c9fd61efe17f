//! Heads: from encoded tokens to classes.

use tch::Tensor;

use super::encoded::Encoded;
use crate::error::Result;
use crate::nn::{Linear, unit};

/// The head after the pooling.
pub(crate) enum Head {
    /// No head: a bare backbone.
    None,
    /// A classifier on the pooled vector (ViT, SigLIP).
    Pooled(Linear),
    /// A classifier on CLS concatenated with the mean patch (DINOv2, DINO ViT-B).
    ClsAndMean(Linear),
    /// A classifier on CLS of the last few blocks (DINO ViT-S).
    LastCls { blocks: usize, classifier: Linear },
    /// A space shared with text, into which CLIP projects its pooled vector, and unit vectors of classes there
    /// `[classes, d]`.
    Shared {
        projection: Option<Linear>,
        classes: Option<Tensor>,
        /// Logarithm of the factor by which CLIP multiplies cosines before the softmax.
        log_scale: Option<Tensor>,
    },
}

impl Head {
    /// Returns the number of last blocks whose CLS the head reads.
    pub(crate) fn last_blocks(&self) -> usize {
        if let Self::LastCls { blocks, .. } = self { *blocks } else { 0 }
    }

    /// Whether the head reads no encoded tokens but the pooled vector and CLS.
    pub(crate) fn reads_pooled_or_cls(&self) -> bool {
        match self {
            Self::None | Self::Pooled(_) | Self::LastCls { .. } | Self::Shared { .. } => true,
            Self::ClsAndMean(_) => false,
        }
    }

    pub(crate) fn classes(&self) -> Option<i64> {
        match self {
            Self::None => None,
            Self::Shared { classes, .. } => classes.as_ref().map(|classes| classes.size()[0]),
            Self::Pooled(linear) | Self::ClsAndMean(linear) | Self::LastCls { classifier: linear, .. } => {
                Some(linear.weight.size()[0])
            }
        }
    }

    /// Whether [`scaled`](Self::scaled) returns anything.
    pub(crate) fn has_probabilities(&self) -> bool {
        match self {
            Self::None => false,
            Self::Shared { log_scale, .. } => log_scale.is_some(),
            Self::Pooled(_) | Self::ClsAndMean(_) | Self::LastCls { .. } => true,
        }
    }

    pub(crate) fn logits(&self, encoded: &Encoded) -> Result<Option<Tensor>> {
        Ok(match self {
            Self::None | Self::Shared { classes: None, .. } => None,
            // Cosine similarities; a temperature and a bias would not change the ranking.
            Self::Shared { classes: Some(classes), .. } => {
                Some(unit(&self.embedding(encoded)?)?.f_matmul(&classes.f_transpose(0, 1)?)?)
            }
            Self::Pooled(classifier) => Some(classifier.forward(&encoded.pooled)?),
            Self::ClsAndMean(classifier) => Some(classifier.forward(&encoded.cls_and_mean()?)?),
            Self::LastCls { classifier, .. } => Some(classifier.forward(&encoded.last_cls()?)?),
        })
    }

    /// Returns the logits whose softmax are the probabilities of the classes, from those of [`logits`](Self::logits). `None` if the
    /// network does not define them: SigLIP, whose classes do not exclude each other, and files without CLIP's factor.
    pub(crate) fn scaled(&self, logits: &Tensor) -> Result<Option<Tensor>> {
        Ok(match self {
            Self::Shared { log_scale: None, .. } | Self::None => None,
            Self::Shared { log_scale: Some(log_scale), .. } => Some(logits.f_mul(&log_scale.f_exp()?)?),
            Self::Pooled(_) | Self::ClsAndMean(_) | Self::LastCls { .. } => Some(logits.shallow_clone()),
        })
    }

    pub(crate) fn embedding(&self, encoded: &Encoded) -> Result<Tensor> {
        match self {
            Self::Shared { projection: Some(projection), .. } => projection.forward(&encoded.pooled),
            Self::Shared { projection: None, .. }
            | Self::None
            | Self::Pooled(_)
            | Self::ClsAndMean(_)
            | Self::LastCls { .. } => Ok(encoded.pooled.shallow_clone()),
        }
    }
}
