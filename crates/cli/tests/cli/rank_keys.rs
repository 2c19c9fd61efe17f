//! `tokenrank rank`: which tensors of a file are analysed, and how rows are read.

use std::fs;
use std::io::Write;
use std::path::Path;

use safetensors::{Dtype, SafeTensors};

use crate::common::{arg, run, words};
use crate::rank::{TWO, assert_close, f64s, npy, read, safetensors, square};

/// Names in a written file, sorted.
fn names(path: &Path) -> Vec<String> {
    let bytes = fs::read(path).expect("written");
    let file = SafeTensors::deserialize(&bytes).expect("a safetensors file");
    let mut names: Vec<String> = file.names().into_iter().map(str::to_owned).collect();
    names.sort();
    names
}

/// A chain with steady state (1/4, 3/4).
const THREE_QUARTERS: [f64; 4] = [0.25, 0.75, 0.25, 0.75];

#[test]
fn several_tensors_are_analysed_together() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let logits: Vec<f64> = vec![-3.0, f64::NEG_INFINITY, 1.0, 2.0];
    let heads = [TWO, THREE_QUARTERS].concat();
    let third: Vec<f64> = (0..9).map(|k| if k % 3 == 0 { 0.5 } else { 0.25 }).collect();
    let ids: Vec<u8> = [3_i64, 4].iter().flat_map(|id| id.to_le_bytes()).collect();
    let file = safetensors(
        dir.path(),
        "attention.safetensors",
        &[
            ("block.0.logits", Dtype::F64, vec![2, 2], f64s(&logits)),
            ("block.0.probs", Dtype::F64, vec![2, 2, 2], f64s(&heads)),
            ("block.10.logits", Dtype::F64, vec![2, 2], f64s(&logits)),
            ("block.10.probs", Dtype::F64, vec![3, 3], f64s(&third)),
            ("unet.attn2.probs", Dtype::F64, vec![1, 4], f64s(&[0.25; 4])),
            ("text.0.ids", Dtype::I64, vec![2], ids),
            ("output.embedding", Dtype::F64, vec![2], f64s(&[0.5, 0.5])),
        ],
    );
    let out = dir.path().join("out.safetensors");
    let base = ["rank", arg(&file), "--alpha", "1", "--out", arg(&out)];
    let both = [
        "block.0.probs.iterations",
        "block.0.probs.tokenrank",
        "block.10.probs.iterations",
        "block.10.probs.tokenrank",
    ];
    // All square `*.probs` without a key; the same by patterns, lists and repeated keys.
    for keys in [
        &[][..],
        &["--key", "block.*.probs"],
        &["--key", "block.10.probs,block.0.probs"],
        &["--key", "block.0.probs", "--key", "block.0.*s, block.10.*s,*.10.probs"],
        &["--key", "*.probs"],
    ] {
        // `block.0.*s` means the logits as well, which are not probabilities.
        if keys.len() == 4 {
            let message = words(&run(&[&base[..], keys].concat(), 3));
            assert!(message.contains("block.0.logits") && message.contains("logits given"), "{message}");
            assert!(!out.exists());
            continue;
        }
        run(&[&base[..], keys].concat(), 0);
        assert_eq!(names(&out), both, "{keys:?}");
        let (shape, ranks) = read(&out, "block.0.probs.tokenrank");
        assert_eq!(shape, [2, 2]);
        assert_close(&ranks, &[5.0 / 6.0, 1.0 / 6.0, 0.25, 0.75], 1e-9);
        assert_eq!(read(&out, "block.10.probs.tokenrank").0, [3]);
        fs::remove_file(&out).expect("written");
    }
    // One tensor has the plain names, even by a pattern.
    run(&[&base[..], &["--key", "block.1*.probs"]].concat(), 0);
    assert_eq!(names(&out), ["iterations", "tokenrank"]);
    fs::remove_file(&out).expect("written");
    for (key, code, word) in [
        ("block.0.prob", 2, "`block.0.probs`"),
        ("nothing.*", 2, "nothing.*"),
        ("unet.*", 2, "square"),
        ("unet.attn2.probs", 3, "square"),
        ("text.0.ids", 3, "I64"),
        ("output.embedding", 3, "[2]"),
        ("block.0.probs,", 2, "no tensor is called ``"),
    ] {
        let message = words(&run(&[&base[..], &["--key", key]].concat(), code));
        assert!(message.contains(word), "{key}: {message}");
        assert!(!out.exists());
    }
    // A token that only some of the tensors have.
    let message = words(&run(&[&base[..], &["--start", "2"]].concat(), 2));
    assert!(message.contains("--start") && message.contains("block.0.probs"), "{message}");
}

