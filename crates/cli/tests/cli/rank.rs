//! `tokenrank rank`: right answers on matrices from files, refusals without output.

use std::fs;
use std::path::{Path, PathBuf};

use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use tempfile::TempDir;

use crate::common::{arg, run, words};

/// Writes a `.npy` of version 1.0.
pub fn npy(dir: &Path, name: &str, descr: &str, fortran: bool, shape: &[usize], data: &[u8]) -> PathBuf {
    let dims: String = shape.iter().map(|d| format!("{d}, ")).collect();
    let fortran = if fortran { "True" } else { "False" };
    let mut header = format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': ({dims}), }}");
    while (10 + header.len() + 1) % 64 != 0 {
        header.push(' ');
    }
    header.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(data);
    let path = dir.join(name);
    fs::write(&path, bytes).expect("writable");
    path
}

pub fn f64s(values: &[f64]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

pub fn square(dir: &Path, name: &str, n: usize, values: &[f64]) -> PathBuf {
    npy(dir, name, "<f8", false, &[n, n], &f64s(values))
}

pub fn safetensors(dir: &Path, name: &str, tensors: &[(&str, Dtype, Vec<usize>, Vec<u8>)]) -> PathBuf {
    let views = tensors.iter().map(|(name, dtype, shape, data)| {
        (*name, TensorView::new(*dtype, shape.clone(), data).expect("whole"))
    });
    let path = dir.join(name);
    fs::write(&path, safetensors::serialize(views, None).expect("serialises")).expect("writable");
    path
}

/// Shape and values of a float64 tensor.
pub fn read(path: &Path, name: &str) -> (Vec<usize>, Vec<f64>) {
    let bytes = fs::read(path).expect("written");
    let file = SafeTensors::deserialize(&bytes).expect("a safetensors file");
    let view = file.tensor(name).unwrap_or_else(|_| panic!("no {name} in {:?}", file.names()));
    assert_eq!(view.dtype(), Dtype::F64, "{name}");
    let values = view.data().chunks(8).map(|b| f64::from_le_bytes(b.try_into().expect("8 bytes"))).collect();
    (view.shape().to_vec(), values)
}

pub fn assert_close(found: &[f64], wanted: &[f64], tolerance: f64) {
    assert_eq!(found.len(), wanted.len());
    let l1: f64 = found.iter().zip(wanted).map(|(a, b)| (a - b).abs()).sum();
    assert!(l1 <= tolerance, "{found:?} is not {wanted:?}");
}

/// Steady state (5/6, 1/6), λ₂ = 0.4.
pub const TWO: [f64; 4] = [0.9, 0.1, 0.5, 0.5];

#[test]
fn a_chain_by_hand() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let file = square(dir.path(), "two.npy", 2, &TWO);
    let out = dir.path().join("out.safetensors");
    let base = ["rank", arg(&file), "--alpha", "1", "--out", arg(&out)];
    run(&[&base[..], &["--start", "1", "--bounces", "3", "--spectrum", "9"]].concat(), 0);
    assert_close(&read(&out, "tokenrank").1, &[5.0 / 6.0, 1.0 / 6.0], 1e-9);
    let (shape, bounces) = read(&out, "bounces");
    assert_eq!(shape, [3, 2]);
    assert_close(&bounces, &[0.5, 0.5, 0.7, 0.3, 0.78, 0.22], 1e-12);
    let (shape, lambda) = read(&out, "lambda");
    assert_eq!(shape, [2], "min(K, n)");
    assert_close(&lambda, &[1.0, 0.4], 1e-9);
    assert_eq!(read(&out, "iterations").0, [0usize; 0]);

    // Backward: B = [[9/14, 5/14], [1/6, 5/6]].
    run(&[&base[..], &["--direction", "backward", "--start", "0", "--bounces", "1"]].concat(), 0);
    assert_close(&read(&out, "bounces").1, &[9.0 / 14.0, 5.0 / 14.0], 1e-12);
    assert_close(&read(&out, "tokenrank").1, &[7.0 / 22.0, 15.0 / 22.0], 1e-9);

    // Teleport first, reversal second, ten bounces if not said.
    run(&["rank", arg(&file), "--start", "0", "--direction", "backward", "--out", arg(&out)], 0);
    let (a, b) = (0.99 * 0.9 + 0.005, 0.99 * 0.5 + 0.005);
    let (shape, bounces) = read(&out, "bounces");
    assert_eq!(shape, [10, 2]);
    assert_close(&bounces[..2], &[a / (a + b), b / (a + b)], 1e-12);
}

