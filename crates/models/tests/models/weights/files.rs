//! The choice of weight files in a directory. `tools/golden_checkpoints.py` recorded that of transformers and
//! diffusers.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use models::{Device, Error, Kind, Weights, weight_files};
use serde::Deserialize;
use serde_json::json;

use super::{pytorch, write};

#[derive(Deserialize)]
struct Golden {
    written: Vec<Written>,
    read: Vec<Read>,
    pickled: Vec<Read>,
    twice: Vec<Twice>,
    explicit: Vec<Explicit>,
}

#[derive(Deserialize)]
struct Written {
    library: String,
    variant: Option<String>,
    sharded: bool,
    files: Vec<String>,
}

#[derive(Deserialize)]
struct Read {
    library: String,
    variant: Option<String>,
    present: Vec<String>,
    taken: Option<String>,
}

#[derive(Deserialize)]
struct Twice {
    library: String,
    index: String,
    taken: String,
}

#[derive(Deserialize)]
struct Explicit {
    file: String,
    taken: String,
}

fn golden() -> Golden {
    let text = fs::read_to_string(crate::golden::fixture("checkpoints").join("golden.json"))
        .expect("a committed fixture");
    serde_json::from_str(&text).expect("a committed fixture")
}

impl Golden {
    /// The names of a kind of weights, as `save_pretrained` wrote them. Those of PyTorch files follow from the others.
    fn names(&self, library: &str, kind: &str) -> Vec<String> {
        let (torch, kind) = match kind.strip_suffix(".bin") {
            Some(kind) => (true, kind),
            None => (false, kind),
        };
        let (form, variant) =
            kind.split_once('.').map_or((kind, None), |(form, variant)| (form, Some(variant)));
        let same = |written: &&Written| {
            written.library == library
                && written.variant.as_deref() == variant
                && written.sharded == (form == "sharded")
        };
        let names = &self.written.iter().find(same).expect("a kind").files;
        let as_torch = |name: &String| {
            let name = name.replace("safetensors", "bin");
            if library == "transformers" { format!("pytorch_{name}") } else { name }
        };
        if torch { names.iter().map(as_torch).collect() } else { names.clone() }
    }

    /// Writes weights of one kind whose every tensor is `number`.
    fn write(&self, dir: &Path, library: &str, kind: &str, number: f32) {
        let names = self.names(library, kind);
        let shards: Vec<&String> = names.iter().filter(|name| !name.ends_with(".json")).collect();
        let mut weight_map = BTreeMap::new();
        for (i, shard) in shards.iter().enumerate() {
            let tensors = [(format!("t{i}"), number)];
            if shard.ends_with(".bin") {
                pytorch::save(&dir.join(shard), tensors);
            } else {
                write(&dir.join(shard), tensors);
            }
            weight_map.insert(format!("t{i}"), (*shard).clone());
        }
        if let Some(index) = names.iter().find(|name| name.ends_with(".json")) {
            fs::write(dir.join(index), json!({ "weight_map": weight_map }).to_string()).expect("writable");
        }
    }
}

fn folder(library: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let config = match library {
        "diffusers" => json!({ "_class_name": "AutoencoderKL", "_diffusers_version": "0.42.0" }),
        _ => json!({ "model_type": "vit" }),
    };
    fs::write(dir.path().join("config.json"), config.to_string()).expect("writable");
    dir
}

fn open(dir: &Path) -> Result<Weights, Error> {
    Weights::open(dir, Kind::Float, Device::Cpu)
}

/// The number of a tensor.
fn number(dir: &Path, name: &str) -> Result<f64, Error> {
    Ok(open(dir)?.get(&[1], name)?.double_value(&[0]))
}

fn refusal(dir: &Path) -> String {
    open(dir).err().expect("it was accepted").to_string()
}

const KINDS: [&str; 4] = ["single", "sharded", "single.fp16", "sharded.fp16"];
const PICKLED: [&str; 6] =
    ["single", "single.fp16", "single.bin", "sharded.bin", "single.fp16.bin", "sharded.fp16.bin"];

/// For any files in a folder, the weights are those that its library reads: without a variant if it finds some, and
/// with `variant="fp16"` otherwise.
#[test]
fn the_weights_that_the_library_prefers_are_read() {
    let golden = golden();
    for (rows, kinds) in [(&golden.read, &KINDS[..]), (&golden.pickled, &PICKLED[..])] {
        for row in rows.iter().filter(|row| row.variant.is_none()) {
            let fp16 = |other: &&Read| {
                other.variant.is_some() && (&other.library, &other.present) == (&row.library, &row.present)
            };
            let fp16 = rows.iter().find(fp16).expect("a row");
            // diffusers reads shards of torch.save only if it is told not to look for safetensors; here they are last.
            let shards = |kind: &str| {
                row.present.iter().find(|present| row.library == "diffusers" && present.as_str() == kind)
            };
            let wanted = row.taken.as_ref().or_else(|| shards("sharded.bin"));
            let wanted = wanted.or(fp16.taken.as_ref()).or_else(|| shards("sharded.fp16.bin"));
            prefer(&golden, row, kinds, wanted);
        }
    }
}

