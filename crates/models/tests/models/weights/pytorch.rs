//! Files of `torch.save`: every tensor equals the one that `torch.load` returns (`tools/golden_pytorch.py`), and files that
//! would run code, or claim more than they hold, are refused.

use std::collections::BTreeMap;
use std::path::Path;

use models::attend::{KeyBias, NoProbe};
use models::vision::VisionTransformer;
use models::{Device, Error, HeadSource, Kind, Weights};
use safetensors::{Dtype, SafeTensors};
use tch::Tensor;
use zip::CompressionMethod;

use crate::golden::{copy, fixture};
use crate::torch_file::{Stored, archive, pickle, read, storage, stored, tensor, text, torch_file};

fn open(path: &Path) -> Result<Weights, Error> {
    Weights::open_file(path, Kind::Float, Device::Cpu)
}

/// The bytes of a tensor; eight-bit floats as float32, and complex numbers as two real ones.
fn bytes(tensor: &Tensor, kind: &str) -> (Vec<i64>, Vec<u8>) {
    let tensor = match kind {
        "complex64" | "complex128" => tensor.f_view_as_real().expect("complex"),
        "float8_e5m2" | "float8_e4m3fn" => tensor.f_to_kind(Kind::Float).expect("a float"),
        _ => tensor.shallow_clone(),
    };
    assert!(tensor.is_contiguous());
    let mut data = vec![0; tensor.numel() * tensor.kind().elt_size_in_bytes()];
    tensor.f_copy_data_u8(&mut data, tensor.numel()).expect("on the host");
    (tensor.size(), data)
}

#[test]
fn every_tensor_is_the_one_that_torch_loads() {
    let folder = fixture("pytorch");
    let golden = std::fs::read(folder.join("golden.safetensors")).expect("a committed fixture");
    let golden = SafeTensors::deserialize(&golden).expect("a committed fixture");
    let files = std::fs::read_to_string(folder.join("golden.json")).expect("a committed fixture");
    let files: BTreeMap<String, BTreeMap<String, String>> =
        serde_json::from_str(&files).expect("a committed fixture");
    assert!(files.len() >= 20);
    for (file, tensors) in files {
        let weights = open(&folder.join(format!("{file}.pt"))).unwrap_or_else(|e| panic!("{file}: {e}"));
        assert!(weights.names().eq(tensors.keys()), "{file}: {:?}", weights.names().collect::<Vec<_>>());
        for (name, kind) in tensors {
            let wanted = golden.tensor(&format!("{file}/{name}")).expect("a committed fixture");
            let found = weights.stored(&name).unwrap_or_else(|e| panic!("{file}, {name}: {e}"));
            let (shape, data) = bytes(&found, &kind);
            let shape: Vec<usize> = shape.into_iter().map(|side| side as usize).collect();
            assert_eq!(
                (shape.as_slice(), data.as_slice()),
                (wanted.shape(), wanted.data()),
                "{file}, {name}"
            );
            // What networks compute with, in the type that they ask for.
            let shape = found.size();
            match (weights.get(&shape, &name), kind.as_str()) {
                (Ok(read), "float32" | "float16" | "bfloat16") => {
                    assert_eq!(read.kind(), Kind::Float);
                    assert!(read.equal(&found.to_kind(Kind::Float)), "{file}, {name}");
                }
                (Err(Error::Dtype { .. }), _) => {}
                (read, kind) => panic!("{file}, {name}: {kind} {read:?}"),
            }
        }
        weights.finish().expect("all were read");
    }
}

#[test]
fn damaged_numbers_are_noticed_where_the_file_has_checksums() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let path = dir.path().join("w.pt");
    for (file, noticed) in [("plain", true), ("no_checksums", false)] {
        let mut bytes = std::fs::read(fixture("pytorch").join(format!("{file}.pt"))).expect("a fixture");
        // 0.5, the first number.
        let at = bytes.windows(4).position(|window| window == 0.5_f32.to_le_bytes()).expect("its numbers");
        bytes[at] = 1;
        std::fs::write(&path, bytes).expect("writable");
        let read = open(&path).expect("its description is whole").get(&[2, 3], "a");
        match read {
            Err(error) => assert!(noticed && error.to_string().contains("checksum"), "{error}"),
            Ok(_) => assert!(!noticed),
        }
    }
}