#[test]
fn every_type_order_and_layout_gives_the_same() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    // Exact in every type.
    let values = [0.75f32, 0.25, 0.5, 0.5];
    let bytes = |to: &dyn Fn(f32) -> Vec<u8>| values.iter().flat_map(|&v| to(v)).collect::<Vec<u8>>();
    let half = |v: f32| half::f16::from_f32(v).to_le_bytes().to_vec();
    let brain = |v: f32| half::bf16::from_f32(v).to_le_bytes().to_vec();
    let transposed: Vec<u8> = [0.75f64, 0.5, 0.25, 0.5].iter().flat_map(|v| v.to_be_bytes()).collect();
    let d = dir.path();
    let files = [
        npy(d, "f2.npy", "<f2", false, &[2, 2], &bytes(&half)),
        npy(d, "f4be.npy", ">f4", false, &[2, 2], &bytes(&|v| v.to_be_bytes().to_vec())),
        npy(d, "f8be-fortran.npy", ">f8", true, &[2, 2], &transposed),
        safetensors(d, "f16.safetensors", &[("a", Dtype::F16, vec![2, 2], bytes(&half))]),
        safetensors(d, "bf16.safetensors", &[("a", Dtype::BF16, vec![2, 2], bytes(&brain))]),
        safetensors(
            d,
            "f32.safetensors",
            &[("a", Dtype::F32, vec![2, 2], bytes(&|v| v.to_le_bytes().to_vec()))],
        ),
    ];
    for file in files {
        let out = dir.path().join("out.safetensors");
        run(&["rank", arg(&file), "--alpha", "1", "--out", arg(&out)], 0);
        assert_close(&read(&out, "tokenrank").1, &[2.0 / 3.0, 1.0 / 3.0], 1e-9);
        fs::remove_file(&out).expect("written");
    }
}

#[test]
fn leading_dimensions_are_kept_and_the_key_is_found() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let batch: Vec<f64> = (0..6).flat_map(|_| TWO).collect();
    let file = safetensors(
        dir.path(),
        "maps.safetensors",
        &[
            ("block.0.attention", Dtype::F64, vec![3, 2, 2, 2], f64s(&batch)),
            ("block.1.attention", Dtype::F64, vec![2, 2], f64s(&TWO)),
        ],
    );
    let out = dir.path().join("out.safetensors");
    let args = ["rank", arg(&file), "--start", "0", "--spectrum", "2", "--out", arg(&out)];
    let message = words(&run(&args, 2));
    assert!(message.contains("block.0.attention") && message.contains("--key"), "{message}");
    let message = words(&run(&[&args[..], &["--key", "block.0.attentio"]].concat(), 2));
    assert!(message.contains("block.0.attention"), "{message}");
    assert!(!out.exists());
    run(&[&args[..], &["--key", "block.0.attention"]].concat(), 0);
    for (name, shape) in [
        ("tokenrank", vec![3, 2, 2]),
        ("iterations", vec![3, 2]),
        ("bounces", vec![3, 2, 10, 2]),
        ("lambda", vec![3, 2, 2]),
        ("lambda.residual", vec![3, 2, 2]),
        ("lambda.condition", vec![3, 2, 2]),
    ] {
        assert_eq!(read(&out, name).0, shape, "{name}");
    }
}

#[test]
fn one_token_is_its_own_steady_state() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let file = square(dir.path(), "one.npy", 1, &[1.0]);
    let out = dir.path().join("out.safetensors");
    run(&["rank", arg(&file), "--spectrum", "3", "--start", "0", "--alpha", "1", "--out", arg(&out)], 0);
    assert_eq!(read(&out, "tokenrank").1, [1.0]);
    assert_eq!(read(&out, "lambda").1, [1.0]);
}

/// Slow chains are exact all the same; the reference's rule stops early on them.
#[test]
fn exact_to_1e_6_however_slow() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let file = square(dir.path(), "slow.npy", 2, &[1.0 - 1e-5, 1e-5, 3e-5, 1.0 - 3e-5]);
    let out = dir.path().join("out.safetensors");
    for alpha in ["1", "0.99999"] {
        run(&["rank", arg(&file), "--alpha", alpha, "--out", arg(&out)], 0);
        let a: f64 = alpha.parse().expect("a number");
        let (up, down) = (a * 1e-5 + (1.0 - a) / 2.0, a * 3e-5 + (1.0 - a) / 2.0);
        assert_close(&read(&out, "tokenrank").1, &[down / (up + down), up / (up + down)], 1e-6);
    }
    run(&["rank", arg(&file), "--reference-stop", "--out", arg(&out)], 0);
    assert!(read(&out, "iterations").1[0] <= 200.0);
}

#[test]
fn rows_off_by_less_than_the_tolerance_are_renormalised() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let file = square(dir.path(), "off.npy", 2, &[0.9 * 1.0005, 0.1 * 1.0005, 0.5, 0.5]);
    let out = dir.path().join("out.safetensors");
    run(&["rank", arg(&file), "--alpha", "1", "--out", arg(&out)], 0);
    assert_close(&read(&out, "tokenrank").1, &[5.0 / 6.0, 1.0 / 6.0], 1e-9);
    let message = words(&run(&["rank", arg(&file), "--tolerance", "1e-4", "--out", arg(&out)], 3));
    assert!(message.contains("row 0") && message.contains("1.0005"), "{message}");
}

