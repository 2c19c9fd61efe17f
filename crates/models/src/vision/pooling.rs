//! Pooling: from encoded tokens to one vector per image.

use tch::Tensor;

use crate::attend::{KeyBias, NoProbe};
use crate::error::Result;
use crate::nn::{Attention, LayerNorm, Mlp};
use crate::site::{Site, TokenKind};

/// The way in which the encoded tokens of an image become one vector.
pub(crate) enum Pooling {
    /// CLS.
    Cls,
    /// The mean of the patches.
    MeanPatch,
    /// Attention of a learned query to all tokens.
    Attention(Box<AttentionPool>),
    /// The vector of another pooling, normalised (timm).
    Normed(Box<Pooling>, LayerNorm),
}

/// A learned query that attends to the encoded tokens, then an MLP with a residual connection (SigLIP).
pub(crate) struct AttentionPool {
    /// `[1, 1, width]`.
    pub(crate) query: Tensor,
    pub(crate) attention: Attention,
    pub(crate) norm: LayerNorm,
    pub(crate) mlp: Mlp,
}

impl Pooling {
    /// Whether the vector depends on no other encoded token than CLS.
    pub(crate) fn reads_cls(&self) -> bool {
        match self {
            Self::Cls => true,
            Self::MeanPatch | Self::Attention(_) => false,
            Self::Normed(pooling, _) => pooling.reads_cls(),
        }
    }

    /// `tokens` `[batch, n, width]` after the last layer norm → `[batch, width]`. `bias` masks keys as in the blocks.
    /// Probes do not see the attention of a learned query, since its map is not square.
    pub(crate) fn forward(&self, tokens: &Tensor, site: &Site, bias: &KeyBias) -> Result<Tensor> {
        match self {
            Self::Cls => Ok(tokens.f_select(1, 0)?),
            Self::MeanPatch => {
                let (special, patches) = (site.layout.special, site.layout.count(TokenKind::Image));
                Ok(tokens.f_narrow(1, special, patches)?.f_mean_dim(1i64, false, tokens.kind())?)
            }
            Self::Attention(pool) => {
                let AttentionPool { query, attention, norm, mlp } = &**pool;
                let query = query.f_expand([tokens.size()[0], -1, -1], false)?;
                let attended = attention.across(&query, tokens, site, bias, &mut NoProbe)?;
                let mut hidden = mlp.forward(&norm.forward(&attended)?)?;
                Ok(hidden.f_add_(&attended)?.f_select(1, 0)?)
            }
            Self::Normed(pooling, norm) => norm.forward(&pooling.forward(tokens, site, bias)?),
        }
    }
}
