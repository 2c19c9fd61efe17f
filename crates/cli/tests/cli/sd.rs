//! `attend` and `show` of a Stable Diffusion pipeline: one with random weights.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;

use crate::attend::{read, read_ids};
use crate::browser::Browser;
use crate::common::{arg, root, run, words};
use crate::flux::{blocks, metadata};
use crate::show::{self, FILES, files, json, numbers, sorted};

/// Image tokens of the two levels of a picture of 32 pixels, and of the prompt.
const FINE: usize = 16 * 16;
const COARSE: usize = 8 * 8;
const TEXT: usize = 14;
const HEADS: usize = 2;

const MIDDLE: &str = "unet.mid_block.attentions.0.transformer_blocks.0";

fn pipeline() -> PathBuf {
    root().join("crates/models/tests/fixtures/sd-pipeline")
}

fn image() -> PathBuf {
    let dir = root().join("crates/models/tests/fixtures/image/pictures");
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(dir).expect("committed").map(|entry| entry.expect("committed").path()).collect();
    files.retain(|path| path.extension().is_some_and(|end| end == "jpg" || end == "jpeg"));
    files.sort();
    files.remove(0)
}

#[test]
fn attend_writes_self_and_cross_attention_of_every_level() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let (model, image) = (pipeline(), image());
    let out = dir.path().join("maps.safetensors");
    let base = ["attend", "--model", arg(&model), "--image", arg(&image), "--out", arg(&out)];
    run(&[&base[..], &["--prompt", "a photo of a cat"]].concat(), 0);

    let found = blocks(&out);
    let paths = ["down_blocks.0.attentions.0", "up_blocks.1.attentions.0", "up_blocks.1.attentions.1"];
    let mut wanted: Vec<String> = paths
        .iter()
        .map(|path| format!("unet.{path}.transformer_blocks.0"))
        .chain([MIDDLE.to_owned()])
        .flat_map(|path| ["attn1", "attn2"].map(|end| format!("{path}.{end}")))
        .collect();
    wanted.sort();
    assert_eq!(found, wanted);
    let grids: BTreeMap<String, [usize; 2]> =
        serde_json::from_str(&metadata(&out)["grids"]).expect("rows and columns by path");
    assert_eq!(grids.keys().collect::<Vec<_>>(), found.iter().collect::<Vec<_>>());
    for name in &found {
        let queries = if name.starts_with(MIDDLE) { COARSE } else { FINE };
        let keys = if name.ends_with("attn2") { TEXT } else { queries };
        assert_eq!(grids[name][0] * grids[name][1], queries, "{name}");
        let (shape, probs) = read(&out, &format!("{name}.probs"));
        assert_eq!(shape, [HEADS, queries, keys], "{name}");
        assert_eq!(read(&out, &format!("{name}.logits")).0, shape, "{name}");
        for row in probs.chunks(keys) {
            assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-5, "{name}");
        }
    }
    assert_eq!(read(&out, "input.pixels").0, [3, 32, 32]);
    assert_eq!(read(&out, "input.latents").0, [4, 16, 16]);
    assert_eq!(read(&out, "output.predicted").0, [4, 16, 16]);
    assert_eq!(read_ids(&out, "text.ids").len(), TEXT);
    let told = metadata(&out);
    assert_eq!(told["tokens"], r#"{"special":0,"text":14,"image":[16,16],"order":["text"]}"#);
    assert_eq!((told["prompt"].as_str(), told["timestep"].as_str()), ("a photo of a cat", "300"));

    // A map of self-attention is a chain; one of cross-attention is none.
    let ranks = dir.path().join("ranks.safetensors");
    let rank = |key: &str, code| run(&["rank", arg(&out), "--key", key, "--out", arg(&ranks)], code);
    rank(&format!("{MIDDLE}.attn1.probs"), 0);
    assert_eq!(show::read(&ranks, "tokenrank").len(), HEADS * COARSE);
    rank(&format!("{MIDDLE}.attn2.probs"), 3);
}

