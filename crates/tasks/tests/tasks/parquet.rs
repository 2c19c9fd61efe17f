//! Datasets in Parquet files: equality with what pyarrow, the hub's library and Pillow read, what is refused, and files
//! that are damaged or made to do harm.

use std::fs;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tasks::dataset::{DatasetConfig, LabelledImage, Sourced};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/parquet")
}

fn golden(name: &str) -> Value {
    let text = fs::read_to_string(fixtures().join("golden.json")).expect("the golden file");
    let mut golden: Value = serde_json::from_str(&text).expect("JSON");
    golden["files"][name].take()
}

fn dataset(files: &Path, mut settings: Value) -> DatasetConfig {
    settings["files"] = json!(files);
    serde_json::from_value(json!({ "parquet": settings })).expect("a dataset table")
}

fn fixture(name: &str) -> DatasetConfig {
    dataset(&fixtures().join(name), json!({}))
}

fn items(dataset: &DatasetConfig) -> Vec<LabelledImage> {
    dataset.items(1000).expect("a dataset")
}

fn refusal(dataset: &DatasetConfig) -> String {
    let message = dataset.items(1000).expect_err("accepted").to_string();
    assert!(!message.contains('\n') && message.len() < 1500, "{message}");
    message
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Checks an image against what Pillow read.
#[track_caller]
fn assert_image(item: &LabelledImage, wanted: &Value) {
    if wanted["image"].is_null() {
        let message = item.load().map(|_| ()).expect_err("an image").to_string();
        assert!(message.contains("the image is null"), "{message}");
        return;
    }
    let found = item.load().expect("an image");
    let wanted = &wanted["image"];
    assert_eq!(found.sha256, wanted["bytes"], "{}", item.id);
    assert_eq!(item.sha256().expect("a hash"), found.sha256);
    assert_eq!(json!([found.rgb.width, found.rgb.height]), wanted["size"], "{}", item.id);
    assert_eq!(sha256(&found.rgb.data), wanted["pixels"], "{}", item.id);
}

const LAYOUTS: [&str; 11] = [
    "one-group",
    "no-dictionary",
    "zstd-pages",
    "gzip-v2",
    "snappy-v2",
    "nulls",
    "index",
    "repeated",
    "plain-binary",
    "masks",
    "scenes",
];

#[test]
fn images_and_labels_are_those_of_pyarrow_and_pillow() {
    for name in LAYOUTS {
        let file = format!("{name}.parquet");
        let settings = match name {
            "plain-binary" => json!({ "image": "picture", "label": "class" }),
            _ => json!({}),
        };
        let golden = golden(&file);
        let rows = golden["rows"].as_array().expect("rows");
        let items = items(&dataset(&fixtures().join(&file), settings));
        assert_eq!(items.len(), rows.len(), "{name}");
        for (number, (item, row)) in items.iter().zip(rows).enumerate() {
            let id = row["path"].as_str().map_or_else(|| format!("{file}/{number}"), str::to_owned);
            assert_eq!((item.id.as_str(), json!(item.label)), (id.as_str(), row["label"].clone()), "{name}");
            assert_image(item, row);
        }
        // In another order, on several threads.
        let mut shuffled: Vec<_> = items.iter().zip(rows).collect();
        shuffled.sort_by_key(|(item, _)| sha256(item.id.as_bytes()));
        shuffled.par_iter().for_each(|(item, row)| assert_image(item, row));
    }
}

#[test]
fn a_split_of_the_hub_is_read_shard_after_shard() {
    let folder = fixtures().join("hub");
    let listed = items(&dataset(&folder, json!({ "split": "validation" })));
    let shards = ["hub/validation-00000-of-00002.parquet", "hub/validation-00001-of-00002.parquet"];
    let rows: Vec<Value> =
        shards.iter().flat_map(|shard| golden(shard)["rows"].as_array().expect("rows").clone()).collect();
    assert_eq!(listed.len(), 9);
    for (item, row) in listed.iter().zip(&rows) {
        assert_eq!((json!(item.id), json!(item.label)), (row["path"].clone(), row["label"].clone()));
        assert_image(item, row);
    }
    // The same files as a list.
    let list: Vec<PathBuf> = shards.iter().map(|shard| fixtures().join(shard)).collect();
    let settings = json!({ "parquet": { "files": list, "subset": { "count": 4, "seed": 1 } } });
    let subset: DatasetConfig = serde_json::from_value(settings).expect("a dataset table");
    let subset = items(&subset);
    assert_eq!(subset.len(), 4);
    assert!(subset.iter().all(|item| listed.iter().any(|other| other.id == item.id)));
    // The same shards under equal names have numbered rows.
    let dir = tempfile::tempdir().expect("a scratch folder");
    for (folder, shard) in [("a", shards[0]), ("b", shards[0])] {
        fs::create_dir(dir.path().join(folder)).expect("writable");
        fs::copy(fixtures().join(shard), dir.path().join(folder).join("x.parquet")).expect("copied");
    }
    let list = ["a/x.parquet", "b/x.parquet"].map(|name| dir.path().join(name));
    let twice = items(&serde_json::from_value(json!({ "parquet": { "files": list } })).expect("a table"));
    assert_eq!(twice[4].id, format!("{}/4", list[0].display()));
    assert_eq!(twice[5].id, format!("{}/0", list[1].display()));
}

#[test]
fn a_folder_must_say_which_split() {
    let folder = fixtures().join("hub");
    let message = refusal(&dataset(&folder, json!({})));
    assert!(message.contains("splits test, validation; choose one with dataset.parquet.split"), "{message}");
    let message = refusal(&dataset(&folder, json!({ "split": "valid" })));
    assert!(message.contains("split `valid`; it has the splits test, validation"), "{message}");
    let message = refusal(&dataset(&folder, json!({ "split": "test" })));
    assert!(message.contains("row 0 has the label -1") && message.contains("another split"), "{message}");
    let message = refusal(&dataset(&folder.join("test-00000-of-00001.parquet"), json!({ "split": "test" })));
    assert!(message.starts_with("dataset.parquet.split"), "{message}");
    let message = refusal(&dataset(&fixtures().join("nowhere"), json!({})));
    assert!(message.contains("no such file or folder"), "{message}");

    let dir = tempfile::tempdir().expect("a scratch folder");
    let message = refusal(&dataset(dir.path(), json!({})));
    assert!(message.contains("holds no *.parquet files"), "{message}");
    fs::create_dir(dir.path().join("data")).expect("writable");
    let shard = "validation-00000-of-00002.parquet";
    fs::copy(folder.join(shard), dir.path().join("data").join(shard)).expect("copied");
    let message = refusal(&dataset(dir.path(), json!({})));
    assert!(message.contains("its folder `data` does"), "{message}");
    // A part of the shards is read, with a note.
    assert_eq!(items(&dataset(&dir.path().join("data"), json!({}))).len(), 5);
    let notes = models::notes::take();
    let note = notes.iter().find(|note| note.contains("1 of the 2 files of the split validation"));
    assert!(note.is_some(), "{notes:?}");
}

#[test]
fn columns_that_are_refused_are_named_with_all_others() {
    let odd = |settings| refusal(&dataset(&fixtures().join("odd.parquet"), settings));
    for (column, kind) in
        [("text", "string"), ("real", "double"), ("list", "list"), ("box", "struct {x: int64}")]
    {
        let message = odd(json!({ "image": column }));
        assert!(message.contains(&format!("the column `{column}` is {kind}, not images")), "{message}");
        assert!(
            message.contains("`image` (struct {bytes: binary, path: string}), `label` (int64)"),
            "{message}"
        );
    }
    for (column, kind) in [("day", "date, time or decimal"), ("text", "string"), ("real", "double")] {
        let message = odd(json!({ "label": column }));
        assert!(
            message.contains(&format!("the column `{column}` is {kind}, not class indices")),
            "{message}"
        );
    }
    let message = odd(json!({ "label": "labels" }));
    assert!(
        message.contains("has no column `labels`; set dataset.parquet.label to one of `image`"),
        "{message}"
    );
    let message = odd(json!({ "label": "missing" }));
    assert!(message.contains("column `missing`: row 1 has no label"), "{message}");
    let message = fixture("one-group.parquet").items(2).expect_err("accepted").to_string();
    assert!(message.contains("has label 2, but the network knows classes 0 to 1"), "{message}");
    for (name, word) in [("brotli", "packed with brotli"), ("delta", "DELTA_LENGTH_BYTE_ARRAY")] {
        let file = fixtures().join(format!("{name}.parquet"));
        let message = match dataset(&file, json!({})).items(3) {
            Ok(items) => items[0].load().map(|_| ()).expect_err("accepted").to_string(),
            Err(e) => e.to_string(),
        };
        assert!(message.contains(word), "{message}");
    }
    let message = fixture("one-group.parquet").segmented().expect_err("accepted").to_string();
    assert!(message.starts_with("dataset.parquet.mask: this experiment needs masks"), "{message}");
}

#[test]
fn object_masks_belong_to_the_class_of_their_row() {
    let settings = json!({ "mask": "mask", "ignore": 9 });
    let dataset = dataset(&fixtures().join("masks.parquet"), settings);
    let golden = golden("masks.parquet");
    let rows = golden["rows"].as_array().expect("rows");
    let segmented = dataset.segmented().expect("a dataset");
    let dense = dataset.labelled_pixels().expect("a dataset");
    assert_eq!(dense.classes, ["background", "heron", "kettle", "violin"]);
    for (number, label) in [1_u8, 0, 2, 1].into_iter().enumerate() {
        let (item, row) = (&segmented[number], &rows[number]);
        assert_eq!(item.id, format!("masks.parquet/{number}"));
        let names = ["heron", "kettle", "violin"];
        assert_eq!(item.classes.len(), 1);
        assert_eq!((item.classes[0].label, &*item.classes[0].name), (1, names[usize::from(label)]));
        let found = item.load().expect("an image");
        assert_eq!(sha256(&found.rgb.data), row["image"]["pixels"]);
        assert_eq!(item.sha256().expect("a hash"), found.sha256);
        // The values that Pillow reads are 0, 1 and 9.
        let stored: Vec<u8> = found.labels.iter().map(|&one| if one == 255 { 9 } else { one }).collect();
        assert_eq!(sha256(&stored), row["mask"]);
        let same = dense.items[number].load().expect("an image");
        assert_eq!(same.sha256, found.sha256);
        let wanted = found.labels.mapv(|one| if one == 1 { label + 1 } else { one });
        assert_eq!(same.labels, wanted);
    }
}

#[test]
fn label_maps_name_the_classes_of_their_values() {
    let file = fixtures().join("masks.parquet");
    let settings = json!({ "mask": "map", "mask_values": "classes" });
    let dataset = dataset(&file, settings.clone());
    let golden = golden("masks.parquet");
    let segmented = dataset.segmented().expect("a dataset");
    let names = |item: &tasks::dataset::SegmentedImage| {
        item.classes.iter().map(|class| (class.label, class.name.clone())).collect::<Vec<_>>()
    };
    let class = |label, name: &str| (label, name.to_owned());
    // The second map shows the background and ignored pixels only.
    assert_eq!(segmented.len(), 3);
    assert_eq!(segmented[1].id, "masks.parquet/2");
    assert_eq!(names(&segmented[0]), [class(3, "violin")]);
    assert_eq!(names(&segmented[1]), [class(1, "heron"), class(2, "kettle"), class(3, "violin")]);
    let dense = dataset.labelled_pixels().expect("a dataset");
    assert_eq!((dense.items.len(), dense.classes.len()), (4, 4));
    for (item, row) in dense.items.iter().zip(golden["rows"].as_array().expect("rows")) {
        let found = item.load().expect("an image");
        assert_eq!(sha256(&found.labels.iter().copied().collect::<Vec<_>>()), row["map"]);
    }
    let with = |more: Value| {
        let mut settings = settings.clone();
        settings.as_object_mut().expect("a table").extend(more.as_object().expect("a table").clone());
        self::dataset(&file, settings).segmented().expect_err("accepted").to_string()
    };
    let message = with(json!({ "names": ["one", "two"] }));
    assert!(message.contains("masks.parquet/0") && message.contains("holds the label 3, but"), "{message}");
    let message = with(json!({ "names": ["one", "one"] }));
    assert!(message.contains("`one` is repeated"), "{message}");
    let message = with(json!({ "label": "image" }));
    assert!(message.contains("names no classes of the column `image`"), "{message}");
}

#[test]
fn a_file_that_changes_is_noticed() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let path = dir.path().join("images.parquet");
    fs::copy(fixtures().join("zstd-pages.parquet"), &path).expect("copied");
    let listed = items(&dataset(&path, json!({})));
    let before = listed[0].sha256().expect("a hash");
    fs::copy(fixtures().join("nulls.parquet"), &path).expect("copied");
    let message = listed[6].load().map(|_| ()).expect_err("accepted").to_string();
    assert!(
        message.contains("images.parquet/6") && message.contains("changed while it was being read"),
        "{message}"
    );
    let file = listed[0].files();
    assert!(file.len() == 1 && file[0].path == path, "{file:?}");
    // Image 1 of the other file is null, image 0 is the same.
    let again = items(&dataset(&path, json!({})));
    assert_eq!(again[0].sha256().expect("a hash"), before);
    assert!(again[1].sha256().is_err());
}

