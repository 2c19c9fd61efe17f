//! Vision transformers of timm: what their configuration decides, and what is refused.
//!
//! `tools/golden_timm.py` makes the fixtures, `image/timm.json` included.

use std::fs;
use std::path::Path;

use models::image::{Preprocessor, Rgb8};
use models::vision::VisionTransformer;
use models::{Device, Kind, VisionConfig};
use safetensors::Dtype;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::golden::{copy, fixture};
use crate::weights::rewrite;

/// A copy of a fixture with a changed configuration.
fn changed(name: &str, change: impl FnOnce(&mut Value)) -> TempDir {
    let dir = copy(name);
    let path = dir.path().join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).expect("readable")).expect("JSON");
    change(&mut config);
    fs::write(path, config.to_string()).expect("writable");
    dir
}

fn load(dir: &Path) -> models::Result<VisionTransformer> {
    VisionTransformer::load(dir, Kind::Float, Device::Cpu, None)
}

fn refusal(dir: &Path) -> String {
    load(dir).err().expect("the network was accepted").to_string()
}

#[test]
fn networks_that_are_no_plain_vision_transformers_are_refused_by_name() {
    for (architecture, reason) in [
        ("deit_small_distilled_patch16_224", "a distillation token with a classifier of its own"),
        ("vit_base_patch16_rpn_224", "norms after attention and MLP"),
        ("vit_small_patch16_18x2_224", "several attentions side by side in a block"),
        ("vit_base_patch16_xp_224", "attention and MLP side by side"),
        ("eva02_base_patch14_448", "rotary positions"),
        ("vit_base_patch16_rope_224", "rotary positions"),
        ("vit_small_patch16_dinov3", "DINOv3 is read as transformers saves it"),
        ("swin_tiny_patch4_window7_224", "attention within windows of the image"),
        ("beit_base_patch16_224", "relative position bias"),
        ("vit_relpos_small_patch16_224", "relative position bias"),
        ("vit_base_r50_s16_224", "a convolutional network before its patches"),
        ("samvit_base_patch16", "attention within windows"),
        ("naflexvit_base_patch16_gap", "variable resolution"),
        ("aimv2_large_patch14_224", "root-mean-square norms"),
        ("vit_dwee_patch16_reg1_gap_256", "another attention (attn_layer = `diff`)"),
        ("beit3_base_patch16_224", "norms within attention or MLP"),
        ("vit_so150m_patch16_reg4_map_256", "attention pooling that leaves out CLS and registers"),
        ("resnet50", "not one of the"),
        (
            "vit_base_patch16_999",
            "the number of heads, the activation and the pooling of a network are known by its name only",
        ),
    ] {
        let dir = changed("timm-hub-vit", |config| {
            config["architecture"] = architecture.into();
            config["model_args"] = json!({});
        });
        let message = refusal(dir.path());
        assert!(message.contains(reason) && message.contains(architecture), "{architecture}: {message}");
    }
}

#[test]
fn arguments_without_a_place_in_the_network_are_refused_by_name() {
    for (key, value, reason) in [
        ("act_layer", json!("hard_swish"), "act_layer = `hard_swish`"),
        ("norm_layer", json!("rmsnorm"), "norm_layer = `rmsnorm`"),
        ("norm_layer", json!("BatchNorm2d"), "norm_layer = `batchnorm2d`"),
        ("global_pool", json!("max"), "global_pool = `max`"),
        ("pool_include_prefix", json!(true), "pool_include_prefix"),
        ("pos_embed", json!("none"), "no learned positions (pos_embed)"),
        ("scale_attn_norm", json!(true), "scale_attn_norm"),
        ("dynamic_img_pad", json!(true), "dynamic_img_pad"),
        ("features_only", json!(true), "features_only"),
        ("class_token", json!(false), "global_pool is `token`, but class_token is false"),
        ("num_heads", json!(5), "embed_dim 32 is not a multiple of num_heads 5"),
        ("num_heads", json!(0), "not a multiple of num_heads 0"),
        ("reg_tokens", json!(-1), "reg_tokens is -1"),
        ("in_chans", json!(1), "images are read as RGB"),
        ("depth", json!(1_u64 << 40), "num_hidden_layers"),
        ("use_fancy_attention", json!(true), "unknown field `use_fancy_attention`"),
        ("embed_dim", json!("wide"), "model_args: invalid type"),
    ] {
        let dir = changed("timm-hub-vit", |config| {
            config["model_args"][key] = value.clone();
            config.as_object_mut().expect("an object").remove("global_pool");
        });
        let message = refusal(dir.path());
        assert!(message.contains(reason) && message.contains("config.json"), "{key}: {message}");
    }
}

