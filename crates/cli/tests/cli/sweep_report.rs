//! `tokenrank sweep-report`: which combinations of a sweep come near a column of the paper.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::common::{arg, root, run, scratch, words};

/// The published values of the column ViT in `eval/tables/masking.toml`.
const PAPER: [(&str, f64); 5] =
    [("random", 0.79), ("center", 0.33), ("column-sum", 0.27), ("cls", 0.33), ("tokenrank", 0.26)];

fn sweep(dir: &Path, axes: &str, limit: &str) -> PathBuf {
    let text = std::fs::read_to_string(root().join("configs/mini/masking-vit.toml"))
        .expect("the miniature's experiment");
    let text =
        text.replace("cls = [\"kept\", \"dropped\"]", "cls = \"kept\"").replace("step = 0.05", "step = 0.19");
    let (path, out) = (dir.join("choices.toml"), dir.join("out"));
    std::fs::write(&path, format!("{text}\n[sweep]\n{axes}\n")).expect("writable");
    run(&["run", arg(&path), "--limit", limit, "--out", arg(&out)], 0);
    out
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).expect("a file")).expect("JSON")
}

#[test]
fn the_nearest_combination_comes_first_and_settings_are_weighed() {
    let dir = scratch();
    let out = sweep(dir.path(), "layers = [\"last:1\", \"all\"]\ncls = [\"kept\", \"dropped\"]", "30");
    let output = run(&["sweep-report", arg(&out)], 0);
    let text = String::from_utf8(output.stdout).expect("text");
    for word in
        ["distance from the column ViT of the paper", "(the paper)", "which settings decide", "of 9 pairs"]
    {
        assert!(text.contains(word), "{word} is not in\n{text}");
    }
    let (found, stored) = (read(&out.join("search.json")), read(&out.join("sweep.json")));
    assert_eq!(
        (&found["table"], &found["column"], &found["pairs"]),
        (&"masking".into(), &"ViT".into(), &9.into())
    );
    let combinations = found["combinations"].as_array().expect("combinations");
    assert_eq!(combinations.len(), 4);
    let mut squares = Vec::new();
    for one in combinations {
        let settings = &one["settings"];
        let all = stored["combinations"].as_array().expect("combinations");
        let of_sweep = all.iter().find(|other| other["settings"] == *settings).expect("the same combination");
        let value = |method: &str| of_sweep["auc"][method].as_f64().expect("an area");
        let square =
            PAPER.iter().map(|(method, published)| (value(method) - published).powi(2)).sum::<f64>() / 5.0;
        let distance = one["distance"].as_f64().expect("a distance");
        assert!((distance - square.sqrt()).abs() < 1e-9, "{one}");
        let (low, high) = (&one["distance_interval"]["low"], &one["distance_interval"]["high"]);
        assert!(low.as_f64() < Some(distance) && high.as_f64() > Some(distance), "{one}");
        let pairs =
            PAPER.iter().enumerate().flat_map(|(index, a)| PAPER[..index].iter().map(move |b| (a, b)));
        let swapped =
            pairs.filter(|((a, p), (b, q))| p != q && (p - q) * (value(a) - value(b)) <= 0.0).count() as u64;
        assert_eq!(one["swapped"].as_u64(), Some(swapped), "{one}");
        squares.push((settings.clone(), square));
    }
    assert!(squares.windows(2).all(|pair| pair[0].1 <= pair[1].1), "{squares:?}");

    // The shares of the main effects by hand.
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let all: Vec<f64> = squares.iter().map(|(_, square)| *square).collect();
    let total: f64 = all.iter().map(|square| (square - mean(&all)).powi(2)).sum();
    let mut left = 1.0;
    for (axis, values) in [("layers", ["last:1", "all"]), ("cls", ["kept", "dropped"])] {
        let of = |value: &str| {
            let having =
                squares.iter().filter(|(settings, _)| settings[axis] == value).map(|(_, square)| *square);
            let having: Vec<f64> = having.collect();
            having.len() as f64 * (mean(&having) - mean(&all)).powi(2)
        };
        let wanted = values.iter().map(|value| of(value)).sum::<f64>() / total;
        let share = found["settings"][axis]["share"].as_f64().expect("a share");
        assert!((share - wanted).abs() < 1e-6, "{axis}: {share} {wanted}");
        left -= wanted;
    }
    assert!((found["interactions"]["share"].as_f64().expect("a share") - left).abs() < 1e-6);
    for file in ["search.md", "search.csv", "search-settings.md"] {
        assert!(out.join(file).metadata().expect(file).len() > 0);
    }

    // Another column of the same table has other published values.
    run(&["sweep-report", arg(&out), "--paper", "DINOv2"], 0);
    let other = read(&out.join("search.json"));
    assert!(other["column"] == "DINOv2" && other["published"]["cls"] == 0.7);
    // What the sweep makes again belongs to it.
    run(&["report", arg(&out)], 0);
    let html = std::fs::read_to_string(out.join("report.html")).expect("a page");
    assert!(html.contains("href=\"search.md\"") && html.contains("against each other method"));
}

#[test]
fn what_has_no_column_of_the_paper_is_refused() {
    let dir = scratch();
    let message = words(&run(&["sweep-report", arg(dir.path())], 3));
    assert!(message.contains("no finished sweep here"), "{message}");
    let out = sweep(dir.path(), "alpha = [0.5, 0.99]", "4");
    let message = words(&run(&["sweep-report", arg(&out), "--paper", "ResNet"], 2));
    assert!(
        message.contains("no column `ResNet`") && message.contains("ViT, CLIP, DINOv1, DINOv2"),
        "{message}"
    );

    // Four images have a distance and no interval.
    run(&["sweep-report", arg(&out)], 0);
    let found = read(&out.join("search.json"));
    assert!(
        found["combinations"][0]["distance"].is_number() && found["combinations"][0]["reached"].is_null()
    );
    assert!(found["combinations"][0]["distance_interval"].is_null());

    // A sweep of an earlier version does not say where its numbers are.
    let path = out.join("sweep.json");
    let mut stored = read(&path);
    for one in stored["combinations"].as_array_mut().expect("combinations") {
        one.as_object_mut().expect("a combination").remove("methods");
    }
    std::fs::write(&path, stored.to_string()).expect("writable");
    let message = words(&run(&["sweep-report", arg(&out)], 3));
    assert!(message.contains("as earlier versions wrote it"), "{message}");
    // A run outside the folder is not read.
    for one in stored["combinations"].as_array_mut().expect("combinations") {
        one["methods"] = serde_json::json!({ "tokenrank": { "run": "../elsewhere", "method": "tokenrank" } });
    }
    std::fs::write(&path, stored.to_string()).expect("writable");
    let message = words(&run(&["sweep-report", arg(&out)], 3));
    assert!(message.contains("is not inside the folder of the sweep"), "{message}");

    let kept = dir.path().join("kept");
    let config = root().join("configs/examples/kept-vit-mini.toml");
    run(&["run", arg(&config), "--limit", "4", "--set", "sweep.alpha=[0.5, 0.99]", "--out", arg(&kept)], 0);
    let message = words(&run(&["sweep-report", arg(&kept)], 2));
    assert!(message.contains("no table for the experiment `kept`"), "{message}");
}
