//! Writes files as `torch.save` does, from tensors in safetensors files.

use std::io::{Cursor, Write as _};
use std::path::Path;

use safetensors::{Dtype, SafeTensors};
use zip::write::FileOptions;
use zip::{CompressionMethod, ZipWriter};

/// Name, type, shape and bytes of a tensor.
pub type Stored = (String, Dtype, Vec<usize>, Vec<u8>);

/// Reads a safetensors file.
pub fn read(path: &Path) -> Vec<Stored> {
    let bytes = std::fs::read(path).expect("a readable file");
    let file = SafeTensors::deserialize(&bytes).expect("safetensors");
    let stored = |(name, view): (String, safetensors::tensor::TensorView)| {
        (name, view.dtype(), view.shape().to_vec(), view.data().to_vec())
    };
    let mut tensors: Vec<Stored> = file.tensors().into_iter().map(stored).collect();
    // The same file every time.
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    tensors
}

/// Returns a file of a state dict; `root` makes the pickle of the saved object from that of the state dict.
pub fn torch_file(tensors: &[Stored], root: impl FnOnce(Vec<u8>) -> Vec<u8>) -> Vec<u8> {
    let (mut items, mut storages) = (Vec::new(), Vec::new());
    for (i, (name, kind, shape, data)) in tensors.iter().enumerate() {
        let classes = [
            (Dtype::F32, "FloatStorage"),
            (Dtype::F16, "HalfStorage"),
            (Dtype::BF16, "BFloat16Storage"),
            (Dtype::I64, "LongStorage"),
        ];
        let (_, class) = classes.into_iter().find(|(known, _)| known == kind).expect("a known type");
        let numbers: usize = shape.iter().product();
        let shape: Vec<i64> = shape.iter().map(|&side| side as i64).collect();
        let strides: Vec<i64> = (0..shape.len()).map(|i| shape[i + 1..].iter().product()).collect();
        let storage = storage(class, &i.to_string(), numbers as i64);
        items.extend([text(name), tensor(&storage, 0, &shape, &strides)]);
        storages.push((format!("a/data/{i}"), data.as_slice()));
    }
    let storages: Vec<_> = storages.iter().map(|(name, bytes)| (name.as_str(), *bytes)).collect();
    let dict = [b"ccollections\nOrderedDict\n)R(".as_slice(), &items.concat(), b"u"].concat();
    stored(&pickle(&[&root(dict)]), &storages)
}

/// A pickle from its parts, with protocol and end.
pub fn pickle(parts: &[&[u8]]) -> Vec<u8> {
    [b"\x80\x02", parts.concat().as_slice(), b"."].concat()
}

pub fn text(text: &str) -> Vec<u8> {
    [b"X".as_slice(), &(text.len() as u32).to_le_bytes(), text.as_bytes()].concat()
}

pub fn int(number: i64) -> Vec<u8> {
    [b"\x8a\x08".as_slice(), &number.to_le_bytes()].concat()
}

pub fn storage(class: &str, key: &str, numbers: i64) -> Vec<u8> {
    let class = format!("ctorch\n{class}\n");
    [b"(".as_slice(), &text("storage"), class.as_bytes(), &text(key), &text("cpu"), &int(numbers), b"tQ"]
        .concat()
}

pub fn sizes(sizes: &[i64]) -> Vec<u8> {
    [b"(".to_vec(), sizes.iter().flat_map(|&size| int(size)).collect(), b"t".to_vec()].concat()
}

pub fn tensor(storage: &[u8], offset: i64, shape: &[i64], strides: &[i64]) -> Vec<u8> {
    let arguments = [storage, &int(offset), &sizes(shape), &sizes(strides), b"\x89N"].concat();
    [b"ctorch._utils\n_rebuild_tensor_v2\n(".as_slice(), &arguments, b"tR"].concat()
}

pub fn archive(entries: &[(&str, &[u8])], method: CompressionMethod) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in entries {
        zip.start_file(
            *name,
            FileOptions::default().compression_method(method).last_modified_time(zip::DateTime::default()),
        )
        .expect("in memory");
        zip.write_all(bytes).expect("in memory");
    }
    zip.finish().expect("in memory").into_inner()
}

/// The archive of a pickle and its storages, each with its name in the archive.
pub fn stored(pickle: &[u8], storages: &[(&str, &[u8])]) -> Vec<u8> {
    let mut entries = vec![("a/data.pkl", pickle)];
    entries.extend(storages);
    archive(&entries, CompressionMethod::Stored)
}
