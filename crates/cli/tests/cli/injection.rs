//! Names from files do not act: hostile texts as names of images, folders, tensors, classes and titles, and everything that
//! the program then prints or writes. A further text is a line of [`HOSTILE`], a further kind of output a test.

use std::path::{Path, PathBuf};
use std::process::Output;

use models::escape;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};

use crate::common::{arg, root, run, scratch, tokenrank, words};
use crate::on_files::scenes;
use crate::scores::{Array, write_for};

/// Texts that act somewhere: what they do, and the text. All can be names of files.
const HOSTILE: [(&str, &str); 16] = [
    ("clears a terminal", "\u{1b}[2Ja"),
    ("names a window", "\u{1b}]0;b\u{7}"),
    ("colours, in one byte of C1", "c\u{9b}31m"),
    ("erases", "d\u{7f}\u{8}"),
    ("adds a line", "e\n::error::e"),
    ("overwrites a line", "f\rresults: f"),
    ("adds a column", "g\tg"),
    ("turns the direction", "h\u{202e}gnp"),
    ("isolates a direction", "i\u{2067}i\u{2069}"),
    ("is not seen", "j\u{200b}\u{feff}j"),
    ("adds a tag", "k<script>alert(1)<!--"),
    ("adds an attribute", "l\" onerror='alert(1)' <img src=x onerror=alert(1)>"),
    ("ends a cell of Markdown", "m|`m`**m**[m](m)"),
    ("is a formula", "=1+1;\"n\",n"),
    ("is a command of LaTeX", "o\\input{o}%$&#_^~"),
    ("is a command of a shell", "p$(touch p)`touch p`;'"),
];

/// Checks that a text has no hidden characters but line breaks and tabs.
#[track_caller]
fn assert_tame(text: &[u8], what: &str) {
    let text = std::str::from_utf8(text).unwrap_or_else(|error| panic!("{what}: {error}"));
    let found = text.char_indices().find(|&(_, c)| escape::is_hidden(c) && !"\n\t".contains(c));
    let Some((at, c)) = found else { return };
    let around: String = text[..at].chars().rev().take(60).collect::<Vec<_>>().into_iter().rev().collect();
    panic!("{what}: {c:?} after {around:?}");
}

#[track_caller]
fn assert_output_tame(output: &Output, what: &str) {
    assert_tame(&output.stdout, what);
    assert_tame(&output.stderr, what);
}

/// Checks all text files below a folder, each by its kind. Returns their number.
#[track_caller]
fn assert_files_tame(folder: &Path) -> usize {
    let mut count = 0;
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            count += assert_files_tame(&path);
            continue;
        }
        let kind = path.extension().unwrap_or_default().to_string_lossy().into_owned();
        if !["md", "csv", "tex", "json", "jsonl", "html", "xml", "sbatch", "sh"].contains(&&*kind) {
            continue;
        }
        let bytes = std::fs::read(&path).expect("readable");
        let what = escape::line(&path.display().to_string()).into_owned();
        assert_tame(&bytes, &what);
        let text = String::from_utf8(bytes).expect("text");
        match &*kind {
            "md" => assert_markdown(&text, &what),
            "tex" => assert_latex(&text, &what),
            "html" => {
                assert!(!text.contains("<script>alert") && !text.contains("<img src=x"), "{what}");
                // A double quote, which would end an attribute, is never raw in a name.
                assert!(!text.contains("l\" onerror"), "{what}");
            }
            "json" => drop(serde_json::from_str::<Value>(&text).expect(&what)),
            "jsonl" => text.lines().for_each(|line| drop(serde_json::from_str::<Value>(line).expect(&what))),
            "xml" => drop(roxmltree::Document::parse(&text).expect(&what)),
            _ => {}
        }
        count += 1;
    }
    count
}

/// Every row of a table has as many cells as the first, and there is no tag, emphasis or link of a name.
#[track_caller]
fn assert_markdown(text: &str, what: &str) {
    let cells = |line: &str| line.replace("\\|", "").matches('|').count();
    let mut width = None;
    for line in text.lines() {
        if line.starts_with('|') {
            assert_eq!(cells(line), *width.get_or_insert(cells(line)), "{what}: {line}");
        } else {
            width = None;
        }
    }
    for part in ["<script", "<img", "**m**", "`m`", "[m](m)"] {
        assert!(!text.contains(part), "{what}: {part} in {text}");
    }
}

#[track_caller]
fn assert_latex(text: &str, what: &str) {
    assert!(!text.contains("\\input"), "{what}: {text}");
    let code = text.lines().filter(|line| !line.starts_with("% Needs"));
    for line in code {
        let bare = line.replace("\\%", "").replace("{%", "");
        assert!(!bare.contains('%'), "{what}: {line}");
        let (open, close) = (line.matches('{').count(), line.matches('}').count());
        let escaped = (line.matches("\\{").count(), line.matches("\\}").count());
        let continues = ["\\resizebox", "\\end{tabular}}"].iter().any(|part| line.contains(part));
        assert!(continues || open - escaped.0 == close - escaped.1, "{what}: {line}");
    }
}

