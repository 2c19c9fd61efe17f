//! The CLIP tokenizer against transformers, on a small made-up vocabulary.
//!
//! `tools/golden_clip_tokenizer.py` makes the fixture.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use models::clip::Tokenizer;
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
struct Golden {
    texts: Vec<String>,
    variants: Vec<Variant>,
}

/// One set of files in addition to the vocabulary, and the results of transformers for the texts with them.
#[derive(Deserialize)]
struct Variant {
    name: String,
    files: BTreeMap<String, Value>,
    length: usize,
    pad_id: i64,
    pad_left: bool,
    end_of_text: i64,
    /// Index of the text, and its ids without the padding.
    encoded: Vec<(usize, Vec<i64>)>,
}

impl Variant {
    fn padded(&self, ids: &[i64]) -> Vec<i64> {
        let padding = vec![self.pad_id; self.length - ids.len()];
        if self.pad_left { [&padding, ids].concat() } else { [ids, &padding].concat() }
    }
}

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/clip-tokenizer")
}

fn golden() -> Golden {
    let text = fs::read_to_string(fixture().join("golden.json")).expect("a committed fixture");
    serde_json::from_str(&text).expect("a committed fixture")
}

fn vocabulary() -> serde_json::Map<String, Value> {
    let text = fs::read_to_string(fixture().join("vocab.json")).expect("a committed fixture");
    serde_json::from_str(&text).expect("a committed fixture")
}

fn merges() -> String {
    fs::read_to_string(fixture().join("merges.txt")).expect("a committed fixture")
}

/// A directory with the vocabulary of the fixture and further files.
fn directory<'a>(files: impl IntoIterator<Item = (&'a str, Value)>) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    for name in ["vocab.json", "merges.txt"] {
        fs::copy(fixture().join(name), dir.path().join(name)).expect("a copy");
    }
    for (name, content) in files {
        fs::write(dir.path().join(name), content.to_string()).expect("a file");
    }
    dir
}

/// `tokenizer.json` with the vocabulary of the fixture in its `model`, as transformers writes it.
fn with_model(mut file: Value) -> Value {
    let merges = merges();
    let pairs: Vec<Vec<&str>> = merges.lines().skip(1).map(|line| line.split(' ').collect()).collect();
    file["model"] = json!({ "type": "BPE", "vocab": vocabulary(), "merges": pairs });
    file
}

#[test]
fn ids_are_those_of_transformers() -> models::Result<()> {
    let golden = golden();
    let mut compared = 0;
    for variant in &golden.variants {
        let files = variant.files.iter().map(|(name, content)| match name.as_str() {
            "tokenizer.json" => (name.as_str(), with_model(content.clone())),
            name => (name, content.clone()),
        });
        let dir = directory(files);
        let tokenizer = Tokenizer::from_dir(dir.path())?;
        assert_eq!(tokenizer.context_length(), variant.length, "{}", variant.name);
        assert_eq!(tokenizer.end_of_text(), variant.end_of_text, "{}", variant.name);
        for (index, ids) in &variant.encoded {
            let text = &golden.texts[*index];
            assert_eq!(
                tokenizer.encode(text)?,
                variant.padded(ids),
                "{}: {text:?} (text {index}) is the first that differs",
                variant.name
            );
            compared += 1;
        }
    }
    println!("{compared} encodings of {} texts are equal", golden.texts.len());
    assert!(golden.texts.len() >= 60 && compared > golden.texts.len());
    Ok(())
}

#[test]
fn tokenizer_json_alone_is_enough() -> models::Result<()> {
    let golden = golden();
    let plain = Tokenizer::from_dir(&fixture())?;
    let lines: Vec<String> = merges().lines().skip(1).map(str::to_owned).collect();
    let older = json!({ "model": { "vocab": vocabulary(), "merges": lines } });
    for file in [with_model(json!({})), older] {
        let dir = tempfile::tempdir().expect("a directory");
        fs::write(dir.path().join("tokenizer.json"), file.to_string()).expect("a file");
        let tokenizer = Tokenizer::from_dir(dir.path())?;
        for text in &golden.texts {
            assert_eq!(tokenizer.encode(text)?, plain.encode(text)?, "{text:?}");
        }
    }
    Ok(())
}

#[test]
fn text_that_is_too_long_keeps_its_end() -> models::Result<()> {
    let tokenizer = Tokenizer::from_dir(&fixture())?;
    let ids = tokenizer.encode(&"a photo of a cat ".repeat(100))?;
    let ends: Vec<usize> = (0..ids.len()).filter(|&i| ids[i] == tokenizer.end_of_text()).collect();
    assert_eq!((ids.len(), ends), (77, vec![76]));
    Ok(())
}

