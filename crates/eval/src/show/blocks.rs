//! Blocks of a network by name.

use std::fmt;

use models::Stream;

/// A block whose attention is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Block {
    pub stream: Stream,
    /// From 0 within its stream.
    pub number: usize,
}

impl fmt::Display for Block {
    /// `layer 3`, `dual 3`, `single 0`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.stream {
            Stream::Dual => "dual",
            Stream::Single => "single",
            _ => "layer",
        };
        write!(f, "{kind} {}", self.number)
    }
}

/// The blocks along an axis: what the axis is called, and the name of each.
pub(super) fn axis(blocks: &[Block]) -> (String, Vec<String>) {
    let mixed = blocks.windows(2).any(|pair| pair[0].stream != pair[1].stream);
    let name = |block: &Block| match block.stream {
        Stream::Dual if mixed => format!("d{}", block.number),
        Stream::Single if mixed => format!("s{}", block.number),
        _ => block.number.to_string(),
    };
    let label = match blocks.first().map(|block| block.stream) {
        Some(Stream::Dual | Stream::Single) if mixed => "block: d dual, s single",
        Some(Stream::Dual) => "dual block",
        Some(Stream::Single) => "single block",
        _ => "layer",
    };
    (label.into(), blocks.iter().map(name).collect())
}

/// `layers 0–11`, `layers 0, 3, 7`, `layer 11`, `dual blocks 9–18`, `dual blocks 0–2 and single block 0`.
pub(super) fn span(blocks: &[Block]) -> String {
    let runs = blocks.chunk_by(|a, b| a.stream == b.stream).map(|run| {
        let numbers: Vec<usize> = run.iter().map(|block| block.number).collect();
        let (one, many) = match run[0].stream {
            Stream::Dual => ("dual block", "dual blocks"),
            Stream::Single => ("single block", "single blocks"),
            _ => ("layer", "layers"),
        };
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

/// What the averaged chain is called in pictures.
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
