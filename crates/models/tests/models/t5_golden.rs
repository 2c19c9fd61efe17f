//! The T5 encoder and its tokenizer against transformers, stage by stage, on tiny random networks and a small made-up
//! vocabulary.
//!
//! `tools/golden_t5.py` makes the fixtures.

use std::collections::BTreeMap;
use std::fs;

use models::attend::NoProbe;
use models::probe::KeepAll;
use models::t5::{T5Config, T5Encoder, TokenLookup, Tokenizer};
use models::{Device, Kind, clip};
use serde::Deserialize;
use serde_json::{Value, json};
use tch::Tensor;

use crate::golden::{Golden, copy, fixture};

const NETWORKS: [&str; 3] = ["t5-gated", "t5-relu", "t5-forge"];

/// Largest difference from transformers in float32, absolute for probabilities and relative to the largest value of the
/// stage for everything else.
const TOLERANCE: f64 = 1e-5;

/// The token ids of a fixture.
fn ids(golden: &Golden) -> Tensor {
    golden.get("ids").to_kind(Kind::Int64)
}

/// The largest difference, relative to the largest finite value; hidden entries must be hidden on both sides.
fn difference(ours: &Tensor, golden: &Tensor) -> f64 {
    assert_eq!(ours.size(), golden.size());
    let [ours, golden] = [ours, golden].map(|x| x.to_device(Device::Cpu).to_kind(Kind::Double));
    assert_eq!(ours.isfinite(), golden.isfinite());
    let [ours, golden] = [ours, golden].map(|x| x.masked_fill(&x.isfinite().logical_not(), 0.0));
    let scale = golden.abs().max().double_value(&[]).max(1.0);
    (ours - golden).abs().max().double_value(&[]) / scale
}

#[test]
fn every_stage_is_that_of_transformers() -> models::Result<()> {
    for name in NETWORKS {
        let golden = Golden::open(name);
        let network = T5Encoder::load(&fixture(name), Kind::Float, Device::Cpu)?;
        let (ids, mask) = (ids(&golden), golden.find("mask"));
        let mut differences = Vec::new();
        let mut check = |stage: String, ours: &Tensor| {
            let wanted = golden.get(&stage);
            let found = difference(ours, &wanted);
            assert!(found <= TOLERANCE, "{name}: {stage} is the first stage that differs, by {found:e}");
            differences.push((stage, found));
        };

        let mut probe = KeepAll::default();
        let encoded = network.encode(&ids, mask.as_ref(), &mut probe)?;
        let states = network.hidden_states(&ids, mask.as_ref())?;
        let maps = probe.finish()?;
        assert_eq!((maps.len(), states.len()), (network.depth(), network.depth() + 1));
        check("embeddings".into(), &states[0]);
        for (i, layer) in maps.iter().enumerate() {
            assert_eq!(layer.site.to_string(), format!("t5.block.{i}"));
            check(format!("block.{i}.logits"), &layer.logits);
            check(format!("block.{i}.probs"), &layer.probs);
            check(format!("block.{i}.hidden"), &states[i + 1]);
        }
        check("encoded".into(), &encoded);
        let (stage, worst) = differences.iter().max_by(|a, b| a.1.total_cmp(&b.1)).expect("stages");
        println!("{name}: {} stages, largest difference {worst:.1e} at {stage}", differences.len());
    }
    Ok(())
}

#[test]
fn probes_do_not_change_the_output() -> models::Result<()> {
    for name in NETWORKS {
        let golden = Golden::open(name);
        let network = T5Encoder::load(&fixture(name), Kind::Float, Device::Cpu)?;
        let (ids, mask) = (ids(&golden), golden.find("mask"));
        let unprobed = network.encode(&ids, mask.as_ref(), &mut NoProbe)?;
        let probed = network.encode(&ids, mask.as_ref(), &mut KeepAll::default())?;
        let found = difference(&probed, &unprobed);
        assert!(found < TOLERANCE, "{name}: {found:e}");
    }
    Ok(())
}