#[test]
fn attend_takes_layers_by_their_paths_and_settings_of_the_look() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let (model, image) = (pipeline(), image());
    let out = dir.path().join("maps.safetensors");
    let base = ["attend", "--model", arg(&model), "--image", arg(&image), "--out", arg(&out)];
    let attend = |extra: &[&str]| {
        let output = run(&[&base[..], &["--layers", "mid_block.attn1"], extra].concat(), 0);
        assert_eq!(blocks(&out), [format!("{MIDDLE}.attn1")]);
        (read(&out, "output.predicted").1, words(&output))
    };
    let (usual, _) = attend(&[]);
    assert_eq!(
        attend(&["--prompt", "", "--timestep", "300", "--dtype", "f32", "--image-size", "32"]).0,
        usual
    );
    assert_ne!(attend(&["--prompt", "a cat"]).0, usual);
    assert_ne!(attend(&["--timestep", "301"]).0, usual);
    let bytes = std::fs::read(&out).expect("written");
    let maps = SafeTensors::deserialize(&bytes).expect("whole").len();
    assert_eq!(maps, 2 + 4);
    assert_eq!(attend(&["--image-size", "48"]).0.len(), 4 * 24 * 24);
    let long = attend(&["--prompt", "two dogs and the lake, in the rain and in the snow, far away"]).1;
    assert!(long.contains("is longer than 14 tokens and was truncated"), "{long}");
}

#[test]
fn what_is_refused_leaves_nothing_behind() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let (sd, image) = (pipeline(), image());
    let vit = root().join("datasets/mini/models/vit");
    let bare = dir.path().join("bare");
    std::fs::create_dir(&bare).expect("writable");
    std::fs::copy(sd.join("model_index.json"), bare.join("model_index.json")).expect("copied");
    let before = files(dir.path());
    let cases: &[(&Path, &[&str], i32, &str)] = &[
        (&bare, &[], 3, "lacks vae/, text_encoder/"),
        (&sd, &["--layers", "block.3"], 2, "of a Stable Diffusion pipeline, expected"),
        (
            &sd,
            &["--layers", "up_blocks.0"],
            2,
            "is not an attention layer of this UNet, which has 4 transformer layers",
        ),
        (&sd, &["--prompt", "x", "--prompt", "y"], 2, "--prompt is given 2 times"),
        (&sd, &["--image-size", "34"], 2, "multiples of 4"),
        (&sd, &["--image-size", "0"], 2, "multiples of 4"),
        (&sd, &["--timestep", "1000"], 2, "--timestep"),
        (&sd, &["--seed", "1"], 2, "--seed is for FLUX pipelines"),
        (&vit, &["--timestep", "1"], 2, "--timestep is for Stable Diffusion pipelines"),
    ];
    let out = dir.path().join("out");
    for (model, extra, code, said) in cases {
        let base = ["attend", "--model", arg(model), "--image", arg(&image), "--out", arg(&out)];
        let message = words(&run(&[&base[..], extra].concat(), *code));
        assert!(message.contains(said) && !message.contains("panicked"), "{extra:?}: {message}");
        assert_eq!(files(dir.path()), before, "{extra:?}");
    }

    let same: &[(&Path, &[&str], i32, &str)] = &[
        (&bare, &[], 3, "lacks vae/, text_encoder/"),
        (&sd, &["--layers", "block.3"], 2, "of a Stable Diffusion pipeline, expected"),
        (&sd, &["--layers", "attn2"], 2, "layers of cross-attention, whose maps are not Markov chains"),
        (&sd, &["--image-size", "34"], 2, "multiples of 4"),
        (&sd, &["--patch", "16,0"], 2, "there is no patch 16,0; this image has 16 rows of 16 patches"),
        (
            &sd,
            &["--token", "256"],
            2,
            "the sequence has 256 tokens, counted from 0: 16 16 patches row by row",
        ),
        (&sd, &["--layers", "mid_block", "--token", "64"], 2, "the sequence has 64 tokens"),
        (&sd, &["--word", "cat"], 2, "--prompt"),
        (
            &sd,
            &["--prompt", "a photo of a lake", "--word", "cat"],
            2,
            "its words are `a`, `photo`, `of`, `a`, `lake`",
        ),
        (
            &sd,
            &["--prompt", "a cat", "--word", "cat", "--token-lookup", "clip-index"],
            2,
            "use `first`, `mean` or `last`",
        ),
        (
            &sd,
            &["--prompt", "two dogs and the lake, in the rain and in the snow, far away", "--word", "away"],
            2,
            "cut after 14 tokens",
        ),
        (&sd, &["--without-special"], 2, "a Stable Diffusion pipeline has none"),
        (&sd, &["--seed", "1"], 2, "--seed is for FLUX pipelines"),
        (&sd, &["--timestep", "1000"], 2, "--timestep"),
        (&sd, &["--sets", "13"], 2, "between 1 and 12"),
        (&vit, &["--timestep", "1"], 2, "--timestep is for Stable Diffusion pipelines"),
    ];
    for (model, extra, code, said) in same {
        let base = ["show", "--model", arg(model), "--image", arg(&image), "--out", arg(&out)];
        let message = words(&run(&[&base[..], extra].concat(), *code));
        assert!(message.contains(said) && !message.contains("panicked"), "{extra:?}: {message}");
        assert_eq!(files(dir.path()), before, "{extra:?}");
    }
    let message = words(&run(&["show", "--model", arg(&sd), "--out", arg(&out)], 2));
    assert!(message.contains("--image is missing"), "{message}");

    // A page of somebody else below the folder is not replaced.
    std::fs::create_dir_all(out.join("8x8")).expect("writable");
    std::fs::write(out.join("8x8/index.html"), "mine").expect("writable");
    let base = ["show", "--model", arg(&sd), "--image", arg(&image), "--out", arg(&out)];
    let message = words(&run(&base, 2));
    assert!(message.contains("files that no run has made"), "{message}");
    assert_eq!(files(&out), ["8x8"]);
}

