//! Refusals, edge cases and properties. Equality with Pillow and `transformers` is tested in `tests/models/image_golden.rs`.
#![allow(clippy::unwrap_used)]

use std::fs;

use proptest::prelude::*;

use super::*;

fn jpeg_fixture() -> Vec<u8> {
    fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/image/pictures/420-progressive.jpg"))
        .unwrap()
}

fn png_fixture() -> Vec<u8> {
    fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/image/pictures/rgb8-interlaced.png"))
        .unwrap()
}

#[track_caller]
fn refusal<T: std::fmt::Debug>(result: Result<T, ImageError>) -> String {
    result.unwrap_err().to_string()
}

#[track_caller]
fn assert_says(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "`{part}` is missing from: {message}");
    }
}

#[test]
fn other_formats_are_refused_by_name() {
    for (bytes, format) in [
        (&b"GIF89a\x01\0\x01\0"[..], "GIF"),
        (b"BM\x46\0\0\0", "BMP"),
        (b"RIFF\x24\0\0\0WEBPVP8 ", "WebP"),
        (b"II*\0\x08\0\0\0", "TIFF"),
        (b"\0\0\0\x1cftypavif\0\0\0\0", "AVIF"),
        (b"P6 1 1 255\nabc", "PNM"),
    ] {
        let message = refusal(Rgb8::decode(bytes));
        assert_says(&message, &[&format!("this is a {format} file"), "Convert it"]);
    }
    for bytes in [&b""[..], b"hello", b"\xff\xd8", b"\x89PNG"] {
        assert_says(&refusal(Rgb8::decode(bytes)), &["not an image"]);
    }
}

#[test]
fn errors_name_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing.jpg");
    assert_says(&refusal(Rgb8::open(&missing)), &["missing.jpg", "cannot be read"]);
    let cut = folder.path().join("cut.jpg");
    fs::write(&cut, &jpeg_fixture()[..500]).unwrap();
    assert_says(&refusal(Rgb8::open(&cut)), &["cut.jpg", "truncated"]);
}

#[test]
fn absurd_sizes_are_refused_before_decoding() {
    // A file of a few hundred bytes claims 65,500 × 65,500 pixels.
    let mut jpeg = jpeg_fixture();
    let frame = jpeg.windows(2).position(|marker| marker == [0xff, 0xc2]).unwrap();
    jpeg[frame + 5..frame + 9].copy_from_slice(&[0xff, 0xdc, 0xff, 0xdc]);
    assert_says(&refusal(Rgb8::decode(&jpeg)), &["65500×65500", "178956970"]);

    let mut png = png_fixture();
    for (side, parts) in [(65_536_u32, ["65536×65536", "limit"]), (12_000, ["PNG", "truncated"])] {
        png[16..20].copy_from_slice(&side.to_be_bytes());
        png[20..24].copy_from_slice(&side.to_be_bytes());
        let crc = crc32(&png[12..29]);
        png[29..33].copy_from_slice(&crc.to_be_bytes());
        assert_says(&refusal(Rgb8::decode(&png)), &parts);
    }

    assert_says(&refusal(Rgb8::decode_within(&jpeg_fixture(), 61 * 47 - 1)), &["61×47", "2866"]);
    assert!(Rgb8::decode_within(&jpeg_fixture(), 61 * 47).is_ok());

    let line = Rgb8::new(100_000, 1, vec![7; 300_000]).unwrap();
    let rule = ResizeRule::ShortestEdge { shortest: 224, longest: None };
    let message = refusal(resize(&line, rule.target((100_000, 1)), Resample::Bilinear));
    assert_says(&message, &["22400000×224"]);
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & 0_u32.wrapping_sub(crc & 1)))
    })
}

