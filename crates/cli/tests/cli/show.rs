//! `tokenrank show`: every network gets its pictures, and the numbers beside them are right.

use std::path::{Path, PathBuf};

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

use crate::browser::Browser;
use crate::common::{arg, root, run, words};

/// What is always there; `metastable.png` too, where the chain is small enough.
pub const FILES: [&str; 8] = [
    "bounces.png",
    "tokenrank-layers.png",
    "lambda2.png",
    "lambda2-histogram.png",
    "metastable.png",
    "convergence.png",
    "index.html",
    "show.json",
];

fn fixture(name: &str) -> PathBuf {
    root().join("crates/models/tests/fixtures").join(name)
}

pub fn json(out: &Path) -> Value {
    let text = std::fs::read_to_string(out.join("show.json")).expect("written");
    serde_json::from_str(&text).expect("JSON")
}

pub fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().expect("a list").iter().map(|value| value.as_f64().expect("a number")).collect()
}

pub fn files(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("listed").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

pub fn sorted(names: &[&str]) -> Vec<String> {
    let mut names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    names.sort();
    names
}

/// A scene that the miniature was not trained on, as a file.
fn scene(dir: &Path) -> PathBuf {
    let spec = tasks::mini::SceneSpec::new(64, 2..=2).expect("a spec");
    tasks::mini::export(dir, &spec, 0, tasks::mini::Split::Val, 1).expect("drawn");
    dir.join("images/000000.png")
}

#[test]
fn the_miniature_with_everything() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let image = scene(dir.path());
    let out = dir.path().join("new/folder");
    let model = root().join("datasets/mini/models/vit");
    let base = ["show", "--model", arg(&model), "--image", arg(&image), "--out", arg(&out)];
    let output = run(&[&base[..], &["--patch", "0,1", "--bounces", "4", "--sets", "3"]].concat(), 0);
    assert_eq!(files(&out), sorted(&FILES));
    let summary = String::from_utf8(output.stdout).expect("text");
    for word in
        ["vit · 000000", "bounces from", "patch 0,1, token 2", "λ₂", "CLS", "set 3", "stays by chance"]
    {
        assert!(summary.contains(word), "{word} is not in\n{summary}");
    }
    let listed = String::from_utf8(output.stderr).expect("text");
    assert!(FILES.iter().all(|file| listed.contains(&format!("written: {}", out.join(file).display()))));
    for file in FILES.iter().filter(|file| file.ends_with(".png")) {
        assert!(std::fs::read(out.join(file)).expect(file).starts_with(b"\x89PNG"), "{file}");
    }
    assert!(std::fs::read_to_string(out.join("index.html")).expect("a page").starts_with("<!"));

    let found = json(&out);
    assert_eq!(found["settings"]["start"]["token"], 2);
    assert_eq!(found["forward"].as_array().expect("a list").len(), 4);
    let states = found["average"]["incoming"].as_array().expect("a list").len();
    for state in found["forward"].as_array().expect("a list").iter().chain([&found["average"]["outgoing"]]) {
        let state = numbers(state);
        assert_eq!(state.len(), states);
        assert!((state.iter().sum::<f64>() - 1.0).abs() < 1e-6);
    }
    assert_eq!(found["metastable"]["sizes"].as_array().expect("a list").len(), 3);

    // Again, into the same folder: files are replaced, others stay.
    std::fs::write(out.join("notes.txt"), "mine").expect("writable");
    run(&[&base[..], &["--token", "0", "--layers", "last:1"]].concat(), 0);
    assert_eq!(json(&out)["settings"]["start"]["name"], "CLS");
    assert_eq!(json(&out)["lambda2"].as_array().expect("a list").len(), 1);
    assert_eq!(files(&out).len(), FILES.len() + 1);
}

