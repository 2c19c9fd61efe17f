//! Texts through a network.

use tch::{Device, Tensor};

use crate::error::{Error, Result};

/// A prompt as a network that attends jointly reads it, on the CPU in the pipeline's type.
#[derive(Debug)]
pub struct EncodedText {
    /// An embedding of each token, `[length, width]`, padding included; FLUX's is T5's.
    pub text: Tensor,
    /// A vector of the whole prompt, `[width]`; FLUX's is CLIP's.
    pub pooled: Tensor,
    /// The ids of the tokens, `[length]`, padding included.
    pub ids: Vec<i64>,
}

/// What `encode` makes of each text's ids, on the CPU; it is given batches of one, `[1, length]`. One text at a time: what a
/// text becomes does not depend on those beside it, to the last bit.
pub(crate) fn one_by_one(
    texts: &[Vec<i64>],
    mut encode: impl FnMut(&Tensor) -> Result<Tensor>,
) -> Result<Vec<Tensor>> {
    let one = |ids: &Vec<i64>| {
        let encoded = encode(&Tensor::f_from_slice(ids)?.f_unsqueeze(0)?)?;
        encoded.f_select(0, 0)?.f_to_device(Device::Cpu).map_err(Error::from)
    };
    texts.iter().map(one).collect()
}
