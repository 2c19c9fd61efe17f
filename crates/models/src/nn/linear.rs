//! Dense layers.

use std::cell::OnceCell;
use std::sync::LazyLock;

use raw_cpuid::CpuId;
use tch::{Device, Kind, Tensor};

use crate::error::Result;
use crate::weights::Weights;

/// Whether oneDNN multiplies float32 matrices on this processor faster than MKL, libtorch's default: MKL is made for Intel's
/// processors, and on others it takes up to twice as long (`results/bench/README.md`).
static ONE_DNN: LazyLock<bool> = LazyLock::new(|| {
    let maker = CpuId::new().get_vendor_info();
    tch::utils::has_mkldnn() && maker.is_some_and(|maker| maker.as_str() != "GenuineIntel")
});

/// Number of multiplications and of rows from which on oneDNN gains more than its copies of inputs and weights cost.
const MULTIPLICATIONS: i64 = 1 << 23;
const ROWS: i64 = 64;

/// A dense layer with an optional bias.
pub(crate) struct Linear {
    /// `[output, input]`.
    pub(crate) weight: Tensor,
    /// `[output]`.
    pub(crate) bias: Option<Tensor>,
}

impl Linear {
    /// Reads `weight` `[output, input]` and, if there is one, `bias` `[output]`.
    pub(crate) fn load(weights: &Weights, input: i64, output: i64, bias: bool) -> Result<Self> {
        let weight = weights.get(&[output, input], "weight")?;
        let bias = bias.then(|| weights.get(&[output], "bias")).transpose()?;
        Ok(Self { weight, bias })
    }

    /// Reads a layer over the channels of a pixel, with a bias. `convolution` says whether files store it as a
    /// convolution of one pixel.
    pub(crate) fn of_pixels(weights: &Weights, input: i64, output: i64, convolution: bool) -> Result<Self> {
        if !convolution {
            return Self::load(weights, input, output, true);
        }
        let weight = weights.get(&[output, input, 1, 1], "weight")?.f_reshape([output, input])?;
        Ok(Self { weight, bias: Some(weights.get(&[output], "bias")?) })
    }

    /// `x` `[..., input]` → `[..., output]`.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.of(&Input::new(x))
    }

    /// [`forward`](Self::forward) of an input that other layers read as well.
    pub(crate) fn of(&self, input: &Input<'_>) -> Result<Tensor> {
        if self.goes_to_one_dnn(input.x) {
            return dense(&self.of_packed(input.packed()?)?);
        }
        Ok(input.x.f_linear(&self.weight, self.bias.as_ref())?)
    }

    /// `next(gelu(self(x)))` with the exact GELU: `x` `[..., input]` → `[..., output of next]`.
    pub(crate) fn forward_gelu(&self, next: &Self, x: &Tensor) -> Result<Tensor> {
        if !self.goes_to_one_dnn(x) {
            return next.forward(&self.forward(x)?.f_gelu("none")?);
        }
        // Not converted in between: this tensor is the largest of a transformer block.
        let between = self.of_packed(&x.f_to_mkldnn(None)?)?.f_gelu("none")?;
        dense(&next.of_packed(&between)?)
    }

    fn goes_to_one_dnn(&self, x: &Tensor) -> bool {
        self.suits_one_dnn(x) && *ONE_DNN
    }

    fn suits_one_dnn(&self, x: &Tensor) -> bool {
        let single = |tensor: &Tensor| tensor.device() == Device::Cpu && tensor.kind() == Kind::Float;
        let [output, input] = self.weight.size()[..] else { return false };
        let rows = x.numel() as i64 / input.max(1);
        rows >= ROWS && rows * input * output >= MULTIPLICATIONS && single(x) && single(&self.weight)
    }

    /// From and to oneDNN's own tensors.
    fn of_packed(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.f_mkldnn_linear(&self.weight, self.bias.as_ref())?)
    }
}

/// The input of one or several layers.
pub(crate) struct Input<'x> {
    x: &'x Tensor,
    /// In oneDNN's layout, once a layer has asked for it.
    packed: OnceCell<Tensor>,
}

impl<'x> Input<'x> {
    /// `x` `[..., input]`.
    pub(crate) fn new(x: &'x Tensor) -> Self {
        Self { x, packed: OnceCell::new() }
    }

    fn packed(&self) -> Result<&Tensor> {
        if let Some(packed) = self.packed.get() {
            return Ok(packed);
        }
        let packed = self.x.f_to_mkldnn(None)?;
        Ok(self.packed.get_or_init(|| packed))
    }
}

/// Returns `x yᵀ` for matrices `x` `[k, n]` and `y` `[m, n]`, `[k, m]`: by the library that is fastest for them on this processor.
///
/// # Errors
/// libtorch fails.
pub fn times_transposed(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    Linear { weight: y.shallow_clone(), bias: None }.forward(x)
}

fn dense(packed: &Tensor) -> Result<Tensor> {
    Ok(packed.f_to_dense(None, false)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn distance(a: &Tensor, b: &Tensor) -> Result<f64> {
        Ok(a.f_sub(b)?.f_abs()?.f_max()?.f_double_value(&[])?)
    }

    #[test]
    fn one_dnn_computes_the_same_layer() -> Result<()> {
        if !tch::utils::has_mkldnn() {
            return Ok(());
        }
        tch::manual_seed(0);
        let random = |size: &[i64]| Tensor::f_randn(size, (Kind::Float, Device::Cpu));
        // Of unit variance, as their inputs.
        let weight = |output: i64, input: i64| random(&[output, input])?.f_div_scalar((input as f64).sqrt());
        for bias in [Some(random(&[96])?), None] {
            let layer = Linear { weight: weight(96, 320)?, bias };
            // Rows of several shapes, also not contiguous.
            for x in
                [random(&[300, 320])?, random(&[3, 100, 320])?, random(&[100, 3, 320])?.f_transpose(0, 1)?]
            {
                assert!(layer.suits_one_dnn(&x));
                let want = x.f_linear(&layer.weight, layer.bias.as_ref())?;
                let found = dense(&layer.of_packed(&x.f_to_mkldnn(None)?)?)?;
                assert_eq!(found.size(), want.size());
                assert!(distance(&found, &want)? < 1e-5);
            }
            let next = Linear { weight: weight(40, 96)?, bias: None };
            let x = random(&[3, 100, 320])?;
            let want = layer.forward(&x)?.f_gelu("none")?.f_linear(&next.weight, None::<&Tensor>)?;
            assert!(distance(&layer.forward_gelu(&next, &x)?, &want)? < 1e-5);
            let input = Input::new(&x);
            let first = layer.of(&input)?;
            assert!(first.equal(&layer.of(&input)?) && first.equal(&layer.forward(&x)?));
            let columns = layer.weight.f_transpose(0, 1)?.f_contiguous()?.f_transpose(0, 1)?;
            let want = x.f_matmul(&columns.f_transpose(0, 1)?)?;
            assert!(distance(&times_transposed(&x, &columns)?, &want)? < 1e-5);
            let few = random(&[ROWS - 1, 320])?;
            assert!(!layer.suits_one_dnn(&few) && !layer.suits_one_dnn(&few.f_to_kind(Kind::Half)?));
        }
        Ok(())
    }
}
