//! Selection of blocks of a FLUX transformer: `all`, `last:4`, or a list such as `dual.3,single.0`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};
use crate::layers::LayerSelection;
use crate::site::Stream;

/// Default number of dual blocks, as in the authors' demo.
const USUAL: usize = 10;

/// A choice of blocks of both streams: a comma-separated list. `all` and `last:4` apply to each stream; with the name
/// of a stream before them, they and block numbers apply to that stream (`dual.3`, `single.0`, `dual.last:10`,
/// `single.all`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum FluxLayers {
    /// The last ten dual blocks, or all of them if there are fewer.
    #[default]
    Usual,
    /// A list of selections, each for one stream or for both.
    List(Vec<(Option<Stream>, LayerSelection)>),
}

impl FluxLayers {
    /// Returns the chosen blocks of a network with the given numbers of dual and single blocks, in the order of the
    /// pass. No set is empty.
    ///
    /// # Errors
    /// The network has fewer blocks than requested.
    pub fn resolve(&self, dual: usize, single: usize) -> Result<BTreeMap<Stream, BTreeSet<usize>>> {
        let mut chosen: BTreeMap<Stream, BTreeSet<usize>> = BTreeMap::new();
        let mut add = |stream: Stream, blocks: BTreeSet<usize>| {
            if !blocks.is_empty() {
                chosen.entry(stream).or_default().extend(blocks);
            }
        };
        match self {
            Self::Usual => add(Stream::Dual, (dual.saturating_sub(USUAL)..dual).collect()),
            Self::List(items) => {
                for (asked, selection) in items {
                    for (stream, name, depth) in
                        [(Stream::Dual, "dual", dual), (Stream::Single, "single", single)]
                    {
                        if asked.is_some_and(|asked| asked != stream) {
                            continue;
                        }
                        let refuse = |_| {
                            let reason = match depth {
                                0 => format!("the network has no {name} blocks"),
                                _ => format!("the network has {depth} {name} blocks, numbered from 0"),
                            };
                            Error::Layers { spec: self.to_string(), reason }
                        };
                        add(stream, selection.resolve(depth).map_err(refuse)?);
                    }
                }
            }
        }
        if chosen.is_empty() {
            let reason = "the network has no such blocks".into();
            return Err(Error::Layers { spec: self.to_string(), reason });
        }
        Ok(chosen)
    }
}

impl FromStr for FluxLayers {
    type Err = Error;

    fn from_str(spec: &str) -> Result<Self> {
        let item = |item: &str| {
            let item = item.trim();
            let (stream, rest) = match item.split_once('.') {
                Some(("dual", rest)) => (Some(Stream::Dual), rest),
                Some(("single", rest)) => (Some(Stream::Single), rest),
                _ => (None, item),
            };
            let selection = rest.parse().ok().filter(|selection| match selection {
                LayerSelection::All | LayerSelection::Last(_) => true,
                // `block.3` is a name of other networks, and a number alone could mean either stream.
                LayerSelection::List(_) => stream.is_some() && !rest.contains('.'),
            });
            selection.map(|selection| (stream, selection)).ok_or_else(|| Error::Layers {
                spec: spec.into(),
                reason: "of a FLUX pipeline, expected `all`, `last:N` with N of at least 1, or blocks by stream and \
                         number such as `dual.3,single.0` or `dual.last:10`"
                    .into(),
            })
        };
        spec.split(',').map(item).collect::<Result<_>>().map(Self::List)
    }
}

impl fmt::Display for FluxLayers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let items = match self {
            Self::Usual => return write!(f, "dual.last:{USUAL}"),
            Self::List(items) => items,
        };
        let names = items.iter().map(|(stream, selection)| match stream {
            Some(stream) => format!("{stream}.{selection}"),
            None => selection.to_string(),
        });
        f.write_str(&names.collect::<Vec<_>>().join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(spec: &str, dual: usize, single: usize) -> Result<Vec<String>> {
        let chosen = spec.parse::<FluxLayers>()?.resolve(dual, single)?;
        let names = chosen.into_iter().flat_map(|(stream, blocks)| {
            blocks.into_iter().map(move |block| format!("{}{block}", &stream.to_string()[..1]))
        });
        Ok(names.collect())
    }

    #[test]
    fn every_way_of_writing_blocks() -> Result<()> {
        assert_eq!(resolved("all", 2, 1)?, ["d0", "d1", "s0"]);
        assert_eq!(resolved("last:2", 4, 3)?, ["d2", "d3", "s1", "s2"]);
        assert_eq!(resolved("single.0, dual.3,dual.1", 4, 3)?, ["d1", "d3", "s0"]);
        assert_eq!(resolved("dual.last:2,single.all", 4, 2)?, ["d2", "d3", "s0", "s1"]);
        assert_eq!(resolved("all", 2, 0)?, ["d0", "d1"]);
        Ok(())
    }

    #[test]
    fn default_blocks_are_the_last_ten_dual_blocks() -> Result<()> {
        let usual = |dual| FluxLayers::Usual.resolve(dual, 5);
        assert_eq!(usual(19)?, [(Stream::Dual, (9..19).collect())].into());
        assert_eq!(usual(3)?, [(Stream::Dual, (0..3).collect())].into());
        Ok(())
    }

    #[test]
    fn impossible_blocks_are_refused() {
        for spec in
            ["", "3", "block.3", "dual", "dual.", "dual.block.3", "single.last:0", "triple.1", "all,,"]
        {
            assert!(spec.parse::<FluxLayers>().is_err(), "{spec:?} was accepted");
        }
        for spec in ["dual.2", "last:3", "single.last:9", "dual.0,single.3"] {
            let error = resolved(spec, 2, 3).expect_err(spec).to_string();
            assert!(error.contains(spec) && error.contains("blocks, numbered from 0"), "{error}");
        }
        assert!(resolved("single.all", 2, 0).is_err() && FluxLayers::Usual.resolve(0, 3).is_err());
    }

    #[test]
    fn printed_selections_parse_to_the_same_selection() -> Result<()> {
        for spec in ["all", "last:4", "dual.3,single.0", "dual.last:10,single.all"] {
            assert_eq!(spec.parse::<FluxLayers>()?.to_string(), spec);
        }
        assert_eq!(FluxLayers::Usual.to_string(), "dual.last:10");
        Ok(())
    }
}
