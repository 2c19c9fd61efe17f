//! The format of `torch.save` before PyTorch 1.6: five pickles (a magic number, the version, the system, the object, the
//! names of the storages), then the number of numbers and the numbers of each storage.

use std::collections::HashMap;
use std::ops::Range;

use super::pickle::Unpickled;
use super::value::{Node, Storage, Value};
use super::{Stored, entries};
use crate::limits::PICKLE_BYTES;
use crate::tensor_entry::TensorEntry;

/// The magic number, the lowest byte first, after the opcode and the length of a long integer.
const MAGIC: &[u8] = b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";
/// How far from the begin the magic number may stand, behind the protocol and a frame.
const HEAD: usize = 16;
const VERSION: i64 = 1001;

/// Reads the descriptions of the tensors of a file.
pub(super) fn read(bytes: &[u8]) -> Result<Vec<(String, TensorEntry)>, String> {
    let head = &bytes[..bytes.len().min(HEAD + MAGIC.len())];
    let Some(magic) = head.windows(MAGIC.len()).position(|window| window == MAGIC) else {
        return Err("it is a pickle, but not one of `torch.save`".into());
    };
    let mut at = magic + MAGIC.len();
    let version = next(bytes, &mut at)?.root;
    if version != Value::Int(VERSION) {
        return Err("its version of the format is unknown".into());
    }
    check_system(&next(bytes, &mut at)?)?;
    let pickle = next(bytes, &mut at)?;
    let names = next(bytes, &mut at)?;
    let places = places(bytes, at, &pickle, &names)?;
    entries(&pickle, |key, storage| {
        let whole = places.get(key).ok_or_else(|| format!("storage `{key}` is not in the file"))?;
        Ok(Stored { bytes: part(storage, whole)?, checksum: None })
    })
}

/// Reads the pickle at `at` and moves behind it.
fn next<'a>(bytes: &'a [u8], at: &mut usize) -> Result<Unpickled<'a>, String> {
    let rest = bytes.get(*at..).unwrap_or_default();
    let most = usize::try_from(PICKLE_BYTES).unwrap_or(usize::MAX);
    let (pickle, length) = Unpickled::read(&rest[..rest.len().min(most)])?;
    *at += length;
    Ok(pickle)
}

fn check_system(system: &Unpickled) -> Result<(), String> {
    let Some(Node::Dict(entries)) = system.node(&system.root) else {
        return Err("the description of its system is missing".into());
    };
    let is_little_endian =
        |key: &Value| matches!(key, Value::Text(key) if system.text(key) == "little_endian");
    match entries.iter().any(|(key, value)| is_little_endian(key) && *value == Value::Bool(false)) {
        true => Err("its numbers are stored with the highest byte first, which is not read".into()),
        false => Ok(()),
    }
}

/// Returns where the numbers of every storage lie.
fn places<'a>(
    bytes: &[u8],
    mut at: usize,
    pickle: &Unpickled<'a>,
    names: &Unpickled<'a>,
) -> Result<HashMap<&'a str, Range<usize>>, String> {
    let mut sizes = HashMap::new();
    for storage in pickle.storages() {
        let kind = storage.kind.ok_or("a storage of an old file has no type")?;
        let key = pickle.text(&storage.key);
        let found = (kind.elt_size_in_bytes(), storage.numbers);
        if sizes.insert(key, found).is_some_and(|other| other != found) {
            return Err(format!("storage `{key}` has two types or sizes"));
        }
    }
    let Some(Node::List(names_of)) = names.node(&names.root) else {
        return Err("the list of its storages is missing".into());
    };
    let mut places = HashMap::new();
    for name in names_of {
        let Value::Text(name) = name else { return Err("a storage has no name".into()) };
        let name = names.text(name);
        let &(size, numbers) =
            sizes.get(name).ok_or_else(|| format!("storage `{name}` belongs to no tensor"))?;
        let cut = || format!("the file ends before the numbers of storage `{name}`");
        let count = bytes.get(at..).and_then(<[u8]>::first_chunk::<8>).ok_or_else(cut)?;
        if u64::from_le_bytes(*count) != numbers as u64 {
            return Err(format!("storage `{name}` has not as many numbers as its tensors say"));
        }
        let start = at + 8;
        let end = numbers.checked_mul(size).and_then(|length| start.checked_add(length));
        at = end.filter(|&end| end <= bytes.len()).ok_or_else(cut)?;
        if places.insert(name, start..at).is_some() {
            return Err(format!("storage `{name}` occurs twice"));
        }
    }
    Ok(places)
}

/// Returns the part of a storage that a view of it has.
fn part(storage: &Storage, whole: &Range<usize>) -> Result<Range<usize>, String> {
    let Some((first, numbers)) = storage.view else { return Ok(whole.clone()) };
    let size = storage.kind.map_or(1, |kind| kind.elt_size_in_bytes());
    let part = first.checked_mul(size).zip(numbers.checked_mul(size)).and_then(|(offset, length)| {
        let start = whole.start.checked_add(offset)?;
        let end = start.checked_add(length)?;
        (end <= whole.end).then_some(start..end)
    });
    part.ok_or_else(|| "a view reaches beyond its storage".to_owned())
}
