//! Encoded texts.

use tch::{Device, Tensor};

use crate::error::{Error, Result};
use crate::not_finite::NotFinite;

/// An encoded prompt for a network with joint attention, on the CPU in the pipeline's type.
#[derive(Debug)]
pub struct EncodedText {
    /// Embedding of each token, `[length, width]`, padding included. For FLUX it comes from T5.
    pub text: Tensor,
    /// Embedding of the whole prompt, `[width]`. For FLUX it comes from CLIP.
    pub pooled: Tensor,
    /// The ids of the tokens, `[length]`, padding included.
    pub ids: Vec<i64>,
}

/// Encodes the ids of texts one at a time and returns the results on the CPU. `encode` gets batches of one, `[1,
/// length]`, so that the encoding of a text does not depend on other texts, to the last bit.
pub(crate) fn one_by_one(
    texts: &[String],
    ids: &[Vec<i64>],
    mut encode: impl FnMut(&Tensor) -> Result<Tensor>,
) -> Result<Vec<Tensor>> {
    let one = |(text, ids): (&String, &Vec<i64>)| {
        let encoded = encode(&Tensor::f_from_slice(ids)?.f_unsqueeze(0)?);
        let encoded = encoded.map_err(|error| match error.into_not_finite() {
            Ok(error) => NotFinite { text: Some(text.clone()), ..error }.into(),
            Err(other) => other,
        })?;
        encoded.f_select(0, 0)?.f_to_device(Device::Cpu).map_err(Error::from)
    };
    texts.iter().zip(ids).map(one).collect()
}
