//! Datasets that give a class to every pixel: a tree of three images in COCO-Stuff's layout, one in Cityscapes', and the
//! other kinds seen that way.

use std::fs;
use std::path::Path;

use png::ColorType::{Grayscale, Indexed, Rgb};
use proptest::prelude::*;
use serde_json::{Value, json};
use tasks::dataset::segmentation::{DenseImage, IGNORE, LabelledPixels};
use tasks::mini::{Class, SceneSpec, Split, scene};
use tempfile::TempDir;

use super::{dataset, folder, png, put, rgb};

/// Three images of COCO's sizes (PNG data under the name of a JPEG decodes all the same), each with one class on the left,
/// another on the right, and nothing in the topmost row: person (fine 0, coarse 9) and sky-other (156, 23), tree (168, 22)
/// and grass (123, 22), cat (16, 7) and wall-brick (170, 18).
const COCO: [CocoImage; 3] = [
    ("000000000139", (640, 426), [0, 156], [9, 23]),
    ("000000000724", (375, 500), [168, 123], [22, 22]),
    ("000000000785", (640, 425), [16, 170], [7, 18]),
];

/// Name, width and height, and the fine and coarse classes on the left and on the right.
type CocoImage = (&'static str, (usize, usize), [u8; 2], [u8; 2]);

fn halves((width, height): (usize, usize), [left, right]: [u8; 2]) -> Vec<u8> {
    let row = || (0..width).map(|x| if x < width / 2 { left } else { right });
    std::iter::repeat_n(IGNORE, width).chain((1..height).flat_map(|_| row())).collect()
}

fn coco_tree() -> TempDir {
    let dir = folder(&[]);
    for (name, size, fine, _) in COCO {
        put(dir.path(), &format!("val2017/{name}.jpg"), &rgb(size.0, size.1));
        let map = png(size.0, Grayscale, &halves(size, fine));
        put(dir.path(), &format!("stuffthingmaps/val2017/{name}.png"), &map);
    }
    put(dir.path(), "three.txt", b"# of my own\n000000000139\n\n000000000724  \n000000000785\n");
    dir
}

fn coco(root: &Path, more: Value) -> Result<LabelledPixels, String> {
    labelled("coco-stuff", root, more)
}

fn labelled(kind: &str, root: &Path, more: Value) -> Result<LabelledPixels, String> {
    let mut settings = json!({ "root": root });
    if let (Some(settings), Value::Object(more)) = (settings.as_object_mut(), more) {
        settings.extend(more);
    }
    dataset(kind, settings).labelled_pixels().map_err(|e| e.to_string())
}

fn three(root: &Path) -> Value {
    json!({ "list": root.join("three.txt") })
}

fn ids(found: &LabelledPixels) -> Vec<&str> {
    found.items.iter().map(|item| item.id.as_str()).collect()
}

fn labels(item: &DenseImage) -> Vec<u8> {
    item.load().expect("an image with its labels").labels.into_iter().collect()
}

#[test]
fn coco_stuff_in_its_coarse_classes() {
    let dir = coco_tree();
    let found = coco(dir.path(), three(dir.path())).expect("a dataset");
    assert_eq!(found.classes.len(), 27);
    assert_eq!(ids(&found), COCO.map(|(name, ..)| name));
    for (item, (name, size, _, coarse)) in found.items.iter().zip(COCO) {
        let loaded = item.load().expect("an image");
        assert_eq!((loaded.rgb.width, loaded.rgb.height), size);
        assert_eq!(loaded.labels.dim(), (size.1, size.0));
        assert!(loaded.labels.into_iter().eq(halves(size, coarse)), "{name}");
        assert!(item.path().is_some_and(|path| path.ends_with(format!("val2017/{name}.jpg"))));
    }
    for (class, name) in [(9, "person-things"), (22, "plant-stuff"), (18, "wall-stuff")] {
        assert_eq!(found.classes[class], name);
    }
    let part = coco(
        dir.path(),
        json!({ "list": dir.path().join("three.txt"), "subset": { "count": 2, "seed": 3 } }),
    );
    assert_eq!(part.expect("a part").items.len(), 2);
}

#[test]
fn all_missing_files_of_coco_stuff_are_reported_at_once() {
    let empty = folder(&[]);
    let message = coco(empty.path(), json!({})).expect_err("accepted");
    for word in [
        "2175 images",
        "2175 pixel maps",
        "http://images.cocodataset.org/zips/val2017.zip",
        "stuffthingmaps_trainval2017.zip",
        "val2017/000000000139.jpg",
    ] {
        assert!(message.contains(word), "{word}: {message}");
    }
    // Three of the published images are there.
    let message = coco(coco_tree().path(), json!({})).expect_err("accepted");
    assert!(
        message.contains("lacks 2172 of the 2175 images") && message.contains("000000000872.jpg"),
        "{message}"
    );
    let dir = coco_tree();
    fs::remove_file(dir.path().join("stuffthingmaps/val2017/000000000724.png")).expect("there");
    let message = coco(dir.path(), three(dir.path())).expect_err("accepted");
    assert!(
        message.contains("lacks 1 of the 3 pixel maps") && message.contains("000000000724.png"),
        "{message}"
    );
    assert!(!message.contains("val2017.zip`") && !message.contains(" images ("), "{message}");
}

#[test]
fn lists_and_maps_of_coco_stuff_that_are_refused() {
    let dir = coco_tree();
    for (text, word) in [
        ("# nothing\n", "lists no images"),
        ("000000000139\n000000000139\n", "listed twice"),
        ("000000000139.jpg\n", "without extension"),
        ("../000000000139\n", "without extension"),
    ] {
        let list = put(dir.path(), "own.txt", text.as_bytes());
        let message = coco(dir.path(), json!({ "list": list })).expect_err("accepted");
        assert!(message.contains(word) && message.contains("own.txt"), "{word}: {message}");
    }
    let message = coco(dir.path(), json!({ "list": "nowhere.txt" })).expect_err("accepted");
    assert!(message.contains("nowhere.txt") && message.contains("published"), "{message}");
    let map = "stuffthingmaps/val2017/000000000139.png";
    for (bytes, word) in [
        (png(640, Grayscale, &[182; 640 * 426]), "label 182"),
        (png(6, Grayscale, &[1; 48]), "6×8"),
        (png(640, Rgb, &[9, 0, 0].repeat(640 * 426)), "coloured"),
    ] {
        put(dir.path(), map, &bytes);
        let found = coco(dir.path(), three(dir.path())).expect("listed without reading");
        let message = found.items[0].load().expect_err("accepted").to_string();
        assert!(message.contains(word) && message.contains(map), "{word}: {message}");
    }
}

#[test]
fn cityscapes_in_its_27_classes() {
    let dir = folder(&[]);
    // Every id once, and 255.
    let samples: Vec<u8> = (0..=33).chain([IGNORE, IGNORE]).collect();
    for name in ["munster/munster_000001_000019", "frankfurt/frankfurt_000000_000294"] {
        put(dir.path(), &format!("leftImg8bit/val/{name}_leftImg8bit.png"), &rgb(6, 6));
        put(dir.path(), &format!("gtFine/val/{name}_gtFine_labelIds.png"), &png(6, Grayscale, &samples));
    }
    put(dir.path(), "leftImg8bit/val/frankfurt/notes.txt", b"no image");
    let found = labelled("cityscapes", dir.path(), json!({})).expect("a dataset");
    assert_eq!(ids(&found), ["frankfurt_000000_000294", "munster_000001_000019"]);
    assert_eq!(found.classes.len(), 27);
    let wanted: Vec<u8> = [IGNORE; 7].into_iter().chain(0..27).chain([IGNORE; 2]).collect();
    assert_eq!(labels(&found.items[1]), wanted);
    assert_eq!((found.classes[0].as_str(), found.classes[26].as_str()), ("road", "bicycle"));

    fs::remove_file(dir.path().join("gtFine/val/munster/munster_000001_000019_gtFine_labelIds.png"))
        .expect("there");
    let message = labelled("cityscapes", dir.path(), json!({})).expect_err("accepted");
    assert!(
        message.contains("lacks 1 of the 2 label maps") && message.contains("gtFine_trainvaltest.zip"),
        "{message}"
    );
    put(
        dir.path(),
        "gtFine/val/munster/munster_000001_000019_gtFine_labelIds.png",
        &png(6, Grayscale, &[34; 36]),
    );
    let found = labelled("cityscapes", dir.path(), json!({})).expect("listed");
    assert!(found.items[1].load().expect_err("accepted").to_string().contains("label 34"));
}

#[test]
fn all_missing_files_of_cityscapes_are_reported_at_once() {
    let message = labelled("cityscapes", folder(&[]).path(), json!({})).expect_err("accepted");
    for word in [
        "leftImg8bit/val",
        "leftImg8bit_trainvaltest.zip",
        "registration",
        "gtFine/val",
        "gtFine_trainvaltest.zip",
    ] {
        assert!(message.contains(word), "{word}: {message}");
    }
    let message =
        labelled("cityscapes", folder(&[]).path(), json!({ "split": "../val" })).expect_err("accepted");
    assert!(message.contains("unknown split"), "{message}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn miniature_scenes_with_all_their_objects(seed in 0_u64..1000, from in 1_usize..4, more in 0_usize..3) {
        let objects = json!({ "from": from, "to": from + more });
        let settings = json!({ "count": 5, "seed": seed, "size": 48, "objects": objects });
        let found = dataset("mini", settings.clone()).labelled_pixels().expect("a dataset");
        prop_assert_eq!(found.classes.len(), 11);
        let segmented = dataset("mini", settings).segmented().expect("a dataset");
        for (index, (item, one)) in (0..).zip(found.items.iter().zip(&segmented)) {
            let drawn = scene(&SceneSpec::new(48, from..=from + more).unwrap(), seed, Split::Val, index);
            let loaded = item.load().expect("drawn");
            prop_assert_eq!(&item.id, &one.id);
            prop_assert_eq!(&loaded.rgb.data, &drawn.rgb);
            // Each object where its mask is, the background where none is.
            for (at, &label) in loaded.labels.iter().enumerate() {
                let mut inside = drawn.objects.iter().filter(|object| object.mask[at]).map(|object| object.class);
                prop_assert_eq!(label, inside.next().map_or(0, |class| class.label() as u8 + 1));
                prop_assert!(inside.next().is_none(), "masks are of what is in view");
            }
        }
    }
}

#[test]
fn shapes_are_named_by_their_labels() {
    let found = dataset("mini", json!({ "count": 1 })).labelled_pixels().expect("a dataset");
    assert_eq!(found.classes[0], "background");
    for class in Class::ALL {
        assert_eq!(found.classes[class.label() + 1], class.name());
    }
    let message = dataset("mini", json!({ "count": 0 })).labelled_pixels().expect_err("accepted").to_string();
    assert!(message.contains("between 1 and"), "{message}");
}

#[test]
fn pascal_voc_with_its_background() {
    let dir = folder(&[]);
    put(dir.path(), "ImageSets/Segmentation/val.txt", b"a\nb");
    for (name, samples) in [("a", [0, 0, 15, 255]), ("b", [12, 12, 20, 0])] {
        put(dir.path(), &format!("JPEGImages/{name}.jpg"), &rgb(2, 2));
        put(dir.path(), &format!("SegmentationClass/{name}.png"), &png(2, Indexed, &samples));
    }
    let found = labelled("pascal-voc", dir.path(), json!({ "protocol": "multi-class" })).expect("a dataset");
    assert_eq!((found.classes.len(), found.classes[0].as_str()), (21, "background"));
    assert_eq!((found.classes[15].as_str(), found.classes[20].as_str()), ("person", "monitor"));
    assert_eq!(labels(&found.items[0]), [0, 0, 15, 255]);
    assert_eq!(labels(&found.items[1]), [12, 12, 20, 0]);
    assert_eq!(ids(&labelled("pascal-voc", dir.path(), json!({})).expect("a dataset")), ["a"]);
}

#[test]
fn masks_of_several_objects_are_combined() {
    let dir = folder(&[]);
    put(dir.path(), "images/street.png", &rgb(4, 1));
    put(dir.path(), "images/field.png", &rgb(4, 1));
    put(dir.path(), "masks/street.png", &png(4, Indexed, &[7, 9, 255, 0]));
    put(dir.path(), "masks/over.png", &png(4, Indexed, &[0, 1, 1, 255]));
    put(dir.path(), "masks/field.png", &png(4, Indexed, &[1, 1, 0, 0]));
    let table = b"file,name,mask,value\n\
        street.png,tree,street.png,9\nfield.png,cow,,\nstreet.png,car,street.png,7\nstreet.png,bird,over.png,\n";
    put(dir.path(), "labels.csv", table);
    let found = labelled("masks", dir.path(), json!({ "ignore": 255 })).expect("a dataset");
    assert_eq!(found.classes, ["background", "bird", "car", "cow", "tree"]);
    assert_eq!(ids(&found), ["street.png", "field.png"]);
    // The bird hides the tree and is where the first mask does not know.
    assert_eq!(labels(&found.items[0]), [2, 1, 1, 255]);
    assert_eq!(labels(&found.items[1]), [3, 3, 0, 0]);
    // The same table, an object at a time.
    let segmented =
        dataset("masks", json!({ "root": dir.path(), "ignore": 255 })).segmented().expect("a dataset");
    assert_eq!(segmented.len(), 4);
}

#[test]
fn more_names_than_a_map_can_tell_apart_are_refused() {
    let dir = folder(&[]);
    put(dir.path(), "images/a.png", &rgb(1, 1));
    put(dir.path(), "masks/a.png", &png(1, Grayscale, &[1]));
    let lines = |count: usize| (0..count).map(|i| format!("a.png,name {i}\n")).collect::<String>();
    put(dir.path(), "labels.csv", format!("file,name\n{}", lines(254)).as_bytes());
    let found = labelled("masks", dir.path(), json!({})).expect("a dataset");
    assert_eq!(found.classes.len(), 255);
    put(dir.path(), "labels.csv", format!("file,name\n{}", lines(255)).as_bytes());
    let message = labelled("masks", dir.path(), json!({})).expect_err("accepted");
    assert!(message.contains("255 names") && message.contains("254"), "{message}");
}

#[test]
fn kinds_without_a_class_for_every_pixel_say_so() {
    for (kind, settings) in [
        ("folder", json!({ "root": "nowhere" })),
        ("imagenet", json!({ "root": "nowhere" })),
        ("imagenet-segmentation", json!({ "path": "nowhere" })),
        ("reference", json!({ "path": "nowhere" })),
    ] {
        let message = dataset(kind, settings).labelled_pixels().expect_err("accepted").to_string();
        assert!(message.contains(&format!("`{kind}`")) && message.contains("coco-stuff"), "{message}");
    }
    for kind in ["coco-stuff", "cityscapes"] {
        let dataset = dataset(kind, json!({ "root": "nowhere" }));
        assert_eq!(dataset.name(), kind);
        let message = dataset.segmented().expect_err("accepted").to_string();
        assert!(message.contains(&format!("`{kind}`")) && message.contains("pascal-voc"), "{message}");
        let message = dataset.items(1000).expect_err("accepted").to_string();
        assert!(message.contains("not whole images"), "{message}");
    }
}