fn all() -> String {
    HOSTILE.iter().map(|(_, text)| *text).collect::<Vec<_>>().join(" ")
}

/// An experiment on images with hostile names, and its images.
fn experiment(dir: &Path, name: &str) -> (PathBuf, Vec<PathBuf>) {
    let folder = dir.join("scenes");
    scenes(&folder, 1..=1);
    let mut table = "file,label\n".to_owned();
    let mut images = Vec::new();
    for (index, (_, text)) in HOSTILE.iter().enumerate() {
        let file = format!("images/{text}.png");
        std::fs::copy(folder.join(format!("images/{:06}.png", index % 9)), folder.join(&file))
            .expect("copied");
        table += &format!("\"{}\",{}\n", file.replace('"', "\"\""), index % 3);
        images.push(folder.join(file));
    }
    std::fs::write(folder.join("labels.csv"), table).expect("writable");
    let text = std::fs::read_to_string(root().join("configs/mini/masking-vit.toml")).expect("an experiment");
    let mut document: toml::Table = toml::from_str(&text).expect("TOML");
    let dataset = format!("[folder]\nroot = {folder:?}\nlabels = \"labels.csv\"");
    document.insert("dataset".into(), toml::from_str::<toml::Table>(&dataset).expect("TOML").into());
    document.insert("title".into(), all().into());
    let path = dir.join(name);
    std::fs::write(&path, toml::to_string(&document).expect("TOML")).expect("written");
    (path, images)
}

const FEWER: [&str; 4] = [
    "--set",
    "task.masking.fractions={ from = 0.0, to = 0.8, step = 0.4 }",
    "--set",
    "task.masking.methods=[\"random\", \"cls\"]",
];

#[test]
fn names_of_images_and_titles_in_a_run_its_page_and_comparisons() {
    let dir = scratch();
    let (config, images) = experiment(dir.path(), "name\u{1b}[2J.toml");
    let out = dir.path().join("a\u{202e}b|<b>");
    let args = [&["run", arg(&config), "--out", arg(&out)], &FEWER[..]].concat();
    assert_output_tame(&run(&args, 0), "run");
    // Every name in messages and in the list of what failed.
    for image in &images {
        std::fs::write(image, "damaged").expect("writable");
    }
    assert_output_tame(
        &run(&[&["validate", arg(&config), "--out", arg(&out)], &FEWER[..]].concat(), 3),
        "validate",
    );
    let failed = run(&[&args[..], &["--fresh"]].concat(), 3);
    assert_output_tame(&failed, "run");
    assert!(
        words(&failed).contains("16 items could not be answered") || words(&failed).contains("none of"),
        "{}",
        words(&failed)
    );
    let files = assert_files_tame(&out);
    assert!(files >= 2, "{files} files");
}

#[test]
fn names_of_failed_images_in_tables_pages_and_comparisons() {
    let dir = scratch();
    let (config, images) = experiment(dir.path(), "mixed.toml");
    for image in &images[8..] {
        std::fs::write(image, "damaged").expect("writable");
    }
    let out = dir.path().join("out");
    let args = [&["run", arg(&config), "--out", arg(&out)], &FEWER[..]].concat();
    let output = run(&args, 3);
    assert_output_tame(&output, "run");
    assert!(words(&output).contains("8 items could not be answered"), "{}", words(&output));
    assert_output_tame(&run(&["report", arg(&out)], 0), "report");
    let [xml, markdown, baseline] = ["c.xml", "c.md", "c.json"].map(|name| out.join(name));
    let compared =
        ["compare", arg(&out), arg(&out), "--all", "--junit", arg(&xml), "--markdown", arg(&markdown)];
    // Runs with failed items are not the same experiment.
    assert_output_tame(&run(&compared, 4), "compare");
    // A result with failed items cannot be a baseline; the message names them.
    let update = ["compare", arg(&out), arg(&baseline), "--update"];
    assert_output_tame(&tokenrank().args(update).output().expect("starts"), "compare --update");
    assert_files_tame(&out);
    for name in ["table.md", "table.csv", "table.tex", "results.json", "report.html", "c.xml", "c.md"] {
        assert!(out.join(name).exists(), "{name}");
    }
    let table = std::fs::read_to_string(out.join("table.md")).expect("a table");
    assert!(table.contains("k&lt;script&gt;") && table.contains("\\\\u{1b}"), "{table}");
    let page = std::fs::read_to_string(out.join("report.html")).expect("a page");
    assert!(page.contains("k&lt;script&gt;"), "the page has the names");
}