/// Chains and walks beside those that NumPy computes from the attention of diffusers (`tools/golden_sd_show.py`).
#[test]
fn show_walks_from_a_word_as_in_diffusers() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let (model, out) = (pipeline(), dir.path().join("out"));
    let golden = model.join("show.safetensors");
    let image = root().join("crates/models/tests/fixtures/vit-resized/picture.png");
    let prompt = "a photo of a lighthouse";
    let base =
        ["show", "--model", arg(&model), "--image", arg(&image), "--prompt", prompt, "--out", arg(&out)];
    let compare = |found: &[f64], name: &str, relative_to: f64| {
        let wanted = show::read(&golden, name);
        assert_eq!(found.len(), wanted.len(), "{name}");
        let worst = found.iter().zip(&wanted).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        println!("{name}: {:.1e}", worst / relative_to);
        assert!(worst / relative_to < 2e-5, "{name}: {worst:e}");
    };
    for word in ["photo", "Lighthouse"] {
        let output = run(&[&base[..], &["--word", word]].concat(), 0);
        let summary = String::from_utf8(output.stdout).expect("text");
        assert_eq!(files(&out), ["16x16", "8x8", "index.html", "show.json"]);
        for grid in ["16x16", "8x8"] {
            let folder = out.join(grid);
            assert_eq!(files(&folder), sorted(&FILES));
            let found = json(&folder);
            let start = &found["settings"]["start"];
            let name = format!("cross-attention to “{word}”");
            assert_eq!(start["name"], name.as_str());
            assert!(summary.contains(&format!("{name}, largest at patch ")), "{summary}");
            let from = numbers(&start["distribution"]);
            let uniform = 1.0 / from.len() as f64;
            let peak = start["state"].as_u64().expect("a state") as usize;
            assert!(from.iter().all(|p| *p <= from[peak]) && (from.iter().sum::<f64>() - 1.0).abs() < 1e-12);
            let golden_word = word.to_lowercase();
            compare(&from, &format!("{grid}.{golden_word}.start"), uniform);
            for direction in ["forward", "backward"] {
                let walk = found[direction].as_array().expect("a list");
                let walk: Vec<f64> = walk.iter().take(3).flat_map(numbers).collect();
                compare(&walk, &format!("{grid}.{golden_word}.{direction}"), uniform);
            }
            compare(&numbers(&found["average"]["incoming"]), &format!("{grid}.incoming"), uniform);
            let lambdas: Vec<f64> =
                found["lambda2"].as_array().expect("a list").iter().flat_map(numbers).collect();
            compare(&lambdas, &format!("{grid}.lambda2"), 1.0);
            let page = std::fs::read_to_string(folder.join("index.html")).expect("a page");
            assert!(page.contains(&name), "the page says what the start is");
        }
    }
    assert_eq!(json(&out.join("8x8"))["settings"]["layers"], serde_json::json!([format!("{MIDDLE}.attn1")]));

    // One token of the word, beside the maps that `attend` writes.
    let maps = dir.path().join("maps.safetensors");
    run(&[&["attend"], &base[1..7], &["--layers", "mid_block", "--out", arg(&maps)]].concat(), 0);
    let (_, probs) = read(&maps, &format!("{MIDDLE}.attn2.probs"));
    for (lookup, token) in [("first", 5), ("last", 9)] {
        run(&[&base[..], &["--word", "lighthouse", "--token-lookup", lookup]].concat(), 0);
        let mut wanted = vec![0.0f64; COARSE];
        for (i, row) in probs.chunks(TEXT).enumerate() {
            wanted[i % COARSE] += f64::from(row[token]);
        }
        let sum: f64 = wanted.iter().sum();
        wanted.iter_mut().for_each(|p| *p /= sum);
        show::close(&numbers(&json(&out.join("8x8"))["settings"]["start"]["distribution"]), &wanted);
    }
}

