//! Matrix files of every supported kind, and every kind of refusal.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use markov_core::Storage;
use models::matrix_file::{Contents, Values, read, read_array, write_safetensors};
use ndarray::{ArrayD, IxDyn};
use proptest::prelude::*;
use safetensors::tensor::{Dtype, SafeTensors, TensorView, serialize};
use tempfile::TempDir;

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.path()).unwrap();
        let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

/// A `.npy` file as NumPy writes it: the header padded with spaces and ended by a line feed.
fn npy(version: u8, header: &str, data: &[u8]) -> Vec<u8> {
    let width = if version == 1 { 2 } else { 4 };
    let padded = (8 + width + header.len() + 1).next_multiple_of(64) - 8 - width;
    let mut text = header.as_bytes().to_vec();
    text.resize(padded - 1, b' ');
    text.push(b'\n');
    let length = (padded as u32).to_le_bytes();
    [b"\x93NUMPY", &[version, 0][..], &length[..width], &text, data].concat()
}

fn npy_header(descr: &str, fortran: bool, shape: &str) -> String {
    let fortran = if fortran { "True" } else { "False" };
    format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}")
}

fn safetensors(tensors: &[(&str, Dtype, &[usize], &[u8])]) -> Vec<u8> {
    let views = tensors
        .iter()
        .map(|&(name, dtype, shape, bytes)| (name, TensorView::new(dtype, shape.to_vec(), bytes).unwrap()));
    serialize(views, None).unwrap()
}

fn bytes_of<const N: usize>(
    values: impl IntoIterator<Item = f64>,
    convert: impl Fn(f64) -> [u8; N],
) -> Vec<u8> {
    values.into_iter().flat_map(convert).collect()
}

/// Exact in every format that is read.
const VALUES: [f64; 8] = [0.5, 0.25, 0.125, 0.125, 1.0, 0.0, 0.75, -2.0];

fn expected(shape: &[usize]) -> ArrayD<f64> {
    ArrayD::from_shape_vec(IxDyn(shape), VALUES[..shape.iter().product()].to_vec()).unwrap()
}

#[track_caller]
fn assert_refused(path: &Path, key: Option<&str>, usage: bool, parts: &[&str]) {
    let error = read(path, key).unwrap_err();
    let message = error.to_string();
    let name = path.file_name().unwrap().to_string_lossy();
    for part in parts.iter().chain([&name.as_ref()]) {
        assert!(message.contains(part), "`{part}` is missing from: {message}");
    }
    assert_eq!(error.kind() == models::ErrorKind::Usage, usage, "{message}");
}

#[test]
fn safetensors_of_every_float_format() {
    let folder = Folder::new();
    for (dtype, bytes) in [
        (Dtype::F64, bytes_of(VALUES, f64::to_le_bytes)),
        (Dtype::F32, bytes_of(VALUES, |v| (v as f32).to_le_bytes())),
        (Dtype::F16, bytes_of(VALUES, |v| f16::from_f64(v).to_le_bytes())),
        (Dtype::BF16, bytes_of(VALUES, |v| bf16::from_f64(v).to_le_bytes())),
    ] {
        let path = folder.file("a.safetensors", &safetensors(&[("probs", dtype, &[2, 2, 2], &bytes)]));
        for key in [None, Some("probs")] {
            let matrices = read(&path, key).unwrap();
            assert_eq!(matrices.name, "probs");
            assert_eq!(matrices.data, expected(&[2, 2, 2]), "{dtype}");
        }
    }
}

