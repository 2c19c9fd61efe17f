//! Memory use of a process.
//!
//! Host memory is read from Linux. Device memory cannot be read: libtorch counts it, but tch does not expose the count.
//! The size of a network's weights is known in advance from the headers of its files: [`weight_bytes`].

use std::path::Path;

use tch::Kind;

use crate::error::Result;
use crate::weights::Weights;

/// Returns the peak of the process's resident host memory in bytes, since its start or since [`reset_peak_host`];
/// `None` if the system does not report it.
///
/// Mapped pages of weight files count as well, so a network whose weights stay on the host counts twice while it is
/// loaded.
pub fn peak_host() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim_end().parse().ok()?;
    Some(kibibytes * 1024)
}

/// Resets [`peak_host`] to the current memory use. Returns whether the system permitted it.
pub fn reset_peak_host() -> bool {
    std::fs::write("/proc/self/clear_refs", "5").is_ok()
}

/// Returns the size in memory, in bytes, of the weights of a model directory when loaded in `kind`. Counts the tensors
/// whose names begin with one of `parts`, or all tensors if `parts` is empty.
///
/// # Errors
/// As [`Weights::open`]; only headers are read.
pub fn weight_bytes(dir: &Path, parts: &[&str], kind: Kind) -> Result<u64> {
    let weights = Weights::open(dir, kind, tch::Device::Cpu)?;
    let counted = |name: &str| parts.is_empty() || parts.iter().any(|part| name.starts_with(part));
    Ok(weights.numbers(counted) * kind.elt_size_in_bytes() as u64)
}
