//! Data that change under a run: what was answered from other images or masks is noticed, named and run again.

use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::common::{arg, run, words};
use crate::experiments::{ALL, assert_same, segments};
use crate::on_files::OnFiles;

/// Sets the time of every file in a folder back.
fn touch(folder: &Path) {
    let past = SystemTime::now() - Duration::from_secs(3600);
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let file = std::fs::File::options().write(true).open(entry.expect("a file").path()).expect("a file");
        file.set_modified(past).expect("a time");
    }
}

#[test]
fn an_image_or_mask_that_was_replaced_is_noticed_and_its_batch_run_again() {
    for small in [&ALL[0], &ALL[1], &ALL[3]] {
        let on = OnFiles::new(small);
        let first = on.run("run", &[], 0);
        // The same content with other times is the same data.
        touch(&on.file("images"));
        let again = on.run("run", &[], 0);
        let told = words(&again);
        assert!(told.contains("all items were already done") && again.stdout == first.stdout, "{told}");

        let (folder, batch) = if small.task == "masking" { ("images", 5) } else { ("masks", 2) };
        let (victim, other) = (format!("{folder}/000004.png"), format!("{folder}/000007.png"));
        match small.task {
            "masking" => on.replace(&victim, &other),
            _ => shift_mask(&on.file(&victim)),
        }
        let told = words(&on.run("run", &[], 0));
        let noticed = "1 item was computed from data that has since changed (";
        assert!(told.contains(noticed) && told.contains("000004.png"), "{told}");
        assert!(told.contains(&format!("{batch} items are run again")), "{}: {told}", small.task);
        assert!(told.contains(&format!("{batch} items in")), "{}: {told}", small.task);
        on.run("anew", &[], 0);
        assert_same(&on.out("anew"), &on.out("run"));
        assert!(words(&on.run("run", &[], 0)).contains("all items were already done"));
    }
}

/// A mask whose object lies a row lower.
fn shift_mask(path: &Path) {
    let decoder = png::Decoder::new(std::io::BufReader::new(std::fs::File::open(path).expect("a mask")));
    let mut reader = decoder.read_info().expect("a mask");
    let mut samples = vec![0; reader.output_buffer_size().expect("a size")];
    let info = reader.next_frame(&mut samples).expect("a mask");
    assert_eq!(info.bit_depth, png::BitDepth::Eight);
    samples.rotate_right(info.line_size);
    let palette = reader.info().palette.as_ref().map(|palette| palette.to_vec());
    let mut encoder =
        png::Encoder::new(std::fs::File::create(path).expect("writable"), info.width, info.height);
    encoder.set_color(info.color_type);
    encoder.set_depth(info.bit_depth);
    if let Some(palette) = palette {
        encoder.set_palette(palette);
    }
    encoder.write_header().expect("a header").write_image_data(&samples).expect("written");
}

#[test]
fn a_half_finished_run_does_not_go_on_with_other_images() {
    let small = &ALL[0];
    let on = OnFiles::new(small);
    on.run("run", &[], 0);
    // As if it had ended behind the first of two batches.
    let records = on.out("run").join("records.jsonl");
    let half = segments(&std::fs::read(&records).expect("records")).remove(&0).expect("the first batch");
    std::fs::write(&records, half).expect("writable");
    std::fs::remove_file(on.out("run").join("results.json")).expect("results");
    // Every image gives way to the next one; the labels are still those of the table.
    let first = std::fs::read(on.file("images/000000.png")).expect("an image");
    for number in 0..8 {
        on.replace(&format!("images/00000{number}.png"), &format!("images/00000{}.png", number + 1));
    }
    std::fs::write(on.file("images/000008.png"), first).expect("writable");
    let told = words(&on.run("run", &[], 0));
    assert!(told.contains("5 items were computed from data that has since changed"), "{told}");
    assert!(told.contains("9 items in"), "{told}");
    on.run("anew", &[], 0);
    assert_same(&on.out("anew"), &on.out("run"));
}

#[test]
fn what_the_table_calls_the_object_is_part_of_the_question() {
    let on = OnFiles::new(&ALL[3]);
    on.run("run", &[], 0);
    let table = on.file("masks.csv");
    let text = std::fs::read_to_string(&table).expect("a table");
    let row = text.lines().nth(1).expect("a row");
    let (file, value) = row.rsplit_once(',').expect("a value");
    let other = format!("{file},{}", 1 + value.parse::<u8>().expect("a number") % 10);
    std::fs::write(&table, text.replacen(row, &other, 1)).expect("writable");
    let told = words(&on.run("run", &[], 2));
    assert!(told.contains("items and labels:") && told.contains("--fresh"), "{told}");
}

#[test]
fn shards_of_different_data_make_no_run() {
    let on = OnFiles::new(&ALL[1]);
    on.run("run", &["--shard", "1/2"], 0);
    shift_mask(&on.file("masks/000004.png"));
    on.run("run", &["--shard", "2/2"], 0);
    let out = on.out("run");
    let told = words(&run(&["merge", arg(&out)], 3));
    for word in [
        "shard 1/2 was made from other data",
        "1 of 9 items",
        "000004.png",
        "--shard",
        "or put the data back",
    ] {
        assert!(told.contains(word), "{word} is not in {told}");
    }
    assert!(!out.join("run.json").exists(), "nothing is written");
    let told = words(&on.run("run", &["--shard", "1/2"], 0));
    assert!(told.contains("2 items are run again"), "{told}");
    run(&["merge", arg(&out)], 0);
    on.run("anew", &[], 0);
    assert_same(&on.out("anew"), &out);
    // The run that was merged knows its data, too.
    shift_mask(&on.file("masks/000001.png"));
    let told = words(&on.run("run", &[], 0));
    assert!(
        told.contains("1 item was computed from data that has since changed") && told.contains("000001.png"),
        "{told}"
    );
}

#[test]
fn a_report_says_that_the_data_have_changed() {
    let on = OnFiles::new(&ALL[1]);
    on.run("run", &[], 0);
    let out = on.out("run");
    let page = || std::fs::read_to_string(out.join("report.html")).expect("a page");
    let told = words(&run(&["report", arg(&out)], 0));
    assert!(!told.contains("changed") && !page().contains("changed since the run"), "{told}");
    shift_mask(&on.file("masks/000004.png"));
    let told = words(&run(&["report", arg(&out)], 0));
    assert!(told.contains("1 item has changed since the run") && told.contains("000004.png"), "{told}");
    assert!(page().contains("1 item has changed since the run"));
    // Data that are not here are no change.
    std::fs::remove_dir_all(on.dir.path().join("scenes")).expect("removable");
    let told = words(&run(&["report", arg(&out)], 0));
    assert!(!told.contains("changed since the run"), "{told}");
}