/// Each refusal names the file and the reason, has the right exit code and leaves nothing behind.
#[test]
fn bad_input_is_refused_without_output() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let d: &Path = dir.path();
    let nan = f64::NAN;
    let two = square(d, "two.npy", 2, &TWO);
    let whole = fs::read(&two).expect("written");
    let file = |name: &str, bytes: &[u8]| {
        fs::write(d.join(name), bytes).expect("writable");
        d.join(name)
    };
    let cases: Vec<(PathBuf, &[&str], i32, &str)> = vec![
        (square(d, "empty.npy", 0, &[]), &[], 3, "empty"),
        (npy(d, "flat.npy", "<f8", false, &[4], &f64s(&TWO)), &[], 3, "[4]"),
        (npy(d, "wide.npy", "<f8", false, &[1, 4], &f64s(&TWO)), &[], 3, "square"),
        (npy(d, "int.npy", "<i8", false, &[2, 2], &f64s(&TWO)), &[], 3, "i8"),
        (square(d, "nan.npy", 2, &[0.5, nan, 0.5, 0.5]), &[], 3, "(0, 1)"),
        (square(d, "inf.npy", 2, &[0.5, 0.5, f64::INFINITY, 0.5]), &[], 3, "(1, 0)"),
        (square(d, "negative.npy", 2, &[1.5, -0.5, 0.5, 0.5]), &[], 3, "negative"),
        (square(d, "off.npy", 2, &[0.9, 0.1, 0.5, 0.502]), &[], 3, "row 1"),
        (square(d, "zeros.npy", 2, &[0.0, 0.0, 0.5, 0.5]), &[], 3, "row 0"),
        (file("cut.npy", &whole[..whole.len() - 3]), &[], 3, "cut.npy"),
        (file("noise.npy", b"no matrix"), &[], 3, "noise.npy"),
        (file("noise.safetensors", b"no matrix"), &[], 3, "noise.safetensors"),
        (file("matrix.csv", b"1,0\n0,1\n"), &[], 2, "csv"),
        (d.join("nowhere.npy"), &[], 3, "nowhere.npy"),
        (square(d, "identity.npy", 2, &[1.0, 0.0, 0.0, 1.0]), &["--alpha", "1"], 1, "residual"),
        (square(d, "periodic.npy", 2, &[0.0, 1.0, 1.0, 0.0]), &["--alpha", "1"], 1, "residual"),
        (
            square(d, "reducible.npy", 3, &[0.5, 0.5, 0.0, 0.5, 0.5, 0.0, 0.0, 0.0, 1.0]),
            &["--alpha", "1"],
            1,
            "residual",
        ),
        (two.clone(), &["--alpha", "1.5"], 2, "--alpha"),
        (two.clone(), &["--alpha", "0"], 2, "--alpha"),
        (two.clone(), &["--alpha", "nan"], 2, "--alpha"),
        (two.clone(), &["--start", "2"], 2, "--start"),
        (two.clone(), &["--start", "0", "--bounces", "0"], 2, "--bounces"),
        (two.clone(), &["--bounces", "3"], 2, "--start"),
        (two.clone(), &["--spectrum", "0"], 2, "--spectrum"),
        (two.clone(), &["--tolerance", "-1"], 2, "--tolerance"),
        (two.clone(), &["--direction", "sideways"], 2, "sideways"),
    ];
    for (path, extra, code, word) in cases {
        let out = d.join("out.safetensors");
        let output = run(&[&["rank", arg(&path), "--out", arg(&out)], extra].concat(), code);
        let message = words(&output);
        assert!(message.contains(word), "{} {extra:?}: {message}", path.display());
        let name = path.file_name().expect("a name").to_str().expect("plain");
        assert!(code == 2 || message.contains(name), "{name} is not named: {message}");
        assert!(output.stdout.is_empty() && !message.contains("panicked"), "{message}");
        assert!(!out.exists(), "{}: output was written", path.display());
    }
    let leftovers: Vec<_> = fs::read_dir(d)
        .expect("readable")
        .map(|entry| entry.expect("readable").file_name().into_string().expect("plain"))
        .filter(|name| name.contains("out") || name.contains("partial") || name.contains("tmp"))
        .collect();
    assert!(leftovers.is_empty(), "{leftovers:?}");
}

#[test]
fn the_second_matrix_of_a_batch_is_named() {
    let dir: TempDir = tempfile::tempdir().expect("a scratch folder");
    let mut values: Vec<f64> = (0..4).flat_map(|_| TWO).collect();
    values[13] = 0.7;
    let file = npy(dir.path(), "batch.npy", "<f8", false, &[2, 2, 2, 2], &f64s(&values));
    let out = dir.path().join("out.safetensors");
    let message = words(&run(&["rank", arg(&file), "--out", arg(&out)], 3));
    assert!(message.contains("matrix [1, 1]") && message.contains("row 0"), "{message}");
}

#[test]
fn an_output_in_no_folder_is_refused() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let file = square(dir.path(), "two.npy", 2, &TWO);
    let out = dir.path().join("no/such/folder/out.safetensors");
    let message = words(&run(&["rank", arg(&file), "--out", arg(&out)], 2));
    assert!(message.contains("no/such/folder"), "{message}");
}
