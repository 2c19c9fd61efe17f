//! Reproducible damage to files, with which the tests vary the corpus if no fuzzer runs.

/// Returns a copy of `seed` with a few random changes: flipped bits, extreme numbers, cuts, repeats and parts of
/// `other`. The same `number` gives the same changes.
pub fn mutated(seed: &[u8], other: &[u8], number: u64) -> Vec<u8> {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x2545_f491_4f6c_dd1d;
    // Marsaglia's xorshift.
    let mut below = |end: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % end.max(1) as u64) as usize
    };
    let mut bytes = seed.to_vec();
    for _ in 0..=below(4) {
        let at = below(bytes.len());
        let length = 1 + below(16);
        match below(8) {
            _ if bytes.is_empty() => bytes.push(below(256) as u8),
            0 => bytes[at] ^= 1 << below(8),
            1 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff, b'"', b'9', b'-'][below(8)],
            2 => bytes.truncate(at),
            3 => {
                let extreme = [u64::MAX, 1 << 63, i64::MAX as u64, 1 << 40, u32::MAX.into(), 0][below(6)];
                let width = [2, 4, 8][below(3)].min(bytes.len() - at);
                bytes[at..at + width].copy_from_slice(&extreme.to_le_bytes()[..width]);
            }
            4 => drop(bytes.drain(at..(at + length).min(bytes.len()))),
            5 => {
                let part = bytes[at..(at + length).min(bytes.len())].to_vec();
                bytes.splice(at..at, part.repeat(1 + below(3)));
            }
            6 => {
                let from = below(other.len());
                let part = other[from..(from + 4 * length).min(other.len())].iter().copied();
                bytes.splice(at..at, part);
            }
            _ => drop(bytes.splice(at..at, b"999999999999999999".iter().copied().take(length))),
        }
    }
    bytes
}
