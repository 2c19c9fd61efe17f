//! Names of the blocks of a network.

use std::fmt;

use models::{Stream, UnetLayer, UnetPart};

/// A block whose attention is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Block {
    pub stream: Stream,
    /// Number within its stream, from 0.
    pub number: usize,
}

impl Block {
    /// Returns the number in its part of the network: `3`, or `1.0` of `down_blocks.1.attentions.0` in a UNet. A layer of
    /// a transformer that has several has its own number behind.
    fn number(self) -> String {
        let Stream::Unet(UnetLayer { part, attention, layer, .. }) = self.stream else {
            return self.number.to_string();
        };
        let behind = if layer == 0 { String::new() } else { format!(".{layer}") };
        match part {
            UnetPart::Down(number) | UnetPart::Up(number) => format!("{number}.{attention}{behind}"),
            UnetPart::Mid => format!("{attention}{behind}"),
        }
    }
}

impl fmt::Display for Block {
    /// `layer 3`, `dual 3`, `single 0`, `down 1.0`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", called(self.stream).kind, self.number())
    }
}

/// Names for the blocks of a stream.
struct Called {
    kind: &'static str,
    /// Prefix of the number if several kinds are mixed.
    letter: &'static str,
    one: &'static str,
    many: &'static str,
}

fn called(stream: Stream) -> Called {
    match stream {
        Stream::Dual => Called { kind: "dual", letter: "d", one: "dual block", many: "dual blocks" },
        Stream::Single => Called { kind: "single", letter: "s", one: "single block", many: "single blocks" },
        Stream::Unet(UnetLayer { part, .. }) => match part {
            UnetPart::Down(_) => Called { kind: "down", letter: "d", one: "down layer", many: "down layers" },
            UnetPart::Mid => Called { kind: "mid", letter: "m", one: "mid layer", many: "mid layers" },
            UnetPart::Up(_) => Called { kind: "up", letter: "u", one: "up layer", many: "up layers" },
        },
        Stream::Vision | Stream::Text | Stream::T5 | Stream::Concept | Stream::Autoencoder => {
            Called { kind: "layer", letter: "", one: "layer", many: "layers" }
        }
    }
}

fn same_kind(a: &Block, b: &Block) -> bool {
    called(a.stream).kind == called(b.stream).kind
}

/// Returns the label of an axis along which the blocks stand, and the name of each block.
pub(super) fn axis(blocks: &[Block]) -> (String, Vec<String>) {
    let mixed = blocks.windows(2).any(|pair| !same_kind(&pair[0], &pair[1]));
    let name = |block: &Block| match mixed {
        true => format!("{}{}", called(block.stream).letter, block.number()),
        false => block.number(),
    };
    let label = match blocks.first().map(|block| block.stream) {
        Some(Stream::Unet(_)) if mixed => "layer: d down, m mid, u up",
        Some(_) if mixed => "block: d dual, s single",
        Some(stream) => called(stream).one,
        None => "layer",
    };
    (label.into(), blocks.iter().map(name).collect())
}

/// Writes a list of blocks: `layers 0–11`, `layers 0, 3, 7`, `layer 11`, `dual blocks 9–18`, `dual blocks 0–2 and single block 0`,
/// `down layers 1.0, 1.1 and mid layer 0`.
pub(super) fn span(blocks: &[Block]) -> String {
    let runs = blocks.chunk_by(same_kind).map(|run| {
        let Called { one, many, .. } = called(run[0].stream);
        let one_stream = run.iter().all(|block| block.stream == run[0].stream);
        match run {
            [only] => format!("{one} {}", only.number()),
            [first, .., last] if one_stream && last.number - first.number + 1 == run.len() => {
                format!("{many} {}–{}", first.number, last.number)
            }
            several => {
                let several: Vec<String> = several.iter().map(|block| block.number()).collect();
                format!("{many} {}", several.join(", "))
            }
        }
    });
    match runs.collect::<Vec<_>>().join(" and ") {
        nothing if nothing.is_empty() => "no layer".into(),
        span => span,
    }
}

/// Returns the name of the averaged chain in figures.
pub(super) fn averaged(blocks: &[Block]) -> String {
    match blocks {
        [only] => only.to_string(),
        several if several.iter().all(|block| matches!(block.stream, Stream::Vision | Stream::Unet(_))) => {
            format!("average of {} layers", several.len())
        }
        several => format!("average of {} blocks", several.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocks(stream: Stream, numbers: &[usize]) -> Vec<Block> {
        numbers.iter().map(|&number| Block { stream, number }).collect()
    }

    #[test]
    fn layers_of_a_unet_are_named_by_their_paths() {
        let block = |part, attention, layer| Block {
            stream: Stream::Unet(UnetLayer { part, attention, layer, cross: false }),
            number: 7,
        };
        let layers = [
            block(UnetPart::Down(1), 0, 0),
            block(UnetPart::Down(1), 1, 0),
            block(UnetPart::Mid, 0, 0),
            block(UnetPart::Up(2), 1, 3),
        ];
        assert_eq!(span(&layers), "down layers 1.0, 1.1 and mid layer 0 and up layer 2.1.3");
        assert_eq!(
            (averaged(&layers).as_str(), averaged(&layers[..1]).as_str()),
            ("average of 4 layers", "down 1.0")
        );
        let names = ["d1.0", "d1.1", "m0", "u2.1.3"].map(str::to_owned).to_vec();
        assert_eq!(axis(&layers), ("layer: d down, m mid, u up".into(), names));
        assert_eq!(axis(&layers[..2]), ("down layer".into(), ["1.0", "1.1"].map(str::to_owned).to_vec()));
    }

    #[test]
    fn blocks_have_names() {
        let vision = blocks(Stream::Vision, &[0, 1, 2]);
        let both = [blocks(Stream::Dual, &[1, 2]), blocks(Stream::Single, &[0])].concat();
        for (blocks, spanned, average, label, last) in [
            (vision.clone(), "layers 0–2", "average of 3 layers", "layer", "2"),
            (vision[2..].to_vec(), "layer 2", "layer 2", "layer", "2"),
            (blocks(Stream::Vision, &[0, 4]), "layers 0, 4", "average of 2 layers", "layer", "4"),
            (blocks(Stream::Dual, &[3]), "dual block 3", "dual 3", "dual block", "3"),
            (
                both,
                "dual blocks 1–2 and single block 0",
                "average of 3 blocks",
                "block: d dual, s single",
                "s0",
            ),
        ] {
            assert_eq!((span(&blocks).as_str(), averaged(&blocks).as_str()), (spanned, average));
            let (found, names) = axis(&blocks);
            assert_eq!((found.as_str(), names.last().map(String::as_str)), (label, Some(last)));
        }
    }
}
