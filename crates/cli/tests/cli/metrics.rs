//! `tokenrank metrics` on miniature scenes in temporary folders.

use std::path::Path;

use insta::assert_snapshot;
use serde_json::Value;
use tasks::mini::{SceneSpec, Split, scene};

use crate::common::{arg, run, words};

/// Scenes as PNG files, all of one seed: file `k` is scene `first + k`.
fn scenes(folder: &Path, split: Split, first: u64, count: u64, size: usize) {
    std::fs::create_dir_all(folder).expect("writable");
    let spec = SceneSpec::new(size, 1..=1).expect("a scene");
    for k in 0..count {
        let picture = scene(&spec, 0, split, first + k).rgb;
        write_png(&folder.join(format!("{k:03}.png")), size, &picture);
    }
}

fn write_png(path: &Path, size: usize, rgb: &[u8]) {
    let file = std::fs::File::create(path).expect("writable");
    let mut encoder = png::Encoder::new(file, size as u32, size as u32);
    encoder.set_color(png::ColorType::Rgb);
    encoder.write_header().expect("a header").write_image_data(rgb).expect("written");
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).expect("written")).expect("JSON")
}

/// A text without what changes: the scratch folder's name, and digits after a point, which machines round differently.
fn plain(text: &[u8], folder: &Path) -> String {
    let text = String::from_utf8_lossy(text).replace(arg(folder), "…");
    let mut digits = false;
    let hide = |c: char| {
        digits = c == '.' || digits && c.is_ascii_digit();
        if digits && c != '.' { '#' } else { c }
    };
    text.chars().map(hide).collect()
}

