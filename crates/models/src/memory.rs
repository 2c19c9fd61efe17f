//! Memory use of a process.
//!
//! Host memory is read from Linux. Device memory cannot be read: libtorch counts it, but tch does not expose the count.
//! The size of a network's weights is known in advance from the headers of its files: [`weight_bytes`].

use std::path::Path;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

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

/// Maximum length of [`note_work`]'s text in bytes; the rest is cut off.
pub const WORK_BYTES: usize = 512;

/// The text of [`note_work`]. It lies in a fixed place without a lock, because it is read where memory has run out.
static WORK: [AtomicU8; WORK_BYTES] = [const { AtomicU8::new(0) }; WORK_BYTES];
static WORK_LENGTH: AtomicUsize = AtomicUsize::new(0);

/// Notes what the process is about to do and what makes it smaller, for the message if the process is aborted because
/// memory has run out.
pub fn note_work(text: &str) {
    WORK_LENGTH.store(0, Ordering::SeqCst);
    let bytes = text.bytes().take(WORK_BYTES);
    let length = bytes.zip(&WORK).map(|(byte, place)| place.store(byte, Ordering::Relaxed)).count();
    WORK_LENGTH.store(length, Ordering::SeqCst);
}

/// Copies the text of [`note_work`] and returns its length, without allocating memory or waiting for a lock.
pub fn copy_work(into: &mut [u8; WORK_BYTES]) -> usize {
    let length = WORK_LENGTH.load(Ordering::SeqCst);
    for (byte, place) in into.iter_mut().zip(&WORK[..length]) {
        *byte = place.load(Ordering::Relaxed);
    }
    length
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noted_work_is_cut_to_its_place() {
        let mut copy = [0; WORK_BYTES];
        note_work("in the batch of `a.png`");
        let length = copy_work(&mut copy);
        assert_eq!(&copy[..length], b"in the batch of `a.png`");
        note_work(&"x".repeat(2 * WORK_BYTES));
        assert_eq!(copy_work(&mut copy), WORK_BYTES);
    }
}
