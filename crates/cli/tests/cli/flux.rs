//! `attend` and `show` of a FLUX pipeline: the miniature looks at scenes.

use std::path::{Path, PathBuf};

use models::noise;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;
use tasks::mini::{SceneSpec, Split, export};

use crate::attend::{read, read_ids};
use crate::common::{arg, root, run, words};
use crate::show::{self, FILES, close, files, json, numbers, sorted};

const PROMPT: &str = "a black hourglass and a purple heart";
/// Tokens of the prompt; image tokens in a row.
const TEXT: usize = 24;
const SIDE: usize = 12;
const TOKENS: usize = TEXT + SIDE * SIDE;

fn pipeline() -> PathBuf {
    root().join("datasets/mini/models/flux")
}

/// Scenes that the miniature was not trained on: each file, the class of an object and whether it covers the middle of
/// each image token.
fn scenes(dir: &Path, count: usize) -> Vec<(PathBuf, String, Vec<bool>)> {
    let spec = SceneSpec::new(96, 1..=1).expect("a spec");
    export(dir, &spec, 0, Split::Val, count as u64).expect("drawn");
    (0..count as u64)
        .map(|index| {
            let scene = tasks::mini::scene(&spec, 0, Split::Val, index);
            let labels = scene.labels();
            let middle = |token: usize| {
                let (row, column) = (token / SIDE * 8 + 4, token % SIDE * 8 + 4);
                labels[row * 96 + column] != 0
            };
            let class = scene.objects[0].class.name().to_owned();
            let covered = (0..SIDE * SIDE).map(middle).collect();
            (dir.join(format!("images/{index:06}.png")), class, covered)
        })
        .collect()
}

fn image(dir: &Path) -> PathBuf {
    scenes(dir, 1).remove(0).0
}

pub fn metadata(path: &Path) -> std::collections::HashMap<String, String> {
    let bytes = std::fs::read(path).expect("written");
    let (_, metadata) = SafeTensors::read_metadata(&bytes).expect("a safetensors file");
    metadata.metadata().clone().expect("metadata")
}

/// Blocks of a file whose maps are there, in alphabetical order.
pub fn blocks(path: &Path) -> Vec<String> {
    let bytes = std::fs::read(path).expect("written");
    let file = SafeTensors::deserialize(&bytes).expect("whole");
    let mut blocks: Vec<String> =
        file.names().into_iter().filter_map(|name| Some(name.strip_suffix(".probs")?.to_owned())).collect();
    blocks.sort();
    blocks
}

#[test]
fn attend_writes_the_joint_attention_of_one_noised_pass() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let (model, image) = (pipeline(), image(dir.path()));
    let out = dir.path().join("maps.safetensors");
    let base =
        ["attend", "--model", arg(&model), "--image", arg(&image), "--out", arg(&out), "--prompt", PROMPT];
    run(&base, 0);
    assert_eq!(
        blocks(&out),
        ["dual.0", "dual.1", "dual.2"],
        "the last ten dual blocks, as far as there are any"
    );
    let (shape, logits) = read(&out, "dual.1.logits");
    assert_eq!(shape, [4, TOKENS, TOKENS]);
    let (shape, probs) = read(&out, "dual.1.probs");
    assert_eq!(shape, [4, TOKENS, TOKENS]);
    for (logits, probs) in logits.chunks(TOKENS).zip(probs.chunks(TOKENS)) {
        let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f32 = logits.iter().map(|logit| (logit - largest).exp()).sum();
        for (logit, p) in logits.iter().zip(probs) {
            assert!(((logit - largest).exp() / sum - p).abs() < 1e-5);
        }
    }
    let (shape, pixels) = read(&out, "input.pixels");
    assert_eq!(shape, [3, 96, 96]);
    assert!(pixels.iter().all(|x| (-1.0..=1.0).contains(x)) && pixels.iter().any(|x| *x < -0.2));
    assert_eq!(read(&out, "output.velocity").0, [4, 24, 24]);
    assert_eq!(read_ids(&out, "text.ids").len(), TEXT);

    let told = metadata(&out);
    assert_eq!(told["tokens"], r#"{"special":0,"text":24,"image":[12,12],"order":["text","image"]}"#);
    let noise: Value = serde_json::from_str(&told["noise"]).expect("JSON");
    assert_eq!(noise, serde_json::json!({ "steps": 4, "step": 2, "sigma": 0.5, "seed": 0 }));
    assert_eq!(told["prompt"], PROMPT);
    assert!(told["model"].ends_with("flux"));
    let pieces: Vec<String> = serde_json::from_str(&told["pieces"]).expect("a list");
    assert_eq!((pieces[0].as_str(), pieces.last().map(String::as_str)), ("▁a", Some("</s>")));
    assert_eq!(pieces.concat().replace('▁', " "), format!(" {PROMPT}</s>"));

    let ranks = dir.path().join("ranks.safetensors");
    run(&["rank", arg(&out), "--key", "dual.2.probs", "--out", arg(&ranks)], 0);
    assert_eq!(show::read(&ranks, "tokenrank").len(), 4 * TOKENS);
}