#[test]
fn composed_and_decomposed_accents_are_the_same_tokens() -> models::Result<()> {
    let tokenizer = Tokenizer::from_dir(&fixture())?;
    assert_eq!(tokenizer.encode("Caf\u{e9}")?, tokenizer.encode("cafe\u{301}")?);
    assert_ne!(tokenizer.encode("caf\u{e9}")?, tokenizer.encode("cafe")?);
    Ok(())
}

/// The error of `from_dir` for a directory that it must refuse.
fn refusal(dir: &Path) -> String {
    Tokenizer::from_dir(dir).expect_err("the directory is broken").to_string()
}

#[track_caller]
fn assert_says(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "no `{part}` in: {message}");
    }
}

#[test]
fn missing_files_are_named() {
    for (missing, remedy) in [("vocab.json", "download"), ("merges.txt", "download")] {
        let dir = directory([]);
        fs::remove_file(dir.path().join(missing)).expect("a file");
        assert_says(&refusal(dir.path()), &[missing, "no such file", remedy]);
    }
    assert_says(
        &refusal(Path::new("no/such/folder")),
        &["no/such/folder", "no such model directory", "vocab.json"],
    );
}

#[test]
fn broken_merges_are_named_by_line() {
    let cases = [
        ("#version: 0.2\na b c\n", ["line 2", "not two symbols", "download"]),
        ("#version: 0.2\n\nt h\n", ["line 2", "not two symbols", "download"]),
        ("t\n", ["line 1", "not two symbols", "download"]),
        ("#version: 0.2\nt h\nq q\n", ["line 3", "no `qq`", "from the same model"]),
        ("kaleidoscope kaleidoscope\n", ["line 1", "no `kaleidoscope`", "from the same model"]),
    ];
    for (text, parts) in cases {
        let dir = directory([]);
        fs::write(dir.path().join("merges.txt"), text).expect("a file");
        let message = refusal(dir.path());
        assert_says(&message, &["merges.txt"]);
        assert_says(&message, &parts);
    }
}

#[test]
fn special_tokens_must_be_in_the_vocabulary() {
    for token in ["<|startoftext|>", "<|endoftext|>"] {
        let mut vocabulary = vocabulary();
        vocabulary.remove(token);
        let dir = directory([("vocab.json", Value::Object(vocabulary))]);
        assert_says(&refusal(dir.path()), &["vocab.json", token, "from the same CLIP model"]);
    }
    let dir = directory([("special_tokens_map.json", json!({ "pad_token": "<pad>" }))]);
    assert_says(&refusal(dir.path()), &["vocab.json", "<pad>", "pad_token", "from the same CLIP model"]);
}

#[test]
fn broken_json_is_refused() {
    for name in
        ["vocab.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "config.json"]
    {
        let dir = directory([]);
        fs::write(dir.path().join(name), "{\"a\": ").expect("a file");
        assert_says(&refusal(dir.path()), &[name, "not a valid file of a CLIP tokenizer", "download"]);
    }
    let dir = directory([("vocab.json", json!({ "a": -1 }))]);
    assert_says(&refusal(dir.path()), &["vocab.json", "-1", "download"]);
    let dir = directory([("special_tokens_map.json", json!({ "bos_token": 3 }))]);
    assert_says(&refusal(dir.path()), &["special_tokens_map.json", "bos_token", "download"]);
}

#[test]
fn added_tokens_must_have_their_ids() {
    let decoder = json!({ "9000": { "content": "<cat-toy>" } });
    let dir = directory([("tokenizer_config.json", json!({ "added_tokens_decoder": decoder }))]);
    assert_says(&refusal(dir.path()), &["tokenizer_config.json", "<cat-toy>", "9000", "from the same model"]);
}

#[test]
fn invalid_context_lengths_are_refused() {
    for length in [json!(0), json!(2), json!(77.5), json!(-1), json!(10_000_000)] {
        let dir = directory([("tokenizer_config.json", json!({ "model_max_length": length }))]);
        assert_says(&refusal(dir.path()), &["tokenizer_config.json", "model_max_length", "77"]);
        let config = json!({ "text_config": { "max_position_embeddings": length } });
        let dir = directory([("config.json", config)]);
        assert_says(&refusal(dir.path()), &["config.json", "max_position_embeddings", "77"]);
    }
}
