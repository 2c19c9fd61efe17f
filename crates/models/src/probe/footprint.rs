//! Memory needed for the maps of a pass, computed in advance.

use tch::{Device, Kind};

use super::pass::{HeadWeight, MapKind, MapRequest, WeightScope};
use crate::attend::heads_at_once;

/// The sizes of a pass that a [`PassMaps`](super::PassMaps) observes.
#[derive(Debug, Clone, Copy)]
pub struct MapFootprint<'a> {
    /// Number of images in a batch.
    pub batch: i64,
    /// Tokens of the sequence.
    pub tokens: i64,
    /// Heads of a block.
    pub heads: i64,
    /// Maximum number of heads whose maps are in memory at once. By default as many as fit into 256 MiB.
    pub heads_at_once: Option<i64>,
    /// Type that the network computes in.
    pub kind: Kind,
    /// The requested averages.
    pub requests: &'a [MapRequest],
}

impl MapFootprint<'_> {
    /// Size in bytes of a float32 map `[batch, tokens, tokens]` of one head.
    pub fn map_bytes(&self) -> u64 {
        4 * self.numbers() as u64
    }

    /// Number of heads whose maps are in memory at once.
    pub fn alive(&self) -> i64 {
        heads_at_once(self.heads_at_once, self.heads, self.numbers())
    }

    /// Returns the peak size of maps in memory, in bytes.
    ///
    /// In units of one head's map, every head shown needs its logits and probabilities, plus the largest of: the
    /// probabilities in the network's type if that has 16 bits (½), a softmax over queries (1, [`MapKind::Pretty`]),
    /// and the working copies for λ₂ (none on the host; on a device two in float64 and a mask of one byte per number).
    /// Every request needs the current average, another one for closed blocks if weights sum to 1 per block, and `2 k`
    /// maps if the top `k` heads count. One more map holds the term that is being added.
    pub fn bytes(&self, device: Device) -> u64 {
        let quarters = self.alive() as u64 * self.quarters_per_head(device) + 4 * self.kept();
        self.numbers() as u64 * quarters
    }

    fn numbers(&self) -> i64 {
        self.batch * self.tokens * self.tokens
    }

    /// Memory per head in quarters of a map, that is, in bytes per number.
    fn quarters_per_head(&self, device: Device) -> u64 {
        let asks = |of: &dyn Fn(&MapRequest) -> bool| self.requests.iter().any(of);
        let narrow = if self.kind == Kind::Float { 0 } else { 2 };
        let pretty = if asks(&|request| request.map == MapKind::Pretty) { 4 } else { 0 };
        let weighed = asks(&|request| request.weight != HeadWeight::Equal);
        let lambda = match (weighed, device) {
            (false, _) | (true, Device::Cpu) => 0,
            (true, _) => 17,
        };
        8 + [narrow, pretty, lambda].into_iter().max().unwrap_or(0)
    }

    /// Memory of the averages, in maps.
    fn kept(&self) -> u64 {
        let of_scope = |scope| if scope == WeightScope::PerBlock { 2 } else { 1 };
        let of_request = |request: &MapRequest| match request.weight {
            HeadWeight::Equal => 1,
            HeadWeight::Lambda(_, scope) => of_scope(scope),
            HeadWeight::Top(count, scope) => 2 * count.get() as u64 + of_scope(scope),
        };
        self.requests.iter().map(of_request).sum::<u64>() + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flux::FluxConfig;
    use crate::probe::LambdaWeight;

    const SCALING: &str = include_str!("../../../../docs/scaling.md");

    fn amount(bytes: u64) -> String {
        let mebibytes = bytes as f64 / f64::from(1 << 20);
        if mebibytes < 1000.0 {
            format!("{mebibytes:.0} MiB")
        } else {
            format!("{:.1} GiB", mebibytes / 1024.0)
        }
    }

    /// The requests of `configs/paper/segment-imagenet.toml`: row and column of the mean map, bounces on the pretty one
    /// with equal weights and by λ₂.
    const REQUESTS: [MapRequest; 3] = [
        MapRequest { map: MapKind::Plain, weight: HeadWeight::Equal },
        MapRequest { map: MapKind::Pretty, weight: HeadWeight::Equal },
        MapRequest {
            map: MapKind::Pretty,
            weight: HeadWeight::Lambda(LambdaWeight::Proportional, WeightScope::PerBlock),
        },
    ];

    #[test]
    fn computed_footprints_equal_the_documented_table() {
        let config = FluxConfig::default();
        let mut rows = vec![format!("| transformer | {} |", amount(2 * config.parameters()))];
        for (side, text, limits) in [
            (512, 256, &[Some(1), None][..]),
            (1024, 256, &[Some(1), None, Some(24)]),
            (1024, 512, &[Some(1), None, Some(24)]),
        ] {
            for &heads_at_once in limits {
                let image = side / 16;
                let footprint = MapFootprint {
                    batch: 1,
                    tokens: image * image + text,
                    heads: config.num_attention_heads,
                    heads_at_once,
                    kind: Kind::BFloat16,
                    requests: &REQUESTS,
                };
                rows.push(format!(
                    "| {side}² | {} + {text} | {}{} | {} | {} | {} |",
                    image * image,
                    footprint.alive(),
                    if heads_at_once.is_none() { ", the default" } else { "" },
                    amount(footprint.map_bytes()),
                    amount(footprint.bytes(Device::Cuda(0))),
                    amount(config.activation_bytes(footprint.tokens, Kind::BFloat16)),
                ));
            }
        }
        let missing: Vec<&String> = rows.iter().filter(|row| !SCALING.contains(*row)).collect();
        assert!(missing.is_empty(), "docs/scaling.md lacks {missing:#?}");
    }

    #[test]
    fn every_request_adds_to_the_footprint() {
        let of = |requests: &[MapRequest], device| {
            let (batch, tokens, heads) = (1, 10, 4);
            MapFootprint { batch, tokens, heads, heads_at_once: Some(2), kind: Kind::Float, requests }
                .bytes(device)
        };
        // Two heads with logits and probabilities; the sum and what is added to it.
        assert_eq!(of(&REQUESTS[..1], Device::Cpu), 400 * (2 * 2 + 1 + 1));
        // A softmax over queries of each head, and another sum.
        assert_eq!(of(&REQUESTS[..2], Device::Cpu), 400 * (2 * 3 + 2 + 1));
        // λ₂ on the host reads the maps where they are; its average is kept open and closed.
        assert_eq!(of(&REQUESTS, Device::Cpu), 400 * (2 * 3 + 4 + 1));
        assert_eq!(of(&REQUESTS, Device::Cuda(0)), 100 * (2 * 25) + 400 * (4 + 1));
    }
}
