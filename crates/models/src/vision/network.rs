//! The vision transformer that serves all supported networks.

use tch::{Device, Kind, Tensor};

use super::embedded::{Blank, Embedded};
use super::encoded::Encoded;
use super::head::Head;
use super::pooling::Pooling;
use crate::attend::{AttentionProbe, KeyBias, NoProbe};
use crate::error::Result;
use crate::finite::Output;
use crate::nn::{Block, LayerNorm, PatchEmbeddings, Queries, Rotation};
use crate::site::{Site, Stream, TokenKind, TokenLayout};

/// A vision transformer on a device. The supported networks differ in names, positions, norms, pooling and heads.
///
/// ```no_run
/// use models::attend::{KeyBias, NoProbe};
/// use models::vision::VisionTransformer;
/// # fn main() -> models::Result<()> {
/// let dir = std::path::Path::new("datasets/mini/models/vit");
/// let network = VisionTransformer::load(dir, tch::Kind::Float, tch::Device::Cpu, None)?;
/// # let pixels = tch::Tensor::zeros([1, 3, 64, 64], (tch::Kind::Float, tch::Device::Cpu));
/// let embedded = network.embed(&pixels)?;
/// let encoded = network.encode(&embedded, &KeyBias::none(), &mut NoProbe)?;
/// let logits = network.logits(&encoded)?;
/// # Ok(()) }
/// ```
pub struct VisionTransformer {
    pub(crate) embeddings: PatchEmbeddings,
    /// CLIP normalises tokens before the first block.
    pub(crate) first_norm: Option<LayerNorm>,
    pub(crate) blocks: Vec<Block>,
    /// `None` for networks of timm that normalise only the pooled vector, or nothing.
    pub(crate) last_norm: Option<LayerNorm>,
    pub(crate) pooling: Pooling,
    pub(crate) head: Head,
    pub(crate) kind: Kind,
    pub(crate) device: Device,
}

impl VisionTransformer {
    /// Number of blocks.
    pub fn depth(&self) -> usize {
        self.blocks.len()
    }

    /// Number of classes, or `None` for a network without classifier.
    pub fn classes(&self) -> Option<i64> {
        self.head.classes()
    }

    /// Whether the network has a CLS token.
    pub fn has_cls(&self) -> bool {
        self.embeddings.cls_token.is_some()
    }

    /// Number of tokens that are not patches: CLS and registers.
    pub fn special_tokens(&self) -> i64 {
        let count = |tokens: &Option<Tensor>| tokens.as_ref().map_or(0, |tokens| tokens.size()[1]);
        count(&self.embeddings.cls_token) + count(&self.embeddings.register_tokens)
    }

    /// Whether the network has a token that stood for masked patches in its training.
    pub fn has_mask_token(&self) -> bool {
        self.embeddings.mask_token.is_some()
    }

    /// The device of the network.
    pub fn device(&self) -> Device {
        self.device
    }

    /// Embeds images as tokens: `pixels` `[batch, 3, h, w]` → `[batch, special + rows·columns, width]`.
    ///
    /// If the size differs from the trained one, a table of position embeddings is interpolated (bicubic), as
    /// transformers' `interpolate_pos_encoding` does.
    ///
    /// # Errors
    /// libtorch fails.
    pub fn embed(&self, pixels: &Tensor) -> Result<Embedded> {
        let pixels = pixels.f_to_device(self.device)?.f_to_kind(self.kind)?;
        self.normed_first(self.embeddings.forward(&pixels)?)
    }

    /// Returns the tokens of an image whose patches are all blank, `[1, special + rows·columns, width]`, on the grid of `like`.
    /// `None` for [`Blank::MaskToken`] if the network has no mask token.
    ///
    /// # Errors
    /// libtorch fails.
    pub fn embed_blank(&self, like: &Embedded, blank: Blank) -> Result<Option<Embedded>> {
        let Embedded { tokens, layout, .. } = like;
        let (special, patches) = (layout.special, layout.count(TokenKind::Image));
        let size = [1, patches, tokens.size3()?.2];
        let content = match (blank, &self.embeddings.mask_token) {
            (Blank::MaskToken, None) => return Ok(None),
            (Blank::MaskToken, Some(token)) => token.f_expand(size, false)?,
            (Blank::ZeroEmbedding | Blank::ZeroToken, _) => {
                tokens.f_new_zeros(size, (self.kind, self.device))?
            }
        };
        let embedded = self.normed_first(self.embeddings.sequence(content, layout.image)?)?;
        if blank == Blank::ZeroToken {
            let _ = embedded.tokens.f_narrow(1, special, patches)?.f_zero_()?;
        }
        Ok(Some(embedded))
    }

