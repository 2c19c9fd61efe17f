//! The miniature scenes with their exact masks.

use proptest::prelude::*;
use serde_json::json;
use tasks::mini::{self, SceneSpec, Split, leading_class, scene};

use super::{classes, dataset, listed, load, refusal};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn labels_are_the_mask_of_the_leading_class(seed in 0_u64..1000, from in 1_usize..4, more in 0_usize..3) {
        let objects = json!({ "from": from, "to": from + more });
        let items = listed(&dataset("mini", json!({ "count": 6, "seed": seed, "size": 48, "objects": objects })));
        prop_assert_eq!(items.len(), 6);
        for (index, item) in (0..).zip(&items) {
            let spec = SceneSpec::new(48, from..=from + more).unwrap();
            let drawn = scene(&spec, seed, Split::Val, index);
            let leading = leading_class(seed, Split::Val, index);
            prop_assert_eq!(classes(item), [(1, leading.name())]);
            let found = load(item);
            prop_assert_eq!(&found.rgb.data, &drawn.rgb);
            // Of all classes of the scene, the pixels of the leading one.
            let class = leading.label() as u8 + 1;
            prop_assert!(found.labels.iter().map(|&label| label == 1).eq(drawn.labels().iter().map(|&label| label == class)));
            prop_assert!(found.labels.iter().all(|&label| label <= 1));
            prop_assert!(found.labels.iter().any(|&label| label == 1));
        }
    }

    #[test]
    fn every_class_of_a_scene_is_searched(seed in 0_u64..1000, from in 1_usize..4, more in 0_usize..3) {
        let objects = json!({ "from": from, "to": from + more });
        let settings = json!({ "count": 6, "seed": seed, "size": 48, "objects": objects, "protocol": "multi-class" });
        let items = listed(&dataset("mini", settings));
        prop_assert_eq!(items.len(), 6);
        for (index, item) in (0..).zip(&items) {
            let spec = SceneSpec::new(48, from..=from + more).unwrap();
            let drawn = scene(&spec, seed, Split::Val, index);
            let all: Vec<mini::Class> = drawn.objects.iter().map(|object| object.class).collect();
            prop_assert_eq!(&mini::classes(&spec, seed, Split::Val, index), &all);
            let mut wanted: Vec<(u8, &str)> =
                all.iter().map(|class| (class.label() as u8 + 1, class.name())).collect();
            wanted.sort_unstable();
            prop_assert_eq!(classes(item), wanted.clone());
            let found = load(item);
            prop_assert_eq!(&found.rgb.data, &drawn.rgb);
            prop_assert!(found.labels.iter().eq(&drawn.labels()));
            for (label, name) in wanted {
                prop_assert!(found.labels.iter().any(|&pixel| pixel == label), "no pixel is {}", name);
            }
        }
    }
}

#[test]
fn scenes_of_one_object_are_those_of_the_labelled_images() {
    let dataset = dataset("mini", json!({ "count": 10, "seed": 4 }));
    let labelled = dataset.items(10).expect("a dataset");
    for (image, segmented) in labelled.iter().zip(listed(&dataset)) {
        assert_eq!(image.id, segmented.id);
        assert_eq!(image.load().expect("drawn").rgb, load(&segmented).rgb);
    }
}

#[test]
fn several_objects_have_no_label_for_the_whole() {
    let several = dataset("mini", json!({ "count": 3, "objects": { "from": 1, "to": 2 } }));
    let message = several.items(10).expect_err("accepted").to_string();
    assert!(message.contains("dataset.mini.objects"), "{message}");
    for objects in
        [json!({ "from": 0, "to": 1 }), json!({ "from": 3, "to": 2 }), json!({ "from": 1, "to": 7 })]
    {
        let message = refusal(&dataset("mini", json!({ "count": 3, "objects": objects })));
        assert!(message.contains("1 to 6"), "{message}");
    }
    assert!(refusal(&dataset("mini", json!({ "count": 0 }))).contains("between 1 and"));
}

#[test]
fn a_protocol_needs_classes_to_search() {
    let settings = json!({ "count": 3, "protocol": "multi-class" });
    let several = dataset("mini", settings);
    for (message, needed) in [
        (several.items(10).expect_err("accepted").to_string(), "a label for the whole image"),
        (several.labelled_pixels().expect_err("accepted").to_string(), "a class for every pixel"),
    ] {
        assert!(message.contains("dataset.mini.protocol") && message.contains(needed), "{message}");
    }
    // The default may be written out.
    let leading = dataset("mini", json!({ "count": 3, "protocol": "leading-class" }));
    assert_eq!((leading.items(10).expect("a dataset").len(), listed(&leading).len()), (3, 3));
    assert!(leading.labelled_pixels().is_ok());
}

#[test]
fn the_default_is_not_written_into_experiments() {
    let write = |settings| serde_json::to_value(dataset("mini", settings)).expect("a table");
    for key in ["objects", "protocol"] {
        assert!(
            write(json!({ "count": 3, "protocol": "leading-class" }))["mini"].get(key).is_none(),
            "{key}"
        );
    }
    let all = json!({ "count": 3, "protocol": "multi-class" });
    assert_eq!(write(all)["mini"]["protocol"], "multi-class");
    let several = json!({ "from": 1, "to": 3 });
    assert_eq!(write(json!({ "count": 3, "objects": several }))["mini"]["objects"], several);
}