#[test]
fn show_starts_every_resolution_at_the_same_place() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let (model, image) = (root().join("datasets/mini/models/sd"), image());
    let out = dir.path().join("out");
    let base = ["show", "--model", arg(&model), "--image", arg(&image), "--out", arg(&out)];
    let starts = |extra: &[&str]| {
        run(&[&base[..], extra].concat(), 0);
        ["16x16", "8x8"].map(|grid| json(&out.join(grid))["settings"]["start"]["name"].clone())
    };
    assert_eq!(starts(&[]), ["patch 8,8", "patch 4,4"]);
    assert_eq!(starts(&["--patch", "3,14", "--bounces", "2"]), ["patch 3,14", "patch 1,7"]);
    assert_eq!(
        starts(&["--token", "17", "--timestep", "10", "--prompt", "a red star"]),
        ["patch 1,1", "patch 0,0"]
    );
    let all = json(&out);
    assert_eq!(all["settings"], serde_json::json!({ "prompt": "a red star", "timestep": 10 }));
    let folders: Vec<_> =
        all["resolutions"].as_array().expect("a list").iter().map(|of| of["folder"].clone()).collect();
    assert_eq!(folders, ["16x16", "8x8"]);
    let page = std::fs::read_to_string(out.join("index.html")).expect("a page");
    assert!(page.contains(r#"href="8x8/index.html""#) && page.contains("a red star"), "links and facts");

    // A choice of layers, and what is left out without one.
    let chosen = dir.path().join("chosen");
    let base = ["show", "--model", arg(&model), "--image", arg(&image), "--out", arg(&chosen)];
    run(
        &[&base[..], &["--layers", "mid_block,up_blocks.0.attentions.1.attn1", "--patch", "7,7"]].concat(),
        0,
    );
    assert_eq!(files(&chosen), ["8x8", "index.html", "show.json"]);
    let layers = ["mid_block.attentions.0", "up_blocks.0.attentions.1"];
    let layers = layers.map(|path| format!("unet.{path}.transformer_blocks.0.attn1"));
    assert_eq!(json(&chosen.join("8x8"))["settings"]["layers"], serde_json::json!(layers));
    let output = run(&[&base[..], &["--image-size", "192"]].concat(), 0);
    let summary = String::from_utf8(output.stdout).expect("text");
    assert!(
        summary.contains("48 × 48 patches: left out, since chains of 2304 states take minutes"),
        "{summary}"
    );
    assert_eq!(json(&chosen)["left_out"], serde_json::json!([{ "grid": [48, 48], "layers": 3 }]));
    assert_eq!(files(&chosen), ["24x24", "8x8", "index.html", "show.json"]);
}

/// The page of a resolution in a browser where there is one: it opens with the word's map as its start.
#[test]
fn the_page_of_show_opens_without_a_word_on_the_console() {
    let Some(mut browser) = Browser::start() else { return };
    let dir = tempfile::tempdir().expect("a scratch folder");
    let (model, image, out) = (pipeline(), image(), dir.path().join("out"));
    let base = ["show", "--model", arg(&model), "--image", arg(&image), "--out", arg(&out)];
    run(&[&base[..], &["--prompt", "a photo of a cat", "--word", "cat"]].concat(), 0);
    browser.open(&out.join("16x16/index.html"));
    assert_eq!(browser.complaints, [""; 0], "the page wrote to the console");
    let text = browser.eval("document.body.innerText");
    let text = text.as_str().expect("a page");
    assert!(text.contains("start: cross-attention to “cat”"), "{text}");
}
