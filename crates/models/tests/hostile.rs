//! Files with false claims: each is refused with a message that names the problem, before memory is allocated for the
//! claimed size.

use std::fs;
use std::io::{Cursor, Write};
use std::path::Path;

use models::image::Rgb8;
use models::limits::MAX_PIXELS;
use models::{Device, Kind, LayerSelection, VisionConfig, Weights, matrix_file};
use serde_json::{Value, json};
use tempfile::TempDir;

fn folder(files: &[(&str, &[u8])]) -> TempDir {
    let dir = tempfile::tempdir().expect("a scratch folder");
    for (name, bytes) in files {
        fs::write(dir.path().join(name), bytes).expect("writable");
    }
    dir
}

#[track_caller]
fn assert_says(message: &str, words: &[&str]) {
    for word in words {
        assert!(message.contains(word), "`{word}` is missing from: {message:.400}");
    }
}

fn safetensors(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
}

fn entry(name: &str, shape: &str, from: u64, to: u64) -> String {
    format!(r#""{name}":{{"dtype":"F32","shape":{shape},"data_offsets":[{from},{to}]}}"#)
}

#[test]
fn hostile_safetensors_files_are_refused() {
    let entries =
        |entries: &[String], data: usize| safetensors(&format!("{{{}}}", entries.join(",")), &vec![0; data]);
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (Vec::new(), ""),
        ((1_u64 << 62).to_le_bytes().to_vec(), "header"),
        (99_000_000_u64.to_le_bytes().to_vec(), "header"),
        (entries(&[entry("a", "[2]", 0, 8), entry("b", "[2]", 4, 12)], 12), "`b`"),
        (entries(&[entry("a", "[2]", 4, 12)], 12), "`a`"),
        (entries(&[entry("a", "[4]", 0, 16)], 8), ""),
        (entries(&[entry("a", "[1]", 0, 4)], 8), ""),
        (entries(&[entry("a", "[1099511627776,1099511627776]", 0, 16)], 16), "verflow"),
        (entries(&[entry("a", "[2]", 8, 0)], 8), ""),
        (entries(&[entry("a", "[1]", 0, 4), entry("a", "[1]", 0, 4)], 4), "`a` occurs twice"),
        (entries(&[entry(&"n".repeat(600), "[1]", 0, 4)], 4), "600 bytes"),
        (safetensors(&"[".repeat(100_000), &[]), ""),
    ];
    for (bytes, word) in cases {
        let dir = folder(&[("model.safetensors", &bytes)]);
        let path = dir.path().join("model.safetensors");
        let weights = Weights::open_file(&path, Kind::Float, Device::Cpu).err().expect("weights accepted");
        assert_says(&weights.to_string(), &["model.safetensors", "download it again", word]);
        let matrices = matrix_file::read(&path, None).expect_err("matrices accepted").to_string();
        assert_says(&matrices, &["model.safetensors"]);
    }
    // A shape without elements may have any other sides; nothing is read.
    let dir = folder(&[("a.safetensors", &entries(&[entry("a", "[0,4611686018427387904]", 0, 0)], 0))]);
    let path = dir.path().join("a.safetensors");
    let weights = Weights::open_file(&path, Kind::Float, Device::Cpu).expect("whole");
    assert!(weights.get(&[1], "a").is_err());
    assert_says(&matrix_file::read(&path, None).expect_err("empty").to_string(), &["no elements"]);
}

