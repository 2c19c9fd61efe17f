//! Methods whose scores come from files: `{ file = "scores.safetensors", name = "my score" }`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::Value;

use crate::attend::read;
use crate::common::{arg, run, scratch, words};
use crate::on_files::{scenes, with_dataset};

const MODEL: &str = "datasets/mini/models/vit";
/// Scenes that `on_files::scenes` writes.
const IMAGES: usize = 9;
const FRACTIONS: &str = "task.masking.fractions={ from = 0.0, to = 0.9, step = 0.15 }";

/// A tensor to be written.
#[derive(Clone)]
pub struct Array {
    pub name: String,
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    pub bytes: Vec<u8>,
}

impl Array {
    pub fn f64(name: &str, shape: &[usize], values: &[f64]) -> Self {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Self { name: name.to_owned(), dtype: Dtype::F64, shape: shape.to_vec(), bytes }
    }

    pub fn f32(name: &str, shape: &[usize], values: &[f64]) -> Self {
        let bytes = values.iter().flat_map(|&value| (value as f32).to_le_bytes()).collect();
        Self { name: name.to_owned(), dtype: Dtype::F32, shape: shape.to_vec(), bytes }
    }

    pub fn u8(name: &str, shape: &[usize], values: &[u8]) -> Self {
        Self { name: name.to_owned(), dtype: Dtype::U8, shape: shape.to_vec(), bytes: values.to_vec() }
    }
}

/// Writes a file of scores with these metadata, or none.
pub fn write(path: &Path, metadata: &[(&str, &str)], arrays: &[Array]) {
    let views = arrays.iter().map(|array| {
        let view = TensorView::new(array.dtype, array.shape.clone(), &array.bytes).expect("a tensor");
        (array.name.as_str(), view)
    });
    let metadata: HashMap<String, String> =
        metadata.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let metadata = (!metadata.is_empty()).then_some(metadata);
    std::fs::write(path, safetensors::serialize(views, metadata).expect("bytes")).expect("writable");
}

pub fn write_for(path: &Path, task: &str, arrays: &[Array]) {
    write(path, &[("format", "tokenrank scores 1"), ("task", task), ("name", "from the test")], arrays);
}

pub fn results(out: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(out.join("results.json")).expect("results")).expect("JSON")
}

/// Every metric of a method that has a value, by name.
pub fn row(results: &Value, method: &str) -> Vec<(String, f64)> {
    let metrics = results["metrics"].as_array().expect("metrics").iter();
    let of_method = metrics.filter(|metric| metric["method"] == method);
    let row: Vec<(String, f64)> = of_method
        .filter_map(|metric| Some((metric["name"].as_str()?.to_owned(), metric["value"].as_f64()?)))
        .collect();
    assert!(!row.is_empty(), "no metric of {method}");
    row
}

/// Scenes in files, and a masking experiment on them.
struct Masking {
    dir: tempfile::TempDir,
    config: PathBuf,
}