#[test]
fn a_configuration_that_contradicts_itself_or_the_weights_is_refused() {
    let dir = changed("timm-hub-vit", |config| config["global_pool"] = "avg".into());
    assert!(refusal(dir.path()).contains("timm builds `vit_tiny_patch16_224` with `token`"));
    // Without its arguments, the architecture has the published sizes.
    let dir = changed("timm-hub-vit", |config| config["model_args"] = Value::Null);
    let message = refusal(dir.path());
    assert!(message.contains("pos_embed") && message.contains("192"), "{message}");
    // Another number of heads would fit the tensors, and timm knows it by the name.
    let heads = |name: &str| {
        let dir = changed("timm-hub-bare", |config| {
            config["architecture"] = name.into();
            config["model_args"] = json!({ "final_norm": false });
        });
        load(dir.path()).err().map(|error| error.to_string())
    };
    assert!(heads("vit_base_patch16_gap_224").is_some_and(|message| message.contains("768")));
    // A norm that the architecture does not have, and one that is lost.
    let dir = changed("timm-hub-bare", |config| config["model_args"]["final_norm"] = true.into());
    assert!(refusal(dir.path()).contains("`norm.weight`"));
    let dir = changed("timm-hub-clip", |config| config["model_args"]["pre_norm"] = false.into());
    assert!(refusal(dir.path()).contains("patch_embed.proj.bias"));
    let dir = changed("timm-wrapper-deit3", |config| config["model_args"]["init_values"] = 0.0.into());
    let message = refusal(dir.path());
    assert!(
        message.contains("4 tensor(s) that this network does not use, such as `blocks.0.ls1.gamma`"),
        "{message}"
    );
    let dir = changed("timm-hub-vit", |config| config["architecture"] = Value::Null);
    assert!(refusal(dir.path()).contains("not the configuration of a network of timm"));
    let dir = changed("timm-hub-vit", |config| {
        config.as_object_mut().expect("an object").remove("pretrained_cfg");
    });
    assert!(refusal(dir.path()).contains("model_type is ``"));
}

#[test]
fn a_lost_head_and_unknown_tensors_are_refused() -> models::Result<()> {
    let headless = |name: &str| {
        let dir = copy(name);
        rewrite(&dir.path().join("model.safetensors"), |tensors| {
            tensors.retain(|tensor| !tensor.0.contains("head."));
        });
        dir
    };
    let dir = headless("timm-hub-vit");
    let message = refusal(dir.path());
    assert!(message.contains("num_classes 5") && message.contains("set num_classes to 0"), "{message}");
    let message = refusal(headless("timm-wrapper-deit3").path());
    assert!(message.contains("config.json says `TimmWrapperForImageClassification`"), "{message}");
    // The advice is right.
    let path = dir.path().join("config.json");
    let text = fs::read_to_string(&path).expect("readable");
    fs::write(&path, text.replace("\"num_classes\": 5", "\"num_classes\": 0")).expect("writable");
    assert_eq!(load(dir.path())?.classes(), None);

    for (name, extra) in [
        ("timm-hub-vit", "dist_token"),
        ("timm-hub-vit", "norm_pre.weight"),
        ("timm-hub-vit", "blocks.3.norm1.weight"),
        ("timm-wrapper-deit3", "timm_model.fc_norm.weight"),
    ] {
        let dir = copy(name);
        rewrite(&dir.path().join("model.safetensors"), |tensors| {
            tensors.push((extra.to_owned(), Dtype::F32, vec![1], vec![0; 4]));
        });
        assert!(refusal(dir.path()).contains(extra), "{name}: {extra}");
    }
    Ok(())
}

