//! Assigns a segment to every pixel.

use markov_core::torch::to_vec;
use ndarray::Array2;
use tch::Tensor;

use crate::error::Result;

/// Number of proposals that are enlarged at once: they take 16 MiB at 512 by 512 pixels.
const PROPOSALS_AT_ONCE: i64 = 16;

/// Returns the proposal with the largest value at each pixel, `[height, width]`. Proposals `[proposals, n]` over `grid`
/// are enlarged to `size` (bilinear, half-pixel centres, edges repeated), a few at a time. Of equal proposals the first
/// is taken.
///
/// # Errors
/// Fails if there are no proposals, or if libtorch fails.
pub fn labels(proposals: &Tensor, grid: (usize, usize), size: (usize, usize)) -> Result<Array2<u16>> {
    let (count, _) = proposals.size2()?;
    let images = proposals.f_reshape([1, count, grid.0 as i64, grid.1 as i64])?;
    let mut best: Option<(Tensor, Tensor)> = None;
    for first in (0..count).step_by(PROPOSALS_AT_ONCE as usize) {
        let some = images.f_narrow(1, first, PROPOSALS_AT_ONCE.min(count - first))?;
        let enlarged = some.f_upsample_bilinear2d([size.0 as i64, size.1 as i64], false, None, None)?;
        let (values, places) = enlarged.f_max_dim(1, false)?;
        let places = places.f_add_scalar(first)?;
        best = Some(match best {
            None => (values, places),
            Some((before, kept)) => {
                let greater = values.f_gt_tensor(&before)?;
                (before.f_maximum(&values)?, places.f_where_self(&greater, &kept)?)
            }
        });
    }
    let (_, places) = best.ok_or_else(|| models::Error::Probe("there are no proposals".into()))?;
    let host = to_vec::<i64>(&places)?.into_iter().map(|place| place as u16).collect();
    Ok(Array2::from_shape_vec(size, host).map_err(|e| models::Error::Probe(format!("labels: {e}")))?)
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;

    #[test]
    fn labels_do_not_depend_on_the_chunks() -> Result<()> {
        tch::manual_seed(4);
        let count = 2 * PROPOSALS_AT_ONCE + 5;
        let proposals = Tensor::rand([count, 12], (Kind::Float, Device::Cpu));
        let found = labels(&proposals, (4, 3), (16, 12))?;
        let whole = proposals.reshape([1, count, 4, 3]).upsample_bilinear2d([16, 12], false, None, None);
        let whole: Vec<i64> = Vec::try_from(whole.argmax(1, false).reshape([-1]))?;
        assert_eq!(found.iter().map(|&label| i64::from(label)).collect::<Vec<_>>(), whole);
        let most = found.iter().max().copied().unwrap_or_default();
        assert!(i64::from(most) >= PROPOSALS_AT_ONCE, "later chunks win somewhere");
        Ok(())
    }

    #[test]
    fn ties_go_to_the_first_proposal() -> Result<()> {
        let proposals = Tensor::ones([40, 4], (Kind::Float, Device::Cpu));
        let found = labels(&proposals, (2, 2), (5, 7))?;
        assert_eq!(found.dim(), (5, 7));
        assert!(found.iter().all(|&label| label == 0));
        Ok(())
    }
}