/// Checks which of the weights in a folder are read.
fn prefer(golden: &Golden, row: &Read, kinds: &[&str], wanted: Option<&String>) {
    let dir = folder(&row.library);
    for kind in &row.present {
        let at = kinds.iter().position(|known| known == kind).expect("a kind");
        golden.write(dir.path(), &row.library, kind, at as f32);
    }
    let what = format!("{} with {:?}", row.library, row.present);
    let Some(wanted) = wanted else {
        assert!(refusal(dir.path()).contains("no weights"), "{what}");
        return;
    };
    let found = number(dir.path(), "t0").unwrap_or_else(|e| panic!("{what}: {e}"));
    assert_eq!(kinds[found as usize], wanted, "{what}");
    // All shards, and nothing else.
    let sharded = wanted.starts_with("sharded");
    assert_eq!(number(dir.path(), "t1").ok(), sharded.then_some(found), "{what}");
    let names = golden.names(&row.library, wanted);
    let weights = names.iter().filter(|name| !name.ends_with(".json"));
    let weights: Vec<PathBuf> = weights.map(|name| dir.path().join(name)).collect();
    assert_eq!(weight_files(dir.path()).expect("files"), weights, "{what}");
}

/// Both libraries read the copy of the last shard, whatever the index says; here the index counts, and where it names that
/// shard all agree.
#[test]
fn the_index_says_which_copy_of_a_tensor_counts() {
    let golden = golden();
    for Twice { library, index, taken } in &golden.twice {
        assert_eq!(taken, "second", "the libraries have changed their ways");
        let dir = folder(library);
        golden.write(dir.path(), library, "sharded", 0.0);
        let names = golden.names(library, "sharded");
        let shards: Vec<&String> = names.iter().filter(|name| name.ends_with(".safetensors")).collect();
        for (number, shard) in [1.0, 2.0].into_iter().zip(&shards) {
            write(&dir.path().join(shard), [("t0".to_owned(), number), ("t1".to_owned(), number)]);
        }
        let (counts, other) = if index == "first" { (1.0, 1) } else { (2.0, 0) };
        let named = shards[1 - other];
        let map = json!({ "weight_map": { "t0": named, "t1": named, "t9": shards[other] } });
        let path = dir.path().join(names.iter().find(|name| name.ends_with(".json")).expect("an index"));
        fs::write(&path, map.to_string()).expect("writable");
        let found = ["t0", "t1"].map(|name| number(dir.path(), name).expect("read"));
        assert_eq!(found, [counts; 2], "{library}, {index}");
        // The index decides which copy is read, so it belongs to the identity of the weights; a tensor counts once.
        assert_eq!(weight_files(dir.path()).expect("files").last(), Some(&path));
        assert_eq!(open(dir.path()).expect("read").numbers(|_| true), 2);

        // Named nowhere, or in a third file.
        let map = json!({ "weight_map": { "t0": shards[0], "t9": shards[1] } });
        fs::write(&path, map.to_string()).expect("writable");
        let message = refusal(dir.path());
        assert!(message.contains("`t1` is in") && message.contains("does not say"), "{message}");
    }
}

#[test]
fn of_three_copies_the_index_may_name_any() {
    let dir = folder("transformers");
    let shards = ["a.safetensors", "b.safetensors", "c.safetensors"];
    for (number, shard) in [1.0, 2.0, 3.0].into_iter().zip(shards) {
        write(&dir.path().join(shard), [("t".to_owned(), number)]);
    }
    for (i, named) in shards.into_iter().enumerate() {
        let map = json!({ "weight_map": { "t": named, "x": shards[0], "y": shards[1], "z": shards[2] } });
        fs::write(dir.path().join("model.safetensors.index.json"), map.to_string()).expect("writable");
        assert_eq!(number(dir.path(), "t").expect("read"), i as f64 + 1.0);
    }
}

