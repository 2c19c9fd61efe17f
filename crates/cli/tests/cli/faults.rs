//! What else can happen to a run: a second process, signals, disks, damaged files, clocks.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, SystemTime};

use crate::browser::skipped::{Requirement, lacks, mount_options};
use crate::common::{root, scratch, tokenrank, words};
use crate::experiments::{ALL, SIGXFSZ, Small, assert_same, limited, results, segments};
use crate::on_files::OnFiles;

/// Starts a run and waits until it has recorded a batch. None where it was over before that could be seen.
fn under_way(small: &Small, out: &Path) -> Option<Child> {
    let mut command = small.command(out);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the binary starts");
    loop {
        if child.try_wait().expect("a child").is_some() {
            return None;
        }
        if out.join("records.jsonl").metadata().is_ok_and(|file| file.len() > 0) {
            return Some(child);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn send(signal: &str, child: &Child) {
    let status =
        Command::new("kill").args([signal, &child.id().to_string()]).status().expect("kill is there");
    assert!(status.success());
}

#[test]
fn a_second_process_says_whose_the_folder_is_and_stops() {
    let dir = scratch();
    let (whole, out) = (dir.path().join("whole"), dir.path().join("run"));
    let small = &ALL[0];
    small.run(&whole, &[], 0);
    let child = under_way(small, &out).expect("still running");
    // Stopped, it holds the folder as long as we like.
    send("-STOP", &child);
    for more in [&[][..], &["--fresh"], &["--set", "task.masking.alpha=0.9"]] {
        let message = words(&small.run(&out, more, 1));
        assert!(message.contains(&format!("in use by process {}", child.id())), "{message}");
    }
    send("-CONT", &child);
    let first = child.wait_with_output().expect("a child");
    assert!(first.status.success(), "{}", words(&first));
    assert_same(&whole, &out);
}

#[test]
fn an_interrupted_run_says_how_to_go_on_and_does() {
    for signal in ["-INT", "-TERM"] {
        let dir = scratch();
        let (whole, out) = (dir.path().join("whole"), dir.path().join("a run"));
        let small = &ALL[3];
        small.run(&whole, &[], 0);
        let child = under_way(small, &out).expect("still running");
        send(signal, &child);
        let output = child.wait_with_output().expect("a child");
        assert_eq!(output.status.code(), Some(5), "{}", words(&output));
        let message = words(&output);
        assert!(message.contains("interrupted after") && message.contains("of 9 items"), "{message}");
        let done = segments(&std::fs::read(out.join("records.jsonl")).expect("records")).len();
        assert!((1..5).contains(&done), "{done} batches");
        // The command as printed, in a shell.
        assert!(message.contains("resume with:"), "{message}");
        let told = String::from_utf8(output.stderr).expect("text");
        let command = told.lines().last().expect("a command");
        let resumed = Command::new("sh").args(["-c", command]).current_dir(root()).output().expect("a shell");
        assert!(resumed.status.success(), "{command}: {}", words(&resumed));
        assert_same(&whole, &out);
    }
}

#[test]
fn a_changed_experiment_is_refused_until_it_may_start_over() {
    let dir = scratch();
    let (whole, out) = (dir.path().join("whole"), dir.path().join("run"));
    let small = &ALL[2];
    let changed = ["--set", "task.guidance.guidance_scale=3", "--set", "seed=4"];
    small.run(&whole, &changed, 0);
    small.run(&out, &[], 0);
    for name in ["report.html", "report-items.csv", "report-items-2.csv"] {
        std::fs::write(out.join(name), "a page of the run that was").expect("writable");
    }
    std::fs::create_dir(out.join("figures")).expect("writable");
    let foreign = [
        "notes.txt",
        "README.md",
        "my.json",
        "labels.csv",
        "report-items-mine.csv",
        "photo.png",
        "pictures/none/holiday.png",
    ];
    foreign.iter().for_each(|name| std::fs::write(out.join(name), "mine").expect("writable"));
    let before = std::fs::read(out.join("records.jsonl")).expect("records");
    let message = words(&small.run(&out, &changed, 2));
    for word in ["seed: 0 → 4", "task.guidance.guidance_scale: ", " → 3", "--fresh"] {
        assert!(message.contains(word), "{word} is not in {message}");
    }
    assert_eq!(std::fs::read(out.join("records.jsonl")).expect("records"), before);
    small.run(&out, &[&changed[..], &["--fresh"]].concat(), 0);
    // What a run does not write is not its to remove.
    assert!(out.join("figures").is_dir());
    foreign.iter().for_each(|name| std::fs::remove_file(out.join(name)).expect("still there"));
    assert_same(&whole, &out);
}

#[test]
fn starting_over_leaves_nothing_of_the_run_before() {
    let fewer: [&[&str]; 4] = [
        &["--set", "task.masking.methods=[\"random\"]"],
        &["--set", "task.segment.methods=[\"row-select\"]"],
        &["--set", "task.guidance.methods=[\"none\"]", "--set", "task.guidance.figures=0"],
        &["--set", "task.diffseg.methods=[\"random\"]", "--set", "task.diffseg.figures=0"],
    ];
    for (small, fewer) in ALL.iter().zip(fewer) {
        let dir = scratch();
        let (whole, out) = (dir.path().join("whole"), dir.path().join("run"));
        small.run(&whole, fewer, 0);
        small.run(&out, &[], 0);
        small.run(&out, &[fewer, &["--fresh"]].concat(), 0);
        assert_same(&whole, &out);
    }
}

#[test]
fn records_that_nobody_knows_of_are_left_alone() {
    let dir = scratch();
    let (out, other) = (dir.path().join("run"), dir.path().join("other"));
    let small = &ALL[0];
    small.run(&out, &[], 0);
    let records = std::fs::read(out.join("records.jsonl")).expect("records");
    std::fs::remove_file(out.join("run.json")).expect("a header");
    let changed = ["--set", "task.masking.alpha=0.2", "--set", "seed=7"];
    let message = words(&small.run(&out, &changed, 2));
    assert!(message.contains("no run.json that identifies them") && message.contains("--fresh"), "{message}");
    assert_eq!(std::fs::read(out.join("records.jsonl")).expect("records"), records);
    // Records of another run, for all that its items are the same.
    let whole = dir.path().join("whole");
    small.run(&whole, &changed, 0);
    small.run(&other, &changed, 0);
    std::fs::write(other.join("records.jsonl"), records).expect("writable");
    let told = words(&small.run(&other, &changed, 0));
    assert!(told.contains("damaged or of other items"), "{told}");
    assert_same(&whole, &other);
}

#[test]
fn a_segment_cut_in_the_middle_of_its_write_is_said_and_redone() {
    // Of a guidance run the first picture is larger than half of the records.
    for small in [&ALL[0], &ALL[1], &ALL[3]] {
        let dir = scratch();
        let (whole, out) = (dir.path().join("whole"), dir.path().join("run"));
        small.run(&whole, &[], 0);
        let records = std::fs::read(whole.join("records.jsonl")).expect("records");
        let output = limited(&small.command(&out), records.len() / 2 / 512).output().expect("a shell");
        assert_eq!(output.status.signal(), Some(SIGXFSZ), "{}", words(&output));
        let left = std::fs::read(out.join("records.jsonl")).expect("records");
        assert_eq!(left.len(), records.len() / 2 / 512 * 512);
        let told = words(&small.run(&out, &[], 0));
        assert!(told.contains("beginning of a chunk that was never finished"), "{told}");
        assert_same(&whole, &out);
    }
}

#[test]
fn damage_in_the_middle_of_the_records_costs_that_batch() {
    let dir = scratch();
    let (whole, out) = (dir.path().join("whole"), dir.path().join("run"));
    let small = &ALL[1];
    small.run(&whole, &[], 0);
    small.run(&out, &[], 0);
    let records = out.join("records.jsonl");
    let mut bytes = std::fs::read(&records).expect("records");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    std::fs::write(&records, bytes).expect("writable");
    let told = words(&small.run(&out, &[], 0));
    assert!(told.contains("1 chunk is damaged") && told.contains("2 items in"), "{told}");
    assert_same(&whole, &out);
    // A damaged header is no licence to guess.
    let header = out.join("run.json");
    let text = std::fs::read_to_string(&header).expect("a header");
    std::fs::write(&header, text.replace("\"seed\": 0", "\"seed\": 1")).expect("writable");
    let message = words(&small.run(&out, &[], 2));
    assert!(message.contains("run.json is damaged") && message.contains("--fresh"), "{message}");
}

#[test]
fn an_image_that_cannot_be_read_is_recorded_and_the_run_goes_on() {
    for small in [&ALL[0], &ALL[1], &ALL[3]] {
        let on = OnFiles::new(small);
        on.run("whole", &[], 0);

        let (image, out) = (on.file("images/000004.png"), on.out("run"));
        let bytes = std::fs::read(&image).expect("an image");
        std::fs::write(&image, &bytes[..bytes.len() / 2]).expect("writable");
        let output = on.run("run", &[], 3);
        let table = String::from_utf8(output.stdout.clone()).expect("text");
        assert!(table.contains("1 of 9 items could not be answered and are excluded here"), "{table}");
        let message = words(&output);
        assert!(
            message.contains("000004.png") && message.contains("run the same command again"),
            "{message}"
        );
        let found = results(&out);
        assert_eq!(
            (&found["items"], found["failed"].as_array().map(Vec::len)),
            (&8.into(), Some(1)),
            "{}",
            small.task
        );
        assert!(
            std::fs::read_to_string(out.join("table.md")).expect("a table").contains("could not be answered")
        );

        // Asked again nothing has changed; mended, its batch is run again and the rest is kept.
        let again = on.run("run", &[], 3);
        assert!(
            again.stdout == output.stdout && words(&again).contains("could not be answered the last time")
        );
        std::fs::write(&image, &bytes).expect("writable");
        on.run("run", &[], 0);
        assert_same(&on.out("whole"), &out);

        for entry in std::fs::read_dir(on.file("images")).expect("images") {
            std::fs::write(entry.expect("a file").path(), "no image").expect("writable");
        }
        let message = words(&on.run("none", &[], 3));
        assert!(message.contains("none of the 9 items could be answered"), "{message}");
        assert!(!on.out("none/results.json").exists());
    }
}

/// Runs a script as root of its own mounts.
fn with_mounts(script: &str) -> Output {
    let options = mount_options().expect("mounting was possible before");
    let mut unshare = Command::new("unshare");
    unshare.args(options).args(["sh", "-ec", script]).current_dir(root()).output().expect("unshare")
}

#[test]
fn a_full_or_read_only_disk_is_said_and_costs_nothing() {
    if lacks(Requirement::Mount) {
        return;
    }
    for small in &ALL {
        let dir = scratch();
        let (whole, copy) = (dir.path().join("whole"), dir.path().join("copy"));
        small.run(&whole, &[], 0);
        let disk = dir.path().join("disk");
        std::fs::create_dir(&disk).expect("writable");
        let quoted =
            |words: Vec<String>| words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" ");
        let command = quoted(small.args(&disk.join("run"), &[]));
        // The disk grows by and by; each time the run gets a little further.
        let script = format!(
            "mount -t tmpfs -o size=4k tmpfs {disk}
             for size in 8k 24k 60k 120k 240k; do
                 mount -o remount,size=$size {disk}
                 code=0; {binary} {command} >/dev/null 2>{errors} || code=$?
                 echo $size $code
                 if [ $code != 0 ]; then grep -q 'No space left' {errors} || cat {errors}; fi
             done
             mount -o remount,size=50m {disk}
             {binary} {command} >/dev/null 2>&1
             mount -o remount,ro {disk}
             code=0; {binary} {command} >/dev/null 2>{errors} || code=$?
             echo read-only $code; grep -o 'Read-only' {errors}
             cp -r {disk}/run {copy}",
            disk = disk.display(),
            copy = copy.display(),
            errors = dir.path().join("errors").display(),
            binary = env!("CARGO_BIN_EXE_tokenrank"),
        );
        let output = with_mounts(&script);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{}: {text}\n{}", small.task, words(&output));
        let lines: Vec<&str> = text.lines().collect();
        let full = lines.iter().filter(|line| line.ends_with("k 1")).count();
        let whole_already = lines.iter().filter(|line| line.ends_with("k 0")).count();
        assert!(full >= 2 && full + whole_already == 5, "{}: {text}", small.task);
        assert_eq!(lines[5..], ["read-only 1", "Read-only"], "{}", small.task);
        assert_same(&whole, &copy);
    }
}

#[test]
fn weights_that_were_cut_or_changed_are_noticed() {
    let dir = scratch();
    let (out, model) = (dir.path().join("run"), dir.path().join("vit"));
    std::fs::create_dir(&model).expect("writable");
    for entry in std::fs::read_dir(root().join("datasets/mini/models/vit")).expect("the miniature") {
        let path = entry.expect("a file").path();
        std::fs::copy(&path, model.join(path.file_name().expect("a name"))).expect("copied");
    }
    let small = &ALL[0];
    let set = format!("model.path={}", model.display());
    let with = ["--set", &set];
    small.run(&out, &with, 0);
    let before = results(&out);

    let weights = model.join("model.safetensors");
    let bytes = std::fs::read(&weights).expect("weights");
    // A bit of a weight: still a network, another one.
    let mut flipped = bytes.clone();
    let last = flipped.len() - 1;
    flipped[last] ^= 0x10;
    std::fs::write(&weights, &flipped).expect("writable");
    let message = words(&small.run(&out, &with, 2));
    assert!(message.contains("weights: ") && message.contains("→"), "{message}");
    // Bits of the header, and every kind of short file.
    for cut in [0, 7, 8, 100, bytes.len() / 2, bytes.len() - 1] {
        std::fs::write(&weights, &bytes[..cut]).expect("writable");
        let message = words(&small.run(&out, &with, 3));
        assert!(message.contains("model.safetensors") && !message.contains("panicked"), "{cut}: {message}");
    }
    for at in [0, 3, 7, 8, 9, 20, 60] {
        let mut flipped = bytes.clone();
        flipped[at] ^= 0x40;
        std::fs::write(&weights, &flipped).expect("writable");
        let args = small.args(&out, &with);
        let output = tokenrank().args(&args).output().expect("starts");
        let (message, code) = (words(&output), output.status.code());
        assert!(matches!(code, Some(2 | 3)) && !message.contains("panicked"), "{at}: {code:?} {message}");
    }
    assert_eq!(results(&out), before, "the run's folder is as it was");
}

#[test]
fn a_clock_that_goes_backwards_is_of_no_consequence() {
    let dir = scratch();
    let (whole, out) = (dir.path().join("whole"), dir.path().join("run"));
    let small = &ALL[2];
    small.run(&whole, &[], 0);
    let mut child = under_way(small, &out).expect("still running");
    child.kill().expect("killed");
    child.wait().expect("a child");
    // Everything there is from the day after tomorrow, as after a reset clock.
    let future = SystemTime::now() + Duration::from_secs(2 * 86_400);
    for (name, _) in crate::experiments::files(&out) {
        let file = std::fs::File::options().write(true).open(out.join(name)).expect("a file");
        file.set_modified(future).expect("a time");
    }
    small.run(&out, &[], 0);
    assert_same(&whole, &out);
}

/// A process whose own clock runs backwards against the files'.
#[test]
fn a_process_with_an_earlier_clock_resumes() {
    if lacks(Requirement::Faketime) {
        return;
    }
    let dir = scratch();
    let (whole, out) = (dir.path().join("whole"), dir.path().join("run"));
    let small = &ALL[2];
    small.run(&whole, &[], 0);
    small.run(&out, &[], 0);
    let records = out.join("records.jsonl");
    let bytes = std::fs::read(&records).expect("records");
    std::fs::write(&records, &bytes[..bytes.len() / 2]).expect("writable");
    let mut command = Command::new("faketime");
    command
        .args(["-f", "-3y", env!("CARGO_BIN_EXE_tokenrank")])
        .args(small.args(&out, &[]))
        .current_dir(root());
    let output = command.output().expect("starts");
    assert!(output.status.success(), "{}", words(&output));
    assert_same(&whole, &out);
}