#[test]
fn attend_takes_blocks_of_both_streams_and_settings_of_the_noise() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let (model, image) = (pipeline(), image(dir.path()));
    let out = dir.path().join("maps.safetensors");
    let base =
        ["attend", "--model", arg(&model), "--image", arg(&image), "--out", arg(&out), "--prompt", "a star"];
    for (layers, wanted) in [
        ("last:1", &["dual.2", "single.2"][..]),
        ("dual.0,single.1", &["dual.0", "single.1"]),
        ("dual.last:2", &["dual.1", "dual.2"]),
        ("all", &["dual.0", "dual.1", "dual.2", "single.0", "single.1", "single.2"]),
    ] {
        run(&[&base[..], &["--layers", layers]].concat(), 0);
        assert_eq!(blocks(&out), wanted, "{layers}");
    }
    let attend = |extra: &[&str]| {
        run(&[&base[..], &["--layers", "dual.0"], extra].concat(), 0);
        (read(&out, "input.latents").1, read(&out, "output.velocity").1)
    };
    let usual = attend(&[]);
    assert_eq!(attend(&["--noise-steps", "4", "--noise-step", "2", "--seed", "0", "--dtype", "f32"]), usual);
    assert_ne!(attend(&["--seed", "1"]).0, usual.0);
    // Before the first step there is nothing but noise.
    let noise = noise::normal(&[4, 24, 24], 7).expect("noise").flatten(0, -1);
    let noise = Vec::<f32>::try_from(&noise).expect("numbers");
    assert_eq!(attend(&["--noise-step", "0", "--seed", "7"]).0, noise);

    attend(&["--image-size", "64", "--text-tokens", "8"]);
    assert_eq!(read(&out, "input.pixels").0, [3, 64, 64]);
    assert_eq!(read(&out, "dual.0.probs").0, [4, 8 + 64, 8 + 64]);
    let long = run(&[&base[..7], &["--text-tokens", "4", "--prompt", PROMPT]].concat(), 0);
    assert!(words(&long).contains("is longer than 4 tokens and was truncated"), "{}", words(&long));
}

/// TokenRank, λ₂ and bounces beside what `attend` and `rank` say of the same pass.
#[test]
fn the_numbers_of_show_are_those_of_attend_and_rank() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let (model, image) = (pipeline(), image(dir.path()));
    let [out, maps, ranks] =
        ["out", "maps.safetensors", "ranks.safetensors"].map(|name| dir.path().join(name));
    let same = ["--model", arg(&model), "--image", arg(&image), "--prompt", PROMPT, "--layers", "single.1"];
    let same = [&same[..], &["--seed", "5", "--noise-step", "3"]].concat();
    run(&[&["show", "--word", "heart", "--out", arg(&out)], &same[..]].concat(), 0);
    run(&[&["attend", "--out", arg(&maps)], &same[..]].concat(), 0);
    let (_, probs) = read(&maps, "single.1.probs");
    let mut mean = vec![0.0f64; TOKENS * TOKENS];
    for (i, p) in probs.iter().enumerate() {
        mean[i % (TOKENS * TOKENS)] += f64::from(*p) / 4.0;
    }
    let mean: Vec<u8> = mean.iter().flat_map(|value| value.to_le_bytes()).collect();
    let view = TensorView::new(Dtype::F64, vec![TOKENS, TOKENS], &mean).expect("a matrix");
    let mean = dir.path().join("mean.safetensors");
    std::fs::write(&mean, safetensors::serialize([("mean", view)], None).expect("serialises"))
        .expect("writable");

    let found = json(&out);
    assert_eq!(found["settings"]["layers"], serde_json::json!(["single.1"]));
    assert_eq!(found["settings"]["noise"]["seed"], 5);
    run(&["rank", arg(&maps), "--key", "single.1.probs", "--spectrum", "2", "--out", arg(&ranks)], 0);
    close(&numbers(&found["lambda2"][0]), show::read(&ranks, "lambda").iter().skip(1).step_by(2));
    let start = &found["settings"]["start"];
    assert_eq!((&start["name"], &start["states"]), (&"“heart”".into(), &serde_json::json!([start["state"]])));
    let token = start["state"].to_string();
    for (direction, steady) in [("forward", "incoming"), ("backward", "outgoing")] {
        let base = ["rank", arg(&mean), "--out", arg(&ranks), "--bounces", "5", "--direction", direction];
        run(&[&base[..], &["--start", &token]].concat(), 0);
        close(&numbers(&found["average"][steady]), &show::read(&ranks, "tokenrank"));
        let bounces: Vec<f64> =
            found[direction].as_array().expect("a list").iter().flat_map(numbers).collect();
        close(&bounces, &show::read(&ranks, "bounces"));
    }
}