#[test]
fn the_file_that_the_configuration_names_comes_first() {
    let golden = golden();
    for Explicit { file, taken } in &golden.explicit {
        let dir = folder("transformers");
        for kind in ["single", "sharded"] {
            golden.write(dir.path(), "transformers", kind, if kind == taken { 1.0 } else { 0.0 });
        }
        write(
            &dir.path().join("other.safetensors"),
            [("t0".to_owned(), if taken == "other" { 1.0 } else { 0.0 })],
        );
        let config = json!({ "model_type": "vit", "transformers_weights": file });
        fs::write(dir.path().join("config.json"), config.to_string()).expect("writable");
        assert_eq!(number(dir.path(), "t0").expect("read"), 1.0, "{file}");
    }
    for (file, word) in [
        ("../model.safetensors", "in the folder of config.json"),
        ("/etc/passwd", "in the folder of config.json"),
        ("model.ckpt", "in the folder of config.json"),
        ("pytorch_model.bin", "lacks pytorch_model.bin"),
        ("absent.safetensors", "lacks absent.safetensors"),
    ] {
        let dir = folder("transformers");
        golden.write(dir.path(), "transformers", "single", 0.0);
        let config = json!({ "model_type": "vit", "transformers_weights": file });
        fs::write(dir.path().join("config.json"), config.to_string()).expect("writable");
        let message = refusal(dir.path());
        assert!(message.contains(word), "{file}: {message}");
    }
}

/// A folder with files of both libraries belongs to the library whose configuration it has.
#[test]
fn the_configuration_says_whose_folder_it_is() {
    let golden = golden();
    for (library, other) in [("diffusers", "transformers"), ("transformers", "diffusers")] {
        let dir = folder(library);
        golden.write(dir.path(), other, "single", 1.0);
        assert_eq!(number(dir.path(), "t0").expect("read"), 1.0);
        golden.write(dir.path(), library, "single.fp16", 3.0);
        assert_eq!(number(dir.path(), "t0").expect("read"), 1.0, "a variant before whole weights");
        golden.write(dir.path(), library, "single", 2.0);
        assert_eq!(number(dir.path(), "t0").expect("read"), 2.0);
    }
}

#[test]
fn a_variant_is_read_where_it_is_the_only_one_or_fp16() {
    let dir = folder("transformers");
    let add = |name: &str, number: f32| write(&dir.path().join(name), [("t".to_owned(), number)]);
    add("model.bf16.safetensors", 1.0);
    assert_eq!(number(dir.path(), "t").expect("read"), 1.0);
    add("model.ema.safetensors", 2.0);
    let message = refusal(dir.path());
    assert!(message.contains("`bf16`, `ema`") && message.contains("keep one"), "{message}");
    add("model.fp16.safetensors", 3.0);
    assert_eq!(number(dir.path(), "t").expect("read"), 3.0);
    // An index as older diffusers wrote it.
    let dir = folder("diffusers");
    let shard = "diffusion_pytorch_model-00001-of-00001.fp16.safetensors";
    write(&dir.path().join(shard), [("t".to_owned(), 4.0)]);
    let index = dir.path().join("diffusion_pytorch_model.safetensors.fp16.index.json");
    fs::write(index, json!({ "weight_map": { "t": shard } }).to_string()).expect("writable");
    assert_eq!(number(dir.path(), "t").expect("read"), 4.0);
}

#[test]
fn missing_weights_are_reported() {
    let dir = folder("transformers");
    let message = refusal(dir.path());
    assert!(
        message.contains(
            "no weights; expected model.safetensors, diffusion_pytorch_model.safetensors, pytorch_model.bin"
        ),
        "{message}"
    );
    write(&dir.path().join("open_clip.safetensors"), [("t".to_owned(), 0.0)]);
    assert!(refusal(dir.path()).contains("open_clip.safetensors is not a file name"));
    write(&dir.path().join("model-00001-of-00002.safetensors"), [("t".to_owned(), 0.0)]);
    let message = refusal(dir.path());
    assert!(message.contains("no index") && message.contains("model.safetensors.index.json"), "{message}");
}

/// Shards may be links to anywhere, like a single file, since caches may be on other disks. Their names must not lead
/// out of the folder.
#[cfg(unix)]
#[test]
fn shards_may_be_links() {
    use std::os::unix::fs::symlink;

    let (dir, elsewhere) = (folder("transformers"), tempfile::tempdir().expect("a scratch folder"));
    let golden = golden();
    golden.write(elsewhere.path(), "transformers", "sharded", 5.0);
    for name in golden.names("transformers", "sharded") {
        symlink(elsewhere.path().join(&name), dir.path().join(&name)).expect("a link");
    }
    assert_eq!(number(dir.path(), "t1").expect("read"), 5.0);
    let second = elsewhere.path().join(&golden.names("transformers", "sharded")[1]);
    fs::remove_file(&second).expect("removed");
    assert!(refusal(dir.path()).contains("link to a file that is missing"));
    fs::create_dir(&second).expect("a folder");
    assert!(refusal(dir.path()).contains("is missing"));

    let dir = folder("transformers");
    golden.write(elsewhere.path(), "transformers", "single", 6.0);
    symlink(elsewhere.path().join("model.safetensors"), dir.path().join("model.safetensors"))
        .expect("a link");
    assert_eq!(number(dir.path(), "t0").expect("read"), 6.0);
}