/// Lists and reads everything in a file. Fails only by panicking.
fn read_all(path: &Path) {
    let settings = json!({ "mask": "mask", "names": ["one", "two"] });
    let dataset = dataset(path, settings);
    for item in dataset.items(2).unwrap_or_default().iter().take(4) {
        let _ = item.load();
    }
    for item in dataset.segmented().unwrap_or_default().iter().take(4) {
        let _ = item.load();
    }
}

#[test]
fn no_altered_byte_and_no_cut_is_fatal() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    for codec in ["snappy", "zstd", "gzip"] {
        let whole = fs::read(fixtures().join(format!("tiny-{codec}.parquet"))).expect("a file");
        assert_eq!(items(&fixture(&format!("tiny-{codec}.parquet"))).len(), 2);
        (0..whole.len()).into_par_iter().for_each(|at| {
            let path = dir.path().join(format!("{at}.parquet"));
            for value in [0, 0xff, whole[at] ^ 0x80, whole[at].wrapping_add(1)] {
                let mut altered = whole.clone();
                altered[at] = value;
                fs::write(&path, &altered).expect("writable");
                read_all(&path);
            }
            fs::write(&path, &whole[..at]).expect("writable");
            let message = refusal(&dataset(&path, json!({})));
            assert!(message.contains("is damaged or not a Parquet file"), "{message}");
            // A footer of another length.
            let mut altered = whole.clone();
            let size = whole.len() - 8;
            altered[size..size + 4].copy_from_slice(&(at as u32).to_le_bytes());
            fs::write(&path, &altered).expect("writable");
            read_all(&path);
            fs::remove_file(&path).expect("removed");
        });
    }
}