#[test]
fn names_of_shards_stay_in_the_directory() {
    let whole = safetensors(&format!("{{{}}}", entry("a", "[1]", 0, 4)), &[0; 4]);
    let outside = folder(&[("one.safetensors", &whole)]);
    let open = |dir: &Path| Weights::open(dir, Kind::Float, Device::Cpu).map(drop).map_err(|e| e.to_string());
    let index = |shard: &str| json!({ "weight_map": { "a": shard } }).to_string();
    for shard in ["../one.safetensors", "..", ".", "", "/etc/passwd", "sub/one.safetensors", "sub/../../x"] {
        let dir = folder(&[("model.safetensors.index.json", index(shard).as_bytes())]);
        let message = open(dir.path()).expect_err(shard);
        assert_says(&message, &["index.json", "not a file in its folder"]);
    }

    // One tensor in two files, and the index names a third for it.
    let three = json!({ "weight_map": { "a": "3.safetensors", "b": "1.safetensors", "c": "2.safetensors" } });
    let dir = folder(&[
        ("model.safetensors.index.json", three.to_string().as_bytes()),
        ("1.safetensors", &whole),
        ("2.safetensors", &whole),
        ("3.safetensors", &safetensors(&format!("{{{}}}", entry("d", "[1]", 0, 4)), &[0; 4])),
    ]);
    assert_says(&open(dir.path()).expect_err("ambiguous"), &["`a` is in", "1.safetensors", "2.safetensors"]);

    #[cfg(unix)]
    {
        use std::os::unix::fs::symlink;
        // Links are followed, as with a single file; their targets must be weights all the same.
        let dir = folder(&[("model.safetensors.index.json", index("one.safetensors").as_bytes())]);
        let link = dir.path().join("one.safetensors");
        symlink(outside.path().join("one.safetensors"), &link).expect("a link");
        open(dir.path()).expect("a link to a shard");
        for other in ["/etc/passwd", "/dev/zero", "/dev"] {
            fs::remove_file(&link).expect("writable");
            symlink(other, &link).expect("a link");
            assert_says(&open(dir.path()).expect_err(other), &["one.safetensors"]);
        }

        // The layout of the hub's cache, also for a component of a pipeline, and through a link to the folder.
        let hub = tempfile::tempdir().expect("a scratch folder");
        let snapshot = hub.path().join("models--a--b/snapshots/0123/unet");
        fs::create_dir_all(&snapshot).expect("writable");
        let blobs = hub.path().join("models--a--b/blobs");
        fs::create_dir_all(&blobs).expect("writable");
        fs::write(blobs.join("abc"), &whole).expect("writable");
        fs::write(snapshot.join("model.safetensors.index.json"), index("one.safetensors")).expect("writable");
        symlink("../../../blobs/abc", snapshot.join("one.safetensors")).expect("a link");
        open(&snapshot).expect("a snapshot");
        symlink(&snapshot, hub.path().join("mine")).expect("a link");
        open(&hub.path().join("mine")).expect("a link to a snapshot");
    }
}

#[test]
fn hostile_npy_files_are_refused() {
    let file = |header: &str, length: usize| {
        [b"\x93NUMPY\x02\x00", &(length as u32).to_le_bytes()[..], header.as_bytes()].concat()
    };
    let of = |rest: &str| {
        let header = format!("{{'descr': '<f8', {rest}}}");
        file(&header, header.len())
    };
    for (bytes, word) in [
        (file("{", u32::MAX as usize), "4294967295 bytes"),
        (of("'fortran_order': False, 'shape': (1099511627776, 1099511627776)"), "larger than any memory"),
        (of("'fortran_order': True, 'shape': (100000, 100000)"), "truncated"),
        (of(&format!("'fortran_order': False, 'shape': ({})", "1,".repeat(99))), "64 dimensions"),
        (of("'fortran_order': False, 'shape': (-1, 2)"), "other than sizes"),
        (of("'fortran_order': False, 'shape': (0, 0)"), "no elements"),
        (of("'shape': (2, 2)"), "lacks"),
        (b"\x93NUMPY".to_vec(), "shorter than its header"),
    ] {
        let dir = folder(&[("a.npy", &bytes)]);
        let message = matrix_file::read(dir.path().join("a.npy"), None).expect_err("accepted").to_string();
        assert_says(&message, &["a.npy", word]);
    }
}

