//! Random noise that is the same on every device.

use std::sync::{Mutex, PoisonError};

use tch::{Device, Kind, Tensor};

use crate::error::Result;

/// Returns standard normal numbers of the given shape, float32 on the CPU, equal to those of `torch.randn` after
/// `torch.manual_seed`. A seed gives the same numbers whatever device the networks use; move and cast them afterwards.
///
/// Seeds libtorch's generator, which the whole process shares.
///
/// # Errors
/// libtorch fails.
pub fn normal(shape: &[i64], seed: u64) -> Result<Tensor> {
    // No other thread may draw between seeding and drawing.
    static GENERATOR: Mutex<()> = Mutex::new(());
    let _alone = GENERATOR.lock().unwrap_or_else(PoisonError::into_inner);
    tch::manual_seed(seed as i64);
    Ok(Tensor::f_randn(shape, (Kind::Float, Device::Cpu))?)
}