#[test]
fn damage_costs_only_the_images_it_strikes() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let path = dir.path().join("images.parquet");
    let mut bytes = fs::read(fixtures().join("scenes.parquet")).expect("a file");
    // The second image; all images of a row group come before its masks.
    let at: Vec<usize> = (0..bytes.len() - 4).filter(|&at| &bytes[at..at + 4] == b"\x89PNG").collect();
    bytes[at[1]] = b'x';
    fs::write(&path, &bytes).expect("writable");
    let items = items(&dataset(&path, json!({})));
    let message = items[1].load().map(|_| ()).expect_err("an image").to_string();
    assert!(message.contains("images.parquet/1") && message.contains("not an image"), "{message}");
    let read = items.iter().filter(|item| item.load().is_ok()).count();
    assert_eq!(read, items.len() - 1);
}

/// Writes numbers and structs in Thrift's compact protocol, for files that no library would write.
#[derive(Default)]
struct Thrift(Vec<u8>);

impl Thrift {
    fn varint(mut self, mut value: u64) -> Self {
        while value > 0x7f {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
        self
    }

    /// An integer field, `step` numbers after the field before.
    fn int(mut self, step: u8, value: i64) -> Self {
        self.0.push(step << 4 | 6);
        self.varint((value << 1 ^ value >> 63) as u64)
    }

    fn text(mut self, step: u8, text: &[u8]) -> Self {
        self.0.push(step << 4 | 8);
        let mut this = self.varint(text.len() as u64);
        this.0.extend(text);
        this
    }

    fn list(mut self, step: u8, length: u64, structs: &[u8]) -> Self {
        self.0.extend([step << 4 | 9, 0xfc]);
        let mut this = self.varint(length);
        this.0.extend(structs);
        this
    }

    fn end(mut self) -> Vec<u8> {
        self.0.push(0);
        self.0
    }
}

/// A file with this footer.
fn with_footer(pages: &[u8], footer: &[u8]) -> Vec<u8> {
    [b"PAR1", pages, footer, &(footer.len() as u32).to_le_bytes(), b"PAR1"].concat()
}

/// A column of the schema.
fn column(name: &str, physical: i64) -> Vec<u8> {
    Thrift::default().int(1, physical).int(2, 0).text(1, name.as_bytes()).end()
}

#[test]
fn footers_that_claim_too_much_are_refused() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let root = |children| Thrift::default().text(4, b"root").int(1, children).end();
    let schema = [root(2), column("image", 6), column("label", 2)].concat();
    let chunk = |physical, length: i64, rows: i64| {
        let inner = Thrift::default().int(1, physical).int(3, 0).int(1, rows).int(2, length).int(2, 4).end();
        [&[0x3c][..], &inner, &[0]].concat()
    };
    let group = |length, rows| {
        let chunks = [chunk(6, length, rows), chunk(2, length, rows)].concat();
        Thrift::default().list(1, 2, &chunks).int(2, rows).end()
    };
    let footer = |schema: &[u8], count, rows, groups: &[u8]| {
        Thrift::default().int(1, 1).list(1, count, schema).int(1, rows).list(1, 1, groups).end()
    };
    // One struct within the other, thousands of times.
    let deep = |count| {
        let one = Thrift::default().int(3, 0).text(1, b"g").int(1, 1).end();
        [root(1), one.repeat(count), column("x", 2)].concat()
    };
    let whole = footer(&schema, 3, 1, &group(40, 1));
    for (name, footer, word) in [
        ("deep", footer(&deep(100_000), 100_002, 0, &group(40, 1)), "a list has 100002 entries"),
        ("less deep", footer(&deep(50_000), 50_002, 0, &group(40, 1)), "too deep"),
        ("columns", footer(&schema, 1 << 40, 1, &group(40, 1)), "claims 1099511627776 values"),
        ("children", footer(&root(1 << 40), 1, 1, &group(40, 1)), "lacks columns"),
        ("rows", footer(&schema, 3, 1 << 40, &group(40, 1 << 40)), "cannot hold 1099511627776 rows"),
        ("other rows", footer(&schema, 3, 5, &group(40, 1)), "claims 5 rows, but its row groups have 1"),
        ("negative rows", footer(&schema, 3, -1, &group(40, 1)), "a size or position is -1"),
        ("far", footer(&schema, 3, 1, &group(1 << 40, 1)), "beyond the end of the file"),
        (
            "types",
            footer(&[root(2), column("image", 2), column("label", 2)].concat(), 3, 1, &group(40, 1)),
            "other types",
        ),
        ("pages", whole.clone(), "column `label`"),
        ("empty", Vec::new(), "ends too early"),
    ] {
        let path = dir.path().join("x.parquet");
        fs::write(&path, with_footer(&[0x15; 64], &footer)).expect("writable");
        let message = refusal(&dataset(&path, json!({})));
        assert!(message.contains(word), "{name}: {message}");
    }
    let mut cut = with_footer(&[0; 64], &whole);
    cut.truncate(cut.len() - 1);
    let path = dir.path().join("x.parquet");
    fs::write(&path, cut).expect("writable");
    assert!(refusal(&dataset(&path, json!({}))).contains("as if a download had been cut off"));
    fs::write(&path, b"<html>Not found</html>").expect("writable");
    assert!(refusal(&dataset(&path, json!({}))).contains("does not begin with PAR1"));
}
