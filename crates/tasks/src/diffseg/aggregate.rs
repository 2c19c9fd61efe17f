//! The self-attention of all resolutions of a UNet as one matrix over the tokens of the finest (arXiv 2308.12469, section
//! 3.2).
//!
//! Maps of one resolution are averaged over heads and layers. Their rows, pictures of attention over the keys, are
//! enlarged to the finest grid (bilinear, half-pixel centres, edges repeated), brought to sum 1 each, repeated over the
//! queries that a coarse query stands for, and averaged over resolutions with weights in proportion to their side.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use models::attend::{AttentionProbe, View, Want};
use models::probe::{LAMBDA_TOLERANCE, lambda2};
use models::{Site, Stream};
use tch::{Kind, Tensor};

use crate::error::Result;
use crate::method::HeadShare;

/// Weight of a head without structure, so that heads share equally where none has any.
const LEAST_WEIGHT: f64 = 1e-12;

/// The probe that aggregates the self-attention of a UNet's pass while it goes by.
///
/// For each [`HeadShare`] it keeps one float32 sum a resolution, `[batch, n, n]` of its `n` tokens: 64 MiB an image at 64 by
/// 64 tokens, and 4.3 MiB more for the three coarser grids of Stable Diffusion together. The finest sum becomes the
/// aggregate in place.
/// λ₂ is found head by head, of those whose maps are alive ([`heads_at_once`](models::attend::heads_at_once)).
pub struct Aggregator {
    sums: BTreeMap<HeadShare, BTreeMap<(i64, i64), Tensor>>,
}

/// The aggregates of a batch.
pub struct Aggregates {
    grid: (i64, i64),
    of: BTreeMap<HeadShare, Tensor>,
}

impl Aggregator {
    /// One aggregate for each way in which heads may share.
    pub fn new(shares: &BTreeSet<HeadShare>) -> Self {
        Self { sums: shares.iter().map(|share| (*share, BTreeMap::new())).collect() }
    }

    /// Aggregates what was seen.
    ///
    /// # Errors
    /// No self-attention of a UNet was seen; libtorch's.
    pub fn finish(self) -> Result<Aggregates> {
        let mut grid = (0, 0);
        let mut of = BTreeMap::new();
        for (share, sums) in self.sums {
            let (finest, aggregate) = aggregate(sums)?;
            grid = finest;
            of.insert(share, aggregate);
        }
        Ok(Aggregates { grid, of })
    }
}

impl Aggregates {
    /// Tokens of the finest grid as (rows, columns).
    pub fn grid(&self) -> (usize, usize) {
        (self.grid.0 as usize, self.grid.1 as usize)
    }

    /// The aggregate of one image, `[n, n]` float32 on the network's device, rows summing to 1.
    ///
    /// # Errors
    /// It was not asked for, or there is no such image.
    pub fn get(&self, share: HeadShare, image: usize) -> Result<Tensor> {
        let found = self.of.get(&share);
        let found = found.ok_or_else(|| models::Error::Probe(format!("{share:?} was not asked for")))?;
        Ok(found.f_get(image as i64)?)
    }
}

impl AttentionProbe for Aggregator {
    fn want(&mut self, site: &Site) -> Want {
        if is_ours(site) && !self.sums.is_empty() { Want::PROBS } else { Want::NONE }
    }

    fn see(&mut self, site: &Site, _: Range<i64>, view: &View<'_>) -> models::Result<()> {
        if !is_ours(site) {
            return Ok(());
        }
        let maps = view.probs()?;
        for (share, sums) in &mut self.sums {
            let weights = match share {
                HeadShare::Equal => None,
                HeadShare::Lambda2 => {
                    let lambda = lambda2(maps, LAMBDA_TOLERANCE)?;
                    Some(lambda.f_clamp_min(LEAST_WEIGHT)?.f_to_kind(Kind::Float)?)
                }
            };
            add(sums, site.layout.image, maps, weights.as_ref())?;
        }
        Ok(())
    }
}

