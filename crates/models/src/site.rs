//! The origin of an attention map, and the kinds of its tokens.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// One kind of token in a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenKind {
    /// CLS and registers.
    Special,
    /// Prompt tokens.
    Text,
    /// Image patches, row by row.
    Image,
    /// Tokens of the reference image, row by row: the image that FLUX.1 Kontext reads in addition to the noised one.
    Reference,
}

/// The composition of a token sequence: how many tokens of each kind, and in which order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenLayout {
    /// Number of special tokens (CLS, registers).
    pub special: i64,
    /// Number of text tokens.
    pub text: i64,
    /// Image tokens as (rows, columns).
    pub image: (i64, i64),
    /// Tokens of the reference image as (rows, columns); (0, 0) if there is none. Files without a reference image leave
    /// it out.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub reference: (i64, i64),
    /// Kinds of tokens in the order in which they occur in the sequence.
    pub order: Vec<TokenKind>,
}

/// Whether a grid has no tokens.
fn is_empty((rows, columns): &(i64, i64)) -> bool {
    rows * columns == 0
}

impl TokenLayout {
    /// Layout of a vision transformer: `special` tokens first, then `rows × columns` patches.
    pub fn vision(special: i64, image: (i64, i64)) -> Self {
        let order =
            if special == 0 { vec![TokenKind::Image] } else { vec![TokenKind::Special, TokenKind::Image] };
        Self { special, text: 0, image, reference: (0, 0), order }
    }

    /// Layout of a text of `tokens` tokens.
    pub fn text(tokens: i64) -> Self {
        Self { special: 0, text: tokens, image: (0, 0), reference: (0, 0), order: vec![TokenKind::Text] }
    }

    /// Layout of FLUX's joint attention: `text` tokens first, then `rows × columns` image tokens.
    pub fn joint(text: i64, image: (i64, i64)) -> Self {
        let order = vec![TokenKind::Text, TokenKind::Image];
        Self { special: 0, text, image, reference: (0, 0), order }
    }

    /// Returns the layout with the tokens of a reference image behind all others, as in FLUX.1 Kontext.
    #[must_use]
    pub fn with_reference(mut self, reference: (i64, i64)) -> Self {
        self.reference = reference;
        self.order.push(TokenKind::Reference);
        self
    }

    /// Layout of the keys of cross-attention: `text` tokens. The queries are `rows × columns` image tokens; they are
    /// given in [`TokenLayout::image`] but are not part of the order, since they are not keys.
    pub fn cross(text: i64, image: (i64, i64)) -> Self {
        Self { special: 0, text, image, reference: (0, 0), order: vec![TokenKind::Text] }
    }

    /// Number of tokens of one kind.
    pub fn count(&self, kind: TokenKind) -> i64 {
        match kind {
            TokenKind::Special => self.special,
            TokenKind::Text => self.text,
            TokenKind::Image => self.image.0 * self.image.1,
            TokenKind::Reference => self.reference.0 * self.reference.1,
        }
    }

    /// Number of tokens of the whole sequence.
    pub fn tokens(&self) -> i64 {
        self.order.iter().map(|&kind| self.count(kind)).sum()
    }

    /// Indices of the tokens of the chosen kinds, in sequence order.
    pub fn indices(&self, chosen: impl Fn(TokenKind) -> bool) -> Vec<i64> {
        let mut indices = Vec::new();
        let mut start = 0;
        for &kind in &self.order {
            let end = start + self.count(kind);
            if chosen(kind) {
                indices.extend(start..end);
            }
            start = end;
        }
        indices
    }
}

/// The part of a network in which an attention layer sits; blocks are counted from 0 within it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stream {
    /// The image transformer of a classifier or a vision tower.
    Vision,
    /// The text tower that belongs to an image tower.
    Text,
    /// The T5 encoder of a diffusion pipeline.
    T5,
    /// FLUX's first blocks: text and image have weights of their own and attend jointly.
    Dual,
    /// FLUX's other blocks: one stream of text and image tokens.
    Single,
    /// Concept tokens added to a dual block: they attend to each other and to the image, and no other token attends to
    /// them.
    Concept,
    /// The autoencoder of a diffusion pipeline: block 0 is the encoder's, 1 the decoder's.
    Autoencoder,
    /// A layer of Stable Diffusion's UNet, whose levels have maps of different sizes. Blocks are its transformer layers, one
    /// self-attention and one cross-attention each.
    Unet(UnetLayer),
}

