//! λ₂ of a batch of float32 maps in single precision.

use tch::{Kind, Tensor};

use super::space::{Products, Select, second};
use super::{LAST, indices, to_vec};
use crate::Result;
use crate::spectrum::Effort;
use crate::tolerance::ROW_TOLERANCE;

/// Stored maps of a batch. A row vector that sums to zero still does after a step.
struct Maps {
    /// `[b, n, n]`.
    maps: Tensor,
    /// Reciprocals of the row sums, `[b, 1, n]`.
    scales: Tensor,
}

impl Products for Maps {
    fn states(&self) -> i64 {
        self.maps.size().last().copied().unwrap_or(0)
    }

    fn apply(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.f_mul(&self.scales)?.f_bmm(&self.maps)?)
    }
}

impl Select for Maps {
    fn of(&self, rows: &Tensor) -> Result<Self> {
        let pick = |tensor: &Tensor| tensor.f_index_select(0, rows);
        Ok(Maps { maps: pick(&self.maps)?, scales: pick(&self.scales)? })
    }
}

/// Returns which of the maps `[b, n, n]` are transition matrices with positive entries only, so that each is one component.
fn positive(maps: &Tensor, sums: &Tensor) -> Result<Vec<bool>> {
    let off = sums.f_sub_scalar(1.0)?.f_abs()?.f_amax([-2i64, -1].as_slice(), false)?;
    // Comparisons with NaN are false.
    let sound = off.f_le(ROW_TOLERANCE)?;
    let sound = maps.f_amin([-2i64, -1].as_slice(), false)?.f_gt(0.0)?.f_logical_and(&sound)?;
    Ok(to_vec::<u8>(&sound)?.into_iter().map(|sound| sound != 0).collect())
}

/// Computes λ₂ of every map `[b, n, n]` (float32): the modulus, or `None` where another method has to find it, as for every map
/// that is not [`positive`].
///
/// # Errors
/// libtorch fails, or the small eigensolver.
pub(super) fn lambda2(maps: &Tensor, effort: Effort) -> Result<Vec<Option<f64>>> {
    let sums = maps.f_sum_dim_intlist(LAST.as_slice(), true, Kind::Double)?;
    let sound = positive(maps, &sums)?;
    let scales = sums.f_reciprocal()?.f_to_kind(Kind::Float)?.f_transpose(1, 2)?;
    let mut products = Maps { maps: maps.shallow_clone(), scales };
    let rows: Vec<usize> = (0..sound.len()).filter(|row| sound[*row]).collect();
    let mut found = vec![None; sound.len()];
    if rows.is_empty() {
        return Ok(found);
    }
    if rows.len() < sound.len() {
        products = products.of(&indices(&rows, maps.device())?)?;
    }
    let moduli = second(products, rows.len(), 1, f64::INFINITY, effort, maps)?;
    rows.iter().zip(moduli).for_each(|(row, modulus)| found[*row] = modulus);
    Ok(found)
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    #[test]
    fn positive_maps_are_settled_here_and_others_are_left() {
        tch::manual_seed(5);
        let effort = Effort::tolerance(1e-4);
        let logits = Tensor::randn([3, 150, 150], (Kind::Float, Device::Cpu)) * 2.0;
        let maps = logits.softmax(-1, Kind::Float);
        let found = lambda2(&maps, effort).unwrap();
        assert!(found.iter().all(|modulus| modulus.is_some_and(|modulus| modulus > 0.01)), "{found:?}");
        let uniform = Tensor::full([1, 60, 60], 1.0 / 60.0, (Kind::Float, Device::Cpu));
        assert!(lambda2(&uniform, effort).unwrap()[0].is_some_and(|modulus| modulus < 1e-6));
        // One map with a zero among the others.
        let zero = maps.copy();
        let _ = zero.get(1).get(2).get(3).fill_(0.0);
        let mixed = lambda2(&zero, effort).unwrap();
        assert_eq!(mixed[1], None);
        for map in [0, 2] {
            assert!((mixed[map].unwrap() - found[map].unwrap()).abs() < 1e-6);
        }
        for other in [
            Tensor::eye(4, (Kind::Float, Device::Cpu)).unsqueeze(0),
            maps.narrow(0, 0, 1) * 1.1,
            maps.narrow(0, 0, 1) * f64::NAN,
        ] {
            assert_eq!(lambda2(&other, effort).unwrap(), [None]);
        }
    }
}