/// The page as the command writes it, in a browser where there is one: it draws everything and complains of nothing.
#[test]
fn the_page_opens_without_a_word_on_the_console() {
    let Some(mut browser) = Browser::start() else { return };
    let dir = tempfile::tempdir().expect("a scratch folder");
    let image = scene(dir.path());
    let prompted = ["--prompt", "a black hourglass", "--word", "hourglass"];
    for (model, extra) in [("dinov2", &[][..]), ("flux", &prompted[..])] {
        let (model, out) = (root().join("datasets/mini/models").join(model), dir.path().join(model));
        let base = ["show", "--model", arg(&model), "--image", arg(&image), "--out", arg(&out)];
        run(&[&base[..], extra].concat(), 0);
        browser.open(&out.join("index.html"));
        assert_eq!(browser.complaints, [""; 0], "the page wrote to the console");
        // The head of the list is a token of the chain.
        let text = browser.eval("document.documentElement.outerHTML");
        let text = text.as_str().expect("a page");
        assert!(text.contains("mean of layers, mean of heads"), "{}", &text[..2000.min(text.len())]);
    }
}

#[test]
fn every_fixture_network_is_shown() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    for name in [
        "vit-backbone",
        "vit-resized",
        "clip-vision",
        "dino-small",
        "dinov2-registers",
        "dinov2-backbone",
        "dinov3-plain",
        "siglip-both",
    ] {
        let (model, out) = (fixture(name), dir.path().join(name));
        let image = model.join("picture.png");
        run(&["show", "--model", arg(&model), "--image", arg(&image), "--out", arg(&out)], 0);
        assert_eq!(files(&out), sorted(&FILES), "{name}");
        if !["dinov2-registers", "dinov3-plain", "vit-resized"].contains(&name) {
            continue;
        }
        let without = dir.path().join(format!("{name}-without"));
        let base = ["show", "--model", arg(&model), "--image", arg(&image), "--out", arg(&without)];
        run(&[&base[..], &["--without-special", "--layers", "0"]].concat(), 0);
        let (all, patches) = (json(&out), json(&without));
        let special = all["settings"]["states"]["special"].as_u64().expect("a count");
        assert_eq!(special > 1, name != "vit-resized");
        let count = |found: &Value| found["average"]["incoming"].as_array().expect("a list").len() as u64;
        assert_eq!(count(&all), count(&patches) + special, "{name}");
        assert_eq!(patches["settings"]["states"]["special"], 0);
        // The same patch in the middle, whatever the chain.
        assert_eq!(all["settings"]["start"], {
            let mut start = patches["settings"]["start"].clone();
            start["state"] = (start["state"].as_u64().expect("a state") + special).into();
            start
        });
    }
}

/// λ₂ and TokenRank beside what `attend` and `rank` say of the same pass.
#[test]
fn the_numbers_are_those_of_attend_and_rank() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let model = fixture("vit-resized");
    let image = model.join("picture.png");
    let [out, maps, ranks] =
        ["out", "maps.safetensors", "ranks.safetensors"].map(|name| dir.path().join(name));
    run(&["show", "--model", arg(&model), "--image", arg(&image), "--layers", "1", "--out", arg(&out)], 0);
    run(&["attend", "--model", arg(&model), "--image", arg(&image), "--layers", "1", "--out", arg(&maps)], 0);
    let bytes = std::fs::read(&maps).expect("written");
    let file = SafeTensors::deserialize(&bytes).expect("whole");
    let probs = file.tensor("block.1.probs").expect("captured");
    let [heads, n, _] = *probs.shape() else { panic!("{:?}", probs.shape()) };
    let mut mean = vec![0.0f64; n * n];
    for (i, bytes) in probs.data().chunks(4).enumerate() {
        mean[i % (n * n)] += f64::from(f32::from_le_bytes(bytes.try_into().expect("4 bytes"))) / heads as f64;
    }
    let mean: Vec<u8> = mean.iter().flat_map(|value| value.to_le_bytes()).collect();
    let view = TensorView::new(Dtype::F64, vec![n, n], &mean).expect("a matrix");
    let mean_file = dir.path().join("mean.safetensors");
    std::fs::write(&mean_file, safetensors::serialize([("mean", view)], None).expect("serialises"))
        .expect("writable");

    let found = json(&out);
    run(&["rank", arg(&maps), "--key", "block.1.probs", "--spectrum", "2", "--out", arg(&ranks)], 0);
    let lambda = read(&ranks, "lambda");
    assert_eq!(numbers(&found["lambda2"][0]).len(), heads);
    close(&numbers(&found["lambda2"][0]), lambda.iter().skip(1).step_by(2));
    let token = found["settings"]["start"]["state"].to_string();
    for (direction, steady, states) in
        [("forward", "incoming", "forward"), ("backward", "outgoing", "backward")]
    {
        let base =
            ["rank", arg(&mean_file), "--out", arg(&ranks), "--bounces", "5", "--direction", direction];
        run(&[&base[..], &["--start", &token, "--spectrum", "2"]].concat(), 0);
        for chain in [&found["average"], &found["layers"][0]] {
            close(&numbers(&chain[steady]), &read(&ranks, "tokenrank"));
            close(&[chain["lambda2"].as_f64().expect("a number")], &read(&ranks, "lambda")[1..]);
        }
        let bounces: Vec<f64> = found[states].as_array().expect("a list").iter().flat_map(numbers).collect();
        close(&bounces, &read(&ranks, "bounces"));
    }
}

