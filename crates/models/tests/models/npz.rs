//! `.npz` files as numpy writes them. The zip archives are built by hand, since the test is about their layout.

use std::io::{Cursor, Write};
use std::path::PathBuf;

use models::matrix_file::{Contents, read, read_npz};
use zip::write::FileOptions;
use zip::{CompressionMethod, ZipWriter};

/// A `.npy` file of float64.
fn npy(shape: &str, values: &[f64]) -> Vec<u8> {
    let header = format!("{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}");
    let header = format!("{header:117}\n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    values.iter().for_each(|value| bytes.extend(value.to_le_bytes()));
    bytes
}

fn archive(method: CompressionMethod, entries: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in entries {
        zip.start_file(*name, FileOptions::default().compression_method(method)).expect("an entry");
        zip.write_all(bytes).expect("written");
    }
    zip.finish().expect("an archive").into_inner()
}

struct Scratch(tempfile::TempDir);

impl Scratch {
    fn file(&self, bytes: &[u8]) -> PathBuf {
        let path = self.0.path().join("statistics.npz");
        std::fs::write(&path, bytes).expect("writable");
        path
    }

    fn refusal(&self, bytes: &[u8]) -> String {
        read_npz(self.file(bytes), ["mu", "sigma"]).expect_err("refused").to_string()
    }
}

fn scratch() -> Scratch {
    Scratch(tempfile::tempdir().expect("a scratch folder"))
}

fn statistics() -> [(&'static str, Vec<u8>); 2] {
    [("mu.npy", npy("(2,)", &[1.5, -2.0])), ("sigma.npy", npy("(2, 2)", &[1.0, 0.25, 0.25, 3.0]))]
}

#[test]
fn stored_and_deflated_archives_are_read() {
    let scratch = scratch();
    for method in [CompressionMethod::Stored, CompressionMethod::Deflated] {
        let path = scratch.file(&archive(method, &statistics()));
        let [mu, sigma] = read_npz(&path, ["mu", "sigma"]).expect("statistics");
        assert_eq!((mu.shape(), sigma.shape()), (&[2][..], &[2, 2][..]));
        assert_eq!(mu.into_raw_vec_and_offset().0, [1.5, -2.0]);
        assert_eq!(sigma.into_raw_vec_and_offset().0, [1.0, 0.25, 0.25, 3.0]);
    }
}

#[test]
fn archives_without_the_arrays_are_refused() {
    let scratch = scratch();
    let whole = archive(CompressionMethod::Deflated, &statistics());
    let text = scratch.refusal(b"no archive at all");
    assert!(text.contains("statistics.npz: this is not a valid npz file"), "{text}");
    let text = scratch.refusal(&whole[..whole.len() / 2]);
    assert!(text.contains("not a valid npz file"), "{text}");
    let text = scratch.refusal(&archive(CompressionMethod::Stored, &statistics()[..1]));
    assert!(text.contains("no tensor is called `sigma`; there are `mu`"), "{text}");
    let [mu, _] = statistics();
    for (sigma, words) in [
        (npy("(2, 2)", &[1.0]), "promises 32 bytes of data, but it has 8"),
        (npy("(2, 2)", &[0.0; 9]), "40 bytes follow"),
        (npy("(0, 0)", &[]), "holds no elements"),
        (b"junk".to_vec(), "shorter than its header"),
    ] {
        let text =
            scratch.refusal(&archive(CompressionMethod::Deflated, &[mu.clone(), ("sigma.npy", sigma)]));
        assert!(text.contains(words), "{text}");
    }
    // One changed byte of the data: the archive's checksum detects it.
    let mut turned = archive(CompressionMethod::Stored, &statistics());
    let place = turned.windows(8).position(|bytes| bytes == 3.0_f64.to_le_bytes()).expect("the last number");
    turned[place + 7] ^= 1;
    let text = scratch.refusal(&turned);
    assert!(text.contains("cannot be read"), "{text}");
}

#[test]
fn matrices_of_an_archive_are_chosen_by_name() {
    let scratch = scratch();
    let path = scratch.file(&archive(CompressionMethod::Deflated, &statistics()));
    let contents = Contents::of(&path).expect("headers");
    let names: Vec<&str> = contents.tensors().iter().map(|tensor| tensor.name.as_str()).collect();
    assert_eq!(names.len(), 2);
    // The only square array.
    let chosen = contents.choose(&[]).expect("one");
    assert_eq!((chosen.len(), chosen[0].name.as_str()), (1, "sigma"));
    assert_eq!(contents.read(chosen[0]).expect("read").data.shape(), [2, 2]);
    assert_eq!(
        read(&path, Some("sigma")).expect("read").data.into_raw_vec_and_offset().0,
        [1.0, 0.25, 0.25, 3.0]
    );
    assert!(read(&path, None).expect_err("two arrays").to_string().contains("several tensors"));
    assert!(read(&path, Some("sigmas")).expect_err("no such name").to_string().contains("`sigma`"));
}
