//! The MATLAB file of ImageNet-Segmentation. `tools/fake_gtsegs.py` writes the fixture and what Python reads from it.

use std::path::{Path, PathBuf};

use hdf5_pure::FileBuilder;
use models::image::Rgb8;
use serde_json::json;
use tasks::dataset::DatasetConfig;

use super::{classes, dataset, folder, listed, load, load_refusal, put, refusal};

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/gtsegs")
}

fn archive(path: &Path) -> DatasetConfig {
    dataset("imagenet-segmentation", json!({ "path": path }))
}

#[test]
fn pixels_equal_those_that_python_reads() {
    let items = listed(&archive(&fixture().join("gtsegs.mat")));
    let ids: Vec<&str> = items.iter().map(|item| item.id.as_str()).collect();
    assert_eq!(ids, ["n02123045-00000", "n02442172-00001", "n02690373-00002"]);
    let names: Vec<_> = items.iter().map(classes).collect();
    assert_eq!(names, [[(1, "cat")], [(1, "ferret")], [(1, "plane")]]);
    for (index, item) in items.iter().enumerate() {
        let read = |kind: &str| Rgb8::open(fixture().join(format!("{index}-{kind}.png"))).expect("a picture");
        let (image, mask) = (read("image"), read("mask"));
        let found = load(item);
        assert_eq!(found.rgb, image, "{}", item.id);
        assert_eq!(found.labels.dim(), (image.height, image.width));
        // A grey level of 0 or 1 decodes to itself in each channel.
        assert!(found.labels.iter().eq(mask.data.iter().step_by(3)), "{}", item.id);
        assert!(found.labels.iter().any(|&label| label == 1) && found.labels.iter().any(|&label| label == 0));
        assert_eq!(found.sha256, load(item).sha256);
        assert_eq!(found.sha256.len(), 64);
    }
    assert_ne!(load(&items[0]).sha256, load(&items[1]).sha256);
}

#[test]
fn images_can_be_read_from_several_threads() {
    let items = listed(&archive(&fixture().join("gtsegs.mat")));
    let hashes = || -> Vec<String> { items.iter().map(|item| load(item).sha256).collect() };
    let alone = hashes();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(hashes)).collect();
        for thread in threads {
            assert_eq!(thread.join().expect("read"), alone);
        }
    });
}

#[test]
fn a_subset_keeps_ids_and_pixels() {
    let path = fixture().join("gtsegs.mat");
    let subset = json!({ "path": &path, "subset": { "count": 1, "seed": 3 } });
    let drawn = listed(&dataset("imagenet-segmentation", subset));
    let all = listed(&archive(&path));
    let same = all.iter().find(|item| item.id == drawn[0].id).expect("an item of the whole");
    assert_eq!((drawn.len(), load(&drawn[0]).sha256), (1, load(same).sha256));
}

#[test]
fn custom_class_names() {
    let path = fixture().join("gtsegs.mat");
    let with = |names: &str| {
        let dir = folder(&[("names.toml", names.as_bytes().to_vec())]);
        let settings = json!({ "path": &path, "names": dir.path().join("names.toml") });
        (dataset("imagenet-segmentation", settings), dir)
    };
    let (own, _dir) = with("n02123045 = \"tabby\"\nn02442172 = \"polecat\"\nn02690373 = \"airplane\"\n");
    assert_eq!(classes(&listed(&own)[1]), [(1, "polecat")]);
    for (names, word) in [
        ("n02123045 = \"tabby\"\n", "n02442172, n02690373"),
        ("n02123045 = 3\n", "line 1"),
        ("n02123045 = \" \"\n", "n02123045 is empty"),
        ("cat", "not a list of lines"),
    ] {
        let (own, _dir) = with(names);
        let message = refusal(&own);
        assert!(message.contains(word) && message.contains("names.toml"), "{message}");
    }
    let missing = dataset("imagenet-segmentation", json!({ "path": &path, "names": "nowhere.toml" }));
    assert!(refusal(&missing).contains("nowhere.toml"));
}

/// The whole of a file can be read, or something of it is refused with a reason; nothing panics.
fn survives(bytes: &[u8]) -> Result<(), String> {
    let dir = folder(&[("gtsegs.mat", bytes.to_vec())]);
    let items = archive(&dir.path().join("gtsegs.mat")).segmented().map_err(|e| e.to_string())?;
    items.iter().try_for_each(|item| item.load().map(|_| ()).map_err(|e| e.to_string()))
}

#[test]
fn truncated_files_are_refused() {
    let whole = std::fs::read(fixture().join("gtsegs.mat")).expect("the fixture");
    survives(&whole).expect("the whole file");
    for length in (0..whole.len()).step_by(997).chain([1, 511, 512, 520, whole.len() - 1]) {
        let message = survives(&whole[..length]).expect_err("accepted");
        assert!(message.contains("gtsegs.mat") && message.contains("http"), "{length}: {message}");
    }
}

#[test]
fn damaged_files_never_panic() {
    let whole = std::fs::read(fixture().join("gtsegs.mat")).expect("the fixture");
    let mut refused = 0;
    for step in 0..120 {
        let mut bytes = whole.clone();
        // Spread over the file, and over what a byte can turn into.
        let at = step * 25933 % bytes.len();
        bytes[at] ^= [0xff, 0x80, 0x01, 0x7f][step % 4];
        refused += usize::from(survives(&bytes).is_err());
    }
    assert!(refused > 0, "no damage was noticed");
}