    fn normed_first(
        &self,
        (tokens, layout, rotation): (Tensor, TokenLayout, Option<Rotation>),
    ) -> Result<Embedded> {
        let tokens = match &self.first_norm {
            Some(norm) => norm.forward(&tokens)?,
            None => tokens,
        };
        Ok(Embedded { tokens, layout, rotation })
    }

    /// Runs the blocks over the tokens of images, or of images without some patches ([`Embedded::with_patches`]).
    ///
    /// # Errors
    /// libtorch or the probe fails, or the encoded tokens are not finite.
    pub fn encode(
        &self,
        embedded: &Embedded,
        bias: &KeyBias,
        probe: &mut dyn AttentionProbe,
    ) -> Result<Encoded> {
        self.checked(embedded, bias, Queries::All, probe)
    }

    /// Returns what [`logits`](Self::logits) returns for the encoded tokens of `embedded`, faster: the last block computes CLS
    /// alone where the head reads nothing else.
    ///
    /// # Errors
    /// libtorch fails, or what the head reads or the logits are not finite.
    pub fn classify(&self, embedded: &Embedded) -> Result<Option<Tensor>> {
        let of_cls = self.pooling.reads_cls() && self.head.reads_pooled_or_cls();
        let last = if of_cls { Queries::First } else { Queries::All };
        self.logits(&self.checked(embedded, &KeyBias::none(), last, &mut NoProbe)?)
    }

    fn checked(
        &self,
        embedded: &Embedded,
        bias: &KeyBias,
        last: Queries,
        probe: &mut dyn AttentionProbe,
    ) -> Result<Encoded> {
        self.output("encoded tokens of the vision network").of_pass(
            probe,
            |probe| self.run_blocks(embedded, bias, last, probe),
            |encoded| &encoded.tokens,
        )
    }

    fn run_blocks(
        &self,
        embedded: &Embedded,
        bias: &KeyBias,
        last: Queries,
        probe: &mut dyn AttentionProbe,
    ) -> Result<Encoded> {
        let Embedded { tokens, layout, rotation } = embedded;
        let site = |block| Site { stream: Stream::Vision, block, step: 0, layout: layout.clone() };
        let mut x = tokens.shallow_clone();
        let mut last_cls = Vec::new();
        for (block, layer) in self.blocks.iter().enumerate() {
            let (rotation, site) = (rotation.as_ref(), site(block));
            let queries = if block + 1 == self.depth() { last } else { Queries::All };
            x = layer.forward(&x, queries, rotation, &site, bias, probe)?;
            if block + self.head.last_blocks() >= self.depth() {
                last_cls.push(normed(self.last_norm.as_ref(), x.f_select(1, 0)?)?);
            }
        }
        let tokens = normed(self.last_norm.as_ref(), x)?;
        let pooled = self.pooling.forward(&tokens, &site(self.depth()), bias)?;
        Ok(Encoded { tokens, pooled, special: layout.special, last_cls })
    }

    /// Returns class logits `[batch, classes]`, or `None` for a network without classifier.
    ///
    /// # Errors
    /// libtorch fails, or the logits are not finite.
    pub fn logits(&self, encoded: &Encoded) -> Result<Option<Tensor>> {
        let logits = self.head.logits(encoded)?;
        logits.map(|logits| self.output("class logits of the vision network").check(logits)).transpose()
    }

    /// Returns the logits whose softmax are the probabilities of the classes, `[batch, classes]`, from those of
    /// [`logits`](Self::logits), which for CLIP are cosines. `None` if the network does not define probabilities: SigLIP, whose
    /// classes do not exclude each other, and files of CLIP without `logit_scale`.
    ///
    /// # Errors
    /// libtorch fails.
    pub fn scaled_logits(&self, logits: &Tensor) -> Result<Option<Tensor>> {
        self.head.scaled(logits)
    }

    /// Whether the network defines probabilities of classes ([`scaled_logits`](Self::scaled_logits)).
    pub fn has_probabilities(&self) -> bool {
        self.head.has_probabilities()
    }

    /// Returns one vector per image, `[batch, d]`: CLS after the last layer norm, for CLIP the projected CLS, not
    /// normalised, for SigLIP the output of its attention-pooling head, or the mean patch if it has none. For a network of
    /// timm it is the vector that the classifier reads or would read.
    ///
    /// # Errors
    /// libtorch fails, or the embedding is not finite.
    pub fn embedding(&self, encoded: &Encoded) -> Result<Tensor> {
        self.output("embeddings of the vision network").check(self.head.embedding(encoded)?)
    }

    fn output(&self, name: &'static str) -> Output {
        Output { name, kind: self.kind }
    }
}

/// Applies a norm, if there is one.
fn normed(norm: Option<&LayerNorm>, x: Tensor) -> Result<Tensor> {
    norm.map_or(Ok(x.shallow_clone()), |norm| norm.forward(&x))
}
