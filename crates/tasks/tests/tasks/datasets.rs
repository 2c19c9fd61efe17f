//! The layouts in which people have their images, and what is refused of them.

use std::fs;
use std::path::Path;

use tasks::dataset::{DatasetConfig, LabelledImage};
use tempfile::TempDir;

fn dataset(name: &str, settings: serde_json::Value) -> DatasetConfig {
    serde_json::from_value(serde_json::json!({ name: settings })).expect("a dataset table")
}

fn refusal(dataset: &DatasetConfig, classes: usize) -> String {
    dataset.items(classes).expect_err("accepted").to_string()
}

/// A folder with the named files; images need not decode to be listed.
fn folder(files: &[(&str, &str)]) -> TempDir {
    let dir = tempfile::tempdir().expect("a scratch folder");
    for (name, content) in files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("writable");
        fs::write(path, content).expect("writable");
    }
    dir
}

fn listed(items: &[LabelledImage]) -> Vec<(&str, usize)> {
    items.iter().map(|item| (item.id.as_str(), item.label)).collect()
}

fn csv(dir: &Path) -> DatasetConfig {
    dataset("folder", serde_json::json!({ "root": dir }))
}

#[test]
fn a_table_of_labels_in_any_column_order() {
    let dir = folder(&[
        ("labels.csv", "note,label,file\n\"a, b\", 2 ,one.png\n,0,sub/two.png\n"),
        ("one.png", ""),
        ("sub/two.png", ""),
    ]);
    let items = csv(dir.path()).items(3).expect("a dataset");
    assert_eq!(listed(&items), [("one.png", 2), ("sub/two.png", 0)]);
}

#[test]
fn tables_that_are_refused() {
    for (table, word) in [
        ("file,class\none.png,1\n", "no column `label`"),
        ("file,label\none.png,cat\n", "line 2: label `cat`"),
        ("file,label\none.png,-1\n", "line 2: label `-1`"),
        ("file,label\nmissing.png,1\n", "missing.png"),
        ("file,label\none.png,1\none.png,1\n", "line 3: `one.png` is listed twice"),
        ("file,label\none.png\n", "cannot be read"),
        ("file,label\n", "lists no images"),
        ("", "no column `file`"),
        ("file,label\none.png,3\n", "classes 0 to 2"),
    ] {
        let dir = folder(&[("labels.csv", table), ("one.png", "")]);
        let message = refusal(&csv(dir.path()), 3);
        assert!(message.contains(word), "{table:?}: {message}");
    }
    let empty = folder(&[]);
    assert!(refusal(&csv(empty.path()), 3).contains("labels.csv"));
    assert!(refusal(&csv(&empty.path().join("nowhere")), 3).contains("no such folder"));
}

#[test]
fn subsets_are_the_same_for_the_same_seed_and_nested() {
    let names: Vec<String> = (0..50).map(|i| format!("{i:02}.png")).collect();
    let rows: String = names.iter().map(|name| format!("{name},0\n")).collect();
    let table = format!("file,label\n{rows}");
    let mut files: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "")).collect();
    files.push(("labels.csv", &table));
    let dir = folder(&files);
    let draw = |count: usize, seed: u64| {
        let subset = serde_json::json!({ "count": count, "seed": seed });
        let items = dataset("folder", serde_json::json!({ "root": dir.path(), "subset": subset })).items(1);
        items.expect("a dataset").into_iter().map(|item| item.id).collect::<Vec<_>>()
    };
    let ten = draw(10, 0);
    assert_eq!(ten.len(), 10);
    assert_eq!(ten, draw(10, 0));
    assert_ne!(ten, draw(10, 1));
    let mut sorted = ten.clone();
    sorted.sort();
    assert_eq!(ten, sorted, "the order of the dataset is kept");
    let twenty = draw(20, 0);
    assert!(ten.iter().all(|id| twenty.contains(id)));
    let too_many = serde_json::json!({ "root": dir.path(), "subset": { "count": 51 } });
    assert!(refusal(&dataset("folder", too_many), 1).contains("between 1 and 50, the number of images"));
}

#[test]
fn imagenet_in_synset_folders() {
    let dir = folder(&[
        ("n01443537/b.JPEG", ""),
        ("n01440764/a.JPEG", ""),
        ("n01440764/notes.txt", ""),
        ("synsets.txt", "n01440764 tench\nn01443537 goldfish\n"),
    ]);
    let settings = serde_json::json!({ "root": dir.path(), "synsets": dir.path().join("synsets.txt") });
    let items = dataset("imagenet", settings).items(1000).expect("a dataset");
    assert_eq!(listed(&items), [("n01440764/a.JPEG", 0), ("n01443537/b.JPEG", 1)]);
    // Two of a thousand synsets do not tell their class indices.
    let message = refusal(&dataset("imagenet", serde_json::json!({ "root": dir.path() })), 1000);
    assert!(message.contains("2 of ImageNet's 1000") && message.contains("synsets"), "{message}");
}