/// Values of a float64 tensor.
pub fn read(path: &Path, name: &str) -> Vec<f64> {
    let bytes = std::fs::read(path).expect("written");
    let file = SafeTensors::deserialize(&bytes).expect("whole");
    let data = file.tensor(name).expect("there").data();
    data.chunks(8).map(|bytes| f64::from_le_bytes(bytes.try_into().expect("8 bytes"))).collect()
}

#[track_caller]
pub fn close<'a>(found: &[f64], wanted: impl IntoIterator<Item = &'a f64>) {
    let wanted: Vec<f64> = wanted.into_iter().copied().collect();
    assert_eq!(found.len(), wanted.len());
    let worst = found.iter().zip(&wanted).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(worst < 1e-5, "{worst:e} apart");
}

#[test]
fn what_is_refused_leaves_nothing_behind() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let model = fixture("dinov2-registers");
    let image = model.join("picture.png");
    let nowhere = dir.path().join("nowhere");
    let broken = dir.path().join("broken.jpg");
    std::fs::write(&broken, b"\xff\xd8\xff\xe0 no more").expect("writable");
    let before = files(dir.path());
    for (model, image, extra, code, word) in [
        (&nowhere, &image, &[][..], 3, "no such model directory"),
        (&model, &nowhere, &[], 3, "nowhere"),
        (&model, &broken, &[], 3, "broken.jpg"),
        (&model, &image, &["--token", "999"], 2, "there is no token 999"),
        (
            &model,
            &image,
            &["--token", "1", "--without-special"],
            2,
            "token 1 is a special one, which was left out",
        ),
        (&model, &image, &["--patch", "99,0"], 2, "there is no patch 99,0"),
        (&model, &image, &["--patch", "7"], 2, "such as 7,12"),
        (&model, &image, &["--patch", "0,0", "--token", "3"], 2, "cannot be used with"),
        (&model, &image, &["--bounces", "0"], 2, "between 1 and 30"),
        (&model, &image, &["--sets", "13"], 2, "between 1 and 12"),
        (&model, &image, &["--alpha", "0"], 2, "(0, 1]"),
        (&model, &image, &["--alpha", "NaN"], 2, "(0, 1]"),
        (&model, &image, &["--layers", "last:9"], 2, "blocks"),
        (&model, &image, &["--image-size", "1"], 2, "smaller than one patch"),
        (&model, &image, &["--device", "tpu"], 2, "tpu"),
    ] {
        let out = dir.path().join("out");
        let base = ["show", "--model", arg(model), "--image", arg(image), "--out", arg(&out)];
        let message = words(&run(&[&base[..], extra].concat(), code));
        assert!(message.contains(word) && !message.contains("panicked"), "{message}");
        assert_eq!(files(dir.path()), before, "{extra:?}");
    }
    let base = ["show", "--model", arg(&model), "--image", arg(&image), "--out", arg(&broken)];
    let message = words(&run(&base, 2));
    assert!(message.contains("is a file; give a folder"), "{message}");
    assert_eq!(files(dir.path()), before);
}