/// Writes a file as `torch.save` does, of one-number tensors.
pub(super) fn save(path: &Path, tensors: impl IntoIterator<Item = (String, f32)>) {
    let stored = |(name, number): (String, f32)| (name, Dtype::F32, vec![1], number.to_le_bytes().to_vec());
    let tensors: Vec<Stored> = tensors.into_iter().map(stored).collect();
    std::fs::write(path, torch_file(&tensors, |dict| dict)).expect("writable");
}

/// A network, and a head as DINO publishes it, compute the same from a PyTorch file as from safetensors.
#[test]
fn networks_and_heads_are_read_as_published() {
    let logits = |dir: &Path, head: Option<&HeadSource>| {
        let network = VisionTransformer::load(dir, Kind::Float, Device::Cpu, head).expect("a network");
        let pixels =
            Tensor::arange(2 * 3 * 48 * 48, (Kind::Float, Device::Cpu)).sin().reshape([2, 3, 48, 48]);
        let embedded = network.embed(&pixels).expect("tokens");
        let encoded = network.encode(&embedded, &KeyBias::none(), &mut NoProbe).expect("encoded");
        network.logits(&encoded).expect("finite").expect("classes")
    };
    for (name, head) in [("vit-plain", false), ("dino-small", true)] {
        let (whole, dir) = (copy(name), copy(name));
        let weights = dir.path().join("model.safetensors");
        std::fs::write(dir.path().join("pytorch_model.bin"), torch_file(&read(&weights), |dict| dict))
            .expect("writable");
        std::fs::remove_file(weights).expect("a copy");
        let linear = |file: &str| head.then(|| HeadSource::Linear(dir.path().join(file)));
        if head {
            let mut tensors = read(&dir.path().join("head.safetensors"));
            tensors.iter_mut().for_each(|tensor| tensor.0.insert_str(0, "module.linear."));
            let file = torch_file(&tensors, |dict| {
                [b"}(".as_slice(), &text("epoch"), b"K\x64", &text("state_dict"), &dict, b"u"].concat()
            });
            std::fs::write(dir.path().join("head.pth"), file).expect("writable");
        }
        let wanted = logits(whole.path(), linear("head.safetensors").as_ref());
        let found = logits(dir.path(), linear("head.pth").as_ref());
        assert!(wanted.equal(&found), "{name}");
    }
}

/// `{name: tensor}`.
fn named(name: &str, tensor: &[u8]) -> Vec<u8> {
    pickle(&[b"}", &text(name), tensor, b"s"])
}

fn refusal(bytes: &[u8]) -> String {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let path = dir.path().join("w.pt");
    std::fs::write(&path, bytes).expect("writable");
    let error = open(&path).err().expect("it was accepted");
    assert_eq!(error.kind(), models::ErrorKind::Input);
    let message = error.to_string();
    assert!(message.contains("w.pt") && message.len() < 500, "{message}");
    message
}

/// Whatever a pickle names that no tensor needs is refused by its name, at any place and in any protocol.
#[test]
fn nothing_in_a_pickle_is_run() {
    let system =
        |call: &str| [b"c".as_slice(), call.as_bytes(), b"\n(", &text("touch /tmp/x"), b"tR"].concat();
    let call = system("os\nsystem");
    let good = tensor(&storage("FloatStorage", "0", 1), 0, &[1], &[1]);
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (pickle(&[&call]), "`os.system`"),
        (pickle(&[&system("posix\nsystem")]), "`posix.system`"),
        (pickle(&[&system("builtins\nexec")]), "`builtins.exec`"),
        (pickle(&[&system("torch.storage\n_load_from_bytes")]), "`torch.storage._load_from_bytes`"),
        (pickle(&[&system("numpy.core.multiarray\n_reconstruct")]), "`numpy.core.multiarray._reconstruct`"),
        (pickle(&[b"cargparse\nNamespace\n)\x81}b"]), "`argparse.Namespace`"),
        // Behind a good tensor, and as its argument.
        (pickle(&[b"}(", &text("a"), &good, &text("b"), &call, b"u"]), "`os.system`"),
        (named("a", &tensor(&call, 0, &[1], &[1])), "`os.system`"),
        // Named by two texts, as protocol 4 does.
        (pickle(&[&text("os"), &text("system"), b"\x93", &text("x"), b"\x85R"]), "`os.system`"),
        // Opcodes that tensors do not need: INST, OBJ, EXT1, REDUCE of a text, NEWOBJ_EX.
        (pickle(&[b"(ios\nsystem\n"]), "opcode 0x69"),
        (pickle(&[b"(ctorch\nSize\no"]), "opcode 0x6f"),
        (pickle(&[b"\x82\x01"]), "opcode 0x82"),
        (pickle(&[&text("os.system"), b")R"]), "not a function"),
        (pickle(&[b"ctorch\nSize\n)}\x92"]), "opcode 0x92"),
        (pickle(&[b"I1\n"]), "opcode 0x49"),
        (b"\x80\x06N.".to_vec(), "protocol 6"),
    ];
    let numbers = 1_f32.to_le_bytes();
    for (pickle, word) in cases {
        let message = refusal(&stored(&pickle, &[("a/data/0", &numbers)]));
        assert!(message.contains(word), "{word}: {message}");
        // The older format.
        let magic = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.\x80\x02}.";
        let message = refusal(&[magic.as_slice(), &pickle].concat());
        assert!(message.contains(word), "{word}: {message}");
    }
}

