//! Relative positions (arXiv 1910.10683, section 2.1): a learned term of the logits for each class of distances.

use tch::{Device, Kind, Tensor};

use super::T5Config;
use crate::error::Result;
use crate::weights::Weights;

/// The table that all blocks share.
pub(super) struct RelativePositions {
    /// `[classes, heads]`.
    table: Tensor,
    classes: i64,
    farthest: i64,
}

impl RelativePositions {
    /// `weights` is the attention layer of the first block, which is where the table is stored.
    pub(super) fn load(weights: &Weights, config: &T5Config) -> Result<Self> {
        let classes = config.relative_attention_num_buckets;
        let table = weights.get(&[classes, config.num_heads], "relative_attention_bias.weight")?;
        Ok(Self { table, classes, farthest: config.relative_attention_max_distance })
    }

    /// The term `[1, heads, n, n]` that is added to the logits of every block.
    pub(super) fn bias(&self, tokens: i64) -> Result<Tensor> {
        let positions = Tensor::f_arange(tokens, (Kind::Int64, Device::Cpu))?;
        let keys_minus_queries = positions.f_unsqueeze(0)?.f_sub(&positions.f_unsqueeze(1)?)?;
        let classes = classify(&keys_minus_queries, self.classes, self.farthest)?;
        let terms =
            Tensor::f_embedding(&self.table, &classes.f_to_device(self.table.device())?, -1, false, false)?;
        Ok(terms.f_permute([2, 0, 1])?.f_unsqueeze(0)?.f_contiguous()?)
    }
}

/// The class of each relative position (key minus query), int64: one half of the classes for keys that follow, in each
/// half one class per distance up to a half of it, then logarithmically wider ones up to `farthest`.
///
/// The steps and their float32 are those of transformers, so that distances on the edge of a class fall on the same
/// side; on the host, whose logarithm does not depend on the device.
fn classify(relative: &Tensor, classes: i64, farthest: i64) -> Result<Tensor> {
    let half = classes / 2;
    let exact = half / 2;
    let distance = relative.f_abs()?;
    let widening = (farthest as f64 / exact as f64).ln();
    let far = distance
        .f_to_kind(Kind::Float)?
        .f_div_scalar(exact)?
        .f_log()?
        .f_div_scalar(widening)?
        .f_mul_scalar(half - exact)?
        // The logarithm of distance 0 fits no integer; that class is an exact one anyway.
        .f_clamp_min(0.0)?
        .f_to_kind(Kind::Int64)?
        .f_add_scalar(exact)?
        .f_clamp_max(half - 1)?;
    let class = distance.f_where_self(&distance.f_lt(exact)?, &far)?;
    let follows = relative.f_gt(0)?.f_to_kind(Kind::Int64)?.f_mul_scalar(half)?;
    Ok(class.f_add(&follows)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Distances at which transformers 5.23.0 begins a class, up to 600.
    const BEGINS: [(i64, i64, &[i64]); 3] = [
        (32, 128, &[0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 23, 32, 46, 64, 91]),
        (12, 20, &[0, 1, 2, 3, 6, 11]),
        (7, 9, &[0, 1, 3]),
    ];

    #[test]
    fn classes_begin_where_those_of_transformers_do() -> Result<()> {
        for (classes, farthest, begins) in BEGINS {
            let relative = Tensor::f_arange_start(-600, 601, (Kind::Int64, Device::Cpu))?;
            let ours: Vec<i64> = Vec::try_from(classify(&relative, classes, farthest)?)?;
            for (relative, class) in (-600..).zip(ours) {
                let within = begins.iter().filter(|&&begin| begin <= i64::abs(relative)).count() as i64 - 1;
                let wanted = within + if relative > 0 { classes / 2 } else { 0 };
                assert_eq!(class, wanted, "distance {relative} of {classes} classes up to {farthest}");
            }
        }
        Ok(())
    }
}