#[test]
fn imagenet_in_a_flat_folder() {
    let dir = folder(&[
        ("ILSVRC2012_val_00000001.JPEG", ""),
        ("ILSVRC2012_val_00000002.JPEG", ""),
        ("val.txt", "ILSVRC2012_val_00000001.JPEG 65\nILSVRC2012_val_00000002.JPEG 970\n"),
        ("solution.csv", "ImageId,PredictionString\nILSVRC2012_val_00000002,n01443537 85 1 499 272 \n"),
        ("synsets.txt", "n01440764\nn01443537\n"),
        ("devkit.txt", "490\n361\n"),
    ]);
    let flat = |file: &str| {
        dataset(
            "imagenet",
            serde_json::json!({
                "root": dir.path(),
                "ground_truth": dir.path().join(file),
                "synsets": dir.path().join("synsets.txt"),
            }),
        )
    };
    let items = flat("val.txt").items(1000).expect("a dataset");
    assert_eq!(listed(&items), [("ILSVRC2012_val_00000001.JPEG", 65), ("ILSVRC2012_val_00000002.JPEG", 970)]);
    let items = flat("solution.csv").items(1000).expect("a dataset");
    assert_eq!(listed(&items), [("ILSVRC2012_val_00000002", 1)]);
    assert!(refusal(&flat("devkit.txt"), 1000).contains("development kit"));
    let nothing = dataset("imagenet", serde_json::json!({ "root": dir.path() }));
    assert!(refusal(&nothing, 1000).contains("ground_truth"));
}

#[test]
fn miniature_scenes_carry_their_class() {
    let items = dataset("mini", serde_json::json!({ "count": 20 })).items(10).expect("a dataset");
    for item in &items {
        let picture = item.load().expect("drawn");
        assert_eq!((picture.rgb.width, picture.rgb.height), (64, 64));
    }
    let mut labels: Vec<usize> = items.iter().map(|item| item.label).collect();
    labels.sort_unstable();
    assert_eq!(labels, (0..20).map(|i| i / 2).collect::<Vec<_>>(), "every ten scenes show each class once");
    assert!(refusal(&dataset("mini", serde_json::json!({ "count": 0 })), 10).contains("between 1 and"));
    assert!(
        refusal(&dataset("mini", serde_json::json!({ "count": 10, "size": 3 })), 10).contains("3 pixels")
    );
}

#[test]
fn images_that_cannot_be_read_are_named() {
    let dir = folder(&[("labels.csv", "file,label\nbroken.jpg,0\n"), ("broken.jpg", "no image")]);
    let items = csv(dir.path()).items(1).expect("listed");
    let Err(error) = items[0].load() else { panic!("decoded") };
    assert!(error.to_string().contains("broken.jpg"), "{error}");
}

#[test]
fn images_that_are_left_out_are_counted() {
    let webp = "RIFF\0\0\0\0WEBPVP8 ";
    let files = [
        ("n01440764/one.JPEG", ""),
        ("n01440764/two.webp", webp),
        ("n01440764/notes.txt", "no picture"),
        ("n01443537/three.bmp", "BM"),
        ("n01443537/four.jfif", "\u{7f}"),
        ("synsets.txt", "n01440764\nn01443537\n"),
    ];
    let dir = folder(&files);
    fs::write(dir.path().join("n01443537/four.jfif"), b"\xff\xd8\xff\xe0").expect("writable");
    let synsets = dir.path().join("synsets.txt");
    let dataset = dataset("imagenet", serde_json::json!({ "root": dir.path(), "synsets": synsets }));
    for _ in 0..2 {
        assert_eq!(listed(&dataset.items(2).expect("a dataset")), [("n01440764/one.JPEG", 0)]);
    }
    let said: Vec<String> = models::notes::take();
    let ours: Vec<&String> =
        said.iter().filter(|line| line.contains(dir.path().to_str().expect("a path"))).collect();
    assert_eq!(ours.len(), 1, "{said:?}");
    let words = [
        "3 images are left out (1 BMP, 1 JPEG, 1 WebP: n01440764/two.webp, n01443537/four.jfif, n01443537/three.bmp)",
        "because only files named .jpeg, .jpg or .png are read",
    ];
    assert!(words.iter().all(|word| ours[0].contains(word)), "{}", ours[0]);
}