#[test]
fn values_of_a_sweep_in_every_kind_of_table() {
    let dir = scratch();
    let (config, _) = experiment(dir.path(), "sweep.toml");
    let text = std::fs::read_to_string(&config).expect("an experiment");
    let values: Vec<String> = HOSTILE.iter().take(16).map(|(_, text)| (*text).to_owned()).collect();
    // Folders with these names, all with the same images.
    let mut document: toml::Table = toml::from_str(&text).expect("TOML");
    let roots: Vec<PathBuf> = values.iter().map(|value| dir.path().join("links").join(value)).collect();
    std::fs::create_dir(dir.path().join("links")).expect("made");
    for root in &roots {
        std::os::unix::fs::symlink(dir.path().join("scenes"), root).expect("linked");
    }
    let names: Vec<toml::Value> = roots.iter().map(|root| arg(root).into()).collect();
    let sweep = toml::Table::from_iter([("dataset.folder.root".to_owned(), names.into())]);
    document.insert("sweep".into(), sweep.into());
    std::fs::write(&config, toml::to_string(&document).expect("TOML")).expect("written");
    let out = dir.path().join("out");
    let output = run(&[&["run", arg(&config), "--limit", "2", "--out", arg(&out)], &FEWER[..]].concat(), 0);
    assert_output_tame(&output, "run");
    assert_output_tame(&run(&["report", arg(&out)], 0), "report");
    assert!(assert_files_tame(&out) >= 16);
    // The CSV file has the names, escaped.
    let csv = std::fs::read_to_string(out.join("table.csv")).expect("a table");
    for root in &roots {
        let cell = escape::csv(arg(root)).replace('"', "\"\"");
        assert!(csv.contains(&cell), "{cell} is not in\n{csv}");
    }
}

#[test]
fn names_of_methods_from_files_and_of_their_tensors() {
    let dir = scratch();
    let (config, _) = experiment(dir.path(), "named.toml");
    let scores = dir.path().join("s\u{1b}[2J.safetensors");
    let ids: Vec<String> = HOSTILE.iter().map(|(_, text)| format!("images/{text}.png")).collect();
    let values: Vec<f64> = (0..64).map(f64::from).collect();
    let write = |ids: &[String]| {
        let arrays: Vec<Array> = ids.iter().map(|id| Array::f32(id, &[8, 8], &values)).collect();
        write_for(&scores, "masking", &arrays);
    };
    let of = |(_, name): &(&str, &str)| {
        let table =
            [("file", arg(&scores)), ("name", *name)].map(|(key, value)| (key.to_owned(), value.into()));
        toml::Value::Table(toml::Table::from_iter(table))
    };
    let mut document: toml::Table =
        toml::from_str(&std::fs::read_to_string(&config).expect("an experiment")).expect("TOML");
    document["task"]["masking"]["methods"] = HOSTILE.iter().map(of).collect::<Vec<_>>().into();
    std::fs::write(&config, toml::to_string(&document).expect("TOML")).expect("written");

    write(&ids[1..]);
    let output = run(&["validate", arg(&config)], 3);
    assert_output_tame(&output, "validate");
    assert!(words(&output).contains("has no tensor for 1 of 16 images"), "{}", words(&output));
    write(&[&ids[..], &["other\u{1b}[2J".to_owned()]].concat());
    let out = dir.path().join("out");
    let args = ["run", arg(&config), "--out", arg(&out), FEWER[0], FEWER[1]];
    assert_output_tame(&run(&args, 0), "run");
    assert_output_tame(&run(&["report", arg(&out)], 0), "report");
    let [xml, markdown, baseline] = ["c.xml", "c.md", "c.json"].map(|name| out.join(name));
    assert_output_tame(&run(&["compare", arg(&out), arg(&baseline), "--update"], 0), "compare --update");
    let compared =
        ["compare", arg(&out), arg(&baseline), "--all", "--junit", arg(&xml), "--markdown", arg(&markdown)];
    assert_output_tame(&run(&compared, 0), "compare");
    assert!(assert_files_tame(&out) >= 8);
    let csv = std::fs::read_to_string(out.join("table.csv")).expect("a table");
    for (_, name) in HOSTILE {
        let cell = escape::csv(name).replace('"', "\"\"");
        assert!(csv.contains(&cell), "{cell} is not in\n{csv}");
    }
}