#[test]
fn a_bad_matrix_in_the_last_tensor_is_named_and_nothing_written() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let bad = [TWO, [0.5, 0.5, 0.2, 0.2]].concat();
    let tensors =
        [("a.probs", Dtype::F64, vec![2, 2], f64s(&TWO)), ("b.probs", Dtype::F64, vec![2, 2, 2], f64s(&bad))];
    let file = safetensors(dir.path(), "maps.safetensors", &tensors);
    let out = dir.path().join("out.safetensors");
    let message = words(&run(&["rank", arg(&file), "--out", arg(&out)], 3));
    assert!(message.contains("`b.probs`, matrix [1]") && message.contains("row 1"), "{message}");
    assert!(!out.exists());
}

#[test]
fn the_only_square_tensor_of_a_foreign_file_needs_no_key() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let tensors = [
        ("attentions", Dtype::F64, vec![2, 2], f64s(&TWO)),
        ("hidden_states", Dtype::F64, vec![2, 1], f64s(&[1.0, -1.0])),
    ];
    let file = safetensors(dir.path(), "foreign.safetensors", &tensors);
    let out = dir.path().join("out.safetensors");
    run(&["rank", arg(&file), "--out", arg(&out)], 0);
    assert_eq!(names(&out), ["iterations", "tokenrank"]);
    let tensors =
        [("h", Dtype::F64, vec![2, 1], f64s(&[1.0, -1.0])), ("g", Dtype::F64, vec![1], f64s(&[1.0]))];
    let file = safetensors(dir.path(), "none.safetensors", &tensors);
    let message = words(&run(&["rank", arg(&file), "--out", arg(&dir.path().join("none"))], 2));
    assert!(message.contains("square") && message.contains("`h`"), "{message}");
}

#[test]
fn archives_of_numpy_are_read() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let (a, b) = (
        square(dir.path(), "a.npy", 2, &TWO),
        npy(dir.path(), "b.npy", ">f8", false, &[1, 2, 2], &THREE_QUARTERS.map(f64::to_be_bytes).concat()),
    );
    let file = dir.path().join("maps.npz");
    let mut zip = zip::ZipWriter::new(fs::File::create(&file).expect("writable"));
    for (name, array) in [("layer.0.probs.npy", a), ("layer.1.probs.npy", b)] {
        let options = zip::write::FileOptions::default().compression_method(zip::CompressionMethod::Deflated);
        zip.start_file(name, options).expect("an entry");
        zip.write_all(&fs::read(array).expect("written")).expect("written");
    }
    zip.finish().expect("an archive");
    let out = dir.path().join("out.safetensors");
    run(&["rank", arg(&file), "--alpha", "1", "--out", arg(&out)], 0);
    assert_close(&read(&out, "layer.0.probs.tokenrank").1, &[5.0 / 6.0, 1.0 / 6.0], 1e-9);
    assert_eq!(read(&out, "layer.1.probs.tokenrank").0, [1, 2]);
    run(&["rank", arg(&file), "--alpha", "1", "--key", "layer.1.probs", "--out", arg(&out)], 0);
    assert_close(&read(&out, "tokenrank").1, &[0.25, 0.75], 1e-9);
    let message = words(&run(&["rank", arg(&file), "--key", "layer.2.probs", "--out", arg(&out)], 2));
    assert!(message.contains("layer.1.probs") || message.contains("layer.0.probs"), "{message}");
}

