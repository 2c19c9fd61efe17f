//! Computes the signals over image tokens from what the probe has kept of the passes.

use std::ops::Range;

use markov_core::torch::{bounce, to_vec, token_rank};
use markov_core::{Direction, Stop};
use models::{TokenKind, TokenLayout};
use ndarray::Array2;
use tch::{Kind, Tensor};

use super::config::SegmentConfig;
use super::method::{Bounce, Method, Rank};
use super::probe::PassSignals;
use crate::error::{Error, Result};

/// L1 change at which TokenRank stops, far below any difference of two values that matters.
const RANK_TOLERANCE: f64 = 1e-8;

/// A class that is searched for in one image of a batch.
pub(super) struct Target {
    /// Index of the image in the batch.
    pub(super) image: i64,
    /// Tokens of the prompt that stand for the class.
    pub(super) tokens: Range<usize>,
    /// Index of the class among the concepts of the image.
    pub(super) concept: i64,
}

/// Returns the signals `[rows, columns]` of one method, one for each target.
///
/// `concepts` is the number of `concept-attention` methods before this one.
pub(super) fn signals(
    method: &Method,
    concepts: usize,
    config: &SegmentConfig,
    layout: &TokenLayout,
    kept: &PassSignals,
    targets: &[Target],
) -> Result<Vec<Array2<f32>>> {
    let map = || -> Result<&Tensor> {
        let request = method.request().ok_or_else(|| missing("mean map"))?;
        Ok(kept.maps.get(request)?)
    };
    let image = Image::of(layout)?;
    let alpha = method.alpha().unwrap_or(config.alpha);
    match method {
        Method::RowSelect(_) => image.rows(map()?, targets),
        Method::ColumnSelect(_) => image.rows(&map()?.f_transpose(1, 2)?, targets),
        Method::Rollout(_) => {
            let rollout = kept.rollout.as_ref().ok_or_else(|| missing("rollout"))?;
            image.rows(rollout, targets)
        }
        Method::Bounce(Bounce { steps, direction, .. }) => {
            image.bounces(map()?, targets, alpha, (*direction).into(), *steps)
        }
        Method::Tokenrank(Rank { direction, .. }) => {
            let stop = Stop::accelerated(RANK_TOLERANCE);
            let ranks = token_rank(map()?, alpha, (*direction).into(), stop).map_err(models::Error::from)?;
            targets.iter().map(|target| image.grid(&ranks.pi.f_get(target.image)?)).collect()
        }
        Method::ConceptAttention(_) => {
            let scores = kept.concepts.get(concepts).ok_or_else(|| missing("concept scores"))?;
            let one =
                |target: &Target| to_grid(&scores.f_get(target.image)?.f_get(target.concept)?, layout.image);
            targets.iter().map(one).collect()
        }
        Method::File(_) => Err(missing("signal of a method whose signals are in a file")),
    }
}

fn missing(what: &str) -> Error {
    models::Error::Probe(format!("the passes kept no {what}")).into()
}

/// The positions of the image tokens.
struct Image {
    first: i64,
    grid: (i64, i64),
}

impl Image {
    fn of(layout: &TokenLayout) -> Result<Self> {
        let indices = layout.indices(|kind| kind == TokenKind::Image);
        let first = indices.first().copied().ok_or_else(|| missing("image tokens"))?;
        Ok(Self { first, grid: layout.image })
    }

    /// Returns the image tokens of a distribution `[n]` as a grid.
    fn grid(&self, distribution: &Tensor) -> Result<Array2<f32>> {
        to_grid(&distribution.f_narrow(0, self.first, self.grid.0 * self.grid.1)?, self.grid)
    }

    /// Returns the mean of the rows of `map` `[batch, n, n]` over each target's tokens.
    fn rows(&self, map: &Tensor, targets: &[Target]) -> Result<Vec<Array2<f32>>> {
        let row = |Target { image, tokens, .. }: &Target| {
            let rows = map.f_get(*image)?.f_narrow(0, tokens.start as i64, tokens.len() as i64)?;
            self.grid(&rows.f_mean_dim(0i64, false, Kind::Double)?)
        };
        targets.iter().map(row).collect()
    }

    /// Returns the states after some steps of the chain, which start at each target's tokens with equal probabilities.
    fn bounces(
        &self,
        map: &Tensor,
        targets: &[Target],
        alpha: f64,
        direction: Direction,
        steps: usize,
    ) -> Result<Vec<Array2<f32>>> {
        let walk = |Target { image, tokens, .. }: &Target| {
            let map = map.f_get(*image)?;
            let (n, _) = map.size2()?;
            let start = Tensor::f_zeros([n], (Kind::Double, map.device()))?;
            let mut place = start.f_narrow(0, tokens.start as i64, tokens.len() as i64)?;
            let _ = place.f_fill_(1.0 / tokens.len() as f64)?;
            let states = bounce(&map, &start, alpha, direction, steps).map_err(models::Error::from)?;
            self.grid(&states.f_get(steps as i64 - 1)?)
        };
        targets.iter().map(walk).collect()
    }
}

fn to_grid(values: &Tensor, (rows, columns): (i64, i64)) -> Result<Array2<f32>> {
    Array2::from_shape_vec((rows as usize, columns as usize), to_vec(values)?)
        .map_err(|e| models::Error::Probe(format!("a signal of {rows} × {columns} tokens: {e}")).into())
}
