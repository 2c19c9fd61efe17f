//! Tokenizer files that would exhaust memory or time. Each line is an attack: the change to a good file, and what the
//! refusal says. An attack whose part of the file is never used leaves the tokens as they are.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use models::{clip, t5};
use serde_json::{Map, Value, json};

use crate::golden::fixture;

/// What must become of an attack.
#[derive(Clone, Copy)]
enum Fate {
    /// Refused; the message has these words.
    Refused(&'static [&'static str]),
    /// Without effect.
    Unused,
}
use Fate::{Refused, Unused};

const TEXT: &str = "a  photo of a Cat's hat";

fn write(dir: &Path, name: &str, value: &Value) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, value.to_string()).expect("writable");
    path
}

#[track_caller]
fn check(name: &str, fate: Fate, file: &str, found: models::Result<Vec<i64>>, expected: &[i64]) {
    match (fate, found) {
        (Refused(words), Err(error)) => {
            let message = error.to_string();
            assert!(message.len() < 2000, "{name}: {} bytes", message.len());
            for word in words.iter().chain(&[file]) {
                assert!(message.contains(word), "{name}: `{word}` is not in {message}");
            }
        }
        (Unused, Ok(ids)) => assert_eq!(ids, expected, "{name}"),
        (Refused(_), Ok(_)) => panic!("{name}: accepted"),
        (Unused, Err(error)) => panic!("{name}: {error}"),
    }
}

fn normalizer(steps: &Value) -> Value {
    json!({ "normalizer": { "type": "Sequence", "normalizers": steps } })
}

fn replace(pattern: &str, content: &str) -> Value {
    json!({ "type": "Replace", "pattern": { "String": pattern }, "content": content })
}

fn model(vocab: &Value) -> Value {
    json!({ "model": { "type": "Unigram", "unk_id": 2, "vocab": vocab } })
}

/// A table that makes `a` the replacement.
fn table(replacement: &str) -> Value {
    let mut trie = vec![0_u32; 1024];
    let a = 256 ^ usize::from(b'a');
    trie[0] = 256 << 10;
    trie[a] = u32::from(b'a') | 1 << 8 | 512 << 10;
    trie[a ^ 512] = 1 << 31;
    let bytes = 4096_u32.to_le_bytes().into_iter().chain(trie.iter().flat_map(|unit| unit.to_le_bytes()));
    let bytes: Vec<u8> = bytes.chain(replacement.bytes()).chain([0]).collect();
    json!({ "type": "Precompiled", "precompiled_charsmap": BASE64_STANDARD.encode(bytes) })
}

fn added(contents: impl Iterator<Item = String>) -> Value {
    let tokens = contents.zip(200_u32..).map(|(content, id)| json!({ "id": id, "content": content }));
    json!({ "added_tokens": tokens.collect::<Vec<_>>() })
}