#[test]
fn inconsistent_images_and_empty_sizes_are_refused() {
    assert_says(&refusal(Rgb8::new(2, 2, vec![0; 11])), &["11 bytes", "12"]);
    assert_says(&refusal(Rgb8::new(0, 2, vec![])), &["0×2"]);
    let broken = Rgb8 { width: 4, height: 4, data: vec![0; 3] };
    assert_says(&refusal(resize(&broken, (2, 2), Resample::Box)), &["3 bytes"]);
    assert_says(&refusal(center_crop(&broken, (2, 2))), &["3 bytes"]);
    let fine = Rgb8::new(2, 2, vec![9; 12]).unwrap();
    assert_says(&refusal(resize(&fine, (0, 2), Resample::Nearest)), &["0×2"]);
    assert_says(&refusal(center_crop(&fine, (2, 0))), &["2×0"]);
}

#[test]
fn with_size_resizes_directly_and_keeps_the_rest() {
    let clip = Preprocessor::from_json(r#"{"image_processor_type": "CLIPImageProcessor"}"#, None).unwrap();
    assert_eq!(clip.output_size(), Some((224, 224)));
    let larger = clip.with_size(30, 40).unwrap();
    assert_eq!(larger.output_size(), Some((30, 40)));
    assert_eq!(larger.resample(), Resample::Bicubic);
    let image = Rgb8::decode(&jpeg_fixture()).unwrap();
    let values = larger.apply(&image).unwrap();
    assert_eq!(values.shape(), [3, 30, 40]);
    // The pixels equal those of a resize by hand, normalised as CLIP does.
    let resized = resize(&image, (40, 30), Resample::Bicubic).unwrap();
    let red = (f64::from(resized.data[0]) / 255.0 - 0.481_454_66) / 0.268_629_54;
    assert!((f64::from(values[[0, 0, 0]]) - red).abs() < 1e-6);
    assert!(clip.with_size(0, 40).is_err());
}

#[test]
fn model_directories_are_read_as_transformers_reads_them() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    assert_says(
        &refusal(Preprocessor::from_dir(folder.path())),
        &["preprocessor_config.json", "no such file"],
    );

    // Without a class, the model decides. A bare size is a square for ViT and the shortest edge for DINOv2.
    write("preprocessor_config.json", r#"{"size": 96, "do_center_crop": false}"#);
    assert_says(
        &refusal(Preprocessor::from_dir(folder.path())),
        &["image_processor_type", "ViTImageProcessor"],
    );
    write("config.json", r#"{"model_type": "vit"}"#);
    let vit = Preprocessor::from_dir(folder.path()).unwrap();
    assert_eq!(vit.resize_rule(), Some(ResizeRule::Exact { height: 96, width: 96 }));
    assert_eq!(vit.resample(), Resample::Bilinear);
    write("config.json", r#"{"model_type": "dinov2"}"#);
    let dino = Preprocessor::from_dir(folder.path()).unwrap();
    assert_eq!(dino.resize_rule(), Some(ResizeRule::ShortestEdge { shortest: 96, longest: None }));
    assert_eq!(dino.output_size(), None);
    write("config.json", r#"{"model_type": "bert"}"#);
    assert_says(&refusal(Preprocessor::from_dir(folder.path())), &["bert"]);

    // Newer checkpoints keep it inside processor_config.json.
    write("processor_config.json", r#"{"image_processor": {"image_processor_type": "DeiTImageProcessor"}}"#);
    assert_eq!(Preprocessor::from_dir(folder.path()).unwrap().output_size(), Some((224, 224)));
    // The tokenizer's part alone does not count.
    write("processor_config.json", r#"{"processor_class": "CLIPProcessor"}"#);
    assert_says(&refusal(Preprocessor::from_dir(folder.path())), &["bert"]);

    write("preprocessor_config.json", "{");
    assert_says(
        &refusal(Preprocessor::from_dir(folder.path())),
        &["preprocessor_config.json", "not valid JSON"],
    );
}

#[test]
fn unusable_configurations_are_refused_with_the_key() {
    let vit = |rest: &str| format!(r#"{{"image_processor_type": "ViTImageProcessor"{rest}}}"#);
    let dinov3 = |rest: &str| format!(r#"{{"image_processor_type": "DINOv3ViTImageProcessorFast"{rest}}}"#);
    for (text, parts) in [
        (
            r#"{"image_processor_type": "SamImageProcessor"}"#.to_owned(),
            &["SamImageProcessor", "CLIPImageProcessor"][..],
        ),
        (
            r#"{"feature_extractor_type": "Wav2Vec2FeatureExtractor"}"#.to_owned(),
            &["Wav2Vec2FeatureExtractor"],
        ),
        (r#"{"image_processor_type": 3}"#.to_owned(), &["image_processor_type", "3"]),
        ("[]".to_owned(), &["object"]),
        (vit(r#", "size": {"longest_edge": 224}"#), &["`size`", "longest_edge"]),
        (vit(r#", "size": {"height": 224}"#), &["`size`"]),
        (vit(r#", "size": {"height": 0, "width": 224}"#), &["`size`", "at least 1"]),
        (vit(r#", "size": {"height": 24, "width": 24, "depth": 2}"#), &["depth"]),
        (vit(r#", "size": -5"#), &["`size`", "-5"]),
        (vit(r#", "size": "large""#), &["`size`", "large"]),
        (vit(r#", "size": 99999999999999"#), &["`size`"]),
        (vit(r#", "do_center_crop": true"#), &["crop_size"]),
        (vit(r#", "do_center_crop": true, "crop_size": {"shortest_edge": 8}"#), &["crop_size", "height"]),
        (vit(r#", "resample": 9"#), &["`resample`", "9", "bicubic"]),
        (vit(r#", "do_resize": "yes""#), &["do_resize", "true or false"]),
        (vit(r#", "do_pad": true"#), &["do_pad"]),
        (vit(r#", "rescale_factor": "x""#), &["rescale_factor"]),
        (vit(r#", "image_mean": [0.5, 0.5]"#), &["image_mean"]),
        (vit(r#", "image_std": [0.5, 0.0, 0.5]"#), &["image_std"]),
        (dinov3(r#", "resample": 1"#), &["filters other than bilinear", "DINOv3ViTImageProcessor"]),
        (dinov3(r#", "do_rescale": false"#), &["`do_rescale`", "no published model"]),
        (
            dinov3(r#", "do_center_crop": true, "crop_size": 224"#),
            &["`do_center_crop`", "no published model"],
        ),
    ] {
        assert_says(&refusal(Preprocessor::from_json(&text, None)), parts);
    }
    let by_name = Preprocessor::from_json(&vit(r#", "resample": "LANCZOS""#), None).unwrap();
    assert_eq!(by_name.resample(), Resample::Lanczos);
}

fn filters() -> impl Strategy<Value = Resample> {
    prop::sample::select(Resample::ALL.to_vec())
}

fn images() -> impl Strategy<Value = Rgb8> {
    (1_usize..40, 1_usize..40).prop_flat_map(|(width, height)| {
        prop::collection::vec(any::<u8>(), width * height * 3).prop_map(move |data| Rgb8 {
            width,
            height,
            data,
        })
    })
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..600), start in 0_usize..3) {
        let magic: &[u8] = [&b"\xff\xd8\xff"[..], b"\x89PNG\r\n\x1a\n", b""][start];
        let _ = Rgb8::decode_within(&[magic, &bytes].concat(), 1 << 20);
    }

    #[test]
    fn damaged_files_never_panic_and_keep_their_promises(
        png in any::<bool>(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        keep in any::<prop::sample::Index>(),
        cut in any::<bool>(),
    ) {
        let mut bytes = if png { png_fixture() } else { jpeg_fixture() };
        for (index, value) in damage {
            let at = index.index(bytes.len());
            bytes[at] = value;
        }
        if cut {
            bytes.truncate(keep.index(bytes.len()));
        }
        if let Ok(image) = Rgb8::decode_within(&bytes, 1 << 20) {
            prop_assert_eq!(image.data.len(), image.width * image.height * 3);
        }
    }

    #[test]
    fn arbitrary_configurations_never_panic(text in "\\PC{0,80}", key in "(size|crop_size|resample|image_mean|do_pad)") {
        let _ = Preprocessor::from_json(&text, Some("vit"));
        let _ = Preprocessor::from_json(&format!("{{\"{key}\": {text}}}"), Some("vit"));
    }

    #[test]
    fn the_same_size_is_the_same_image(image in images(), filter in filters()) {
        let same = resize(&image, (image.width, image.height), filter).unwrap();
        prop_assert_eq!(&same, &image);
        prop_assert_eq!(&center_crop(&image, (image.width, image.height)).unwrap(), &image);
    }

    #[test]
    fn resizing_stays_within_the_range_of_the_source(
        image in images(), width in 1_usize..120, height in 1_usize..120, filter in filters(),
    ) {
        let resized = resize(&image, (width, height), filter).unwrap();
        prop_assert_eq!(resized.data.len(), width * height * 3);
        // Filters without negative lobes stay within the range of their source.
        if matches!(filter, Resample::Nearest | Resample::Box | Resample::Bilinear | Resample::Hamming) {
            prop_assert!(resized.data.iter().max() <= image.data.iter().max());
            prop_assert!(resized.data.iter().min() >= image.data.iter().min());
        }
    }

    #[test]
    fn a_constant_image_stays_constant(
        colour in any::<[u8; 3]>(), from in (1_usize..90, 1_usize..90), to in (1_usize..90, 1_usize..90), filter in filters(),
    ) {
        let image = Rgb8 { width: from.0, height: from.1, data: colour.repeat(from.0 * from.1) };
        let resized = resize(&image, to, filter).unwrap();
        prop_assert!(resized.data.chunks_exact(3).all(|pixel| pixel == colour));
    }

    /// Floats that are resized and eight-bit samples that are resized differ by the rounding of the latter.
    #[test]
    fn both_arithmetics_see_the_same_picture(
        image in images(), width in 1_usize..24, height in 1_usize..24,
    ) {
        let read = |class: &str| {
            let text = format!(
                r#"{{"image_processor_type": "{class}", "size": {{"height": {height}, "width": {width}}},
                    "resample": 2, "do_normalize": false}}"#
            );
            Preprocessor::from_json(&text, None).unwrap().apply(&image).unwrap()
        };
        let (floats, bytes) = (read("DINOv3ViTImageProcessor"), read("ViTImageProcessor"));
        prop_assert_eq!(floats.dim(), (3, height, width));
        for (float, byte) in floats.iter().zip(&bytes) {
            // Each of two passes rounds to eight bits.
            prop_assert!((float - byte).abs() < 1.1 / 255.0, "{float} {byte}");
        }
    }

    #[test]
    fn cropping_undoes_padding(image in images(), wider in 0_usize..9, higher in 0_usize..9) {
        // Only even margins come back to the same place: odd ones are rounded up when added, down when removed.
        let (width, height) = (image.width + 2 * wider, image.height + 2 * higher);
        let padded = center_crop(&image, (width, height)).unwrap();
        prop_assert_eq!(center_crop(&padded, (image.width, image.height)).unwrap(), image);
    }

    #[test]
    fn the_shortest_edge_gets_its_length(width in 1_usize..2000, height in 1_usize..2000, shortest in 1_usize..600) {
        let rule = ResizeRule::ShortestEdge { shortest, longest: None };
        let (new_width, new_height) = rule.target((width, height));
        prop_assert_eq!(new_width.min(new_height), shortest);
let kept = if width <= height { new_width <= new_height } else { new_width >= new_height };
        prop_assert!(kept);
        let exact = shortest as f64 * width.max(height) as f64 / width.min(height) as f64;
        prop_assert!((exact - new_width.max(new_height) as f64).abs() < 1.0);
    }
}

/// Pillow reads a PNG whose last chunk is missing or cut off, and refuses one that ends earlier.
#[test]
fn a_png_without_its_last_chunk_is_read() {
    let whole = png_fixture();
    let image = Rgb8::decode(&whole).unwrap();
    for missing in 1..=12 {
        let cut = &whole[..whole.len() - missing];
        assert_eq!(Rgb8::decode(cut).unwrap(), image, "{missing} bytes cut off");
    }
    for missing in [13, 16, 40] {
        assert_says(&refusal(Rgb8::decode(&whole[..whole.len() - missing])), &["truncated"]);
    }
}
