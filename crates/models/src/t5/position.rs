//! Relative positions (arXiv 1910.10683, section 2.1): a learned term of the logits for each class of distances.

use tch::Tensor;

use super::T5Config;
use crate::error::Result;
use crate::weights::Weights;

/// The table of relative positions, which all blocks use.
pub(super) struct RelativePositions {
    /// `[classes, heads]`.
    table: Tensor,
    classes: i64,
    farthest: i64,
}

impl RelativePositions {
    /// Reads the table. `weights` is the attention layer of the first block, which stores it.
    pub(super) fn load(weights: &Weights, config: &T5Config) -> Result<Self> {
        let classes = config.relative_attention_num_buckets;
        let table = weights.get(&[classes, config.num_heads], "relative_attention_bias.weight")?;
        Ok(Self { table, classes, farthest: config.relative_attention_max_distance })
    }

    /// Returns the term `[1, heads, n, n]` that is added to the logits of every block.
    pub(super) fn bias(&self, tokens: i64) -> Result<Tensor> {
        let of_query = |query| (0..tokens).map(move |key| (key - query, self.classes, self.farthest));
        let classes: Vec<i64> = (0..tokens).flat_map(of_query).map(classify).collect();
        let classes = Tensor::f_from_slice(&classes)?.f_reshape([tokens, tokens])?;
        let terms =
            Tensor::f_embedding(&self.table, &classes.f_to_device(self.table.device())?, -1, false, false)?;
        Ok(terms.f_permute([2, 0, 1])?.f_unsqueeze(0)?.f_contiguous()?)
    }
}

/// Returns the class of a relative position (key minus query). Half of the classes are for keys that follow. In each
/// half, small distances have a class each (up to half of the classes); larger ones have logarithmically wider classes
/// up to `farthest`.
///
/// The operations and their float32 precision are those of transformers, so that distances on the edge of a class fall
/// on the same side. The logarithm is computed in double precision and rounded once: the edge at twice the exact
/// distances needs log 2 to be the nearest float32, and libtorch's logarithm differs between processors and devices in
/// the last digit.
fn classify((relative, classes, farthest): (i64, i64, i64)) -> i64 {
    let half = classes / 2;
    let exact = half / 2;
    let distance = relative.abs();
    let class = if distance < exact {
        distance
    } else {
        let log = |ratio: f64| ratio.ln() as f32;
        let widening = log(farthest as f64 / exact as f64);
        let far = log(f64::from(distance as f32 / exact as f32)) / widening * (half - exact) as f32;
        (exact + far as i64).min(half - 1)
    };
    class + if relative > 0 { half } else { 0 }
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
    fn classes_begin_where_those_of_transformers_do() {
        for (classes, farthest, begins) in BEGINS {
            for relative in -600..=600i64 {
                let within = begins.iter().filter(|&&begin| begin <= relative.abs()).count() as i64 - 1;
                let wanted = within + if relative > 0 { classes / 2 } else { 0 };
                let class = classify((relative, classes, farthest));
                assert_eq!(class, wanted, "distance {relative} of {classes} classes up to {farthest}");
            }
        }
    }
}
