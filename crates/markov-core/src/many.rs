//! Many matrices at once, such as the heads of a layer: one matrix per thread, each iterated to its end while it is in
//! the cache.

use ndarray::{Array1, Array2, ArrayView2, ArrayView3, Axis};
use rayon::prelude::*;

use crate::chain::{Chain, RowStochastic, Single};
use crate::kernel::Element;
use crate::rank::{Rule, Stop, TokenRank, token_rank, token_rank_from};
use crate::spectrum::{Effort, Lambda2, Precision, lambda2, second};
use crate::stochastic::StochasticView;
use crate::tolerance::{ROW_TOLERANCE, SINGLE, Storage};
use crate::{Error, Result};

/// Chain quantities of one attention head.
#[derive(Debug, Clone, PartialEq)]
pub struct HeadSummary {
    /// TokenRank of the teleported forward chain.
    pub rank: TokenRank,
    /// λ₂ of the matrix itself.
    pub lambda2: Lambda2,
}

/// Computes the TokenRank of every matrix of `maps` `[m, n, n]` in the forward direction with uniform teleport: `[m,
/// n]`.
///
/// # Errors
/// [`Error::Matrix`] with the index of the invalid matrix and the reason; see [`token_rank`].
pub fn token_rank_many<T: Element>(maps: ArrayView3<'_, T>, alpha: f64, stop: Stop) -> Result<Array2<f64>> {
    let n = maps.len_of(Axis(1));
    let mut all = Array2::zeros((maps.len_of(Axis(0)), n));
    let ranks = each(maps, |view| Ok(token_rank_mixed(&view.teleport(alpha)?.forward(), stop)?.pi))?;
    for (mut row, pi) in all.rows_mut().into_iter().zip(ranks) {
        row.assign(&pi);
    }
    Ok(all)
}

/// Computes λ₂ of every matrix of `maps` `[m, n, n]` with relative error `tolerance` (to first order): 1e-4 suffices to
/// rank heads, 1e-10 to measure them.
///
/// For tolerances from 1e-5 up, float32 maps are computed in single precision, which adds an absolute error of about
/// 2e-6.
///
/// # Errors
/// [`Error::Matrix`] with the index of the invalid matrix and the reason; see [`lambda2`].
pub fn lambda2_many<T: Element>(maps: ArrayView3<'_, T>, tolerance: f64) -> Result<Array1<f64>> {
    each(maps, |view| {
        Ok(lambda2_mixed(&view.forward(), Effort::tolerance(tolerance), storage::<T>())?.modulus)
    })
    .map(Array1::from)
}

/// Computes TokenRank and λ₂ of every matrix of `maps` `[m, n, n]`, with the number of products and the errors.
///
/// # Errors
/// [`Error::Matrix`] with the index of the invalid matrix and the reason.
pub fn heads<T: Element>(
    maps: ArrayView3<'_, T>,
    alpha: f64,
    stop: Stop,
    effort: Effort,
) -> Result<Vec<HeadSummary>> {
    each(maps, |view| {
        let lambda2 = lambda2_mixed(&view.clone().forward(), effort, storage::<T>())?;
        Ok(HeadSummary { rank: token_rank_mixed(&view.teleport(alpha)?.forward(), stop)?, lambda2 })
    })
}

fn storage<T: Element>() -> Storage {
    if T::EPSILON > f64::EPSILON { Storage::F32 } else { Storage::F64 }
}

/// Computes λ₂ as [`lambda2`] does, but in single precision if the matrix is not stored in float64 and the tolerance is at
/// least 1e-5, which adds an absolute error of about 2e-6.
///
/// # Errors
/// As [`lambda2`].
pub fn lambda2_mixed(chain: &Chain<impl RowStochastic>, effort: Effort, storage: Storage) -> Result<Lambda2> {
    if storage != Storage::F64 && effort.tolerance >= SINGLE {
        let rough = Effort { dense_limit: 0, ..effort };
        if let Some(found) =
            second(&Single(chain), rough, Precision::Single).ok().and_then(|all| all.first().copied())
        {
            return Ok(found);
        }
    }
    lambda2(chain, effort)
}

/// Computes TokenRank as [`token_rank`] does. Unless the rule is the plain power method, it starts from a result in single
/// precision, which costs half of the time.
///
/// # Errors
/// As [`token_rank`].
pub fn token_rank_mixed(chain: &Chain<impl RowStochastic>, stop: Stop) -> Result<TokenRank> {
    if stop.rule == Rule::Plain || chain.alpha() == 1.0 || chain.is_backward() {
        return token_rank(chain, stop);
    }
    let rough = Stop { tolerance: stop.tolerance.max(2e-6) * 0.7, ..stop };
    token_rank_from(chain, &Single(chain), rough, stop)
}

fn each<T: Element, R: Send>(
    maps: ArrayView3<'_, T>,
    of: impl Fn(StochasticView<'_, T>) -> Result<R> + Sync,
) -> Result<Vec<R>> {
    let one = |map: ArrayView2<'_, T>| {
        let (rows, columns) = map.dim();
        if rows == 0 || columns == 0 {
            return Err(Error::Empty);
        }
        if rows != columns {
            return Err(Error::NotSquare { rows, columns });
        }
        // Maps that are parts of a larger array (for instance without CLS) are copied; contiguous ones are used in
        // place.
        let map = map.as_standard_layout();
        of(StochasticView::new(map.as_slice().unwrap_or(&[]), rows, ROW_TOLERANCE)?)
    };
    (0..maps.len_of(Axis(0)))
        .into_par_iter()
        .map(|index| one(maps.index_axis(Axis(0), index)).map_err(|error| error.in_matrix(index)))
        .collect()
}