#[test]
fn other_files_are_refused() {
    for (content, word) in [(&b"MATLAB 5.0 MAT-file"[..], "v7.3"), (b"", "v7.3")] {
        let dir = folder(&[("gtsegs.mat", content.to_vec())]);
        let message = refusal(&archive(&dir.path().join("gtsegs.mat")));
        assert!(message.contains(word) && message.contains("http"), "{message}");
    }
}

/// What a file made for a test holds: shapes as stored, columns first.
struct Entry<'a> {
    image: &'a [u64],
    mask: &'a [u64],
    label: u8,
    id: &'a str,
}

const GOOD: Entry<'static> = Entry { image: &[3, 4, 2], mask: &[4, 2], label: 1, id: "n02123045_7" };

fn built(entry: &Entry<'_>) -> Vec<u8> {
    let count = |shape: &[u64]| shape.iter().product::<u64>() as usize;
    let mut builder = FileBuilder::new();
    let mut refs = builder.create_group("#refs#");
    refs.create_dataset("image").with_u8_data(&vec![5; count(entry.image)]).with_shape(entry.image);
    refs.create_dataset("mask").with_u8_data(&vec![entry.label; count(entry.mask)]).with_shape(entry.mask);
    let id: Vec<u16> = entry.id.encode_utf16().collect();
    refs.create_dataset("id").with_u16_data(&id).with_shape(&[id.len() as u64, 1]);
    refs.create_dataset("gt").with_path_references(&["#refs#/mask"]).with_shape(&[1, 1]);
    builder.add_group(refs.finish());
    let mut value = builder.create_group("value");
    value.create_dataset("img").with_path_references(&["#refs#/image"]).with_shape(&[1, 1]);
    value.create_dataset("gt").with_path_references(&["#refs#/gt"]).with_shape(&[1, 1]);
    value.create_dataset("id").with_path_references(&["#refs#/id"]).with_shape(&[1, 1]);
    builder.add_group(value.finish());
    builder.finish().expect("a file")
}

#[test]
fn a_file_of_another_layout_is_refused() {
    let cases = [
        (Entry { mask: &[2, 4], ..GOOD }, "the mask has shape [2, 4]"),
        (Entry { mask: &[4, 3], ..GOOD }, "needs [4, 2]"),
        (Entry { mask: &[8], ..GOOD }, "the mask has shape [8]"),
        (Entry { image: &[4, 2], ..GOOD }, "not [3, width, height]"),
        (Entry { image: &[4, 2, 3], ..GOOD }, "not [3, width, height]"),
        (Entry { label: 2, ..GOOD }, "the value 2"),
        (Entry { id: "tabby", ..GOOD }, "\"tabby\""),
        (Entry { id: "n0212304_7", ..GOOD }, "n0212304_7"),
        (Entry { id: "n00000001_7", ..GOOD }, "n00000001"),
    ];
    survives(&built(&GOOD)).expect("the layout of the real file");
    for (entry, word) in cases {
        let message = survives(&built(&entry)).expect_err("accepted");
        assert!(message.contains(word) && message.contains("gtsegs.mat"), "{word}: {message}");
    }
}

#[test]
fn a_file_with_other_contents_is_refused() {
    let file = |fill: &dyn Fn(&mut FileBuilder)| {
        let mut builder = FileBuilder::new();
        fill(&mut builder);
        survives(&builder.finish().expect("a file")).expect_err("accepted")
    };
    assert!(file(&|_| {}).contains("/value/img"));
    let numbers = file(&|builder| {
        let mut value = builder.create_group("value");
        for name in ["img", "gt", "id"] {
            value.create_dataset(name).with_f64_data(&[1.0, 2.0]);
        }
        builder.add_group(value.finish());
    });
    assert!(numbers.contains("not a cell array"), "{numbers}");
    let uneven = file(&|builder| {
        builder.create_dataset("x").with_u8_data(&[1]);
        let mut value = builder.create_group("value");
        value.create_dataset("img").with_path_references(&["x", "x"]);
        value.create_dataset("gt").with_path_references(&["x"]);
        value.create_dataset("id").with_path_references(&["x", "x"]);
        builder.add_group(value.finish());
    });
    assert!(uneven.contains("[2, 1, 2]"), "{uneven}");
    let groups = file(&|builder| {
        let mut value = builder.create_group("value");
        for name in ["img", "gt", "id"] {
            value.create_dataset(name).with_path_references(&["value"]);
        }
        builder.add_group(value.finish());
    });
    assert!(groups.contains("something other than arrays"), "{groups}");
}

#[test]
fn one_bad_image_does_not_hide_the_others() {
    let mut bytes = std::fs::read(fixture().join("gtsegs.mat")).expect("the fixture");
    // The first mask is small enough to be stored whole; its first pixel of the object becomes a 9.
    let mask = Rgb8::open(fixture().join("0-mask.png")).expect("a mask");
    let stored: Vec<u8> = (0..mask.width)
        .flat_map(|x| (0..mask.height).map(move |y| (x, y)))
        .map(|(x, y)| mask.data[3 * (y * mask.width + x)])
        .collect();
    let at =
        bytes.windows(stored.len()).position(|window| window == stored).expect("the mask within the file");
    let object = stored.iter().position(|&label| label == 1).expect("an object");
    bytes[at + object] = 9;
    let dir = folder(&[]);
    let path = put(dir.path(), "gtsegs.mat", &bytes);
    let items = listed(&archive(&path));
    let message = load_refusal(&items[0]);
    assert!(message.contains("image 0 of 3") && message.contains("the value 9"), "{message}");
    load(&items[1]);
}