#[test]
fn hostile_files_of_t5_are_refused_or_without_effect() {
    let folder = fixture("t5-tokenizer");
    let text = std::fs::read_to_string(folder.join("tokenizer.json")).expect("a fixture");
    let good: Map<String, Value> = serde_json::from_str(&text).expect("a table");
    let expected = t5::Tokenizer::from_dir(&folder, None).expect("a tokenizer").encode(TEXT).expect("ids");

    let hundred = "a".repeat(100);
    let grow = vec![replace("a", &hundred); 4];
    let own = "a step of its own";
    let spaces = replace(" ", "▁");
    let regex = |text: &str| json!([{ "type": "Replace", "pattern": { "Regex": text }, "content": " " }]);
    let million = json!({ "SpecialToken": { "id": "</s>", "type_id": 0 } });
    let template = json!({
        "type": "TemplateProcessing", "single": vec![million; 100_000], "pair": [],
        "special_tokens": { "</s>": { "id": "</s>", "ids": [1], "tokens": ["</s>"] } },
    });
    let padding = json!({
        "strategy": { "Fixed": 1_000_000_000 }, "direction": "Left", "pad_to_multiple_of": null,
        "pad_id": 0, "pad_type_id": 0, "pad_token": "<pad>",
    });
    let split = json!({
        "type": "Split", "pattern": { "Regex": "(a+)+$" }, "behavior": "Isolated", "invert": false,
    });
    let meta =
        |replacement: &str| json!({ "pre_tokenizer": { "type": "Metaspace", "replacement": replacement } });
    let nested = (0..60)
        .fold(json!({ "type": "NFKC" }), |inner, _| json!({ "type": "Sequence", "normalizers": [inner] }));
    let long = "x".repeat(1 << 20);
    let tokens: Vec<Value> = (0..40_000).map(|number| json!([format!("{number:0>200}"), 0.0])).collect();

    #[rustfmt::skip]
    let attacks: Vec<(&str, Value, Fate)> = vec![
        ("replacements that multiply", normalizer(&json!(grow)), Refused(&["normalizer.normalizers[0]", "a space"])),
        ("one long replacement", json!({ "normalizer": replace(" ", &long) }), Refused(&["normalizer.content", "a space or `▁`"])),
        ("spaces twice", normalizer(&json!([spaces, spaces])), Refused(&["normalizers[1]", "may occur once"])),
        ("a long prefix", normalizer(&json!([{ "type": "Prepend", "prepend": long }])), Refused(&["normalizers[0].prepend", "`▁`"])),
        ("prefixes without end", normalizer(&json!(vec![json!({ "type": "Prepend", "prepend": "▁" }); 8])), Refused(&["normalizers[1]"])),
        ("steps without end", normalizer(&json!(vec![json!({ "type": "Nmt" }); 1000])), Refused(&["1000 steps", "maximum"])),
        ("steps of steps", json!({ "normalizer": nested }), Refused(&["a sequence in a sequence"])),
        ("a regular expression", normalizer(&regex("(a+)+$")), Refused(&["pattern.Regex", "(a+)+$", "` {2,}`"])),
        ("a large regular expression", normalizer(&regex("(a{1000}){1000}")), Refused(&["pattern.Regex"])),
        ("an empty pattern", normalizer(&json!([replace("", "▁")])), Refused(&["pattern.String"])),
        ("a table that grows", normalizer(&json!([table(&hundred)])), Refused(&["precompiled_charsmap", "more than 64 bytes"])),
        ("tables that multiply", normalizer(&json!([table("aaaaaaaa"), table("aaaaaaaa")])), Refused(&["normalizers[1]", "may occur once"])),
        ("a table and NFKC", normalizer(&json!([table("\u{fdfa}"), { "type": "NFKC" }])), Refused(&["normalizers[1]"])),
        ("another normalizer", json!({ "normalizer": { "type": "ByteLevel" } }), Refused(&["normalizer", "ByteLevel", "Precompiled"])),
        ("a normalizer without type", json!({ "normalizer": { "prepend": "a" } }), Refused(&["normalizer", "type"])),
        ("an unknown setting", json!({ "normalizer": { "type": "NFKC", "times": 9 } }), Refused(&["normalizer", "times"])),
        ("another pre-tokenizer", json!({ "pre_tokenizer": split }), Refused(&["pre_tokenizer", "Split", "Metaspace"])),
        ("a letter for spaces", meta("a"), Refused(&["pre_tokenizer.replacement", "`▁`"])),
        ("a text for spaces", meta(&hundred), Refused(&["pre_tokenizer.replacement"])),
        ("splits without end", json!({ "pre_tokenizer": { "type": "Sequence", "pretokenizers": vec![json!({ "type": "WhitespaceSplit" }); 1000] } }), Refused(&["pre_tokenizer", "1000 steps"])),
        ("another model", json!({ "model": { "type": "BPE", "vocab": {}, "merges": [] } }), Refused(&["model"])),
        ("the name of another model", json!({ "model": { "type": "WordPiece", "vocab": [["a", 0.0]] } }), Refused(&["model: type", "`Unigram`"])),
        ("a long token", model(&json!([["<pad>", 0.0], ["</s>", 0.0], ["<unk>", 0.0], [long, 0.0]])), Refused(&["model.vocab", "1048576 bytes"])),
        ("a large vocabulary", model(&json!(tokens)), Refused(&["model.vocab", "8000000 bytes"])),
        ("no unknown token", json!({ "model": { "type": "Unigram", "unk_id": 9_000_000_000_u64, "vocab": [["a", 0.0]] } }), Refused(&["model"])),
        ("a long added token", added([long.clone()].into_iter()), Refused(&["added_tokens", "1048576 bytes"])),
        ("added tokens without end", added((0..10_001).map(|id| format!("<{id}>"))), Refused(&["added_tokens", "10001"])),
        ("padding to a thousand million", json!({ "padding": padding }), Unused),
        ("truncation to nothing", json!({ "truncation": { "max_length": 0, "stride": 9, "strategy": "LongestFirst", "direction": "Left" } }), Unused),
        ("a template of many tokens", json!({ "post_processor": template }), Unused),
        ("a decoder", json!({ "decoder": { "type": "Sequence", "decoders": [replace("a", &long)] } }), Unused),
        (own, json!({ "program": "rm -r" }), Unused),
    ];
    for (name, change, fate) in attacks {
        let mut file = good.clone();
        file.extend(change.as_object().expect("a table").clone());
        let dir = tempfile::tempdir().expect("a scratch folder");
        write(dir.path(), "tokenizer.json", &Value::Object(file));
        let found = t5::Tokenizer::from_dir(dir.path(), None).and_then(|tokenizer| tokenizer.encode(TEXT));
        check(name, fate, "tokenizer.json", found, &expected);
    }
}

