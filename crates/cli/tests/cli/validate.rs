//! `tokenrank validate` finds what `run` would meet, and both answer for every file before anything runs.

use std::path::{Path, PathBuf};

use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::Value;

use crate::common::{arg, root, run, scratch, tokenrank, words};

const MASKING: &str = "configs/mini/masking-vit.toml";
const GUIDANCE: &str = "configs/mini/guidance.toml";

/// Few pictures, few steps, few to compare with.
const FEW: [&str; 5] = [
    "task.guidance.count=4",
    "task.guidance.steps=1",
    "dataset.mini.count=6",
    "metrics.splits=2",
    "metrics.kernel={ subsets = 2, subset_size = 3 }",
];

/// A miniature's experiment file with other words, in a folder of its own.
fn edited(dir: &Path, name: &str, config: &str, changes: &[(&str, &str)]) -> PathBuf {
    let mut text = std::fs::read_to_string(root().join(config)).expect("a miniature's experiment");
    for (from, to) in changes {
        assert!(text.contains(from), "{from} is not in {config}");
        text = text.replace(from, to);
    }
    let path = dir.join(name);
    std::fs::write(&path, text).expect("writable");
    path
}

/// Arguments of a command with settings.
fn with<'a>(words: &[&'a str], sets: &[&'a str]) -> Vec<&'a str> {
    words.iter().copied().chain(sets.iter().flat_map(|set| ["--set", set])).collect()
}

fn stdout(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn results(out: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(out.join("results.json")).expect("results")).expect("JSON")
}

#[test]
fn every_file_gets_its_answer() {
    let dir = scratch();
    let network = "path = \"datasets/mini/models/vit\"";
    let good = edited(dir.path(), "good.toml", MASKING, &[]);
    let lost = edited(dir.path(), "lost.toml", MASKING, &[(network, "path = \"no/such/network\"")]);
    let hub = edited(dir.path(), "hub.toml", MASKING, &[(network, "id = \"facebook/dino-vits16\"")]);
    let wrong = edited(dir.path(), "wrong.toml", MASKING, &[("alpha =", "alfa =")]);
    let last = edited(dir.path(), "last.toml", MASKING, &[]);
    let out = dir.path().join("out");
    let command = |verb: &str, files: &[&Path], code: i32| {
        let mut command = tokenrank();
        command.arg(verb).args(files).args(["--out", arg(&out), "--limit", "2"]).env("HF_HOME", dir.path());
        let output = command.output().expect("the binary starts");
        assert_eq!(output.status.code(), Some(code), "{}", words(&output));
        output
    };

    for verb in ["validate", "run"] {
        // A file to be changed comes before one whose network is to be got.
        let output = command(verb, &[&lost, &good, &wrong, &hub, &last], 2);
        let message = words(&output);
        for word in [
            "lost.toml: no/such/network: no such model directory",
            "wrong.toml: TOML parse error",
            "unknown field `alfa`",
            "hub.toml: ",
            "tokenrank fetch",
            "2 of 5 experiments can start; not ",
        ] {
            assert!(message.contains(word), "{verb}: {word} is not in {message}");
        }
        assert!(!out.exists(), "{verb}: a run was begun");
        let ready = ["good.toml: ready, 2 items", "last.toml: ready, 2 items"];
        assert!(ready.iter().all(|word| stdout(&output).contains(word)) == (verb == "validate"));
        assert!(words(&command(verb, &[&lost, &good], 3)).contains("1 of 2 experiments can start"));
    }
    // Of one file there is nothing to tell apart.
    let message = words(&command("validate", &[&lost], 3));
    assert!(message.starts_with("no/such/network") && !message.contains("experiments"), "{message}");

    let slurm = ["slurm", arg(&lost), arg(&wrong), arg(&good), "--nodes", "1", "--out", arg(&out)];
    let message = words(&run(&slurm, 2));
    assert!(message.contains("lost.toml: no/such") && message.contains("unknown field `alfa`"), "{message}");
    assert!(!out.exists());
}

#[test]
fn a_list_is_a_list() {
    let dir = scratch();
    let out = dir.path().join("out");
    let run_with = |set: &str, code: i32| {
        run(&with(&["run", MASKING, "--limit", "12", "--out", arg(&out)], &[set]), code)
    };
    for (set, line, reason) in [
        ("task.masking.fractions=[0.0, 0.5, 0.2]", "[0.0, 0.5, 0.2]", "0.2 is listed after 0.5"),
        ("task.masking.fractions=[0.5]", "[0.5]", "at least two fractions"),
        ("task.masking.fractions=[0.0, 1.5]", "[0.0, 1.5]", "must lie in [0, 1]"),
        (
            "dataset.mini.objects=[1, 3]",
            "[1, 3]",
            "expected a table with keys among `from`, `to`, found a list",
        ),
        ("dataset.mini=[3, 0]", "[3, 0]", "found a list"),
        ("fills=[\"masking\", \"ViT\"]", "[\"masking\", \"ViT\"]", "found a list"),
    ] {
        let message = words(&run_with(set, 2));
        for word in [line, "^", reason] {
            assert!(message.contains(word), "{set}: {word} is not in {message}");
        }
        assert!(!out.exists(), "{set}: a run was begun");
    }

    // The points of the curve are those of the list, and the area is the trapezoid's over them.
    let table = stdout(&run_with("task.masking.fractions=[0.1, 0.25, 0.9]", 0));
    assert!(table.contains("over 10–90 % of the patches"), "{table}");
    let results = results(&out);
    assert_eq!(results["curves"]["fractions"], serde_json::json!([0.1, 0.25, 0.9]));
    let number = |value: &Value| value.as_f64().expect("a number");
    let unmasked = &results["metrics"][0];
    assert_eq!(unmasked["name"], "unmasked-accuracy");
    for (method, accuracy) in results["curves"]["accuracy"].as_object().expect("curves") {
        let [a, b, c] = [0, 1, 2].map(|point| number(&accuracy[point]));
        let area = (0.15 * (a + b) / 2.0 + 0.65 * (b + c) / 2.0) / 0.8 / number(&unmasked["value"]);
        let metrics = results["metrics"].as_array().expect("metrics");
        let auc = metrics.iter().find(|metric| metric["name"] == "auc" && metric["method"] == **method);
        let auc = number(&auc.expect("an area")["value"]);
        assert!((auc - area).abs() < 1e-12, "{method}: {auc}, by hand {area}");
    }
    // The same command resumes.
    assert_eq!(stdout(&run_with("task.masking.fractions=[0.1, 0.25, 0.9]", 0)), table);
}

#[test]
fn settings_without_effect_are_refused_or_said() {
    let dir = scratch();
    let out = dir.path().join("out");
    let prompt = [&FEW[..], &["task.guidance.negative_prompt=fog"]].concat();
    for verb in ["validate", "run"] {
        let message = words(&run(&with(&[verb, GUIDANCE, "--out", arg(&out)], &prompt), 2));
        for word in
            ["task.guidance.negative_prompt = \"fog\" has no effect", "guidance_scale is 1", "such as 7.5"]
        {
            assert!(message.contains(word), "{verb}: {word} is not in {message}");
        }
        assert!(!out.exists());
    }
    let guided = [&prompt[..], &["task.guidance.guidance_scale=7.5"]].concat();
    let output = run(&with(&["validate", GUIDANCE], &guided), 0);
    assert!(!words(&output).contains("no effect"), "{}", words(&output));
    let own = "task.guidance.methods=[{ sag = { alpha = 0.5 } }]";
    let message = words(&run(&with(&["validate", GUIDANCE], &[own]), 2));
    assert!(message.contains("alpha = 0.5 of `sag` has no effect"), "{message}");

    // A list of methods that was made shorter leaves settings behind, which change nothing.
    let short = ["task.masking.methods=[\"random\", \"cls\"]", "task.masking.alpha=0.5"];
    for verb in ["validate", "run"] {
        let output = run(&with(&[verb, MASKING, "--limit", "2", "--out", arg(&out)], &short), 0);
        let note = format!("{MASKING}: note: task.masking.alpha = 0.5 has no effect: none of the methods");
        assert!(words(&output).contains(&note), "{verb}: {}", words(&output));
    }
    let output = run(&["validate", MASKING], 0);
    assert_eq!(words(&output), "");
}

/// A safetensors file with tensors of these shapes.
fn tensors(path: &Path, shapes: &[(&str, &[usize])]) {
    let bytes = |shape: &[usize]| vec![0u8; 4 * shape.iter().product::<usize>()];
    let data: Vec<(&str, Vec<usize>, Vec<u8>)> =
        shapes.iter().map(|(name, shape)| (*name, shape.to_vec(), bytes(shape))).collect();
    let views = data.iter().map(|(name, shape, bytes)| {
        (*name, TensorView::new(Dtype::F32, shape.clone(), bytes).expect("a tensor"))
    });
    std::fs::write(path, safetensors::serialize(views, None).expect("serialises")).expect("written");
}

#[test]
fn a_head_that_does_not_fit_is_found_by_validate() {
    let dir = scratch();
    let head = dir.path().join("head.safetensors");
    let set = format!("model.head={}", arg(&head));
    // Width 16, four blocks.
    let backbone = "model.path=crates/models/tests/fixtures/dino-small";
    let answers = |model: &str, set: &str, code: i32| {
        let [checked, begun] = ["validate", "run"].map(|verb| {
            words(&run(&with(&[verb, MASKING, "--out", arg(&dir.path().join("out"))], &[model, set]), code))
        });
        assert_eq!(checked, begun);
        checked
    };
    type Shapes = &'static [(&'static str, &'static [usize])];
    let cases: [(Shapes, &str); 7] = [
        (&[("weight", &[10, 64])], "lacks `bias`"),
        (&[("weight", &[10, 64]), ("bias", &[10]), ("extra", &[1])], "also holds `extra`"),
        (&[("head.weight", &[10, 64]), ("head.bias", &[10])], "holds `head.bias`, `head.weight`"),
        (&[("weight", &[10, 64]), ("bias", &[11])], "`bias` the shape [11]"),
        (&[("weight", &[10, 64, 1]), ("bias", &[10])], "`weight` has shape [10, 64, 1]"),
        (&[("weight", &[10, 60]), ("bias", &[10])], "60 features does not fit a network of width 16"),
        (&[("weight", &[5, 64]), ("bias", &[5])], "the network knows classes 0 to 4"),
    ];
    for (shapes, expected) in cases {
        tensors(&head, shapes);
        let code = if expected.contains("knows classes") { 2 } else { 3 };
        let message = answers(backbone, &set, code);
        assert!(message.contains(expected), "{expected} is not in {message}");
    }
    tensors(&head, &[("weight", &[10, 64]), ("bias", &[10])]);
    run(&with(&["validate", MASKING], &[backbone, &set]), 0);

    // An array of NumPy, whatever it is called.
    for name in ["head.npy", "array.safetensors"] {
        let path = dir.path().join(name);
        std::fs::write(&path, b"\x93NUMPY\x01\0v\0{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }")
            .expect("writable");
        let message = answers(backbone, &format!("model.head={}", arg(&path)), 3);
        for word in ["a NumPy array", "`weight` [classes, features] and `bias` [classes]"] {
            assert!(message.contains(word), "{word} is not in {message}");
        }
    }
    let array = format!("model.head={}", arg(&dir.path().join("head.npy")));
    let message = answers("model.path=datasets/mini/models/clip", &array, 3);
    assert!(message.contains("go to model.class_embeddings"), "{message}");

    // A head that is not there, once, with what helps this network.
    let nowhere = dir.path().join("nowhere.safetensors");
    let lost = format!("model.head={}", arg(&nowhere));
    for (model, advice) in [
        (backbone, "dino_…_linearweights.pth"),
        ("model.path=crates/models/tests/fixtures/dinov2-backbone", "dinov2_…_linear_head.pth"),
        (
            "model.path=datasets/mini/models/clip",
            "leave model.head out and give the classes with model.zero_shot",
        ),
        ("model.path=datasets/mini/models/vit", "has a classifier of its own: leave model.head out"),
        ("model.path=no/such/network", "2 problems"),
    ] {
        let message = answers(model, &lost, 3);
        assert!(message.contains(advice), "{model}: {advice} is not in {message}");
        assert_eq!(message.matches("nowhere.safetensors: no such file").count(), 1, "{model}: {message}");
    }
}

/// A copy of a folder of a miniature.
fn copied(from: &str, to: &Path) {
    std::fs::create_dir_all(to).expect("writable");
    for entry in std::fs::read_dir(root().join(from)).expect("a miniature") {
        let path = entry.expect("a file").path();
        let name = path.file_name().expect("a name");
        if path.is_dir() {
            copied(arg(&path), &to.join(name));
        } else {
            std::fs::copy(&path, to.join(name)).expect("copied");
        }
    }
}

/// The tensors of a file, but for what `change` makes of a name and its shape.
fn rewritten(path: &Path, change: impl Fn(&str, Vec<usize>) -> Option<(String, Vec<usize>)>) {
    let bytes = std::fs::read(path).expect("weights");
    let stored = safetensors::SafeTensors::deserialize(&bytes).expect("safetensors");
    let kept: Vec<(String, Vec<usize>, Dtype, Vec<u8>)> = stored
        .iter()
        .filter_map(|(name, view)| {
            let (name, shape) = change(name, view.shape().to_vec())?;
            let length =
                shape.iter().product::<usize>() * view.data().len() / view.shape().iter().product::<usize>();
            let mut data = view.data().to_vec();
            data.resize(length, 0);
            Some((name, shape, view.dtype(), data))
        })
        .collect();
    let views = kept.iter().map(|(name, shape, dtype, data)| {
        (name.clone(), TensorView::new(*dtype, shape.clone(), data).expect("a tensor"))
    });
    std::fs::write(path, safetensors::serialize(views, None).expect("serialises")).expect("written");
}

/// A file of weights in the copy of a miniature, and the experiment that reads it.
#[test]
fn weights_that_a_network_cannot_use_are_found_by_validate() {
    let dir = scratch();
    for (config, model, file) in [
        (MASKING, "vit", "model.safetensors"),
        (GUIDANCE, "sd", "text_encoder/model.safetensors"),
        ("configs/mini/diffseg.toml", "sd", "unet/diffusion_pytorch_model.safetensors"),
        ("configs/mini/segment.toml", "flux", "transformer/diffusion_pytorch_model.safetensors"),
        ("configs/mini/segment.toml", "flux", "vae/diffusion_pytorch_model.safetensors"),
    ] {
        let copy = dir.path().join("model");
        let set = format!("model.path={}", arg(&copy));
        let fresh = || {
            if copy.exists() {
                std::fs::remove_dir_all(&copy).expect("removed");
            }
            copied(&format!("datasets/mini/models/{model}"), &copy);
        };
        fresh();
        let path = copy.join(file);
        let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let stored = safetensors::SafeTensors::deserialize(&bytes).expect("safetensors");
        let mut names: Vec<String> = stored.names().into_iter().map(str::to_owned).collect();
        names.sort();
        // A classifier that is missing is a case of its own.
        let inside = |name: &&String| name.ends_with("weight") && !name.starts_with("classifier");
        let name = names.iter().find(inside).expect("a tensor").clone();
        let refused = |expected: &str| {
            let message = words(&run(&with(&["validate", config], &[&set]), 3));
            assert!(
                message.contains(expected) && message.contains(&name),
                "{file}: {expected} is not in {message}"
            );
        };
        rewritten(&path, |own, shape| (own != name).then(|| (own.to_owned(), shape)));
        refused("has no tensor");
        fresh();
        rewritten(&path, |own, mut shape| {
            shape[0] += usize::from(own == name);
            Some((own.to_owned(), shape))
        });
        refused("has shape");
        fresh();
        run(&with(&["validate", config], &[&set]), 0);
    }
}

#[test]
fn a_reference_is_read_before_the_first_picture_is_drawn() {
    let dir = scratch();
    let (out, folder) = (dir.path().join("out"), dir.path().join("reference"));
    let spec = tasks::mini::SceneSpec::new(64, 1..=1).expect("a spec");
    tasks::mini::export(&folder, &spec, 0, tasks::mini::Split::Val, 6).expect("written");
    let scenes = "[dataset.mini]\ncount = 2000\nseed = 0";
    let of_folder = format!("[dataset.reference]\npath = {:?}", folder.join("images"));
    let labelled = format!("[dataset.folder]\nroot = {folder:?}");
    let unlabelled = edited(dir.path(), "unlabelled.toml", GUIDANCE, &[(scenes, &of_folder)]);
    let labelled = edited(dir.path(), "labelled.toml", GUIDANCE, &[(scenes, &labelled)]);
    let few: Vec<&str> = FEW.into_iter().filter(|set| !set.starts_with("dataset")).collect();
    let refused = |config: &Path, sets: &[&str], code: i32, expected: &[&str]| {
        for verb in ["validate", "run"] {
            let args = with(&[verb, arg(config), "--out", arg(&out)], &[&few[..], sets].concat());
            let message = words(&run(&args, code));
            for word in expected {
                assert!(message.contains(word), "{verb}: {word} is not in {message}");
            }
            assert!(!out.join("pictures").exists(), "{verb}: pictures were drawn");
        }
    };
    for config in [&unlabelled, &labelled] {
        run(&with(&["validate", arg(config)], &few), 0);
    }

    // Two of six, each named.
    let whole: Vec<(PathBuf, Vec<u8>)> = ["images/000002.png", "images/000004.png"]
        .map(|name| (folder.join(name), std::fs::read(folder.join(name)).expect("an image")))
        .to_vec();
    for (path, bytes) in &whole {
        std::fs::write(path, &bytes[..bytes.len() / 2]).expect("writable");
    }
    for config in [&unlabelled, &labelled] {
        refused(config, &[], 3, &["2 problems", "000002.png", "000004.png"]);
    }
    for (path, bytes) in &whole {
        std::fs::write(path, bytes).expect("writable");
    }

    // Sets that have no distance.
    refused(&unlabelled, &["task.guidance.count=1"], 2, &["task.guidance.count", "at least 2"]);
    let alone = dir.path().join("alone");
    std::fs::create_dir(&alone).expect("writable");
    std::fs::copy(&whole[0].0, alone.join("one.png")).expect("copied");
    let one = format!("dataset.reference.path={}", arg(&alone));
    refused(&unlabelled, &[&one], 2, &["the reference has 1 image", "at least 2"]);

    // Features of another network.
    let features = dir.path().join("features.safetensors");
    let images = folder.join("images");
    let kept = ["metrics", "--generated", arg(&images), "--reference", arg(&images)];
    let clip = ["--features", "clip:datasets/mini/models/clip", "--save-reference", arg(&features)];
    run(&[&kept[..], &clip].concat(), 0);
    let other = format!("dataset.reference.path={}", arg(&features));
    refused(&unlabelled, &[&other], 2, &["features.safetensors", "two networks cannot be compared"]);

    // What metrics will not be asked for, before a night of drawing.
    let sets = [&few[..], &["task.guidance.count=3", "metrics.splits=10", "metrics.kernel.subset_size=100"]]
        .concat();
    let output = run(&with(&["validate", arg(&unlabelled)], &sets), 0);
    for word in ["note: no Inception Score: metrics.splits is 10, and 3 images", "subsets of 3 instead of"] {
        assert!(words(&output).contains(word), "{word} is not in {}", words(&output));
    }
}
