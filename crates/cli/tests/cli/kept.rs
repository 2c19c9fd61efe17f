//! The smallest experiment goes through everything that is shared: run, shards, merge, report, compare, a sweep and `--fresh`.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::common::{arg, run, scratch};

const CONFIG: &str = "configs/examples/kept-vit-mini.toml";

fn values(out: &Path) -> Vec<(String, f64)> {
    let text = fs::read(out.join("results.json")).expect("results");
    let results: Value = serde_json::from_slice(&text).expect("JSON");
    let of = |value: &Value| {
        assert_eq!(value["name"], "kept");
        let method = value["method"].as_str().expect("a method").to_owned();
        (method, value["value"].as_f64().expect("a value"))
    };
    results["metrics"].as_array().expect("metrics").iter().map(of).collect()
}

#[test]
fn an_experiment_needs_nothing_but_its_two_folders() {
    let dir = scratch();
    let [whole, apart, page] = ["whole", "apart", "page.html"].map(|name| dir.path().join(name));
    let table = run(&["run", CONFIG, "--limit", "40", "--out", arg(&whole)], 0).stdout;
    let text = String::from_utf8(table.clone()).expect("UTF-8");
    assert!(text.contains("tokens kept") && text.contains("Column sum"), "{text}");
    let found = values(&whole);
    assert_eq!(
        found.iter().map(|(method, _)| method.as_str()).collect::<Vec<_>>(),
        ["column-sum", "tokenrank"]
    );
    assert!(found.iter().all(|(_, kept)| (0.05..0.95).contains(kept)), "{found:?}");

    for shard in ["2/2", "1/2"] {
        run(&["run", CONFIG, "--limit", "40", "--out", arg(&apart), "--shard", shard], 0);
    }
    assert!(run(&["merge", arg(&apart)], 0).stdout == table);
    assert_eq!(values(&apart), found);

    run(&["report", arg(&whole), "--out", arg(&page)], 0);
    let html = fs::read_to_string(&page).expect("a page");
    assert!(
        html.contains("tokens kept") && html.contains("Kept, %"),
        "the page shows the metric and the items"
    );

    run(&["compare", arg(&apart), arg(&whole)], 0);
    let other = dir.path().join("other");
    let assignment = "task.kept.threshold=1.5";
    run(&["run", CONFIG, "--limit", "40", "--out", arg(&other), "--set", assignment], 0);
    let comparison = String::from_utf8(run(&["compare", arg(&other), arg(&whole)], 4).stdout).expect("text");
    assert!(comparison.contains("task.kept.threshold: 1.0 → 1.5"), "{comparison}");
    assert!(values(&other)[0].1 < found[0].1, "a higher threshold keeps fewer tokens");

    run(&["run", CONFIG, "--limit", "40", "--out", arg(&other), "--fresh"], 0);
    assert_eq!(values(&other), found);
}
