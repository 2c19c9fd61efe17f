//! Aggregates the self-attention of all resolutions of a UNet into one matrix over the tokens of the finest grid (arXiv
//! 2308.12469, section 3.2).
//!
//! Maps of one resolution are averaged over heads and layers. Their rows, which are images of attention over the keys,
//! are enlarged to the finest grid (bilinear, half-pixel centres, edges repeated) and normalised to sum 1. Each is
//! repeated for all fine queries that its coarse query covers. The maps are then averaged over the resolutions with
//! weights in proportion to the side of their grids.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use models::attend::{AttentionProbe, View, Want};
use models::probe::{LAMBDA_TOLERANCE, lambda2};
use models::{Site, Stream};
use tch::{Kind, Tensor};

use crate::error::Result;
use crate::method::HeadShare;

/// Minimum weight of a head, so that all heads have equal weights if none of them has any structure.
const LEAST_WEIGHT: f64 = 1e-12;

/// The probe that aggregates the self-attention of a UNet during a pass.
///
/// For each [`HeadShare`] it keeps one float32 sum per resolution, `[batch, n, n]` for its `n` tokens: 64 MiB per image
/// at 64 by 64 tokens, and 4.3 MiB more for the three coarser grids of Stable Diffusion together. The finest sum is
/// turned into the aggregate in place. λ₂ is computed for the heads whose maps are in memory
/// ([`heads_at_once`](models::attend::heads_at_once)).
pub struct Aggregator {
    sums: BTreeMap<HeadShare, BTreeMap<(i64, i64), Tensor>>,
}

/// The aggregates of a batch.
pub struct Aggregates {
    grid: (i64, i64),
    of: BTreeMap<HeadShare, Tensor>,
}

impl Aggregator {
    /// Creates the probe. It computes one aggregate for each of `weightings`.
    pub fn new(weightings: &BTreeSet<HeadShare>) -> Self {
        Self { sums: weightings.iter().map(|weighting| (*weighting, BTreeMap::new())).collect() }
    }

    /// Returns the aggregates.
    ///
    /// # Errors
    /// Fails if no self-attention of a UNet was seen, or if libtorch fails.
    pub fn finish(self) -> Result<Aggregates> {
        let mut grid = (0, 0);
        let mut of = BTreeMap::new();
        for (weighting, sums) in self.sums {
            let (finest, aggregate) = aggregate(sums)?;
            grid = finest;
            of.insert(weighting, aggregate);
        }
        Ok(Aggregates { grid, of })
    }
}

impl Aggregates {
    /// Rows and columns of the finest token grid.
    pub fn grid(&self) -> (usize, usize) {
        (self.grid.0 as usize, self.grid.1 as usize)
    }

    /// Returns the aggregate of one image, `[n, n]` float32 on the network's device; its rows sum to 1.
    ///
    /// # Errors
    /// Fails if this aggregate was not requested, or if there is no such image.
    pub fn get(&self, weighting: HeadShare, image: usize) -> Result<Tensor> {
        let found = self.of.get(&weighting);
        let found = found.ok_or_else(|| models::Error::Probe(format!("{weighting:?} was not requested")))?;
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
        for (weighting, sums) in &mut self.sums {
            let weights = match weighting {
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

/// Adds the heads of `maps` `[batch, heads, n, n]`, weighted by `weights` `[batch, heads]`, to the sum of their grid.
/// One head is added at a time, so that no second tensor of that size is needed.
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

/// Returns the finest grid and the aggregate over it, `[batch, n, n]`, from the sums of all grids. The sums need not be
/// divided by their weights, since rows are normalised to sum 1.
fn aggregate(mut sums: BTreeMap<(i64, i64), Tensor>) -> Result<((i64, i64), Tensor)> {
    let nothing = || models::Error::Probe("no self-attention of a UNet was seen".into());
    let finest = *sums.keys().max_by_key(|(rows, columns)| rows * columns).ok_or_else(nothing)?;
    // The side of a square with the same number of tokens.
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

/// Enlarges rows `[queries, keys]` over the keys of `grid` to rows over the keys of `finest`, each with sum `weight`.
fn enlarge(map: &Tensor, grid: (i64, i64), finest: (i64, i64), weight: f64) -> Result<Tensor> {
    let queries = map.size()[0];
    let images = map.f_reshape([1, queries, grid.0, grid.1])?;
    let enlarged = images.f_upsample_bilinear2d([finest.0, finest.1], false, None, None)?;
    let mut enlarged = enlarged.f_reshape([queries, finest.0 * finest.1])?;
    let sums = enlarged.f_sum_dim_intlist(-1i64, true, Kind::Float)?.f_div_scalar(weight)?;
    Ok(enlarged.f_div_(&sums)?)
}

/// Adds to every row of `aggregate`, a query of `finest`, the row of `map` whose query covers it.
fn repeat_into(aggregate: &Tensor, map: &Tensor, grid: (i64, i64), finest: (i64, i64)) -> Result<()> {
    let under: Vec<i64> = (0..finest.1).map(|column| column * grid.1 / finest.1).collect();
    let under = Tensor::f_from_slice(&under)?.f_to_device(map.device())?;
    for row in 0..finest.0 {
        let source = map.f_narrow(0, row * grid.0 / finest.0 * grid.1, grid.1)?.f_index_select(0, &under)?;
        let _ = aggregate.f_narrow(0, row * finest.1, finest.1)?.f_add_(&source)?;
    }
    Ok(())
}