#[test]
fn two_folders_of_scenes_by_the_miniature_vit() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let (generated, reference) = (dir.path().join("generated"), dir.path().join("reference"));
    // Folders in folders, pictures of two sizes, and files that are none.
    scenes(&generated, Split::Val, 0, 30, 64);
    scenes(&generated.join("more"), Split::Val, 30, 10, 80);
    scenes(&reference, Split::Train, 0, 50, 64);
    std::fs::write(reference.join("labels.csv"), "file,label\n").expect("writable");
    let out = dir.path().join("metrics.json");
    let cache = dir.path().join("reference.safetensors");
    let base = ["metrics", "--generated", arg(&generated), "--features", "mini"];
    let with_folder = ["--reference", arg(&reference), "--out", arg(&out)];
    let output = run(&[&base[..], &with_folder, &["--save-reference", arg(&cache)]].concat(), 0);
    assert_snapshot!(plain(&output.stdout, dir.path()), @r"
…/generated against …/reference: 40 generated, 50 reference images, features of miniature ViT
 metric                             ┆    value ┆       ± 
════════════════════════════════════╪══════════╪═════════
 class score (miniature ViT) ↑      ┆    3.### ┆   0.### 
 Fréchet distance (miniature ViT) ↓ ┆    1.### ┆       – 
 kernel distance (miniature ViT) ↓  ┆ -1.##### ┆ 0.##### 
 precision (miniature ViT) ↑        ┆    0.### ┆       – 
 recall (miniature ViT) ↑           ┆    0.### ┆       – 
± of class score (miniature ViT): standard deviation over the splits.
± of kernel distance (miniature ViT): standard deviation over 100 subsets of 40.
Kernel distance: subsets of 40 instead of 1000, since there are 40 generated and 50 reference images; values are comparable between equal subset sizes only.
");
    assert_snapshot!(plain(&output.stderr, dir.path()), @r"
features: …/reference.safetensors
results:  …/metrics.json
");
    let first = json(&out);
    assert_eq!(first["features"], "miniature ViT");
    assert_eq!(first["published_inception"], false);
    assert_eq!(first["metrics"]["kernel"]["subset_size"], 40);

    // Neither the batch nor the way to the reference's features makes a difference beyond float noise.
    let again = dir.path().join("again.json");
    run(&[&base[..], &["--reference", arg(&cache), "--out", arg(&again), "--batch", "7"]].concat(), 0);
    let again = json(&again);
    for (what, tolerance) in [
        ("/metrics/frechet", 1e-4),
        ("/metrics/kernel/mean", 1e-4),
        ("/metrics/precision_recall/precision", 0.0),
    ] {
        let [a, b] =
            [&first, &again].map(|report| report.pointer(what).and_then(Value::as_f64).expect("a number"));
        assert!((a - b).abs() <= tolerance * a.abs(), "{what}: {a} {b}");
    }
    assert_eq!(again["metrics"]["reference"], 50);

    // The same pictures on both sides.
    let same = ["--reference", arg(&generated), "--out", arg(&out), "--limit", "20"];
    run(&[&base[..], &same].concat(), 0);
    let same = json(&out);
    assert!(same["metrics"]["frechet"].as_f64().expect("a number").abs() < 1e-3);
    assert_eq!(same["metrics"]["precision_recall"]["precision"], 1.0);
    assert_eq!(same["metrics"]["generated"], 20);

    // Resamples add an interval.
    let resampled = run(&[&base[..], &["--reference", arg(&cache), "--resamples", "40"]].concat(), 0);
    assert_snapshot!(plain(&resampled.stdout, dir.path()), @r"
…/generated against …/reference.safetensors: 40 generated, 50 reference images, features of miniature ViT
 metric                             ┆    value ┆       ± ┆ 95 % from ┆     to 
════════════════════════════════════╪══════════╪═════════╪═══════════╪════════
 class score (miniature ViT) ↑      ┆    3.### ┆   0.### ┆     2.### ┆  3.### 
 Fréchet distance (miniature ViT) ↓ ┆    1.### ┆   6.### ┆     0.### ┆ 19.### 
 kernel distance (miniature ViT) ↓  ┆ -1.##### ┆ 0.##### ┆         – ┆      – 
 precision (miniature ViT) ↑        ┆    0.### ┆       – ┆         – ┆      – 
 recall (miniature ViT) ↑           ┆    0.### ┆       – ┆         – ┆      – 
± of class score (miniature ViT): standard deviation over the splits.
± of Fréchet distance (miniature ViT): standard error over 40 resamples of the generated images. Resamples have fewer different images, which raises the distance by 10.### on average; the interval is moved by as much and belongs to the distance of 40 images.
± of kernel distance (miniature ViT): standard deviation over 100 subsets of 40.
Kernel distance: subsets of 40 instead of 1000, since there are 40 generated and 50 reference images; values are comparable between equal subset sizes only.
");
}

#[test]
fn statistics_and_features_of_other_networks() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let generated = dir.path().join("generated");
    scenes(&generated, Split::Val, 0, 8, 64);
    let npz = dir.path().join("statistics.npz");
    // A standard normal distribution of as many numbers as the miniature's CLS has.
    write_npz(&npz, 64);
    let base = ["metrics", "--generated", arg(&generated)];
    let output = run(&[&base[..], &["--reference", arg(&npz), "--features", "mini"]].concat(), 0);
    assert_snapshot!(plain(&output.stdout, dir.path()), @r"
…/generated against …/statistics.npz: 8 generated, unknown reference images, features of miniature ViT
 metric                             ┆   value ┆ ± 
════════════════════════════════════╪═════════╪═══
 Fréchet distance (miniature ViT) ↓ ┆ 156.### ┆ – 
No Inception Score: the Inception Score needs at least 10 generated images, and there are 8; add images, or ask for fewer splits.
No kernel distance, precision or recall: they need the features of the reference, and it holds their mean and covariance only.
");

    // CLIP has no classes, so no score.
    let clip = crate::common::root().join("datasets/mini/models/clip");
    let cache = dir.path().join("clip.safetensors");
    let clip = format!("clip:{}", clip.display());
    let others = dir.path().join("others");
    scenes(&others, Split::Val, 8, 9, 64);
    let args = ["--reference", arg(&others), "--features", &clip, "--save-reference", arg(&cache)];
    let output = run(&[&base[..], &args].concat(), 0);
    assert_snapshot!(plain(&output.stdout, dir.path()), @r"
…/generated against …/others: 8 generated, 9 reference images, features of CLIP
 metric                    ┆     value ┆        ± 
═══════════════════════════╪═══════════╪══════════
 Fréchet distance (CLIP) ↓ ┆   150.### ┆        – 
 kernel distance (CLIP) ↓  ┆ -54.##### ┆ 16.##### 
 precision (CLIP) ↑        ┆     0.### ┆        – 
 recall (CLIP) ↑           ┆     1.### ┆        – 
± of kernel distance (CLIP): standard deviation over 100 subsets of 8.
No Inception Score: these features come without classes.
Kernel distance: subsets of 8 instead of 1000, since there are 8 generated and 9 reference images; values are comparable between equal subset sizes only.
");

    let refused = words(&run(&[&base[..], &["--reference", arg(&cache), "--features", "mini"]].concat(), 2));
    assert!(refused.contains("holds features of CLIP with weights"), "{refused}");
    assert!(
        refused.contains("numbers of two networks cannot be compared; name the same --features"),
        "{refused}"
    );
}

/// `mu` zero and `sigma` the identity, as `numpy.savez` writes them.
fn write_npz(path: &Path, width: usize) {
    use std::io::Write;
    let npy = |shape: String, values: &mut dyn Iterator<Item = f64>| {
        let header = format!("{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}");
        let header = format!("{header:117}\n");
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.as_bytes());
        values.for_each(|value| bytes.extend(value.to_le_bytes()));
        bytes
    };
    let mut zip = zip::ZipWriter::new(std::fs::File::create(path).expect("writable"));
    let identity = (0..width * width).map(|k| if k % (width + 1) == 0 { 1.0 } else { 0.0 });
    for (name, bytes) in [
        ("mu.npy", npy(format!("({width},)"), &mut std::iter::repeat_n(0.0, width))),
        ("sigma.npy", npy(format!("({width}, {width})"), &mut identity.into_iter())),
    ] {
        zip.start_file(name, zip::write::FileOptions::default()).expect("an entry");
        zip.write_all(&bytes).expect("written");
    }
    zip.finish().expect("an archive");
}

#[test]
fn what_cannot_be_compared_is_refused() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let (generated, empty) = (dir.path().join("generated"), dir.path().join("empty"));
    scenes(&generated, Split::Val, 0, 4, 64);
    std::fs::create_dir(&empty).expect("writable");
    let (nowhere, text, npz) =
        (dir.path().join("nowhere"), dir.path().join("text.txt"), dir.path().join("bad.npz"));
    std::fs::write(&text, "no pictures").expect("writable");
    std::fs::write(&npz, "no archive").expect("writable");
    let other = dir.path().join("other.safetensors");
    std::fs::copy(crate::common::root().join("datasets/mini/models/vit/model.safetensors"), &other)
        .expect("copied");
    let narrow = dir.path().join("narrow.npz");
    write_npz(&narrow, 3);
    let pickle = dir.path().join("pt_inception-2015-12-05-6726825d.pth");
    std::fs::write(&pickle, "a pickle").expect("writable");
    let pickle = format!("inception:{}", pickle.display());
    let clip = format!("clip:{}", crate::common::root().join("datasets/mini/models/vit").display());
    for (ours, theirs, features, extra, code, said) in [
        (&nowhere, &generated, "mini", &[][..], 3, "nowhere: no such folder"),
        (&empty, &generated, "mini", &[], 3, "empty: no PNG or JPEG files in this folder or below it"),
        (
            &generated,
            &nowhere,
            "mini",
            &[],
            3,
            "give a folder of images, .npz statistics or .safetensors features",
        ),
        (&generated, &text, "mini", &[], 2, "neither a folder of images, nor .npz statistics"),
        (&generated, &npz, "mini", &[], 3, "this is not a valid npz file"),
        (&generated, &narrow, "mini", &[], 3, "expected features of 3 numbers, found 64"),
        (&generated, &other, "mini", &[], 3, "--save-reference FILE` writes them"),
        (&generated, &generated, "vgg", &[], 2, "`vgg` is unknown; give inception:FILE, clip:DIR or mini"),
        (&generated, &generated, "inception", &[], 2, "needs a path: inception:FILE"),
        (&generated, &generated, "clip:", &[], 2, "names no file or folder"),
        (&generated, &generated, &pickle, &[], 3, "download it again"),
        (&generated, &generated, &clip, &[], 3, "not a CLIP"),
        (&generated, &generated, "mini", &["--limit", "1"], 3, "needs at least 2 images, and there are 1"),
        (&generated, &generated, "mini", &["--batch", "0"], 2, "give at least 1"),
        (&generated, &generated, "mini", &["--splits", "0"], 2, "splits is 0; it must be at least 1"),
        (&generated, &generated, "mini", &["--resamples", "1"], 2, "the number of resamples is 1"),
        (&generated, &generated, "mini", &["--device", "tpu"], 2, "tpu"),
        (
            &generated,
            &narrow,
            "mini",
            &["--save-reference", "x.safetensors"],
            2,
            "keeps the features of a folder",
        ),
    ] {
        let base = ["metrics", "--generated", arg(ours), "--reference", arg(theirs), "--features", features];
        let message = words(&run(&[&base[..], extra].concat(), code));
        assert!(message.contains(said) && !message.contains("panicked"), "{message}");
    }
    // A picture that is none, by its name.
    std::fs::write(generated.join("broken.png"), b"\x89PNG\r\n\x1a\n").expect("writable");
    let base =
        ["metrics", "--generated", arg(&generated), "--reference", arg(&generated), "--features", "mini"];
    let message = words(&run(&base, 3));
    assert!(message.contains("broken.png: the PNG data cannot be decoded"), "{message}");
}
