//! Convolutions with folded batch norms.

use tch::{Kind, Tensor};

use crate::error::Result;
use crate::nn::channels_last;
use crate::weights::Weights;

/// Epsilon of every batch norm.
const EPS: f64 = 1e-3;

/// Shape of a convolution.
#[derive(Clone, Copy)]
pub(super) struct Spec {
    output: i64,
    /// Rows and columns.
    kernel: [i64; 2],
    stride: i64,
    padding: [i64; 2],
}

impl Spec {
    /// Keeps the size of the image; the kernel's sides are odd.
    pub(super) fn same(output: i64, rows: i64, columns: i64) -> Self {
        Self { output, kernel: [rows, columns], stride: 1, padding: [rows / 2, columns / 2] }
    }

    /// No padding.
    pub(super) fn valid(output: i64, side: i64) -> Self {
        Self { output, kernel: [side, side], stride: 1, padding: [0, 0] }
    }

    /// A kernel of three by three pixels with stride 2 and without padding.
    pub(super) fn down(output: i64) -> Self {
        Self { stride: 2, ..Self::valid(output, 3) }
    }

    pub(super) fn output(&self) -> i64 {
        self.output
    }
}

/// Convolution, batch norm, ReLU.
pub(super) struct Conv {
    weight: Tensor,
    bias: Tensor,
    spec: Spec,
}

impl Conv {
    /// Reads `conv.weight` `[output, input, rows, columns]` and the statistics `bn.*` `[output]`. The norm, an affine
    /// map of each channel, is folded into the convolution in double precision.
    pub(super) fn read(weights: &Weights, input: i64, spec: Spec) -> Result<Self> {
        let Spec { output, kernel: [rows, columns], .. } = spec;
        let exact = weights.in_kind(Kind::Double);
        let norm = exact.pp("bn");
        let channel = |name: &str| norm.get(&[output], name);
        let scale = channel("weight")?.f_div(&channel("running_var")?.f_add_scalar(EPS)?.f_sqrt()?)?;
        let bias = channel("bias")?.f_sub(&channel("running_mean")?.f_mul(&scale)?)?;
        // Newer files store this counter of training steps.
        norm.skip("num_batches_tracked");
        let weight = exact.get(&[output, input, rows, columns], "conv.weight")?;
        let weight = weight.f_mul(&scale.f_reshape([output, 1, 1, 1])?)?;
        let kind = weights.kind();
        let weight = channels_last(&weight.f_to_kind(kind)?)?;
        Ok(Self { weight, bias: bias.f_to_kind(kind)?, spec })
    }

    /// `[batch, input, h, w]` → `[batch, output, h', w']`.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let Spec { stride, padding, .. } = self.spec;
        let mut x = x.f_conv2d(&self.weight, Some(&self.bias), [stride, stride], padding, [1, 1], 1)?;
        Ok(x.f_relu_()?)
    }
}