#[test]
fn npy_of_every_float_format_order_layout_and_version() {
    let folder = Folder::new();
    let formats: [(&str, Vec<u8>); 6] = [
        ("<f8", bytes_of(VALUES, f64::to_le_bytes)),
        (">f8", bytes_of(VALUES, f64::to_be_bytes)),
        ("<f4", bytes_of(VALUES, |v| (v as f32).to_le_bytes())),
        (">f4", bytes_of(VALUES, |v| (v as f32).to_be_bytes())),
        ("<f2", bytes_of(VALUES, |v| f16::from_f64(v).to_le_bytes())),
        (">f2", bytes_of(VALUES, |v| f16::from_f64(v).to_be_bytes())),
    ];
    for (descr, bytes) in &formats {
        for version in 1..=3 {
            let path = folder.file("map.npy", &npy(version, &npy_header(descr, false, "(2, 2, 2)"), bytes));
            let matrices = read(&path, None).unwrap();
            assert_eq!((matrices.name.as_str(), &matrices.data), ("map", &expected(&[2, 2, 2])), "{descr}");

            // In Fortran layout the first index runs fastest.
            let path = folder.file("map.npy", &npy(version, &npy_header(descr, true, "(2, 2, 2)"), bytes));
            let fortran = read(&path, None).unwrap().data;
            assert!(fortran.is_standard_layout());
            assert_eq!(fortran, expected(&[2, 2, 2]).reversed_axes(), "{descr}");
        }
    }
}

#[test]
fn a_file_that_numpy_wrote() {
    // numpy 2.4.6: numpy.save(f, numpy.asfortranarray(numpy.array([[0.25, 0.75], [1, 0]], numpy.float32)))
    let header = b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': True, 'shape': (2, 2), }";
    let padding = [b' '; 59];
    let data = b"\x00\x00\x80>\x00\x00\x80?\x00\x00@?\x00\x00\x00\x00";
    let folder = Folder::new();
    let path = folder.file("numpy.npy", &[&header[..], &padding, b"\n", data].concat());
    let expected = ndarray::arr2(&[[0.25, 0.75], [1.0, 0.0]]).into_dyn();
    assert_eq!(read(&path, None).unwrap().data, expected);
}

#[test]
fn many_values_are_read_across_blocks() {
    let folder = Folder::new();
    let values: Vec<f64> = (0..150 * 150).map(f64::from).collect();
    let path = folder.file(
        "big.npy",
        &npy(
            1,
            &npy_header(">f4", false, "(150, 150)"),
            &bytes_of(values.clone(), |v| (v as f32).to_be_bytes()),
        ),
    );
    assert_eq!(read(&path, None).unwrap().data, ArrayD::from_shape_vec(IxDyn(&[150, 150]), values).unwrap());
}

#[test]
fn keys_choose_among_tensors() {
    let folder = Folder::new();
    let (one, two) = ([1.0_f32.to_le_bytes()].concat(), [2.0_f32.to_le_bytes()].concat());
    let path = folder.file(
        "two.safetensors",
        &safetensors(&[
            ("block.0.probs", Dtype::F32, &[1, 1], &one),
            ("block.1.probs", Dtype::F32, &[1, 1], &two),
        ]),
    );
    assert_eq!(read(&path, Some("block.1.probs")).unwrap().data[[0, 0]], 2.0);
    assert_eq!(read(&path, Some("block.0.probs")).unwrap().data[[0, 0]], 1.0);
    assert_refused(&path, None, true, &["several tensors", "`block.0.probs`, `block.1.probs`"]);
    assert_refused(&path, Some("block.1.prob"), true, &["`block.1.prob`", "nearest name is `block.1.probs`"]);
    assert_refused(&path, Some("attention"), true, &["there are `block.0.probs`"]);

    let none = folder.file("none.safetensors", &safetensors(&[]));
    assert_refused(&none, None, false, &["no tensors"]);
    assert_refused(&none, Some("x"), true, &["no tensors"]);
    let npy = folder.file("a.npy", &npy(1, &npy_header("<f8", false, "(1, 1)"), &1.0_f64.to_le_bytes()));
    assert_refused(&npy, Some("x"), true, &["without a name"]);
}