/// transformers' rounding to 16 bits causes an error against float32; ours must be less than twice as large.
#[test]
fn sixteen_bits_are_as_near_as_those_of_transformers() -> models::Result<()> {
    for name in NETWORKS {
        let golden = Golden::open(name);
        let (ids, mask) = (ids(&golden), golden.find("mask"));
        let exact = golden.get("encoded");
        for (stage, kind) in [("encoded.bf16", Kind::BFloat16), ("encoded.f16", Kind::Half)] {
            let peer = golden.get(stage);
            let network = T5Encoder::load(&fixture(name), kind, Device::Cpu)?;
            let unprobed = network.encode(&ids, mask.as_ref(), &mut NoProbe)?;
            let probed = network.encode(&ids, mask.as_ref(), &mut KeepAll::default())?;
            assert_eq!((unprobed.kind(), probed.kind()), (kind, kind));
            let noise = difference(&peer, &exact);
            for ours in [unprobed, probed] {
                let found = difference(&ours, &exact);
                println!("{name} {stage}: {found:.1e} from float32, transformers {noise:.1e}");
                assert!(found < 2.0 * noise, "{name} {stage}: {found:e} against {noise:e}");
            }
        }
    }
    Ok(())
}

/// Masking tokens at the end for all queries equals removing them, since positions are relative.
#[test]
fn masked_padding_is_no_padding() -> models::Result<()> {
    let golden = Golden::open("t5-relu");
    let network = T5Encoder::load(&fixture("t5-relu"), Kind::Float, Device::Cpu)?;
    let (ids, mask) = (ids(&golden), golden.get("mask"));
    let padded = network.encode(&ids, Some(&mask), &mut NoProbe)?;
    let unmasked = network.encode(&ids, None, &mut NoProbe)?;
    let length = mask.get(1).sum(Kind::Int64).int64_value(&[]);
    assert!(length < ids.size()[1]);
    let alone = network.encode(&ids.narrow(0, 1, 1).narrow(1, 0, length), None, &mut NoProbe)?;
    let text = |x: &Tensor| x.narrow(0, 1, 1).narrow(1, 0, length);
    assert!(difference(&text(&padded), &alone) < TOLERANCE);
    assert!(difference(&text(&unmasked), &alone) > 0.01, "without a mask padding takes part");
    Ok(())
}

#[test]
fn directories_of_other_networks_are_refused() {
    let refusal = |change: &dyn Fn(&mut Value)| {
        let dir = copy("t5-relu");
        let path = dir.path().join("config.json");
        let mut config: Value =
            serde_json::from_slice(&fs::read(&path).expect("a copy")).expect("a committed fixture");
        change(&mut config);
        fs::write(&path, config.to_string()).expect("a file");
        let network = T5Encoder::load(dir.path(), Kind::Float, Device::Cpu);
        network.err().expect("the directory was accepted").to_string()
    };
    for (key, value, said) in [
        ("model_type", json!("umt5"), "`umt5`, not `t5`"),
        ("dense_act_fn", json!("tanhshrink"), "tanhshrink"),
        ("feed_forward_proj", json!("gated-gelu-new"), "gated-gelu-new"),
        ("is_gated_act", json!(true), "wi_0.weight"),
        ("d_kv", json!(0), "d_kv is 0"),
        ("d_model", json!(12), "has shape"),
        ("num_layers", json!(2), "does not use"),
        ("relative_attention_num_buckets", json!(2), "at least 4 classes"),
        ("relative_attention_max_distance", json!(2), "at least 4 classes"),
    ] {
        let refused = refusal(&|config| config[key] = value.clone());
        assert!(refused.contains(said), "{key} = {value}: {refused}");
    }
}

/// A configuration of the MLP, and the network that transformers builds of it.
#[derive(Deserialize)]
struct Mlp {
    config: Value,
    #[serde(default)]
    refused: bool,
    #[serde(default)]
    gated: bool,
    /// The activation of -3, -2, … 3.
    #[serde(default)]
    activated: Vec<f32>,
}