impl fmt::Display for Stream {
    /// Writes the name of the part as used in attention files; layers of a UNet have their own names.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vision => f.write_str("block"),
            Self::Text => f.write_str("text.block"),
            Self::T5 => f.write_str("t5.block"),
            Self::Dual => f.write_str("dual"),
            Self::Single => f.write_str("single"),
            Self::Concept => f.write_str("concept"),
            Self::Autoencoder => f.write_str("vae.block"),
            Self::Unet(layer) => write!(f, "unet.{layer}"),
        }
    }
}

/// A part of a UNet. As text it is its path in a checkpoint, such as `down_blocks.0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum UnetPart {
    /// On the way down, from the finest level 0 on.
    Down(usize),
    /// At the coarsest level.
    Mid,
    /// On the way up, from the coarsest level 0 on.
    Up(usize),
}

/// One attention layer of a UNet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UnetLayer {
    /// The part of the UNet with the layer.
    pub part: UnetPart,
    /// Number of the transformer within the part.
    pub attention: usize,
    /// Number of the layer within the transformer.
    pub layer: usize,
    /// Whether image tokens attend to the text (`attn2`) or to each other (`attn1`).
    pub cross: bool,
}

impl FromStr for UnetPart {
    type Err = String;

    fn from_str(path: &str) -> Result<Self, String> {
        let number = |prefix: &str| path.strip_prefix(prefix)?.parse().ok();
        match path {
            "mid_block" => Some(Self::Mid),
            _ => number("down_blocks.").map(Self::Down).or_else(|| number("up_blocks.").map(Self::Up)),
        }
        .ok_or_else(|| {
            format!("`{path}` is not a part of a UNet; write `mid_block`, or `down_blocks.0` or `up_blocks.0` with a number")
        })
    }
}

impl fmt::Display for UnetPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Down(level) => write!(f, "down_blocks.{level}"),
            Self::Mid => f.write_str("mid_block"),
            Self::Up(level) => write!(f, "up_blocks.{level}"),
        }
    }
}

impl fmt::Display for UnetLayer {
    /// Writes the layer's path in a checkpoint, such as `mid_block.attentions.0.transformer_blocks.0.attn1`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { part, attention, layer, cross } = self;
        let name = if *cross { "attn2" } else { "attn1" };
        write!(f, "{part}.attentions.{attention}.transformer_blocks.{layer}.{name}")
    }
}

/// One attention layer of one pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// The part of the network.
    pub stream: Stream,
    /// Number of the block within its stream, in execution order. In a UNet, the number of the transformer layer.
    pub block: usize,
    /// Sampling step of a diffusion model; 0 elsewhere.
    pub step: usize,
    /// The kinds of the tokens.
    pub layout: TokenLayout,
}

impl fmt::Display for Site {
    /// Writes the name of the layer in attention files, such as `block.3`, `dual.3` or
    /// `unet.mid_block.attentions.0.transformer_blocks.0.attn1`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.stream {
            Stream::Unet(_) => self.stream.fmt(f),
            Stream::Vision
            | Stream::Text
            | Stream::T5
            | Stream::Dual
            | Stream::Single
            | Stream::Concept
            | Stream::Autoencoder => write!(f, "{}.{}", self.stream, self.block),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layout_without_reference_is_written_as_before() {
        let layout = TokenLayout::joint(5, (2, 3));
        let text = r#"{"special":0,"text":5,"image":[2,3],"order":["text","image"]}"#;
        assert_eq!(serde_json::to_string(&layout).expect("JSON"), text);
        assert_eq!(serde_json::from_str::<TokenLayout>(text).expect("a layout"), layout);
    }

    #[test]
    fn reference_tokens_come_last_and_have_a_grid_of_their_own() {
        let layout = TokenLayout::joint(5, (2, 3)).with_reference((4, 1));
        let text =
            r#"{"special":0,"text":5,"image":[2,3],"reference":[4,1],"order":["text","image","reference"]}"#;
        assert_eq!(serde_json::to_string(&layout).expect("JSON"), text);
        assert_eq!(serde_json::from_str::<TokenLayout>(text).expect("a layout"), layout);
        assert_eq!((layout.tokens(), layout.count(TokenKind::Reference)), (15, 4));
        assert_eq!(layout.indices(|kind| kind == TokenKind::Image), (5..11).collect::<Vec<_>>());
        assert_eq!(layout.indices(|kind| kind == TokenKind::Reference), (11..15).collect::<Vec<_>>());
    }
}