#[test]
fn walks_from_a_word_are_those_from_its_tokens() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let (model, image) = (pipeline(), image(dir.path()));
    let out = dir.path().join("out");
    let base =
        ["show", "--model", arg(&model), "--image", arg(&image), "--prompt", PROMPT, "--out", arg(&out)];
    let show = |extra: &[&str]| {
        let output = run(&[&base[..], extra].concat(), 0);
        (json(&out), String::from_utf8(output.stdout).expect("text"))
    };
    let (word, summary) = show(&["--word", "Hourglass"]);
    assert_eq!(files(&out), sorted(&FILES));
    let states = numbers(&word["settings"]["start"]["states"]);
    assert_eq!(states, [2.0, 3.0], "`hourglass` is two pieces");
    for said in [
        "flux · 000000 · “a black hourglass and a purple heart”",
        "50 %, as before step 2 of 4, seed 0",
        "12 × 12 patches, 24 text tokens: 168 states",
        "heads of dual blocks 0–2",
        "“Hourglass”: text 2 “hour”, text 3 “glass”",
        "Of the text, set ",
    ] {
        assert!(summary.contains(said), "{said} is not in\n{summary}");
    }
    let [first, second] = [2, 3].map(|token| show(&["--token", &token.to_string()]).0);
    for direction in ["forward", "backward"] {
        let flat = |found: &Value| -> Vec<f64> {
            found[direction].as_array().expect("a list").iter().flat_map(numbers).collect()
        };
        let mean: Vec<f64> = flat(&first).iter().zip(flat(&second)).map(|(a, b)| (a + b) / 2.0).collect();
        close(&flat(&word), &mean);
    }
    assert_eq!(first["average"], word["average"], "TokenRank does not depend on the start");

    for (lookup, wanted) in [("first", 2), ("last", 3)] {
        let (found, _) = show(&["--word", "hourglass", "--token-lookup", lookup]);
        assert_eq!(found["settings"]["start"]["states"], serde_json::json!([wanted]), "{lookup}");
    }
    let (found, _) = show(&["--patch", "11,0", "--layers", "last:1", "--sets", "3"]);
    assert_eq!(found["settings"]["start"]["state"], TEXT + 11 * SIDE);
    assert_eq!(found["settings"]["layers"], serde_json::json!(["dual.2", "single.2"]));
}

/// What the network has learnt shows: image tokens of the object that the word names attend to the word.
#[test]
fn a_word_finds_its_object() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let (model, out) = (pipeline(), dir.path().join("out"));
    let mut found = 0;
    let scenes = scenes(dir.path(), 4);
    for (image, class, covered) in &scenes {
        let prompt = format!("a {class}");
        let base = ["show", "--model", arg(&model), "--image", arg(image), "--out", arg(&out)];
        run(&[&base[..], &["--prompt", &prompt, "--word", class, "--layers", "all"]].concat(), 0);
        let state = numbers(&json(&out)["backward"][0]);
        let mean = |object: bool| {
            let tokens = state[TEXT..].iter().zip(covered).filter(|(_, covered)| **covered == object);
            let (sum, count) = tokens.fold((0.0, 0), |(sum, count), (p, _)| (sum + p, count + 1));
            sum / f64::from(count)
        };
        found += usize::from(mean(true) > 1.2 * mean(false));
    }
    assert!(
        found >= 3,
        "in {found} of {} scenes the object has more of the walk than the rest",
        scenes.len()
    );
}

#[test]
fn without_an_image_one_is_made_and_looked_at_like_any_other() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let model = pipeline();
    let [made, again, other] = ["made", "again", "other"].map(|name| dir.path().join(name));
    let base = ["show", "--model", arg(&model), "--prompt", "a red star", "--word", "star", "--out"];
    let output = run(&[&base[..], &[arg(&made)]].concat(), 0);
    let summary = String::from_utf8(output.stdout).expect("text");
    assert!(summary.contains("made of the prompt in 4 steps"), "{summary}");
    assert_eq!(files(&made), sorted(&[&FILES[..], &["image.png"]].concat()));
    let image = made.join("image.png");
    run(&[&base[..], &[arg(&again), "--image", arg(&image)]].concat(), 0);
    assert_eq!(files(&again), sorted(&FILES));
    let (first, second) = (json(&made), json(&again));
    assert_eq!((&first["image"], &second["image"]), (&Value::Null, &arg(&image).into()));
    for part in ["average", "forward", "backward", "lambda2"] {
        assert_eq!(first[part], second[part], "{part}");
    }

    run(&[&base[..], &[arg(&other), "--seed", "1", "--noise-steps", "3", "--image-size", "64"]].concat(), 0);
    assert_ne!(std::fs::read(&image).expect("made"), std::fs::read(other.join("image.png")).expect("made"));
    assert_eq!(json(&other)["settings"]["picture"], serde_json::json!([64, 64]));
}