impl Masking {
    fn new() -> Self {
        let dir = scratch();
        let folder = dir.path().join("scenes");
        scenes(&folder, 1..=1);
        let dataset = format!("[folder]\nroot = {folder:?}");
        let config = with_dataset(dir.path(), "configs/mini/masking-vit.toml", &dataset);
        Self { dir, config }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Names of the images, as the table of the folder lists them.
    fn ids() -> Vec<String> {
        (0..IMAGES).map(|index| format!("images/{index:06}.png")).collect()
    }

    /// The arguments of a command with the methods `methods`, a TOML list in which FILE stands for the path of the scores.
    fn args(&self, command: &str, methods: &str, more: &[&str]) -> Vec<String> {
        let methods = methods.replace("FILE", &format!("{:?}", self.at("scores.safetensors")));
        let mut args = vec![command.to_owned(), arg(&self.config).into()];
        for set in [&format!("task.masking.methods={methods}"), FRACTIONS, "task.masking.cls=kept"] {
            args.extend(["--set".to_owned(), set.to_string()]);
        }
        args.extend(more.iter().map(|&word| word.to_owned()));
        args
    }

    #[track_caller]
    fn command(&self, command: &str, methods: &str, more: &[&str], code: i32) -> std::process::Output {
        let args = self.args(command, methods, more);
        run(&args.iter().map(String::as_str).collect::<Vec<_>>(), code)
    }

    /// Runs the experiment below the name `out`.
    #[track_caller]
    fn run(&self, out: &str, methods: &str, more: &[&str], code: i32) -> std::process::Output {
        let out = self.at(out);
        self.command("run", methods, &[&["--out", arg(&out)], more].concat(), code)
    }

    /// Writes scores of all images: distinct numbers.
    fn write_any(&self, factor: f64) {
        let arrays: Vec<Array> = Self::ids().iter().enumerate().map(|(k, id)| any(id, k, factor)).collect();
        write_for(&self.at("scores.safetensors"), "masking", &arrays);
    }
}

/// Distinct scores of an image on the grid of the miniature, 8 by 8 patches.
fn any(id: &str, seed: usize, factor: f64) -> Array {
    let scores: Vec<f64> = (0..64).map(|patch| factor * ((patch * 37 + seed * 11) % 64) as f64).collect();
    Array::f32(id, &[8, 8], &scores)
}

/// Attention received from all tokens by each patch of an image, averaged over all heads and layers: what the method
/// `column-sum` computes, from the maps that `tokenrank attend` writes.
fn column_sums(image: &Path, out: &Path) -> Vec<f64> {
    let args = ["attend", "--model", MODEL, "--image", arg(image), "--out", arg(out)];
    run(&args, 0);
    let bytes = std::fs::read(out).expect("written");
    let names = safetensors::SafeTensors::deserialize(&bytes).expect("a file").names().len();
    assert!(names > 4);
    let (mut sums, mut maps) = (Vec::new(), 0.0);
    for block in 0.. {
        let name = format!("block.{block}.probs");
        if safetensors::SafeTensors::deserialize(&bytes).expect("a file").tensor(&name).is_err() {
            break;
        }
        let (shape, probs) = read(out, &name);
        let [heads, n, _] = shape[..] else { panic!("{shape:?}") };
        sums.resize(n, 0.0);
        maps += heads as f64;
        for row in probs.chunks(n) {
            sums.iter_mut().zip(row).for_each(|(sum, &p)| *sum += f64::from(p));
        }
    }
    let n = sums.len() as f64;
    // CLS comes first.
    sums[1..].iter().map(|sum| sum / (n * maps)).collect()
}

#[test]
fn exported_column_sums_give_the_row_of_column_sum() {
    let on = Masking::new();
    let mut arrays = Vec::new();
    for (index, id) in Masking::ids().iter().enumerate() {
        let scores = column_sums(&on.at("scenes").join(id), &on.at("maps.safetensors"));
        assert_eq!(scores.len(), 64);
        // Any order of the file, with and without the sides of the grid.
        let shape: &[usize] = if index % 2 == 0 { &[8, 8] } else { &[64] };
        arrays.insert(0, Array::f64(id, shape, &scores));
    }
    write_for(&on.at("scores.safetensors"), "masking", &arrays);
    let mine = "{ file = FILE, name = \"exported <b>\" }";
    let set = ["--set", "task.masking.layers=all"];
    let output = on.run("both", &format!("[\"column-sum\", {mine}, \"random\"]"), &set, 0);
    let table = String::from_utf8(output.stdout).expect("text");
    assert!(table.contains("exported <b>"), "{table}");
    let both = results(&on.at("both"));
    assert_eq!(row(&both, "exported <b>"), row(&both, "column-sum"));
    assert_ne!(row(&both, "exported <b>"), row(&both, "random"));
    let records = std::fs::read_to_string(on.at("both").join("records.jsonl")).expect("records");
    let records: Vec<Value> = records.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let records: Vec<&Value> = records.iter().filter(|record| record["predicted"].is_object()).collect();
    assert_eq!(records.len(), IMAGES);
    for record in records {
        assert_eq!(record["predicted"]["exported <b>"], record["predicted"]["column-sum"], "{record}");
    }
    // Scores from files alone: the same row, and no layers are read.
    on.run("alone", &format!("[{mine}]"), &[], 0);
    assert_eq!(row(&results(&on.at("alone")), "exported <b>"), row(&both, "column-sum"));
    let hash = both["scores"]["exported <b>"].as_str().expect("the hash of the file");
    let bytes = std::fs::read(on.at("scores.safetensors")).expect("a file");
    assert_eq!(hash, models::hex(<sha2::Sha256 as sha2::Digest>::digest(&bytes)));
}

const MINE: &str = "[\"random\", { file = FILE, name = \"mine\" }]";

#[test]
fn a_changed_file_is_another_run() {
    let on = Masking::new();
    on.write_any(1.0);
    on.run("run", MINE, &["--limit", "5"], 0);
    let first = std::fs::read(on.at("scores.safetensors")).expect("a file");
    let told = words(&on.run("run", MINE, &["--limit", "5"], 0));
    assert!(told.contains("all items were already done"), "{told}");
    on.write_any(-1.0);
    let told = words(&on.run("run", MINE, &["--limit", "5"], 2));
    assert!(told.contains("scores of `mine`: ") && told.contains("--fresh"), "{told}");
    std::fs::write(on.at("scores.safetensors"), first).expect("writable");
    let told = words(&on.run("run", MINE, &["--limit", "5"], 0));
    assert!(told.contains("all items were already done"), "{told}");
}

#[test]
fn shards_reports_and_comparisons_have_methods_from_files() {
    let on = Masking::new();
    on.write_any(1.0);
    let batch = ["--set", "task.masking.batch=4"];
    let table = on.run("whole", MINE, &batch, 0).stdout;
    for shard in ["1/2", "2/2"] {
        on.run("apart", MINE, &[&batch[..], &["--shard", shard]].concat(), 0);
    }
    let (whole, apart) = (on.at("whole"), on.at("apart"));
    assert_eq!(run(&["merge", arg(&apart)], 0).stdout, table);
    crate::experiments::assert_same(&whole, &apart);
    run(&["report", arg(&whole)], 0);
    let page = std::fs::read_to_string(whole.join("report.html")).expect("a page");
    assert!(
        page.contains("mine") && page.contains("Scores, SHA-256"),
        "the page has the method and its file"
    );
    run(&["compare", arg(&whole), arg(&apart)], 0);
    // Merging with another file would join what does not belong together.
    on.write_any(-1.0);
    on.run("other", MINE, &batch, 0);
    let text =
        String::from_utf8(run(&["compare", arg(&whole), arg(&on.at("other"))], 4).stdout).expect("text");
    assert!(text.contains("another file of scores for mine: "), "{text}");
    std::fs::remove_dir_all(apart.join("shard-1-of-2")).expect("removed");
    on.run("apart", MINE, &[&batch[..], &["--shard", "1/2"]].concat(), 0);
    let told = words(&run(&["merge", arg(&apart), "--out", arg(&on.at("mixed"))], 3));
    assert!(told.contains("of different runs") && told.contains("scores of `mine`"), "{told}");
}

#[test]
fn a_sweep_runs_scores_from_a_file_once() {
    let on = Masking::new();
    on.write_any(1.0);
    let text = std::fs::read_to_string(&on.config).expect("an experiment");
    std::fs::write(&on.config, format!("{text}\n[sweep]\nalpha = [0.5, 0.99]\n")).expect("writable");
    let methods = "[\"tokenrank\", { file = FILE, name = \"mine\" }]";
    let output = on.run("sweep", methods, &["--limit", "6"], 0);
    let table = String::from_utf8(output.stdout).expect("text");
    assert!(table.contains("mine"), "{table}");
    let stored = std::fs::read(on.at("sweep").join("sweep.json")).expect("a sweep");
    let stored: Value = serde_json::from_slice(&stored).expect("JSON");
    let auc = |index: usize| stored["combinations"][index]["auc"]["mine"].as_f64().expect("an area");
    assert_eq!(auc(0), auc(1));
    let second = results(&on.at("sweep/runs/alpha-0.99"));
    assert_eq!(second["experiment"]["task"]["masking"]["methods"], serde_json::json!(["tokenrank"]));
    // A combination whose grid is another one is named.
    let sweep = "sweep={ image_size = [64, 80] }";
    let told = words(&on.run("grids", methods, &["--set", sweep], 3));
    assert!(told.contains("image_size = 80") && told.contains("10 10 patches"), "{told}");
}

#[test]
fn files_that_do_not_fit_are_refused_before_any_work() {
    let on = Masking::new();
    let path = on.at("scores.safetensors");
    let good = |skip: &str| -> Vec<Array> {
        let ids = Masking::ids();
        let kept = ids.iter().enumerate().filter(|(_, id)| *id != skip);
        kept.map(|(index, id)| any(id, index, 1.0)).collect()
    };
    let ours = [("format", "tokenrank scores 1"), ("task", "masking")];
    let refused = |parts: &[&str]| {
        for command in ["validate", "run"] {
            let out = on.at("never");
            let told = words(&on.command(command, MINE, &["--out", arg(&out)], 3));
            for part in [&["scores.safetensors"], parts].concat() {
                assert!(told.contains(part), "{part} is not in {told}");
            }
            assert!(!out.exists(), "nothing is written");
        }
    };
    refused(&["cannot be read"]);
    std::fs::write(&path, "scores").expect("writable");
    refused(&["is not a readable safetensors file"]);
    write(&path, &[], &good(""));
    refused(&["have no `format`", "write_scores(…, task=\"masking\")"]);
    write(&path, &[("format", "tokenrank scores 2"), ("task", "masking")], &good(""));
    refused(&["\"tokenrank scores 2\"", "\"tokenrank scores 1\""]);
    write(&path, &ours[..1], &good(""));
    refused(&["have no `task`"]);
    write(&path, &[("format", "tokenrank scores 1"), ("task", "diffseg")], &good(""));
    refused(&["task = \"diffseg\"", "[task.masking]"]);

    let third = "images/000003.png";
    write(&path, &ours, &good(third));
    refused(&["has no tensor for 1 of 9 images: `images/000003.png`", "id"]);
    let mut arrays = good(third);
    arrays.push(any("000003.png", 3, 1.0));
    write(&path, &ours, &arrays);
    refused(&["`images/000003.png`", "such as `000003.png`"]);

    let with = |array: Array| {
        let mut arrays = good(third);
        arrays.push(array);
        write(&path, &ours, &arrays);
    };
    let scores = vec![0.5; 64];
    with(Array::f32(third, &[4, 16], &scores));
    refused(&[third, "shape [4, 16]", "8 8 patches", "[8, 8]", "[64]"]);
    with(Array::f32(third, &[7, 7], &scores[..49]));
    refused(&[third, "shape [7, 7]"]);
    with(Array::f32(third, &[1, 8, 8], &scores));
    refused(&[third, "shape [1, 8, 8]"]);
    for (value, shown) in
        [(f64::NAN, "NaN"), (f64::INFINITY, "inf"), (f64::NEG_INFINITY, "-inf"), (1e300, "1000")]
    {
        let mut scores = scores.clone();
        scores[19] = value;
        with(Array::f64(third, &[8, 8], &scores));
        refused(&[third, shown, "row 2, column 3", "finite"]);
        with(Array::f64(third, &[64], &scores));
        refused(&[third, shown, "token 19"]);
    }
    with(Array::u8(third, &[8, 8], &[1; 64]));
    refused(&[third, "holds U8", "F64, F32, F16 or BF16"]);
    let mut bytes = std::fs::read(&path).expect("a file");
    bytes.truncate(bytes.len() - 5);
    std::fs::write(&path, bytes).expect("writable");
    refused(&["is not a readable safetensors file"]);

    // Images that the run does not have are allowed, and said.
    let mut arrays = good("");
    arrays.push(any("images/more.png", 1, 1.0));
    write(&path, &ours, &arrays);
    let told = words(&on.command("validate", MINE, &[], 0));
    assert!(told.contains("1 of its 10 tensors belong to no image of this run"), "{told}");
    assert!(told.contains("images/more.png"), "{told}");
    let told = words(&on.command("validate", MINE, &["--limit", "4"], 0));
    assert!(told.contains("6 of its 10 tensors"), "{told}");
}

#[test]
fn names_of_methods_from_files_are_checked_in_the_experiment() {
    let on = Masking::new();
    on.write_any(1.0);
    let config = std::fs::read_to_string(&on.config).expect("an experiment");
    let file = format!("{:?}", on.at("scores.safetensors"));
    let refused = |methods: &str, parts: &[&str]| {
        let methods = format!("methods = {}", methods.replace("FILE", &file));
        let lines = config.lines().map(|line| if line.starts_with("methods = ") { &methods } else { line });
        std::fs::write(&on.config, lines.collect::<Vec<_>>().join("\n")).expect("writable");
        let told = words(&run(&["validate", arg(&on.config)], 2));
        for part in parts {
            assert!(told.contains(part), "{part} is not in {told}");
        }
    };
    for (table, part) in [
        ("{ file = FILE }", "missing field `name`"),
        ("{ name = \"mine\" }", "missing field `file`"),
        ("{ file = FILE, name = \"\" }", "the name is empty"),
        ("{ file = FILE, name = \"TokenRank\" }", "the name `TokenRank` is that of a method of the program"),
        ("{ file = FILE, name = \"tokenrank-no-cls\" }", "is that of a method of the program"),
        ("{ file = FILE, name = \"mine\", zeta = 0.5 }", "unknown field `zeta`"),
        ("{ file = FILE, name = \"mine\", alpha = 0.5 }", "unknown method `alpha`"),
        ("{ file = FILE, name = \"mine\", alpha = 0.5 }", "a method from a file has the keys `file`, `name`"),
    ] {
        refused(&format!("[\"cls\", {table}]"), &["line ", "^", part]);
    }
    refused(
        "[{ file = FILE, name = \"mine\" }, { file = FILE, name = \"mine\" }]",
        &["two methods are called `mine`"],
    );
}

#[test]
fn the_example_of_the_repository_runs_as_it_is() {
    let config = "configs/examples/scores-mini.toml";
    let output = run(&["validate", config], 0);
    let told = words(&output);
    assert!(!told.contains("note"), "{told}");
    assert!(String::from_utf8(output.stdout).expect("text").contains("ready, 100 items"));
    let out = scratch();
    let table = run(&["run", config, "--limit", "12", "--out", arg(out.path())], 0).stdout;
    assert!(String::from_utf8(table).expect("text").contains("colour contrast"));
}