#[test]
fn the_kind_of_mlp_is_read_as_t5_config_reads_it() -> models::Result<()> {
    let text = fs::read_to_string(fixture("t5-forge").join("configs.json")).expect("a committed fixture");
    let rows: Vec<Mlp> = serde_json::from_str(&text).expect("a committed fixture");
    for Mlp { config, refused, gated, activated } in rows {
        let dir = tempfile::tempdir().expect("a directory");
        fs::write(dir.path().join("config.json"), config.to_string()).expect("a file");
        let read = T5Config::from_dir(dir.path());
        assert_eq!(read.is_err(), refused, "{config}");
        let Ok(read) = read else { continue };
        assert_eq!(read.feed_forward.gated, gated, "{config}");
        let x = Tensor::from_slice(&[-3f32, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0]);
        let found = difference(&read.feed_forward.activation.apply(&x)?, &Tensor::from_slice(&activated));
        assert!(found < 1e-6, "{config}: {found:e}");
    }
    Ok(())
}

#[derive(Deserialize)]
struct Texts {
    texts: Vec<String>,
    variants: Vec<Variant>,
    /// Text, word, indices of its tokens.
    words: Vec<(String, String, Vec<usize>)>,
}

/// Changed files, and the results of transformers for the texts with them.
#[derive(Deserialize)]
struct Variant {
    name: String,
    files: BTreeMap<String, Value>,
    asked: Option<usize>,
    length: usize,
    pad_id: i64,
    encoded: Vec<Vec<i64>>,
}

fn texts() -> Texts {
    let text = fs::read_to_string(fixture("t5-tokenizer").join("golden.json")).expect("a committed fixture");
    serde_json::from_str(&text).expect("a committed fixture")
}

/// The tokenizer of the fixture with further files or, for `tokenizer.json`, with other parts.
fn directory(files: &BTreeMap<String, Value>) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    let published = fs::read(fixture("t5-tokenizer").join("tokenizer.json")).expect("a committed fixture");
    let mut tokenizer: Value = serde_json::from_slice(&published).expect("a committed fixture");
    for (name, content) in files {
        if name == "tokenizer.json" {
            for (part, changed) in content.as_object().expect("parts") {
                tokenizer[part] = changed.clone();
            }
        } else {
            fs::write(dir.path().join(name), content.to_string()).expect("a file");
        }
    }
    fs::write(dir.path().join("tokenizer.json"), tokenizer.to_string()).expect("a file");
    dir
}

#[test]
fn ids_are_those_of_transformers() -> models::Result<()> {
    let golden = texts();
    for variant in &golden.variants {
        let dir = directory(&variant.files);
        let tokenizer = Tokenizer::from_dir(dir.path(), variant.asked)?;
        assert_eq!(tokenizer.length(), variant.length, "{}", variant.name);
        assert_eq!(variant.encoded.len(), golden.texts.len());
        for (text, ids) in golden.texts.iter().zip(&variant.encoded) {
            let padding = vec![variant.pad_id; variant.length - ids.len()];
            let wanted = [ids.as_slice(), &padding].concat();
            assert_eq!(
                tokenizer.encode(text)?,
                wanted,
                "{}: {text:?} is the first that differs",
                variant.name
            );
        }
    }
    println!("{} texts in {} variants are equal", golden.texts.len(), golden.variants.len());
    assert!(golden.texts.len() >= 60);
    Ok(())
}

#[test]
fn masks_and_cuts_follow_the_length() -> models::Result<()> {
    let dir = fixture("t5-tokenizer");
    assert_eq!(Tokenizer::from_dir(&dir, None)?.length(), 512, "T5's own where no file gives one");
    let tokenizer = Tokenizer::from_dir(&dir, Some(6))?;
    let (ids, mask) = (tokenizer.encode("a dog")?, tokenizer.mask("a dog")?);
    assert!(ids.iter().zip(&mask).all(|(&id, &kept)| (id != 0) == (kept == 1)));
    assert_eq!(mask.iter().sum::<i64>(), 3, "`▁a`, `▁dog`, the end");
    assert!(!tokenizer.truncates("a dog")?);
    assert!(tokenizer.truncates(&"the lake ".repeat(5))?);
    let cut = tokenizer.encode(&"the lake ".repeat(5))?;
    assert_eq!((cut.len(), cut[5]), (6, 1), "a text that is cut keeps its end");
    for length in [0, 1, 513] {
        let refused = Tokenizer::from_dir(&dir, Some(length)).expect_err("a length").to_string();
        assert!(refused.contains("2 to 512"), "{refused}");
    }
    Ok(())
}

