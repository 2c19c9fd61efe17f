//! Experiments on Parquet files as the hub stores them.

use std::path::{Path, PathBuf};

use crate::common::{arg, root, run, scratch, words};
use crate::experiments::{ALL, results};
use crate::on_files::{OnFiles, with_dataset};

fn fixture(name: &str) -> PathBuf {
    root().join("crates/tasks/tests/fixtures/parquet").join(name)
}

/// Arguments of the small masking experiment with another file.
fn masking(config: &Path, out: &Path) -> Vec<String> {
    let args = ALL[0].args(out, &[]);
    args.into_iter().map(|word| if word == ALL[0].config { arg(config).to_owned() } else { word }).collect()
}

#[track_caller]
fn run_masking(config: &Path, out: &Path, code: i32) -> String {
    let args = masking(config, out);
    words(&run(&args.iter().map(String::as_str).collect::<Vec<_>>(), code))
}

#[test]
fn masking_gives_the_same_as_on_image_files() {
    let files = OnFiles::new(&ALL[0]);
    files.run("files", &[], 0);
    let dir = scratch();
    let path = dir.path().join("scenes.parquet");
    std::fs::copy(fixture("scenes.parquet"), &path).expect("copied");
    let config = with_dataset(dir.path(), ALL[0].config, &format!("[parquet]\nfiles = {path:?}"));
    let told = words(&run(&["validate", arg(&config)], 0));
    assert!(!told.contains("error"), "{told}");
    let out = dir.path().join("run");
    run_masking(&config, &out, 0);
    assert_eq!(results(&out)["items"], 9);
    assert_eq!(results(&out)["metrics"], results(&files.out("files"))["metrics"]);

    // The file with other times is the same data.
    let touched = std::fs::File::options().write(true).open(&path).expect("a file");
    touched.set_modified(std::time::SystemTime::UNIX_EPOCH).expect("a time");
    assert!(run_masking(&config, &out, 0).contains("all items were already done"));
    // The last byte of the first image, the checksum of its last chunk, which nothing reads.
    let mut bytes = std::fs::read(&path).expect("a file");
    let end = bytes.windows(8).position(|window| window == b"IEND\xaeB`\x82").expect("a PNG file");
    bytes[end + 7] = 0;
    std::fs::write(&path, bytes).expect("writable");
    let told = run_masking(&config, &out, 0);
    assert!(told.contains("1 item was computed from data that has since changed"), "{told}");
    assert!(told.contains("images/000000.png") && told.contains("5 items are run again"), "{told}");
}

#[test]
fn null_images_are_left_out_and_named() {
    let dir = scratch();
    let dataset = format!("[parquet]\nfiles = {:?}", fixture("nulls.parquet"));
    let config = with_dataset(dir.path(), ALL[0].config, &dataset);
    let out = dir.path().join("run");
    let told = run_masking(&config, &out, 3);
    assert!(told.contains("nulls.parquet/1") && told.contains("the image is null"), "{told}");
    assert_eq!(results(&out)["items"], 4);
}

#[test]
fn masks_in_a_column_are_segmented() {
    let dir = scratch();
    let dataset = format!(
        "[parquet]\nfiles = {:?}\nmask = \"mask\"\nmask_values = \"classes\"",
        fixture("scenes.parquet")
    );
    let config = with_dataset(dir.path(), ALL[3].config, &dataset);
    let out = dir.path().join("run");
    run(&["run", arg(&config), "--out", arg(&out), "--limit", "2"], 0);
    assert_eq!(results(&out)["items"], 2);
}

#[test]
fn a_setting_that_does_not_fit_the_columns_is_refused() {
    let dir = scratch();
    let dataset = format!("[parquet]\nfiles = {:?}\nimage = \"picture\"", fixture("scenes.parquet"));
    let config = with_dataset(dir.path(), ALL[0].config, &dataset);
    let told = words(&run(&["validate", arg(&config)], 3));
    assert!(told.contains("no column `picture`; set dataset.parquet.image to one of `image`"), "{told}");
}
