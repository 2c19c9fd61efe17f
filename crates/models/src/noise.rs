//! Noise that does not depend on the device.

use std::sync::{Mutex, PoisonError};

use tch::{Device, Kind, Tensor};

use crate::error::Result;

/// Standard normal numbers of a shape, float32 on the CPU: what `torch.randn` draws there after `torch.manual_seed`, so
/// a seed means the same on every device. Cast them afterwards; the networks of this crate do.
///
/// libtorch's generator belongs to the process. This function seeds it anew and leaves it so.
///
/// # Errors
/// libtorch's.
pub fn normal(shape: &[i64], seed: u64) -> Result<Tensor> {
    // Nobody else may draw between the seed and the numbers.
    static GENERATOR: Mutex<()> = Mutex::new(());
    let _alone = GENERATOR.lock().unwrap_or_else(PoisonError::into_inner);
    tch::manual_seed(seed as i64);
    Ok(Tensor::f_randn(shape, (Kind::Float, Device::Cpu))?)
}