#[test]
fn shapes_other_than_matrices_are_refused() {
    let folder = Folder::new();
    let bytes = bytes_of(VALUES, f64::to_le_bytes);
    for (shape, text, count, reason) in [
        (&[8][..], "(8,)", 8, "needs two dimensions"),
        (&[], "()", 1, "needs two dimensions"),
        (&[2, 4], "(2, 4)", 8, "square"),
        (&[2, 2, 1], "(2, 2, 1)", 4, "square"),
        (&[0, 0], "(0, 0)", 0, "no elements"),
        (&[0, 2, 2], "(0, 2, 2)", 0, "no elements"),
    ] {
        let bytes = &bytes[..count * 8];
        let path = folder.file("s.safetensors", &safetensors(&[("a", Dtype::F64, shape, bytes)]));
        assert_refused(&path, None, false, &["`a`", &format!("{shape:?}"), reason]);
        let path = folder.file("s.npy", &npy(1, &npy_header("<f8", false, text), bytes));
        assert_refused(&path, None, false, &["`s`", &format!("{shape:?}"), reason]);
    }
}

/// `torch.save(A)`, `torch.save(outputs.attentions)` and `torch.save({"a": A})`, in any of the float formats.
#[test]
fn files_of_torch_save_are_read() {
    use crate::torch_file::{pickle, storage, stored, tensor, text};

    let folder = Folder::new();
    let half: Vec<u8> =
        [0.25_f32, 0.75, 0.5, 0.5].iter().flat_map(|x| f16::from_f32(*x).to_le_bytes()).collect();
    let one = tensor(&storage("HalfStorage", "0", 4), 0, &[2, 2], &[2, 1]);
    let transposed = tensor(&storage("HalfStorage", "0", 4), 0, &[2, 2], &[1, 2]);
    let write = |name: &str, object: &[&[u8]]| {
        folder.file(name, &stored(&pickle(object), &[("a/data/0", half.as_slice())]))
    };
    let alone = read(write("alone.pt", &[&one]), None).expect("one tensor");
    let values = |data: &ArrayD<f64>| data.iter().copied().collect::<Vec<f64>>();
    assert_eq!((alone.name.as_str(), values(&alone.data)), ("alone", vec![0.25, 0.75, 0.5, 0.5]));
    assert_eq!(alone.storage, Storage::F16);
    let path = write("tuple.pt", &[b"(", &one, &transposed, b"t"]);
    assert_eq!(values(&read(&path, Some("1")).expect("a tuple").data), [0.25, 0.5, 0.75, 0.5]);
    let contents = Contents::of(&path).expect("a tuple");
    assert_eq!(contents.choose(&["*".to_owned()]).expect("both").len(), 2);
    let ids = tensor(&storage("LongStorage", "0", 1), 0, &[1, 1], &[1, 1]);
    assert_refused(&write("ids.pt", &[b"}", &text("ids"), &ids, b"s"]), None, false, &["ids"]);
}

#[test]
fn other_number_formats_and_extensions_are_refused() {
    let folder = Folder::new();
    let path = folder.file("i.safetensors", &safetensors(&[("ids", Dtype::I64, &[1, 1], &[0; 8])]));
    assert_refused(&path, None, false, &["`ids`", "I64", "F32"]);
    for descr in ["<i8", "|u1", "<c16", "<f16", "|b1", "|O", "f8", "", "é"] {
        let path = folder.file("i.npy", &npy(1, &npy_header(descr, false, "(1, 1)"), &[0; 16]));
        assert_refused(&path, None, false, &["`i`", "f8"]);
    }
    let structured = "{'descr': [('a', '<f8')], 'fortran_order': False, 'shape': (1, 1), }";
    assert_refused(&folder.file("i.npy", &npy(1, structured, &[0; 8])), None, false, &["structures"]);

    assert_refused(&folder.file("a.pkl", b"\x80\x04"), None, true, &[".pkl", "pickle", "torch.save"]);
    assert_refused(&folder.file("a.pt", b"PK"), None, false, &["`torch.save` has not written it"]);
    let call = crate::torch_file::pickle(&[b"cos\nsystem\n", &crate::torch_file::text("true"), b"\x85R"]);
    let file = crate::torch_file::stored(&call, &[]);
    assert_refused(&folder.file("b.pt", &file), None, false, &["`os.system`", "never run"]);
    assert_refused(&folder.file("a.npz", b"PK"), None, false, &["not a valid npz file"]);
    assert_refused(&folder.file("a.csv", b"1,2"), None, true, &[".csv"]);
    assert_refused(&folder.file("plain", b""), None, true, &["no extension"]);
    assert_refused(Path::new("/nonexistent/a.npy"), None, false, &["cannot be read"]);
    fs::create_dir(folder.0.path().join("folder.npy")).unwrap();
    assert_refused(&folder.0.path().join("folder.npy"), None, false, &["cannot be read"]);
}