/// Softmax of logits from a small generator, `[matrices, n, n]`, only over earlier tokens.
fn causal(matrices: usize, n: usize) -> Vec<f64> {
    let mut state = 7u32;
    let mut values = Vec::new();
    for _ in 0..matrices {
        for i in 0..n {
            let row: Vec<f64> = (0..n)
                .map(|j| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    if j <= i { (4.0 * f64::from(state) / f64::from(u32::MAX)).exp() } else { 0.0 }
                })
                .collect();
            let sum: f64 = row.iter().sum();
            values.extend(row.iter().map(|value| value / sum));
        }
    }
    values
}

/// Rounding a softmax moves its row sums further than the tolerance of float32; that of its own format reads it, an explicit
/// one wins.
#[test]
fn rows_of_low_precision_are_read() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let out = dir.path().join("out.safetensors");
    let brain = |values: &[f64]| -> Vec<u8> {
        values.iter().flat_map(|v| half::bf16::from_f64(*v).to_le_bytes()).collect()
    };
    let single = |values: &[f64]| -> Vec<u8> {
        values.iter().flat_map(|v| half::bf16::from_f64(*v).to_f32().to_le_bytes()).collect()
    };
    let uniform = vec![1.0 / 77.0; 77 * 77];
    for (name, shape, values) in
        [("llama", vec![2, 4, 64, 64], causal(8, 64)), ("uniform", vec![77, 77], uniform)]
    {
        let n = shape[shape.len() - 1];
        let rounded = |row: &[f64]| row.iter().map(|v| half::bf16::from_f64(*v).to_f64()).sum::<f64>();
        let furthest = values.chunks(n).map(|row| (rounded(row) - 1.0).abs()).fold(0.0, f64::max);
        assert!(furthest > 1e-3 && furthest < 4e-3, "{name}: {furthest} would not be refused");
        let file = safetensors(
            dir.path(),
            &format!("{name}.safetensors"),
            &[("attention", Dtype::BF16, shape.clone(), brain(&values))],
        );
        run(&["rank", arg(&file), "--out", arg(&out)], 0);
        let ranks = read(&out, "tokenrank").1;
        assert!(ranks.chunks(n).all(|pi| (pi.iter().sum::<f64>() - 1.0).abs() < 1e-9));
        let message = words(&run(&["rank", arg(&file), "--tolerance", "1e-3", "--out", arg(&out)], 3));
        assert!(message.contains("sums to 0.99") || message.contains("sums to 1.00"), "{message}");
        // Stored as float32 afterwards, the rows are refused with the way on.
        let tensor = [("attention", Dtype::F32, shape, single(&values))];
        let file = safetensors(dir.path(), &format!("{name}-f32.safetensors"), &tensor);
        let message = words(&run(&["rank", arg(&file), "--out", arg(&out)], 3));
        assert!(message.contains("bfloat16") && message.contains("--tolerance 0.008"), "{message}");
        run(&["rank", arg(&file), "--tolerance", "0.008", "--out", arg(&out)], 0);
    }
}

#[test]
fn the_file_that_is_read_is_not_written_over() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let tensor = [("a", Dtype::F64, vec![2, 2], f64s(&TWO))];
    let file = safetensors(dir.path(), "two.safetensors", &tensor);
    let before = fs::read(&file).expect("written");
    let link = dir.path().join("link.safetensors");
    std::os::unix::fs::symlink(&file, &link).expect("a link");
    let around = dir.path().join(".").join("two.safetensors");
    for out in [&file, &around, &link] {
        let message = words(&run(&["rank", arg(&file), "--out", arg(out)], 2));
        assert!(message.contains("--out") && message.contains("read from"), "{message}");
        assert_eq!(fs::read(&file).expect("there"), before);
    }
    let teleport = safetensors(dir.path(), "t.safetensors", &[("t", Dtype::F64, vec![2], f64s(&[0.5, 0.5]))]);
    let args = ["rank", arg(&file), "--teleport", arg(&teleport), "--out", arg(&teleport)];
    assert!(words(&run(&args, 2)).contains("--out"));
}