/// timm resizes the positions of a file for another size of image when it loads them, and transformers 5 refuses such a
/// file; here they are resized in every pass, as for any image of another size.
#[test]
fn the_file_decides_the_grid_of_its_positions() -> models::Result<()> {
    let dir = changed("timm-hub-vit", |config| {
        config["model_args"]["img_size"] = 48.into();
        config["pretrained_cfg"]["input_size"] = json!([3, 48, 48]);
    });
    let network = load(dir.path())?;
    let image = Rgb8::open(dir.path().join("picture.png"))?;
    let pixels = Preprocessor::from_dir(dir.path())?.apply(&image)?;
    assert_eq!(pixels.shape(), [3, 48, 48]);
    let embedded = network.embed(&models::VisionModel::batch(&[pixels])?)?;
    assert_eq!((embedded.layout.special, embedded.layout.image), (1, (6, 6)));
    Ok(())
}

#[test]
fn a_network_of_timm_says_its_sizes() -> models::Result<()> {
    let config = |name| VisionConfig::from_dir(&fixture(name));
    for (name, special, cls, classes) in [
        ("timm-hub-vit", 1, true, Some(5)),
        ("timm-hub-dinov2", 4, true, None),
        ("timm-hub-gap", 1, false, Some(3)),
        ("timm-wrapper-registers", 3, true, Some(4)),
        ("timm-wrapper-siglip", 0, false, None),
    ] {
        let config = config(name)?;
        let found = (config.special_tokens(), config.has_cls(), config.classes());
        assert_eq!(found, (special, cls, classes), "{name}");
        assert_eq!(config.shared_space(), None);
        let network = load(&fixture(name))?;
        assert_eq!((network.special_tokens(), network.has_cls(), network.classes()), found, "{name}");
    }
    Ok(())
}

#[derive(Deserialize)]
struct Transform {
    pretrained_cfg: Value,
    width: usize,
    height: usize,
    shape: [usize; 3],
    sha256: String,
}

/// Images of many sizes: resize, crop and rounding are timm's, to the bit.
#[test]
fn transforms_are_those_of_timm() {
    let text = fs::read_to_string(fixture("image").join("timm.json")).expect("a fixture");
    let cases: Vec<Transform> = serde_json::from_str(&text).expect("JSON");
    assert!(cases.len() > 100, "{} cases", cases.len());
    let dir = tempfile::tempdir().expect("a scratch folder");
    for Transform { pretrained_cfg, width, height, shape, sha256 } in cases {
        let what = format!("{width}x{height} with {pretrained_cfg}");
        fs::write(dir.path().join("config.json"), json!({ "pretrained_cfg": pretrained_cfg }).to_string())
            .expect("writable");
        let data = (0..height).flat_map(|y| {
            (0..width).flat_map(move |x| (0..3).map(move |c| (31 * x + 17 * y * y + 57 * c + x * y) as u8))
        });
        let image = Rgb8::new(width, height, data.collect()).expect("an image");
        let values = Preprocessor::from_dir(dir.path()).and_then(|transform| transform.apply(&image));
        let values = values.unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(values.shape(), shape, "{what}");
        let bytes: Vec<u8> = values.into_iter().flat_map(f32::to_le_bytes).collect();
        assert_eq!(models::hex(Sha256::digest(bytes)), sha256, "{what}");
    }
}

#[test]
fn impossible_transforms_are_refused() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    for (cfg, reason) in [
        (json!({ "input_size": [1, 24, 24] }), "input_size has 1 channels"),
        (json!({ "input_size": [3, 0, 24] }), "24×0 pixels has no area"),
        (json!({ "input_size": [3, 1 << 20, 1 << 20] }), "pixels"),
        (json!({ "input_size": 224 }), "pretrained_cfg: invalid type"),
        (json!({ "interpolation": "random" }), "interpolation is `random`"),
        (json!({ "crop_pct": -0.5 }), "crop_pct is -0.5"),
        (json!({ "crop_pct": 1e-30 }), "crop_pct is"),
        (json!({ "crop_pct": 1e30 }), "crop_pct is"),
        (json!({ "crop_mode": "top" }), "crop_mode is `top`"),
        (json!({ "mean": [0.5, 0.5] }), "mean has 2 numbers"),
        (json!({ "std": [0.5, 0.0, 0.5] }), "std must be positive"),
        (json!(null), "there is no `pretrained_cfg`"),
    ] {
        let config = json!({ "model_type": "timm_wrapper", "pretrained_cfg": cfg });
        fs::write(dir.path().join("config.json"), config.to_string()).expect("writable");
        let message = Preprocessor::from_dir(dir.path()).expect_err("refused").to_string();
        assert!(message.contains(reason) && message.contains("config.json"), "{cfg}: {message}");
    }
}
