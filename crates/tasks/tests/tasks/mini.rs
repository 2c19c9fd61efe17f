//! The miniature scenes: stable for ever, consistent in themselves, balanced, and never failing.

use std::collections::HashSet;
use std::path::Path;

use proptest::prelude::*;
use sha2::{Digest, Sha256};
use tasks::mini::{
    BORDER, Class, Colour, ExportError, SEVERAL_AREA, SINGLE_AREA, Scene, SceneSpec, SpecError, Split,
    Texture, export, scene,
};

/// Everything a scene says, as one hash.
fn fingerprint(scene: &Scene) -> String {
    let mut hash = Sha256::new();
    hash.update((scene.size as u64).to_le_bytes());
    hash.update(&scene.rgb);
    hash.update(scene.labels());
    for object in &scene.objects {
        hash.update([object.class.label() as u8]);
        hash.update(object.rgb);
        hash.update(object.bbox.map(|edge| edge as u16).map(u16::to_le_bytes).concat());
        hash.update(object.mask.iter().map(|&inside| u8::from(inside)).collect::<Vec<u8>>());
    }
    hash.update(&scene.caption);
    hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// Trained weights and published numbers belong to exactly these images. If this test fails, the generator has changed:
/// undo the change, or train the miniature models again and say so in the change log.
#[test]
fn scenes_never_change() {
    let single = SceneSpec::default();
    let several = SceneSpec::new(128, 2..=5).expect("a valid spec");
    let found: Vec<(String, String)> = [
        scene(&single, 0, Split::Train, 0),
        scene(&single, 0, Split::Train, 59_999),
        scene(&single, 0, Split::Val, 0),
        scene(&single, 0, Split::Val, 1),
        scene(&single, u64::MAX, Split::Val, u64::MAX),
        scene(&several, 0, Split::Val, 0),
        scene(&several, 7, Split::Train, 3),
    ]
    .iter()
    .map(|scene| (fingerprint(scene), scene.caption.clone()))
    .collect();
    let expected = [
        ("67f59b889997ba7f", "a white square on a cloudy background"),
        ("29b77022df490025", "a black circle on a striped background"),
        ("dac2b3533e7f5b28", "a red heart on a cloudy background"),
        ("d1f60c69a034f9e4", "a green arrow on a grainy background"),
        ("1ff8b9dfbf87238d", "a red cross on a grainy background"),
        ("d9e37a7bfe18f06b", "a red ring and a pink heart on a cloudy background"),
        ("cbfe9dbc2c5fed04", "a white hourglass and a teal crescent on a cloudy background"),
    ];
    let expected: Vec<(String, String)> =
        expected.iter().map(|&(hash, caption)| (hash.to_owned(), caption.to_owned())).collect();
    assert_eq!(found, expected);
}

/// What holds for any scene.
fn check(scene: &Scene, spec: &SceneSpec) {
    let size = spec.size();
    assert_eq!(scene.size, size);
    assert_eq!(scene.rgb.len(), size * size * 3);
    let (fewest, most) = spec.objects();
    assert!((fewest..=most).contains(&scene.objects.len()));

    let mut owners = vec![0_usize; size * size];
    for object in &scene.objects {
        assert_eq!(object.mask.len(), size * size);
        let inside: Vec<(usize, usize)> =
            (0..size * size).filter(|&at| object.mask[at]).map(|at| (at % size, at / size)).collect();
        assert_eq!(object.area(), inside.len());
        assert!(!inside.is_empty(), "{} is out of sight", object.class);
        let (columns, rows) = (
            inside.iter().map(|&(x, _)| x).collect::<Vec<_>>(),
            inside.iter().map(|&(_, y)| y).collect::<Vec<_>>(),
        );
        let edge = |found: Option<&usize>| *found.expect("the mask has pixels");
        let tight = [
            edge(columns.iter().min()),
            edge(rows.iter().min()),
            edge(columns.iter().max()) + 1,
            edge(rows.iter().max()) + 1,
        ];
        assert_eq!(object.bbox, tight);
        // No pixel centre of an object lies in the border, whatever its turn.
        let border = (BORDER * size as f64 - 0.5).floor() as usize;
        assert!(tight[0] >= border && tight[1] >= border, "{tight:?} in the border of {size}");
        assert!(tight[2] <= size - border && tight[3] <= size - border, "{tight:?} in the border of {size}");
        for &(x, y) in &inside {
            owners[y * size + x] += 1;
        }
        assert!(
            scene.caption.contains(&format!("{} {}", object.colour.name(), object.class)),
            "{}",
            scene.caption
        );
    }
    assert!(owners.iter().all(|&count| count <= 1), "two masks share a pixel");
    let labels = scene.labels();
    assert!(labels.iter().zip(&owners).all(|(&label, &count)| (label > 0) == (count == 1)));
    assert!(scene.caption.ends_with(&format!("on a {} background", scene.background.name())));

    let classes: HashSet<Class> = scene.objects.iter().map(|object| object.class).collect();
    let colours: HashSet<Colour> = scene.objects.iter().map(|object| object.colour).collect();
    assert_eq!(classes.len(), scene.objects.len());
    assert_eq!(colours.len(), scene.objects.len());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn any_scene_is_consistent_and_repeatable(
        seed: u64, index: u64, val: bool, size in 32_usize..160,
        fewest in 1_usize..=6, more in 0_usize..=5, distractors in 0_usize..12, overlap in 0.0_f64..=0.5,
    ) {
        let split = if val { Split::Val } else { Split::Train };
        let spec = SceneSpec::new(size, fewest..=(fewest + more).min(6))
            .and_then(|spec| spec.with_distractors(0..=distractors))
            .and_then(|spec| spec.with_max_overlap(overlap))
            .expect("a valid spec");
        let first = scene(&spec, seed, split, index);
        check(&first, &spec);
        prop_assert!(first == scene(&spec, seed, split, index));
    }
}

#[test]
fn a_single_object_covers_the_intended_fraction_of_the_image() {
    let spec = SceneSpec::default();
    // The border of a mask is a pixel wide; half of it goes either way.
    let slack = 0.012;
    let mut shares = Vec::new();
    for index in 0..1000 {
        let scene = scene(&spec, 0, Split::Val, index);
        let share = scene.objects[0].area() as f64 / (64.0 * 64.0);
        let class = scene.objects[0].class;
        assert!(
            (SINGLE_AREA.0 - slack..=SINGLE_AREA.1 + slack).contains(&share),
            "scene {index}, {class}: {share}"
        );
        shares.push(share);
    }
    // Sizes do vary: the smallest tenth and the largest tenth are far apart.
    shares.sort_by(f64::total_cmp);
    assert!(shares[100] < 0.15 && shares[900] > 0.25, "{} {}", shares[100], shares[900]);
}

#[test]
fn several_objects_share_the_image() {
    let spec = SceneSpec::new(64, 2..=6).and_then(|spec| spec.with_max_overlap(0.1)).expect("a valid spec");
    for index in 0..400 {
        let scene = scene(&spec, 3, Split::Train, index);
        let share = scene.objects.iter().map(|object| object.area() as f64).sum::<f64>() / (64.0 * 64.0);
        let low = SEVERAL_AREA.0 * (1.0 - spec.max_overlap());
        assert!((low - 0.02..=SEVERAL_AREA.1 + 0.02).contains(&share), "scene {index}: {share}");
    }
}

/// Every object has at least its slice of the common area, less the tenth that may be hidden (and less the pixels that an
/// outline may lose). So that this says something, some objects must meet.
#[test]
fn objects_hide_little_of_each_other() {
    let spec = SceneSpec::new(256, 3..=5).expect("a valid spec");
    let least = |count: usize| SEVERAL_AREA.0 / count as f64 * (1.0 - spec.max_overlap());
    let mut touched = 0;
    for index in 0..150 {
        let scene = scene(&spec, 1, Split::Val, index);
        for object in &scene.objects {
            let share = object.area() as f64 / (256.0 * 256.0);
            assert!(share > least(scene.objects.len()) - 0.004, "scene {index}, {}: {share}", object.class);
        }
        touched += usize::from(objects_touch(&scene));
    }
    assert!(touched > 20, "objects hardly ever meet: {touched} of 150");
}

/// Whether two objects touch in the image.
fn objects_touch(scene: &Scene) -> bool {
    let labels = scene.labels();
    labels
        .chunks_exact(scene.size)
        .any(|row| row.windows(2).any(|pair| pair[0] != pair[1] && pair[0] > 0 && pair[1] > 0))
}

#[test]
fn classes_are_balanced_and_everything_occurs() {
    let spec = SceneSpec::default();
    for (split, seed) in [(Split::Train, 0), (Split::Val, 0), (Split::Val, 9)] {
        let scenes: Vec<Scene> = (0..300).map(|index| scene(&spec, seed, split, index)).collect();
        for block in scenes.chunks_exact(10) {
            let classes: HashSet<Class> = block.iter().map(|scene| scene.objects[0].class).collect();
            assert_eq!(classes.len(), 10, "ten scenes in a row show every class once");
        }
        let orders: HashSet<Vec<Class>> = scenes
            .chunks_exact(10)
            .map(|block| block.iter().map(|scene| scene.objects[0].class).collect())
            .collect();
        assert!(orders.len() > 25, "the order of the classes repeats: {}", orders.len());
        let colours: HashSet<Colour> = scenes.iter().map(|scene| scene.objects[0].colour).collect();
        assert_eq!(colours.len(), Colour::ALL.len());
        let textures: HashSet<Texture> = scenes.iter().map(|scene| scene.background).collect();
        assert_eq!(textures.len(), Texture::ALL.len());
        let places: HashSet<[usize; 4]> = scenes.iter().map(|scene| scene.objects[0].bbox).collect();
        assert!(places.len() > 280, "places repeat: {}", places.len());
    }
}

#[test]
fn every_coordinate_changes_the_scene() {
    let spec = SceneSpec::default();
    let mut seen = HashSet::new();
    for seed in 0..4 {
        for split in Split::ALL {
            for index in 0..25 {
                assert!(
                    seen.insert(fingerprint(&scene(&spec, seed, split, index))),
                    "{seed} {split:?} {index}"
                );
            }
        }
    }
}

#[test]
fn the_size_changes_nothing_but_the_sharpness() {
    let small = SceneSpec::new(64, 1..=4).expect("a valid spec");
    let large = SceneSpec::new(192, 1..=4).expect("a valid spec");
    for index in 0..40 {
        let (small, large) = (scene(&small, 5, Split::Val, index), scene(&large, 5, Split::Val, index));
        assert_eq!(small.caption, large.caption);
        // 192 is three times 64: the middle one of nine pixels has the very centre of the one.
        for (a, b) in small.objects.iter().zip(&large.objects) {
            assert_eq!(a.rgb, b.rgb);
            let agree =
                (0..64 * 64).all(|at| a.mask[at] == b.mask[(3 * (at / 64) + 1) * 192 + 3 * (at % 64) + 1]);
            assert!(agree, "scene {index}: the masks of the {} differ", a.class);
        }
    }
}

/// The objects can be told from what is around them: within a mask colours are near the object's own, outside they are
/// not. Seen over many scenes, in levels of the three channels together.
#[test]
fn objects_differ_from_their_background() {
    let spec = SceneSpec::default();
    for index in 0..300 {
        let scene = scene(&spec, 0, Split::Train, index);
        let object = &scene.objects[0];
        let mut sums = [(0.0, 0.0); 2];
        for (pixel, &inside) in scene.rgb.chunks_exact(3).zip(&object.mask) {
            let distance: f64 = pixel.iter().zip(object.rgb).map(|(&a, b)| f64::from(a.abs_diff(b))).sum();
            let sum = &mut sums[usize::from(inside)];
            *sum = (sum.0 + distance, sum.1 + 1.0);
        }
        let [outside, within] = sums.map(|(sum, count)| sum / count);
        assert!(within < 60.0, "scene {index}, {}: {within} within", scene.caption);
        assert!(
            outside > within + 60.0,
            "scene {index}, {}: {outside} outside, {within} within",
            scene.caption
        );
    }
}

#[test]
fn captions_read_as_english() {
    let spec = SceneSpec::new(32, 1..=3).expect("a valid spec");
    for index in 0..200 {
        let scene = scene(&spec, 2, Split::Val, index);
        let words: Vec<&str> = scene.caption.split([' ', ',']).filter(|word| !word.is_empty()).collect();
        for pair in words.windows(2) {
            let vowel = pair[1].starts_with(['a', 'e', 'i', 'o', 'u']);
            assert!(pair[0] != "a" || !vowel, "{}", scene.caption);
            assert!(pair[0] != "an" || vowel, "{}", scene.caption);
        }
        assert_eq!(scene.caption.matches(" and ").count(), usize::from(scene.objects.len() > 1));
        assert_eq!(scene.caption.matches(',').count(), scene.objects.len().saturating_sub(2));
    }
}

#[test]
fn impossible_specs_are_refused() {
    assert_eq!(SceneSpec::new(31, 1..=1), Err(SpecError::Size(31)));
    assert_eq!(SceneSpec::new(4096, 1..=1), Err(SpecError::Size(4096)));
    assert_eq!(SceneSpec::new(64, 0..=2), Err(SpecError::Objects(0, 2)));
    assert_eq!(SceneSpec::new(64, 2..=7), Err(SpecError::Objects(2, 7)));
    #[allow(clippy::reversed_empty_ranges)]
    let reversed = SceneSpec::new(64, 3..=2);
    assert_eq!(reversed, Err(SpecError::Objects(3, 2)));
    let spec = SceneSpec::default();
    assert_eq!(spec.clone().with_distractors(0..=65), Err(SpecError::Distractors(0, 65)));
    assert_eq!(spec.clone().with_max_overlap(0.6), Err(SpecError::Overlap(0.6)));
    assert!(matches!(spec.with_max_overlap(f64::NAN), Err(SpecError::Overlap(_))));
    assert_eq!("val".parse(), Ok(Split::Val));
    assert!("test".parse::<Split>().expect_err("no such split").to_string().contains("`train` or `val`"));
}

/// Decodes an 8-bit PNG.
fn read_png(path: &Path) -> (usize, Vec<u8>) {
    let file = std::io::BufReader::new(std::fs::File::open(path).expect("the exported file"));
    let mut reader = png::Decoder::new(file).read_info().expect("a PNG");
    let mut data = vec![0; reader.output_buffer_size().expect("a size")];
    let info = reader.next_frame(&mut data).expect("a picture");
    data.truncate(info.buffer_size());
    (info.width as usize, data)
}

#[test]
fn exported_files_hold_the_scenes() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let spec = SceneSpec::default();
    export(folder.path(), &spec, 4, Split::Val, 12).expect("the export");
    let labels = std::fs::read_to_string(folder.path().join("labels.csv")).expect("labels.csv");
    let lines = std::fs::read_to_string(folder.path().join("scenes.jsonl")).expect("scenes.jsonl");
    assert_eq!((labels.lines().count(), lines.lines().count()), (13, 12));
    assert_eq!(labels.lines().next(), Some("file,label"));
    for (index, (label, line)) in labels.lines().skip(1).zip(lines.lines()).enumerate() {
        let scene = scene(&spec, 4, Split::Val, index as u64);
        let object = &scene.objects[0];
        let (file, label) = label.split_once(',').expect("two columns");
        assert_eq!(file, format!("images/{index:06}.png"));
        assert_eq!(label, object.class.label().to_string());
        assert_eq!(read_png(&folder.path().join(file)), (64, scene.rgb.clone()));
        assert_eq!(read_png(&folder.path().join(format!("masks/{index:06}.png"))), (64, scene.labels()));
        let line: serde_json::Value = serde_json::from_str(line).expect("a JSON line");
        assert_eq!(line["file"], file);
        assert_eq!(line["caption"], scene.caption);
        assert_eq!(line["background"], scene.background.name());
        assert_eq!(line["objects"][0]["class"], object.class.name());
        assert_eq!(line["objects"][0]["colour"], object.colour.name());
        assert_eq!(line["objects"][0]["bbox"], serde_json::json!(object.bbox));
        assert_eq!(line["objects"][0]["pixels"], object.area());
    }
}

