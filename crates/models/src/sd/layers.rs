//! Selection of attention layers of a UNet: `all`, `mid_block`, or a list such as `up_blocks.1.attn1,last:2`.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use super::config::UnetConfig;
use crate::error::{Error, Result};
use crate::site::UnetLayer;

/// The beginnings of the paths of all layers.
const PARTS: [&str; 3] = ["down_blocks", "mid_block", "up_blocks"];
/// The ends of the paths: self-attention and cross-attention.
const ENDS: [(&str, bool); 2] = [("attn1", false), ("attn2", true)];

/// A choice of layers: a comma-separated list of `all`, `last:4` (transformer layers), and paths of a checkpoint or
/// beginnings of paths (`mid_block`, `up_blocks.1.attentions.0`). Each item selects self- and cross-attention; with
/// `.attn1` or `.attn2` at its end it selects one of the two. `attn1` alone selects every self-attention.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnetLayers(Vec<Item>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Item {
    which: Which,
    cross: Option<bool>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Which {
    All,
    Last(usize),
    Below(String),
}

impl Default for UnetLayers {
    fn default() -> Self {
        Self(vec![Item { which: Which::All, cross: None }])
    }
}

impl UnetLayers {
    /// Returns the chosen layers of a network, in the order of a pass.
    ///
    /// # Errors
    /// The network has fewer layers than requested, or none with this path.
    pub fn resolve(&self, config: &UnetConfig) -> Result<BTreeSet<UnetLayer>> {
        let layers = config.attention_layers();
        let depth = layers.last().map_or(0, |(block, _)| block + 1);
        let mut chosen = BTreeSet::new();
        for item in &self.0 {
            let found = layers.iter().filter(|(block, layer)| item.names(*block, depth, layer));
            let mut found = found.map(|(_, layer)| *layer).peekable();
            if found.peek().is_none() || matches!(item.which, Which::Last(count) if count > depth) {
                let parts: BTreeSet<_> = layers.iter().map(|(_, layer)| layer.part).collect();
                let parts: Vec<String> = parts.iter().map(ToString::to_string).collect();
                let reason = format!(
                    "`{item}` is not an attention layer of this UNet, which has {depth} transformer layers, in {}",
                    parts.join(", ")
                );
                return Err(Error::Layers { spec: self.to_string(), reason });
            }
            chosen.extend(found);
        }
        Ok(chosen)
    }
}

impl Item {
    fn names(&self, block: usize, depth: usize, layer: &UnetLayer) -> bool {
        let here = match &self.which {
            Which::All => true,
            Which::Last(count) => block + count >= depth,
            // `up_blocks.1` must not match `up_blocks.10`.
            Which::Below(path) => {
                layer.to_string().strip_prefix(path).is_some_and(|rest| rest.starts_with('.'))
            }
        };
        here && self.cross.is_none_or(|cross| cross == layer.cross)
    }
}

impl FromStr for UnetLayers {
    type Err = Error;

    fn from_str(spec: &str) -> Result<Self> {
        let refuse = || {
            Error::Layers {
            spec: spec.into(),
            reason: "of a Stable Diffusion pipeline, expected `all`, `last:N` with N of at least 1, or paths such as \
                     `mid_block` and `up_blocks.1.attentions.0`, each with `.attn1` for self-attention or `.attn2` for \
                     cross-attention alone"
                .into(),
        }
        };
        let item = |item: &str| {
            let item = item.trim();
            let item = item.strip_prefix("unet.").unwrap_or(item);
            let end = ENDS.iter().find_map(|&(end, cross)| {
                let rest = item.strip_suffix(end)?;
                (rest.is_empty() || rest.ends_with('.')).then(|| (rest.trim_end_matches('.'), cross))
            });
            let (path, cross) = end.map_or((item, None), |(rest, cross)| (rest, Some(cross)));
            let which = match path.strip_prefix("last:") {
                Some(count) => Which::Last(count.parse().ok().filter(|count| *count > 0).ok_or_else(refuse)?),
                None if path == "all" || (path.is_empty() && cross.is_some()) => Which::All,
                None if path.split('.').next().is_some_and(|part| PARTS.contains(&part)) => {
                    Which::Below(path.into())
                }
                None => return Err(refuse()),
            };
            Ok(Item { which, cross })
        };
        spec.split(',').map(item).collect::<Result<_>>().map(Self)
    }
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.which {
            Which::All => f.write_str("all")?,
            Which::Last(count) => write!(f, "last:{count}")?,
            Which::Below(path) => f.write_str(path)?,
        }
        match self.cross {
            None => Ok(()),
            Some(false) => f.write_str(".attn1"),
            Some(true) => f.write_str(".attn2"),
        }
    }
}

impl fmt::Display for UnetLayers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let items: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&items.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(spec: &str) -> Result<usize> {
        Ok(spec.parse::<UnetLayers>()?.resolve(&UnetConfig::default())?.len())
    }

    #[test]
    fn every_way_of_writing_layers() -> Result<()> {
        for (spec, wanted) in [
            ("all", 32),
            ("attn1", 16),
            ("all.attn2", 16),
            ("mid_block", 2),
            ("mid_block.attn1", 1),
            ("unet.mid_block.attentions.0.transformer_blocks.0.attn1", 1),
            ("up_blocks", 18),
            ("up_blocks.1, up_blocks.1.attentions.0", 6),
            ("last:2", 4),
            ("last:16.attn2,mid_block", 17),
        ] {
            assert_eq!(count(spec)?, wanted, "{spec}");
        }
        assert_eq!(UnetLayers::default(), "all".parse()?);
        Ok(())
    }

    #[test]
    fn impossible_layers_are_refused() {
        for spec in ["", "3", "block.3", "attn3", "last:0", "last:x", "mid_block,,", "attn", "middle.attn1"] {
            assert!(spec.parse::<UnetLayers>().is_err(), "{spec:?} was accepted");
        }
        for spec in [
            "last:17",
            "up_blocks.0",
            "down_blocks.0.attentions.2",
            "mid_block.attentions.1.attn1",
            "up_blocks.10",
        ] {
            let message = count(spec).expect_err(spec).to_string();
            assert!(message.contains(spec) && message.contains("16 transformer layers"), "{message}");
        }
    }

    #[test]
    fn printed_selections_parse_to_the_same_selection() -> Result<()> {
        for spec in ["all", "all.attn1", "last:4", "mid_block.attn1,up_blocks.1.attentions.0"] {
            assert_eq!(spec.parse::<UnetLayers>()?.to_string(), spec);
        }
        Ok(())
    }
}