/// An archive whose directory claims more than its data can hold, and one with a name that leads out.
#[test]
fn hostile_npz_archives_are_refused() {
    let archive = |name: &str| {
        let mut bytes = Cursor::new(Vec::new());
        let mut writer = zip::ZipWriter::new(&mut bytes);
        writer.start_file(name, Default::default()).expect("writable");
        writer.write_all(&[0; 64]).expect("writable");
        writer.finish().expect("whole");
        drop(writer);
        bytes.into_inner()
    };
    let mut lie = archive("mu.npy");
    let at = lie.windows(4).position(|window| window == b"PK\x01\x02").expect("a directory");
    lie[at + 24..at + 28].copy_from_slice(&0xffff_fff0_u32.to_le_bytes());
    for (bytes, word) in
        [(lie, "claims 4294967280 bytes"), (archive("../mu.npy"), "no tensor is called `mu`")]
    {
        let dir = folder(&[("a.npz", &bytes)]);
        let message = matrix_file::read_npz(dir.path().join("a.npz"), ["mu"]).expect_err("accepted");
        assert_says(&message.to_string(), &["a.npz", word]);
    }
}

fn png(width: u32, height: u32, rest: &[&[u8]]) -> Vec<u8> {
    let header = [&width.to_be_bytes()[..], &height.to_be_bytes(), &[8, 0, 0, 0, 0]].concat();
    [b"\x89PNG\r\n\x1a\n".to_vec(), chunk(b"IHDR", &header), rest.concat()].concat()
}

fn chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let body = [&kind[..], data].concat();
    // The checksum of PNG, bit by bit.
    let crc = body.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| crc >> 1 ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 })
    });
    [&(data.len() as u32).to_be_bytes()[..], &body, &(!crc).to_be_bytes()].concat()
}

/// Zeros, stored or all but, as zlib writes them; at most 65,535.
fn zeros(count: u16) -> Vec<u8> {
    let stored = [&[0x78, 0x01, 1][..], &count.to_le_bytes(), &(!count).to_le_bytes()].concat();
    // Adler-32 of zeros: 1 and, after each, one more.
    let sum = ((u32::from(count) % 65521) << 16) | 1;
    [stored, vec![0; count.into()], sum.to_be_bytes().to_vec()].concat()
}

#[test]
fn images_that_claim_more_pixels_than_their_file_can_hold_are_refused() {
    let fixture = |name: &str| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/image/pictures");
        fs::read(folder.join(name)).expect("a fixture")
    };
    let end = chunk(b"IEND", &[]);
    let data = chunk(b"IDAT", &zeros(72));
    let whole = png(8, 8, &[&data, &end]);
    assert_eq!(Rgb8::decode(&whole).expect("whole").data, [0; 192]);
    // Text and colour profiles are not unpacked at all.
    let big = chunk(b"zTXt", &[b"k\0\0".to_vec(), zeros(65535)].concat());
    assert!(Rgb8::decode(&png(8, 8, &[&big, &data, &end])).is_ok());

    let mut wide = fixture("420-progressive.jpg");
    let frame = wide.windows(2).position(|pair| pair == [0xff, 0xc2]).expect("a progressive frame");
    let mut area = wide.clone();
    wide[frame + 5..frame + 9].copy_from_slice(&[0xff, 0xdc, 0xff, 0xdc]);
    area[frame + 5..frame + 9].copy_from_slice(&[0x30, 0, 0x30, 0]);
    let mut scans = fixture("420-progressive.jpg");
    let at = scans.len() - 2;
    scans.splice(at..at, [0xff, 0xda, 0, 8, 1, 1, 0, 0, 63, 0].repeat(300));

    let limit = MAX_PIXELS.to_string();
    for (bytes, word) in [
        (png(100_000, 100_000, &[&data, &end]), limit.as_str()),
        (png(13_000, 13_000, &[&data, &end]), "truncated"),
        (png(0, 8, &[&data, &end]), ""),
        (png(8, 8, &[&chunk(b"IDAT", &zeros(7)), &end]), "PNG"),
        (png(8, 8, &[]), "truncated"),
        (whole[..40].to_vec(), "truncated"),
        (wide, limit.as_str()),
        (area, "truncated"),
        (scans, "scans"),
    ] {
        let message = Rgb8::decode(&bytes).expect_err("accepted").to_string();
        assert_says(&message, &[word]);
    }
    // Surplus samples are not kept.
    if let Ok(picture) = Rgb8::decode(&png(8, 8, &[&chunk(b"IDAT", &zeros(65535)), &end])) {
        assert_eq!(picture.data.len(), 192);
    }
}

