//! The vision transformer that serves all supported networks.

use tch::{Device, Kind, Tensor};

use super::embedded::Embedded;
use super::encoded::Encoded;
use super::head::Head;
use super::pooling::Pooling;
use crate::attend::{AttentionProbe, KeyBias};
use crate::error::Result;
use crate::finite::Output;
use crate::nn::{Block, LayerNorm, PatchEmbeddings};
use crate::site::{Site, Stream};

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
        let (tokens, layout, rotation) = self.embeddings.forward(&pixels)?;
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
        self.output("encoded tokens of the vision network").of_pass(
            probe,
            |probe| self.run_blocks(embedded, bias, probe),
            |encoded| &encoded.tokens,
        )
    }

    fn run_blocks(
        &self,
        embedded: &Embedded,
        bias: &KeyBias,
        probe: &mut dyn AttentionProbe,
    ) -> Result<Encoded> {
        let Embedded { tokens, layout, rotation } = embedded;
        let site = |block| Site { stream: Stream::Vision, block, step: 0, layout: layout.clone() };
        let mut x = tokens.shallow_clone();
        let mut last_cls = Vec::new();
        for (block, layer) in self.blocks.iter().enumerate() {
            x = layer.forward(&x, rotation.as_ref(), &site(block), bias, probe)?;
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
