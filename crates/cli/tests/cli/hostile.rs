//! Files that claim far more than they hold, through the binary: one paragraph, the right exit code, and no memory for what
//! they claim.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::{arg, root, tokenrank, words};

/// What a command may map, in KiB: libtorch alone maps about 1.3 GB, most of it its own code. Every bomb below claims more
/// than 8 GB.
const MOST_MEMORY: u64 = 6 << 20;

/// Runs the binary where it may not map more than [`MOST_MEMORY`].
fn run(args: &[&str], code: i32) -> String {
    let binary = tokenrank();
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("ulimit -v {MOST_MEMORY} && exec \"$0\" \"$@\"")]);
    shell.arg(binary.get_program()).args(args).current_dir(root());
    shell.env("NO_COLOR", "1").env("OMP_NUM_THREADS", "1").env_remove("COLUMNS");
    let output = shell.output().expect("a shell");
    let message = words(&output);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {message:.800}");
    assert!(!message.contains("panicked") && output.stdout.is_empty(), "{message:.800}");
    message
}

fn file(dir: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = dir.join(name);
    fs::write(&path, bytes).expect("writable");
    path
}

#[track_caller]
fn assert_says(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "`{part}` is not said: {message:.800}");
    }
}

#[test]
fn matrices() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let out = dir.path().join("out.safetensors");
    let npy = |shape: &str| {
        let header = format!("{{'descr': '<f8', 'fortran_order': False, 'shape': ({shape})}}");
        [b"\x93NUMPY\x01\x00", &(header.len() as u16).to_le_bytes()[..], header.as_bytes()].concat()
    };
    let tensor = r#"{"a":{"dtype":"F64","shape":[65536,65536],"data_offsets":[0,34359738368]}}"#;
    let short = [&(tensor.len() as u64).to_le_bytes()[..], tensor.as_bytes()].concat();
    for (name, bytes, word) in [
        ("header.safetensors", (1_u64 << 40).to_le_bytes().to_vec(), "1099511627776 bytes"),
        ("short.safetensors", short, "truncated"),
        ("wide.npy", npy("65536, 65536"), "34359738368 bytes of data, but it has 0"),
        ("overflow.npy", npy("4294967296, 4294967296, 4294967296"), "larger than any memory"),
    ] {
        let path = file(dir.path(), name, &bytes);
        let message = run(&["rank", arg(&path), "--out", arg(&out)], 3);
        assert_says(&message, &[name, word]);
        assert!(!out.exists());
    }
}

#[test]
fn a_picture() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let model = root().join("crates/models/tests/fixtures/vit-plain");
    let out = dir.path().join("out.safetensors");
    // A whole PNG whose header is changed to 60,000 × 60,000 pixels.
    let mut bytes = fs::read(model.join("picture.png")).expect("a fixture");
    for side in [16..20, 20..24] {
        bytes[side].copy_from_slice(&60_000_u32.to_be_bytes());
    }
    let crc = bytes[12..29].iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| crc >> 1 ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 })
    });
    bytes[29..33].copy_from_slice(&(!crc).to_be_bytes());
    let picture = file(dir.path(), "bomb.png", &bytes);
    let args = ["attend", "--model", arg(&model), "--image", arg(&picture), "--out", arg(&out)];
    // The sign between the sides is one of those that decorate messages, and gone here.
    assert_says(&run(&args, 3), &["bomb.png", "60000 60000 pixels", "178956970"]);
    assert!(!out.exists());
}

#[test]
fn a_model_directory() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let fixture = root().join("crates/models/tests/fixtures/vit-plain");
    let (image, out) = (fixture.join("picture.png"), dir.path().join("out.safetensors"));
    let attend =
        || run(&["attend", "--model", arg(dir.path()), "--image", arg(&image), "--out", arg(&out)], 3);
    for name in ["config.json", "preprocessor_config.json"] {
        fs::copy(fixture.join(name), dir.path().join(name)).expect("a fixture");
    }
    let index = r#"{"weight_map":{"a":"../../../etc/passwd"}}"#;
    let index = file(dir.path(), "model.safetensors.index.json", index.as_bytes());
    assert_says(&attend(), &["index.json", "`../../../etc/passwd`", "not a file in its folder"]);
    fs::remove_file(index).expect("written");

    file(dir.path(), "model.safetensors", &u64::MAX.to_le_bytes());
    assert_says(&attend(), &["model.safetensors", "not a readable safetensors file", "download it again"]);

    // What a file says reaches the terminal as letters only.
    let config = r#"{"model_type":"\u001b[2Jvit","num_hidden_layers":1152921504606846976}"#;
    file(dir.path(), "config.json", config.as_bytes());
    assert_says(&attend(), &["config.json", "\\u{1b}[2Jvit"]);
    let config = r#"{"model_type":"vit","num_hidden_layers":1152921504606846976}"#;
    file(dir.path(), "config.json", config.as_bytes());
    assert_says(&attend(), &["config.json", "num_hidden_layers is 1152921504606846976"]);
}

#[test]
fn an_experiment() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let mini = fs::read_to_string(root().join("configs/mini/masking-vit.toml")).expect("an experiment");
    let count = mini.lines().find(|line| line.starts_with("count")).expect("a count of scenes").to_owned();
    for (name, text, word) in [
        ("deep.toml", format!("x = {}", "[".repeat(500_000)), "recurs"),
        ("key.toml", format!("{} = 1", vec!["a"; 200_000].join(".")), "recurs"),
        ("large.toml", "# ".repeat(1 << 20), "2097152 bytes"),
        ("many.toml", mini.replace(&count, "count = 1152921504606846976"), "dataset.mini.count"),
    ] {
        let path = file(dir.path(), name, text.as_bytes());
        assert_says(&run(&["validate", arg(&path)], 2), &[word]);
    }
}

/// Two kilobytes of steps that would make a text of a few bytes gigabytes long.
#[test]
fn a_tokenizer() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let fixture =
        root().join("crates/models/tests/fixtures/flux-pipeline").canonicalize().expect("a fixture");
    for entry in fs::read_dir(&fixture).expect("a fixture") {
        let path = entry.expect("readable").path();
        let name = path.file_name().expect("a name").to_owned();
        if name != "tokenizer_2" {
            std::os::unix::fs::symlink(&path, dir.path().join(name)).expect("linked");
        }
    }
    let folder = dir.path().join("tokenizer_2");
    fs::create_dir(&folder).expect("made");
    let text = fs::read_to_string(fixture.join("tokenizer_2/tokenizer.json")).expect("a fixture");
    let mut tokenizer: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let image = root().join("crates/models/tests/fixtures/vit-plain/picture.png");
    let out = dir.path().join("out.safetensors");
    let model = arg(dir.path());
    let args = [
        "attend",
        "--model",
        model,
        "--image",
        arg(&image),
        "--prompt",
        "aaaaaaaaaaaaaaaa",
        "--out",
        arg(&out),
    ];
    let grow =
        serde_json::json!({ "type": "Replace", "pattern": { "String": "a" }, "content": "a".repeat(100) });
    for (steps, word) in [
        (
            serde_json::json!({ "type": "Sequence", "normalizers": vec![grow; 4] }),
            "normalizer.normalizers[0]",
        ),
        (serde_json::json!({ "type": "Prepend", "prepend": "a".repeat(10_000_000) }), "normalizer.prepend"),
    ] {
        tokenizer["normalizer"] = steps;
        file(&folder, "tokenizer.json", tokenizer.to_string().as_bytes());
        assert_says(&run(&args, 3), &["tokenizer_2/tokenizer.json", word, "download the file again"]);
        assert!(!out.exists());
    }
}