#[test]
fn configurations_with_absurd_numbers_are_refused() {
    let with = |model_type: &str, key: &str, value: Value| {
        let mut config = json!({ "model_type": model_type });
        config[key] = value;
        config.to_string()
    };
    let vit = |key: &str, value: Value| with("vit", key, value);
    let dinov3 = |key: &str, value: Value| with("dinov3_vit", key, value);
    let huge = json!(1_u64 << 60);
    for (text, words) in [
        (vit("num_hidden_layers", huge.clone()), ["num_hidden_layers is 1152921504606846976", "1024"]),
        (vit("num_attention_heads", json!(0)), ["num_attention_heads is 0", "download"]),
        (vit("hidden_size", huge.clone()), ["hidden_size is", "download"]),
        (vit("hidden_size", json!(-768)), ["hidden_size is -768", "download"]),
        (vit("patch_size", json!(0)), ["not the configuration", "found 0"]),
        (vit("image_size", json!([1_u64 << 62, 224])), ["image_size is 4611686018427387904", "download"]),
        (vit("layer_norm_eps", json!(-1.0)), ["layer_norm_eps is -1", "finite number"]),
        (vit("intermediate_size", huge), ["intermediate_size is", "download"]),
        (r#"{"model_type": "vit", "layer_norm_eps": NaN}"#.to_owned(), ["not the configuration", "line 1"]),
        (r#"{"model_type": "vit", "layer_norm_eps": 1e999}"#.to_owned(), ["not the configuration", "line 1"]),
        (dinov3("num_attention_heads", json!(64)), ["a head is 6 wide", "multiple of 4"]),
        (dinov3("num_attention_heads", json!(0)), ["num_attention_heads is 0", "download"]),
        (dinov3("rope_theta", json!(0)), ["rope_theta is 0", "finite number"]),
        (dinov3("num_register_tokens", json!(-1)), ["num_register_tokens is -1", "download"]),
        (
            r#"{"model_type": "siglip", "vision_config": {"intermediate_size": -1}}"#.to_owned(),
            ["intermediate_size is -1", "download"],
        ),
        (r#"{"model_type": "siglip2"}"#.to_owned(), ["model_type is `siglip2`", "NaFlex"]),
        ("[".repeat(100_000), ["not the configuration", "line 1"]),
        (format!("{{{}}}", " ".repeat(5 << 20)), ["cannot read", "5242882 bytes"]),
    ] {
        let dir = folder(&[("config.json", text.as_bytes())]);
        let message = VisionConfig::from_dir(dir.path()).expect_err("accepted").to_string();
        assert_says(&message, &["config.json"]);
        assert_says(&message, &words);
    }
    let weights = safetensors(&format!("{{{}}}", entry("a", "[1]", 0, 4)), &[0; 4]);
    let dir = folder(&[("config.json", br#"{"model_type": "vit"}"#), ("model.safetensors", &weights)]);
    let config = VisionConfig::from_dir(dir.path()).expect("the usual ViT");
    assert_eq!(LayerSelection::All.resolve(config.depth()).expect("all").len(), 12);
}

/// Each configuration of a fixture with one number changed.
#[test]
fn pipeline_configurations_with_absurd_numbers_are_refused() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    type Read = fn(&Path) -> models::Result<()>;
    let unet: Read = |dir| models::sd::UnetConfig::from_dir(dir).map(drop);
    let vae: Read = |dir| models::vae::AutoencoderConfig::from_dir(dir).map(drop);
    let flux: Read = |dir| models::flux::FluxConfig::from_dir(dir).map(drop);
    let t5: Read = |dir| models::t5::T5Config::from_dir(dir).map(drop);
    let sampler: Read = |dir| models::diffusion::SamplerConfig::from_dir(dir, None).map(drop);
    let flow: Read = |dir| models::flow_match::FlowMatchConfig::from_dir(dir).map(drop);
    let (network, scheduler) = ("config.json", "scheduler_config.json");
    let cases: [(&str, &str, Read, &[&str]); 6] = [
        (
            "unet-sd1",
            network,
            unet,
            &["layers_per_block", "transformer_layers_per_block", "cross_attention_dim"],
        ),
        ("vae-sd", network, vae, &["layers_per_block", "latent_channels", "norm_num_groups"]),
        (
            "flux-dev",
            network,
            flux,
            &["num_layers", "attention_head_dim", "patch_size", "joint_attention_dim"],
        ),
        ("t5-gated", network, t5, &["num_layers", "d_kv", "vocab_size", "relative_attention_num_buckets"]),
        ("sd-pipeline/scheduler", scheduler, sampler, &["num_train_timesteps", "steps_offset"]),
        ("flux-pipeline/scheduler", scheduler, flow, &["num_train_timesteps"]),
    ];
    for (fixture, file, read, keys) in cases {
        let text = fs::read_to_string(fixtures.join(fixture).join(file)).expect("a fixture");
        let config: Value = serde_json::from_str(&text).expect("JSON");
        for key in keys {
            for number in [json!(1_u64 << 60), json!(-3)] {
                let mut changed = config.clone();
                changed[key] = number;
                let dir = folder(&[(file, changed.to_string().as_bytes())]);
                let message = read(dir.path()).expect_err(key).to_string();
                assert_says(&message, &[file]);
            }
        }
        let dir = folder(&[(file, text.as_bytes())]);
        read(dir.path()).unwrap_or_else(|error| panic!("{fixture} as it is: {error}"));
    }
}

#[test]
fn tokenizers_with_absurd_tables_are_refused() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let text = fs::read_to_string(fixtures.join("t5-tokenizer/tokenizer.json")).expect("a fixture");
    let mut file: Value = serde_json::from_str(&text).expect("JSON");
    // Sizes of tries: 4 GiB, none, one unit that points far away.
    for (table, word) in
        [("/////w==", "claims a trie"), ("AAAAAA==", "out of its trie"), ("?", "not valid base64")]
    {
        file["normalizer"] = json!({ "type": "Precompiled", "precompiled_charsmap": table });
        let dir = folder(&[("tokenizer.json", file.to_string().as_bytes())]);
        let message = models::t5::Tokenizer::from_dir(dir.path(), None).expect_err("accepted").to_string();
        assert_says(&message, &["tokenizer.json", "precompiled_charsmap", word, "download the file again"]);
    }
    let deep = "[".repeat(100_000);
    let dir = folder(&[("tokenizer.json", deep.as_bytes())]);
    let message = models::t5::Tokenizer::from_dir(dir.path(), None).expect_err("accepted").to_string();
    assert_says(&message, &["tokenizer.json", "not the tokenizer of T5", "download the file again"]);
    let deep = format!("{{\"model\": {}", "[".repeat(100_000));
    let dir = folder(&[("tokenizer.json", deep.as_bytes())]);
    let message = models::clip::Tokenizer::from_dir(dir.path()).expect_err("accepted").to_string();
    assert_says(&message, &["tokenizer.json", "download the file again"]);
}
