//! Numbers of a network that are not finite.

use std::fmt;

use markov_core::torch::to_vec;
use tch::{Kind, TchError, Tensor};

use crate::site::Site;

/// A network returned NaN or an infinity: it overflowed in its number type, or its weights are damaged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotFinite {
    /// The output, with its network: `class logits of the vision network`.
    pub output: &'static str,
    /// The first attention layer with such numbers, with the head if it is known; `None` if they occur elsewhere.
    pub layer: Option<String>,
    /// The type that the network computes in: float32, float16 or bfloat16.
    pub kind: Kind,
    /// The rows of the network's batch that have such numbers, in order.
    pub rows: Vec<usize>,
    /// The text that the network has read, if it is a text encoder.
    pub text: Option<String>,
}

impl fmt::Display for NotFinite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { output, layer, kind, rows: _, text } = self;
        write!(f, "the {output}")?;
        if let Some(text) = text {
            write!(f, " for the text `{text}`")?;
        }
        write!(f, " are not finite (NaN or infinity)")?;
        if let Some(layer) = layer {
            write!(f, ", first in attention layer {layer}")?;
        }
        let (name, advice) = if *kind == Kind::Half {
            let advice = "numbers of this type end at 65,504, which the network exceeded, or its weights are damaged; set \
                          model.dtype to f32 or bf16, and download the weights again if that does not help";
            ("float16", advice)
        } else if *kind == Kind::BFloat16 {
            let advice = "the network overflowed or its weights are damaged; set model.dtype to f32, and download the \
                          weights again if that does not help";
            ("bfloat16", advice)
        } else {
            ("float32", "its weights are damaged: download them again")
        };
        write!(f, "; the network computed in {name}: {advice}")
    }
}

impl std::error::Error for NotFinite {}

impl NotFinite {
    /// Returns this error for a batch whose item `item(row)` stands in a row of the network's batch.
    #[must_use]
    pub fn of_items(mut self, item: impl Fn(usize) -> usize) -> Self {
        self.rows.iter_mut().for_each(|row| *row = item(*row));
        self.rows.sort_unstable();
        self.rows.dedup();
        self
    }
}

/// Returns the rows of `numbers` `[rows, ...]` that have a number which is not finite. One reduction on the device, and
/// one number per row to the host.
pub(crate) fn rows_not_finite(numbers: &Tensor) -> Result<Vec<usize>, TchError> {
    let rows = numbers.size().first().copied().unwrap_or(0);
    if numbers.numel() == 0 {
        return Ok(Vec::new());
    }
    let finite: Vec<u8> = to_vec(&numbers.f_reshape([rows, -1])?.f_isfinite()?.f_all_dim(1, false)?)?;
    Ok((0..).zip(finite).filter(|(_, finite)| *finite == 0).map(|(row, _)| row).collect())
}

/// Returns layer and head of the first head of `numbers` `[batch, heads, ...]` that has a number which is not finite.
/// `numbers` has the heads from `first` on.
pub(crate) fn head_not_finite(site: &Site, first: i64, numbers: &Tensor) -> Result<Option<String>, TchError> {
    let heads = rows_not_finite(&numbers.f_transpose(0, 1)?)?;
    Ok(heads.first().map(|head| format!("{site} (head {})", first as usize + head)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_with_nan_or_infinity_are_found() -> Result<(), TchError> {
        let numbers = Tensor::f_from_slice(&[1.0f32, 2.0, f32::NAN, 0.0, 5.0, f32::INFINITY, 7.0, 8.0])?;
        for kind in [Kind::Float, Kind::Half, Kind::BFloat16] {
            let numbers = numbers.f_reshape([4, 1, 2])?.f_to_kind(kind)?;
            assert_eq!(rows_not_finite(&numbers)?, [1, 2], "{kind:?}");
        }
        assert_eq!(rows_not_finite(&Tensor::f_zeros([0, 3], (Kind::Float, tch::Device::Cpu))?)?, [0usize; 0]);
        Ok(())
    }

    #[test]
    fn the_message_names_output_layer_type_and_remedy() {
        let error = NotFinite {
            output: "predicted noise of the UNet",
            layer: Some("unet.mid_block.attentions.0.transformer_blocks.0.attn1 (head 3)".into()),
            kind: Kind::Half,
            rows: vec![1, 3],
            text: None,
        };
        let message = error.to_string();
        for part in
            ["predicted noise of the UNet", "attn1 (head 3)", "float16", "65,504", "model.dtype to f32"]
        {
            assert!(message.contains(part), "{message}");
        }
        assert_eq!(error.of_items(|row| row % 2).rows, [1]);
    }
}
