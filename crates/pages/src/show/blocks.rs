//! Names of the blocks of a network.

use std::fmt;

use models::Stream;

/// A block whose attention is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Block {
    pub stream: Stream,
    /// Number within its stream, from 0.
    pub number: usize,
}

impl fmt::Display for Block {
    /// `layer 3`, `dual 3`, `single 0`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", called(self.stream).kind, self.number)
    }
}

/// Names for the blocks of a stream.
struct Called {
    kind: &'static str,
    /// Prefix of the number if two streams are mixed.
    letter: &'static str,
    one: &'static str,
    many: &'static str,
}

fn called(stream: Stream) -> Called {
    match stream {
        Stream::Dual => Called { kind: "dual", letter: "d", one: "dual block", many: "dual blocks" },
        Stream::Single => Called { kind: "single", letter: "s", one: "single block", many: "single blocks" },
        Stream::Vision
        | Stream::Text
        | Stream::T5
        | Stream::Concept
        | Stream::Autoencoder
        | Stream::Unet(_) => Called { kind: "layer", letter: "", one: "layer", many: "layers" },
    }
}

/// Returns the label of an axis along which the blocks stand, and the name of each block.
pub(super) fn axis(blocks: &[Block]) -> (String, Vec<String>) {
    let mixed = blocks.windows(2).any(|pair| pair[0].stream != pair[1].stream);
    let name = |block: &Block| match mixed {
        true => format!("{}{}", called(block.stream).letter, block.number),
        false => block.number.to_string(),
    };
    let label = match blocks.first() {
        Some(_) if mixed => "block: d dual, s single",
        Some(block) => called(block.stream).one,
        None => "layer",
    };
    (label.into(), blocks.iter().map(name).collect())
}

/// Writes a list of blocks: `layers 0–11`, `layers 0, 3, 7`, `layer 11`, `dual blocks 9–18`, `dual blocks 0–2 and single block 0`.
pub(super) fn span(blocks: &[Block]) -> String {
    let runs = blocks.chunk_by(|a, b| a.stream == b.stream).map(|run| {
        let numbers: Vec<usize> = run.iter().map(|block| block.number).collect();
        let Called { one, many, .. } = called(run[0].stream);
        match numbers.as_slice() {
            [only] => format!("{one} {only}"),
            [first, .., last] if last - first + 1 == numbers.len() => format!("{many} {first}–{last}"),
            several => {
                let several: Vec<String> = several.iter().map(usize::to_string).collect();
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
        several if several.iter().all(|block| block.stream == Stream::Vision) => {
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
