//! The vision transformer that serves all supported networks.

use tch::{Device, Kind, Tensor};

use super::encoded::Encoded;
use super::head::Head;
use crate::attend::{AttentionProbe, KeyBias};
use crate::error::Result;
use crate::finite::Output;
use crate::nn::{Block, LayerNorm, PatchEmbeddings};
use crate::site::{Site, Stream, TokenLayout};

/// A vision transformer on a device: ViT, DINO, DINOv2 and the image tower of CLIP differ in names, norms and heads only.
///
/// ```no_run
/// use models::attend::{KeyBias, NoProbe};
/// use models::vision::VisionTransformer;
/// # fn main() -> models::Result<()> {
/// let dir = std::path::Path::new("datasets/mini/models/vit");
/// let network = VisionTransformer::load(dir, tch::Kind::Float, tch::Device::Cpu, None)?;
/// # let pixels = tch::Tensor::zeros([1, 3, 64, 64], (tch::Kind::Float, tch::Device::Cpu));
/// let (tokens, layout) = network.embed(&pixels)?;
/// let encoded = network.encode(&tokens, &layout, &KeyBias::none(), &mut NoProbe)?;
/// let logits = network.logits(&encoded)?;
/// # Ok(()) }
/// ```
pub struct VisionTransformer {
    pub(crate) embeddings: PatchEmbeddings,
    /// CLIP normalises tokens before the first block.
    pub(crate) first_norm: Option<LayerNorm>,
    pub(crate) blocks: Vec<Block>,
    pub(crate) last_norm: LayerNorm,
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

    /// The device of the network.
    pub fn device(&self) -> Device {
        self.device
    }

    /// Embeds images as tokens: `pixels` `[batch, 3, h, w]` → `[batch, special + rows·columns, width]` and their
    /// layout.
    ///
    /// If the size differs from the trained one, the position embeddings are interpolated (bicubic), as transformers'
    /// `interpolate_pos_encoding` does.
    ///
    /// # Errors
    /// libtorch fails.
    pub fn embed(&self, pixels: &Tensor) -> Result<(Tensor, TokenLayout)> {
        let pixels = pixels.f_to_device(self.device)?.f_to_kind(self.kind)?;
        let (tokens, layout) = self.embeddings.forward(&pixels)?;
        let tokens = match &self.first_norm {
            Some(norm) => norm.forward(&tokens)?,
            None => tokens,
        };
        Ok((tokens, layout))
    }

    /// Runs the blocks over `tokens` `[batch, n, width]`.
    ///
    /// `tokens` may be any subset of an image's tokens that keeps the special ones; `layout` describes them.
    ///
    /// # Errors
    /// libtorch or the probe fails, or the encoded tokens are not finite.
    pub fn encode(
        &self,
        tokens: &Tensor,
        layout: &TokenLayout,
        bias: &KeyBias,
        probe: &mut dyn AttentionProbe,
    ) -> Result<Encoded> {
        self.output("encoded tokens of the vision network").of_pass(
            probe,
            |probe| self.run_blocks(tokens, layout, bias, probe),
            |encoded| &encoded.tokens,
        )
    }

    fn run_blocks(
        &self,
        tokens: &Tensor,
        layout: &TokenLayout,
        bias: &KeyBias,
        probe: &mut dyn AttentionProbe,
    ) -> Result<Encoded> {
        let mut x = tokens.shallow_clone();
        let mut last_cls = Vec::new();
        for (block, layer) in self.blocks.iter().enumerate() {
            let site = Site { stream: Stream::Vision, block, step: 0, layout: layout.clone() };
            x = layer.forward(&x, &site, bias, probe)?;
            if block + self.head.last_blocks() >= self.depth() {
                last_cls.push(self.last_norm.forward(&x.f_select(1, 0)?)?);
            }
        }
        Ok(Encoded { tokens: self.last_norm.forward(&x)?, special: layout.special, last_cls })
    }

    /// Returns class logits `[batch, classes]`, or `None` for a network without classifier.
    ///
    /// # Errors
    /// libtorch fails, or the logits are not finite.
    pub fn logits(&self, encoded: &Encoded) -> Result<Option<Tensor>> {
        let logits = self.head.logits(encoded)?;
        logits.map(|logits| self.output("class logits of the vision network").check(logits)).transpose()
    }

    /// Returns one vector per image, `[batch, d]`: CLS after the last layer norm; for CLIP the projected CLS, not
    /// normalised.
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