#[test]
fn false_claims_of_a_pytorch_file_are_refused() {
    let float = |numbers| storage("FloatStorage", "0", numbers);
    let plain = |shape: &[i64], strides: &[i64]| named("a", &tensor(&float(4), 0, shape, strides));
    let four = [0; 16];
    let with = |pickle: &[u8]| stored(pickle, &[("a/data/0", &four)]);
    let whole = with(&plain(&[2, 2], &[2, 1]));
    {
        let dir = tempfile::tempdir().expect("a scratch folder");
        std::fs::write(dir.path().join("w.pt"), &whole).expect("writable");
        open(&dir.path().join("w.pt")).expect("the cases differ from this one in one thing each");
    }
    let deep = pickle(&[&[b"}".as_slice(), &text("k")].concat().repeat(5000), b"}", &b"s".repeat(5000)]);
    let laughs: Vec<u8> = (0..40_u8).flat_map(|i| [b"}".as_slice(), b"q", &[i], b"0"].concat()).collect();
    let laughs: Vec<u8> = (1..40_u8)
        .rev()
        .flat_map(|i| {
            let pair = |name: &str| [text(name).as_slice(), b"h", &[i]].concat();
            [b"h".as_slice(), &[i - 1], b"(", &pair("a"), &pair("b"), b"u0"].concat()
        })
        .fold(laughs, |mut all, byte| {
            all.push(byte);
            all
        });
    let itself = pickle(&[b"}q\0", &text("me"), b"h\0s"]);
    let two = |key: &str| named("a", &tensor(&storage("FloatStorage", key, 4), 0, &[4], &[1]));
    let twice = pickle(&[
        b"}(",
        &text("a"),
        &tensor(&float(4), 0, &[4], &[1]),
        &text("a"),
        &tensor(&float(4), 0, &[4], &[1]),
        b"u",
    ]);
    let script = archive(&[("a/data.pkl", &two("0")), ("a/constants.pkl", b")")], CompressionMethod::Stored);
    let both = pickle(&[
        b"}(",
        &text("student"),
        b"}",
        &text("w"),
        &tensor(&float(4), 0, &[4], &[1]),
        b"s",
        &text("teacher"),
        b"}",
        &text("w"),
        &tensor(&float(4), 0, &[4], &[1]),
        b"su",
    ]);
    let cases: Vec<(Vec<u8>, &str)> = vec![
        // Bombs: sizes beyond the storage, numbers that repeat, storages beyond the file.
        (with(&plain(&[1 << 40], &[1])), "beyond its storage"),
        (with(&plain(&[i64::MAX, i64::MAX], &[0, 0])), "too large"),
        (with(&plain(&[1 << 20, 1 << 20], &[0, 0])), "expanded"),
        (with(&plain(&[2], &[i64::MAX])), "beyond its storage"),
        (with(&plain(&[-1], &[1])), "not a number from 0"),
        (with(&plain(&[2, 2], &[1])), "not as many strides"),
        (with(&named("a", &tensor(&float(4), -1, &[1], &[1]))), "negative offset"),
        (with(&named("a", &tensor(&float(4), i64::MAX, &[1], &[1]))), "beyond its storage"),
        (with(&named("a", &tensor(&float(1 << 60), 0, &[1], &[1]))), "not the size"),
        (with(&named("a", &tensor(&float(5), 0, &[1], &[1]))), "not the size"),
        (with(&named("a", &tensor(&float(-4), 0, &[1], &[1]))), "negative size"),
        (with(&named("a", &tensor(&storage("UntypedStorage", "0", 16), 0, &[1], &[1]))), "no type"),
        (with(&named("a", &tensor(b"N", 0, &[1], &[1]))), "no storage"),
        (with(&two("../../etc/passwd")), "lacks a/data/../../etc/passwd"),
        (with(&two("7")), "lacks a/data/7"),
        (with(&named(&"n".repeat(600), &tensor(&float(4), 0, &[4], &[1]))), "600 bytes"),
        (with(&twice), "`a` occurs twice"),
        (with(&both), "several networks (`student`, `teacher`)"),
        (with(&pickle(&[&tensor(&float(4), 0, &[4], &[1])])), "without a name"),
        // Nesting without end.
        (with(&deep), "nested"),
        (with(&pickle(&[&laughs, b"h\0"])), "nested"),
        (with(&itself), "nested"),
        // Broken machines.
        (with(b"\x80\x02}"), "cut off"),
        (with(b"\x80\x02."), "more values"),
        (with(b"\x80\x02(N)0000."), "more values"),
        (with(b"\x80\x02h\x07."), "not made"),
        (with(b"\x80\x02X\xff\xff\xff\xff"), "cut off"),
        (with(b"\x80\x02\x8d\xff\xff\xff\xff\xff\xff\xff\xff"), "cut off"),
        (with(b"\x80\x02X\x01\0\0\0\xff."), "UTF-8"),
        (with(b"\x80\x02](Nu."), "key without a value"),
        // Archives.
        (
            archive(&[("a/data.pkl", &plain(&[4], &[1])), ("a/data/0", &four)], CompressionMethod::Deflated),
            "compressed",
        ),
        (archive(&[("a/other", b"")], CompressionMethod::Stored), "without data.pkl"),
        (archive(&[("a/data.pkl", b"N."), ("b/data.pkl", b"N.")], CompressionMethod::Stored), "2 times"),
        (script, "TorchScript"),
        (
            archive(
                &[("a/data.pkl", &two("0")), ("a/data/0", &four), ("a/byteorder", b"big")],
                CompressionMethod::Stored,
            ),
            "highest byte first",
        ),
        (whole[..whole.len() - 30].to_vec(), "zip archive"),
        (b"PK\x03\x04".to_vec(), "zip archive"),
        // Pickles that are not of torch.save, and old files that end too early.
        (pickle(&[b"}"]), "not one of `torch.save`"),
        (std::fs::read(fixture("pytorch").join("legacy.pt")).expect("a fixture")[..400].to_vec(), ""),
    ];
    for (i, (bytes, word)) in cases.iter().enumerate() {
        let message = refusal(bytes);
        assert!(message.contains(word), "case {i}: {word}: {message}");
    }
    // Two storages that share bytes: the second entry is renamed in the directory to point to the first one's bytes.
    let pair = pickle(&[
        b"}(",
        &text("a"),
        &tensor(&storage("FloatStorage", "0", 4), 0, &[4], &[1]),
        &text("b"),
        &tensor(&storage("FloatStorage", "1", 4), 0, &[4], &[1]),
        b"u",
    ]);
    let mut overlapping = stored(&pair, &[("a/data/0", &four), ("a/data/1", &four)]);
    let headers: Vec<usize> =
        overlapping.windows(4).enumerate().filter(|(_, w)| *w == b"PK\x01\x02").map(|(at, _)| at).collect();
    let offset = |at: usize| at + 42..at + 46;
    let first: Vec<u8> = overlapping[offset(headers[1])].to_vec();
    overlapping[offset(headers[2])].copy_from_slice(&first);
    let message = refusal(&overlapping);
    assert!(message.contains("overlaps"), "{message}");
}

/// Every file that is cut anywhere, or has one byte changed, is read or refused, and nothing panics.
#[test]
fn damaged_pytorch_files_never_panic() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let path = dir.path().join("w.pt");
    let read = |bytes: &[u8]| {
        std::fs::write(&path, bytes).expect("writable");
        if let Ok(weights) = open(&path) {
            for name in weights.names().map(str::to_owned).collect::<Vec<_>>() {
                // Most are still right; what is not is an error.
                drop(weights.stored(&name));
            }
        }
    };
    for file in ["plain", "legacy_tied", "python2"] {
        let whole = std::fs::read(fixture("pytorch").join(format!("{file}.pt"))).expect("a fixture");
        for at in 0..whole.len() {
            read(&whole[..at]);
            for change in [0x01, 0x80, 0xff] {
                let mut bytes = whole.clone();
                bytes[at] ^= change;
                read(&bytes);
            }
        }
    }
}
