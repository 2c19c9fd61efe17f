//! The mixed blocks: parallel branches whose channels are concatenated.

use tch::Tensor;

use super::layers::{Conv, Spec};
use crate::error::Result;
use crate::weights::Weights;

/// Branches that all read the same input.
pub(super) struct Mixed {
    branches: Vec<Branch>,
}

/// An optional pool, then a sequence of convolutions, then optionally parallel convolutions whose outputs are
/// concatenated.
struct Branch {
    pool: Option<Pool>,
    convs: Vec<Conv>,
    fork: Vec<Conv>,
}

/// Pools over three by three pixels.
#[derive(Clone, Copy)]
enum Pool {
    /// The mean without padding, as in TensorFlow.
    Average,
    /// The maximum.
    Max,
    /// The maximum with stride 2 and without padding.
    Halve,
}

impl Pool {
    fn forward(self, x: &Tensor) -> Result<Tensor> {
        Ok(match self {
            Self::Average => x.f_avg_pool2d([3, 3], [1, 1], [1, 1], false, false, None)?,
            Self::Max => x.f_max_pool2d([3, 3], [1, 1], [1, 1], [1, 1], false)?,
            Self::Halve => halve(x)?,
        })
    }
}

/// Maximum over three by three pixels with stride 2 and without padding.
pub(super) fn halve(x: &Tensor) -> Result<Tensor> {
    Ok(x.f_max_pool2d([3, 3], [2, 2], [0, 0], [1, 1], false)?)
}

impl Mixed {
    /// `[batch, input, h, w]` → `[batch, output, h', w']`.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let outputs = self.branches.iter().map(|branch| branch.forward(x)).collect::<Result<Vec<_>>>()?;
        Ok(Tensor::f_cat(&outputs, 1)?)
    }
}

impl Branch {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut x = match self.pool {
            Some(pool) => pool.forward(x)?,
            None => x.shallow_clone(),
        };
        for conv in &self.convs {
            x = conv.forward(&x)?;
        }
        if self.fork.is_empty() {
            return Ok(x);
        }
        let outputs = self.fork.iter().map(|conv| conv.forward(&x)).collect::<Result<Vec<_>>>()?;
        Ok(Tensor::f_cat(&outputs, 1)?)
    }
}

/// Reads the branches of one block.
struct Reader {
    weights: Weights,
    input: i64,
}

