//! How much memory a run took.
//!
//! Host memory is what Linux counts. Device memory has no reading: libtorch counts it, but tch does not hand it out.
//! What the weights of a network take can be said beforehand, from the headers of its files: [`weight_bytes`].

use std::path::Path;

use tch::Kind;

use crate::error::Result;
use crate::weights::Weights;

/// The most memory that this process has had in the host's RAM at once, in bytes, since its start or
/// [`reset_peak_host`]; none where the system does not tell.
///
/// Pages of weight files count while they are mapped, so a network whose weights stay on the host shows up twice while it
/// is being read.
pub fn peak_host() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim_end().parse().ok()?;
    Some(kibibytes * 1024)
}

/// Lets [`peak_host`] begin anew with what is taken now; says whether the system permits it.
pub fn reset_peak_host() -> bool {
    std::fs::write("/proc/self/clear_refs", "5").is_ok()
}

/// Bytes of the weights of a model directory whose names begin with one of `parts` (all where none is given), as they are
/// in memory when read in `kind`.
///
/// # Errors
/// As [`Weights::open`]; only headers are read.
pub fn weight_bytes(dir: &Path, parts: &[&str], kind: Kind) -> Result<u64> {
    let weights = Weights::open(dir, kind, tch::Device::Cpu)?;
    let counted = |name: &str| parts.is_empty() || parts.iter().any(|part| name.starts_with(part));
    Ok(weights.numbers(counted) * kind.elt_size_in_bytes() as u64)
}