#[test]
fn names_of_tensors_and_matrices() {
    let dir = scratch();
    let out = dir.path().join("out.safetensors");
    let path = dir.path().join("m\u{1b}[2J.safetensors");
    let write = |names: &[&str], values: [f64; 4]| {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let tensor = TensorView::new(Dtype::F64, vec![2, 2], &bytes).expect("a tensor");
        let tensors = names.iter().map(|name| (*name, tensor.clone()));
        std::fs::write(&path, safetensors::serialize(tensors, None).expect("bytes")).expect("writable");
    };
    let names: Vec<&str> = HOSTILE.iter().map(|(_, text)| *text).collect();
    write(&names, [0.5, 0.5, 0.9, 0.1]);
    for (more, code) in [
        (&["--key", "*"][..], 0),
        (&["--key", "none"], 2),
        (&[], 2),
        (&["--key", "*", "--spectrum", "9", "--sets", "7"], 2),
    ] {
        let args = [&["rank", arg(&path), "--out", arg(&out)], more].concat();
        let output = tokenrank().args(&args).output().expect("starts");
        assert_output_tame(&output, &format!("{args:?}"));
        assert!(code == 0 || output.status.code() != Some(0), "{args:?}");
    }
    // A tensor that is not a matrix is named.
    write(&names[..1], [f64::NAN; 4]);
    assert_output_tame(&run(&["rank", arg(&path), "--out", arg(&out)], 3), "rank");
}

#[test]
fn names_in_a_models_configuration() {
    let dir = scratch();
    let fixture = root().join("datasets/mini/models/vit");
    for entry in std::fs::read_dir(&fixture).expect("a model") {
        let path = entry.expect("readable").path();
        std::fs::copy(&path, dir.path().join(path.file_name().expect("a name"))).expect("copied");
    }
    let path = dir.path().join("config.json");
    let config: Value = serde_json::from_str(&std::fs::read_to_string(&path).expect("text")).expect("JSON");
    let (_, images) = experiment(dir.path(), "x.toml");
    let out = dir.path().join("out.safetensors");
    for text in [all().as_str(), HOSTILE[0].1, HOSTILE[7].1] {
        for key in ["model_type", "hidden_act", "id2label", "architectures"] {
            let mut changed = config.clone();
            changed[key] = match key {
                "id2label" => json!({ "0": text, text: text }),
                "architectures" => json!([text]),
                _ => json!(text),
            };
            std::fs::write(&path, changed.to_string()).expect("writable");
            let args = ["attend", "--model", arg(dir.path()), "--image", arg(&images[0]), "--out", arg(&out)];
            assert_output_tame(&tokenrank().args(args).output().expect("starts"), key);
        }
    }
    std::fs::write(&path, config.to_string()).expect("writable");
    // The page of an image has its name.
    for image in images.iter().step_by(5) {
        let shown = dir.path().join("shown");
        let args = ["show", "--model", arg(dir.path()), "--image", arg(image), "--out", arg(&shown)];
        assert_output_tame(&run(&args, 0), "show");
        assert_eq!(assert_files_tame(&shown), 2);
        std::fs::remove_dir_all(&shown).expect("removed");
    }
}

/// The arguments of a command may be names of files too, such as those that a pattern of a shell gives.
#[test]
fn arguments_that_are_names_of_files() {
    let dir = scratch();
    for (_, text) in HOSTILE.into_iter().step_by(4) {
        let path = dir.path().join(text);
        for args in [
            vec!["run", text],
            vec!["validate", arg(&path)],
            vec!["report", arg(&path)],
            vec!["compare", arg(&path), text],
            vec!["merge", text],
            vec!["metrics", text, text],
            vec!["rank", text, "--out", text],
            vec!["attend", "--model", text, "--image", text, "--out", text],
            vec!["show", "--model", text, "--image", text, "--out", text],
            vec!["slurm", text, "--nodes", "2"],
            vec!["fetch", text, "--offline"],
            vec!["ls", text],
            vec![text],
            vec!["run", "configs/mini/masking-vit.toml", "--set", text],
            vec!["run", "configs/mini/masking-vit.toml", "--limit", text],
        ] {
            let output = tokenrank().args(&args).current_dir(dir.path()).output().expect("starts");
            assert_output_tame(&output, &format!("{args:?}"));
            assert_ne!(output.status.code(), Some(0), "{args:?}");
        }
    }
    assert_eq!(std::fs::read_dir(dir.path()).expect("a folder").count(), 0, "nothing was made");
}

#[test]
fn scripts_of_slurm_refuse_what_they_cannot_quote() {
    let dir = scratch();
    for (what, text) in HOSTILE {
        let out = dir.path().join(text);
        let args =
            ["slurm", "configs/mini/masking-vit.toml", "--nodes", "2", "--limit", "40", "--out", arg(&out)];
        let output = tokenrank().args(args).output().expect("starts");
        assert_output_tame(&output, what);
        if output.status.success() {
            assert_eq!(assert_files_tame(&out.join("slurm")), 3, "{what}");
            for name in ["array.sbatch", "merge.sbatch", "submit.sh"] {
                let checked =
                    std::process::Command::new("bash").arg("-n").arg(out.join("slurm").join(name)).status();
                assert!(checked.expect("bash").success(), "{what}: {name}");
            }
        }
    }
}