#[test]
fn words_are_found_where_they_stand() -> models::Result<()> {
    let tokenizer = Tokenizer::from_dir(&fixture("t5-tokenizer"), Some(64))?;
    for (text, word, tokens) in texts().words {
        let found = tokenizer.word(&text, &word)?;
        // A `▁` between two words belongs to them, and to neither in transformers.
        let ends = tokens.first().zip(tokens.last()).map(|(&first, &last)| first..last + 1);
        assert_eq!(Some(found), ends, "{word:?} in {text:?}");
    }
    // `▁`, `on`: the space does not belong to the word, neither at the start of a text nor within it.
    assert_eq!((tokenizer.word("on it", "on")?, tokenizer.word("on it", "it")?), (1..2, 3..4));
    Ok(())
}

#[test]
fn words_that_are_not_read_are_refused() -> models::Result<()> {
    let tokenizer = Tokenizer::from_dir(&fixture("t5-tokenizer"), Some(6))?;
    let refused = tokenizer.word("A cat's hat", "dog").expect_err("no such word").to_string();
    assert!(refused.contains("`dog`") && refused.contains("`A`, `cat`, `s`, `hat`"), "{refused}");
    // The text is cut within the second word: its first token is kept, its last is not.
    let text = "the picture of the lake";
    for word in ["lake", "picture of the lake"] {
        let refused = tokenizer.word(text, word).expect_err("a cut text").to_string();
        assert!(refused.contains("cut after 6 tokens"), "{refused}");
    }
    assert_eq!(tokenizer.word(text, "the")?, 0..1);
    Ok(())
}

#[test]
fn a_word_is_its_first_last_or_every_token_or_what_clip_has_there() -> models::Result<()> {
    let t5 = Tokenizer::from_dir(&fixture("t5-tokenizer"), Some(32))?;
    let clip = clip::Tokenizer::from_dir(&fixture("clip-tokenizer"))?;
    let text = "On the lake a LIGHTHOUSE, a lighthouse";
    let tokens = |lookup: TokenLookup, word: &str| lookup.tokens(&t5, &clip, text, word);
    let every = tokens(TokenLookup::Mean, "lighthouse")?;
    assert_eq!(every, t5.word(text, "lighthouse")?);
    assert!(every.len() > 2);
    assert_eq!(tokens(TokenLookup::First, "lighthouse")?, every.start..every.start + 1);
    assert_eq!(tokens(TokenLookup::Last, "lighthouse")?, every.end - 1..every.end);
    // CLIP has one token for each of the first two words, T5 more.
    assert_eq!(tokens(TokenLookup::ClipIndex, "The")?, 1..2);
    assert_ne!(tokens(TokenLookup::First, "The")?, 1..2);
    let refused = tokens(TokenLookup::ClipIndex, "dog").expect_err("no such word").to_string();
    assert!(refused.contains("no single token for this word"), "{refused}");

    let lookups: Vec<TokenLookup> =
        serde_json::from_value(json!(["first", "mean", "last", "clip-index"])).expect("all names");
    assert_eq!(lookups, [TokenLookup::First, TokenLookup::Mean, TokenLookup::Last, TokenLookup::ClipIndex]);
    Ok(())
}

#[test]
fn tokenizers_of_other_networks_are_refused() {
    let refusal = |files: Value| {
        let dir = directory(&serde_json::from_value(files).expect("files by name"));
        Tokenizer::from_dir(dir.path(), None).expect_err("the tokenizer was accepted").to_string()
    };
    for (files, said) in [
        (
            json!({ "tokenizer.json": { "model": { "type": "BPE", "vocab": {}, "merges": [] } } }),
            "must be `Unigram`",
        ),
        (json!({ "tokenizer.json": { "model": 3 } }), "not the tokenizer of T5"),
        (json!({ "tokenizer_config.json": { "eos_token": "<end>" } }), "no `<end>`"),
        (json!({ "tokenizer_config.json": { "padding_side": "left" } }), "padding_side"),
        (json!({ "tokenizer_config.json": { "pad_token": 0 } }), "download the file again"),
    ] {
        let refused = refusal(files);
        assert!(refused.contains(said), "{refused}");
    }
    let empty = tempfile::tempdir().expect("a directory");
    let refused = Tokenizer::from_dir(empty.path(), None).expect_err("no file").to_string();
    assert!(refused.contains("tokenizer.json"), "{refused}");
}