#[test]
fn scenes_of_several_objects_have_no_one_label() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let spec = SceneSpec::new(48, 2..=3).expect("a valid spec");
    export(folder.path(), &spec, 0, Split::Train, 2).expect("the export");
    assert!(!folder.path().join("labels.csv").exists());
    assert!(folder.path().join("scenes.jsonl").exists());
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("occupied");
    std::fs::write(&file, "a file where the folder should go").expect("the file");
    let error =
        export(&file, &SceneSpec::default(), 0, Split::Train, 1).expect_err("no folder can be made there");
    assert!(matches!(error, ExportError::Write { .. }));
    assert!(error.to_string().contains("occupied"), "{error}");
}

/// The first value after `key =` in the descriptor.
fn descriptor(key: &str) -> &'static str {
    include_str!("../../../../datasets/mini/mini.toml")
        .lines()
        .filter_map(|line| line.split('#').next()?.split_once('='))
        .find_map(|(name, value)| (name.trim() == key).then_some(value.trim()))
        .expect("a key of the descriptor")
}

#[test]
fn the_descriptor_agrees_with_the_code() {
    let spec = SceneSpec::default();
    assert_eq!(descriptor("classes"), format!("{:?}", Class::ALL.map(Class::name)));
    assert_eq!(descriptor("size"), spec.size().to_string());
    assert_eq!(descriptor("objects"), format!("{:?}", <[usize; 2]>::from(spec.objects())));
    assert_eq!(descriptor("distractors"), format!("{:?}", <[usize; 2]>::from(spec.distractors())));
    assert_eq!(descriptor("max_overlap"), spec.max_overlap().to_string());
    let area = format!("[{:.2}, {:.2}]", SINGLE_AREA.0, SINGLE_AREA.1);
    assert_eq!(descriptor("area"), area);
}

#[test]
fn the_miniature_vit_knows_the_classes_by_the_same_labels() {
    let config = include_str!("../../../../datasets/mini/models/vit/config.json");
    let config: serde_json::Value = serde_json::from_str(config).expect("JSON");
    let names = config["id2label"].as_object().expect("a map of labels");
    assert_eq!(names.len(), Class::ALL.len());
    for class in Class::ALL {
        assert_eq!(names[&class.label().to_string()], class.name());
    }
}