/// Convolutions of a branch, by name.
type Specs<'a> = &'a [(&'a str, Spec)];

impl Reader {
    fn branch(&self, pool: Option<Pool>, convs: Specs, fork: Specs) -> Result<Branch> {
        let read = |input, name: &str, spec| Conv::read(&self.weights.pp(name), input, spec);
        let mut channels = self.input;
        let mut line = Vec::with_capacity(convs.len());
        for &(name, spec) in convs {
            line.push(read(channels, name, spec)?);
            channels = spec.output();
        }
        let fork = fork.iter().map(|&(name, spec)| read(channels, name, spec)).collect::<Result<_>>()?;
        Ok(Branch { pool, convs: line, fork })
    }

    fn line(&self, convs: Specs) -> Result<Branch> {
        self.branch(None, convs, &[])
    }

    fn one_by_one(&self, output: i64) -> Result<Branch> {
        self.line(&[("branch1x1", Spec::same(output, 1, 1))])
    }

    fn pool(&self, pool: Pool, output: i64) -> Result<Branch> {
        self.branch(Some(pool), &[("branch_pool", Spec::same(output, 1, 1))], &[])
    }

    fn halve(&self) -> Result<Branch> {
        self.branch(Some(Pool::Halve), &[], &[])
    }

    /// 35 by 35 pixels.
    fn a(&self, pool: i64) -> Result<Vec<Branch>> {
        Ok(vec![
            self.one_by_one(64)?,
            self.line(&[("branch5x5_1", Spec::same(48, 1, 1)), ("branch5x5_2", Spec::same(64, 5, 5))])?,
            self.line(&[
                ("branch3x3dbl_1", Spec::same(64, 1, 1)),
                ("branch3x3dbl_2", Spec::same(96, 3, 3)),
                ("branch3x3dbl_3", Spec::same(96, 3, 3)),
            ])?,
            self.pool(Pool::Average, pool)?,
        ])
    }

    /// 35 → 17.
    fn b(&self) -> Result<Vec<Branch>> {
        Ok(vec![
            self.line(&[("branch3x3", Spec::down(384))])?,
            self.line(&[
                ("branch3x3dbl_1", Spec::same(64, 1, 1)),
                ("branch3x3dbl_2", Spec::same(96, 3, 3)),
                ("branch3x3dbl_3", Spec::down(96)),
            ])?,
            self.halve()?,
        ])
    }

    /// 17 by 17 pixels.
    fn c(&self, narrow: i64) -> Result<Vec<Branch>> {
        Ok(vec![
            self.one_by_one(192)?,
            self.line(&[
                ("branch7x7_1", Spec::same(narrow, 1, 1)),
                ("branch7x7_2", Spec::same(narrow, 1, 7)),
                ("branch7x7_3", Spec::same(192, 7, 1)),
            ])?,
            self.line(&[
                ("branch7x7dbl_1", Spec::same(narrow, 1, 1)),
                ("branch7x7dbl_2", Spec::same(narrow, 7, 1)),
                ("branch7x7dbl_3", Spec::same(narrow, 1, 7)),
                ("branch7x7dbl_4", Spec::same(narrow, 7, 1)),
                ("branch7x7dbl_5", Spec::same(192, 1, 7)),
            ])?,
            self.pool(Pool::Average, 192)?,
        ])
    }

    /// 17 → 8.
    fn d(&self) -> Result<Vec<Branch>> {
        Ok(vec![
            self.line(&[("branch3x3_1", Spec::same(192, 1, 1)), ("branch3x3_2", Spec::down(320))])?,
            self.line(&[
                ("branch7x7x3_1", Spec::same(192, 1, 1)),
                ("branch7x7x3_2", Spec::same(192, 1, 7)),
                ("branch7x7x3_3", Spec::same(192, 7, 1)),
                ("branch7x7x3_4", Spec::down(192)),
            ])?,
            self.halve()?,
        ])
    }

    /// 8 by 8 pixels.
    fn e(&self, pool: Pool) -> Result<Vec<Branch>> {
        let across = Spec::same(384, 1, 3);
        let down = Spec::same(384, 3, 1);
        Ok(vec![
            self.one_by_one(320)?,
            self.branch(
                None,
                &[("branch3x3_1", Spec::same(384, 1, 1))],
                &[("branch3x3_2a", across), ("branch3x3_2b", down)],
            )?,
            self.branch(
                None,
                &[("branch3x3dbl_1", Spec::same(448, 1, 1)), ("branch3x3dbl_2", Spec::same(384, 3, 3))],
                &[("branch3x3dbl_3a", across), ("branch3x3dbl_3b", down)],
            )?,
            self.pool(pool, 192)?,
        ])
    }
}

/// Reads all blocks in order, with their published names.
pub(super) fn read(weights: &Weights) -> Result<Vec<(&'static str, Mixed)>> {
    type Read = fn(&Reader) -> Result<Vec<Branch>>;
    let blocks: [(&'static str, i64, Read); 11] = [
        ("Mixed_5b", 192, |block| block.a(32)),
        ("Mixed_5c", 256, |block| block.a(64)),
        ("Mixed_5d", 288, |block| block.a(64)),
        ("Mixed_6a", 288, Reader::b),
        ("Mixed_6b", 768, |block| block.c(128)),
        ("Mixed_6c", 768, |block| block.c(160)),
        ("Mixed_6d", 768, |block| block.c(160)),
        ("Mixed_6e", 768, |block| block.c(192)),
        ("Mixed_7a", 768, Reader::d),
        ("Mixed_7b", 1280, |block| block.e(Pool::Average)),
        // Unlike the paper, the published network uses maximum pooling here.
        ("Mixed_7c", 2048, |block| block.e(Pool::Max)),
    ];
    let block = |(name, input, read): (&'static str, i64, Read)| {
        Ok((name, Mixed { branches: read(&Reader { weights: weights.pp(name), input })? }))
    };
    blocks.into_iter().map(block).collect()
}