#[test]
fn truncated_and_overlong_files_are_refused() {
    let folder = Folder::new();
    let bytes = bytes_of(VALUES[..4].iter().copied(), f64::to_le_bytes);
    let whole = [
        ("t.safetensors", safetensors(&[("a", Dtype::F64, &[2, 2], &bytes)])),
        ("t.npy", npy(1, &npy_header("<f8", false, "(2, 2)"), &bytes)),
    ];
    for (name, whole) in whole {
        assert!(read(folder.file(name, &whole), None).is_ok());
        let cut = folder.file(name, &whole[..whole.len() - 3]);
        assert_refused(&cut, None, false, &["truncated", "32 bytes", "29"]);
        let long = folder.file(name, &[&whole[..], b"12345"].concat());
        assert_refused(&long, None, false, &["5 bytes follow"]);
        for length in 0..whole.len() {
            assert!(read(folder.file(name, &whole[..length]), None).is_err(), "{length} bytes of {name}");
        }
    }
}

#[test]
fn hostile_headers_are_refused_before_memory_is_taken() {
    let folder = Folder::new();
    let header = |text: &str| [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat();
    for bytes in [
        u64::MAX.to_le_bytes().to_vec(),
        99_999_999_u64.to_le_bytes().to_vec(),
        header("{"),
        header("[]"),
        header(r#"{"a":{"dtype":"F64","shape":[4294967296,4294967296],"data_offsets":[0,8]}}"#),
        header(r#"{"a":{"dtype":"F64","shape":[1,1],"data_offsets":[8,0]}}"#),
        header(r#"{"a":{"dtype":"F64","shape":[1,1],"data_offsets":[4,12]}}"#),
        header(r#"{"a":{"dtype":"F9","shape":[1,1],"data_offsets":[0,8]}}"#),
    ] {
        assert_refused(&folder.file("h.safetensors", &bytes), None, false, &["not a valid safetensors file"]);
    }
    let absurd =
        header(r#"{"a":{"dtype":"F64","shape":[1000000,1000000],"data_offsets":[0,8000000000000]}}"#);
    assert_refused(&folder.file("h.safetensors", &absurd), None, false, &["truncated"]);

    let absurd = npy(1, &npy_header("<f8", false, "(1000000, 1000000)"), &[]);
    assert_refused(&folder.file("h.npy", &absurd), None, false, &["truncated"]);
    for (header, reason) in [
        (npy_header("<f8", false, "(4294967296, 4294967296, 2)"), "larger than any memory"),
        (npy_header("<f8", false, "(99999999999999999999999, 1)"), "something other than sizes"),
        (npy_header("<f8", false, "(-1, 1)"), "something other than sizes"),
        (npy_header("<f8", false, &format!("({})", "1,".repeat(70))), "more than 64 dimensions"),
        (npy_header("<f8", false, "(1 1)"), "has `1` where `)` belongs"),
        ("{'descr': '<f8', 'shape': (1, 1)}".to_owned(), "lacks"),
        ("{'descr': '<f8', 'fortran_order': 1, 'shape': (1, 1)}".to_owned(), "True or False"),
        ("{'descr': '<f8', 'evil': 1}".to_owned(), "evil"),
        ("{'descr': '<f8".to_owned(), "unfinished"),
        ("{'descr': '<f8', 'fortran_order': False, 'shape': (1, 1)} + 1".to_owned(), "something follows"),
        (String::new(), "its end"),
    ] {
        let path = folder.file("h.npy", &npy(1, &header, &1.0_f64.to_le_bytes()));
        assert_refused(&path, None, false, &["not a valid npy file", reason]);
    }
    assert_refused(&folder.file("h.npy", b"PK\x03\x04aaaaaaaa"), None, false, &["NumPy's mark"]);
    let version = npy(9, &npy_header("<f8", false, "(1, 1)"), &1.0_f64.to_le_bytes());
    assert_refused(&folder.file("h.npy", &version), None, false, &["version 9.0"]);
    assert_refused(&folder.file("h.npy", b"\x93NUMPY\x02\x00\xff\xff\xff\xff"), None, false, &["4294967295"]);
}

#[test]
fn written_files_are_read_by_the_reference_crate_and_by_us() {
    let folder = Folder::new();
    let path = folder.0.path().join("out.safetensors");
    let tensors = [
        ("odd".to_owned(), vec![3], Values::F32(&[1.0, 2.0, 3.0])),
        ("tokenrank".to_owned(), vec![2, 2], Values::F64(&VALUES[..4])),
        ("none".to_owned(), vec![0, 4], Values::F64(&[])),
    ];
    let metadata: BTreeMap<_, _> = [("model", "vit"), ("tokens", "{\"special\": 1}")]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into();
    fs::write(&path, "what was there before").unwrap();
    write_safetensors(&path, &tensors, &metadata).unwrap();

    let bytes = fs::read(&path).unwrap();
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let found: HashMap<_, _> = header.metadata().clone().unwrap();
    assert_eq!(found.into_iter().collect::<BTreeMap<_, _>>(), metadata);
    let file = SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(file.tensor("odd").unwrap().shape(), [3]);
    assert_eq!(file.tensor("odd").unwrap().data(), bytes_of([1.0, 2.0, 3.0], |v| (v as f32).to_le_bytes()));
    assert_eq!(file.tensor("none").unwrap().shape(), [0, 4]);
    assert_eq!(read(&path, Some("tokenrank")).unwrap().data, expected(&[2, 2]));
    assert_eq!(folder.names(), ["out.safetensors"], "nothing temporary is left");

    write_safetensors(folder.0.path().join("again.safetensors"), &tensors, &metadata).unwrap();
    assert_eq!(fs::read(folder.0.path().join("again.safetensors")).unwrap(), bytes);
}

#[test]
fn refused_writes_leave_nothing_behind() {
    let folder = Folder::new();
    let none = BTreeMap::new();
    let refused = |path: &Path, tensors: &[(String, Vec<usize>, Values<'_>)], parts: &[&str]| {
        let message = write_safetensors(path, tensors, &none).unwrap_err().to_string();
        for part in parts {
            assert!(message.contains(part), "`{part}` is missing from: {message}");
        }
    };
    let one = |name: &str| (name.to_owned(), vec![1], Values::F64(&VALUES[..1]));
    let path = folder.0.path().join("out.safetensors");
    refused(
        &folder.0.path().join("missing/out.safetensors"),
        &[one("a")],
        &["out.safetensors", "missing", "does not exist"],
    );
    refused(&path, &[one("a"), one("a")], &["`a`", "twice"]);
    refused(&path, &[one("__metadata__")], &["reserves"]);
    refused(&path, &[("a".to_owned(), vec![2, 2], Values::F64(&VALUES[..3]))], &["[2, 2]", "3 values"]);
    refused(&path, &[("a".to_owned(), vec![usize::MAX, 2], Values::F64(&[]))], &["does not match"]);
    assert_eq!(folder.names(), Vec::<String>::new());

    let target = folder.0.path().join("folder.safetensors");
    fs::create_dir(&target).unwrap();
    refused(&target, &[one("a")], &["cannot be written"]);
    assert_eq!(folder.names(), ["folder.safetensors"]);
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), npy in any::<bool>()) {
        let folder = Folder::new();
        let _ = read(folder.file(if npy { "a.npy" } else { "a.safetensors" }, &bytes), None);
    }

    #[test]
    fn arbitrary_headers_never_panic(
        header in "[{}()\\[\\]'\",: a-f0-9TrueFalsdescrshapfortan_order]{0,90}",
        data in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let folder = Folder::new();
        let _ = read(folder.file("a.npy", &npy(1, &header, &data)), None);
        let bytes = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat();
        let _ = read(folder.file("a.safetensors", &bytes), None);
    }

    #[test]
    fn damaged_files_are_refused_or_hold_matrices(
        npy_file in any::<bool>(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let folder = Folder::new();
        let values = bytes_of(VALUES, f64::to_le_bytes);
        let (name, mut bytes) = if npy_file {
            ("a.npy", npy(1, &npy_header("<f8", false, "(2, 2, 2)"), &values))
        } else {
            ("a.safetensors", safetensors(&[("a", Dtype::F64, &[2, 2, 2], &values)]))
        };
        for (index, value) in damage {
            let at = index.index(bytes.len());
            bytes[at] = value;
        }
        if let Ok(matrices) = read(folder.file(name, &bytes), None) {
            let shape = matrices.data.shape();
            prop_assert!(shape.len() >= 2 && shape[shape.len() - 1] == shape[shape.len() - 2] && !shape.contains(&0));
        }
    }

    #[test]
    fn written_files_are_read_back(n in 1_usize..6, heads in 1_usize..4, seed in any::<u64>()) {
        let folder = Folder::new();
        let path = folder.0.path().join("out.safetensors");
        let values: Vec<f64> = (0..heads * n * n).map(|i| f64::from_bits(seed.rotate_left(i as u32) >> 2)).collect();
        let tensors = [("a".to_owned(), vec![heads, n, n], Values::F64(&values))];
        write_safetensors(&path, &tensors, &BTreeMap::new()).unwrap();
        let read = read(&path, None).unwrap().data;
        prop_assert_eq!(read.shape(), [heads, n, n]);
        prop_assert!(read.iter().zip(&values).all(|(a, b)| a.to_bits() == b.to_bits()));
    }
}

#[test]
fn contents_are_described_from_headers() {
    let folder = Folder::new();
    let halves = bytes_of(VALUES, |v| f16::from_f64(v).to_le_bytes());
    let path = folder.file(
        "maps.safetensors",
        &safetensors(&[
            ("a.probs", Dtype::F16, &[2, 2, 2], &halves),
            ("b", Dtype::I32, &[1, 1], &[0; 4]),
            ("c", Dtype::F16, &[4, 2], &halves),
        ]),
    );
    let contents = Contents::of(&path).unwrap();
    let found: Vec<_> =
        contents.tensors().iter().map(|t| (t.name.as_str(), t.storage, t.is_square())).collect();
    assert_eq!(found.len(), 3);
    for wanted in
        [("a.probs", Some(Storage::F16), true), ("b", None, false), ("c", Some(Storage::F16), false)]
    {
        assert!(found.contains(&wanted), "{wanted:?} is not in {found:?}");
    }
    let chosen = contents.choose(&[]).unwrap();
    let matrices = contents.read(chosen[0]).unwrap();
    assert_eq!((matrices.name.as_str(), matrices.storage), ("a.probs", Storage::F16));
    assert_eq!(matrices.data, expected(&[2, 2, 2]));
    assert_eq!(read_array(&path, Some("c")).unwrap().data.shape(), [4, 2]);

    let path = folder.file("one.npy", &npy(1, &npy_header("<f4", false, "(2,)"), &[0; 8]));
    let contents = Contents::of(&path).unwrap();
    assert_eq!((contents.tensors()[0].name.as_str(), &contents.tensors()[0].shape[..]), ("one", &[2][..]));
    assert!(contents.choose(&["one".to_owned()]).unwrap_err().kind() == models::ErrorKind::Usage);
    assert_eq!(read_array(&path, None).unwrap().data.shape(), [2]);
    // Unsupported types are described as well.
    let path = folder.file("ids.npy", &npy(1, &npy_header("<i8", false, "(1, 1)"), &[0; 8]));
    assert_eq!(Contents::of(&path).unwrap().tensors()[0].storage, None);
    for (name, bytes) in [("x.csv", &b""[..]), ("x.npy", b"no"), ("x.npz", b"no"), ("x.safetensors", b"no")] {
        let message = Contents::of(folder.file(name, bytes)).unwrap_err().to_string();
        assert!(message.contains(name), "{message}");
    }
}