fn is_ours(site: &Site) -> bool {
    matches!(site.stream, Stream::Unet(layer) if !layer.cross)
}

/// Adds the heads of `maps` `[batch, heads, n, n]`, weighted by `weights` `[batch, heads]`, to the sum of their grid: one
/// at a time, so that nothing of their size is made.
fn add(
    sums: &mut BTreeMap<(i64, i64), Tensor>,
    grid: (i64, i64),
    maps: &Tensor,
    weights: Option<&Tensor>,
) -> models::Result<()> {
    let (batch, heads, n, _) = maps.size4()?;
    let sum = match sums.entry(grid) {
        Entry::Occupied(begun) => begun.into_mut(),
        Entry::Vacant(none) => none.insert(Tensor::f_zeros([batch, n, n], (Kind::Float, maps.device()))?),
    };
    for head in 0..heads {
        let map = maps.f_select(1, head)?;
        let _ = match weights {
            None => sum.f_add_(&map)?,
            Some(weights) => sum.f_addcmul_(&map, &weights.f_select(1, head)?.f_reshape([batch, 1, 1])?)?,
        };
    }
    Ok(())
}

/// The finest grid and the aggregate over it, `[batch, n, n]`, from the sums of all grids, which need no weights since rows
/// are brought to sum 1.
fn aggregate(mut sums: BTreeMap<(i64, i64), Tensor>) -> Result<((i64, i64), Tensor)> {
    let nothing = || models::Error::Probe("no self-attention of a UNet was seen".into());
    let finest = *sums.keys().max_by_key(|(rows, columns)| rows * columns).ok_or_else(nothing)?;
    // The side of a square of as many tokens.
    let side = |(rows, columns): (i64, i64)| ((rows * columns) as f64).sqrt();
    let total: f64 = sums.keys().map(|grid| side(*grid)).sum();
    let mut aggregate = sums.remove(&finest).ok_or_else(nothing)?;
    let rows = aggregate.f_sum_dim_intlist(-1i64, true, Kind::Float)?.f_mul_scalar(total / side(finest))?;
    let _ = aggregate.f_div_(&rows)?;
    for (grid, sum) in &sums {
        for image in 0..sum.size()[0] {
            let enlarged = enlarge(&sum.f_get(image)?, *grid, finest, side(*grid) / total)?;
            repeat_into(&aggregate.f_get(image)?, &enlarged, *grid, finest)?;
        }
    }
    Ok((finest, aggregate))
}

/// Rows `[queries, keys]` over the keys of `grid` as rows over those of `finest`, each with sum `weight`.
fn enlarge(map: &Tensor, grid: (i64, i64), finest: (i64, i64), weight: f64) -> Result<Tensor> {
    let queries = map.size()[0];
    let pictures = map.f_reshape([1, queries, grid.0, grid.1])?;
    let enlarged = pictures.f_upsample_bilinear2d([finest.0, finest.1], false, None, None)?;
    let mut enlarged = enlarged.f_reshape([queries, finest.0 * finest.1])?;
    let sums = enlarged.f_sum_dim_intlist(-1i64, true, Kind::Float)?.f_div_scalar(weight)?;
    Ok(enlarged.f_div_(&sums)?)
}

/// Adds to every row of `aggregate`, a query of `finest`, the row of `map` whose query lies under it.
fn repeat_into(aggregate: &Tensor, map: &Tensor, grid: (i64, i64), finest: (i64, i64)) -> Result<()> {
    let under: Vec<i64> = (0..finest.1).map(|column| column * grid.1 / finest.1).collect();
    let under = Tensor::f_from_slice(&under)?.f_to_device(map.device())?;
    for row in 0..finest.0 {
        let source = map.f_narrow(0, row * grid.0 / finest.0 * grid.1, grid.1)?.f_index_select(0, &under)?;
        let _ = aggregate.f_narrow(0, row * finest.1, finest.1)?.f_add_(&source)?;
    }
    Ok(())
}
