//! `attend` of a Stable Diffusion pipeline: one with random weights.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;

use crate::attend::{read, read_ids};
use crate::common::{arg, root, run, words};
use crate::flux::{blocks, metadata};
use crate::show::{self, files};

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
    let message = words(&run(
        &["show", "--model", arg(&sd), "--image", arg(&image), "--prompt", "x", "--out", arg(&out)],
        3,
    ));
    assert!(message.contains("runs the parts of FluxPipeline"), "{message}");
}
