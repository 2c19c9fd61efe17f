//! Selection of blocks of a network: `all`, `last:4`, or a list.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{Error, Result};

/// A choice of blocks, written `all`, `last:4`, or as block numbers or names (`0,3,block.11`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum LayerSelection {
    /// Every block.
    #[default]
    All,
    /// The last few blocks.
    Last(usize),
    /// These blocks, counted from 0.
    List(BTreeSet<usize>),
}

impl LayerSelection {
    /// Returns the chosen block numbers of a network with `depth` blocks, ascending.
    ///
    /// # Errors
    /// The network has fewer blocks than requested.
    pub fn resolve(&self, depth: usize) -> Result<BTreeSet<usize>> {
        let refuse = |reason: String| Err(Error::Layers { spec: self.to_string(), reason });
        match self {
            Self::All => Ok((0..depth).collect()),
            Self::Last(n) if *n <= depth => Ok((depth - n..depth).collect()),
            Self::Last(_) => refuse(format!("the network has only {depth} blocks")),
            Self::List(list) => match (list.iter().find(|block| **block >= depth), depth.checked_sub(1)) {
                (Some(block), Some(last)) => {
                    refuse(format!("there is no block {block}; the network has blocks 0 to {last}"))
                }
                (Some(block), None) => refuse(format!("there is no block {block}; the network has none")),
                (None, _) => Ok(list.clone()),
            },
        }
    }

    /// Returns those of the chosen blocks that a tower with `depth` blocks has, ascending. If the tower is shallower
    /// than the network that the choice was made for, these are fewer blocks or none.
    pub fn of_tower(&self, depth: usize) -> BTreeSet<usize> {
        match self {
            Self::All => (0..depth).collect(),
            Self::Last(n) => (depth.saturating_sub(*n)..depth).collect(),
            Self::List(list) => list.range(..depth).copied().collect(),
        }
    }
}

impl FromStr for LayerSelection {
    type Err = Error;

    fn from_str(spec: &str) -> Result<Self> {
        let refuse = || Error::Layers {
            spec: spec.into(),
            reason: "expected `all`, `last:N` with N of at least 1, or block numbers or names such as \
                     `0,3,block.11`"
                .into(),
        };
        if spec.trim() == "all" {
            return Ok(Self::All);
        }
        if let Some(n) = spec.trim().strip_prefix("last:") {
            return match n.parse() {
                Ok(n) if n > 0 => Ok(Self::Last(n)),
                _ => Err(refuse()),
            };
        }
        let block = |item: &str| {
            let item = item.trim();
            item.strip_prefix("block.").unwrap_or(item).parse::<usize>().map_err(|_| refuse())
        };
        spec.split(',').map(block).collect::<Result<_>>().map(Self::List)
    }
}

impl fmt::Display for LayerSelection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Last(n) => write!(f, "last:{n}"),
            Self::List(list) => {
                let list: Vec<_> = list.iter().map(usize::to_string).collect();
                f.write_str(&list.join(","))
            }
        }
    }
}

impl Serialize for LayerSelection {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for LayerSelection {
    /// From a string as in [`FromStr`] or an array of block numbers.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Spec;
        impl<'de> Visitor<'de> for Spec {
            type Value = LayerSelection;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`all`, `last:N` or a list of block numbers")
            }

            fn visit_str<E: de::Error>(self, spec: &str) -> Result<Self::Value, E> {
                spec.parse().map_err(E::custom)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut list = BTreeSet::new();
                while let Some(block) = seq.next_element()? {
                    list.insert(block);
                }
                if list.is_empty() {
                    return Err(de::Error::custom("the list of layers is empty"));
                }
                Ok(LayerSelection::List(list))
            }
        }
        deserializer.deserialize_any(Spec)
    }
}

impl JsonSchema for LayerSelection {
    fn schema_name() -> Cow<'static, str> {
        "LayerSelection".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "`\"all\"`, `\"last:N\"`, or numbers counted from 0: `\"0,3\"` or `[0, 3]`.",
            "anyOf": [
                { "type": "string", "pattern": "^\\s*(all|last:[1-9][0-9]*|(block\\.)?[0-9]+(\\s*,\\s*(block\\.)?[0-9]+)*)\\s*$" },
                { "type": "array", "items": { "type": "integer", "minimum": 0 } },
            ],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_of_writing_layers() -> Result<()> {
        let resolve = |spec: &str| spec.parse::<LayerSelection>()?.resolve(12);
        assert_eq!(resolve("all")?.len(), 12);
        assert_eq!(resolve("last:4")?, (8..12).collect());
        assert_eq!(resolve("0, block.3,11")?, [0, 3, 11].into());
        Ok(())
    }

    #[test]
    fn a_shallower_tower_gives_the_blocks_it_has() -> Result<()> {
        for (spec, blocks) in [
            ("all", vec![0, 1, 2]),
            ("last:2", vec![1, 2]),
            ("last:9", vec![0, 1, 2]),
            ("1,7", vec![1]),
            ("7", vec![]),
        ] {
            assert_eq!(spec.parse::<LayerSelection>()?.of_tower(3), blocks.into_iter().collect(), "{spec}");
        }
        Ok(())
    }

    #[test]
    fn impossible_layers_are_refused() {
        for spec in ["", "last:0", "last:", "last:x", "first:2", "1,,2", "block.", "-1"] {
            assert!(spec.parse::<LayerSelection>().is_err(), "{spec:?} was accepted");
        }
        for spec in ["last:13", "12", "3,99"] {
            let parsed = spec.parse::<LayerSelection>().expect(spec);
            assert!(parsed.resolve(12).is_err(), "{spec:?} fits no network of 12 blocks");
        }
    }

    #[test]
    fn printed_selections_parse_to_the_same_selection() -> Result<()> {
        for spec in ["all", "last:4", "0,3,11"] {
            assert_eq!(spec.parse::<LayerSelection>()?.to_string(), spec);
        }
        Ok(())
    }
}
