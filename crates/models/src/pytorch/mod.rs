//! Files of `torch.save`: zip archives, as PyTorch has written them since 1.6, and the older format before.
//!
//! A pickle in the file describes the tensors. It is interpreted by [`pickle`], which runs nothing; the numbers stay in
//! the file until a tensor is read, so a file is mapped into memory like safetensors. The reader is our own: the module
//! of the crate `candle-core` reads zip archives only, copies whole tensors, has no limits for hostile files, and comes
//! with a second tensor library.

mod archive;
mod legacy;
mod pickle;
mod tree;
mod value;

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use crate::limits::EXPANDED_NUMBERS;
use crate::tensor_entry::{Checksum, TensorEntry};
use pickle::Unpickled;
use value::Storage;

/// Where the numbers of a storage lie in the file.
#[derive(Clone)]
struct Stored {
    bytes: Range<usize>,
    checksum: Option<Arc<Checksum>>,
}

/// Whether a file begins as `torch.save` begins it.
pub(crate) fn is_torch_file(bytes: &[u8]) -> bool {
    match bytes {
        [b'P', b'K', 3, 4, ..] => true,
        // A pickle; the header of a safetensors file may be as long as these bytes say, and begins with a brace.
        [0x80, 2..=5, rest @ ..] => rest.get(6) != Some(&b'{'),
        _ => false,
    }
}

/// Reads the names and places of all tensors. Names of nested mappings are joined with dots; what training scripts put
/// around a state dict is taken off, as [`tree::state_dict`] says.
///
/// # Errors
/// The reason why the file is damaged or is refused.
pub(crate) fn read(bytes: &[u8]) -> Result<Vec<(String, TensorEntry)>, String> {
    if bytes.starts_with(b"PK") { archive::read(bytes) } else { legacy::read(bytes) }
}

/// Finds the tensors of a pickle, whose storages `find` locates in the file.
fn entries(
    pickle: &Unpickled,
    mut find: impl FnMut(&str, &Storage) -> Result<Stored, String>,
) -> Result<Vec<(String, TensorEntry)>, String> {
    let mut known: HashMap<_, Stored> = HashMap::new();
    let mut entry = |(name, tensor): (String, &value::Tensor)| {
        let wrong = |what: &str| format!("tensor `{name}` {what}");
        let storage = pickle.storage(tensor).ok_or_else(|| wrong("has no storage"))?;
        let key = (pickle.text(&storage.key), storage.view);
        let stored = match known.get(&key) {
            Some(stored) => stored.clone(),
            None => {
                let stored = find(key.0, storage)?;
                known.insert(key, stored.clone());
                stored
            }
        };
        let span = span(tensor, stored.bytes.len()).map_err(wrong)?;
        let strides = Some(&tensor.strides).filter(|strides| **strides != contiguous(&tensor.shape)).cloned();
        let entry = TensorEntry {
            kind: Ok(tensor.kind),
            shape: tensor.shape.clone(),
            strides,
            bytes: stored.bytes.start + span.start..stored.bytes.start + span.end,
            checksum: stored.checksum,
        };
        Ok((name, entry))
    };
    tree::state_dict(pickle)?.into_iter().map(&mut entry).collect()
}

/// The strides of a tensor whose numbers lie one after another.
fn contiguous(shape: &[i64]) -> Vec<i64> {
    let mut strides = vec![1; shape.len()];
    for i in (1..shape.len()).rev() {
        strides[i - 1] = i64::saturating_mul(strides[i], shape[i].max(1));
    }
    strides
}

/// Returns the bytes of a tensor in a storage of `room` bytes.
fn span(tensor: &value::Tensor, room: usize) -> Result<Range<usize>, &'static str> {
    const OUTSIDE: &str = "reaches beyond its storage";
    let size = tensor.kind.elt_size_in_bytes();
    let start = tensor.offset.checked_mul(size).ok_or(OUTSIDE)?;
    let elements = tensor.shape.iter().try_fold(1_i64, |product, side| product.checked_mul(*side));
    let elements = elements.ok_or("is too large")?;
    if elements == 0 {
        // No number is read, wherever it would lie.
        return Ok(0..0);
    }
    let last = tensor
        .shape
        .iter()
        .zip(&tensor.strides)
        .try_fold(0_i64, |last, (side, stride)| last.checked_add((side - 1).checked_mul(*stride)?));
    let numbers = last.and_then(|last| usize::try_from(last.checked_add(1)?).ok()).ok_or(OUTSIDE)?;
    let end = numbers.checked_mul(size).and_then(|length| start.checked_add(length)).ok_or(OUTSIDE)?;
    if end > room {
        return Err(OUTSIDE);
    }
    // An expanded tensor repeats the numbers that it has.
    if elements > EXPANDED_NUMBERS && elements as u64 > numbers as u64 {
        return Err("is expanded from fewer numbers to more than this program reads; in Python, save \
                    `tensor.contiguous()`");
    }
    Ok(start..end)
}

#[cfg(test)]
mod tests {
    use tch::Kind;

    use super::*;

    #[test]
    fn files_are_recognised_by_their_first_bytes() {
        for (bytes, torch) in [
            (&b"PK\x03\x04"[..], true),
            (b"\x80\x02\x8a\x0al\xfc\x9cF\xf9", true),
            // Headers of 640 bytes, and of 128.
            (b"\x80\x02\0\0\0\0\0\0{", false),
            (b"\x80\0\0\0\0\0\0\0{", false),
            (b"version https://git-lfs", false),
            (b"", false),
        ] {
            assert_eq!(is_torch_file(bytes), torch, "{bytes:?}");
        }
    }

    fn tensor(offset: usize, shape: &[i64], strides: &[i64]) -> value::Tensor {
        value::Tensor { storage: 0, kind: Kind::Float, offset, shape: shape.into(), strides: strides.into() }
    }

    #[test]
    fn tensors_stay_within_their_storage() {
        let of = |offset, shape: &[i64], strides: &[i64]| span(&tensor(offset, shape, strides), 24).ok();
        assert_eq!(of(0, &[2, 3], &[3, 1]), Some(0..24));
        assert_eq!(of(0, &[3, 2], &[1, 3]), Some(0..24));
        assert_eq!(of(1, &[2], &[2]), Some(4..16));
        assert_eq!(of(0, &[], &[]), Some(0..4));
        assert_eq!(of(5, &[4, 4], &[0, 0]), Some(20..24));
        assert_eq!(of(usize::MAX, &[0], &[1]), None);
        assert_eq!(of(9, &[0, 3], &[3, 1]), Some(0..0));
        for (offset, shape, strides) in [
            (1, &[2, 3][..], &[3, 1][..]),
            (0, &[7], &[1]),
            (0, &[2], &[6]),
            (6, &[], &[]),
            (usize::MAX / 2, &[1], &[1]),
            (0, &[i64::MAX, 2], &[1, 1]),
            (0, &[2, 2], &[i64::MAX, i64::MAX]),
            // A bomb: one number that claims to be many.
            (0, &[1 << 20, 1 << 20], &[0, 0]),
        ] {
            assert_eq!(of(offset, shape, strides), None, "{offset} {shape:?} {strides:?}");
        }
    }
}
