//! `attend` and `show` of a FLUX.1 Kontext folder: the miniature FLUX under the class of Kontext, with a reference image.

use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::attend::read;
use crate::checkpoints::{copy, set, tensors};
use crate::common::{arg, root, run, scratch, words};
use crate::flux::metadata;
use crate::show::{FILES, close, files, json as shown, numbers, sorted};

const PROMPT: &str = "a red star";
/// Tokens of the text, of the image, and of the reference at its own size of 29 × 18 pixels: 3 × 2 tokens of 8 pixels.
const TEXT: usize = 24;
const IMAGE: usize = 12 * 12;
const REFERENCE: usize = 6;

fn mini(name: &str) -> PathBuf {
    root().join("datasets/mini/models").join(name)
}

fn kontext() -> TempDir {
    let dir = copy(&mini("flux"));
    set(&dir.path().join("model_index.json"), "_class_name", json!("FluxKontextPipeline"));
    dir
}

fn picture() -> PathBuf {
    root().join("crates/models/tests/fixtures/vit-plain/picture.png")
}

fn reference() -> PathBuf {
    root().join("crates/models/tests/fixtures/flux-kontext/reference.png")
}

fn attend(model: &Path, out: &Path, extra: &[&str]) {
    let image = picture();
    let base =
        ["attend", "--model", arg(model), "--image", arg(&image), "--prompt", PROMPT, "--out", arg(out)];
    run(&[&base[..], extra].concat(), 0);
}

fn show(model: &Path, out: &Path, extra: &[&str]) -> Value {
    let base = ["show", "--model", arg(model), "--prompt", PROMPT, "--out", arg(out)];
    run(&[&base[..], extra].concat(), 0);
    shown(out)
}