#[test]
fn what_is_refused_leaves_nothing_behind() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let (flux, image) = (pipeline(), image(dir.path()));
    let vit = root().join("datasets/mini/models/vit");
    let [nowhere, bare] = ["nowhere", "bare"].map(|name| dir.path().join(name));
    std::fs::create_dir(&bare).expect("writable");
    std::fs::copy(flux.join("model_index.json"), bare.join("model_index.json")).expect("copied");
    let before = files(dir.path());
    let prompt = ["--prompt", "a red star"];
    let both: &[(&Path, &[&str], i32, &str)] = &[
        (&nowhere, &prompt, 3, "no such model directory"),
        (&bare, &prompt, 3, "lacks scheduler/, text_encoder/"),
        (&flux, &[], 2, "--prompt is missing"),
        (&flux, &["--prompt", "x", "--layers", "3"], 2, "dual.3,single.0"),
        (&flux, &["--prompt", "x", "--layers", "block.0"], 2, "dual.3,single.0"),
        (&flux, &["--prompt", "x", "--layers", "dual.9"], 2, "the network has 3 dual blocks"),
        (&flux, &["--prompt", "x", "--image-size", "90"], 2, "multiples of 8"),
        (&flux, &["--prompt", "x", "--image-size", "0"], 2, "multiples of 8"),
        (&flux, &["--prompt", "x", "--text-tokens", "25"], 2, "2 to 24 tokens"),
        (&flux, &["--prompt", "x", "--text-tokens", "0"], 2, "2 to 24 tokens"),
        (&flux, &["--prompt", "x", "--noise-step", "4"], 2, "of a schedule of 4 steps"),
        (&flux, &["--prompt", "x", "--noise-steps", "0"], 2, "steps"),
        (&flux, &["--prompt", "x", "--dtype", "int8"], 2, "bf16"),
        (&flux, &["--prompt", "x", "--device", "tpu"], 2, "tpu"),
        (&vit, &["--seed", "0"], 2, "--seed is for FLUX pipelines"),
        (&vit, &["--noise-step", "1"], 2, "--noise-step is for FLUX pipelines"),
        (&vit, &["--noise-steps", "8"], 2, "--noise-steps is for FLUX pipelines"),
        (&vit, &["--text-tokens", "9"], 2, "--text-tokens is for FLUX pipelines"),
        (&vit, &["--dtype", "f16"], 2, "--dtype is for FLUX and Stable Diffusion pipelines"),
        (&vit, &["--layers", "dual.0"], 2, "block numbers or names"),
    ];
    let attend: &[(&Path, &[&str], i32, &str)] =
        &[(&flux, &["--prompt", "x", "--prompt", "y"], 2, "--prompt is given 2 times")];
    let show: &[(&Path, &[&str], i32, &str)] = &[
        (&vit, &["--prompt", "x"], 2, "--prompt is for FLUX and Stable Diffusion pipelines"),
        (&flux, &["--word", "x"], 2, "--prompt"),
        (&flux, &["--prompt", "x", "--word", "x", "--token", "3"], 2, "cannot be used with"),
        (&flux, &["--prompt", "x", "--word", "x", "--patch", "0,0"], 2, "cannot be used with"),
        (&flux, &["--prompt", "x", "--token-lookup", "first"], 2, "--word"),
        (&flux, &["--prompt", "a red star", "--word", "ring"], 2, "its words are `a`, `red`, `star`"),
        (&flux, &["--prompt", "x", "--token", "168"], 2, "24 of the text, then 12 × 12 patches"),
        (&flux, &["--prompt", "x", "--without-special"], 2, "a FLUX pipeline has none"),
    ];
    let out = dir.path().join("out");
    for (command, cases) in [("attend", both), ("attend", attend), ("show", both), ("show", show)] {
        for (model, extra, code, said) in cases {
            let base = [command, "--model", arg(model), "--image", arg(&image), "--out", arg(&out)];
            let message = words(&run(&[&base[..], extra].concat(), *code));
            // Decoration takes `×` out of messages too.
            let said = said.replace(" × ", " ");
            assert!(
                message.contains(&said) && !message.contains("panicked"),
                "{command} {extra:?}: {message}"
            );
            assert_eq!(files(dir.path()), before, "{command} {extra:?}");
        }
    }
    let message = words(&run(&["show", "--model", arg(&vit), "--out", arg(&out)], 2));
    assert!(message.contains("--image is missing; only a FLUX pipeline makes an image"), "{message}");
}
