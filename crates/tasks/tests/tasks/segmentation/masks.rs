//! Folders of images and masks.

use png::ColorType::{Grayscale, Indexed};
use serde_json::{Value, json};
use tasks::dataset::DatasetConfig;
use tasks::dataset::segmentation::IGNORE;
use tempfile::TempDir;

use super::{classes, dataset, folder, listed, load, load_refusal, png, refusal, rgb};

const MASK: [u8; 6] = [0, 3, 3, 7, 0, 255];

fn pictures(table: &str) -> TempDir {
    folder(&[
        ("labels.csv", table.as_bytes().to_vec()),
        ("images/a.png", rgb(3, 2)),
        ("images/sub/b.png", rgb(3, 2)),
        ("masks/a.png", png(3, Indexed, &MASK)),
        ("masks/sub/b.png", png(3, Grayscale, &[0, 0, 0, 0, 1, 1])),
        ("masks/large.png", png(3, Grayscale, &[1; 9])),
        ("masks/empty.png", png(3, Grayscale, &[0; 6])),
        ("masks/a.jpg", b"\xff\xd8\xff".to_vec()),
    ])
}

fn masks(dir: &TempDir, more: Value) -> DatasetConfig {
    let mut settings = json!({ "root": dir.path() });
    if let (Some(settings), Value::Object(more)) = (settings.as_object_mut(), more) {
        settings.extend(more);
    }
    dataset("masks", settings)
}

fn labels(dataset: &DatasetConfig) -> Vec<Vec<u8>> {
    listed(dataset).iter().map(|item| load(item).labels.into_raw_vec_and_offset().0).collect()
}

#[test]
fn a_mask_has_the_relative_path_of_its_image() {
    let dir = pictures("name,file\ntabby cat,a.png\ndog,sub/b.png\n");
    let dataset = masks(&dir, json!({}));
    let items = listed(&dataset);
    let ids: Vec<&str> = items.iter().map(|item| item.id.as_str()).collect();
    assert_eq!(ids, ["a.png:tabby cat", "sub/b.png:dog"]);
    assert_eq!(classes(&items[0]), [(1, "tabby cat")]);
    assert_eq!(items[1].path(), Some(dir.path().join("images/sub/b.png").as_path()));
    assert_eq!(labels(&dataset), [[0, 1, 1, 1, 0, 1], [0, 0, 0, 0, 1, 1]]);
}

#[test]
fn values_and_masks_of_the_table() {
    let table = "file,name,mask,value\na.png,cat,,3\na.png,dog,,7\na.png,mouse,sub/b.png,\n";
    let dir = pictures(table);
    assert_eq!(labels(&masks(&dir, json!({}))), [[0, 1, 1, 0, 0, 0], [0, 0, 0, 1, 0, 0], [0, 0, 0, 0, 1, 1]]);
    let ignoring = masks(&dir, json!({ "ignore": 255 }));
    assert_eq!(labels(&ignoring)[..2], [[0, 1, 1, 0, 0, IGNORE], [0, 0, 0, 1, 0, IGNORE]]);
    // The same image under other ids: its hash does not depend on the row of the table.
    let items = listed(&ignoring);
    assert_eq!(load(&items[0]).sha256, load(&items[1]).sha256);
    assert_ne!(load(&items[0]).sha256, load(&items[2]).sha256);
    assert_eq!(listed(&masks(&dir, json!({ "subset": { "count": 2 } }))).len(), 2);
}

#[test]
fn folders_and_table_of_other_names() {
    let dir = folder(&[
        ("list.csv", b"file,name,mask\nx.png,cup,x_mask.png\n".to_vec()),
        ("x.png", rgb(2, 1)),
        ("x_mask.png", png(2, Grayscale, &[0, 255])),
    ]);
    let settings = json!({ "images": ".", "masks": ".", "table": "list.csv" });
    assert_eq!(labels(&masks(&dir, settings)), [[0, 1]]);
}

#[test]
fn the_hash_is_that_of_both_files() {
    let dir = pictures("file,name\na.png,cat\n");
    let read = |name: &str| std::fs::read(dir.path().join(name)).expect("a file");
    let both = [read("images/a.png"), read("masks/a.png")].concat();
    let expected: String =
        <sha2::Sha256 as sha2::Digest>::digest(both).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(load(&listed(&masks(&dir, json!({})))[0]).sha256, expected);
}

#[test]
fn tables_that_are_refused() {
    for (table, word) in [
        ("", "no column `file`"),
        ("file\na.png\n", "no column `name`"),
        ("file,name\n", "lists no images"),
        ("file,name\na.png,\n", "line 2: the object has no name"),
        ("file,name\n,cat\n", "line 2: there is no image"),
        ("file,name\nc.png,cat\n", "there is no image"),
        ("file,name,mask\na.png,cat,none.png\n", "there is no mask"),
        ("file,name\na.png,cat\na.png,cat\n", "line 3: `a.png:cat` is listed twice"),
        ("file,name,value\na.png,cat,256\n", "value `256`"),
        ("file,name,value\na.png,cat,white\n", "value `white`"),
        ("file,name,value\na.png,cat,255\n", "dataset.masks.ignore"),
    ] {
        let message = refusal(&masks(&pictures(table), json!({ "ignore": 255 })));
        assert!(message.contains(word) && message.contains("labels.csv"), "{table:?}: {message}");
    }
    let message = refusal(&masks(&folder(&[]), json!({})));
    assert!(message.contains("labels.csv") && message.contains("`name`"), "{message}");
}

#[test]
fn masks_that_are_refused() {
    for (row, word) in [
        ("large.png,", "the mask has 3×3 pixels"),
        ("a.jpg,", "not a PNG"),
        ("empty.png,", "all are 0 or ignored"),
        ("a.png,4", "has the value 4"),
    ] {
        let dir = pictures(&format!("file,name,mask,value\na.png,cat,{row}\n"));
        let items = listed(&masks(&dir, json!({})));
        let message = load_refusal(&items[0]);
        let mask = row.split(',').next().expect("a mask");
        assert!(message.contains(word) && message.contains(mask), "{row}: {message}");
    }
}
