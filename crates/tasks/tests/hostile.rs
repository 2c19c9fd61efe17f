//! Every file of the fuzz corpus, and damaged copies of it, through the calls by which the program reads files. What a fuzzer
//! once crashed on lies in `fuzz/corpus`, so that it cannot come back.
//!
//! `TOKENRANK_MUTATIONS` says how many damaged copies of each file are tried, for a longer search without a fuzzer.
#![allow(unreachable_pub)]

#[path = "../../../fuzz/src/mutate.rs"]
mod mutate;
#[path = "../../../fuzz/src/targets.rs"]
mod targets;

use std::fs;
use std::path::{Path, PathBuf};

const MUTATIONS: u64 = 40;

fn files(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let entries = fs::read_dir(&folder).expect("a folder of the corpus");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("readable").path()).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), fs::read(path).expect("readable"))).collect()
}

/// What was given to the target last is left in `TMPDIR/hostile-TARGET`, for when it stops the process.
fn run(target: &str) {
    let read = targets::target(target).expect("a target of that name");
    let files = files(target);
    assert!(!files.is_empty(), "no corpus for {target}");
    let mutations = std::env::var("TOKENRANK_MUTATIONS").ok().and_then(|text| text.parse().ok());
    let last = std::env::temp_dir().join(format!("hostile-{target}"));
    let mut number = 0;
    for (index, (path, bytes)) in files.iter().enumerate() {
        let whole = std::panic::catch_unwind(|| read(bytes));
        assert!(whole.is_ok(), "{} makes {target} panic", path.display());
        let other = &files[(index + 1) % files.len()].1;
        for _ in 0..mutations.unwrap_or(MUTATIONS) {
            number += 1;
            let damaged = mutate::mutated(bytes, other, number);
            if mutations.is_some() {
                fs::write(&last, &damaged).expect("writable");
            }
            if std::panic::catch_unwind(|| read(&damaged)).is_err() {
                fs::write(&last, &damaged).expect("writable");
                panic!("copy {number}, of {}, makes {target} panic: see {}", path.display(), last.display());
            }
        }
    }
    if mutations.is_some() {
        println!("{target}: {} files and {number} damaged copies", files.len());
    }
}

macro_rules! corpus {
    ($($target:ident)*) => {
        $(#[test]
        fn $target() {
            run(stringify!($target));
        })*

        /// The targets that are tried here.
        const TARGETS: &[&str] = &[$(stringify!($target)),*];
    };
}

corpus! {
    safetensors pytorch npy npz matrix_keys picture exif processor clip_tokenizer t5_tokenizer config checkpoint weight_index gtsegs
    parquet synset_names label_map table list scores
}

#[test]
fn every_fuzz_target_is_tried_here_or_with_the_pages() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/Cargo.toml");
    let text = fs::read_to_string(file).expect("the package of the targets");
    for target in text.split("[[bin]]").skip(1) {
        let name = target.split('"').nth(1).expect("a name");
        assert!(!files(name).is_empty(), "no corpus for {name}");
        assert!(TARGETS.contains(&name) || target.contains("required-features"), "{name} is not tried");
    }
}

/// The library would take the memory first: 670 MB of a file of 31 kB.
#[test]
fn a_chunk_that_ends_beyond_the_file_is_refused() {
    use tasks::dataset::{DatasetConfig, ImageNetSegmentationConfig};
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/gtsegs/chunk-behind-the-file");
    let config = ImageNetSegmentationConfig { path, names: None, subset: None };
    let items = DatasetConfig::ImagenetSegmentation(config).segmented().expect("an index that is whole");
    let reasons = items.iter().filter_map(|item| Some(item.load().err()?.to_string())).collect::<String>();
    assert!(reasons.contains("ends beyond the end of the file"), "{reasons}");
}