/// The forms in which T5's tokenizer has been published.
#[test]
fn published_forms_of_t5_are_accepted() {
    let folder = fixture("t5-tokenizer");
    let text = std::fs::read_to_string(folder.join("tokenizer.json")).expect("a fixture");
    let good: Map<String, Value> = serde_json::from_str(&text).expect("a table");
    let table = good["normalizer"]["normalizers"][0].clone();
    let strip = json!({ "type": "Strip", "strip_left": false, "strip_right": true });
    let spaces =
        |content: &str| json!({ "type": "Replace", "pattern": { "Regex": " {2,}" }, "content": content });
    let white = json!({ "type": "WhitespaceSplit" });
    let old = json!({ "type": "Metaspace", "replacement": "▁", "str_rep": "▁", "add_prefix_space": true });
    let new = json!({ "type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true });
    let legacy = json!({ "type": "Metaspace", "replacement": "▁", "add_prefix_space": true, "prepend_scheme": "first" });
    let sequence = |steps: &[&Value]| json!({ "type": "Sequence", "pretokenizers": steps });
    let mut untyped = good["model"].clone();
    untyped.as_object_mut().expect("a table").remove("type");
    #[rustfmt::skip]
    let forms = [
        json!({ "normalizer": table, "pre_tokenizer": sequence(&[&white, &old]), "model": untyped }),
        json!({ "normalizer": table, "pre_tokenizer": sequence(&[&white, &new]) }),
        json!({ "normalizer": null, "pre_tokenizer": sequence(&[&white, &new]) }),
        json!({ "normalizer": { "type": "Sequence", "normalizers": [table, strip, spaces("▁")] }, "pre_tokenizer": legacy }),
        json!({ "normalizer": { "type": "Sequence", "normalizers": [table, spaces(" ")] }, "pre_tokenizer": new }),
        json!({ "normalizer": { "type": "Sequence", "normalizers": [{ "type": "Nmt" }, { "type": "NFKC" }, spaces(" ")] }, "pre_tokenizer": new }),
        json!({ "normalizer": { "type": "Sequence", "normalizers": [table, { "type": "Prepend", "prepend": "▁" }, replace(" ", "▁")] }, "pre_tokenizer": null }),
    ];
    for form in forms {
        let mut file = good.clone();
        file.extend(form.as_object().expect("a table").clone());
        let dir = tempfile::tempdir().expect("a scratch folder");
        write(dir.path(), "tokenizer.json", &Value::Object(file.clone()));
        let ours =
            t5::Tokenizer::from_dir(dir.path(), None).unwrap_or_else(|error| panic!("{form:.300}: {error}"));
        let library: tokenizers::Tokenizer =
            serde_json::from_value(Value::Object(file)).expect("a tokenizer");
        for text in [TEXT, "<extra_id_0> x ", "ａ ①  ﬁ", ""] {
            let expected = library.encode(text, false).expect("ids").get_ids().to_vec();
            let found: Vec<u32> = ours.encode(text).expect("ids").iter().map(|&id| id as u32).collect();
            assert_eq!(found[..expected.len()], expected, "{text:?} {form:.300}");
        }
    }
}

#[test]
fn hostile_files_of_clip_are_refused_or_without_effect() {
    let folder = fixture("flux-pipeline/tokenizer");
    let text = std::fs::read_to_string(folder.join("tokenizer.json")).expect("a fixture");
    let good: Map<String, Value> = serde_json::from_str(&text).expect("a table");
    let run = |name: &str, changed: &str, change: &Value, fate: Fate, expected: &[i64]| {
        let dir = tempfile::tempdir().expect("a scratch folder");
        let mut file = good.clone();
        let settings = match changed {
            "tokenizer.json" => {
                file.extend(change.as_object().expect("a table").clone());
                json!({})
            }
            _ => change.clone(),
        };
        write(dir.path(), "tokenizer.json", &Value::Object(file));
        write(dir.path(), "tokenizer_config.json", &settings);
        let found = clip::Tokenizer::from_dir(dir.path()).and_then(|tokenizer| tokenizer.encode(TEXT));
        match expected {
            [] => found.expect("ids"),
            expected => {
                check(name, fate, changed, found, expected);
                Vec::new()
            }
        }
    };
    let expected = run("as it is", "tokenizer.json", &json!({}), Unused, &[]);
    let long = "x".repeat(1 << 20);
    let grow = vec![replace("a", &"a".repeat(100)); 4];
    let token = |content: &str| json!({ "id": 674, "content": content });
    let both = |more: Value| {
        let mut tokens = good["added_tokens"].as_array().expect("tokens").clone();
        tokens.push(more);
        json!({ "added_tokens": tokens })
    };
    #[rustfmt::skip]
    let attacks: Vec<(&str, &str, Value, Fate)> = vec![
        ("replacements that multiply", "tokenizer.json", normalizer(&json!(grow)), Unused),
        ("a regular expression", "tokenizer.json", json!({ "pre_tokenizer": { "type": "Split", "pattern": { "Regex": "(a+)+$" }, "behavior": "Removed", "invert": true } }), Unused),
        ("padding", "tokenizer.json", json!({ "padding": { "strategy": { "Fixed": 1_000_000_000 } } }), Unused),
        ("another model", "tokenizer.json", json!({ "model": { "type": "Unigram", "vocab": [["a", 0.0]] } }), Refused(&["not a valid file of a CLIP tokenizer"])),
        ("a long added token", "tokenizer.json", both(token(&long)), Refused(&["1048576 bytes", "maximum"])),
        ("a long special token", "tokenizer_config.json", json!({ "bos_token": long }), Refused(&["1048576 bytes"])),
        ("a long further token", "tokenizer_config.json", json!({ "extra_special_tokens": [long] }), Refused(&["1048576 bytes"])),
        ("a context without end", "tokenizer_config.json", json!({ "model_max_length": 1e15 }), Refused(&["model_max_length"])),
    ];
    for (name, file, change, fate) in attacks {
        run(name, file, &change, fate, &expected);
    }
}