#[test]
fn attend_writes_the_reference_as_a_segment_of_the_tokens() {
    let (model, dir, reference) = (kontext(), scratch(), reference());
    let [own, square, without, flux] =
        ["own", "square", "without", "flux"].map(|name| dir.path().join(format!("{name}.safetensors")));
    attend(model.path(), &own, &["--reference", arg(&reference), "--reference-size", "own"]);
    let told = metadata(&own);
    assert_eq!(
        told["tokens"],
        r#"{"special":0,"text":24,"image":[12,12],"reference":[2,3],"order":["text","image","reference"]}"#
    );
    assert_eq!(told["reference"], r#"{"size":"own","pixels":[16,24]}"#);
    let tokens = TEXT + IMAGE + REFERENCE;
    assert_eq!(read(&own, "dual.2.probs").0, [4, tokens, tokens]);
    assert_eq!(read(&own, "output.velocity").0, [4, 24, 24]);
    assert_eq!(read(&own, "reference.latents").0, [4, 4, 6]);
    let (shape, pixels) = read(&own, "reference.pixels");
    assert_eq!(shape, [3, 16, 24]);
    assert!(pixels.iter().all(|x| (-1.0..=1.0).contains(x)));

    attend(model.path(), &square, &["--reference", arg(&reference), "--reference-size", "32"]);
    assert_eq!(read(&square, "reference.pixels").0, [3, 32, 32]);
    assert_eq!(read(&square, "dual.0.probs").0, [4, TEXT + IMAGE + 16, TEXT + IMAGE + 16]);

    // Without a reference, everything is as in FLUX.
    attend(model.path(), &without, &[]);
    attend(&mini("flux"), &flux, &[]);
    let in_order = |path: &Path| {
        let mut stored = tensors(path);
        stored.sort_by(|a, b| a.0.cmp(&b.0));
        stored
    };
    assert!(in_order(&without) == in_order(&flux), "tensors differ");
    let (mut ours, mut wanted) = (metadata(&without), metadata(&flux));
    ours.remove("model");
    wanted.remove("model");
    assert_eq!(ours, wanted);
    assert!(read(&own, "input.latents") == read(&without, "input.latents"), "the noise differs");
    assert!(
        read(&own, "output.velocity") != read(&without, "output.velocity"),
        "the reference has no effect"
    );

    let ranks = dir.path().join("ranks.safetensors");
    run(&["rank", arg(&own), "--key", "dual.2.probs", "--out", arg(&ranks)], 0);
    let bytes = std::fs::read(&ranks).expect("written");
    let file = SafeTensors::deserialize(&bytes).expect("whole");
    assert_eq!(file.tensor("tokenrank").expect("ranked").shape(), [4, tokens]);
}

#[test]
fn show_has_the_reference_as_a_second_image() {
    let (model, dir, image, reference) = (kontext(), scratch(), picture(), reference());
    let [out, maps, plain, made] = ["out", "maps", "plain", "made"].map(|name| dir.path().join(name));
    let own = ["--reference", arg(&reference), "--reference-size", "own", "--layers", "single.2"];
    let same = [&own[..], &["--image", arg(&image)]].concat();
    let token = TEXT + IMAGE + 4;
    let found =
        show(model.path(), &out, &[&same[..], &["--token", &token.to_string(), "--alpha", "1"]].concat());
    assert_eq!(files(&out), sorted(&FILES));
    let settings = &found["settings"];
    assert_eq!(settings["states"]["reference"], json!([2, 3]));
    assert_eq!(settings["reference"], json!({ "image": arg(&reference), "size": "own", "pixels": [16, 24] }));
    assert_eq!(settings["start"]["name"], "reference 1,1");
    let page = std::fs::read_to_string(out.join("index.html")).expect("a page");
    for part in [
        r#"<img id="reference" src="data:image/png"#,
        r#"{"reference":{"rows":2,"columns":3}}"#,
        "lower image",
    ] {
        assert!(page.contains(part), "{part}");
    }

    // A step of the walk is the row of that token in the map that `attend` writes.
    attend(model.path(), &maps, &own);
    let (shape, probs) = read(&maps, "single.2.probs");
    let n = shape[1];
    let row: Vec<f64> = (0..n)
        .map(|key| (0..4).map(|head| f64::from(probs[(head * n + token) * n + key])).sum::<f64>() / 4.0)
        .collect();
    close(&numbers(&found["forward"][0]), &row);

    // Nothing of this without a reference.
    let found = show(model.path(), &plain, &["--image", arg(&image), "--layers", "single.2"]);
    assert!(found["settings"]["reference"].is_null() && found["settings"]["states"]["reference"].is_null());
    let page = std::fs::read_to_string(plain.join("index.html")).expect("a page");
    assert!(!page.contains("id=\"reference\"") && !page.contains("lower image"));

    // Without an image, one is generated from the prompt and the reference.
    let found = show(model.path(), &made, &[&own[..], &["--image-size", "32", "--noise-step", "1"]].concat());
    assert_eq!(files(&made), sorted(&[&FILES[..], &["image.png"]].concat()));
    assert_eq!(found["settings"]["states"]["image"], json!([4, 4]));
}

#[test]
fn what_is_refused_leaves_nothing_behind() {
    let (model, dir, image, reference) = (kontext(), scratch(), picture(), reference());
    let [nowhere, text, copied] = ["nowhere.png", "text.png", "copied.png"].map(|name| dir.path().join(name));
    std::fs::write(&text, "not an image").expect("writable");
    std::fs::copy(&reference, &copied).expect("copied");
    let before = files(dir.path());
    let (kontext, flux, sd, vit) = (model.path(), mini("flux"), mini("sd"), mini("vit"));
    let with = |file: &Path| vec!["--reference".to_owned(), arg(file).to_owned()];
    let sized =
        |size: &str| [with(&reference), vec!["--reference-size".to_owned(), size.to_owned()]].concat();
    let cases: Vec<(&Path, Vec<String>, i32, &str)> = vec![
        (kontext, with(&nowhere), 3, "nowhere.png"),
        (kontext, with(&text), 3, "text.png"),
        (kontext, with(dir.path()), 3, arg(dir.path())),
        (kontext, sized("30"), 2, "30 by 30 pixels; both sides must be multiples of 8"),
        (kontext, sized("8000000"), 2, "reference size: 8000000 by 8000000 pixels are more than"),
        (kontext, sized("0"), 2, "expected `preferred`, `own` or a number of pixels"),
        (kontext, sized("large"), 2, "expected `preferred`, `own` or a number of pixels"),
        (kontext, sized("own")[2..].to_vec(), 2, "--reference <FILE>"),
        (&flux, with(&reference), 2, "is a FLUX pipeline; leave it out"),
        (&sd, with(&reference), 2, "is a Stable Diffusion pipeline; leave it out"),
        (&vit, with(&reference), 2, "has no model_index.json; leave it out"),
        (&nowhere, with(&reference), 3, "no such model directory"),
    ];
    let out = dir.path().join("out");
    for command in ["attend", "show"] {
        for (model, extra, code, said) in &cases {
            let mut args = vec![command, "--model", arg(model), "--image", arg(&image), "--out", arg(&out)];
            if model != &vit {
                args.extend(["--prompt", PROMPT]);
            }
            args.extend(extra.iter().map(String::as_str));
            let message = words(&run(&args, *code));
            assert!(
                message.contains(said) && !message.contains("panicked"),
                "{command} {extra:?}: {message}"
            );
            assert_eq!(files(dir.path()), before, "{command} {extra:?}");
        }
    }
    // The reference is not overwritten.
    let whole = std::fs::read(&copied).expect("copied");
    let args = ["attend", "--model", arg(kontext), "--image", arg(&image), "--prompt", PROMPT];
    let message =
        words(&run(&[&args[..], &["--reference", arg(&copied), "--out", arg(&copied)]].concat(), 2));
    assert!(message.contains("belongs to what is read"), "{message}");
    assert_eq!(std::fs::read(&copied).expect("kept"), whole);
}

#[test]
fn experiments_refuse_kontext_by_name() {
    for class in ["FluxKontextPipeline", "FluxKontextInpaintPipeline"] {
        let (model, out) = (kontext(), scratch());
        set(&model.path().join("model_index.json"), "_class_name", json!(class));
        let path = format!("model.path={}", model.path().display());
        for command in [&["validate"][..], &["run", "--out", arg(out.path())]] {
            let args = ["configs/mini/segment.toml", "--set", &path];
            let message = words(&run(&[command, &args[..]].concat(), 3));
            for said in [class, "FLUX.1 Kontext reads a reference image", "attend and show"] {
                assert!(message.contains(said), "{message}");
            }
        }
        assert_eq!(files(out.path()), [""; 0]);
    }
}
