//! PASCAL VOC: a small tree of the same layout.

use std::path::Path;

use png::ColorType::{Grayscale, Indexed, Rgb};
use serde_json::{Value, json};
use tasks::dataset::DatasetConfig;
use tasks::dataset::segmentation::IGNORE;
use tempfile::TempDir;

use super::{classes, dataset, folder, listed, load, load_refusal, png, put, refusal};

/// Label maps of 4×2 pixels: two dogs (12) alone, a person (15) on a horse (13), only a border, a pot (16).
const MAPS: [(&str, [u8; 8]); 4] = [
    ("2007_000032", [0, 12, 12, 255, 0, 0, 12, 255]),
    ("2007_000033", [15, 15, 255, 0, 13, 13, 13, 255]),
    ("2007_000042", [0, 255, 255, 0, 0, 0, 0, 0]),
    ("2008_000001", [16, 0, 0, 0, 0, 0, 0, 0]),
];

/// JPEG files of 4×2 pixels are not needed to list images; PNG data under their name decodes all the same.
fn tree() -> TempDir {
    let dir = folder(&[]);
    let ids: String = MAPS.iter().map(|(id, _)| format!("{id}\n")).collect();
    put(dir.path(), "ImageSets/Segmentation/val.txt", ids.as_bytes());
    for (id, labels) in MAPS {
        put(dir.path(), &format!("JPEGImages/{id}.jpg"), &super::rgb(4, 2));
        put(dir.path(), &format!("SegmentationClass/{id}.png"), &png(4, Indexed, &labels));
    }
    dir
}

fn voc(root: &Path, more: Value) -> DatasetConfig {
    let mut settings = json!({ "root": root });
    if let (Some(settings), Value::Object(more)) = (settings.as_object_mut(), more) {
        settings.extend(more);
    }
    dataset("pascal-voc", settings)
}

#[test]
fn single_class_images_and_their_labels() {
    let dir = tree();
    let items = listed(&voc(dir.path(), json!({})));
    let ids: Vec<&str> = items.iter().map(|item| item.id.as_str()).collect();
    assert_eq!(ids, ["2007_000032", "2008_000001"]);
    assert_eq!(classes(&items[0]), [(12, "dog")]);
    assert_eq!(classes(&items[1]), [(16, "pot")]);
    let found = load(&items[0]);
    assert_eq!(found.labels.dim(), (2, 4));
    // Indices, not colours, and the border as it is.
    assert_eq!(found.labels.as_slice(), Some(&MAPS[0].1[..]));
    assert!(found.labels.iter().any(|&label| label == IGNORE));
    assert_eq!((found.rgb.width, found.rgb.height), (4, 2));
}

#[test]
fn all_classes_of_all_images() {
    let dir = tree();
    let items = listed(&voc(dir.path(), json!({ "protocol": "multi-class" })));
    let found: Vec<_> = items.iter().map(|item| (item.id.as_str(), classes(item))).collect();
    assert_eq!(
        found,
        [
            ("2007_000032", vec![(12, "dog")]),
            ("2007_000033", vec![(13, "horse"), (15, "person")]),
            ("2008_000001", vec![(16, "pot")]),
        ]
    );
}

#[test]
fn every_class_has_its_published_name() {
    let dir = folder(&[]);
    put(dir.path(), "ImageSets/Segmentation/train.txt", b"all");
    put(dir.path(), "JPEGImages/all.jpg", &super::rgb(7, 3));
    let labels: Vec<u8> = (0..=20).collect();
    put(dir.path(), "SegmentationClass/all.png", &png(7, Indexed, &labels));
    let items = listed(&voc(dir.path(), json!({ "protocol": "multi-class", "split": "train" })));
    let names = "plane bike bird boat bottle bus car cat chair cow table dog horse motorcycle person pot sheep sofa \
                 train monitor";
    let expected: Vec<_> = (1..).zip(names.split(' ')).collect();
    assert_eq!(classes(&items[0]), expected);
    let message = refusal(&voc(dir.path(), json!({ "split": "train" })));
    assert!(message.contains("multi-class"), "{message}");
}

#[test]
fn a_subset_is_drawn_from_the_images_of_the_protocol() {
    let dir = tree();
    let drawn = listed(&voc(dir.path(), json!({ "subset": { "count": 2 } })));
    assert_eq!(drawn.len(), 2);
    assert!(
        refusal(&voc(dir.path(), json!({ "subset": { "count": 3 } })))
            .contains("between 1 and 2, the number of images")
    );
}

#[test]
fn trees_that_are_refused() {
    let dir = folder(&[]);
    let message = refusal(&voc(dir.path(), json!({})));
    assert!(message.contains("VOCtrainval_11-May-2012.tar"), "{message}");
    for split in ["test", "../val", ""] {
        let message = refusal(&voc(tree().path(), json!({ "split": split })));
        assert!(message.contains("`trainval`"), "{split}: {message}");
    }
    type Damage = fn(&Path);
    let cases: [(Damage, &str); 6] = [
        (
            |root| std::fs::remove_file(root.join("JPEGImages/2007_000033.jpg")).expect("there"),
            "2007_000033.jpg",
        ),
        (
            |root| std::fs::remove_file(root.join("SegmentationClass/2007_000033.png")).expect("there"),
            "2007_000033.png",
        ),
        (|root| drop(put(root, "ImageSets/Segmentation/val.txt", b"\n")), "lists no images"),
        (|root| drop(put(root, "SegmentationClass/2007_000042.png", &png(4, Indexed, &[21; 8]))), "label 21"),
        (
            |root| {
                drop(put(
                    root,
                    "SegmentationClass/2007_000042.png",
                    &png(4, Rgb, &[128, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0]),
                ))
            },
            "coloured",
        ),
        (|root| drop(put(root, "SegmentationClass/2007_000042.png", b"\x89PNG\r\n\x1a\n")), "damaged"),
    ];
    for (damage, word) in cases {
        let dir = tree();
        damage(dir.path());
        let message = refusal(&voc(dir.path(), json!({})));
        assert!(message.contains(word), "{word}: {message}");
    }
}

#[test]
fn a_map_of_another_size_is_refused_when_it_is_read() {
    let dir = tree();
    put(dir.path(), "SegmentationClass/2008_000001.png", &png(2, Grayscale, &[16; 8]));
    let items = listed(&voc(dir.path(), json!({})));
    let message = load_refusal(&items[1]);
    assert!(
        message.contains("2×4") && message.contains("4×2") && message.contains("2008_000001"),
        "{message}"
    );
}
